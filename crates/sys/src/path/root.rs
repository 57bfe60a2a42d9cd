//! What is done by paths: each is resolved below the root in one call of the kernel.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use super::handle::read_link;
use super::{Dir, Root, resolve, reversed_components, split};

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
