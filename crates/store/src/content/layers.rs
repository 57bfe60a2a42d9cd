//! Unpacked layers: `layers/DIFFID/fs`, each unpacked once, without its parents, and shared by every
//! image that has it.
//!
//! Whiteouts are in overlayfs form (devices 0:0, `trusted.overlay.opaque`). A layer's directory appears
//! only by rename of a complete, synced tree, so one that exists is whole. The top is closed to other
//! users: set-user-id files of an image are of no use to them.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Mode;
use sys::path::{Dir, Root};
use types::{DiffId, Digest};

use super::{blobs, random_name, writer::Temporary};
use crate::error::{Error, Result};

/// Directory of the tree within a layer's directory.
const TREE: &str = "fs";
/// File with the tree's size in bytes, decimal.
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
}

/// A layer being unpacked; dropped before it is published, it is removed.
#[derive(Debug)]
pub(crate) struct PendingLayer {
    pub(crate) diff_id: DiffId,
    pub(crate) size: u64,
    temporary: Temporary,
}

impl Layers {
    pub(crate) fn open(root: &Root, path: &Path) -> Result<Self> {
        let fail = || Error::io("cannot open the layers directory");
        let dir = Arc::new(root.create_dir_all("layers", Mode::RWXU).map_err(fail())?);
        root.create_dir_all(
            Path::new("layers").join(EMPTY),
            Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH,
        )
        .map_err(fail())?;
        let layers = Self { path: path.join("layers"), dir };
        for entry in layers.dir.list().map_err(fail())? {
            let name = entry.name.to_string_lossy();
            if name.starts_with(TEMPORARY) || name.starts_with(REMOVED) {
                layers.dir.remove_tree(&entry.name).map_err(Error::io("cannot remove an unfinished layer"))?;
            }
        }
        Ok(layers)
    }

    /// Whether the layer is unpacked.
    #[must_use]
    pub fn has(&self, diff_id: &DiffId) -> bool {
        self.dir.lstat(&blobs::name(&diff_id.0)).is_ok()
    }

    /// Directory of the layer's tree.
    #[must_use]
    pub fn path(&self, diff_id: &DiffId) -> PathBuf {
        self.path.join(diff_id.0.hex()).join(TREE)
    }

    /// The layer's tree.
    ///
    /// # Errors
    /// [`Error::NoLayer`].
    pub fn root(&self, diff_id: &DiffId) -> Result<Root> {
        let tree = self.layer(diff_id)?.open_dir(TREE.as_ref());
        Ok(tree.map_err(Error::io(format!("cannot open layer {diff_id}")))?.into())
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

    /// Directories to stack for an image, topmost first, given its layers base first.
    ///
    /// # Errors
    /// [`Error::NoLayer`].
    pub fn lowers(&self, diff_ids: &[DiffId]) -> Result<Vec<PathBuf>> {
        let mut out: Vec<PathBuf> = Vec::with_capacity(diff_ids.len().max(1));
        for diff_id in diff_ids.iter().rev() {
            let layer = self.layer(diff_id)?;
            let path = self.path(diff_id);
            // The same layer twice has no effect the second time, and overlayfs refuses it.
            if !out.contains(&path) {
                out.push(path);
            }
            if layer.lstat(OPAQUE.as_ref()).is_ok() {
                break;
            }
        }
        if out.is_empty() {
            out.push(self.path.join(EMPTY));
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

    /// A new tree to unpack into: the pending layer and its root.
    pub(crate) fn create(&self) -> Result<(PendingLayer, Root)> {
        let fail = || Error::io("cannot create a layer");
        let name = random_name(TEMPORARY).map_err(fail())?;
        let dir = Arc::clone(&self.dir);
        dir.mkdir(&name, Mode::RWXU).map_err(fail())?;
        let temporary = Temporary { dir, name, armed: true };
        let top = temporary.dir.open_dir(&temporary.name).map_err(fail())?;
        let open = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        top.mkdir(TREE.as_ref(), open).map_err(fail())?;
        // mkdir(2) is subject to the umask.
        top.chmod(TREE.as_ref(), open).map_err(fail())?;
        let root = top.open_dir(TREE.as_ref()).map_err(fail())?.into();
        let none = DiffId(Digest::sha256([0; 32]));
        Ok((PendingLayer { diff_id: none, size: 0, temporary }, root))
    }

    /// Gives a synced layer its name; one that is there already stays.
    pub(crate) fn publish(&self, mut layer: PendingLayer) -> Result<()> {
        let name = blobs::name(&layer.diff_id.0);
        match self.dir.rename(&layer.temporary.name, &self.dir, &name) {
            Ok(()) => layer.temporary.armed = false,
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
        self.dir.rename(&blobs::name(&diff_id.0), &self.dir, &gone).map_err(fail())?;
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

impl PendingLayer {
    /// Records what unpacking found out.
    pub(crate) fn complete(&mut self, diff_id: DiffId, size: u64, opaque: bool) -> Result<()> {
        let fail = || Error::io("cannot record a layer's size");
        (self.diff_id, self.size) = (diff_id, size);
        let top = self.temporary.dir.open_dir(&self.temporary.name).map_err(fail())?;
        let file = top.create_file(SIZE.as_ref(), Mode::RUSR | Mode::WUSR).map_err(fail())?;
        io::Write::write_all(&mut std::fs::File::from(file), format!("{size}\n").as_bytes()).map_err(fail())?;
        if opaque {
            top.create_file(OPAQUE.as_ref(), Mode::RUSR | Mode::WUSR).map_err(fail())?;
        }
        Ok(())
    }
}
