//! Directories that steps keep between builds (`RUN --mount=type=cache`): by name, with who may use them at a time.

use std::collections::HashMap;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use buildkit::wire::llb::CacheSharingOpt;
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;

use crate::error::{Error, Result};

/// All of them.
#[derive(Debug)]
pub struct Caches {
    path: PathBuf,
    locks: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
}

/// A directory for one step.
#[derive(Debug)]
pub(super) struct Cache {
    pub path: PathBuf,
    /// Nobody else has it meanwhile.
    _lock: Option<OwnedMutexGuard<()>>,
}

impl Caches {
    /// Those below a directory, which is made when it is missing.
    ///
    /// # Errors
    /// That of the file system.
    pub fn open(path: &Path) -> Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| Error::io(format_args!("cannot make {}", path.display()), e))?;
        Ok(Self { path: path.to_owned(), locks: Mutex::default() })
    }

    /// The directory of a name; a new one if it is new. `filled` is called for a new one, to put in what it begins with.
    pub(super) async fn take(
        &self,
        id: &str,
        sharing: CacheSharingOpt,
        filled: impl Fn(&Path) -> Result<()>,
    ) -> Result<Cache> {
        let name = faster_hex::hex_string(&Sha256::digest(id.as_bytes()));
        for number in 0.. {
            let path = self.path.join(format!("{name}-{number}"));
            let lock = {
                let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(locks.entry(path.clone()).or_default())
            };
            let lock = match sharing {
                CacheSharingOpt::Shared => None,
                CacheSharingOpt::Locked => Some(lock.lock_owned().await),
                CacheSharingOpt::Private => match lock.try_lock_owned() {
                    Ok(lock) => Some(lock),
                    Err(_) => continue,
                },
            };
            if !path.exists() {
                self.make(&path, &filled)?;
            }
            return Ok(Cache { path, _lock: lock });
        }
        Err(Error::io("a cache", "there are too many of them"))
    }

    fn make(&self, path: &Path, filled: &impl Fn(&Path) -> Result<()>) -> Result<()> {
        let fail = |e: std::io::Error| Error::io(format_args!("cannot make the cache {}", path.display()), e);
        let new = self.path.join(format!(".new-{}", crate::random::name()?));
        std::fs::DirBuilder::new().mode(0o755).create(&new).map_err(fail)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).map_err(fail)?;
        filled(&new)?;
        match std::fs::rename(&new, path) {
            // Somebody was faster.
            Err(_) if path.exists() => crate::tree::remove(&new).map_err(fail),
            other => other.map_err(fail),
        }
    }
}
