//! What is done by single names in one directory. Nothing is followed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, ResolveFlags, Stat, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::handle::{by_descriptor, reopen_file, xattr, xattrs};
use super::{Dir, Listed, RESOLVE_RETRIES, Root, single};

/// Directories held open at once while a tree is removed; deeper ones are moved up first.
const REMOVE_DEPTH: usize = 64;
/// Rounds in which a tree is emptied while somebody keeps filling it, and rounds in all.
const REMOVE_ROUNDS: (usize, usize) = (64, 1 << 16);

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Dir> for Root {
    fn from(dir: Dir) -> Self {
        Self { fd: dir.fd }
    }
}

impl Dir {
    /// Takes a descriptor that is known to be a directory.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// A second descriptor of the same directory.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }

    /// Opens the directory a handle (`O_PATH`) stands for.
    ///
    /// # Errors
    /// `ENOTDIR`, and those of openat(2).
    pub fn from_handle(handle: impl AsFd) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::openat(handle, ".", flags, Mode::empty())? })
    }

    /// Opens the directory above this one, if it still is the one with this device and inode number: the
    /// way back of a walk that does not keep every directory open.
    ///
    /// # Errors
    /// `ESTALE` when this directory was moved elsewhere, and those of openat(2).
    pub fn open_parent(&self, device: u64, inode: u64) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.fd, "..", flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&handle)?;
        if (stat.st_dev, stat.st_ino) != (device, inode) {
            return Err(Errno::STALE.into());
        }
        Self::from_handle(handle)
    }

    /// Opens the directory `name`, refusing a symlink.
    ///
    /// # Errors
    /// `ENOTDIR` or `ELOOP` when it is no directory.
    pub fn open_dir(&self, name: &OsStr) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Dir { fd: rustix::fs::openat(&self.fd, single(name)?, flags, Mode::empty())? })
    }

    /// Opens the regular file `name` for reading, refusing symlinks and never blocking on a FIFO.
    ///
    /// # Errors
    /// `ELOOP` for a symlink, `EINVAL` for anything but a regular file.
    pub fn open_file(&self, name: &OsStr) -> io::Result<OwnedFd> {
        reopen_file(self.open_handle(name)?)
    }

    /// A handle (`O_PATH`) of `name` itself, symlink or not.
    ///
    /// # Errors
    /// Those of openat(2).
    pub fn open_handle(&self, name: &OsStr) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, single(name)?, flags, Mode::empty())?)
    }

    /// Creates the file `name`, which must not exist, for reading and writing.
    ///
    /// # Errors
    /// `EEXIST`, and those of openat(2).
    pub fn create_file(&self, name: &OsStr, mode: Mode) -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, single(name)?, flags, mode)?)
    }

    /// Status of `name`, not followed.
    ///
    /// # Errors
    /// Those of fstatat(2).
    pub fn lstat(&self, name: &OsStr) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.fd, single(name)?, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Target text of the symlink `name`.
    ///
    /// # Errors
    /// Those of readlinkat(2).
    pub fn readlink(&self, name: &OsStr) -> io::Result<OsString> {
        Ok(OsString::from_vec(rustix::fs::readlinkat(&self.fd, single(name)?, Vec::new())?.into_bytes()))
    }

    /// Makes the directory `name`.
    ///
    /// # Errors
    /// Those of mkdirat(2).
    pub fn mkdir(&self, name: &OsStr, mode: Mode) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.fd, single(name)?, mode)?)
    }

    /// Makes `name` a symlink with the text `target`, which is not looked at.
    ///
    /// # Errors
    /// Those of symlinkat(2).
    pub fn symlink(&self, target: &OsStr, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.fd, single(name)?)?)
    }

    /// Makes the node `name`: a device, FIFO or empty file. `device` is the raw device number.
    ///
    /// # Errors
    /// Those of mknodat(2).
    pub fn mknod(&self, name: &OsStr, file_type: FileType, mode: Mode, device: u64) -> io::Result<()> {
        Ok(rustix::fs::mknodat(&self.fd, single(name)?, file_type, mode, device)?)
    }

    /// Makes `name` another name of `existing` in the directory `from`; a symlink is linked itself.
    ///
    /// # Errors
    /// Those of linkat(2).
    pub fn link_from(&self, from: &Dir, existing: &OsStr, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::linkat(&from.fd, single(existing)?, &self.fd, single(name)?, AtFlags::empty())?)
    }

    /// Renames `name` to `new_name` in the directory `to`, replacing what is there.
    ///
    /// # Errors
    /// Those of renameat(2).
    pub fn rename(&self, name: &OsStr, to: &Dir, new_name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, single(name)?, &to.fd, single(new_name)?)?)
    }

    /// Removes the name of anything but a directory.
    ///
    /// # Errors
    /// Those of unlinkat(2).
    pub fn unlink(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, single(name)?, AtFlags::empty())?)
    }

    /// Removes the empty directory `name`.
    ///
    /// # Errors
    /// Those of unlinkat(2) with `AT_REMOVEDIR`.
    pub fn rmdir(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, single(name)?, AtFlags::REMOVEDIR)?)
    }

    /// Changes the owner of `name` itself.
    ///
    /// # Errors
    /// Those of fchownat(2).
    pub fn chown(&self, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(rustix::fs::chownat(&self.fd, single(name)?, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Changes the mode of `name`, which must not be a symlink.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a symlink.
    pub fn chmod(&self, name: &OsStr, mode: Mode) -> io::Result<()> {
        let handle = self.open_handle(name)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) == FileType::Symlink {
            return Err(Errno::OPNOTSUPP.into());
        }
        // fchmod(2) refuses O_PATH handles; the link below /proc/self/fd names exactly this object.
        Ok(rustix::fs::chmod(by_descriptor(&handle), mode)?)
    }

    /// Sets access and modification time of `name` itself.
    ///
    /// # Errors
    /// Those of utimensat(2).
    pub fn set_times(&self, name: &OsStr, times: &Timestamps) -> io::Result<()> {
        Ok(rustix::fs::utimensat(&self.fd, single(name)?, times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets an extended attribute of `name` itself.
    ///
    /// # Errors
    /// Those of setxattr(2).
    pub fn set_xattr(&self, name: &OsStr, key: &OsStr, value: &[u8]) -> io::Result<()> {
        let handle = self.open_handle(name)?;
        Ok(rustix::fs::setxattr(by_descriptor(&handle), key, value, XattrFlags::empty())?)
    }

    /// Value of an extended attribute of `name` itself; `None` when it is not set or not supported.
    ///
    /// # Errors
    /// Those of getxattr(2).
    pub fn xattr(&self, name: &OsStr, key: &OsStr) -> io::Result<Option<Vec<u8>>> {
        let handle = self.open_handle(name)?;
        xattr(&handle, key)
    }

    /// All extended attributes of `name` itself, in order of their names.
    ///
    /// # Errors
    /// Those of listxattr(2).
    pub fn xattrs(&self, name: &OsStr) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        let handle = self.open_handle(name)?;
        xattrs(&handle)
    }

    /// All names in the directory but `.` and `..`, unsorted.
    ///
    /// # Errors
    /// Those of getdents64(2).
    pub fn list(&self) -> io::Result<Vec<Listed>> {
        // A descriptor of its own: the position of `self` must not depend on who listed before.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty())?;
        let mut buffer = vec![MaybeUninit::<u8>::uninit(); 32 * 1024];
        let mut raw = RawDir::new(fd, &mut buffer);
        let mut out = Vec::new();
        while let Some(entry) = raw.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let name = OsString::from_vec(name.to_vec());
                out.push(Listed { name, file_type: entry.file_type(), ino: entry.ino() });
            }
        }
        Ok(out)
    }

    /// Removes `name` and everything below it, whatever its type and depth, with a bounded number of
    /// descriptors. Missing is success. What is mounted below is not gone into.
    ///
    /// # Errors
    /// `EBUSY` when a mount is in the way, `ENOTEMPTY` when somebody fills the tree as fast as it is
    /// emptied, those of unlinkat(2) otherwise.
    pub fn remove_tree(&self, name: &OsStr) -> io::Result<()> {
        match self.unlink(name) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // EPERM is what POSIX, EISDIR what Linux answers for a directory.
            Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::ISDIR | Errno::PERM)) => {}
            Err(e) => return Err(e),
        }
        let top = self.open_same_mount(name)?;
        let (mut moved, mut idle) = (0_u64, 0);
        for _ in 0..REMOVE_ROUNDS.1 {
            let before = moved;
            top.empty(&mut moved)?;
            match self.rmdir(name) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                // Something was moved up from below, or is still being written.
                Err(e) if Errno::from_io_error(&e) == Some(Errno::NOTEMPTY) => {}
                Err(e) => return Err(e),
            }
            idle += usize::from(moved == before);
            if idle > REMOVE_ROUNDS.0 {
                break;
            }
        }
        Err(Errno::NOTEMPTY.into())
    }

    /// As [`Dir::open_dir`], refusing a mount point: what is mounted there is not part of the tree.
    fn open_same_mount(&self, name: &OsStr) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        for _ in 0..RESOLVE_RETRIES {
            match rustix::fs::openat2(&self.fd, single(name)?, flags, Mode::empty(), how) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::XDEV) => return Err(Errno::BUSY.into()),
                other => return Ok(Dir { fd: other? }),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Removes what is in the directory; trees deeper than [`REMOVE_DEPTH`] are moved into it and left.
    fn empty(&self, moved: &mut u64) -> io::Result<()> {
        struct Level {
            dir: Dir,
            name: OsString,
            pending: Vec<Listed>,
        }
        let mut levels = vec![Level { dir: self.try_clone()?, name: OsString::new(), pending: self.list()? }];
        loop {
            let depth = levels.len();
            let Some(level) = levels.last_mut() else { return Ok(()) };
            let Some(next) = level.pending.pop() else {
                let done = levels.pop().map(|level| level.name);
                if let (Some(name), Some(parent)) = (done, levels.last()) {
                    match parent.dir.rmdir(&name) {
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                        other => other?,
                    }
                }
                continue;
            };
            match level.dir.unlink(&next.name) {
                Ok(()) => continue,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::ISDIR | Errno::PERM)) => {}
                Err(e) => return Err(e),
            }
            if depth >= REMOVE_DEPTH {
                loop {
                    let name = OsString::from(format!(".removing-{moved}"));
                    *moved += 1;
                    match level.dir.rename(&next.name, self, &name) {
                        // The name is taken by content: the next one then.
                        Err(e)
                            if matches!(
                                Errno::from_io_error(&e),
                                Some(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR)
                            ) => {}
                        other => break other?,
                    }
                }
                continue;
            }
            let dir = level.dir.open_same_mount(&next.name)?;
            let pending = dir.list()?;
            levels.push(Level { dir, name: next.name, pending });
        }
    }
}
