//! Wall-clock time and its RFC 3339 form, without a calendar library: the shim stays small and a
//! log line costs no formatting beyond its last digits.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds since the Unix epoch.
pub(crate) fn now_ns() -> i64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

/// Nanoseconds of a clock that never jumps, for deadlines.
pub(crate) fn monotonic_ns() -> i64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// `2026-11-23T15:04:05.123456789Z`.
pub(crate) const STAMP_LEN: usize = 30;

/// A time stamp that only grows: one per log line, each later than the one before.
pub(crate) struct Stamp {
    ns: i64,
    text: [u8; STAMP_LEN],
}

impl Stamp {
    pub(crate) fn new() -> Self {
        let mut stamp = Self { ns: 0, text: *b"1970-01-01T00:00:00.000000000Z" };
        stamp.advance_to(1);
        stamp
    }

    /// Moves to `now`, or to just after the last stamp when the clock stands still or went back.
    pub(crate) fn advance_to(&mut self, now: i64) {
        let old_second = self.ns / 1_000_000_000;
        self.ns = now.max(self.ns + 1);
        if self.ns / 1_000_000_000 != old_second {
            self.text = format_ns(self.ns);
        } else {
            digits(&mut self.text[20..29], self.ns % 1_000_000_000);
        }
    }

    /// The present stamp; the next one is a nanosecond later.
    pub(crate) fn take(&mut self) -> [u8; STAMP_LEN] {
        let text = self.text;
        self.ns += 1;
        for digit in self.text[20..29].iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return text;
            }
            *digit = b'0';
        }
        self.text = format_ns(self.ns);
        text
    }
}

/// Formats nanoseconds since the epoch in UTC. Years outside 0 to 9999 are shown as the nearest of them.
pub(crate) fn format_ns(ns: i64) -> [u8; STAMP_LEN] {
    let (days, in_day) = (ns.div_euclid(86_400_000_000_000), ns.rem_euclid(86_400_000_000_000));
    let (year, month, day) = civil(days);
    let second = in_day / 1_000_000_000;
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    digits(&mut text[0..4], year.clamp(0, 9999));
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], second / 3600);
    digits(&mut text[14..16], second / 60 % 60);
    digits(&mut text[17..19], second % 60);
    digits(&mut text[20..29], in_day % 1_000_000_000);
    text
}

fn digits(to: &mut [u8], mut value: i64) {
    for digit in to.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value.rem_euclid(10)).unwrap_or(0);
        value = value.div_euclid(10);
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar: years
/// are counted from March, so that the leap day is a year's last, in eras of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ns: i64) -> String {
        String::from_utf8(format_ns(ns).to_vec()).unwrap()
    }

    #[test]
    fn known_dates() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(text(1_795_446_245_123_456_789), "2026-11-23T15:04:05.123456789Z");
        assert_eq!(text(4_107_542_399_999_999_999), "2100-02-28T23:59:59.999999999Z");
        assert_eq!(text(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn stamps_grow_by_one_and_never_fall_back() {
        let mut stamp = Stamp::new();
        stamp.advance_to(1_795_446_245_999_999_999);
        assert_eq!(&stamp.take(), b"2026-11-23T15:04:05.999999999Z");
        assert_eq!(&stamp.take(), b"2026-11-23T15:04:06.000000000Z");
        stamp.advance_to(5);
        assert_eq!(&stamp.take(), b"2026-11-23T15:04:06.000000002Z");
    }
}
