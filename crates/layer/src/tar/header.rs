//! The 512-byte header block: field offsets, numbers, checksum.
//!
//! Called by the decoder and the writer; holds no state.

use super::{BLOCK, Error};

pub(super) const NAME: std::ops::Range<usize> = 0..100;
pub(super) const MODE: std::ops::Range<usize> = 100..108;
pub(super) const UID: std::ops::Range<usize> = 108..116;
pub(super) const GID: std::ops::Range<usize> = 116..124;
pub(super) const SIZE: std::ops::Range<usize> = 124..136;
pub(super) const MTIME: std::ops::Range<usize> = 136..148;
pub(super) const CHECKSUM: std::ops::Range<usize> = 148..156;
pub(super) const TYPE: usize = 156;
pub(super) const LINK: std::ops::Range<usize> = 157..257;
pub(super) const MAGIC: std::ops::Range<usize> = 257..265;
pub(super) const MAJOR: std::ops::Range<usize> = 329..337;
pub(super) const MINOR: std::ops::Range<usize> = 337..345;
pub(super) const PREFIX: std::ops::Range<usize> = 345..500;
/// star: a shorter prefix, then two times, and a mark at the end.
pub(super) const STAR_PREFIX: std::ops::Range<usize> = 345..476;
const STAR_TIMES: [std::ops::Range<usize>; 2] = [476..488, 488..500];
const STAR_MARK: std::ops::Range<usize> = 508..512;
/// GNU: four sparse regions, the "is extended" flag and the real size share the place of the prefix.
pub(super) const GNU_SPARSE: std::ops::Range<usize> = 386..482;
pub(super) const GNU_EXTENDED: usize = 482;
pub(super) const GNU_REAL_SIZE: std::ops::Range<usize> = 483..495;

/// Which magic the header carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// No magic: the format of Unix Version 7.
    V7,
    /// POSIX: `prefix` extends the name.
    Ustar,
    /// GNU tar before POSIX: no prefix.
    Gnu,
}

pub(super) fn format(block: &[u8; BLOCK]) -> Format {
    match &block[MAGIC] {
        b"ustar\x0000" => Format::Ustar,
        b"ustar  \0" => Format::Gnu,
        // Some writers leave the version out; the layout is that of POSIX all the same.
        magic if magic.starts_with(b"ustar\0") => Format::Ustar,
        _ => Format::V7,
    }
}

/// A field's text up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, field).unwrap_or(field.len());
    &field[..end]
}

/// Whether a header with ustar's magic is one of star's.
pub(super) fn is_star(block: &[u8; BLOCK]) -> bool {
    &block[STAR_MARK] == b"tar\0"
}

/// Checks the fields that readers look at whatever the type: one that cannot be read is skipped by some, ends the
/// archive for others and fails for the rest.
pub(super) fn check(block: &[u8; BLOCK], format: Format) -> Result<(), Error> {
    for field in [MODE, SIZE, MTIME, MAJOR, MINOR] {
        number(&block[field])?;
    }
    for field in [UID, GID] {
        let value = unsigned(&block[field])?;
        u32::try_from(value).map_err(|_| Error::Header("an owner id out of range"))?;
    }
    match format {
        Format::Ustar if is_star(block) => {
            // Without room for a NUL, readers that do not know star take what follows for more of the prefix.
            if block[STAR_PREFIX.end - 1] != 0 {
                return Err(Error::Header("a prefix that readers end at different places"));
            }
            for field in STAR_TIMES {
                number(&block[field])?;
            }
        }
        Format::Ustar => {}
        // Times of GNU's incremental archives, or nothing; some readers take it for a prefix all the same.
        Format::Gnu | Format::V7 if block[PREFIX.start] != 0 => {
            return Err(Error::Header("something in the place of a prefix, in a format without one"));
        }
        Format::Gnu | Format::V7 => {}
    }
    Ok(())
}

/// A numeric field: octal digits padded with spaces and NULs, or GNU base-256.
pub(super) fn number(field: &[u8]) -> Result<i64, Error> {
    let Some(first) = field.first() else { return Ok(0) };
    if first & 0x80 != 0 {
        // Bits of the number in the first byte: not all readers look at them.
        if !matches!(first, 0x80 | 0xff) {
            return Err(Error::Header("number out of range"));
        }
        // Two's complement, big endian, the top bit of the first byte being the marker.
        let negative = first & 0x40 != 0;
        let mut value: i64 = if negative { -1 } else { 0 };
        for (index, byte) in field.iter().enumerate() {
            let byte = if index == 0 { if negative { byte | 0x80 } else { byte & 0x7f } } else { *byte };
            let shifted = value.checked_mul(256).ok_or(Error::Header("number out of range"))?;
            value = shifted | i64::from(byte);
            if (value < 0) != negative {
                return Err(Error::Header("number out of range"));
            }
        }
        return Ok(value);
    }
    let Some(start) = field.iter().position(|byte| *byte != b' ') else {
        return Err(Error::Header("a number that is blank"));
    };
    let trimmed = &field[start..];
    let end = trimmed.iter().position(|byte| *byte == 0 || *byte == b' ').unwrap_or(trimmed.len());
    let (digits, rest) = trimmed.split_at(end);
    if rest.iter().any(|byte| *byte != 0 && *byte != b' ') {
        return Err(Error::Header("a number with text after it"));
    }
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return Err(Error::Header("a number that is not octal"));
        }
        value = value.checked_mul(8).ok_or(Error::Header("number out of range"))? + i64::from(digit - b'0');
    }
    Ok(value)
}

/// A numeric field that cannot be negative.
pub(super) fn unsigned(field: &[u8]) -> Result<u64, Error> {
    u64::try_from(number(field)?).map_err(|_| Error::Header("negative number"))
}

/// Whether the header's checksum is right, summed as unsigned bytes or as signed ones (old Sun tar).
pub(super) fn checksum_ok(block: &[u8; BLOCK]) -> Result<bool, Error> {
    let stored = number(&block[CHECKSUM])?;
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (index, byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&index) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    Ok(stored == unsigned || stored == signed)
}

/// Writes `value` in octal with a closing NUL; `false` when it does not fit.
#[must_use]
pub(super) fn put_octal(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    let mut rest = value;
    for slot in field[..digits].iter_mut().rev() {
        *slot = b'0' + (rest & 7) as u8;
        rest >>= 3;
    }
    field[digits] = 0;
    rest == 0
}

/// Fills in the checksum; the last thing done to a header.
pub(super) fn put_checksum(block: &mut [u8; BLOCK]) {
    block[CHECKSUM].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    // 512 × 255 fits six octal digits; the field ends with NUL and space.
    let fits = put_octal(&mut block[148..155], sum);
    debug_assert!(fits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let cases: [(&[u8], Option<i64>); 11] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"\x80\0\0\0\0\0\0\x05", Some(5)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"12a\0\0\0\0\0", None),
            (b"9\0\0\0\0\0\0\0", None),
            (b"-1\0\0\0\0\0\0", None),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field).ok(), expected, "{field:?}");
        }
        assert!(unsigned(b"\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }
}
