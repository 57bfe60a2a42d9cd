//! Timestamps as Go prints and Docker's query parameters write them.

use jiff::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// Go's zero time, shown where something has not happened yet.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 in UTC with as many of nine fractional digits as are needed (`time.RFC3339Nano`).
pub fn rfc3339_nano(seconds: i64, nanos: u32) -> String {
    match Timestamp::new(seconds, i32::try_from(nanos).unwrap_or(0)) {
        Ok(at) => at.to_string(),
        Err(_) => ZERO.to_owned(),
    }
}

/// The same for a system time.
pub fn from_system_time(at: SystemTime) -> String {
    match at.duration_since(UNIX_EPOCH) {
        Ok(d) => rfc3339_nano(i64::try_from(d.as_secs()).unwrap_or(i64::MAX), d.subsec_nanos()),
        Err(_) => ZERO.to_owned(),
    }
}

/// Seconds and nanoseconds since the epoch of an RFC 3339 text; nothing for Go's zero time or for
/// what is no timestamp.
pub fn parse_rfc3339(text: &str) -> Option<(i64, u32)> {
    if text == ZERO {
        return None;
    }
    let at: Timestamp = text.parse().ok()?;
    Some((at.as_second(), u32::try_from(at.subsec_nanosecond()).ok()?))
}

/// A text that is no timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse value as time or duration: {0:?}")]
pub struct TimeError(String);

/// A point in time as the `since` and `until` parameters and filters write it: seconds since the
/// epoch with optional fraction, RFC 3339, a date or date and time in UTC, or a Go duration before
/// `now` (`10m`). Gives seconds and nanoseconds since the epoch.
///
/// # Errors
/// [`TimeError`] when it is none of these.
pub fn parse_when(text: &str, now: SystemTime) -> Result<(i64, u32), TimeError> {
    let bad = || TimeError(text.chars().take(80).collect());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|c| c.is_ascii_digit());
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    if !unsigned.is_empty() && digits(unsigned) && digits(fraction) {
        let seconds: i64 = whole.parse().map_err(|_| bad())?;
        let padded: String = fraction.chars().chain("000000000".chars()).take(9).collect();
        return Ok((seconds, padded.parse().map_err(|_| bad())?));
    }
    if let Ok(before) = text.parse::<types::GoDuration>() {
        let now = now.duration_since(UNIX_EPOCH).map_err(|_| bad())?;
        let nanos = i128::try_from(now.as_nanos()).map_err(|_| bad())? - i128::from(before.nanos());
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).map_err(|_| bad())?;
        return Ok((seconds, u32::try_from(nanos.rem_euclid(1_000_000_000)).map_err(|_| bad())?));
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok((at.as_second(), u32::try_from(at.subsec_nanosecond()).unwrap_or(0)));
    }
    let civil = text.parse::<jiff::civil::DateTime>().map_err(|_| bad())?;
    let at = civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| bad())?.timestamp();
    Ok((at.as_second(), u32::try_from(at.subsec_nanosecond()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn go_form() {
        assert_eq!(rfc3339_nano(1_795_363_388, 786_375_109), "2026-11-22T16:03:08.786375109Z");
        assert_eq!(rfc3339_nano(1_795_363_388, 786_000_000), "2026-11-22T16:03:08.786Z");
        assert_eq!(rfc3339_nano(1_795_363_388, 0), "2026-11-22T16:03:08Z");
        assert_eq!(parse_rfc3339("2026-11-22T16:03:08.786Z"), Some((1_795_363_388, 786_000_000)));
        assert_eq!(parse_rfc3339(ZERO), None);
    }

    #[test]
    fn since_and_until() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(parse_when("12", now), Ok((12, 0)));
        assert_eq!(parse_when("12.5", now), Ok((12, 500_000_000)));
        assert_eq!(parse_when("1m", now), Ok((940, 0)));
        assert_eq!(parse_when("0.5s", now), Ok((999, 500_000_000)));
        assert_eq!(parse_when("1970-01-01T00:00:05Z", now), Ok((5, 0)));
        assert_eq!(parse_when("1970-01-02", now), Ok((86_400, 0)));
        assert_eq!(parse_when("1970-01-01T00:01:00", now), Ok((60, 0)));
        for bad in ["", "x", "1.x", "-", "99999999999999999999"] {
            assert!(parse_when(bad, now).is_err(), "{bad}");
        }
    }
}
