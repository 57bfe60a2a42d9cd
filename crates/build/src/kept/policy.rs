//! What goes, and when: policies as BuildKit has them.

use types::Kind;

use super::{Filters, kind};
use crate::error::{Error, Result};

const HOUR: u64 = 3_600_000_000_000;

/// Which of what is kept goes, when it takes up too much or was not used for long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Also what images have too, and what is of no use to people.
    pub all: bool,
    /// What it is about, in containerd's form; everything without any.
    pub filters: Vec<String>,
    /// What was used in the last so many nanoseconds stays.
    pub keep_ns: u64,
    /// Down to how much it goes.
    pub limits: Limits,
}

impl Policy {
    /// Nothing is to stay.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.filters.iter().all(|filter| filter.trim().is_empty())
            && self.keep_ns == 0
            && self.limits == Limits::default()
    }
}

/// How much may be kept, in bytes; 0 says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// So much may stay always.
    pub reserved: u64,
    /// Nothing goes as long as all of it is less.
    pub max_used: u64,
    /// So much of the disk shall be free.
    pub min_free: u64,
}

/// Whether something goes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collect {
    /// Nothing does.
    Off,
    /// By the usual policies, with limits; with those that fit the disk if none is given.
    Usual(Limits),
    /// By these, in order.
    By(Vec<Policy>),
}

impl Default for Collect {
    fn default() -> Self {
        Self::Usual(Limits::default())
    }
}

impl Limits {
    /// Whether there are any.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Those that fit a disk of so many bytes: a tenth is reserved, four fifths are used, a fifth is left free.
    #[must_use]
    pub fn of_disk(total: u64) -> Self {
        let percent = |percent: u64| (total / 100 * percent / (1 << 30) + 1) * 1_000_000_000;
        Self { reserved: percent(10), max_used: percent(80), min_free: percent(20) }
    }

    /// Down to how many bytes what takes up `total` goes while `free` are free; none where nothing has to go.
    #[must_use]
    pub fn target(&self, total: u64, free: u64) -> Option<u64> {
        let mut target = (self.max_used > 0).then_some(self.max_used);
        if self.min_free > free {
            let rest = total.saturating_sub(self.min_free - free);
            target = Some(target.map_or(rest, |target| target.min(rest)));
        } else if self.max_used == 0 && self.min_free == 0 {
            target = Some(self.reserved);
        }
        target.map(|target| target.max(self.reserved)).filter(|target| total > *target)
    }
}

impl Collect {
    /// The policies, on a disk of so many bytes.
    #[must_use]
    pub fn policies(&self, disk: u64) -> Vec<Policy> {
        let limits = match self {
            Self::Off => return Vec::new(),
            Self::By(policies) => return policies.clone(),
            Self::Usual(limits) if limits.any() => *limits,
            Self::Usual(_) => Limits::of_disk(disk),
        };
        // BuildKit's share of what is made again most easily: e, pi and phi multiplied, in percent.
        let easily = ((limits.reserved as f64 / 100. * 13.819_8).round() as u64).max(512_000_000);
        let easy = [kind::LOCAL, kind::CACHE, "source.git.checkout"].map(|kind| format!("type=={kind}"));
        vec![
            Policy {
                filters: easy.to_vec(),
                keep_ns: 48 * HOUR,
                limits: Limits { max_used: easily, ..Limits::default() },
                all: false,
            },
            Policy { keep_ns: 60 * 24 * HOUR, limits, ..Policy::default() },
            Policy { limits, ..Policy::default() },
            Policy { all: true, limits, ..Policy::default() },
        ]
    }
}

impl Policy {
    /// Of Docker's filters: fields by their names with their values, `until` and `unused-for` with an age.
    ///
    /// # Errors
    /// A filter that there is not, with several values, or a value that is none.
    pub fn of_docker<'a>(filters: impl IntoIterator<Item = (&'a str, Vec<&'a str>)>) -> Result<Self> {
        const FIELDS: [&str; 7] = ["id", "parent", "type", "description", "inuse", "shared", "private"];
        let invalid = |text: String| Error::new(Kind::Invalid, text);
        let (mut conditions, mut policy) = (Vec::new(), Self::default());
        let mut age: Option<&str> = None;
        for (key, values) in filters {
            if values.len() > 1 {
                return Err(invalid(format!("filter {key}: it takes one value, and there are {}", values.len())));
            }
            let value = values.first().copied();
            match (key, value) {
                ("until" | "unused-for", Some(value)) => {
                    if let Some(other) = age.replace(key) {
                        return Err(invalid(format!("filters {other} and {key} say the same: give one")));
                    }
                    policy.keep_ns =
                        ago(value).map_err(|why| invalid(format!("invalid filter '{key}={value}': {why}")))?;
                }
                ("until" | "unused-for", None) => {}
                (field, None) if FIELDS.contains(&field) => conditions.push(field.to_owned()),
                ("id", Some(value)) => conditions.push(format!("id~={}", quoted(value))),
                (field, Some(value)) if FIELDS.contains(&field) => {
                    conditions.push(format!("{field}=={}", quoted(value)));
                }
                (other, _) => {
                    let known = FIELDS.join(", ");
                    return Err(invalid(format!("invalid filter '{other}': there are until, {known}")));
                }
            }
        }
        if !conditions.is_empty() {
            policy.filters = vec![conditions.join(",")];
            policy.check()?;
        }
        Ok(policy)
    }

    /// Whether its filters can be read.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<()> {
        Filters::read(&self.filters).map(drop)
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\\']) {
        return format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    }
    text.to_owned()
}

/// How long ago, in nanoseconds: a duration, or a time.
fn ago(text: &str) -> std::result::Result<u64, String> {
    if let Ok(duration) = text.parse::<types::GoDuration>() {
        return Ok(u64::try_from(duration.0).unwrap_or(0));
    }
    let at = match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.as_nanosecond(),
        Err(_) => match text.parse::<i64>() {
            Ok(seconds) => i128::from(seconds) * 1_000_000_000,
            Err(_) => return Err("it is a duration such as 24h, or a time such as 2026-01-02T15:04:05Z".to_owned()),
        },
    };
    Ok(u64::try_from(i128::from(crate::tree::now_ns()) - at).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_limits_are_those_of_buildkit() {
        // What a daemon of Docker's says of a disk of 252 GiB.
        let limits = Limits::of_disk(252 << 30);
        assert_eq!(limits, Limits { reserved: 26_000_000_000, max_used: 202_000_000_000, min_free: 51_000_000_000 });
        let policies = Collect::default().policies(252 << 30);
        assert_eq!(policies.len(), 4);
        assert_eq!(policies[0].limits.max_used / 1_000_000, 3593);
        assert!(Collect::Off.policies(1 << 40).is_empty());
        assert!(policies.iter().all(|policy| policy.check().is_ok()));
    }

    #[test]
    fn the_target() {
        let target =
            |reserved, max_used, min_free, total, free| Limits { reserved, max_used, min_free }.target(total, free);
        assert_eq!(target(0, 10, 0, 9, 0), None);
        assert_eq!(target(0, 10, 0, 11, 0), Some(10));
        assert_eq!(target(5, 0, 0, 11, 0), Some(5));
        // 3 are wanting.
        assert_eq!(target(0, 0, 8, 11, 5), Some(8));
        assert_eq!(target(9, 0, 8, 11, 5), Some(9));
        assert_eq!(target(9, 0, 8, 9, 5), None);
        assert_eq!(target(0, 0, 8, 11, 8), None);
        assert_eq!(target(0, 5, 100, 11, 8), Some(0));
        assert_eq!(target(2, 5, 100, 11, 8), Some(2));
    }

    #[test]
    fn dockers_filters() {
        let read = |filters: &[(&'static str, &[&'static str])]| {
            Policy::of_docker(filters.iter().map(|(key, values)| (*key, values.to_vec())))
        };
        let policy = read(&[("id", &["ab"]), ("until", &["2h"]), ("type", &["regular"]), ("inuse", &[])]).unwrap();
        assert_eq!((policy.filters, policy.keep_ns), (vec!["id~=ab,type==regular,inuse".to_owned()], 2 * HOUR));
        let policy = read(&[("description", &["RUN a, b"])]).unwrap();
        assert_eq!(policy.filters, ["description==\"RUN a, b\""]);
        assert!(read(&[("until", &["1700000000"])]).unwrap().keep_ns > HOUR);
        for (filters, words) in [
            (&[("colour", &["red"][..])][..], "invalid filter 'colour'"),
            (&[("id", &["a", "b"])], "one value"),
            (&[("until", &["soon"])], "invalid filter 'until=soon'"),
            (&[("until", &["1h"]), ("unused-for", &["1h"])], "say the same"),
            (&[("id", &["("])], "filter"),
        ] {
            let error = read(filters).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
