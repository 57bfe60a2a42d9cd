//! Compression of layers and archives: recognised by content, undone in process.
//!
//! [`Decompress`] bounds what hostile input can cost: windows and dictionaries in memory, and the bytes
//! that come out. Several members or frames in a row are one stream; anything else after the end is an error.

use std::io::{self, BufRead, BufReader, Read};

/// Most a zstd window or an xz dictionary may take, in bytes.
const MEMORY: u64 = 128 << 20;
const ZSTD_WINDOW_LOG: u32 = 27;
const BUFFER: usize = 64 * 1024;

/// A known compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// None.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
    /// The .xz container of LZMA2.
    Xz,
}

impl Codec {
    /// Bytes of a stream's beginning that [`Codec::detect`] needs.
    pub const PREFIX: usize = 6;

    /// The compression a stream with this beginning has; `Plain` when it is none of the known ones.
    #[must_use]
    pub fn detect(prefix: &[u8]) -> Self {
        const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
        match prefix {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ if prefix.starts_with(ZSTD) => Self::Zstd,
            // A skippable frame may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// A stream being decompressed.
pub struct Decompress<R: Read> {
    inner: Inner<Prefixed<R>>,
    codec: Codec,
    left: u64,
    limit: u64,
}

enum Inner<R: BufRead> {
    Plain(R),
    Gzip(flate2::bufread::MultiGzDecoder<R>),
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
    Bzip2(bzip2::bufread::MultiBzDecoder<R>),
    Xz(liblzma::bufread::XzDecoder<R>),
}

impl<R: Read> Decompress<R> {
    /// Looks at the beginning of `inner` and undoes what compression it has; at most `limit` bytes come out.
    ///
    /// # Errors
    /// Those of `inner`, and of setting up the decoder.
    pub fn new(inner: R, limit: u64) -> io::Result<Self> {
        let mut prefixed =
            Prefixed { prefix: [0; Codec::PREFIX], at: 0, len: 0, inner: BufReader::with_capacity(BUFFER, inner) };
        while prefixed.len < Codec::PREFIX {
            match prefixed.inner.read(&mut prefixed.prefix[prefixed.len..]) {
                Ok(0) => break,
                Ok(read) => prefixed.len += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let codec = Codec::detect(&prefixed.prefix[..prefixed.len]);
        let inner = match codec {
            Codec::Plain => Inner::Plain(prefixed),
            Codec::Gzip => Inner::Gzip(flate2::bufread::MultiGzDecoder::new(prefixed)),
            Codec::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(prefixed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Inner::Zstd(Box::new(decoder))
            }
            Codec::Bzip2 => Inner::Bzip2(bzip2::bufread::MultiBzDecoder::new(prefixed)),
            Codec::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY, liblzma::stream::CONCATENATED)
                    .map_err(io::Error::other)?;
                Inner::Xz(liblzma::bufread::XzDecoder::new_stream(prefixed, stream))
            }
        };
        Ok(Self { inner, codec, left: limit, limit })
    }

    /// The compression found.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The stream below, with what was buffered of it lost.
    pub fn into_inner(self) -> R {
        let prefixed = match self.inner {
            Inner::Plain(inner) => inner,
            Inner::Gzip(decoder) => decoder.into_inner(),
            Inner::Zstd(decoder) => decoder.finish(),
            Inner::Bzip2(decoder) => decoder.into_inner(),
            Inner::Xz(decoder) => decoder.into_inner(),
        };
        prefixed.inner.into_inner()
    }
}

impl<R: Read> Read for Decompress<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.inner {
            Inner::Plain(inner) => inner.read(buffer),
            Inner::Gzip(decoder) => decoder.read(buffer),
            Inner::Zstd(decoder) => decoder.read(buffer),
            Inner::Bzip2(decoder) => decoder.read(buffer),
            Inner::Xz(decoder) => decoder.read(buffer),
        }?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            let text = format!("archive refused: more than {} bytes when decompressed", self.limit);
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        Ok(read)
    }
}

/// A buffered reader whose first bytes were looked at already.
struct Prefixed<R: Read> {
    prefix: [u8; Codec::PREFIX],
    at: usize,
    len: usize,
    inner: BufReader<R>,
}

impl<R: Read> Read for Prefixed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at < self.len {
            let take = buffer.len().min(self.len - self.at);
            buffer[..take].copy_from_slice(&self.prefix[self.at..self.at + take]);
            self.at += take;
            return Ok(take);
        }
        self.inner.read(buffer)
    }
}

impl<R: Read> BufRead for Prefixed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at < self.len {
            return Ok(&self.prefix[self.at..self.len]);
        }
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if self.at < self.len {
            self.at += amount;
        } else {
            self.inner.consume(amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn compressed(codec: Codec, data: &[u8]) -> Vec<u8> {
        match codec {
            Codec::Plain => data.to_vec(),
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Codec::Zstd => zstd::encode_all(data, 1).unwrap(),
            Codec::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Codec::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn expand(data: &[u8], limit: u64) -> io::Result<(Codec, Vec<u8>)> {
        let mut decoder = Decompress::new(data, limit)?;
        let mut out = Vec::new();
        decoder.read_to_end(&mut out)?;
        Ok((decoder.codec(), out))
    }

    const PACKED: [Codec; 4] = [Codec::Gzip, Codec::Zstd, Codec::Bzip2, Codec::Xz];

    #[test]
    fn every_codec_round_trips_and_concatenates() {
        let data: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for codec in [Codec::Plain].into_iter().chain(PACKED) {
            let packed = compressed(codec, &data);
            let (found, out) = expand(&packed, u64::MAX).unwrap();
            assert_eq!((found, out == data), (codec, true));
            let (_, out) = expand(&[packed.clone(), packed].concat(), u64::MAX).unwrap();
            assert!(out == [data.clone(), data.clone()].concat(), "{codec:?}");
        }
        assert_eq!(expand(b"", 0).unwrap().1, b"");
        assert_eq!(expand(b"\x1f", 1).unwrap().0, Codec::Plain);
    }

    #[test]
    fn truncation_and_garbage_are_errors() {
        let data = b"some data that is compressed ".repeat(100);
        for codec in PACKED {
            let packed = compressed(codec, &data);
            for cut in Codec::PREFIX..packed.len() {
                assert!(expand(&packed[..cut], u64::MAX).is_err(), "{codec:?} cut at {cut}");
            }
            let trailed = [&packed[..], b"garbage garbage"].concat();
            assert!(expand(&trailed, u64::MAX).is_err(), "{codec:?} with garbage");
        }
        let mut gzip = compressed(Codec::Gzip, &data);
        let at = gzip.len() - 6;
        gzip[at] ^= 1;
        assert!(expand(&gzip, u64::MAX).is_err(), "wrong checksum");
    }

    #[test]
    fn output_is_bounded() {
        let data = vec![0_u8; 1 << 20];
        for codec in [Codec::Plain].into_iter().chain(PACKED) {
            let packed = compressed(codec, &data);
            assert_eq!(expand(&packed, 1 << 20).unwrap().1.len(), 1 << 20);
            let error = expand(&packed, (1 << 20) - 1).unwrap_err();
            assert!(error.to_string().contains("more than 1048575 bytes"), "{codec:?}: {error}");
        }
    }

    #[test]
    fn huge_windows_are_refused() {
        // A frame header alone: window descriptor 0xa8 is 2^31 bytes.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
        assert!(expand(&frame, u64::MAX).is_err());
    }
}
