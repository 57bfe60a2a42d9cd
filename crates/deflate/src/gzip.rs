//! The envelope of RFC 1952 around a stream: one member with the header that is given, the sum and the size.

use crate::{Dialect, Encoder as Deflate, Unsupported, crc32};

/// A header of more bytes is refused: what names and comments it may have is free, and nobody needs this much.
pub const HEADER_MAX: usize = 4096;

const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// What Go says of the system it runs on.
const UNKNOWN_SYSTEM: u8 = 255;

/// Why bytes do not begin with a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    /// Nothing is wrong so far: try again with more bytes.
    #[error("the gzip header is cut off")]
    Short,
    #[error("these bytes are not gzip: they do not begin with 1f 8b 08")]
    NotGzip,
    #[error("the gzip header uses flags that RFC 1952 reserves")]
    Reserved,
    #[error("the gzip header is longer than {HEADER_MAX} bytes")]
    Long,
    #[error("the gzip header does not have the checksum that it declares")]
    Checksum,
}

/// The header of a member: its bytes, to be written again as they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    raw: Vec<u8>,
}

impl Header {
    /// Reads the header at the beginning of `bytes`, which may go on behind it.
    ///
    /// # Errors
    ///
    /// The bytes are not a header of RFC 1952, or one of more than [`HEADER_MAX`] bytes; [`HeaderError::Short`] asks
    /// for more of them.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let known = &bytes[..bytes.len().min(3)];
        if known != &[0x1f, 0x8b, 8][..known.len()] {
            return Err(HeaderError::NotGzip);
        }
        let more = if bytes.len() < HEADER_MAX { HeaderError::Short } else { HeaderError::Long };
        let bytes = &bytes[..bytes.len().min(HEADER_MAX)];
        let flags = *bytes.get(3).ok_or(more)?;
        if flags & RESERVED != 0 {
            return Err(HeaderError::Reserved);
        }
        let mut len = 10;
        let two =
            |at: usize| bytes.get(at..at + 2).map(|two| usize::from(two[0]) | usize::from(two[1]) << 8).ok_or(more);
        if flags & FEXTRA != 0 {
            len += 2 + two(len)?;
            if len > HEADER_MAX {
                return Err(HeaderError::Long);
            }
        }
        for flag in [FNAME, FCOMMENT] {
            if flags & flag != 0 {
                let text = bytes.get(len..).ok_or(more)?;
                len += text.iter().position(|&byte| byte == 0).ok_or(more)? + 1;
            }
        }
        if flags & FHCRC != 0 {
            let stated = two(len)?;
            if crc32::update(0, &bytes[..len]) as usize & 0xffff != stated {
                return Err(HeaderError::Checksum);
            }
            len += 2;
        }
        Ok(Self { raw: bytes.get(..len).ok_or(more)?.to_vec() })
    }

    /// The header as it was.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// What the compressor says of its level: 2 the best, 4 the fastest, 0 nothing.
    fn extra_flags(&self) -> u8 {
        self.raw[8]
    }

    fn system(&self) -> u8 {
        self.raw[9]
    }
}

/// Which encoders of Go may have written a member with this header, likely ones first; none if Go did not write it.
pub fn candidates(header: &Header) -> &'static [(Dialect, u8)] {
    use Dialect::{Go127, GoClassic};
    if header.system() != UNKNOWN_SYSTEM {
        return &[];
    }
    match header.extra_flags() {
        // Nobody asks for other levels but 1 and 9 by name; a number may come from an option of a program.
        0 => &[
            (Go127, 6),
            (GoClassic, 6),
            (Go127, 5),
            (GoClassic, 5),
            (Go127, 3),
            (GoClassic, 3),
            (Go127, 4),
            (GoClassic, 4),
            (Go127, 7),
            (GoClassic, 7),
            (Go127, 8),
            (GoClassic, 8),
            (Go127, 2),
            (GoClassic, 2),
        ],
        2 => &[(Go127, 9), (GoClassic, 9)],
        4 => &[(Go127, 1), (GoClassic, 1)],
        _ => &[],
    }
}

/// Writes one member.
pub struct Encoder {
    header: Vec<u8>,
    deflate: Deflate,
    crc: u32,
    /// Modulo 2 to the power of 32, as the format has it.
    size: u32,
}

impl Encoder {
    /// # Errors
    ///
    /// Nothing here writes like this dialect at this level.
    pub fn new(header: &Header, dialect: Dialect, level: u8) -> Result<Self, Unsupported> {
        Ok(Self { header: header.raw.clone(), deflate: Deflate::new(dialect, level)?, crc: 0, size: 0 })
    }

    /// Takes input and appends what is ready to `out`.
    pub fn write(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.append(&mut self.header);
        self.crc = crc32::update(self.crc, input);
        self.size = self.size.wrapping_add(input.len() as u32);
        self.deflate.write(input, out);
    }

    /// Appends the rest, after which nothing may be written.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.header);
        self.deflate.finish(out);
        out.extend_from_slice(&self.crc.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

    /// A header with everything.
    fn full() -> Vec<u8> {
        let mut header = PLAIN.to_vec();
        header[3] = FHCRC | FEXTRA | FNAME | FCOMMENT;
        header.extend_from_slice(b"\x03\0abclayer.tar\0made by hand\0");
        let crc = crc32::update(0, &header) as u16;
        header.extend_from_slice(&crc.to_le_bytes());
        header
    }

    #[test]
    fn headers_are_kept_as_they_are() {
        for header in [PLAIN.to_vec(), full()] {
            let whole = [&header[..], b"what follows"].concat();
            assert_eq!(Header::parse(&whole).unwrap().raw(), header);
            for cut in 0..header.len() {
                assert_eq!(Header::parse(&header[..cut]), Err(HeaderError::Short), "after {cut} bytes");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let with = |at: usize, byte| {
            let mut header = full();
            header[at] = byte;
            Header::parse(&header)
        };
        for at in 0..3 {
            assert_eq!(with(at, 0x55), Err(HeaderError::NotGzip));
        }
        assert_eq!(with(3, 0xff), Err(HeaderError::Reserved));
        assert_eq!(with(20, b'L'), Err(HeaderError::Checksum));
        let mut endless = PLAIN.to_vec();
        endless[3] = FNAME;
        endless.resize(HEADER_MAX, b'x');
        assert_eq!(Header::parse(&endless), Err(HeaderError::Long));
        endless.resize(1 << 20, b'x');
        assert_eq!(Header::parse(&endless), Err(HeaderError::Long));
        assert_eq!(Header::parse(&[0x1f, 0x8b, 8, FEXTRA, 0, 0, 0, 0, 0, 255, 0xff, 0xff]), Err(HeaderError::Long));
    }

    #[test]
    fn candidates_follow_what_the_header_says() {
        let of = |flags, system| {
            let mut header = PLAIN;
            (header[8], header[9]) = (flags, system);
            candidates(&Header::parse(&header).unwrap())
        };
        assert_eq!(of(0, 255)[..2], [(Dialect::Go127, 6), (Dialect::GoClassic, 6)]);
        assert_eq!(of(2, 255), [(Dialect::Go127, 9), (Dialect::GoClassic, 9)]);
        assert_eq!(of(4, 255), [(Dialect::Go127, 1), (Dialect::GoClassic, 1)]);
        assert!(of(0, 3).is_empty() && of(1, 255).is_empty());
        for flags in [0, 2, 4] {
            assert!(of(flags, 255).iter().all(|&(dialect, level)| crate::Encoder::new(dialect, level).is_ok()));
        }
    }
}
