//! Results of steps: a stack of layers. Those that are new are directories of changes, as the kernel's overlay left them, and
//! the next step stacks on them at once; they become layers of the store beside that, while the build goes on.

mod difference;
mod directory;
mod work;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use store::model::Descriptor;
use store::overlay::{Lower, Overlay, Upper};
use store::{Ingest, Store};
use sys::path::Root;
use types::DiffId;

pub use directory::Directory;
pub use work::{Change, Work};
pub(crate) use work::{now_ns, remove};

use crate::error::{Error, Result};

/// Most layers of what is merged: more than the kernel stacks, so that what is merged with itself again and again ends.
const MAX_LAYERS: usize = 1000;

/// A layer that is in the store, or will be with the build's content.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Digest of its archive, uncompressed.
    pub diff_id: DiffId,
    /// Its blob, as a manifest names it.
    pub blob: Descriptor,
    /// When it was made, in nanoseconds since 1970; none of a base image, the history of which says it.
    pub created_ns: Option<i64>,
}

/// A layer of a tree.
#[derive(Clone, Debug)]
pub enum Part {
    /// In the store.
    Stored(Arc<Stored>),
    /// Made by this build.
    Change(Arc<Change>),
    /// Files that a client sent, or that were fetched: a plain directory.
    Files(Arc<dyn Files>),
}

/// A directory that somebody keeps for as long as it is used.
pub trait Files: Send + Sync + std::fmt::Debug {
    /// Where it is.
    fn path(&self) -> &std::path::Path;

    /// Digests of what is in it, as far as they are known.
    fn digests(&self) -> &dyn crate::file::ContentDigests;

    /// The digest of a selection that was given to `remember` since the files changed.
    fn remembered(&self, _selection: &str) -> Option<[u8; 32]> {
        None
    }

    /// Remembers the digest of a selection.
    fn remember(&self, _selection: String, _digest: [u8; 32]) {}
}

/// A tree: layers, lowest first. None is an empty tree.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    parts: Arc<Vec<Part>>,
    /// Keeps a base image from collection.
    leases: Vec<Lease>,
}

#[derive(Clone)]
struct Lease(#[allow(dead_code, reason = "held, not read")] Arc<dyn Send + Sync>);

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lease")
    }
}

impl Tree {
    /// A tree of stored layers.
    #[must_use]
    pub fn stored(layers: Vec<Stored>, lease: Option<Arc<dyn Send + Sync>>) -> Self {
        let parts = layers.into_iter().map(|layer| Part::Stored(Arc::new(layer))).collect();
        Self { parts: Arc::new(parts), leases: lease.into_iter().map(Lease).collect() }
    }

    /// A tree of files alone.
    #[must_use]
    pub fn files(files: Arc<dyn Files>) -> Self {
        Self { parts: Arc::new(vec![Part::Files(files)]), leases: Vec::new() }
    }

    /// The layers, lowest first.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// This tree with a change on top.
    #[must_use]
    pub fn with(&self, change: Arc<Change>) -> Self {
        self.on_top([Part::Change(change)])
    }

    /// This tree with stored layers on top.
    #[must_use]
    pub fn with_stored(&self, layers: impl IntoIterator<Item = Stored>) -> Self {
        self.on_top(layers.into_iter().map(|layer| Part::Stored(Arc::new(layer))))
    }

    /// This tree with all of another on top.
    ///
    /// # Errors
    /// Invalid: it would have too many layers.
    pub fn over(&self, other: &Tree) -> Result<Self> {
        let count = |a: usize, b: usize| a.saturating_add(b) > MAX_LAYERS;
        if count(self.parts.len(), other.parts.len()) || count(self.leases.len(), other.leases.len()) {
            let text = format!("a merge has more than {MAX_LAYERS} layers: merge less, or copy");
            return Err(Error::new(types::Kind::Invalid, text));
        }
        let mut all = self.on_top(other.parts.iter().cloned());
        all.leases.extend(other.leases.iter().cloned());
        Ok(all)
    }

    /// What this tree has on top of another; nothing when it was not made of that one.
    #[must_use]
    pub fn above(&self, lower: &Tree) -> Option<Self> {
        let same = |(a, b): (&Part, &Part)| match (a, b) {
            (Part::Stored(a), Part::Stored(b)) => a.diff_id == b.diff_id,
            (Part::Change(a), Part::Change(b)) => Arc::ptr_eq(a, b),
            (Part::Files(a), Part::Files(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        let below = lower.parts.len();
        if self.parts.len() < below || !self.parts.iter().zip(lower.parts.iter()).all(same) {
            return None;
        }
        Some(Self { parts: Arc::new(self.parts[below..].to_vec()), leases: self.leases.clone() })
    }

    /// What makes this tree of another, whatever that is: files that are new or differ, and what is gone. Blocking.
    ///
    /// # Errors
    /// What cannot be read or written.
    pub fn difference(&self, lower: &Tree, work: &Arc<Work>, store: &Store) -> Result<Self> {
        let change = work.change(&Tree::default(), store)?;
        let out = Root::open(change.upper()).map_err(|e| Error::io("cannot open a step's directory", e))?;
        difference::write(&lower.read(store)?, &self.read(store)?, &out)?;
        Ok(Tree::default().with(change))
    }

    fn on_top(&self, parts: impl IntoIterator<Item = Part>) -> Self {
        let parts = self.parts.iter().cloned().chain(parts).collect();
        Self { parts: Arc::new(parts), leases: self.leases.clone() }
    }

    /// What the kernel stacks, topmost first.
    fn lowers(&self, store: &Store) -> Result<Vec<Lower>> {
        // The same layer again has no effect, and overlayfs refuses it.
        let (mut seen, mut places) = (std::collections::HashSet::new(), std::collections::HashSet::new());
        let mut lowers = Vec::with_capacity(self.parts.len());
        for part in self.parts.iter().rev() {
            let place = match part {
                Part::Stored(layer) => {
                    if seen.insert(layer.diff_id) {
                        lowers.push(store.layers().lower(&layer.diff_id)?);
                    }
                    continue;
                }
                Part::Change(change) => change.upper(),
                Part::Files(files) => files.path().to_owned(),
            };
            if places.insert(place.clone()) {
                lowers.push(Lower::Dir(place));
            }
        }
        Ok(lowers)
    }

    /// The tree, to be read; mounted nowhere.
    ///
    /// # Errors
    /// A layer that is gone; what the kernel refuses.
    pub fn read(&self, store: &Store) -> Result<Root> {
        let mut lowers = self.lowers(store)?;
        match lowers.len() {
            0 => Ok(Lower::Dir(store.layers().empty()).root()?),
            1 => Ok(lowers.remove(0).root()?),
            _ => Ok(Root::from_fd(self.mount_read_only(store)?)),
        }
    }

    /// The tree as a detached mount, read-only.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn mount_read_only(&self, store: &Store) -> Result<OwnedFd> {
        let mut lowers = self.lowers(store)?;
        if lowers.is_empty() {
            return open_tree(&store.layers().empty());
        }
        if lowers.len() == 1 {
            // overlayfs wants two layers when nothing is written.
            lowers.push(Lower::Dir(store.layers().empty()));
        }
        Ok(store.mount(&Overlay { lowers, upper: None, volatile: false })?)
    }

    /// The tree as a detached mount whose changes go to `change`.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn mount(&self, store: &Store, change: &Change, places: Option<&std::path::Path>) -> Result<OwnedFd> {
        let mut lowers = self.lowers(store)?;
        lowers.extend(places.map(|path| Lower::Dir(path.to_owned())));
        if lowers.is_empty() {
            lowers.push(Lower::Dir(store.layers().empty()));
        }
        let upper = Some(Upper { upper: change.upper(), work: change.work() });
        Ok(store.mount(&Overlay { lowers, upper, volatile: true })?)
    }

    /// The top directory's owner and mode belong to the topmost layer.
    fn top(&self, store: &Store) -> Result<Option<rustix::fs::Stat>> {
        let Some(top) = self.lowers(store)?.into_iter().next() else { return Ok(None) };
        let root = top.root()?;
        root.stat("/").map(Some).map_err(|e| Error::io("cannot look at a layer", e))
    }

    /// The layers as a manifest has them, those of this build being made now if they are not yet. Blocking.
    ///
    /// # Errors
    /// Those of making layers.
    pub fn store(&self, ingest: &Ingest) -> Result<Vec<Stored>> {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Stored(layer) => Ok(Stored::clone(layer)),
                Part::Change(change) => change.store(ingest),
                Part::Files(files) => work::store_files(ingest, files.path()),
            })
            .collect()
    }
}

fn open_tree(path: &std::path::Path) -> Result<OwnedFd> {
    let fail = |e| Error::io(format_args!("cannot open {}", path.display()), e);
    let root = Root::open(path).map_err(|e| Error::io(format_args!("cannot open {}", path.display()), e))?;
    let fd: OwnedFd = root.into();
    sys::mount::clone_tree(std::os::fd::AsFd::as_fd(&fd), std::path::Path::new(""), false).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_merged_with_itself_again_and_again_ends() {
        let work = tempfile::tempdir().unwrap();
        let mut tree = Tree::files(Arc::new(Directory::new(work.path()).unwrap()));
        let error = (0..40).find_map(|_| match tree.over(&tree) {
            Ok(doubled) => {
                tree = doubled;
                // Beyond this it would take all memory there is.
                assert!(tree.parts().len() < 100_000);
                None
            }
            Err(error) => Some(error),
        });
        assert_eq!(error.unwrap().kind(), types::Kind::Invalid);
    }
}
