//! Byte sizes as Docker reads and shows them: `64m` of 1024, `12.3MB` of 1000, `1.2GiB` of 1024.

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No number, a negative one, or one too large for 63 bits.
    #[error("invalid size: '{0}'")]
    Size(String),
    /// An unknown unit.
    #[error("invalid suffix: '{0}'")]
    Suffix(String),
}

const DECIMAL_UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY_UNITS: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Bytes of a memory size with units of 1024: `64m`, `1.5GiB`, `100`, `2 kb`.
pub fn ram_in_bytes(text: &str) -> Result<u64, SizeError> {
    parse(text, 1024.0)
}

/// Bytes of a storage size with units of 1000: `32kB`, `1.5GB`.
pub fn from_human_size(text: &str) -> Result<u64, SizeError> {
    parse(text, 1000.0)
}

fn parse(text: &str, base: f64) -> Result<u64, SizeError> {
    let bad = || SizeError::Size(text.chars().take(80).collect());
    let split = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(bad)?;
    let (number, suffix) =
        if text.as_bytes()[split] == b' ' { (&text[..split], &text[split + 1..]) } else { text.split_at(split + 1) };
    if number.is_empty() || !number.bytes().all(|c| c.is_ascii_digit() || c == b'.') {
        return Err(bad());
    }
    let number: f64 = number.parse().map_err(|_| bad())?;
    let lower = suffix.to_ascii_lowercase();
    let (unit, rest) = lower.split_at(lower.len().min(lower.chars().next().map_or(0, char::len_utf8)));
    let exponent = match (unit, rest) {
        ("", "") | ("b", "") => 0,
        ("k", "" | "b" | "ib") => 1,
        ("m", "" | "b" | "ib") => 2,
        ("g", "" | "b" | "ib") => 3,
        ("t", "" | "b" | "ib") => 4,
        ("p", "" | "b" | "ib") => 5,
        _ => return Err(SizeError::Suffix(suffix.chars().take(80).collect())),
    };
    let bytes = number * base.powi(exponent);
    if bytes.is_finite() && bytes < i64::MAX as f64 { Ok(bytes as u64) } else { Err(bad()) }
}

/// Units of 1000 with four significant digits: `1.235GB`.
pub fn human_size(bytes: f64) -> String {
    human_size_with_precision(bytes, 4)
}

/// Units of 1000 with `precision` significant digits; tables use 3.
pub fn human_size_with_precision(bytes: f64, precision: usize) -> String {
    scaled(bytes, 1000.0, precision, &DECIMAL_UNITS)
}

/// Units of 1024 with four significant digits: `1.953GiB`.
pub fn bytes_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, 4, &BINARY_UNITS)
}

fn scaled(mut value: f64, base: f64, precision: usize, units: &[&str; 9]) -> String {
    let mut unit = 0;
    while value >= base && unit < units.len() - 1 {
        value /= base;
        unit += 1;
    }
    format!("{}{}", general(value, precision), units[unit])
}

/// C's `%.{precision}g` for values as they occur here (0 ≤ value < 1024).
fn general(value: f64, precision: usize) -> String {
    let precision = precision.max(1);
    if value == 0.0 {
        return "0".to_owned();
    }
    // The exponent after rounding to the precision decides between plain and exponent form.
    let scientific = format!("{:.*e}", precision - 1, value);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa.to_owned()), exponent.abs());
    }
    let decimals = usize::try_from(precision as i32 - 1 - exponent).unwrap_or(0);
    trim(format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads() {
        for (text, bytes) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32k", 32 << 10),
            ("32KiB", 32 << 10),
            ("32 kb", 32 << 10),
            ("1.5g", 3 << 29),
            ("64m", 64 << 20),
            ("2T", 2 << 40),
            ("1p", 1 << 50),
        ] {
            assert_eq!(ram_in_bytes(text), Ok(bytes), "{text}");
        }
        assert_eq!(from_human_size("1.5kB"), Ok(1500));
        for bad in ["", "m", "-1", "1.2.3k", "99999999999p", "é", "1 2 3", "inf", "1e3"] {
            assert!(ram_in_bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(ram_in_bytes("1q").unwrap_err().to_string(), "invalid suffix: 'q'");
        assert!(ram_in_bytes("1kbb").is_err() && ram_in_bytes("1é").is_err());
    }

    #[test]
    fn shows() {
        assert_eq!(human_size(0.0), "0B");
        assert_eq!(human_size(1000.0), "1kB");
        assert_eq!(human_size(1024.0), "1.024kB");
        assert_eq!(human_size(1_234_567.0), "1.235MB");
        assert_eq!(human_size_with_precision(117_456_789.0, 3), "117MB");
        assert_eq!(human_size_with_precision(999_999.0, 3), "1e+03kB");
        assert_eq!(bytes_size(1024.0), "1KiB");
        assert_eq!(bytes_size(25_100_000_000.0), "23.38GiB");
        assert_eq!(bytes_size(1023.0), "1023B");
    }
}
