//! Paths below the container's root: resolved by openat2 with the root as the ceiling, links followed
//! inside it, magic links never. Missing targets are made one component at a time.
//!
//! Invariant: no descriptor handed out lies outside the root, whatever links the image holds or
//! another container swaps in meanwhile.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use sys::Errno;

/// The container's root directory, whether it is the calling process's root already or not.
pub(crate) struct Root(OwnedFd);

/// What to make where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Directory,
    File,
}

/// Dangling links followed while making one target.
const MAX_LINKS: u8 = 40;

impl Root {
    /// The calling process's root.
    pub(crate) fn open() -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open("/", flags, Mode::empty()).map(Self)
    }

    /// The root a mount is, attached or not.
    pub(crate) fn at(mount: OwnedFd) -> Self {
        Self(mount)
    }

    /// Opens a handle (`O_PATH`) on what `path` names.
    pub(crate) fn handle(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.resolve(path, OFlags::PATH, ResolveFlags::empty())
    }

    /// As [`Root::handle`], no component being a symlink.
    pub(crate) fn handle_without_links(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.resolve(path, OFlags::PATH, ResolveFlags::NO_SYMLINKS)
    }

    /// Another descriptor of the same.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(&self.0, 3)
    }

    /// As [`Root::ensure`], no component being a symlink.
    pub(crate) fn ensure_without_links(&self, path: &str, missing: Missing) -> Result<OwnedFd, Errno> {
        match self.handle_without_links(path) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        self.ensure(path, missing)?;
        self.handle_without_links(path)
    }

    /// Opens the directory `path`, no component being a symlink, for operations relative to it.
    pub(crate) fn open_dir(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)
    }

    /// Opens what the container has at `/dev/null`, without links; whether it is a null device is to be looked at.
    /// Only a device node is opened at all.
    pub(crate) fn open_null(&self) -> Result<OwnedFd, Errno> {
        let handle = self.handle_without_links("/dev/null")?;
        if !rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode).is_char_device()
            || rustix::fs::fstat(&handle)?.st_rdev != rustix::fs::makedev(1, 3)
        {
            return Err(Errno::NODEV);
        }
        // Swapped for a pipe meanwhile it must not hold us up.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
        let null = self.resolve("/dev/null", flags, ResolveFlags::NO_SYMLINKS)?;
        sys::fd::set_nonblocking(null.as_fd(), false)?;
        Ok(null)
    }

    /// A handle on the directory `path`, made (0755) with its parents when missing.
    pub(crate) fn ensure_dir(&self, path: &str) -> Result<OwnedFd, Errno> {
        let handle = self.ensure(path, Missing::Directory)?;
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode);
        if kind.is_dir() { Ok(handle) } else { Err(Errno::NOTDIR) }
    }

    /// A handle on `path`; when there is nothing, a directory (0755) or an empty file (0644) is made,
    /// with its parents. A dangling link is followed and its target made, inside the root.
    pub(crate) fn ensure(&self, path: &str, missing: Missing) -> Result<OwnedFd, Errno> {
        self.ensure_at(path, missing, MAX_LINKS)
    }

    fn ensure_at(&self, path: &str, missing: Missing, links: u8) -> Result<OwnedFd, Errno> {
        match self.handle(path) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        if links == 0 {
            return Err(Errno::LOOP);
        }
        let (parent, name) = split(path)?;
        let parent_fd = self.ensure_at(parent, Missing::Directory, links)?;
        let made = match missing {
            Missing::Directory => rustix::fs::mkdirat(&parent_fd, name, Mode::from_raw_mode(0o755)),
            Missing::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&parent_fd, name, flags, Mode::from_raw_mode(0o644)).map(drop)
            }
        };
        match made {
            Ok(()) => self.handle(path),
            Err(Errno::EXIST) => match rustix::fs::readlinkat(&parent_fd, name, Vec::new()) {
                Ok(target) => {
                    let target = target.to_str().map_err(|_| Errno::ILSEQ)?;
                    let path = if target.starts_with('/') { target.to_owned() } else { format!("{parent}/{target}") };
                    self.ensure_at(&path, missing, links - 1)
                }
                // Not a link: somebody else made it meanwhile.
                Err(Errno::INVAL) => self.handle(path),
                Err(errno) => Err(errno),
            },
            Err(errno) => Err(errno),
        }
    }

    fn resolve(&self, path: &str, flags: OFlags, more: ResolveFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        // EAGAIN: a rename or mount raced with the walk, so the kernel could not vouch for `..`.
        for _ in 0..128 {
            match rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What of `path` lies below `target`, which is a path as well; empty where they are the same.
pub(crate) fn beneath<'p>(path: &'p str, target: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(target.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}

/// The last component and what precedes it (`/` when nothing does).
pub(crate) fn split(path: &str) -> Result<(&str, &str), Errno> {
    let path = path.trim_end_matches('/');
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() || name == "." || name == ".." {
        return Err(Errno::INVAL);
    }
    Ok((if parent.is_empty() { "/" } else { parent }, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(test: &str) -> (Root, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(format!("runtime-root-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("in")).unwrap();
        std::fs::create_dir_all(dir.join("out")).unwrap();
        let fd = rustix::fs::open(dir.join("in"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (Root(fd), dir)
    }

    #[test]
    fn links_out_of_the_root_lead_inside_it() {
        let (root, dir) = root("links");
        std::os::unix::fs::symlink("/../../out", dir.join("in/abs")).unwrap();
        std::os::unix::fs::symlink("../../../out/deep", dir.join("in/rel")).unwrap();
        root.ensure("/abs/x", Missing::Directory).unwrap();
        root.ensure("/rel", Missing::File).unwrap();
        assert!(dir.join("in/out/x").is_dir());
        assert!(dir.join("in/out/deep").is_file());
        assert!(std::fs::read_dir(dir.join("out")).unwrap().next().is_none(), "nothing was made outside");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn whole_components_lie_beneath() {
        assert_eq!(beneath("/proc/keys", "/proc"), Some("keys"));
        assert_eq!(beneath("/proc/sys/kernel", "/proc/"), Some("sys/kernel"));
        assert_eq!(beneath("/proc", "/proc"), Some(""));
        assert_eq!(beneath("/proc/keys", "/"), Some("proc/keys"));
        assert_eq!(beneath("/process", "/proc"), None);
        assert_eq!(beneath("/sys", "/proc"), None);
    }

    #[test]
    fn loops_magic_links_and_dot_dot_end() {
        let (root, dir) = root("loops");
        std::os::unix::fs::symlink("b", dir.join("in/a")).unwrap();
        std::os::unix::fs::symlink("a", dir.join("in/b")).unwrap();
        assert_eq!(root.ensure("/a", Missing::File).unwrap_err(), Errno::LOOP);
        assert_eq!(root.ensure("/x/..", Missing::Directory).unwrap_err(), Errno::INVAL);
        assert!(root.ensure_dir("/new/deep/dir").is_ok());
        root.ensure("/file", Missing::File).unwrap();
        assert_eq!(root.ensure_dir("/file").unwrap_err(), Errno::NOTDIR);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
