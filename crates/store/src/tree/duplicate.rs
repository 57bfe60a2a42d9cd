//! Copies a tree with all that files have: owners, modes, times, extended attributes, hard links, holes,
//! devices. Data is shared with the original where the file system can (FICLONE).
//!
//! The original may be changed while it is read: every member is looked up once and what the handle stands
//! for is copied, nothing is followed. The copy is the caller's alone. Walks any depth.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, Stat};
use rustix::io::Errno;
use sys::path::{Dir, Listed, Root};

use super::PATH_MAX;
use super::data::{Attributes, Data, settle, settle_name};
use super::descent::Descent;
use crate::error::{Error, Result};

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Duplicated {
    /// Files, directories and all else, without the root.
    pub entries: u64,
    /// Files whose data is shared with the original.
    pub shared: u64,
    /// Bytes that were copied.
    pub bytes: u64,
}

/// Copies everything in `from` into the directory `to`, which gets the metadata of `from`. What is mounted
/// inside is left out.
///
/// # Errors
/// [`Error::Io`] naming the file; what was copied before stays, for the caller to remove.
pub fn duplicate(from: &Root, to: &Root) -> Result<Duplicated> {
    let fail = || Error::io("cannot open the tree");
    let (source, target) = (from.dir().map_err(fail())?, to.dir().map_err(fail())?);
    let stat = rustix::fs::fstat(&source).map_err(|e| fail()(e.into()))?;
    let mut copier = Copier { to, device: stat.st_dev, links: HashMap::new(), data: Data::default(), entries: 0 };
    copier.walk(source, target)?;
    Ok(Duplicated { entries: copier.entries, shared: copier.data.shared, bytes: copier.data.bytes })
}

/// Longest path: the paths of all directories that the walk is in cost memory with the square of its depth.
const MAX_DEPTH: usize = 16 << 10;

struct Copier<'a> {
    to: &'a Root,
    device: u64,
    /// First path in the copy of each file with several links.
    links: HashMap<(u64, u64), Vec<u8>>,
    data: Data,
    entries: u64,
}

struct Level {
    prefix: Vec<u8>,
    /// Names still to do, last first.
    pending: Vec<Listed>,
    stat: Stat,
    attributes: Attributes,
}

impl Level {
    fn of(dir: &Dir, prefix: Vec<u8>) -> io::Result<Self> {
        let mut pending = dir.list()?;
        pending.sort_by(|a, b| b.name.cmp(&a.name));
        Ok(Self { prefix, pending, stat: rustix::fs::fstat(dir)?, attributes: sys::path::xattrs(dir)? })
    }
}

impl Copier<'_> {
    fn walk(&mut self, source: Dir, target: Dir) -> Result<()> {
        let fail = || Error::io("cannot walk the tree");
        let first = Level::of(&source, Vec::new()).map_err(fail())?;
        let mut sources = Descent::new(source, first).map_err(fail())?;
        let mut targets = Descent::new(target, ()).map_err(fail())?;
        while let (Some((dir, level)), Some((into, ()))) = (sources.top(), targets.top()) {
            let Some(next) = level.pending.pop() else {
                // Last of all: members change a directory's time, and inherit what it hands down.
                settle(into, &level.stat, &level.attributes).map_err(named(&level.prefix))?;
                sources.pop().map_err(fail())?;
                targets.pop().map_err(fail())?;
                continue;
            };
            let path = [&level.prefix[..], next.name.as_bytes()].concat();
            if path.len() > MAX_DEPTH {
                return Err(fail()(rustix::io::Errno::NAMETOOLONG.into()));
            }
            let copied = self.member(dir, into, &next.name, &path).map_err(named(&path))?;
            if let Some((child, made)) = copied {
                let mut below = Level::of(&child, [&path[..], b"/"].concat()).map_err(named(&path))?;
                if below.stat.st_dev != self.device {
                    below.pending.clear();
                }
                sources.push(child, below).map_err(fail())?;
                targets.push(made, ()).map_err(fail())?;
            }
        }
        Ok(())
    }

    /// Copies one member; the answer is a directory to go into and its copy.
    fn member(&mut self, dir: &Dir, into: &Dir, name: &OsStr, path: &[u8]) -> io::Result<Option<(Dir, Dir)>> {
        let handle = match dir.open_handle(name) {
            Ok(handle) => handle,
            // Removed meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let stat = rustix::fs::fstat(&handle)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        self.entries += 1;
        if kind == FileType::Directory {
            let child = Dir::from_handle(&handle)?;
            into.mkdir(name, Mode::RWXU)?;
            return Ok(Some((child, into.open_dir(name)?)));
        }
        if stat.st_nlink > 1 {
            if self.link(&stat, into, name)? {
                return Ok(None);
            }
            if path.len() < PATH_MAX {
                self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
            }
        }
        let attributes = sys::path::xattrs(&handle)?;
        match kind {
            FileType::RegularFile => {
                let file = into.create_file(name, Mode::RUSR | Mode::WUSR)?;
                self.data.copy(&sys::path::reopen_file(&handle)?, &file, stat.st_size)?;
                settle(&file, &stat, &attributes)?;
            }
            FileType::Symlink => {
                into.symlink(&sys::path::read_link(&handle)?, name)?;
                settle_name(into, name, &stat, &attributes)?;
            }
            special => {
                into.mknod(name, special, Mode::RUSR | Mode::WUSR, stat.st_rdev)?;
                settle_name(into, name, &stat, &attributes)?;
            }
        }
        Ok(None)
    }

    /// Another name of a file that was copied already.
    fn link(&self, stat: &Stat, into: &Dir, name: &OsStr) -> io::Result<bool> {
        let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) else { return Ok(false) };
        let (parent, last) = self.to.parent(Path::new("/").join(OsStr::from_bytes(first)))?;
        match into.link_from(&parent, &last, name) {
            Ok(()) => Ok(true),
            // More names than the copy's file system allows: a file of its own.
            Err(e) if Errno::from_io_error(&e) == Some(Errno::MLINK) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

fn named(path: &[u8]) -> impl FnOnce(io::Error) -> Error {
    let shown = String::from_utf8_lossy(path).into_owned();
    Error::io(format!("cannot copy {shown:?}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

    use rustix::fs::XattrFlags;

    use super::*;

    fn tree() -> (tempfile::TempDir, Root, tempfile::TempDir, Root) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (source, target) = (Root::open(from.path()).unwrap(), Root::open(to.path()).unwrap());
        (from, source, to, target)
    }

    #[test]
    fn everything_comes_along() {
        let (from, source, to, target) = tree();
        let (from, to) = (from.path(), to.path());
        std::fs::create_dir(from.join("d")).unwrap();
        std::fs::write(from.join("d/one"), vec![7; 200_000]).unwrap();
        std::fs::hard_link(from.join("d/one"), from.join("two")).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        let sparse = std::fs::File::create(from.join("sparse")).unwrap();
        sparse.write_at(b"end", 50 << 20).unwrap();
        sparse.set_len(60 << 20).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, from.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        std::fs::set_permissions(from.join("d"), std::fs::Permissions::from_mode(0o2711)).unwrap();
        std::fs::set_permissions(from, std::fs::Permissions::from_mode(0o1777)).unwrap();
        let xattr = rustix::fs::setxattr(from.join("d/one"), "user.k", b"v", XattrFlags::empty());

        let done = duplicate(&source, &target).unwrap();
        assert_eq!(done.entries, 7);
        assert_eq!(std::fs::read(to.join("two")).unwrap(), vec![7; 200_000]);
        let meta = |path: &str| std::fs::symlink_metadata(to.join(path)).unwrap();
        assert_eq!(meta("two").ino(), meta("d/one").ino());
        assert_eq!(std::fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!((meta("d").mode() & 0o7777, meta("").mode() & 0o7777), (0o2711, 0o1777));
        assert_eq!(meta("sparse").size(), 60 << 20);
        assert!(meta("sparse").blocks() * 512 < 1 << 20, "holes stay holes");
        let (mut three, copy) = ([0; 3], std::fs::File::open(to.join("sparse")).unwrap());
        copy.read_exact_at(&mut three, 50 << 20).unwrap();
        assert_eq!(&three, b"end");
        for path in ["d", "d/one", "link", "fifo", "sparse"] {
            let original = std::fs::symlink_metadata(from.join(path)).unwrap();
            assert_eq!((meta(path).mtime(), meta(path).mtime_nsec()), (original.mtime(), original.mtime_nsec()));
            assert_eq!(meta(path).mode(), original.mode());
        }
        assert_eq!(FileType::from_raw_mode(meta("socket").mode()), FileType::Socket);
        if xattr.is_ok() {
            let value = sys::path::xattr(std::fs::File::open(to.join("two")).unwrap(), OsStr::new("user.k"));
            assert_eq!(value.unwrap().as_deref(), Some(&b"v"[..]));
        }
    }

    #[test]
    fn a_tree_deeper_than_descriptors_and_paths() {
        let (_from, source, to, target) = tree();
        let mut dir = source.dir().unwrap();
        for _ in 0..3000 {
            dir.mkdir("d".as_ref(), Mode::RWXU).unwrap();
            dir = dir.open_dir("d".as_ref()).unwrap();
        }
        dir.create_file("bottom".as_ref(), Mode::RUSR).unwrap();
        assert_eq!(duplicate(&source, &target).unwrap().entries, 3001);
        for root in [source, target] {
            root.dir().unwrap().remove_tree("d".as_ref()).unwrap();
        }
        assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_copied_and_not_followed() {
        let (from, source, to, target) = tree();
        symlink("/", from.path().join("root")).unwrap();
        symlink("root/etc", from.path().join("etc")).unwrap();
        duplicate(&source, &target).unwrap();
        assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 2);
        assert_eq!(std::fs::read_link(to.path().join("root")).unwrap(), Path::new("/"));
    }
}
