//! Layers in another compression: what leaves this machine is compressed, while what stays is kept as it was made.
//!
//! gzip is written as Go's library writes it, so a layer is the same blob whether Docker or this made it of the archive, and
//! the store can keep the recipe instead of the bytes.

use std::io::{Read, Write};

use deflate::{Dialect, gzip};
use layer::Decompress;
use types::Digest;

use crate::content::{BlobWriter, Ingest};
use crate::error::{Error, Result};
use crate::model::media_type;

/// Bytes compressed at a time.
const CHUNK: usize = 128 * 1024;
/// A gzip header that says nothing, as Go writes it.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// RFC 1952, level 1 to 9.
    Gzip(u8),
    /// RFC 8878, level 1 to 22.
    Zstd(u8),
}

impl Default for Compression {
    /// gzip at Go's default level, as Docker writes layers.
    fn default() -> Self {
        Self::Gzip(6)
    }
}

impl Compression {
    /// The type of a layer in OCI's words.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Plain => media_type::OCI_LAYER,
            Self::Gzip(_) => media_type::OCI_LAYER_GZIP,
            Self::Zstd(_) => media_type::OCI_LAYER_ZSTD,
        }
    }
}

/// Brings a blob of these bytes, in whatever compression they have, into the ingest in another one. Gives its digest and
/// size.
///
/// # Errors
/// Those of `reader` and of the disk.
pub fn compress(ingest: &Ingest, reader: impl Read, to: Compression) -> Result<(Digest, u64)> {
    let failed = Error::io("cannot read a layer to compress it");
    let mut plain = Decompress::new(reader, u64::MAX).map_err(failed)?;
    let mut out = ingest.blob_writer()?;
    match to {
        Compression::Plain => copy(&mut plain, &mut out)?,
        Compression::Gzip(level) => gzip(&mut plain, &mut out, level)?,
        Compression::Zstd(level) => {
            let failed = || Error::io("cannot compress a layer with zstd");
            let mut encoder = zstd::stream::write::Encoder::new(&mut out, i32::from(level)).map_err(failed())?;
            copy(&mut plain, &mut encoder)?;
            encoder.finish().map_err(failed())?;
        }
    }
    let size = out.count();
    Ok((ingest.blob(out, None)?, size))
}

fn copy(plain: &mut impl Read, out: &mut impl Write) -> Result<()> {
    each(plain, |chunk| out.write_all(chunk).map_err(Error::io("cannot write a layer")))
}

fn gzip(plain: &mut impl Read, out: &mut BlobWriter, level: u8) -> Result<()> {
    let mut header = HEADER;
    header[8] = match level {
        1 => 4,
        9 => 2,
        _ => 0,
    };
    let unsupported =
        |e: &dyn std::fmt::Display| Error::io("cannot compress a layer")(std::io::Error::other(e.to_string()));
    let header = gzip::Header::parse(&header).map_err(|e| unsupported(&e))?;
    let mut encoder = gzip::Encoder::new(&header, Dialect::Go127, level).map_err(|e| unsupported(&e))?;
    let mut ready = Vec::new();
    let mut flush = |ready: &mut Vec<u8>| {
        let written = out.write_all(ready).map_err(Error::io("cannot write a layer"));
        ready.clear();
        written
    };
    each(plain, |chunk| {
        encoder.write(chunk, &mut ready);
        if ready.len() >= CHUNK { flush(&mut ready) } else { Ok(()) }
    })?;
    encoder.finish(&mut ready);
    flush(&mut ready)
}

fn each(plain: &mut impl Read, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match plain.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => take(&buffer[..read])?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("cannot read a layer to compress it")(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn every_compression_gives_the_archive_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let ingest = store.ingest();
        let data: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 9).to_le_bytes()).collect();
        let mut digests = std::collections::HashSet::new();
        let all = [1, 6, 9].map(Compression::Gzip).into_iter().chain([1, 3].map(Compression::Zstd));
        for to in all.chain([Compression::Plain]) {
            let (digest, size) = compress(&ingest, &data[..], to).unwrap();
            assert!(digests.insert(digest), "{to:?}");
            assert_eq!(ingest.blob_size(&digest).unwrap(), size);
            let mut back = Vec::new();
            Decompress::new(ingest.open_blob(&digest).unwrap(), u64::MAX).unwrap().read_to_end(&mut back).unwrap();
            assert!(back == data, "{to:?}");
            // Of what was compressed already, too, and to the same bytes.
            assert_eq!(compress(&ingest, ingest.open_blob(&digest).unwrap(), to).unwrap(), (digest, size));
        }
        assert!(compress(&ingest, &data[..], Compression::Gzip(0)).is_err());
    }
}
