//! Layers that are not on disk yet.
//!
//! A layer is made of a blob, and an image is safe when its blobs are: the layer may be written out later, and
//! made again if a power cut comes first. Until it is on disk it holds a file, `unsynced`, that names the boot
//! it was written in and the blob. A layer with such a file of another boot is not to be believed, whatever is
//! there of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::fs::Mode;
use sys::path::{Dir, Root};
use types::{DiffId, Digest};

use super::{ARCHIVE, DIGEST, INDEX, Layers, SIZE, TREE};
use crate::error::{Error, Result};

/// Exists until the layer is on disk: a line with the boot, one with the blob.
const UNSYNCED: &str = "unsynced";
/// Most bytes of it.
const MAX_MARK: u64 = 4096;

/// What a layer's mark says.
pub(super) enum Mark {
    /// It is on disk.
    Settled,
    /// It is not, and was made of this blob.
    Unsynced(Digest),
    /// Nobody knows what is there of it; what it was made of, if that can be read.
    Lost(Option<Digest>),
}

/// The mark is on disk when this returns: a layer without one is believed.
pub(super) fn mark(top: &Dir, boot: &str, blob: &Digest) -> Result<()> {
    let fail = || Error::io("cannot mark a layer");
    let mut file = File::from(top.create_file(UNSYNCED.as_ref(), Mode::RUSR | Mode::WUSR).map_err(fail())?);
    file.write_all(format!("{boot}\n{blob}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(fail())?;
    rustix::fs::fsync(top.as_fd()).map_err(|e| fail()(e.into()))
}

/// What is written of the layer, by an engine of the boot `boot`.
pub(super) fn read(top: &Dir, boot: &str) -> io::Result<Mark> {
    let file = match top.open_file(UNSYNCED.as_ref()) {
        Ok(file) => File::from(file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Mark::Settled),
        Err(e) => return Err(e),
    };
    let mut text = String::new();
    if file.take(MAX_MARK).read_to_string(&mut text).is_err() {
        return Ok(Mark::Lost(None));
    }
    let (wrote, blob) = text.split_once('\n').unwrap_or_default();
    let blob: Option<Digest> = blob.trim_end().parse().ok();
    Ok(blob.filter(|_| wrote == boot).map_or(Mark::Lost(blob), Mark::Unsynced))
}

/// Writes a layer to disk, with the digest of its files if it is an unpacked one.
pub(super) fn sync(top: &Dir) -> Result<()> {
    if top.lstat(INDEX.as_ref()).is_ok() {
        let fail = || Error::io("cannot sync a layer");
        for name in [ARCHIVE, INDEX, SIZE] {
            let file = top.open_file(name.as_ref()).map_err(fail())?;
            rustix::fs::fsync(file).map_err(|e| fail()(e.into()))?;
        }
        return rustix::fs::fsync(top.as_fd()).map_err(|e| fail()(e.into()));
    }
    // The disk is busy and the files are in memory: a good time to take their digest.
    std::thread::scope(|scope| {
        let recording = scope.spawn(|| record_digest(top));
        let synced = rustix::fs::syncfs(top.as_fd()).map_err(|e| Error::io("cannot sync the layers")(e.into()));
        let panicked = |_| Error::io("cannot record a layer")(io::Error::other("the thread panicked"));
        synced.and(recording.join().map_err(panicked)?)
    })
}

/// Records the digest of an unpacked layer's files, which stay as they are from here on.
fn record_digest(top: &Dir) -> Result<()> {
    let fail = || Error::io("cannot record a layer's digest");
    let root: Root = top.open_dir(TREE.as_ref()).map_err(fail())?.into();
    let digest = crate::check::tree_digest(&root)?;
    let temporary = super::super::random_name(".digest-").map_err(fail())?;
    let mut file = File::from(top.create_file(&temporary, Mode::RUSR | Mode::WUSR).map_err(fail())?);
    file.write_all(format!("{digest}\n").as_bytes()).map_err(fail())?;
    rustix::fs::fsync(&file).map_err(|e| fail()(e.into()))?;
    top.rename(&temporary, top, DIGEST.as_ref()).map_err(fail())?;
    rustix::fs::fsync(top.as_fd()).map_err(|e| fail()(e.into()))
}

impl Layers {
    /// Whether the layer is on disk, or not here.
    pub(crate) fn is_settled(&self, diff_id: &DiffId) -> bool {
        !self.unsynced().contains_key(diff_id)
    }

    /// Layers that are not on disk yet, with the blobs they were made of.
    pub(crate) fn unsettled(&self) -> Vec<(DiffId, Digest)> {
        self.unsynced().iter().map(|(layer, blob)| (*layer, *blob)).collect()
    }

    /// Writes one layer to disk, if it is not yet.
    pub(crate) fn settle(&self, diff_id: &DiffId) -> Result<()> {
        let fail = || Error::io(format!("cannot write layer {diff_id} to disk"));
        let top = match self.layer(diff_id) {
            // Removed meanwhile.
            Err(Error::NoLayer(_)) => {
                self.settled(diff_id);
                return Ok(());
            }
            top => top?,
        };
        if self.is_settled(diff_id) {
            return Ok(());
        }
        let settled = sync(&top).and_then(|()| {
            match top.unlink(UNSYNCED.as_ref()) {
                // Somebody else was at it too.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                unmarked => unmarked.map_err(fail())?,
            }
            rustix::fs::fsync(top.as_fd()).map_err(|e| fail()(e.into()))
        });
        // One that is being removed needs no disk.
        if settled.is_err() && self.has(diff_id) {
            return settled;
        }
        self.settled(diff_id);
        // Another in its place may have come meanwhile.
        if self.is_settled(diff_id) { Ok(()) } else { self.settle(diff_id) }
    }

    /// Notes that a layer is on disk or gone, unless one that is not has come in its place since.
    fn settled(&self, diff_id: &DiffId) {
        let mut unsynced = self.unsynced();
        if !self.layer(diff_id).is_ok_and(|top| top.lstat(UNSYNCED.as_ref()).is_ok()) {
            unsynced.remove(diff_id);
        }
    }
}
