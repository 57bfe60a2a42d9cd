//! How a layer lies on disk, and which way new ones take.
//!
//! Directories work everywhere. An indexed archive is the layer's own tar, byte for byte, with an EROFS index
//! beside it: nothing is unpacked, the layer's digest can be taken again at any time, and removing it is two
//! unlinks. It needs a kernel that mounts such an index from files (Linux 6.12), stacks overlayfs on mounts
//! that are attached nowhere, and it is proven by doing that once when the store is opened.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer::tar::{Entry, Kind, Limits, Reader, Writer};
use rustix::fs::{Mode, OFlags};
use sys::path::{Dir, Root};

use super::mounts;
use crate::content::random_name;
use crate::error::{Error, Result};
use crate::overlay::{Lower, Overlay, Upper};

/// How new layers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The best the kernel can do.
    #[default]
    Automatic,
    /// Unpacked directories.
    Directories,
    /// The tar with an EROFS index; a store that cannot mount one does not open.
    Indexed,
}

/// What is proven with: enough to find out whether data comes through.
const PROOF: &[u8] = b"indexed layers work here\n";

/// Whether new layers are indexed archives.
pub(super) fn indexed(format: Format, dir: &Dir, scratch: &Path) -> Result<bool> {
    match format {
        Format::Directories => Ok(false),
        // No fault: older kernels cannot.
        Format::Automatic => Ok(prove(dir, scratch).is_ok()),
        Format::Indexed => prove(dir, scratch).map(|()| true),
    }
}

/// Makes, mounts and stacks a layer of one file, and reads the file.
fn prove(dir: &Dir, scratch: &Path) -> Result<()> {
    let fail = || Error::io("cannot prove that indexed layers work");
    let name = random_name(super::TEMPORARY).map_err(fail())?;
    dir.mkdir(&name, Mode::RWXU).map_err(fail())?;
    let proved = dir.open_dir(&name).map_err(fail()).and_then(|top| prove_in(&top, scratch));
    dir.remove_tree(&name).map_err(fail())?;
    proved
}

fn prove_in(top: &Dir, scratch: &Path) -> Result<()> {
    let fail = || Error::io("cannot prove that indexed layers work");
    let mut writer = Writer::new(Vec::new());
    let mut entry = Entry::new("proof", Kind::File, 0o644);
    entry.size = PROOF.len() as u64;
    writer.entry(&entry)?;
    writer.data(PROOF)?;
    let archive = writer.finish()?;
    let mut tree = erofs::Tree::new(erofs::Options::default());
    let mut reader = Reader::new(&archive[..], Limits::default());
    while let Some(entry) = reader.next_entry()? {
        tree.add(&entry, reader.position())?;
    }
    let file = Mode::RUSR | Mode::WUSR;
    File::from(top.create_file(super::ARCHIVE.as_ref(), file).map_err(fail())?).write_all(&archive).map_err(fail())?;
    let mut index = File::from(top.create_file(super::INDEX.as_ref(), file).map_err(fail())?);
    tree.finish(archive.len() as u64, &mut index)?;
    let mount = mounts::mount(top)?;
    for name in ["upper", "work"] {
        top.mkdir(name.as_ref(), Mode::RWXU).map_err(fail())?;
    }
    let place = |name: &str| PathBuf::from(format!("/proc/self/fd/{}/{name}", top.as_fd().as_raw_fd()));
    let overlay = Overlay {
        lowers: vec![Lower::Mount(Arc::new(mount))],
        upper: Some(Upper { upper: place("upper"), work: place("work") }),
        volatile: true,
    };
    let root = Root::from_fd(overlay.mount_fd(scratch)?);
    let fd = root.open_at("proof", OFlags::RDONLY, Mode::empty()).map_err(fail())?;
    if std::io::read_to_string(File::from(fd)).map_err(fail())?.as_bytes() != PROOF {
        return Err(fail()(std::io::ErrorKind::InvalidData.into()));
    }
    Ok(())
}
