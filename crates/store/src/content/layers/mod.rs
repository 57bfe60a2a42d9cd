//! Layers ready for use: `layers/DIFFID`, each made once, without its parents, and shared by every image that
//! has it.
//!
//! A layer is either unpacked (`fs`) or its archive with an index (`layer.tar`, `index.erofs`). Whiteouts are
//! in overlayfs form (devices 0:0, `trusted.overlay.opaque`). A layer's directory appears only by rename of a
//! complete, synced one, so one that exists is whole. The top is closed to other users: set-user-id files of
//! an image are of no use to them.

mod format;
mod mounts;
mod pending;
mod settling;

pub use format::Format;
pub(crate) use pending::PendingLayer;

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::Mode;
use sys::path::{Dir, Root};
use types::{DiffId, Digest};

use self::mounts::Mounts;
use self::settling::Mark;
use super::{blobs, random_name};
use crate::error::{Error, Result};
use crate::overlay::Lower;

/// Directory of an unpacked layer's tree.
const TREE: &str = "fs";
/// An indexed layer's archive, uncompressed, as its digest is taken of.
pub(super) const ARCHIVE: &str = "layer.tar";
/// Its index: an EROFS image whose device is the archive.
const INDEX: &str = "index.erofs";
/// File with the digest of an unpacked layer's files.
const DIGEST: &str = "digest";
/// File with the size of the layer's files in bytes, decimal.
const SIZE: &str = "size";
/// Exists when the layer hides all layers below it.
const OPAQUE: &str = "opaque";
/// Layer directory without anything in it, for images without layers.
const EMPTY: &str = "empty";
const TEMPORARY: &str = ".tmp-";
const REMOVED: &str = ".rm-";

/// The directory of layers.
#[derive(Debug)]
pub struct Layers {
    path: PathBuf,
    dir: Arc<Dir>,
    /// New layers are indexed archives.
    indexed: bool,
    mounts: Mounts,
    /// Layers that are not on disk yet, with the blobs they were made of.
    unsynced: Mutex<HashMap<DiffId, Digest>>,
    /// Layers that a power cut took, removed when the store was opened.
    lost: Vec<(DiffId, Option<Digest>)>,
    /// Names the life of the page cache.
    boot: String,
}

impl Layers {
    pub(crate) fn open(root: &Root, path: &Path, format: Format, boot: &str, scratch: &Path) -> Result<Self> {
        let fail = || Error::io("cannot open the layers directory");
        let dir = Arc::new(root.create_dir_all("layers", Mode::RWXU).map_err(fail())?);
        root.create_dir_all(
            Path::new("layers").join(EMPTY),
            Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH,
        )
        .map_err(fail())?;
        let mut layers = Self {
            path: path.join("layers"),
            dir,
            indexed: false,
            mounts: Mounts::default(),
            unsynced: Mutex::default(),
            lost: Vec::new(),
            boot: boot.to_owned(),
        };
        for entry in layers.dir.list().map_err(fail())? {
            let name = entry.name.to_string_lossy();
            if name.starts_with(TEMPORARY) || name.starts_with(REMOVED) {
                layers.dir.remove_tree(&entry.name).map_err(Error::io("cannot remove an unfinished layer"))?;
            } else if let Some(digest) = blobs::digest_of(&entry.name) {
                let top = layers.dir.open_dir(&entry.name).map_err(fail())?;
                match settling::read(&top, boot).map_err(fail())? {
                    Mark::Settled => {}
                    Mark::Unsynced(blob) => drop(layers.unsynced().insert(DiffId(digest), blob)),
                    Mark::Lost(blob) => {
                        layers.dir.remove_tree(&entry.name).map_err(Error::io("cannot remove a lost layer"))?;
                        layers.lost.push((DiffId(digest), blob));
                    }
                }
            }
        }
        layers.indexed = format::indexed(format, &layers.dir, scratch)?;
        Ok(layers)
    }

    pub(crate) fn dir(&self) -> Arc<Dir> {
        Arc::clone(&self.dir)
    }

    /// Whether new layers are kept as indexed archives, rather than unpacked.
    #[must_use]
    pub fn are_indexed(&self) -> bool {
        self.indexed
    }

    /// Whether the layer is here.
    #[must_use]
    pub fn has(&self, diff_id: &DiffId) -> bool {
        self.dir.lstat(&blobs::name(&diff_id.0)).is_ok()
    }

    /// The layer, to be stacked.
    ///
    /// # Errors
    /// [`Error::NoLayer`]; [`Error::Mount`] when an indexed layer cannot be mounted, as by a kernel older
    /// than the one it was made under.
    pub fn lower(&self, diff_id: &DiffId) -> Result<Lower> {
        self.lower_of(diff_id, &self.layer(diff_id)?)
    }

    fn lower_of(&self, diff_id: &DiffId, top: &Dir) -> Result<Lower> {
        if top.lstat(INDEX.as_ref()).is_ok() {
            return self.mounts.get(diff_id, top).map(Lower::Mount);
        }
        Ok(Lower::Dir(self.path.join(diff_id.0.hex()).join(TREE)))
    }

    /// The layer's tree.
    ///
    /// # Errors
    /// As [`Layers::lower`].
    pub fn root(&self, diff_id: &DiffId) -> Result<Root> {
        self.lower(diff_id)?.root()
    }

    /// The archive of an indexed layer; `None` for an unpacked one.
    ///
    /// # Errors
    /// [`Error::NoLayer`], [`Error::Io`].
    pub fn archive(&self, diff_id: &DiffId) -> Result<Option<std::fs::File>> {
        match self.layer(diff_id)?.open_file(ARCHIVE.as_ref()) {
            Ok(file) => Ok(Some(file.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(format!("cannot open the archive of layer {diff_id}"))(e)),
        }
    }

    /// Size of the layer's files in bytes, as counted when it was unpacked.
    ///
    /// # Errors
    /// [`Error::NoLayer`], [`Error::Io`].
    pub fn size(&self, diff_id: &DiffId) -> Result<u64> {
        let fail = || Error::io(format!("cannot read the size of layer {diff_id}"));
        let file = self.layer(diff_id)?.open_file(SIZE.as_ref()).map_err(fail())?;
        let text = io::read_to_string(std::fs::File::from(file)).map_err(fail())?;
        text.trim().parse().map_err(|_| fail()(io::ErrorKind::InvalidData.into()))
    }

    /// Digest of an unpacked layer's files, as recorded when it was made.
    ///
    /// # Errors
    /// [`Error::NoLayer`], [`Error::Io`].
    pub(crate) fn tree_digest(&self, diff_id: &DiffId) -> Result<Option<Digest>> {
        let fail = || Error::io(format!("cannot read what was recorded of layer {diff_id}"));
        let text = match self.layer(diff_id)?.open_file(DIGEST.as_ref()) {
            Ok(file) => io::read_to_string(std::fs::File::from(file)).map_err(fail())?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail()(e)),
        };
        text.trim().parse().map(Some).map_err(|_| fail()(io::ErrorKind::InvalidData.into()))
    }

    /// What to stack for an image, topmost first, given its layers base first.
    ///
    /// # Errors
    /// As [`Layers::lower`].
    pub fn lowers(&self, diff_ids: &[DiffId]) -> Result<Vec<Lower>> {
        let mut out: Vec<Lower> = Vec::with_capacity(diff_ids.len().max(1));
        let mut stacked: Vec<&DiffId> = Vec::with_capacity(diff_ids.len());
        for diff_id in diff_ids.iter().rev() {
            let layer = self.layer(diff_id)?;
            // The same layer twice has no effect the second time, and overlayfs refuses it.
            if !stacked.contains(&diff_id) {
                stacked.push(diff_id);
                out.push(self.lower_of(diff_id, &layer)?);
            }
            if layer.lstat(OPAQUE.as_ref()).is_ok() {
                break;
            }
        }
        if out.is_empty() {
            out.push(Lower::Dir(self.empty()));
        }
        Ok(out)
    }

    /// Directory without anything in it.
    #[must_use]
    pub fn empty(&self) -> PathBuf {
        self.path.join(EMPTY)
    }

    /// All layers, unsorted.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<DiffId>> {
        let names = self.dir.list().map_err(Error::io("cannot list layers"))?;
        Ok(names.iter().filter_map(|entry| blobs::digest_of(&entry.name)).map(DiffId).collect())
    }

    /// A new layer without anything in it.
    pub(crate) fn create(&self) -> Result<PendingLayer> {
        PendingLayer::create(&self.dir)
    }

    /// Layers that were here before a power cut, and have to be made again of their blobs, where they are known.
    #[must_use]
    pub fn lost(&self) -> &[(DiffId, Option<Digest>)] {
        &self.lost
    }

    fn unsynced(&self) -> MutexGuard<'_, HashMap<DiffId, Digest>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a layer its name; one that is there already stays. A layer that is made of a blob may go to disk
    /// later, any other does now.
    pub(crate) fn publish(&self, mut layer: PendingLayer) -> Result<()> {
        let name = blobs::name(&layer.diff_id.0);
        match layer.blob {
            Some(blob) => layer.mark(&self.boot, &blob)?,
            None => layer.sync()?,
        }
        match layer.rename(&self.dir, &name) {
            Ok(()) => drop(layer.blob.and_then(|blob| self.unsynced().insert(layer.diff_id, blob))),
            Err(_) if self.has(&layer.diff_id) => {}
            Err(e) => return Err(Error::io(format!("cannot publish layer {}", layer.diff_id))(e)),
        }
        Ok(())
    }

    /// Writes everything in the layers' file system to disk.
    pub(crate) fn sync_file_system(&self) -> Result<()> {
        rustix::fs::syncfs(self.dir.as_fd()).map_err(|e| Error::io("cannot sync the layers")(e.into()))
    }

    pub(crate) fn sync(&self) -> Result<()> {
        rustix::fs::fsync(self.dir.as_fd()).map_err(|e| Error::io("cannot sync the layers directory")(e.into()))
    }

    /// Takes the layer's name away; the tree itself is removed by [`Layers::sweep`].
    pub(crate) fn retire(&self, diff_id: &DiffId) -> Result<std::ffi::OsString> {
        let fail = || Error::io(format!("cannot remove layer {diff_id}"));
        let gone = random_name(REMOVED).map_err(fail())?;
        // Held until both are done: another of this name may come at once.
        let mut unsynced = self.unsynced();
        self.dir.rename(&blobs::name(&diff_id.0), &self.dir, &gone).map_err(fail())?;
        self.mounts.forget(diff_id);
        unsynced.remove(diff_id);
        drop(unsynced);
        Ok(gone)
    }

    pub(crate) fn sweep(&self, retired: &std::ffi::OsStr) -> Result<()> {
        self.dir.remove_tree(retired).map_err(Error::io("cannot remove a layer"))
    }

    fn layer(&self, diff_id: &DiffId) -> Result<Dir> {
        match self.dir.open_dir(&blobs::name(&diff_id.0)) {
            Ok(dir) => Ok(dir),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::NoLayer(diff_id.0)),
            Err(e) => Err(Error::io(format!("cannot open layer {diff_id}"))(e)),
        }
    }
}

/// Archive and index of an indexed layer.
pub(crate) fn indexed_files(layers: &Layers, diff_id: &DiffId) -> Result<(std::fs::File, std::fs::File)> {
    let top = layers.layer(diff_id)?;
    let open = |name: &str| {
        let fail = Error::io(format!("cannot open the {name} of layer {diff_id}"));
        top.open_file(name.as_ref()).map(std::fs::File::from).map_err(fail)
    };
    Ok((open(ARCHIVE)?, open(INDEX)?))
}
