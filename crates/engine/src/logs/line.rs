//! One line of a json-file log: `{"log":"…","stream":"stdout","time":"…"}`, parsed without a JSON
//! library because it is written by our own shim (or Docker's) in exactly this order. A line of any
//! other shape is not understood and skipped by the caller. Called by [`super::reader`].

/// A parsed line. The text still carries JSON escapes when `escaped` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub text: &'a [u8],
    pub escaped: bool,
    pub stderr: bool,
    /// RFC 3339 with nanoseconds, as written.
    pub time: &'a [u8],
    /// Content of the `attrs` object between its braces, still JSON; empty without one.
    pub attrs: &'a [u8],
}

/// Parse one line without its newline.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let rest = line.strip_prefix(b"{\"log\":\"")?;
    let mut escaped = false;
    let mut at = 0;
    let end = loop {
        let found = at + memchr::memchr2(b'"', b'\\', &rest[at..])?;
        if rest[found] == b'"' {
            break found;
        }
        escaped = true;
        at = found + 2;
        if at > rest.len() {
            return None;
        }
    };
    let text = &rest[..end];
    let rest = rest[end + 1..].strip_prefix(b",\"stream\":\"std")?;
    let (stderr, rest) = match rest.strip_prefix(b"out\"") {
        Some(rest) => (false, rest),
        None => (true, rest.strip_prefix(b"err\"")?),
    };
    let (attrs, rest) = match rest.strip_prefix(b",\"attrs\":{") {
        Some(rest) => {
            let end = object_end(rest)?;
            (&rest[..end], &rest[end + 1..])
        }
        None => (&rest[..0], rest),
    };
    let time = rest.strip_prefix(b",\"time\":\"")?.strip_suffix(b"\"}")?;
    // The longest form is 2006-01-02T15:04:05.999999999+00:00.
    if time.len() < 20 || time.len() > 40 {
        return None;
    }
    Some(Line { text, escaped, stderr, time, attrs })
}

/// Index of the brace that closes an object of strings whose opening brace was consumed.
fn object_end(bytes: &[u8]) -> Option<usize> {
    let mut in_string = false;
    let mut skip = false;
    for (i, b) in bytes.iter().enumerate() {
        match b {
            _ if skip => skip = false,
            b'\\' if in_string => skip = true,
            b'"' => in_string = !in_string,
            b'}' if !in_string => return Some(i),
            _ => {}
        }
    }
    None
}

/// Undo JSON's escapes; a broken escape is copied as it stands.
pub(crate) fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let Some(&code) = rest.get(at + 1) else {
            out.push(b'\\');
            return;
        };
        rest = &rest[at + 2..];
        match code {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let Some((mut unit, mut after)) = hex4(rest) else {
                    out.extend_from_slice(b"\\u");
                    continue;
                };
                if (0xd800..0xdc00).contains(&unit)
                    && let Some((low, tail)) = after.strip_prefix(b"\\u").and_then(hex4)
                    && (0xdc00..0xe000).contains(&low)
                {
                    unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                    after = tail;
                }
                rest = after;
                let c = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(other),
        }
    }
    out.extend_from_slice(rest);
}

fn hex4(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let digits = std::str::from_utf8(bytes.get(..4)?).ok()?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    Some((u32::from_str_radix(digits, 16).ok()?, &bytes[4..]))
}

/// Nanoseconds since the epoch of an RFC 3339 time in UTC (`Z`) or with an offset.
pub(crate) fn nanos(time: &[u8]) -> Option<i64> {
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        time.get(range)?.iter().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    };
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let mut at = 19;
    let mut fraction = 0i64;
    if time.get(at) == Some(&b'.') {
        at += 1;
        let mut scale = 1_000_000_000i64;
        while let Some(b) = time.get(at).filter(|b| b.is_ascii_digit()) {
            if scale > 1 {
                scale /= 10;
                fraction += i64::from(b - b'0') * scale;
            }
            at += 1;
        }
    }
    let offset = match time.get(at)? {
        b'Z' => 0,
        sign @ (b'+' | b'-') => {
            let span = digits(at + 1..at + 3)? * 3600 + digits(at + 4..at + 6)? * 60;
            if *sign == b'+' { span } else { -span }
        }
        _ => return None,
    };
    // Days from the civil calendar: years begin in March so that the leap day is the last.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y - era * 400;
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468;
    (days * 86400 + hour * 3600 + minute * 60 + second - offset).checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_shape() {
        let line = parse(br#"{"log":"hello\n","stream":"stdout","time":"2026-11-23T15:04:05.123456789Z"}"#).unwrap();
        assert!(line.escaped && !line.stderr);
        let mut out = Vec::new();
        unescape(line.text, &mut out);
        assert_eq!(out, b"hello\n");
        let line =
            parse(br#"{"log":"x","stream":"stderr","attrs":{"a":"}\"b"},"time":"2026-11-23T15:04:05Z"}"#).unwrap();
        assert!(line.stderr && !line.escaped);
        assert_eq!(line.attrs, br#""a":"}\"b""#);
        for bad in [
            &b""[..],
            b"{",
            b"{\"log\":\"",
            b"{\"log\":\"a\\",
            b"{\"log\":\"a\"}",
            br#"{"log":"a","stream":"stdin","time":"2026-11-23T15:04:05Z"}"#,
            br#"{"log":"a","stream":"stdout","time":"2026-11-23T15"#,
            br#"{"log":"a","stream":"stdout","attrs":{"#,
        ] {
            assert_eq!(parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn escapes_come_back() {
        let mut out = Vec::new();
        unescape(br#"a\tb\"c\\d\u003c\u00e9\ud83d\ude00\u2028\ud800x\/\"#, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a\tb\"c\\d<é😀\u{2028}\u{fffd}x/\\");
    }

    #[test]
    fn times_are_nanoseconds() {
        assert_eq!(nanos(b"1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(nanos(b"2026-11-23T15:04:05.12Z"), Some(1_795_446_245_120_000_000));
        assert_eq!(nanos(b"2024-02-29T00:00:00.000000001+01:00"), Some(1_709_161_200_000_000_001));
        assert_eq!(nanos(b"2024-13-29T00:00:00Z"), None);
        assert_eq!(nanos(b"nonsense"), None);
    }
}
