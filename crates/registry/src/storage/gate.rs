//! The gate between requests that link to content and the collector that removes what nothing links to.
//!
//! The invariant: content that a request has found or linked while a collection runs is not removed by that
//! collection. Requests enter shared and name what they rely on; the collector removes each piece alone, exclusively,
//! and leaves what was named.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use types::Digest;

/// See the file's paragraph.
#[derive(Debug, Default)]
pub(crate) struct Gate(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    collecting: bool,
    relied_on: Mutex<HashSet<Digest>>,
}

/// Held by a request while it links.
#[derive(Debug)]
pub(crate) struct Entered<'a>(RwLockReadGuard<'a, State>);

/// A collection in progress; ends when dropped.
#[derive(Debug)]
pub(crate) struct Collection<'a>(&'a Gate);

impl Gate {
    pub(crate) fn enter(&self) -> Entered<'_> {
        Entered(self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a collection; nothing when one runs.
    pub(crate) fn collect(&self) -> Option<Collection<'_>> {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if state.collecting {
            return None;
        }
        state.collecting = true;
        state.relied_on = Mutex::default();
        Some(Collection(self))
    }
}

impl Entered<'_> {
    /// Keeps a running collection from removing this content or links to it.
    pub(crate) fn rely_on(&self, digest: &Digest) {
        if self.0.collecting {
            self.0.relied_on.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest);
        }
    }
}

impl Collection<'_> {
    /// Runs `remove` while no request is inside, unless one relied on the content since the collection began.
    pub(crate) fn remove<T>(&self, digest: &Digest, remove: impl FnOnce() -> T) -> Option<T> {
        let state = self.0.0.write().unwrap_or_else(PoisonError::into_inner);
        let relied_on = state.relied_on.lock().unwrap_or_else(PoisonError::into_inner).contains(digest);
        (!relied_on).then(remove)
    }

    /// Runs `work` while no request is inside.
    pub(crate) fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        let _state = self.0.0.write().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}

impl Drop for Collection<'_> {
    fn drop(&mut self) {
        let mut state = self.0.0.write().unwrap_or_else(PoisonError::into_inner);
        state.collecting = false;
        state.relied_on = Mutex::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_requests_rely_on_stays() {
        let gate = Gate::default();
        let (kept, gone) = (Digest::sha256([1; 32]), Digest::sha256([2; 32]));
        gate.enter().rely_on(&gone);
        let collection = gate.collect().unwrap();
        assert!(gate.collect().is_none(), "one at a time");
        gate.enter().rely_on(&kept);
        assert_eq!(collection.remove(&kept, || 1), None);
        assert_eq!(collection.remove(&gone, || 1), Some(1));
        drop(collection);
        assert_eq!(gate.collect().unwrap().remove(&kept, || 1), Some(1));
    }
}
