//! Applies an archive to a tree: unpacking a layer, `PUT archive`.
//!
//! The archive is hostile and so may be the tree (a running container's). Every path is resolved below
//! the tree's root; what is in the way of a member is removed and the member made anew, never written
//! through; attributes are set by descriptor or by single name without following. Layers get their
//! whiteouts turned into overlayfs form.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use layer::Whiteout;
use layer::tar::{Entry, Kind, Mtime, Reader};
use layer::whiteout;
use rustix::fs::{FileType, Gid, Mode, SeekFrom, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use sys::path::{Dir, Root};

use super::{OPAQUE_XATTR, OVERLAY_XATTRS, is_whiteout};
use crate::error::{Error, Result};

/// Bytes of paths of directories whose times are waiting to be set. Past it they are set at once: the
/// memory of unpacking must not depend on what is unpacked.
const WAITING_BYTES: usize = 32 << 20;
/// Parent directories that are made without being members, counted by the components of their paths. One
/// member can imply two thousand, which no bound on members covers.
const IMPLIED_MAX: usize = 4_000_000;

/// How an archive is applied.
#[derive(Debug, Clone, Default)]
pub struct ApplyOptions {
    /// Archive members go below this path of the tree, which must be a directory.
    pub base: PathBuf,
    /// `.wh.` members are whiteouts, to be turned into overlayfs form.
    pub whiteouts: bool,
    /// Attributes of the archive's root (`./`) are applied to the tree's.
    pub root_attributes: bool,
    /// Refuse a directory in the place of something else, and the reverse.
    pub no_overwrite_dir_non_dir: bool,
    /// Owner for everything, instead of the archive's.
    pub owner: Option<(u32, u32)>,
}

/// What was applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Members.
    pub entries: u64,
    /// Bytes of regular files, holes not counted.
    pub bytes: u64,
    /// The archive hides everything below its root.
    pub opaque_root: bool,
}

impl ApplyOptions {
    /// Unpacking an image layer.
    #[must_use]
    pub fn layer() -> Self {
        Self { whiteouts: true, root_attributes: true, ..Self::default() }
    }
}

/// Applies all members of `archive` below `root`.
///
/// # Errors
/// Those of the archive; [`Error::Member`] for one that breaks a rule; [`Error::Write`] for one the kernel
/// refuses. What was applied before stays; the caller removes the tree if it is its own.
pub fn apply<R: Read>(root: &Root, archive: &mut Reader<R>, options: &ApplyOptions) -> Result<Applied> {
    let mut applier = Applier {
        root,
        options,
        applied: Applied::default(),
        parent: None,
        directory_times: HashMap::new(),
        waiting: 0,
        implied: 0,
        base: options.base.as_os_str().as_bytes().to_vec(),
    };
    while let Some(entry) = archive.next_entry()? {
        applier.applied.entries += 1;
        applier.entry(&entry, archive)?;
    }
    applier.finish()
}

struct Applier<'a> {
    root: &'a Root,
    options: &'a ApplyOptions,
    applied: Applied,
    /// The directory the last member went into. Dropped whenever something is removed, since it may
    /// have been reached through that.
    parent: Option<(Vec<u8>, Dir)>,
    /// Times of directories, set last because members change them.
    directory_times: HashMap<Vec<u8>, Mtime>,
    /// Bytes of their paths.
    waiting: usize,
    /// Components of parents that were missing.
    implied: usize,
    base: Vec<u8>,
}

impl Applier<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, archive: &mut Reader<R>) -> Result<()> {
        let components: Vec<&[u8]> = entry.components().collect();
        let Some((name, parents)) = components.split_last() else {
            return self.root_entry(entry);
        };
        let name = OsStr::from_bytes(name);
        let refuse = |reason: &str| Error::Member { path: entry.display_path(), reason: reason.to_owned() };
        if self.options.whiteouts {
            let classified = whiteout::classify_path(components.iter().copied()).map_err(|e| refuse(&e.to_string()))?;
            match classified {
                Whiteout::None => {}
                Whiteout::Ignored => return Ok(()),
                Whiteout::Delete(target) => {
                    if !matches!(entry.kind, Kind::File | Kind::HardLink) {
                        return Err(refuse("a whiteout that is no file"));
                    }
                    return self.whiteout(parents, OsStr::from_bytes(target)).map_err(|e| write_error(entry, e));
                }
                Whiteout::Opaque => {
                    if entry.kind != Kind::File || entry.size != 0 {
                        return Err(refuse("an opaque marker that is no empty file"));
                    }
                    return self.opaque(parents).map_err(|e| write_error(entry, e));
                }
            }
            if entry.kind == Kind::CharDevice && entry.major == 0 && entry.minor == 0 {
                return Err(refuse("a character device 0:0 is reserved for whiteouts"));
            }
        }
        let path = self.path(&components);
        let parent = self.parent(parents).map_err(|e| write_error(entry, e))?;
        if entry.kind == Kind::HardLink {
            return self.hard_link(entry, &parent, name, &path);
        }
        let present = match parent.lstat(name) {
            Ok(stat) => Some(stat),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(write_error(entry, e)),
        };
        let mut over_whiteout = false;
        let (mut keep, mut removed) = (false, false);
        if let Some(stat) = present {
            let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            self.check_overwrite(entry, directory)?;
            over_whiteout = self.options.whiteouts && is_whiteout(&stat);
            keep = directory && entry.kind == Kind::Directory;
            if !keep {
                self.remove(&parent, name, &path).map_err(|e| write_error(entry, e))?;
                removed = true;
            }
        }
        let fail = |e: io::Error| write_error(entry, e);
        match entry.kind {
            Kind::File => self.file(entry, archive, &parent, name)?,
            Kind::Directory => {
                if !keep {
                    parent.mkdir(name, Mode::RWXU).map_err(fail)?;
                }
                if over_whiteout {
                    parent.set_xattr(name, OPAQUE_XATTR.as_ref(), b"y").map_err(fail)?;
                }
                let directory = parent.open_dir(name).map_err(fail)?;
                self.attributes(entry, directory.as_fd()).map_err(fail)?;
                self.set_later(path, entry.mtime)?;
            }
            Kind::Symlink => {
                parent.symlink(OsStr::from_bytes(&entry.link), name).map_err(fail)?;
                let (uid, gid) = self.owner(entry);
                parent.chown(name, uid, gid).map_err(fail)?;
                self.named_xattrs(entry, &parent, name).map_err(fail)?;
                parent.set_times(name, &times(entry.mtime)).map_err(fail)?;
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                let (file_type, device) = match entry.kind {
                    Kind::CharDevice => (FileType::CharacterDevice, rustix::fs::makedev(entry.major, entry.minor)),
                    Kind::BlockDevice => (FileType::BlockDevice, rustix::fs::makedev(entry.major, entry.minor)),
                    _ => (FileType::Fifo, 0),
                };
                parent.mknod(name, file_type, Mode::RUSR | Mode::WUSR, device).map_err(fail)?;
                let (uid, gid) = self.owner(entry);
                parent.chown(name, uid, gid).map_err(fail)?;
                parent.chmod(name, Mode::from_raw_mode(entry.mode)).map_err(fail)?;
                self.named_xattrs(entry, &parent, name).map_err(fail)?;
                parent.set_times(name, &times(entry.mtime)).map_err(fail)?;
            }
            Kind::HardLink => {}
        }
        if !removed {
            self.parent = Some((self.path(parents), parent));
        }
        Ok(())
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if self.options.root_attributes {
            let fail = |e: io::Error| write_error(entry, e);
            let directory = self.root.open_dir(self.base_path()).map_err(fail)?;
            self.attributes(entry, directory.as_fd()).map_err(fail)?;
            self.set_later(self.base.clone(), entry.mtime)?;
        }
        Ok(())
    }

    fn file<R: Read>(&mut self, entry: &Entry, archive: &mut Reader<R>, parent: &Dir, name: &OsStr) -> Result<()> {
        let fail = |e: io::Error| write_error(entry, e);
        let file = parent.create_file(name, Mode::RUSR | Mode::WUSR).map_err(fail)?;
        let mut at = 0;
        while let Some((offset, mut data)) = archive.data()? {
            if offset != at {
                rustix::fs::seek(&file, SeekFrom::Start(offset)).map_err(|e| fail(e.into()))?;
            }
            at = offset + data.len() as u64;
            self.applied.bytes += data.len() as u64;
            while !data.is_empty() {
                match rustix::io::write(&file, data) {
                    Ok(written) => data = &data[written..],
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(fail(e.into())),
                }
            }
        }
        if at < entry.size {
            // A hole at the end.
            rustix::fs::ftruncate(&file, entry.size).map_err(|e| fail(e.into()))?;
        }
        self.attributes(entry, file.as_fd()).map_err(fail)?;
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(|e| fail(e.into()))
    }

    fn hard_link(&mut self, entry: &Entry, parent: &Dir, name: &OsStr, path: &[u8]) -> Result<()> {
        let refuse = |reason: &str| Error::Member { path: entry.display_path(), reason: reason.to_owned() };
        let fail = |e: io::Error| write_error(entry, e);
        let components: Vec<&[u8]> = entry.link_components().collect();
        if self.options.whiteouts && components.iter().any(|part| part.starts_with(whiteout::PREFIX)) {
            return Err(refuse("a hard link to a whiteout"));
        }
        let Some((target, parents)) = components.split_last() else {
            return Err(refuse("a hard link without a target"));
        };
        let target = OsStr::from_bytes(target);
        if self.path(&components) == path {
            return Err(refuse("a hard link to itself"));
        }
        let above = self.path(parents);
        // An empty path is no path to the kernel: a target at the top.
        let above = if above.is_empty() { Path::new("/") } else { Path::new(OsStr::from_bytes(&above)) };
        let from = match self.root.open_dir(above) {
            Ok(from) => from,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(refuse("the target of the hard link does not exist"));
            }
            Err(e) => return Err(fail(e)),
        };
        match from.lstat(target) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(refuse("a hard link to a directory"));
            }
            Ok(stat) if self.options.whiteouts && is_whiteout(&stat) => {
                return Err(refuse("a hard link to a whiteout"));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(refuse("the target of the hard link does not exist"));
            }
            Err(e) => return Err(fail(e)),
        }
        match parent.lstat(name) {
            Ok(stat) => {
                self.check_overwrite(entry, FileType::from_raw_mode(stat.st_mode) == FileType::Directory)?;
                self.remove(parent, name, path).map_err(fail)?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(fail(e)),
        }
        parent.link_from(&from, target, name).map_err(fail)
    }

    fn whiteout(&mut self, parents: &[&[u8]], name: &OsStr) -> io::Result<()> {
        let parent = self.parent(parents)?;
        match parent.lstat(name) {
            // A whiteout is about the layers below; what this layer has stays, but alone.
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                parent.set_xattr(name, OPAQUE_XATTR.as_ref(), b"y")
            }
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                parent.mknod(name, FileType::CharacterDevice, Mode::empty(), 0)
            }
            Err(e) => Err(e),
        }
    }

    fn opaque(&mut self, parents: &[&[u8]]) -> io::Result<()> {
        if parents.is_empty() {
            // overlayfs does not look at the attribute on a layer's root: the caller stacks nothing below.
            self.applied.opaque_root = true;
            return Ok(());
        }
        let directory = self.parent(parents)?;
        Ok(rustix::fs::fsetxattr(directory.as_fd(), OPAQUE_XATTR, b"y", XattrFlags::empty())?)
    }

    /// The directory a member goes into, made when it is missing.
    fn parent(&mut self, parents: &[&[u8]]) -> io::Result<Dir> {
        let path = self.path(parents);
        if let Some((known, dir)) = self.parent.take()
            && known == path
        {
            return Ok(dir);
        }
        let open = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        let place = if path.is_empty() { Path::new("/") } else { Path::new(OsStr::from_bytes(&path)) };
        match self.root.open_dir(place) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        self.implied += parents.len();
        if self.implied > IMPLIED_MAX {
            let text = format!("archive refused: more than {IMPLIED_MAX} directories that are no members of it");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.root.create_dir_all(place, open)
    }

    fn remove(&mut self, parent: &Dir, name: &OsStr, path: &[u8]) -> io::Result<()> {
        self.parent = None;
        self.directory_times.remove(path);
        parent.remove_tree(name)
    }

    fn check_overwrite(&self, entry: &Entry, directory: bool) -> Result<()> {
        if self.options.no_overwrite_dir_non_dir && directory != (entry.kind == Kind::Directory) {
            let name = entry.components().next_back().map(String::from_utf8_lossy).unwrap_or_default();
            let into = Path::new("/").join(&self.options.base);
            let (old, new) = if directory { ("directory", "non-directory") } else { ("non-directory", "directory") };
            let text = format!("{old} {name:?} with {new} {into:?}");
            return Err(Error::Overwrite(text));
        }
        Ok(())
    }

    /// Owner, mode and extended attributes of an open file or directory, in the order that keeps them:
    /// a change of owner clears set-user-id bits and capabilities.
    fn attributes(&self, entry: &Entry, file: impl AsFd) -> io::Result<()> {
        let (uid, gid) = self.owner(entry);
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))?;
        for (key, value) in entry.xattrs.iter().filter(|(key, _)| wanted(key)) {
            match rustix::fs::fsetxattr(&file, OsStr::from_bytes(key), value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn named_xattrs(&self, entry: &Entry, parent: &Dir, name: &OsStr) -> io::Result<()> {
        for (key, value) in entry.xattrs.iter().filter(|(key, _)| wanted(key)) {
            match parent.set_xattr(name, OsStr::from_bytes(key), value) {
                Ok(()) => {}
                // Symlinks and devices hold no user attributes.
                Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::OPNOTSUPP | Errno::PERM)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn owner(&self, entry: &Entry) -> (u32, u32) {
        self.options.owner.unwrap_or((entry.uid, entry.gid))
    }

    fn path(&self, components: &[&[u8]]) -> Vec<u8> {
        let mut path = self.base.clone();
        for part in components {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        path
    }

    fn base_path(&self) -> PathBuf {
        if self.base.is_empty() { PathBuf::from("/") } else { PathBuf::from(OsString::from_vec(self.base.clone())) }
    }

    /// Remembers the time of a directory until its members are there.
    fn set_later(&mut self, path: Vec<u8>, mtime: Mtime) -> Result<()> {
        let bytes = path.len();
        if self.directory_times.insert(path, mtime).is_none() {
            self.waiting += bytes + size_of::<(Vec<u8>, Mtime)>();
        }
        if self.waiting > WAITING_BYTES { self.set_directory_times() } else { Ok(()) }
    }

    fn finish(mut self) -> Result<Applied> {
        self.parent = None;
        self.set_directory_times()?;
        Ok(self.applied)
    }

    fn set_directory_times(&mut self) -> Result<()> {
        self.waiting = 0;
        for (path, mtime) in std::mem::take(&mut self.directory_times) {
            let path = if path.is_empty() { &b"/"[..] } else { &path[..] };
            // Only what still is a directory: a running container may have changed it meanwhile.
            let set = || -> io::Result<()> {
                let directory: OwnedFd = Root::from(self.root.open_dir(Path::new(OsStr::from_bytes(path)))?).into();
                Ok(rustix::fs::futimens(&directory, &times(mtime))?)
            };
            match set() {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(source) => return Err(Error::Write { path: String::from_utf8_lossy(path).into_owned(), source }),
            }
        }
        Ok(())
    }
}

/// Attributes that are taken over. Those of overlayfs would change what the stack shows; labels and
/// integrity of the machine the archive comes from mean nothing here.
fn wanted(key: &[u8]) -> bool {
    if OVERLAY_XATTRS.iter().any(|prefix| key.starts_with(prefix)) {
        return false;
    }
    key.starts_with(b"user.")
        || matches!(key, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default")
}

fn times(mtime: Mtime) -> Timestamps {
    let mtime = mtime.clamped();
    let time = Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos) as _ };
    Timestamps { last_access: time, last_modification: time }
}

fn write_error(entry: &Entry, source: io::Error) -> Error {
    Error::Write { path: entry.display_path(), source }
}
