//! Archives of a tree: `docker export`, the layer a container's changes make.
//!
//! Members come in order of their names, so the same tree gives the same bytes. Hard links among the
//! members are kept. A file that changes while it is read never breaks the archive.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use layer::tar::{Entry, Kind, Limits, Mtime, Writer};
use layer::whiteout;
use rustix::fs::{FileType, SeekFrom, Stat};
use sys::path::{Dir, Listed, Root};

use super::descent::Descent;
use super::{OPAQUE_XATTR, OVERLAY_XATTRS, PATH_MAX, is_whiteout};
use crate::error::{Error, Result};

/// Writes the whole tree, without its root, as `docker export` does. `one_device` leaves out what is
/// mounted inside.
///
/// # Errors
/// [`Error::Io`] naming the file, [`Error::Tar`] for the stream.
pub fn export(root: &Root, out: impl Write, one_device: bool) -> Result<()> {
    let dir = root.dir().map_err(Error::io("cannot open the tree"))?;
    let mut archiver = Archiver::new(out);
    if one_device {
        archiver.device = Some(status(&dir)?.st_dev);
    }
    archiver.children(dir, Vec::new())?;
    archiver.finish()
}

/// Writes a container's changes, given overlayfs' upper directory, as an image layer.
///
/// # Errors
/// As [`export`].
pub fn diff_tar(upper: &Root, out: impl Write) -> Result<()> {
    let dir = upper.dir().map_err(Error::io("cannot open the changes"))?;
    let mut archiver = Archiver::new(out);
    archiver.layer = true;
    archiver.children(dir, Vec::new())?;
    archiver.finish()
}

/// Writes the whole tree with its root (`./`) and everything that [`apply`](super::apply) takes back: attributes,
/// access lists, nanoseconds, holes.
///
/// # Errors
/// As [`export`].
pub fn export_whole(root: &Root, out: impl Write) -> Result<()> {
    let dir = root.dir().map_err(Error::io("cannot open the tree"))?;
    let mut archiver = Archiver::new(out);
    archiver.device = Some(status(&dir)?.st_dev);
    archiver.writer = archiver.writer.nanoseconds(true);
    archiver.whole = true;
    archiver.directory_entry(&dir, b"./")?;
    archiver.children(dir, b"./".to_vec())?;
    archiver.finish()
}

/// An archive made of several trees and files, each at a place of its own.
pub struct TreeArchive<W: Write> {
    archiver: Archiver<W>,
}

impl<W: Write> TreeArchive<W> {
    /// An archive into `out`. With `mtime`, in seconds since 1970, every member has that time instead of its own.
    pub fn new(out: W, mtime: Option<i64>) -> Self {
        let mut archiver = Archiver::new(out);
        archiver.mtime = mtime;
        Self { archiver }
    }

    /// Writes a directory that is in no tree; the path ends with a slash.
    ///
    /// # Errors
    /// As [`export`].
    pub fn directory(&mut self, path: &str) -> Result<()> {
        self.archiver.entry(Entry::new(path, Kind::Directory, 0o755))
    }

    /// Writes what is in a tree, paths prefixed with `prefix`: nothing, or a path with its slash. Names of the top
    /// directory in `except` are left out.
    ///
    /// # Errors
    /// As [`export`].
    pub fn tree(&mut self, root: &Root, prefix: &str, except: &[&str]) -> Result<()> {
        let dir = root.dir().map_err(Error::io("cannot open the tree"))?;
        // Files with several links are linked within a tree only.
        self.archiver.links.clear();
        let mut first = level(&dir, prefix.as_bytes().to_vec())?;
        first.pending.retain(|entry| !except.iter().any(|name| entry.name == OsStr::new(name)));
        self.archiver.walk(dir, first)
    }

    /// Writes a file of these bytes.
    ///
    /// # Errors
    /// As [`export`].
    pub fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let mut entry = Entry::new(path, Kind::File, 0o644);
        entry.size = bytes.len() as u64;
        self.archiver.entry(entry)?;
        Ok(self.archiver.writer.data(bytes)?)
    }

    /// Writes the end.
    ///
    /// # Errors
    /// As [`export`].
    pub fn finish(self) -> Result<()> {
        self.archiver.finish()
    }
}

/// Walks directories and writes members.
pub(super) struct Archiver<W: Write> {
    writer: Writer<W>,
    /// First path of each file with several links.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Overlayfs' whiteouts become those of image layers.
    layer: bool,
    /// Directories of other devices are written empty.
    device: Option<u64>,
    /// Access lists, nanoseconds and holes too.
    whole: bool,
    /// The time of every member, in seconds since 1970, instead of its own.
    mtime: Option<i64>,
    buffer: Box<[u8]>,
}

struct Level {
    prefix: Vec<u8>,
    /// Names still to do, last first.
    pending: Vec<Listed>,
}

impl<W: Write> Archiver<W> {
    pub(super) fn new(out: W) -> Self {
        let buffer = vec![0; 128 * 1024].into_boxed_slice();
        Self {
            writer: Writer::new(out),
            links: HashMap::new(),
            layer: false,
            device: None,
            whole: false,
            mtime: None,
            buffer,
        }
    }

    pub(super) fn finish(self) -> Result<()> {
        self.writer.finish()?;
        Ok(())
    }

    /// Writes what is in `dir`, each path prefixed with `prefix`; no recursion, whatever the depth.
    pub(super) fn children(&mut self, dir: Dir, prefix: Vec<u8>) -> Result<()> {
        let first = level(&dir, prefix)?;
        self.walk(dir, first)
    }

    fn walk(&mut self, dir: Dir, first: Level) -> Result<()> {
        let fail = || Error::io("cannot walk the tree");
        let mut descent = Descent::new(dir, first).map_err(fail())?;
        while let Some((dir, top)) = descent.top() {
            let Some(next) = top.pending.pop() else {
                descent.pop().map_err(fail())?;
                continue;
            };
            let path = [&top.prefix[..], next.name.as_bytes()].concat();
            if let Some(child) = self.member(dir, &next.name, &path)? {
                let below = level(&child, [&path[..], b"/"].concat())?;
                descent.push(child, below).map_err(fail())?;
            }
        }
        Ok(())
    }

    /// Begins a member.
    fn entry(&mut self, mut entry: Entry) -> Result<()> {
        if let Some(secs) = self.mtime {
            entry.mtime = Mtime { secs, nanos: 0 };
        }
        Ok(self.writer.entry(&entry)?)
    }

    /// Writes one member; the answer is a directory to go into.
    pub(super) fn member(&mut self, dir: &Dir, name: &OsStr, path: &[u8]) -> Result<Option<Dir>> {
        let shown = || String::from_utf8_lossy(path).into_owned();
        let fail = || Error::io(format!("cannot archive {:?}", shown()));
        if path.len() >= PATH_MAX {
            return Err(fail()(rustix::io::Errno::NAMETOOLONG.into()));
        }
        // Looked up once: what the handle stands for stays the same, whoever renames in the directory.
        let handle = match dir.open_handle(name) {
            Ok(handle) => handle,
            // Removed meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail()(e)),
        };
        let stat = rustix::fs::fstat(&handle).map_err(|e| fail()(e.into()))?;
        if self.layer && is_whiteout(&stat) {
            let parent = &path[..path.len() - name.len()];
            let mut entry = Entry::new([parent, whiteout::PREFIX, name.as_bytes()].concat(), Kind::File, 0);
            entry.mtime.secs = stat.st_mtime;
            self.entry(entry)?;
            return Ok(None);
        }
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            // Sockets have no place in an archive and are of no use without their process.
            _ => return Ok(None),
        };
        let mut entry = metadata(&stat, kind, path);
        if kind != Kind::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                entry.kind = Kind::HardLink;
                entry.link.clone_from(first);
                self.entry(entry)?;
                return Ok(None);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        match kind {
            Kind::File => {
                let file = sys::path::reopen_file(&handle).map_err(fail())?;
                self.xattrs(&file, &mut entry, &fail)?;
                self.file(std::fs::File::from(file), entry, &fail)?;
                Ok(None)
            }
            Kind::Directory => {
                let child = Dir::from_handle(&handle).map_err(fail())?;
                self.xattrs(&child, &mut entry, &fail)?;
                self.entry(entry)?;
                if self.layer && is_opaque(&child, &fail)? {
                    let marker = [path, b"/", whiteout::OPAQUE].concat();
                    self.entry(Entry::new(marker, Kind::File, 0))?;
                }
                let inside = self.device.is_none_or(|device| device == stat.st_dev);
                Ok(inside.then_some(child))
            }
            Kind::Symlink => {
                entry.link = sys::path::read_link(&handle).map_err(fail())?.as_bytes().to_vec();
                self.entry(entry)?;
                Ok(None)
            }
            _ => {
                self.entry(entry)?;
                Ok(None)
            }
        }
    }

    /// Writes the member of an open directory, named by `path` with its slash.
    pub(super) fn directory_entry(&mut self, dir: &Dir, path: &[u8]) -> Result<()> {
        let fail = || Error::io(format!("cannot archive {:?}", String::from_utf8_lossy(path)));
        let mut entry = metadata(&status(dir)?, Kind::Directory, path);
        self.xattrs(dir, &mut entry, &fail)?;
        self.entry(entry)?;
        Ok(())
    }

    fn xattrs<F: FnOnce(io::Error) -> Error>(
        &self,
        file: impl AsFd,
        entry: &mut Entry,
        fail: &dyn Fn() -> F,
    ) -> Result<()> {
        let mut left = Limits::default().xattr_bytes;
        for (key, value) in sys::path::xattrs(file).map_err(fail())? {
            let key = key.as_bytes();
            let overlay = OVERLAY_XATTRS.iter().any(|prefix| key.starts_with(prefix));
            // What Docker keeps of a file, and what the file's own user set.
            let list = self.whole && key.starts_with(b"system.posix_acl_");
            let kept = !overlay && (key == b"security.capability" || key.starts_with(b"user.") || list);
            // Left out rather than making the archive one that cannot be written, or not be read again.
            let size = key.len() + value.len();
            if kept && !key.contains(&b'=') && size <= left {
                left -= size;
                entry.xattrs.push((key.to_vec(), value));
            }
        }
        Ok(())
    }

    fn file<F: FnOnce(io::Error) -> Error>(
        &mut self,
        mut file: std::fs::File,
        mut entry: Entry,
        fail: &dyn Fn() -> F,
    ) -> Result<()> {
        if self.whole {
            entry.sparse = regions(&file, entry.size);
        }
        let regions = entry.sparse.clone();
        self.entry(entry)?;
        let Some(regions) = regions else {
            let length = self.writer.owed();
            return self.bytes(&mut file, length, fail);
        };
        for (offset, length) in regions {
            io::Seek::seek(&mut file, io::SeekFrom::Start(offset)).map_err(fail())?;
            self.bytes(&mut file, length, fail)?;
        }
        Ok(())
    }

    /// Writes so many bytes from where the file is.
    fn bytes<F: FnOnce(io::Error) -> Error>(
        &mut self,
        file: &mut std::fs::File,
        length: u64,
        fail: &dyn Fn() -> F,
    ) -> Result<()> {
        let mut left = length.min(self.writer.owed());
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            match file.read(&mut self.buffer[..want]) {
                // It shrank while it was read: the header has promised its size.
                Ok(0) => {
                    self.writer.fill()?;
                    left = 0;
                }
                Ok(read) => {
                    self.writer.data(&self.buffer[..read])?;
                    left -= read as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(fail()(e)),
            }
        }
        Ok(())
    }
}

/// The parts of a file that are no holes; `None` when it has none worth telling, or too many parts. The file is at
/// its beginning afterwards.
fn regions(file: &std::fs::File, size: u64) -> Option<Vec<(u64, u64)>> {
    let found = search(file, size);
    rustix::fs::seek(file, SeekFrom::Start(0)).ok()?;
    found.filter(|list| {
        let sum: u64 = list.iter().map(|(_, length)| length).sum();
        sum < size && sum < layer::tar::SPARSE_MAX
    })
}

fn search(file: &std::fs::File, size: u64) -> Option<Vec<(u64, u64)>> {
    const REGIONS: usize = 32_768;
    let (mut list, mut at) = (Vec::new(), 0);
    while at < size {
        match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(begin) if begin < size && list.len() < REGIONS => {
                let end = rustix::fs::seek(file, SeekFrom::Hole(begin)).ok()?.min(size);
                list.push((begin, end.checked_sub(begin).filter(|length| *length > 0)?));
                at = end;
            }
            Ok(begin) if begin < size => return None,
            // Nothing but a hole, or longer than it was a moment ago.
            Ok(_) | Err(rustix::io::Errno::NXIO) => break,
            Err(_) => return None,
        }
    }
    Some(list)
}

/// A member's metadata without links, attributes and data.
pub(super) fn metadata(stat: &Stat, kind: Kind, path: &[u8]) -> Entry {
    let mut entry = Entry::new(path, kind, stat.st_mode & 0o7777);
    (entry.uid, entry.gid) = (stat.st_uid, stat.st_gid);
    entry.mtime = Mtime { secs: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) };
    match kind {
        Kind::File => entry.size = u64::try_from(stat.st_size).unwrap_or(0),
        Kind::CharDevice | Kind::BlockDevice => {
            entry.major = rustix::fs::major(stat.st_rdev);
            entry.minor = rustix::fs::minor(stat.st_rdev);
        }
        _ => {}
    }
    entry
}

fn level(dir: &Dir, prefix: Vec<u8>) -> Result<Level> {
    let mut pending = dir.list().map_err(Error::io(format!(
        "cannot list {:?}",
        OsString::from(String::from_utf8_lossy(&prefix).into_owned())
    )))?;
    pending.sort_by(|a, b| b.name.cmp(&a.name));
    Ok(Level { prefix, pending })
}

pub(super) fn is_opaque<F: FnOnce(io::Error) -> Error>(dir: &Dir, fail: &dyn Fn() -> F) -> Result<bool> {
    Ok(sys::path::xattr(dir, OsStr::new(OPAQUE_XATTR)).map_err(fail())?.as_deref() == Some(b"y"))
}

fn status(dir: &Dir) -> Result<Stat> {
    rustix::fs::fstat(dir).map_err(|e| Error::io("cannot stat the tree")(e.into()))
}
