//! Filters of list and prune requests: key → set of values. All values of one key are alternatives,
//! all keys must hold. The JSON forms are read in `docker-types`.

use std::collections::{BTreeMap, BTreeSet};

/// A parsed filter set; empty means everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// No filter.
    pub fn new() -> Filters {
        Filters::default()
    }

    /// Adds an alternative for a key.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0.entry(key.to_owned()).or_default().insert(value.to_owned());
    }

    /// True when nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeSet::is_empty)
    }

    /// True when the key has at least one value.
    pub fn contains(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|v| !v.is_empty())
    }

    /// The values of a key, in order.
    pub fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Every key with its values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The first key not in `accepted`: asking by it is an error (`invalid filter 'x'`).
    pub fn unknown_key<'a>(&'a self, accepted: &[&str]) -> Option<&'a str> {
        self.0.keys().map(String::as_str).find(|k| !accepted.contains(k))
    }

    /// True when the key has no values or one of them equals `value`.
    pub fn exact_match(&self, key: &str, value: &str) -> bool {
        !self.contains(key) || self.0.get(key).is_some_and(|v| v.contains(value))
    }

    /// True when the key has no values or `test` holds for one of them.
    pub fn any_match(&self, key: &str, test: impl FnMut(&str) -> bool) -> bool {
        !self.contains(key) || self.get(key).any(test)
    }

    /// True when every `label` filter (`key` or `key=value`) holds in `labels`. Unlike other keys,
    /// several labels must all hold.
    pub fn match_labels<'a>(&self, key: &str, labels: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.get(key).all(|want| match want.split_once('=') {
            Some((name, value)) => labels(name) == Some(value),
            None => labels(want).is_some(),
        })
    }

    /// A boolean filter: `default` when absent.
    ///
    /// # Errors
    /// Gives back the offending values when they are not one of `1 true 0 false` or contradict.
    pub fn boolean(&self, key: &str, default: bool) -> Result<bool, Vec<String>> {
        let values: Vec<&str> = self.get(key).collect();
        let yes = values.iter().any(|v| matches!(*v, "1" | "true" | "True" | "t"));
        let no = values.iter().any(|v| matches!(*v, "0" | "false" | "False" | "f"));
        match (yes, no, values.is_empty()) {
            (_, _, true) => Ok(default),
            (true, false, _) => Ok(true),
            (false, true, _) => Ok(false),
            _ => Err(values.into_iter().map(str::to_owned).collect()),
        }
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Filters {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Filters {
        let mut out = Filters::new();
        for (key, value) in items {
            out.add(key.as_ref(), value.as_ref());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching() {
        let f: Filters =
            [("status", "running"), ("status", "exited"), ("label", "a=1"), ("label", "b")].into_iter().collect();
        assert!(f.exact_match("status", "exited") && !f.exact_match("status", "paused"));
        assert!(f.exact_match("name", "anything"));
        let labels = |k: &str| match k {
            "a" => Some("1"),
            "b" => Some(""),
            _ => None,
        };
        assert!(f.match_labels("label", labels));
        assert!(!f.match_labels("label", |k| (k == "a").then_some("1")));
        assert_eq!(f.unknown_key(&["label"]), Some("status"));
        assert_eq!(f.boolean("dangling", true), Ok(true));
        let b: Filters = [("dangling", "false")].into_iter().collect();
        assert_eq!(b.boolean("dangling", true), Ok(false));
        let bad: Filters = [("dangling", "x")].into_iter().collect();
        assert!(bad.boolean("dangling", true).is_err());
    }
}
