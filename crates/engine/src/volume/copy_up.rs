//! Copies what an image has at a mount point into the new, empty volume that will hide it.
//!
//! The image is hostile: sources are resolved inside its tree by descriptor and nothing is followed
//! on the way down. Owners, modes, times and extended attributes come along.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, Stat, Timespec, Timestamps};
use sys::path::{Dir, Root};

use crate::error::{Error, Result};

/// Deeper trees than this are not copied: no real image has them, and the walk recurses.
const DEPTH: usize = 256;

/// Fill each directory from its place in the tree; places that are missing or no directories are skipped.
///
/// # Errors
/// When the disk refuses; the volume then belongs to a creation that fails and is removed with it.
pub(super) fn fill(root: &Root, copies: &[(PathBuf, String)]) -> Result<()> {
    for (data, target) in copies {
        let Ok(source) = root.open_dir(target) else { continue };
        let into = Root::open(data).and_then(|into| into.dir());
        let copied = into.and_then(|into| {
            directory(&source, &into, 0)?;
            let stat = rustix::fs::fstat(&source)?;
            rustix::fs::fchown(
                &into,
                Some(rustix::fs::Uid::from_raw(stat.st_uid)),
                Some(rustix::fs::Gid::from_raw(stat.st_gid)),
            )?;
            rustix::fs::fchmod(&into, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
            Ok(())
        });
        copied.map_err(|e| Error::io(format!("cannot copy {target} of the image into {}", data.display()), e))?;
    }
    Ok(())
}

fn directory(from: &Dir, to: &Dir, depth: usize) -> io::Result<()> {
    if depth > DEPTH {
        return Err(io::Error::other(format!("the tree is more than {DEPTH} directories deep")));
    }
    for entry in from.list()? {
        let name = entry.name.as_os_str();
        let stat = from.lstat(name)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                to.mkdir(name, Mode::from_raw_mode(0o700))?;
                directory(&from.open_dir(name)?, &to.open_dir(name)?, depth + 1)?;
            }
            FileType::RegularFile => {
                let mut source = File::from(from.open_file(name)?);
                let mut target = File::from(to.create_file(name, Mode::from_raw_mode(0o600))?);
                io::copy(&mut source, &mut target)?;
            }
            FileType::Symlink => to.symlink(&from.readlink(name)?, name)?,
            FileType::Socket => continue,
            special => to.mknod(name, special, mode, stat.st_rdev)?,
        }
        for (key, value) in from.xattrs(name)? {
            // The overlay's own marks mean nothing outside it.
            if !key.to_string_lossy().starts_with("trusted.overlay.") {
                to.set_xattr(name, &key, &value)?;
            }
        }
        to.chown(name, stat.st_uid, stat.st_gid)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            // After the owner: changing it clears the set-id bits.
            to.chmod(name, mode)?;
        }
        to.set_times(name, &times(&stat))?;
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec.cast_signed() },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() },
    }
}
