//! Directories of work in progress: one for each build, removed with it, and in it one for each change.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use store::Ingest;
use sys::path::Root;

use super::{Stored, Tree};
use crate::error::{Error, Result};

/// The directory of one build.
#[derive(Debug)]
pub struct Work {
    path: PathBuf,
    next: AtomicUsize,
}

impl Work {
    /// A new directory below `parent`.
    ///
    /// # Errors
    /// That of the file system.
    pub fn new(parent: &Path) -> Result<Arc<Self>> {
        let path = parent.join(crate::random::name()?);
        make(&path, 0o700)?;
        Ok(Arc::new(Self { path, next: AtomicUsize::new(0) }))
    }

    /// A place for the changes of one step on `tree`.
    ///
    /// # Errors
    /// That of the file system.
    pub fn change(self: &Arc<Self>, tree: &Tree, store: &store::Store) -> Result<Arc<Change>> {
        let path = self.directory()?;
        let change = Change { path, made: Mutex::default(), created_ns: now_ns(), _work: Arc::clone(self) };
        make(&change.upper(), 0o755)?;
        make(&change.work(), 0o700)?;
        if let Some(stat) = tree.top(store)? {
            let fail = |e: std::io::Error| Error::io("cannot prepare a step's directory", e);
            std::os::unix::fs::chown(change.upper(), Some(stat.st_uid), Some(stat.st_gid)).map_err(fail)?;
            fs::set_permissions(change.upper(), fs::Permissions::from_mode(stat.st_mode & 0o7777)).map_err(fail)?;
        }
        Ok(Arc::new(change))
    }

    /// An empty directory of its own. Steps of every user may look into it where it is mounted; here nobody gets to it.
    ///
    /// # Errors
    /// That of the file system.
    pub fn directory(&self) -> Result<PathBuf> {
        let path = self.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        make(&path, 0o755)?;
        Ok(path)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        let removal = move || {
            if let Err(error) = remove(&path) {
                tracing::warn!(path = %path.display(), %error, "the directory of a build stays until the next start");
            }
        };
        // A large tree takes a while, and the last who has it may be a thread that others wait for.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(removal)),
            Err(_) => removal(),
        }
    }
}

/// What one step changed.
#[derive(Debug)]
pub struct Change {
    path: PathBuf,
    made: Mutex<Option<Stored>>,
    created_ns: i64,
    _work: Arc<Work>,
}

impl Change {
    /// The changes, as overlayfs keeps them.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }

    /// The kernel's scratch directory.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// The changes as a layer, made at the first call. Blocking.
    ///
    /// # Errors
    /// Those of making layers.
    pub fn store(&self, ingest: &Ingest) -> Result<Stored> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layer) = &*made {
            return Ok(layer.clone());
        }
        let layer = layer(ingest, &self.upper(), Some(self.created_ns))?;
        *made = Some(layer.clone());
        Ok(layer)
    }
}

/// Files as a layer.
pub(super) fn store_files(ingest: &Ingest, path: &Path) -> Result<Stored> {
    layer(ingest, path, Some(now_ns()))
}

fn layer(ingest: &Ingest, path: &Path, created_ns: Option<i64>) -> Result<Stored> {
    let root = Root::open(path).map_err(|e| Error::io("cannot open a step's changes", e))?;
    let info = store::image::commit_layer(ingest, &root)?;
    Ok(Stored { diff_id: info.diff_id, blob: info.descriptor(), created_ns })
}

fn make(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|e| Error::io(format_args!("cannot make the directory {}", path.display()), e))
}

/// Removes a tree that steps filled, whatever is in it.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    match Root::open(parent)?.dir()?.remove_tree(name) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Now, in nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
