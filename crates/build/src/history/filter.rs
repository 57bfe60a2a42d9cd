//! Filters of records, as BuildKit has them: `status==error`, `startedAt>=24h`, `duration<1m`, `ref~=…`, `repository==…`.
//! Any of the list, each of which is conditions that all hold.

use std::cmp::Ordering;

use buildkit::wire::control::BuildHistoryRecord;
use regex_lite::Regex;
use tonic::Code;
use types::Kind;

use super::nanos;
use crate::error::{Error, Result};
use crate::progress::now;

/// Most filters, and most bytes of one.
const LIMITS: (usize, usize) = (100, 4096);

#[derive(Debug)]
pub(super) struct Filters(Vec<Vec<Condition>>);

#[derive(Debug)]
enum Condition {
    Text { field: Text, test: Test },
    Number { field: Number, orders: &'static [Ordering], value: i128 },
}

#[derive(Clone, Copy, Debug)]
enum Text {
    Ref,
    Status,
    Repository,
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Started,
    Completed,
    Duration,
}

#[derive(Debug)]
enum Test {
    Equal(String),
    Unequal(String),
    Like(Regex),
}

impl Filters {
    pub(super) fn read(texts: &[String]) -> Result<Self> {
        if texts.len() > LIMITS.0 || texts.iter().any(|text| text.len() > LIMITS.1) {
            return Err(Error::new(Kind::Invalid, "there are too many filters, or one is too long"));
        }
        let all = texts.iter().filter(|text| !text.trim().is_empty());
        all.map(|text| text.split(',').map(condition).collect()).collect::<Result<_>>().map(Self)
    }

    pub(super) fn pass(&self, record: &BuildHistoryRecord) -> bool {
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(|condition| condition.holds(record)))
    }
}

fn condition(text: &str) -> Result<Condition> {
    let text = text.trim();
    let invalid = |why: &str| Error::new(Kind::Invalid, format!("filter \"{text}\": {why}"));
    let split = ["==", "!=", "~=", ">=", "<=", ">", "<", "="]
        .into_iter()
        .filter_map(|operator| text.find(operator).map(|place| (place, operator)))
        // The first in the text, and of those the longest, which the list has first.
        .min_by_key(|(place, _)| *place);
    let Some((place, operator)) = split else { return Err(invalid("it is written FIELD==VALUE")) };
    let (field, value) = (&text[..place], text[place + operator.len()..].trim().trim_matches('"'));
    let words = |field| {
        let test = match operator {
            "==" | "=" => Test::Equal(value.to_owned()),
            "!=" => Test::Unequal(value.to_owned()),
            "~=" => Test::Like(Regex::new(value).map_err(|e| invalid(&e.to_string()))?),
            _ => return Err(invalid("texts are compared by ==, != and ~=")),
        };
        Ok(Condition::Text { field, test })
    };
    let number = |field, value: Option<i128>| {
        let orders: &[Ordering] = match operator {
            "==" | "=" => &[Ordering::Equal],
            "!=" => &[Ordering::Less, Ordering::Greater],
            ">=" => &[Ordering::Greater, Ordering::Equal],
            "<=" => &[Ordering::Less, Ordering::Equal],
            ">" => &[Ordering::Greater],
            "<" => &[Ordering::Less],
            _ => return Err(invalid("times are compared by ==, !=, <, <=, > and >=")),
        };
        let value = value
            .ok_or_else(|| invalid("it is a duration such as 24h, or for times one such as 2026-01-02T15:04:05Z"))?;
        Ok(Condition::Number { field, orders, value })
    };
    let duration = || value.parse::<types::GoDuration>().ok().map(|duration| i128::from(duration.nanos()));
    // A duration is so long ago.
    let time = || match value.parse::<jiff::Timestamp>() {
        Ok(time) => Some(time.as_nanosecond()),
        Err(_) => duration().map(|ago| nanos(Some(&now())) - ago),
    };
    match field {
        "ref" => words(Text::Ref),
        "status" => words(Text::Status),
        "repository" => words(Text::Repository),
        "startedAt" | "createdAt" => number(Number::Started, time()),
        "completedAt" => number(Number::Completed, time()),
        "duration" => number(Number::Duration, duration()),
        _ => Err(invalid("there are the fields ref, status, repository, startedAt, completedAt and duration")),
    }
}

fn status(record: &BuildHistoryRecord) -> &'static str {
    match (&record.completed_at, &record.error) {
        (None, _) => "running",
        (_, None) => "completed",
        (_, Some(error)) if error.code == Code::Cancelled as i32 || error.message.contains("context canceled") => {
            "canceled"
        }
        _ => "error",
    }
}

impl Condition {
    fn holds(&self, record: &BuildHistoryRecord) -> bool {
        match self {
            Self::Text { field, test } => {
                let found = match field {
                    Text::Ref => record.r#ref.as_str(),
                    Text::Status => status(record),
                    Text::Repository => record.frontend_attrs.get("vcs:source").map_or("", String::as_str),
                };
                match test {
                    Test::Equal(value) => found == value,
                    Test::Unequal(value) => found != value,
                    Test::Like(pattern) => pattern.is_match(found),
                }
            }
            Self::Number { field, orders, value } => {
                let started = nanos(record.created_at.as_ref());
                let ended = record.completed_at.as_ref();
                let found = match field {
                    Number::Started => Some(started),
                    Number::Completed => ended.map(|time| nanos(Some(time))),
                    Number::Duration => Some(nanos(Some(ended.unwrap_or(&now()))) - started),
                };
                found.is_some_and(|found| orders.contains(&found.cmp(value)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes() {
        let now = now();
        let before = prost_types::Timestamp { seconds: now.seconds - 100, nanos: now.nanos };
        let record = BuildHistoryRecord {
            r#ref: "abc".into(),
            created_at: Some(before),
            completed_at: Some(now),
            error: Some(buildkit::wire::status::Status { code: 2, ..Default::default() }),
            ..Default::default()
        };
        let pass = |text: &str| Filters::read(&[text.to_owned()]).unwrap().pass(&record);
        for holds in ["", "status==error", "status=error,ref~=^a", "duration>1m", "startedAt>=1h", "startedAt<10s"] {
            assert!(pass(holds), "{holds}");
        }
        for fails in ["status!=error", "ref==ab", "duration<=99s", "startedAt>2100-01-01T00:00:00Z", "repository==x"] {
            assert!(!pass(fails), "{fails}");
        }
        for invalid in ["status", "status>error", "colour==red", "duration>long", "ref~=("] {
            assert!(Filters::read(&[invalid.to_owned()]).is_err(), "{invalid}");
        }
    }
}
