//! Directories of files that clients sent, kept for their next build: only what changed is sent again.
//!
//! A directory belongs to one build at a time. Two builds of the same context at once have one each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::receive::Index;
use crate::error::Result;
use crate::kept::{self, Usage, kind};
use crate::tree::{self, Work};

/// Most directories that wait for another build.
const KEPT: usize = 32;

/// Directories that wait for another build.
#[derive(Debug)]
pub struct Pool {
    work: Arc<Work>,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    /// By what they are for, the one that was used last at the end.
    waiting: Vec<(String, Held)>,
    /// Those that builds have, by their ids.
    taken: HashMap<String, About>,
}

/// A directory with what is known of it.
#[derive(Debug)]
pub(super) struct Held {
    pub path: PathBuf,
    pub index: Index,
    about: About,
    /// Bytes on the disk, once somebody asked.
    size: Option<u64>,
    claim: Claim,
}

/// That a build has a directory. What is not given back is removed: nobody knows any more what is in it.
#[derive(Debug, Default)]
struct Claim(Option<(Weak<Pool>, String, PathBuf)>);

impl Drop for Claim {
    fn drop(&mut self) {
        let Some((pool, id, path)) = self.0.take() else { return };
        if let Some(pool) = pool.upgrade() {
            pool.lock().taken.remove(&id);
        }
        discard(&path);
    }
}

#[derive(Clone, Debug, Default)]
struct About {
    id: String,
    description: String,
    created_ns: i64,
    used_ns: i64,
    uses: u64,
}

impl Pool {
    /// An empty pool; directories are made below `work`.
    ///
    /// # Errors
    /// That of the file system.
    pub fn new(work: &Path) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { work: Work::new(work)?, all: Mutex::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A directory for the files of `key`, with what it has of them already. The client calls them `name`.
    pub(super) fn take(self: &Arc<Self>, key: &str, name: &str) -> Result<Held> {
        let now = tree::now_ns();
        let mut all = self.lock();
        let mut held = match all.waiting.iter().rposition(|(known, _)| known == key) {
            Some(place) => all.waiting.remove(place).1,
            None => {
                let about = About {
                    id: crate::random::name()?,
                    description: format!("local source for {name}"),
                    created_ns: now,
                    used_ns: now,
                    uses: 0,
                };
                let path = self.work.directory()?;
                Held { path, index: Index::default(), about, size: None, claim: Claim::default() }
            }
        };
        held.about.used_ns = now;
        held.about.uses += 1;
        held.size = None;
        all.taken.insert(held.about.id.clone(), held.about.clone());
        held.claim = Claim(Some((Arc::downgrade(self), held.about.id.clone(), held.path.clone())));
        Ok(held)
    }

    /// Gives a directory back.
    pub(super) fn put(&self, key: String, mut held: Held) {
        let gone = {
            held.claim.0 = None;
            let mut all = self.lock();
            all.taken.remove(&held.about.id);
            held.about.used_ns = tree::now_ns();
            all.waiting.push((key, held));
            if all.waiting.len() > KEPT { Some(all.waiting.remove(0)) } else { None }
        };
        if let Some((_, held)) = gone {
            discard(&held.path);
        }
    }

    /// Removes directories that no build has; gives those that are gone. Blocking.
    pub(crate) fn remove(&self, ids: &[String]) -> Vec<String> {
        let gone: Vec<Held> = {
            let mut all = self.lock();
            let (gone, left) =
                std::mem::take(&mut all.waiting).into_iter().partition(|(_, held)| ids.contains(&held.about.id));
            all.waiting = left;
            gone.into_iter().map(|(_, held): (String, Held)| held).collect()
        };
        gone.into_iter()
            .map(|held| {
                discard(&held.path);
                held.about.id
            })
            .collect()
    }

    /// What they take up. Blocking: those that were used since the last time are read.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let (mut unread, mut usage) = (Vec::new(), Vec::new());
        {
            let all = self.lock();
            // What is being written has no size yet.
            usage.extend(all.taken.values().map(|about| about.usage(0, true)));
            for (_, held) in &all.waiting {
                match held.size {
                    Some(size) => usage.push(held.about.usage(size, false)),
                    None => unread.push((held.about.clone(), held.path.clone())),
                }
            }
        }
        for (about, path) in unread {
            let size = kept::of_tree(&path);
            let mut all = self.lock();
            let held =
                all.waiting.iter_mut().find(|(_, held)| held.about.id == about.id && held.about.uses == about.uses);
            if let Some((_, held)) = held {
                held.size = Some(size);
            }
            usage.push(about.usage(size, false));
        }
        usage
    }
}

impl Held {
    #[cfg(test)]
    pub(super) fn at(path: &Path) -> Self {
        let (path, index, about) = (path.to_owned(), Index::default(), About::default());
        Self { path, index, about, size: None, claim: Claim::default() }
    }
}

impl About {
    fn usage(&self, size: u64, in_use: bool) -> Usage {
        Usage {
            id: self.id.clone(),
            kind: kind::LOCAL.to_owned(),
            description: self.description.clone(),
            size,
            created_ns: self.created_ns,
            used_ns: self.used_ns,
            uses: self.uses,
            in_use,
            mutable: true,
            ..Usage::default()
        }
    }
}

fn discard(path: &Path) {
    if let Err(error) = tree::remove(path) {
        tracing::warn!(path = %path.display(), %error, "files of a client stay until the next start");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_has_stays() {
        let dir = tempfile::tempdir().unwrap();
        let pool = Pool::new(dir.path()).unwrap();
        let held = pool.take("key", "context").unwrap();
        let (id, path) = (held.about.id.clone(), held.path.clone());
        assert!(pool.usage()[0].in_use);
        assert!(pool.remove(std::slice::from_ref(&id)).is_empty());
        std::fs::write(path.join("file"), vec![1; 100_000]).unwrap();
        pool.put("key".into(), held);
        let usage = pool.usage();
        assert!(usage.len() == 1 && !usage[0].in_use && usage[0].size >= 100_000);
        assert_eq!(usage[0].description, "local source for context");
        let again = pool.take("key", "context").unwrap();
        assert_eq!((again.about.id.as_str(), again.path.as_path()), (id.as_str(), path.as_path()));
        pool.put("key".into(), again);
        assert_eq!(pool.usage()[0].uses, 2);
        assert_eq!(pool.remove(&[id]).len(), 1);
        assert!(!path.exists() && pool.usage().is_empty());
    }

    #[test]
    fn what_is_not_given_back_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let pool = Pool::new(dir.path()).unwrap();
        let held = pool.take("key", "context").unwrap();
        let path = held.path.clone();
        drop(held);
        assert!(!path.exists() && pool.usage().is_empty());
    }
}
