//! What every copy of a file needs: its data, holes left out and shared with the original where the file system can
//! (FICLONE), and its metadata. Works on open files and single names; nothing is followed.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Gid, Mode, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use sys::path::Dir;

use super::OVERLAY_XATTRS;

/// Extended attributes: names and values.
pub type Attributes = Vec<(OsString, Vec<u8>)>;

/// Copies the data of files, and learns from each what the file systems can do.
#[derive(Debug)]
pub struct Data {
    /// Data can be shared, as far as is known; and copied by the kernel.
    clone: bool,
    range: bool,
    buffer: Box<[u8]>,
    /// Files whose data is shared with the original.
    pub shared: u64,
    /// Bytes that were copied.
    pub bytes: u64,
}

impl Default for Data {
    fn default() -> Self {
        Self { clone: true, range: true, buffer: vec![0; 128 * 1024].into_boxed_slice(), shared: 0, bytes: 0 }
    }
}

impl Data {
    /// Copies the whole of `from`, `size` bytes, into the empty file `to`.
    ///
    /// # Errors
    /// Those of reading, writing and copy_file_range(2).
    pub fn copy(&mut self, from: &OwnedFd, to: &OwnedFd, size: i64) -> io::Result<()> {
        if self.clone && size > 0 {
            match rustix::fs::ioctl_ficlone(to, from) {
                Ok(()) => {
                    self.shared += 1;
                    return Ok(());
                }
                Err(Errno::NOSPC | Errno::DQUOT) => return Err(Errno::NOSPC.into()),
                // A file system that cannot, or two of them. Some refuse single files, which others accept.
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS) => self.clone = false,
                Err(_) => {}
            }
        }
        let size = u64::try_from(size).unwrap_or(0);
        let mut at = 0;
        while at < size {
            let (begin, end) = match rustix::fs::seek(from, SeekFrom::Data(at)) {
                Ok(begin) => (begin, rustix::fs::seek(from, SeekFrom::Hole(begin)).unwrap_or(size)),
                // Nothing but a hole.
                Err(Errno::NXIO) => break,
                // A file system that does not know its holes.
                Err(_) => (at, size),
            };
            let end = end.min(size);
            if begin >= end || !self.region(from, to, begin, end)? {
                break;
            }
            at = end;
        }
        Ok(rustix::fs::ftruncate(to, size)?)
    }

    /// Copies the bytes from `begin` to `end`; `false` when the file has become shorter.
    fn region(&mut self, from: &OwnedFd, to: &OwnedFd, begin: u64, end: u64) -> io::Result<bool> {
        let mut at = begin;
        while self.range && at < end {
            let (mut read, mut write) = (at, at);
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut write), length) {
                // The end, or one of the file systems that have nothing to say here.
                Ok(0) => break,
                Ok(copied) => {
                    at += copied as u64;
                    self.bytes += copied as u64;
                }
                Err(Errno::INTR) => {}
                Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::STALE)) => return Err(error.into()),
                Err(_) => self.range = false,
            }
        }
        let mut reader = std::fs::File::from(from.try_clone()?);
        let mut writer = std::fs::File::from(to.try_clone()?);
        if at < end {
            io::Seek::seek(&mut reader, io::SeekFrom::Start(at))?;
            io::Seek::seek(&mut writer, io::SeekFrom::Start(at))?;
        }
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(self.buffer.len());
            match reader.read(&mut self.buffer[..want]) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    writer.write_all(&self.buffer[..read])?;
                    at += read as u64;
                    self.bytes += read as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

/// Sets owner, mode, attributes and times of an open file or directory, in the order that keeps them.
///
/// # Errors
/// Those of fchown(2), fchmod(2), fsetxattr(2) and futimens(3).
pub fn settle(file: impl AsFd, stat: &Stat, attributes: &Attributes) -> io::Result<()> {
    rustix::fs::fchown(&file, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for (key, value) in kept(attributes) {
        match rustix::fs::fsetxattr(&file, key.as_os_str(), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(rustix::fs::futimens(&file, &times(stat))?)
}

/// As [`settle`] for what is not opened: symlinks, devices, FIFOs.
///
/// # Errors
/// Those of fchownat(2), chmod(2), setxattr(2) and utimensat(2).
pub fn settle_name(into: &Dir, name: &OsStr, stat: &Stat, attributes: &Attributes) -> io::Result<()> {
    into.chown(name, stat.st_uid, stat.st_gid)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        into.chmod(name, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    }
    for (key, value) in kept(attributes) {
        match into.set_xattr(name, key, value) {
            Err(e) if !matches!(Errno::from_io_error(&e), Some(Errno::OPNOTSUPP | Errno::PERM)) => return Err(e),
            _ => {}
        }
    }
    into.set_times(name, &times(stat))
}

/// Those attributes that are a file's own: the marks of overlayfs mean nothing outside it.
pub fn kept(attributes: &Attributes) -> impl Iterator<Item = &(OsString, Vec<u8>)> {
    let marks = |key: &OsString| OVERLAY_XATTRS.iter().any(|prefix| key.as_bytes().starts_with(prefix));
    attributes.iter().filter(move |(key, _)| !marks(key))
}

/// Times of access and modification in a status.
#[must_use]
pub fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec.cast_signed() },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() },
    }
}
