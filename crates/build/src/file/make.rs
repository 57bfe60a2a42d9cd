//! Directories, files and symlinks that are made, and paths that are removed.

use std::io::Write;
use std::path::Path;

use rustix::fs::{FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use sys::path::Root;

use super::destination::{self, Making};
use super::error::FileError;
use super::source;

/// A directory to make.
#[derive(Clone, Debug, Default)]
pub struct Mkdir {
    /// Its path.
    pub path: String,
    /// Permissions, of missing parents too.
    pub mode: u32,
    /// Missing parents are made.
    pub make_parents: bool,
    /// Owner; root without one.
    pub owner: Option<(u32, u32)>,
    /// Times in nanoseconds since the epoch; without one it is now.
    pub timestamp: Option<i64>,
}

/// A file to write.
#[derive(Clone, Debug, Default)]
pub struct Mkfile {
    /// Its path.
    pub path: String,
    /// Permissions.
    pub mode: u32,
    /// Content.
    pub data: Vec<u8>,
    /// Owner; root without one.
    pub owner: Option<(u32, u32)>,
    /// Times in nanoseconds since the epoch; without one it is now.
    pub timestamp: Option<i64>,
}

/// A symlink to make.
#[derive(Clone, Debug, Default)]
pub struct Symlink {
    /// Its text, which is not looked at.
    pub oldpath: String,
    /// Its path.
    pub newpath: String,
    /// Owner; root without one.
    pub owner: Option<(u32, u32)>,
    /// Times in nanoseconds since the epoch; without one it is now.
    pub timestamp: Option<i64>,
}

/// Something to remove, with all that is in it.
#[derive(Clone, Debug, Default)]
pub struct Rm {
    /// Its path; a symlink at its end is removed itself.
    pub path: String,
    /// Nothing there is no error.
    pub allow_not_found: bool,
    /// The path may have wildcards, which may match nothing.
    pub allow_wildcard: bool,
}

/// Makes a directory. One that is there stays as it is.
///
/// # Errors
/// [`FileError::Io`]: no directory above it, or something else in its place while parents are to be made.
pub fn mkdir(to: &Root, action: &Mkdir) -> Result<(), FileError> {
    let path = destination::resolve(to, &action.path)?;
    let owner = action.owner.unwrap_or((0, 0));
    let making = Making { mode: action.mode & 0o777, owner, timestamp: action.timestamp };
    if action.make_parents || path == Path::new("/") {
        return destination::directories(to, &path, making).map(drop);
    }
    let (dir, name) = destination::parent(to, &path, "mkdir")?;
    let made = match dir.mkdir(&name, Mode::RWXU) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        other => other,
    };
    let settled = made.and_then(|()| dir.open_dir(&name)).and_then(|child| destination::settle(&child, making));
    settled.map_err(FileError::io("mkdir", path))
}

/// Writes a file in the place of anything that is there but a directory.
///
/// # Errors
/// [`FileError::Io`].
pub fn mkfile(to: &Root, action: &Mkfile) -> Result<(), FileError> {
    let path = destination::resolve(to, &action.path)?;
    let fail = || FileError::io("open", &path);
    if path == Path::new("/") {
        return Err(fail()(Errno::ISDIR.into()));
    }
    let (dir, name) = destination::parent(to, &path, "open")?;
    match dir.lstat(&name) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            return Err(fail()(Errno::ISDIR.into()));
        }
        // Never written through: it may be a device.
        Ok(_) => dir.unlink(&name).map_err(fail())?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(fail()(e)),
    }
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::from(dir.create_file(&name, Mode::RUSR | Mode::WUSR)?);
        file.write_all(&action.data)?;
        let (uid, gid) = action.owner.unwrap_or((0, 0));
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(action.mode & 0o777))?;
        if let Some(timestamp) = action.timestamp {
            rustix::fs::futimens(&file, &destination::times(timestamp))?;
        }
        Ok(())
    };
    write().map_err(fail())
}

/// Makes a symlink.
///
/// # Errors
/// [`FileError::Io`]: something is in its place, or no directory above it.
pub fn symlink(to: &Root, action: &Symlink) -> Result<(), FileError> {
    let path = destination::resolve(to, &action.newpath)?;
    if path == Path::new("/") {
        return Err(FileError::io("symlink", path)(Errno::EXIST.into()));
    }
    let (dir, name) = destination::parent(to, &path, "symlink")?;
    let make = || -> std::io::Result<()> {
        dir.symlink(action.oldpath.as_ref(), &name)?;
        let (uid, gid) = action.owner.unwrap_or((0, 0));
        dir.chown(&name, uid, gid)?;
        action.timestamp.map_or(Ok(()), |timestamp| dir.set_times(&name, &destination::times(timestamp)))
    };
    make().map_err(FileError::io("symlink", &path))
}

/// Removes a path, or all that match.
///
/// # Errors
/// [`FileError::EmptyPath`] for the tree itself, [`FileError::Io`].
pub fn rm(to: &Root, action: &Rm) -> Result<(), FileError> {
    for path in source::matches(to, &action.path, action.allow_wildcard, false)? {
        if path.file_name().is_none() {
            return Err(FileError::EmptyPath);
        }
        let path = source::resolve(to, &path, false)?;
        let removed = to.parent(&path).and_then(|(dir, name)| {
            if !action.allow_not_found {
                dir.lstat(&name)?;
            }
            dir.remove_tree(&name)
        });
        match removed {
            Err(e)
                if action.allow_not_found && matches!(Errno::from_io_error(&e), Some(Errno::NOENT | Errno::NOTDIR)) => {
            }
            other => other.map_err(FileError::io("stat", &path))?,
        }
    }
    Ok(())
}
