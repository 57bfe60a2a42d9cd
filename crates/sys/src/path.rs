//! File operations confined to one directory tree, whatever is planted inside that tree.
//!
//! A [`Root`] is a directory descriptor. Every path given to it is resolved by the kernel with
//! `openat2(2)` under `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`: absolute paths, absolute symlinks and
//! `..` end at the root, and magic links of procfs are refused. A [`Dir`] is one directory below it, and
//! takes single names only, so nothing is resolved after it was opened. The invariant: no call in this
//! file touches an object outside the tree its `Root` was opened on. The store (unpacking layers,
//! copying files), the engine and the runtime are the callers.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, ResolveFlags, Stat, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// How often a resolution is repeated when the kernel asks for it because a rename raced with `..`.
const RESOLVE_RETRIES: usize = 64;
/// Directories held open at once while a tree is removed; deeper ones are moved up first.
const REMOVE_DEPTH: usize = 64;
/// Rounds in which a tree is emptied while somebody keeps filling it, and rounds in all.
const REMOVE_ROUNDS: (usize, usize) = (64, 1 << 16);
/// Largest value of an extended attribute the kernel accepts (`XATTR_SIZE_MAX`, xattr(7)).
const XATTR_VALUE_MAX: usize = 64 * 1024;
/// Largest list of attribute names the kernel returns (`XATTR_LIST_MAX`).
const XATTR_LIST_MAX: usize = 64 * 1024;

/// A directory tree that no path given to it can leave.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// An open directory taking single names: no separators, neither `.` nor `..`.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

/// One name of a directory listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Name without separators.
    pub name: OsString,
    /// Type as the file system reported it; `Unknown` on file systems that do not.
    pub file_type: FileType,
    /// Inode number.
    pub ino: u64,
}

impl Root {
    /// Opens the directory at `path`, which the caller trusts (the engine's own data, not content).
    ///
    /// # Errors
    /// Those of open(2); `ENOTDIR` when it is no directory.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::open(path.as_ref(), flags, Mode::empty())? })
    }

    /// Takes a directory descriptor as a root: `/proc/PID/root`, a detached mount, a layer directory.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// The directory itself, for single-name operations at the top of the tree.
    ///
    /// # Errors
    /// Those of openat(2).
    pub fn dir(&self) -> io::Result<Dir> {
        self.open_dir("/")
    }

    /// A second descriptor of the same tree.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }

    /// Opens `path`, following symlinks inside the tree unless `flags` has `NOFOLLOW`.
    ///
    /// # Errors
    /// Those of openat2(2); `ELOOP` for a symlink loop or a magic link.
    pub fn open_at(&self, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        resolve(self.fd.as_fd(), path.as_ref(), flags, mode)
    }

    /// Opens the directory `path`, following symlinks inside the tree.
    ///
    /// # Errors
    /// As [`Root::open_at`]; `ENOTDIR`.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Dir { fd: self.open_at(path, flags, Mode::empty())? })
    }

    /// The tree below `path` as a root of its own.
    ///
    /// # Errors
    /// As [`Root::open_dir`].
    pub fn sub(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { fd: self.open_dir(path)?.fd })
    }

    /// Resolves all but the last component of `path`.
    ///
    /// # Errors
    /// `EINVAL` when `path` has no last component (`/`, `a/..`), else as [`Root::open_dir`].
    pub fn parent(&self, path: impl AsRef<Path>) -> io::Result<(Dir, OsString)> {
        let (parent, name) = split(path.as_ref())?;
        Ok((self.open_dir(parent)?, name))
    }

    /// As [`Root::parent`], making missing parent directories with `mode`, owned by the caller.
    ///
    /// # Errors
    /// `ENOTDIR` when a parent exists and is no directory, else as [`Root::parent`].
    pub fn parent_or_create(&self, path: impl AsRef<Path>, mode: Mode) -> io::Result<(Dir, OsString)> {
        let (parent, name) = split(path.as_ref())?;
        Ok((self.create_dir_all(parent, mode)?, name))
    }

    /// Makes `path` and its missing parents, each resolved inside the tree; existing ones are left as they are.
    ///
    /// # Errors
    /// `ENOTDIR` when a component is no directory, those of mkdirat(2) otherwise.
    pub fn create_dir_all(&self, path: impl AsRef<Path>, mode: Mode) -> io::Result<Dir> {
        let path = path.as_ref();
        match self.open_dir(if path.as_os_str().is_empty() { Path::new("/") } else { path }) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let parts: Vec<Component<'_>> =
            path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir)).collect();
        let prefix = |count: usize| Path::new("/").join(parts[..count].iter().collect::<PathBuf>());
        // The longest prefix that exists, by halves: one by one would cost the square of the depth.
        let (mut found, mut missing) = (0, parts.len());
        while missing - found > 1 {
            let middle = found.midpoint(missing);
            match self.open_dir(prefix(middle)) {
                Ok(_) => found = middle,
                Err(e) if e.kind() == io::ErrorKind::NotFound => missing = middle,
                Err(e) => return Err(e),
            }
        }
        let mut dir = self.open_dir(prefix(found))?;
        for count in found + 1..=parts.len() {
            let Component::Normal(name) = parts[count - 1] else {
                dir = self.open_dir(prefix(count))?;
                continue;
            };
            dir = match dir.mkdir(name, mode) {
                // What was made a moment ago needs no resolution, unless somebody changed it already.
                Ok(()) => match dir.open_dir(name) {
                    Ok(made) => made,
                    Err(_) => self.open_dir(prefix(count))?,
                },
                // Made by somebody else meanwhile, or a symlink, to be followed inside the tree.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.open_dir(prefix(count))?,
                Err(e) => return Err(e),
            };
        }
        Ok(dir)
    }

    /// Status of `path`, following symlinks inside the tree.
    ///
    /// # Errors
    /// As [`Root::open_at`].
    pub fn stat(&self, path: impl AsRef<Path>) -> io::Result<Stat> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(rustix::fs::fstat(fd)?)
    }

    /// Status of `path` itself, the last component not followed.
    ///
    /// # Errors
    /// As [`Root::open_at`].
    pub fn lstat(&self, path: impl AsRef<Path>) -> io::Result<Stat> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        Ok(rustix::fs::fstat(fd)?)
    }

    /// Target text of the symlink `path`.
    ///
    /// # Errors
    /// `EINVAL` when it is no symlink.
    pub fn readlink(&self, path: impl AsRef<Path>) -> io::Result<OsString> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        read_link(fd)
    }

    /// Path of `path` with every symlink resolved inside the tree, as an absolute path of the tree.
    ///
    /// The answer is a snapshot for display and comparison; opening it again is a new resolution.
    /// Missing components are kept as they are.
    ///
    /// # Errors
    /// `ELOOP` after 255 symlinks, else those of readlinkat(2).
    pub fn canonicalize(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let mut pending: Vec<OsString> = reversed_components(path.as_ref());
        let mut done = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                done.pop();
                continue;
            }
            done.push(&name);
            match self.readlink(&done) {
                Ok(target) => {
                    links += 1;
                    if links > 255 {
                        return Err(Errno::LOOP.into());
                    }
                    done.pop();
                    let target = Path::new(&target);
                    if target.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    pending.extend(reversed_components(target));
                }
                Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::INVAL | Errno::NOENT | Errno::NOTDIR)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Makes `new` another name of the file `existing`; both are resolved inside the tree and neither
    /// last component is followed.
    ///
    /// # Errors
    /// `ENOENT` when `existing` is missing, those of linkat(2) otherwise.
    pub fn hard_link(&self, existing: impl AsRef<Path>, new: impl AsRef<Path>) -> io::Result<()> {
        let (from, from_name) = self.parent(existing)?;
        let (to, to_name) = self.parent(new)?;
        to.link_from(&from, &from_name, &to_name)
    }

    /// Removes `path` and everything below it; the last component is not followed.
    ///
    /// # Errors
    /// `EBUSY` when a mount is in the way, those of unlinkat(2) otherwise.
    pub fn remove_tree(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.remove_tree(&name)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Root> for OwnedFd {
    fn from(root: Root) -> Self {
        root.fd
    }
}

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

fn by_descriptor(handle: impl AsFd) -> String {
    format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd())
}

fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..RESOLVE_RETRIES {
        match rustix::fs::openat2(root, text.as_c_str(), flags | OFlags::CLOEXEC, mode, how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::AGAIN.into())
}

fn split(path: &Path) -> io::Result<(&Path, OsString)> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    let parent = if parent.as_os_str().is_empty() { Path::new("/") } else { parent };
    Ok((parent, name.to_owned()))
}

fn single(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(Errno::INVAL.into());
    }
    Ok(name)
}

fn reversed_components(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(tag: &str) -> Self {
            let mut random = [0_u8; 8];
            rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
            let path = std::env::temp_dir().join(format!("sys-path-{tag}-{:016x}", u64::from_ne_bytes(random)));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn mode(bits: u32) -> Mode {
        Mode::from_raw_mode(bits)
    }

    #[test]
    fn symlinks_and_dots_stay_inside() {
        let scratch = Scratch::new("inside");
        let tree = scratch.0.join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(scratch.0.join("secret"), "outside").unwrap();
        std::fs::write(tree.join("secret"), "inside").unwrap();
        symlink("/secret", tree.join("absolute")).unwrap();
        symlink("../../../secret", tree.join("relative")).unwrap();
        symlink("loop", tree.join("loop")).unwrap();
        let root = Root::open(&tree).unwrap();
        for path in ["absolute", "relative", "/../secret", "../../secret", "/secret"] {
            let fd = root.open_at(path, OFlags::RDONLY, Mode::empty()).unwrap();
            let text = std::io::read_to_string(std::fs::File::from(fd)).unwrap();
            assert_eq!(text, "inside", "{path}");
        }
        let looped = root.open_at("loop", OFlags::RDONLY, Mode::empty()).unwrap_err();
        assert_eq!(Errno::from_io_error(&looped), Some(Errno::LOOP));
        assert_eq!(root.canonicalize("relative").unwrap(), Path::new("/secret"));
        assert_eq!(root.canonicalize("no/../such").unwrap(), Path::new("/such"));
    }

    #[test]
    fn magic_links_are_refused() {
        let root = Root::open("/").unwrap();
        let error = root.open_at("/proc/self/root/etc", OFlags::PATH, Mode::empty()).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::LOOP));
    }

    #[test]
    fn parents_are_made_through_links_inside() {
        let scratch = Scratch::new("parents");
        let tree = scratch.0.join("tree");
        std::fs::create_dir_all(tree.join("real")).unwrap();
        symlink("/real", tree.join("link")).unwrap();
        symlink("/missing/deep", tree.join("dangling")).unwrap();
        let root = Root::open(&tree).unwrap();
        let (dir, name) = root.parent_or_create("link/a/b/file", mode(0o755)).unwrap();
        drop(dir.create_file(&name, mode(0o644)).unwrap());
        assert!(tree.join("real/a/b/file").exists());
        assert!(root.create_dir_all("dangling/x", mode(0o755)).is_err());
        assert!(!scratch.0.join("missing").exists());
        assert!(root.parent("/").is_err() && root.parent("a/..").is_err());
    }

    #[test]
    fn names_with_separators_are_refused() {
        let scratch = Scratch::new("names");
        let dir = Root::open(&scratch.0).unwrap().dir().unwrap();
        for name in ["", ".", "..", "a/b", "/etc"] {
            assert!(dir.mkdir(OsStr::new(name), mode(0o755)).is_err(), "{name:?}");
            assert!(dir.remove_tree(OsStr::new(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn changes_do_not_follow_the_last_link() {
        let scratch = Scratch::new("nofollow");
        let tree = scratch.0.join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("target"), "x").unwrap();
        symlink("target", tree.join("link")).unwrap();
        let before = std::fs::metadata(tree.join("target")).unwrap();
        let dir = Root::open(&tree).unwrap().dir().unwrap();
        let link = OsStr::new("link");
        assert!(dir.chmod(link, mode(0o777)).is_err());
        assert!(dir.open_file(link).is_err() && dir.open_dir(link).is_err());
        assert!(dir.create_file(link, mode(0o644)).is_err());
        dir.remove_tree(link).unwrap();
        let after = std::fs::metadata(tree.join("target")).unwrap();
        assert_eq!((before.mode(), before.mtime_nsec()), (after.mode(), after.mtime_nsec()));
    }

    #[test]
    fn attributes_are_kept_by_name() {
        let scratch = Scratch::new("xattr");
        std::fs::write(scratch.0.join("f"), "x").unwrap();
        let dir = Root::open(&scratch.0).unwrap().dir().unwrap();
        let (name, key) = (OsStr::new("f"), OsStr::new("user.note"));
        let long = vec![7_u8; 2000];
        match dir.set_xattr(name, key, &long) {
            // The scratch file system may have no user attributes.
            Err(e) if Errno::from_io_error(&e) == Some(Errno::OPNOTSUPP) => return,
            other => other.unwrap(),
        }
        assert_eq!(dir.xattr(name, key).unwrap(), Some(long.clone()));
        assert_eq!(dir.xattrs(name).unwrap(), vec![(key.to_owned(), long)]);
        assert_eq!(dir.xattr(name, OsStr::new("user.none")).unwrap(), None);
    }

    #[test]
    fn very_deep_trees_are_removed() {
        let scratch = Scratch::new("deep");
        let root = Root::open(&scratch.0).unwrap();
        let mut dir = root.dir().unwrap();
        // Deeper than a path can name (4096 bytes) and than the usual 1024 descriptors.
        for _ in 0..3000 {
            dir.mkdir(OsStr::new("directory"), mode(0o755)).unwrap();
            drop(dir.create_file(OsStr::new("file"), mode(0o644)).unwrap());
            dir = dir.open_dir(OsStr::new("directory")).unwrap();
        }
        root.remove_tree("directory").unwrap();
        root.remove_tree("file").unwrap();
        assert!(root.dir().unwrap().list().unwrap().is_empty());
    }

    #[test]
    fn removal_does_not_follow_links() {
        let scratch = Scratch::new("rmlink");
        std::fs::create_dir_all(scratch.0.join("keep")).unwrap();
        std::fs::write(scratch.0.join("keep/file"), "x").unwrap();
        std::fs::create_dir_all(scratch.0.join("gone/sub")).unwrap();
        symlink("../../keep", scratch.0.join("gone/sub/link")).unwrap();
        let root = Root::open(&scratch.0).unwrap();
        root.remove_tree("gone").unwrap();
        assert!(scratch.0.join("keep/file").exists());
        assert!(!scratch.0.join("gone").exists());
    }
}
