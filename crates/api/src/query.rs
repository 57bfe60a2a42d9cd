//! Query parameters, decoded once, with Docker's reading of booleans, integers and times.
//!
//! Called by the gate with the raw query of a request. Unknown parameters are kept and ignored, as
//! the API promises to newer clients.

use std::borrow::Cow;

use crate::status::ApiError;

/// The decoded query of one request, in its order.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

/// Decodes `%XX` (and `+` as a space where `plus` says so), once.
///
/// # Errors
/// An incomplete escape, bytes that are not UTF-8, or a NUL, which no name or path can hold.
pub(crate) fn percent_decode(raw: &str, plus: bool) -> Result<Cow<'_, str>, ApiError> {
    let bytes = raw.as_bytes();
    if memchr::memchr3(b'%', b'+', 0, bytes).is_none() {
        return Ok(Cow::Borrowed(raw));
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        match b {
            b'%' => {
                let hex = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
                let [a, b, tail @ ..] = rest else {
                    return Err(ApiError::invalid(format!("invalid URL escape at the end of {raw:.64?}")));
                };
                let (Some(high), Some(low)) = (hex(*a), hex(*b)) else {
                    return Err(ApiError::invalid(format!("invalid URL escape in {raw:.64?}")));
                };
                out.push(high << 4 | low);
                rest = tail;
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
    }
    if out.contains(&0) {
        return Err(ApiError::invalid("invalid request: NUL byte in the URL"));
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| ApiError::invalid("invalid request: the URL is not UTF-8"))
}

impl Query {
    /// Decodes the part of a request target after `?`.
    pub(crate) fn parse(raw: &str) -> Result<Query, ApiError> {
        let mut pairs = Vec::new();
        for pair in raw.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((percent_decode(name, true)?.into_owned(), percent_decode(value, true)?.into_owned()));
        }
        Ok(Query { pairs })
    }

    /// The first value of a parameter; `None` when absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The first value of a parameter; `None` when absent or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// As [`Query::text`], owned.
    pub(crate) fn string(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    /// Every value of a parameter that may be repeated.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A boolean in Docker's reading: absent, empty, `0`, `no`, `false` and `none` (any case) are
    /// false, everything else is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// As [`Query::flag`] with a default for an absent parameter.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> bool {
        let Some(value) = self.get(name) else { return default };
        let value = value.trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// An integer; absent and empty are `None`.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.text(name) else { return Ok(None) };
        match value.parse::<i64>() {
            Ok(n) => Ok(Some(n)),
            Err(e) => Err(ApiError::invalid(format!("strconv.Atoi: parsing {}: {}", quoted(value), go_reason(&e)))),
        }
    }

    /// A point in time as `seconds[.fraction]` since the epoch, in nanoseconds. Docker's clients
    /// send only this form. Absent and empty are `None`.
    pub(crate) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.text(name) else { return Ok(None) };
        let bad = |part: &str, reason: &str| {
            ApiError::invalid(format!("strconv.ParseInt: parsing {}: {reason}", quoted(part)))
        };
        let (seconds, fraction) = value.split_once('.').unwrap_or((value, ""));
        let whole: i64 = seconds.parse().map_err(|e| bad(seconds, go_reason(&e)))?;
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad(fraction, "invalid syntax"));
        }
        // Digits beyond nanoseconds carry nothing this engine keeps.
        let nanos = format!("{:0<9.9}", fraction).parse::<i64>().unwrap_or(0);
        let nanos = if seconds.starts_with('-') { -nanos } else { nanos };
        match whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(nanos)) {
            Some(total) => Ok(Some(total)),
            // Past or future beyond what nanoseconds can say is the end of time on that side.
            None => Ok(Some(if whole < 0 { i64::MIN } else { i64::MAX })),
        }
    }

    /// One side of a terminal's size in cells.
    pub(crate) fn cells(&self, name: &str, word: &str) -> Result<u16, ApiError> {
        let value = self.get(name).unwrap_or_default();
        let reason = match value.parse::<u32>() {
            Ok(n) => match u16::try_from(n) {
                Ok(n) => return Ok(n),
                Err(_) => "value out of range",
            },
            Err(_) if value.strip_prefix('-').is_some_and(|v| v.parse::<u32>().is_ok()) => "value out of range",
            Err(e) => go_reason(&e),
        };
        Err(ApiError::invalid(format!("invalid resize {word} {}: {reason}", quoted(value))))
    }
}

/// Text in the quotes of an error, shortened: it is the client's own input.
pub(crate) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    format!("{short:?}")
}

fn go_reason(e: &std::num::ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    if matches!(e.kind(), PosOverflow | NegOverflow) { "value out of range" } else { "invalid syntax" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Query {
        Query::parse(raw).unwrap()
    }

    #[test]
    fn booleans_are_dockers() {
        for yes in ["a=1", "a=true", "a=True", "a=t", "a=zz"] {
            assert!(query(yes).flag("a"), "{yes}");
        }
        for no in ["", "a", "a=", "a=0", "a=no", "a=False", "a=none", "b=1"] {
            assert!(!query(no).flag("a"), "{no}");
        }
        assert!(query("").flag_or("stream", true));
        assert!(!query("stream=0").flag_or("stream", true));
    }

    #[test]
    fn decoding_happens_once() {
        let q = query("names=a%252fb&names=c+d&x=%7B%22k%22%3A%5B%22v%22%5D%7D");
        assert_eq!(q.all("names").collect::<Vec<_>>(), ["a%2fb", "c d"]);
        assert_eq!(q.get("x"), Some(r#"{"k":["v"]}"#));
        assert_eq!(percent_decode("a+b%2B", false).unwrap(), "a+b+");
        for bad in ["a=%", "a=%4", "a=%zz", "a=%ff", "a=%00"] {
            assert_eq!(Query::parse(bad).unwrap_err().status(), 400, "{bad}");
        }
    }

    #[test]
    fn integers_and_times() {
        assert_eq!(query("t=10").integer("t").unwrap(), Some(10));
        assert_eq!(query("t=").integer("t").unwrap(), None);
        assert_eq!(query("t=-1").integer("t").unwrap(), Some(-1));
        let e = query("limit=abc").integer("limit").unwrap_err();
        assert_eq!(e.message(), "strconv.Atoi: parsing \"abc\": invalid syntax");
        let e = query("t=99999999999999999999").integer("t").unwrap_err();
        assert!(e.message().ends_with("value out of range"));
        assert_eq!(query("s=1.5").time("s").unwrap(), Some(1_500_000_000));
        assert_eq!(query("s=1795363336.652625888").time("s").unwrap(), Some(1_795_363_336_652_625_888));
        assert_eq!(query("s=9223372036854775807").time("s").unwrap(), Some(i64::MAX));
        assert_eq!(query("s=zz").time("s").unwrap_err().message(), "strconv.ParseInt: parsing \"zz\": invalid syntax");
        assert!(query("s=1.x").time("s").is_err());
        assert!(query("s=1.\u{20ac}").time("s").is_err());
    }

    #[test]
    fn terminal_sizes() {
        assert_eq!(query("h=5").cells("h", "height").unwrap(), 5);
        assert_eq!(query("").cells("h", "height").unwrap_err().message(), "invalid resize height \"\": invalid syntax");
        for bad in ["h=-1", "h=65536"] {
            assert!(query(bad).cells("h", "height").unwrap_err().message().ends_with("value out of range"), "{bad}");
        }
    }
}
