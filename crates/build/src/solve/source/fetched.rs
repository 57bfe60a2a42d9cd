//! What was fetched and may be wanted again: trees by what they were fetched from. They go with the daemon, or when others
//! come; steps made of them stay, since those are known by content.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::solve::Outcome;
use crate::tree::{Directory, Tree};

/// Most trees that wait to be wanted again.
const KEPT: usize = 64;

/// Trees by their keys, the latest last.
#[derive(Debug, Default)]
pub struct FetchedTrees {
    kept: Mutex<Vec<(String, Fetched)>>,
    /// Whoever fetches from a place has it alone meanwhile.
    turns: Mutex<Vec<(String, std::sync::Weak<tokio::sync::Mutex<()>>)>>,
}

/// A tree with what its origin said of it.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    /// The files.
    pub(super) files: Arc<Directory>,
    /// What it is known by.
    pub(super) key: String,
    /// The digest of a file; empty for a repository.
    pub(super) digest: String,
    /// `ETag` and `Last-Modified` of what came over HTTP.
    pub(super) validators: (Option<String>, Option<String>),
}

impl From<Fetched> for Outcome {
    fn from(fetched: Fetched) -> Self {
        let tree = Tree::files(fetched.files);
        Self { key: fetched.key, stable: true, outputs: vec![Some(tree)], cached: false }
    }
}

impl FetchedTrees {
    /// What was fetched under a key.
    pub(super) fn find(&self, key: &str) -> Option<Fetched> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|(known, _)| known == key)?;
        let found = kept.remove(place);
        let fetched = found.1.clone();
        kept.push(found);
        Some(fetched)
    }

    /// Keeps something.
    pub(super) fn put(&self, key: String, fetched: Fetched) {
        let gone = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|(known, _)| *known != key);
            kept.push((key, fetched));
            (kept.len() > KEPT).then(|| kept.remove(0))
        };
        drop(gone);
    }

    /// Lets go of all; what builds use stays until they end. `idle` is called unless somebody has a turn, and nobody gets
    /// one meanwhile.
    ///
    /// # Errors
    /// Those of `idle`.
    pub fn clear(&self, idle: impl FnOnce() -> Result<()>) -> Result<()> {
        let gone = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        drop(gone);
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|(_, lock)| lock.strong_count() > 0);
        if turns.is_empty() { idle() } else { Ok(()) }
    }

    /// A turn at a place.
    pub(super) async fn turn(&self, place: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|(_, lock)| lock.strong_count() > 0);
            match turns.iter().find(|(known, _)| known == place).and_then(|(_, lock)| lock.upgrade()) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::default();
                    turns.push((place.to_owned(), Arc::downgrade(&lock)));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}
