//! Uploads that were begun and not ended: a push that failed or was given up goes on where it stopped.
//!
//! Kept in memory, for as long as registries commonly keep theirs. A session that the registry has dropped
//! costs one request.

use crate::origin::{Origin, Url};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use types::Digest;

/// Sessions kept.
const KEPT_MAX: usize = 1024;
/// How long one is kept after its last use.
const KEPT_FOR: Duration = Duration::from_secs(12 * 3600);

type Key = (Origin, String, Digest);

/// Begun uploads by registry, repository and blob.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    known: Mutex<HashMap<Key, (Url, Instant)>>,
}

impl Sessions {
    /// Where the upload of a blob goes on.
    pub(crate) fn find(&self, origin: &Origin, path: &str, digest: &Digest) -> Option<Url> {
        let key = (origin.clone(), path.to_owned(), *digest);
        self.lock().get(&key).filter(|(_, at)| at.elapsed() < KEPT_FOR).map(|(url, _)| url.clone())
    }

    /// Remembers where it goes on.
    pub(crate) fn remember(&self, origin: &Origin, path: &str, digest: Digest, location: Url) {
        let mut known = self.lock();
        if known.len() >= KEPT_MAX {
            known.retain(|_, (_, at)| at.elapsed() < KEPT_FOR);
            if known.len() >= KEPT_MAX
                && let Some(oldest) = known.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| key.clone())
            {
                known.remove(&oldest);
            }
        }
        known.insert((origin.clone(), path.to_owned(), digest), (location, Instant::now()));
    }

    /// The upload has ended.
    pub(crate) fn forget(&self, origin: &Origin, path: &str, digest: &Digest) {
        self.lock().remove(&(origin.clone(), path.to_owned(), *digest));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (Url, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
