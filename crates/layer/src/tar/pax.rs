//! Pax extended headers: `LENGTH KEY=VALUE\n` records, and times in them.
//!
//! A record that breaks the grammar makes the whole archive invalid; nothing is skipped over.

use super::{Error, Limits, Mtime};

/// Extended attributes as star, GNU tar and Go write them.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Keys and values of one extended header in order.
pub(super) type Records<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Records of one extended header in order.
pub(super) fn parse<'a>(mut data: &'a [u8], limits: &Limits) -> Result<Records<'a>, Error> {
    let mut out = Vec::new();
    while !data.is_empty() {
        let space = memchr::memchr(b' ', &data[..data.len().min(12)]).ok_or(Error::Pax("no length"))?;
        let digits = &data[..space];
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Error::Pax("a length that is no number"));
        }
        let length = digits.iter().fold(0_usize, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        // The shortest record is "5 a=\n".
        if length > data.len() || length < space + 4 {
            return Err(Error::Pax("a length beyond the header"));
        }
        let (record, rest) = data.split_at(length);
        let Some(body) = record[space + 1..].strip_suffix(b"\n") else {
            return Err(Error::Pax("no newline at the end"));
        };
        let equals = memchr::memchr(b'=', body).ok_or(Error::Pax("no '='"))?;
        let (key, value) = (&body[..equals], &body[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err(Error::Pax("a key that is empty or has a NUL"));
        }
        if !key.starts_with(XATTR) && value.contains(&0) {
            return Err(Error::Pax("a value with a NUL"));
        }
        if out.len() >= limits.records {
            return Err(Error::Limit { what: "pax records in one member", limit: limits.records as u64 });
        }
        out.push((key, value));
        data = rest;
    }
    Ok(out)
}

/// Whether some reader would change a member for this record.
pub(super) fn describes_members(key: &[u8]) -> bool {
    const KEYS: [&[u8]; 11] = [
        b"path",
        b"linkpath",
        b"size",
        b"uid",
        b"gid",
        b"uname",
        b"gname",
        b"mtime",
        b"atime",
        b"ctime",
        b"hdrcharset",
    ];
    KEYS.contains(&key) || key.starts_with(b"GNU.") || key.starts_with(b"SCHILY.")
}

/// Appends one record.
pub(super) fn append(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let fixed = key.len() + value.len() + 3;
    let mut length = fixed + 1;
    while fixed + length.to_string().len() != length {
        length = fixed + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A decimal number without sign.
pub(super) fn decimal(value: &[u8]) -> Result<u64, Error> {
    if value.is_empty() || value.len() > 20 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Error::Pax("a value that is no decimal number"));
    }
    value
        .iter()
        .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or(Error::Pax("a number out of range"))
}

/// A size in bytes, which fits a signed number.
pub(super) fn size(value: &[u8]) -> Result<u64, Error> {
    decimal(value).and_then(|size| i64::try_from(size).map(|_| size).map_err(|_| Error::Pax("a number out of range")))
}

/// A time in decimal seconds, `-12.5` being half a second after -13.
pub(super) fn time(value: &[u8]) -> Result<Mtime, Error> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match memchr::memchr(b'.', digits) {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &[][..]),
    };
    if whole.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return Err(Error::Pax("a time that is no decimal number"));
    }
    // Counted below 0, where there is room for one more.
    let secs = whole
        .iter()
        .try_fold(0_i64, |sum, digit| sum.checked_mul(10)?.checked_sub(i64::from(digit - b'0')))
        .ok_or(Error::Pax("a time out of range"))?;
    let mut nanos = 0_u32;
    for index in 0..9 {
        nanos = nanos * 10 + fraction.get(index).map_or(0, |digit| u32::from(digit - b'0'));
    }
    let (secs, nanos) = match (negative, nanos) {
        (false, _) => (secs.checked_neg(), nanos),
        (true, 0) => (Some(secs), 0),
        (true, _) => (secs.checked_sub(1), 1_000_000_000 - nanos),
    };
    Ok(Mtime { secs: secs.ok_or(Error::Pax("a time out of range"))?, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let limits = Limits::default();
        assert_eq!(parse(b"6 a=b\n", &limits).unwrap(), [(&b"a"[..], &b"b"[..])]);
        assert_eq!(parse(b"5 a=\n7 b==c\n", &limits).unwrap().len(), 2, "empty value, '=' in a value");
        let bad: [&[u8]; 14] = [
            b"7 a=b\n",
            b"5 a=b\n",
            b"6 a=b ",
            b"a=b\n",
            b" a=b\n",
            b"6a=b\n",
            b"-6 a=b\n",
            b"+6 a=b\n",
            b"4 =\n",
            b"5 =b\n",
            b"6 abc\n",
            b"7 a=\0b\n",
            b"99999999999999999999 a=b\n",
            b"0 ",
        ];
        for data in bad {
            assert!(parse(data, &limits).is_err(), "{:?}", String::from_utf8_lossy(data));
        }
        let many = b"6 a=b\n".repeat(5000);
        assert!(matches!(parse(&many, &limits), Err(Error::Limit { .. })));
    }

    #[test]
    fn lengths_count_themselves() {
        for size in [0, 1, 90, 91, 92, 93, 94, 95, 985, 986, 987, 988, 989, 990] {
            let mut out = Vec::new();
            append(&mut out, b"key", &vec![b'v'; size]);
            let records = parse(&out, &Limits::default()).unwrap();
            assert_eq!(records[0].1.len(), size);
        }
    }

    #[test]
    fn times() {
        assert_eq!(time(b"1.5").unwrap(), Mtime { secs: 1, nanos: 500_000_000 });
        assert_eq!(time(b"-1.5").unwrap(), Mtime { secs: -2, nanos: 500_000_000 });
        assert_eq!(time(b"-3").unwrap(), Mtime { secs: -3, nanos: 0 });
        assert_eq!(time(b"1.1234567899").unwrap().nanos, 123_456_789);
        assert_eq!(time(b"9223372036854775807").unwrap().secs, i64::MAX);
        assert_eq!(time(b"-9223372036854775808").unwrap().secs, i64::MIN);
        for bad in [
            &b"9223372036854775808"[..],
            b"-9223372036854775808.1",
            b"99999999999999999999999",
            b"",
            b"NaN",
            b"1e3",
            b"--1",
            b"+1",
            b".5",
            b"1.5.5",
            b"inf",
        ] {
            assert!(time(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Mtime { secs: i64::MIN, nanos: 5 }.clamped(), Mtime::default());
        assert_eq!(Mtime { secs: i64::MAX, nanos: 5 }.clamped().secs, 0x3_7fff_ffff);
    }
}
