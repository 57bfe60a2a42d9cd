//! A layer being made; dropped before it is published, it is removed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode};
use sys::path::{Dir, Root};
use types::{DiffId, Digest};

use super::{ARCHIVE, INDEX, OPAQUE, SIZE, TEMPORARY, TREE, settling};
use crate::content::{random_name, writer::Temporary};
use crate::error::{Error, Result};

/// A layer on its way in.
#[derive(Debug)]
pub(crate) struct PendingLayer {
    pub(crate) diff_id: DiffId,
    /// The blob it can be made of again, which is kept.
    pub(crate) blob: Option<Digest>,
    temporary: Temporary,
    top: Dir,
}

impl PendingLayer {
    pub(super) fn create(layers: &Arc<Dir>) -> Result<Self> {
        let fail = || Error::io("cannot create a layer");
        let name = random_name(TEMPORARY).map_err(fail())?;
        let dir = Arc::clone(layers);
        dir.mkdir(&name, Mode::RWXU).map_err(fail())?;
        let temporary = Temporary { dir, name, armed: true };
        let top = temporary.dir.open_dir(&temporary.name).map_err(fail())?;
        Ok(Self { diff_id: DiffId(Digest::sha256([0; 32])), blob: None, temporary, top })
    }

    /// A tree to unpack into.
    pub(crate) fn tree(&self) -> Result<Root> {
        let fail = || Error::io("cannot create a layer's tree");
        let open = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        self.top.mkdir(TREE.as_ref(), open).map_err(fail())?;
        // mkdir(2) is subject to the umask.
        self.top.chmod(TREE.as_ref(), open).map_err(fail())?;
        Ok(self.top.open_dir(TREE.as_ref()).map_err(fail())?.into())
    }

    /// The file for the uncompressed archive.
    pub(crate) fn archive(&self) -> Result<File> {
        self.file(ARCHIVE).map_err(Error::io("cannot create a layer's archive"))
    }

    /// The archive again, from its beginning.
    pub(crate) fn open_archive(&self) -> Result<File> {
        self.top.open_file(ARCHIVE.as_ref()).map(File::from).map_err(Error::io("cannot open a layer's archive"))
    }

    /// Makes the archive another name of a file that has the same bytes.
    pub(crate) fn link_archive(&self, dir: &Dir, name: &OsStr) -> Result<()> {
        rustix::fs::linkat(dir.as_fd(), name, self.top.as_fd(), ARCHIVE, AtFlags::empty())
            .map_err(|e| Error::io("cannot link a layer's archive")(e.into()))
    }

    /// Writes the index of an archive of so many bytes, and records what indexing found out.
    pub(crate) fn complete_indexed(&mut self, diff_id: DiffId, tree: erofs::Tree, archive_bytes: u64) -> Result<u64> {
        let fail = || Error::io("cannot write a layer's index");
        let mut index = BufWriter::with_capacity(256 * 1024, self.file(INDEX).map_err(fail())?);
        let summary = tree.finish(archive_bytes, &mut index)?;
        index.flush().map_err(fail())?;
        self.complete(diff_id, summary.bytes, summary.opaque_root)?;
        Ok(summary.bytes)
    }

    /// Records what making the layer found out.
    pub(crate) fn complete(&mut self, diff_id: DiffId, size: u64, opaque: bool) -> Result<()> {
        let fail = || Error::io("cannot record a layer's size");
        self.diff_id = diff_id;
        self.file(SIZE).and_then(|mut file| file.write_all(format!("{size}\n").as_bytes())).map_err(fail())?;
        if opaque {
            self.file(OPAQUE).map_err(fail())?;
        }
        Ok(())
    }

    /// Writes the layer to disk.
    pub(crate) fn sync(&self) -> Result<()> {
        settling::sync(&self.top)
    }

    /// Notes that the layer is not on disk yet, and what it is made of again if it never is.
    pub(super) fn mark(&self, boot: &str, blob: &Digest) -> Result<()> {
        settling::mark(&self.top, boot, blob)
    }

    pub(super) fn rename(&mut self, layers: &Dir, name: &OsString) -> io::Result<()> {
        self.temporary.dir.rename(&self.temporary.name, layers, name)?;
        self.temporary.armed = false;
        Ok(())
    }

    fn file(&self, name: &str) -> io::Result<File> {
        self.top.create_file(name.as_ref(), Mode::RUSR | Mode::WUSR).map(File::from)
    }
}
