//! Where things go: paths of the destination resolved inside its tree, missing directories made with an owner.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Gid, Mode, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use sys::path::{Dir, Root};

use super::error::FileError;

/// How directories on the way are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Making {
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    /// Nanoseconds since the epoch.
    pub(super) timestamp: Option<i64>,
}

/// Time of an access and a modification, both the same.
pub(super) fn times(timestamp: i64) -> Timestamps {
    let time =
        Timespec { tv_sec: timestamp.div_euclid(1_000_000_000), tv_nsec: timestamp.rem_euclid(1_000_000_000) as _ };
    Timestamps { last_access: time, last_modification: time }
}

/// Replaces the times in a status.
pub(super) fn set_times(stat: &mut Stat, timestamp: i64) {
    let seconds = timestamp.div_euclid(1_000_000_000);
    let nanos = timestamp.rem_euclid(1_000_000_000);
    (stat.st_atime, stat.st_mtime) = (seconds, seconds);
    (stat.st_atime_nsec, stat.st_mtime_nsec) = (nanos as _, nanos as _);
}

/// Where a path leads in the tree, all symlinks followed; what does not exist yet is kept as it is.
pub(super) fn resolve(root: &Root, path: impl AsRef<Path>) -> Result<PathBuf, FileError> {
    let path = super::source::clean(path);
    root.canonicalize(&path).map_err(FileError::io("lstat", &path))
}

/// Status of a path that [`resolve`] gave; nothing when it does not exist.
pub(super) fn status(root: &Root, path: &Path) -> Result<Option<Stat>, FileError> {
    match root.lstat(path) {
        Ok(stat) => Ok(Some(stat)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FileError::io("failed to lstat destination path: stat", path)(e)),
    }
}

/// Opens a directory that [`resolve`] gave, having made it and what is missing above it. The other answer is whether it
/// was made.
pub(super) fn directories(root: &Root, path: &Path, making: Making) -> Result<(Dir, bool), FileError> {
    let fail = || FileError::io("mkdir", path);
    let mut dir = root.dir().map_err(fail())?;
    let mut made = false;
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        let above = made;
        made = false;
        let child = match dir.open_dir(name) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                made = true;
                dir.mkdir(name, Mode::RWXU).and_then(|()| dir.open_dir(name))
            }
            // A symlink: somebody changed the tree since it was resolved.
            Err(e) if Errno::from_io_error(&e) == Some(Errno::LOOP) => Err(Errno::NOTDIR.into()),
            other => other,
        };
        let child = child.map_err(fail())?;
        if made {
            settle(&child, making).map_err(fail())?;
            if let Some(timestamp) = making.timestamp.filter(|_| above) {
                rustix::fs::futimens(&dir, &times(timestamp)).map_err(|e| fail()(e.into()))?;
            }
        }
        dir = child;
    }
    Ok((dir, made))
}

/// Owner, mode and time of a directory that was made.
pub(super) fn settle(dir: &Dir, making: Making) -> std::io::Result<()> {
    let (uid, gid) = making.owner;
    rustix::fs::fchown(dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    rustix::fs::fchmod(dir, Mode::from_raw_mode(making.mode))?;
    if let Some(timestamp) = making.timestamp {
        rustix::fs::futimens(dir, &times(timestamp))?;
    }
    Ok(())
}

/// The directory above a path that [`resolve`] gave, which must exist, and the last name.
pub(super) fn parent(root: &Root, path: &Path, action: &'static str) -> Result<(Dir, OsString), FileError> {
    root.parent(path).map_err(FileError::io(action, path))
}
