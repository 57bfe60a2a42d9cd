//! Times in words and in the forms flags take: "2 hours ago", `--since 42m`, RFC 3339.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, Zoned, civil::DateTime, tz::TimeZone};
use types::{GoDuration, human_duration};

/// Seconds since the epoch, now.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// "2 hours ago" for a moment in seconds since the epoch.
pub(crate) fn ago(seconds: i64) -> String {
    let age = now().saturating_sub(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    format!("{} ago", human_duration(age))
}

/// `2026-11-23 15:10:34 +0000 UTC`, as Go prints a time.
pub(crate) fn go_local(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(moment) => moment.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string(),
        Err(_) => "N/A".into(),
    }
}

/// RFC 3339 in local time for a moment in seconds since the epoch.
pub(crate) fn rfc3339_local(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(moment) => rfc3339(&moment.to_zoned(TimeZone::system())),
        Err(_) => "N/A".into(),
    }
}

fn rfc3339(moment: &Zoned) -> String {
    let zone = if moment.offset().is_zero() { "Z".to_owned() } else { moment.strftime("%:z").to_string() };
    moment.strftime("%Y-%m-%dT%H:%M:%S").to_string() + &zone
}

/// RFC 3339 with nine digits of nanoseconds in local time, as `events` shows moments.
pub(crate) fn rfc3339_nano(nanos: i64) -> String {
    match Timestamp::from_nanosecond(i128::from(nanos)) {
        Ok(moment) => {
            let zoned = moment.to_zoned(TimeZone::system());
            let zone = if zoned.offset().is_zero() { "Z".to_owned() } else { zoned.strftime("%:z").to_string() };
            zoned.strftime("%Y-%m-%dT%H:%M:%S.%9f").to_string() + &zone
        }
        Err(_) => "N/A".into(),
    }
}

/// `Tue Sep 15 11:02:57 2026` for an RFC 3339 text; other text as it is.
pub(crate) fn ansic(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(moment) => moment.to_zoned(TimeZone::UTC).strftime("%a %b %e %H:%M:%S %Y").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// Seconds since the epoch of an RFC 3339 text.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// Value of `since` and `until` for the API: seconds with nanoseconds. Takes seconds, a duration before now, a date, a
/// local time or an RFC 3339 time.
///
/// # Errors
/// A sentence when the text is none of these.
pub(crate) fn moment(text: &str) -> Result<String, String> {
    let plain = text.trim_start_matches('-');
    let digits = plain.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && plain.matches('.').count() <= 1;
    if !plain.is_empty() && digits {
        return Ok(text.to_owned());
    }
    if let Ok(duration) = text.parse::<GoDuration>() {
        let at = i128::try_from(now().as_nanos()).unwrap_or(i128::MAX) - i128::from(duration.nanos());
        return Ok(format!("{}.{:09}", at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000)));
    }
    let stamp = text.parse::<Timestamp>().ok().or_else(|| {
        let civil = text.parse::<DateTime>().ok()?;
        civil.to_zoned(TimeZone::system()).ok().map(|zoned| zoned.timestamp())
    });
    match stamp {
        Some(stamp) => {
            let nanos = stamp.as_nanosecond();
            Ok(format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000)))
        }
        None => Err(format!("failed to parse value as time or duration: {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(moment("2013-01-02T13:23:37Z").unwrap(), "1357133017.000000000");
        assert_eq!(moment("1357133017.5").unwrap(), "1357133017.5");
        assert_eq!(moment("2013-01-02T13:23:37.25+01:00").unwrap(), "1357129417.250000000");
        assert!(moment("42m").unwrap().contains('.'));
        assert!(moment("2013-01-02").is_ok());
        assert!(moment("yesterday").is_err());
        assert_eq!(ansic("2026-09-15T11:02:57.000000000+00:00"), "Tue Sep 15 11:02:57 2026");
        assert_eq!(parse_rfc3339("1970-01-01T00:01:00Z"), Some(60));
    }
}
