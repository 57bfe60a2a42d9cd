//! Directories that steps keep between builds (`RUN --mount=type=cache`): by name, with who may use them at a time.
//!
//! Beside each is a document that says what it is. It is written when a step has used it, without haste: what a crash takes
//! of it is when it was used last.

use std::collections::HashMap;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buildkit::wire::llb::CacheSharingOpt;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;

use crate::error::{Error, Result};
use crate::kept::{self, Usage, kind};
use crate::tree;

/// Largest document, in bytes.
const MAX_DOCUMENT: u64 = 1 << 20;

/// All of them.
#[derive(Debug)]
pub struct Caches {
    path: PathBuf,
    /// By the names of their directories.
    all: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    about: About,
    /// Its directory is there.
    made: bool,
    /// Steps that have it, or wait for it.
    users: usize,
    /// Bytes on the disk, while nobody has changed them.
    size: Option<u64>,
    /// For whoever wants it alone.
    lock: Arc<tokio::sync::Mutex<()>>,
}

/// What a directory is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct About {
    /// What definitions call it.
    id: String,
    description: String,
    created_ns: i64,
    used_ns: i64,
    uses: u64,
}

/// A directory for one step.
#[derive(Debug)]
pub(super) struct Cache {
    pub path: PathBuf,
    /// Nobody else has it meanwhile.
    _lock: Option<OwnedMutexGuard<()>>,
    _user: User,
}

/// A directory that is read.
pub(crate) struct Kept {
    pub id: String,
    pub path: PathBuf,
    _user: User,
}

/// Somebody has a directory, or waits for it: it is not removed.
#[derive(Debug)]
struct User {
    caches: Arc<Caches>,
    name: String,
    used: bool,
}

impl Caches {
    /// Those below a directory, which is made when it is missing.
    ///
    /// # Errors
    /// That of the file system.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        let fail = |e: std::io::Error| Error::io(format_args!("cannot read {}", path.display()), e);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| Error::io(format_args!("cannot make {}", path.display()), e))?;
        let mut all = HashMap::new();
        for entry in std::fs::read_dir(path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let orphan = name.strip_suffix(".json").is_some_and(|directory| !path.join(directory).exists());
            if name.starts_with('.') || orphan {
                // Half made or half removed when an earlier engine ended.
                tree::remove(&entry.path()).map_err(fail)?;
            } else if entry.file_type().map_err(fail)?.is_dir() {
                let about = About::read(path, &name);
                all.insert(name, Entry { about, made: true, ..Entry::default() });
            }
        }
        Ok(Arc::new(Self { path: path.to_owned(), all: Mutex::new(all) }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory of a name; a new one if it is new. `filled` is called for a new one, to put in what it begins with.
    pub(super) async fn take(
        self: &Arc<Self>,
        id: &str,
        sharing: CacheSharingOpt,
        description: &str,
        filled: impl FnOnce(&Path) -> Result<()> + Send + 'static,
    ) -> Result<Cache> {
        let hash = faster_hex::hex_string(&Sha256::digest(id.as_bytes()));
        for number in 0.. {
            let name = format!("{hash}-{number}");
            let path = self.path.join(&name);
            let lock = {
                let mut all = self.lock();
                let entry = all.entry(name.clone()).or_default();
                entry.users += 1;
                Arc::clone(&entry.lock)
            };
            let mut user = User { caches: Arc::clone(self), name, used: false };
            let lock = match sharing {
                CacheSharingOpt::Shared => None,
                CacheSharingOpt::Locked => Some(lock.lock_owned().await),
                CacheSharingOpt::Private => match lock.try_lock_owned() {
                    Ok(lock) => Some(lock),
                    Err(_) => continue,
                },
            };
            let (caches, id, description) = (Arc::clone(self), id.to_owned(), description.to_owned());
            // What it begins with may be large. Whoever gives up meanwhile leaves a whole one.
            return super::exec::blocking(move || {
                if !path.exists() {
                    caches.make(&path, filled)?;
                }
                user.begin(&id, &description);
                Ok(Cache { path, _lock: lock, _user: user })
            })
            .await;
        }
        Err(Error::io("a cache", "there are too many of them"))
    }

    fn make(&self, path: &Path, filled: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let fail = |e: std::io::Error| Error::io(format_args!("cannot make the cache {}", path.display()), e);
        let new = self.path.join(format!(".new-{}", crate::random::name()?));
        std::fs::DirBuilder::new().mode(0o755).create(&new).map_err(fail)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).map_err(fail)?;
        filled(&new)?;
        match std::fs::rename(&new, path) {
            // Somebody was faster.
            Err(_) if path.exists() => tree::remove(&new).map_err(fail),
            other => other.map_err(fail),
        }
    }

    /// Whether there is a directory of a name.
    pub(super) fn has(&self, id: &str) -> bool {
        let hash = faster_hex::hex_string(&Sha256::digest(id.as_bytes()));
        self.lock().get(&format!("{hash}-0")).is_some_and(|entry| entry.made)
    }

    /// The directories of the names that are wanted, one of each. They stay as long as what is given.
    pub(crate) fn existing(self: &Arc<Self>, wanted: impl Fn(&str) -> bool) -> Vec<Kept> {
        let mut all = self.lock();
        let made = all.iter_mut().filter(|(name, entry)| entry.made && name.ends_with("-0") && wanted(&entry.about.id));
        made.map(|(name, entry)| {
            entry.users += 1;
            let user = User { caches: Arc::clone(self), name: name.clone(), used: false };
            Kept { id: entry.about.id.clone(), path: self.path.join(name), _user: user }
        })
        .collect()
    }

    /// What they take up. Blocking: those that were used since the last time are read.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let names: Vec<String> = {
            let all = self.lock();
            all.iter().filter(|(_, entry)| entry.made).map(|(name, _)| name.clone()).collect()
        };
        let usage = names.into_iter().filter_map(|name| {
            let known = self.lock().get(&name)?.size;
            let size = known.unwrap_or_else(|| kept::of_tree(&self.path.join(&name)));
            let mut all = self.lock();
            let entry = all.get_mut(&name).filter(|entry| entry.made)?;
            if entry.users == 0 && known.is_none() {
                entry.size = Some(size);
            }
            Some(Usage {
                kind: kind::CACHE.to_owned(),
                description: entry.about.description.clone(),
                size,
                created_ns: entry.about.created_ns,
                used_ns: entry.about.used_ns,
                uses: entry.about.uses,
                in_use: entry.users > 0,
                mutable: true,
                id: name,
                ..Usage::default()
            })
        });
        usage.collect()
    }

    /// Removes directories that nobody has; gives those that are gone. Blocking.
    pub(crate) fn remove(&self, names: &[String]) -> Vec<String> {
        let mut gone = Vec::new();
        for name in names {
            let Ok(new) = crate::random::name() else { continue };
            let aside = self.path.join(format!(".gone-{new}"));
            {
                let mut all = self.lock();
                if all.get(name).is_none_or(|entry| entry.users > 0) {
                    continue;
                }
                if let Err(error) = std::fs::rename(self.path.join(name), &aside) {
                    tracing::warn!(cache = name, %error, "a cache cannot be removed");
                    continue;
                }
                all.remove(name);
                // One that is made meanwhile has a document of its own only once it was used.
                let _ = std::fs::remove_file(About::path(&self.path, name));
            }
            if let Err(error) = tree::remove(&aside) {
                tracing::warn!(cache = name, %error, "what was in a cache stays until the next start");
            }
            gone.push(name.clone());
        }
        gone
    }
}

impl User {
    /// The step begins.
    fn begin(&mut self, id: &str, description: &str) {
        let now = tree::now_ns();
        let mut all = self.caches.lock();
        let entry = all.entry(self.name.clone()).or_default();
        if !entry.made {
            entry.made = true;
            entry.about.created_ns = now;
        }
        id.clone_into(&mut entry.about.id);
        if entry.about.description.is_empty() {
            description.clone_into(&mut entry.about.description);
        }
        entry.about.used_ns = now;
        entry.about.uses += 1;
        self.used = true;
    }
}

impl Drop for User {
    fn drop(&mut self) {
        {
            let mut all = self.caches.lock();
            let Some(entry) = all.get_mut(&self.name) else { return };
            entry.users = entry.users.saturating_sub(1);
            if !entry.made && entry.users == 0 {
                all.remove(&self.name);
                return;
            }
            if !self.used {
                return;
            }
            entry.size = None;
            entry.about.used_ns = tree::now_ns();
        }
        let (caches, name) = (Arc::clone(&self.caches), std::mem::take(&mut self.name));
        let writing = move || {
            // Under the lock: what was removed meanwhile gets no document.
            let all = caches.lock();
            let Some(entry) = all.get(&name) else { return };
            if let Err(error) = entry.about.write(&caches.path, &name) {
                tracing::warn!(cache = name, %error, "when a cache was used is not kept");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(writing)),
            Err(_) => writing(),
        }
    }
}

impl About {
    fn path(caches: &Path, name: &str) -> PathBuf {
        caches.join(format!("{name}.json"))
    }

    /// What the document says; what the directory itself shows if there is none.
    fn read(caches: &Path, name: &str) -> Self {
        let path = Self::path(caches, name);
        let small = std::fs::metadata(&path).is_ok_and(|found| found.len() <= MAX_DOCUMENT);
        let read = small.then(|| std::fs::read(&path).ok()).flatten();
        if let Some(about) = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return about;
        }
        let time = std::fs::metadata(caches.join(name)).and_then(|found| found.modified()).ok();
        let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
        let ns = i64::try_from(since.as_nanos()).unwrap_or(0);
        Self { description: "cached mount".to_owned(), created_ns: ns, used_ns: ns, ..Self::default() }
    }

    fn write(&self, caches: &Path, name: &str) -> Result<()> {
        let fail = |e: std::io::Error| Error::io("cannot write what a cache is", e);
        let bytes = serde_json::to_vec(self).map_err(|e| Error::io("cannot encode what a cache is", e))?;
        let new = caches.join(format!(".about-{}", crate::random::name()?));
        std::fs::write(&new, bytes).map_err(fail)?;
        std::fs::rename(&new, Self::path(caches, name)).map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_in_use_stays_and_what_is_known_outlives_the_engine() {
        let dir = tempfile::tempdir().unwrap();
        let caches = Caches::open(dir.path()).unwrap();
        let take = |caches: &Arc<Caches>, sharing| {
            let caches = Arc::clone(caches);
            async move { caches.take("npm", sharing, "cached mount /npm from exec npm ci", |_| Ok(())).await.unwrap() }
        };
        let first = take(&caches, CacheSharingOpt::Private).await;
        let second = take(&caches, CacheSharingOpt::Private).await;
        assert_ne!(first.path, second.path);
        std::fs::write(first.path.join("file"), vec![1; 100_000]).unwrap();
        let usage = caches.usage();
        let ids: Vec<String> = usage.iter().map(|usage| usage.id.clone()).collect();
        assert!(usage.len() == 2 && usage.iter().all(|usage| usage.in_use && usage.mutable));
        assert!(caches.remove(&ids).is_empty());
        drop(second);
        assert_eq!(caches.remove(&ids).len(), 1);
        assert!(first.path.join("file").exists());
        drop(first);
        // The document is written beside.
        let document = || std::fs::read_dir(dir.path()).unwrap().any(|e| e.unwrap().path().extension().is_some());
        while !document() {
            tokio::task::yield_now().await;
        }
        let again = Caches::open(dir.path()).unwrap();
        let usage = again.usage();
        assert_eq!(usage.len(), 1);
        assert_eq!((usage[0].uses, usage[0].description.as_str()), (1, "cached mount /npm from exec npm ci"));
        assert!(!usage[0].in_use && usage[0].size >= 100_000);
        assert_eq!(again.remove(&[usage[0].id.clone()]).len(), 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
