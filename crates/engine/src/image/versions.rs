//! The versions of a name: what it pointed at, since when and by what, so that it can be pointed back.
//!
//! A version is written in the transaction that changes the name; one is never lost, and none is there for a
//! change that did not happen. Old versions are dropped past a number per name; the images themselves are
//! kept as long as any image without a name is, and fetched again by digest when they are gone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use state::Op;
use store::model::Descriptor;
use types::Digest;

use crate::error::{Error, Result};

/// Names without an image whose versions are kept.
const BEREFT_MAX: usize = 10_000;

/// One version of a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Version {
    /// What it pointed at; absent for the name having been taken away.
    pub target: Option<Descriptor>,
    /// Nanoseconds since the epoch.
    pub at_ns: i64,
    /// `pull`, `tag`, `load`, `import`, `commit`, `rollback`, `untag`, or `before` for what was there when
    /// versions began to be kept.
    pub how: String,
}

/// The versions of every name, oldest first.
#[derive(Debug)]
pub(super) struct Versions {
    kept: Mutex<HashMap<String, Vec<Version>>>,
    /// Versions kept of one name.
    limit: usize,
}

impl Versions {
    pub(super) fn read(rows: &[(String, String)], limit: usize) -> Self {
        let parsed = rows.iter().filter_map(|(name, document)| {
            let list = serde_json::from_str(document);
            list.inspect_err(|error| tracing::warn!(image = name, %error, "the versions of a name cannot be read"))
                .ok()
                .map(|list| (name.clone(), list))
        });
        Self { kept: Mutex::new(parsed.collect()), limit: limit.max(1) }
    }

    /// Versions of a name, oldest first.
    pub(super) fn of(&self, name: &str) -> Vec<Version> {
        self.lock().get(name).cloned().unwrap_or_default()
    }

    /// The change of a name, to be committed with it and then given to [`Versions::keep`]. `before` is what
    /// the name points at until then.
    pub(super) fn changed(&self, name: &str, before: Option<(&Descriptor, i64)>, next: Version) -> Result<Change> {
        let mut list = self.of(name);
        if list.is_empty()
            && let Some((target, at_ns)) = before
        {
            list.push(Version { target: Some(target.clone()), at_ns, how: "before".to_owned() });
        }
        list.push(next);
        let excess = list.len().saturating_sub(self.limit);
        list.drain(..excess);
        let doc = serde_json::to_string(&list).map_err(|e| Error::io("cannot encode the versions of a name", e))?;
        Ok(Change { name: name.to_owned(), list, doc })
    }

    /// Remember what was committed.
    pub(super) fn keep(&self, changes: Vec<Change>) {
        let mut kept = self.lock();
        for change in changes {
            kept.insert(change.name, change.list);
        }
    }

    /// Names that have been taken away for longest, once there are too many: their versions are dropped.
    pub(super) fn excess(&self) -> Vec<String> {
        let kept = self.lock();
        let gone = |list: &&Vec<Version>| list.last().is_some_and(|last| last.target.is_none());
        let mut bereft: Vec<(&String, i64)> =
            kept.iter().filter(|(_, list)| gone(list)).map(|(name, list)| (name, list[list.len() - 1].at_ns)).collect();
        let excess = bereft.len().saturating_sub(BEREFT_MAX);
        bereft.sort_by_key(|(_, at)| *at);
        bereft.iter().take(excess).map(|(name, _)| (*name).clone()).collect()
    }

    /// Drop the versions of names.
    pub(super) fn forget(&self, names: &[String]) {
        let mut kept = self.lock();
        names.iter().for_each(|name| drop(kept.remove(name)));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Version>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// New versions of a name.
pub(super) struct Change {
    name: String,
    list: Vec<Version>,
    doc: String,
}

impl Change {
    pub(super) fn op(&self) -> Op {
        Op::PutImageVersions { name: self.name.clone(), doc: self.doc.clone() }
    }
}

/// What a name pointed at, latest first, with every rollback taken for what it is: an undoing. The first is
/// the present one, unless the name is gone.
pub(super) fn undo_order(versions: &[Version]) -> Vec<Descriptor> {
    let mut stack: Vec<&Descriptor> = Vec::new();
    for version in versions {
        let Some(target) = &version.target else { continue };
        if version.how == "rollback"
            && let Some(at) = stack.iter().rposition(|known| known.digest == target.digest)
        {
            stack.truncate(at + 1);
        } else if stack.last().is_none_or(|last| last.digest != target.digest) {
            stack.push(target);
        }
    }
    stack.into_iter().rev().cloned().collect()
}

/// The version a user means: how many steps back, or the beginning of an id.
pub(super) fn find(versions: &[Version], present: Option<Digest>, wanted: &str) -> Option<Descriptor> {
    let order = undo_order(versions);
    // A number of a few digits is a number of steps; ids are asked for with more.
    if wanted.len() < 4
        && let Ok(steps) = wanted.parse::<usize>()
    {
        let first = usize::from(present.is_some());
        return order.get((steps + first).checked_sub(1)?).filter(|_| steps > 0).cloned();
    }
    let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let mut found = versions.iter().rev().filter_map(|version| version.target.as_ref());
    found.find(|target| hex.len() >= 4 && target.digest.hex().starts_with(hex)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(byte: u8) -> Descriptor {
        Descriptor::new("m", Digest::sha256([byte; 32]), 1)
    }

    fn version(byte: u8, how: &str) -> Version {
        Version { target: Some(target(byte)), at_ns: 0, how: how.to_owned() }
    }

    fn bytes(list: &[Descriptor]) -> Vec<String> {
        list.iter().map(|d| d.digest.hex()[..2].to_owned()).collect()
    }

    #[test]
    fn each_rollback_goes_further_back() {
        let mut log = vec![version(1, "pull"), version(2, "pull"), version(3, "pull")];
        assert_eq!(bytes(&undo_order(&log)), ["03", "02", "01"]);
        let back = |log: &[Version], steps: &str| find(log, Some(target(0).digest), steps).map(|d| d.digest);
        assert_eq!(back(&log, "1"), Some(target(2).digest));
        log.push(version(2, "rollback"));
        assert_eq!(back(&log, "1"), Some(target(1).digest), "not to where it came from");
        log.push(version(4, "pull"));
        assert_eq!(bytes(&undo_order(&log)), ["04", "02", "01"]);
        assert_eq!(back(&log, "2"), Some(target(1).digest));
        assert_eq!((back(&log, "3"), back(&log, "0")), (None, None));
        // What was rolled away is found by its id.
        assert_eq!(back(&log, "0303"), Some(target(3).digest));
        assert_eq!(back(&log, "sha256:0404040404"), Some(target(4).digest));
        assert_eq!(back(&log, "ffff"), None);
        // A name that is gone goes back to what it was.
        log.push(Version { target: None, at_ns: 0, how: "untag".to_owned() });
        assert_eq!(find(&log, None, "1").map(|d| d.digest), Some(target(4).digest));
    }

    #[test]
    fn old_versions_are_dropped_and_the_present_is_where_it_begins() {
        let versions = Versions::read(&[("bad".to_owned(), "{".to_owned())], 3);
        let first = versions.changed("a", Some((&target(1), 7)), version(2, "pull")).unwrap();
        versions.keep(vec![first]);
        let list = versions.of("a");
        assert_eq!((list.len(), list[0].how.as_str(), list[0].at_ns), (2, "before", 7));
        for byte in 3..9 {
            let next = versions.changed("a", Some((&target(1), 7)), version(byte, "pull")).unwrap();
            versions.keep(vec![next]);
        }
        assert_eq!(bytes(&undo_order(&versions.of("a"))), ["08", "07", "06"]);
        assert!(versions.of("bad").is_empty());
    }
}
