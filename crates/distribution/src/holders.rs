//! Which repositories are known to hold which blobs, so that a push to another repository of the same
//! registry mounts them instead of sending them (distribution-spec 1.1, "Mounting a blob from another
//! repository"). Filled by pulls and pushes; what it says may be out of date, and a mount then fails.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use types::Digest;

/// Blobs remembered.
const KEPT_MAX: usize = 1 << 15;

/// The last repository of each registry a blob was seen in.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    known: Mutex<HashMap<(String, Digest), String>>,
}

impl Holders {
    /// Notes that a repository has a blob.
    pub(crate) fn note(&self, domain: &str, path: &str, digest: Digest) {
        let mut known = self.lock();
        if known.len() >= KEPT_MAX {
            known.clear();
        }
        known.insert((domain.to_owned(), digest), path.to_owned());
    }

    /// Where a blob was seen.
    pub(crate) fn of(&self, domain: &str, digest: &Digest) -> Vec<String> {
        self.lock().get(&(domain.to_owned(), *digest)).cloned().into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, Digest), String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
