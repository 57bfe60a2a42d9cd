//! What is done with a handle (`O_PATH`) to a file, whatever its name is by now.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// Largest value of an extended attribute the kernel accepts (`XATTR_SIZE_MAX`, xattr(7)).
const XATTR_VALUE_MAX: usize = 64 * 1024;
/// Largest list of attribute names the kernel returns (`XATTR_LIST_MAX`).
const XATTR_LIST_MAX: usize = 64 * 1024;

/// Opens the regular file a handle (`O_PATH`) stands for, for reading. Nothing but a regular file is opened
/// even for a moment: opening a FIFO blocks, and opening a device can start what it drives.
///
/// # Errors
/// `ELOOP` for a symlink, `EINVAL` for anything else but a regular file, those of open(2).
pub fn reopen_file(handle: impl AsFd) -> io::Result<OwnedFd> {
    match FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(Errno::LOOP.into()),
        _ => return Err(Errno::INVAL.into()),
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // The link below /proc/self/fd names exactly the object that was looked at.
    Ok(rustix::fs::open(by_descriptor(&handle), flags, Mode::empty())?)
}

/// Target text of the symlink a handle (`O_PATH`) stands for.
///
/// # Errors
/// `EINVAL` when it is no symlink, those of readlinkat(2).
pub fn read_link(handle: impl AsFd) -> io::Result<OsString> {
    match rustix::fs::readlinkat(&handle, "", Vec::new()) {
        Ok(text) => Ok(OsString::from_vec(text.into_bytes())),
        // An empty path on a descriptor that is no symlink.
        Err(Errno::NOENT) => Err(Errno::INVAL.into()),
        Err(e) => Err(e.into()),
    }
}

/// Value of an extended attribute of an open object, which may be an `O_PATH` handle; `None` when it is
/// not set or the file system has none.
///
/// # Errors
/// Those of getxattr(2).
pub fn xattr(handle: impl AsFd, key: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let path = by_descriptor(&handle);
    let mut small = [0_u8; 256];
    match rustix::fs::getxattr(&path, key, &mut small[..]) {
        Ok(len) => return Ok(Some(small[..len].to_vec())),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
        Err(Errno::RANGE) => {}
        Err(e) => return Err(e.into()),
    }
    let mut value = vec![0_u8; XATTR_VALUE_MAX];
    match rustix::fs::getxattr(&path, key, &mut value[..]) {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// All extended attributes of an open object, which may be an `O_PATH` handle, in order of their names.
///
/// # Errors
/// Those of listxattr(2) and getxattr(2).
pub fn xattrs(handle: impl AsFd) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let path = by_descriptor(&handle);
    let mut small = [0_u8; 512];
    let list = match rustix::fs::listxattr(&path, &mut small[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(len) => small[..len].to_vec(),
        Err(Errno::RANGE) => {
            let mut large = vec![0_u8; XATTR_LIST_MAX];
            let len = rustix::fs::listxattr(&path, &mut large[..])?;
            large.truncate(len);
            large
        }
        Err(e) => return Err(e.into()),
    };
    let mut out = Vec::new();
    for key in list.split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
        let key = OsStr::from_bytes(key);
        if let Some(value) = xattr(&handle, key)? {
            out.push((key.to_owned(), value));
        }
    }
    out.sort();
    Ok(out)
}

pub(super) fn by_descriptor(handle: impl AsFd) -> String {
    format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd())
}
