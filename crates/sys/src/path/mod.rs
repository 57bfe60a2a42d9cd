//! File operations confined to one directory tree, whatever is planted inside that tree.
//!
//! A [`Root`] is a directory descriptor. Every path given to it is resolved by the kernel with
//! `openat2(2)` under `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`: absolute paths, absolute symlinks and
//! `..` end at the root, and magic links of procfs are refused. A [`Dir`] is one directory below it, and
//! takes single names only, so nothing is resolved after it was opened. The invariant: no call in this
//! module touches an object outside the tree its `Root` was opened on. The store (unpacking layers,
//! copying files), the engine and the runtime are the callers.

mod dir;
mod handle;
mod root;

pub use handle::{read_link, reopen_file, xattr, xattrs};

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often a resolution is repeated when the kernel asks for it because a rename raced with `..`.
const RESOLVE_RETRIES: usize = 64;

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
    use std::path::PathBuf;

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
