//! Directories of files that clients sent, kept for their next build: only what changed is sent again.
//!
//! A directory belongs to one build at a time. Two builds of the same context at once have one each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::receive::Index;
use crate::error::Result;
use crate::tree::Work;

/// Most directories that wait for another build.
const KEPT: usize = 32;

/// Directories that wait for another build.
#[derive(Debug)]
pub struct Pool {
    work: Arc<Work>,
    waiting: Mutex<Vec<(String, Held)>>,
}

/// A directory with what is known of it.
#[derive(Debug)]
pub(super) struct Held {
    pub path: PathBuf,
    pub index: Index,
}

impl Pool {
    /// An empty pool; directories are made below `work`.
    ///
    /// # Errors
    /// That of the file system.
    pub fn new(work: &Path) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { work: Work::new(work)?, waiting: Mutex::default() }))
    }

    /// A directory for the files of `key`, with what it has of them already.
    pub(super) fn take(&self, key: &str) -> Result<Held> {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = waiting.iter().rposition(|(known, _)| known == key) {
                return Ok(waiting.remove(place).1);
            }
        }
        Ok(Held { path: self.work.directory()?, index: Index::default() })
    }

    /// Gives a directory back.
    pub(super) fn put(&self, key: String, held: Held) {
        let gone = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push((key, held));
            if waiting.len() > KEPT { Some(waiting.remove(0)) } else { None }
        };
        if let Some((_, held)) = gone {
            discard(&held.path);
        }
    }

    /// Forgets what waits.
    pub fn clear(&self) -> u64 {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let mut bytes = 0;
        for (_, held) in waiting {
            bytes += held.index.bytes();
            discard(&held.path);
        }
        bytes
    }

    /// Bytes of what waits, by directory.
    pub fn usage(&self) -> HashMap<String, u64> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.iter().map(|(_, held)| (held.path.display().to_string(), held.index.bytes())).collect()
    }
}

pub(super) fn discard(path: &Path) {
    if let Err(error) = crate::tree::remove(path) {
        tracing::warn!(path = %path.display(), %error, "files of a client stay until the next start");
    }
}
