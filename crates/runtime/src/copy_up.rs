//! A tmpfs that begins with what the directory it covers holds (`tmpcopyup`). Only a file system that is not yet
//! attached anywhere is filled, and both sides are walked by descriptors without following links.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid};
use sys::Errno;

/// Deepest tree copied: every level holds two descriptors.
const MAX_DEPTH: usize = 256;

/// Copies the content of the directory `from` (a handle) into the directory `to`, with modes, owners and times.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let (from, to) = (reopen(from)?, reopen(to)?);
    entries(&from, &to, 0)
}

fn reopen(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    open_dir(dir, c".")
}

fn open_dir(at: impl AsFd, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn entries(from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<(), Errno> {
    if depth == MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(8192);
    let mut listing = RawDir::new(from, buffer.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    for name in names {
        let stat = rustix::fs::statat(from, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::Directory => {
                rustix::fs::mkdirat(to, &name, Mode::from_raw_mode(0o700))?;
                entries(&open_dir(from, &name)?, &open_dir(to, &name)?, depth + 1)?;
            }
            FileType::RegularFile => file(from, to, &name)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, &name, Vec::new())?;
                rustix::fs::symlinkat(target.as_c_str(), to, &name)?;
            }
            _ => rustix::fs::mknodat(to, &name, kind, Mode::from_raw_mode(0o600), stat.st_rdev)?,
        }
        attributes(to, &name, kind, &stat)?;
    }
    Ok(())
}

fn file(from: &OwnedFd, to: &OwnedFd, name: &std::ffi::CStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
    while rustix::fs::sendfile(&copy, &source, None, 1 << 30)? > 0 {}
    Ok(())
}

/// The owner before the mode: a change of owner takes set-id bits away.
fn attributes(to: &OwnedFd, name: &std::ffi::CStr, kind: FileType, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != FileType::Symlink {
        rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    let time = |seconds: i64, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
