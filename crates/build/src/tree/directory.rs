//! A directory of files that came from elsewhere: an archive in a request, an address, a repository. It goes with whoever
//! uses it last.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Stat;

use super::{Files, Work};
use crate::error::Result;
use crate::file::ContentDigests;

/// The directory.
#[derive(Debug)]
pub struct Directory {
    top: PathBuf,
    digests: Mutex<HashMap<PathBuf, [u8; 32]>>,
    _work: Arc<Work>,
}

impl Directory {
    /// An empty directory below `parent`, to be filled before anybody reads it.
    ///
    /// # Errors
    /// That of the file system.
    pub fn new(parent: &Path) -> Result<Self> {
        let work = Work::new(parent)?;
        Ok(Self { top: work.directory()?, digests: Mutex::default(), _work: work })
    }

    /// The same with nothing shown but what is below a directory in it.
    #[must_use]
    pub fn showing(self, top: PathBuf) -> Self {
        Self { top, ..self }
    }
}

impl Files for Directory {
    fn path(&self) -> &Path {
        &self.top
    }

    fn digests(&self) -> &dyn ContentDigests {
        self
    }
}

/// Nobody writes to it any more, so what was read once stays true.
impl ContentDigests for Directory {
    fn known(&self, path: &Path, _: &Stat) -> Option<[u8; 32]> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied()
    }

    fn learnt(&self, path: &Path, _: &Stat, digest: [u8; 32]) {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), digest);
    }
}
