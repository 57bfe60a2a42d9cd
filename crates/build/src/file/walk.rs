//! The walk that a copy and its digest share: what of a directory is selected, in the order of names.
//!
//! A directory that is not selected itself but something below it is told of when that is found, before it. Every member
//! is looked up once and what the handle stands for counts. Of a depth that has an end, with a bounded number of
//! directories open.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use store::tree::{Attributes, Descent};
use sys::path::{Dir, Listed};

use super::error::FileError;
use super::patterns::Patterns;
use super::source::Found;

/// Longest path below the top. Layers have no longer ones than the kernel takes; what is deeper than this would cost memory
/// with the square of its depth.
const MAX_BELOW: usize = 16 << 10;

/// What was found.
pub(super) struct Entry<'a> {
    /// Its name; the top of the walk has none.
    pub(super) name: &'a OsStr,
    /// Its path from the top of the walk.
    pub(super) below: &'a [u8],
    /// Path of the top.
    pub(super) top: &'a Path,
    pub(super) stat: &'a Stat,
    pub(super) attributes: &'a Attributes,
}

impl Entry<'_> {
    /// Path in the source tree.
    pub(super) fn path(&self) -> PathBuf {
        if self.below.is_empty() { self.top.to_owned() } else { self.top.join(OsStr::from_bytes(self.below)) }
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// Who is told.
pub(super) trait Visitor {
    /// A directory, whose selected members follow; `direct` when it is selected itself.
    fn directory(&mut self, entry: &Entry<'_>, direct: bool) -> Result<(), FileError>;
    /// The end of the directory told of last that has not ended.
    fn leave(&mut self) -> Result<(), FileError>;
    /// Anything else but sockets, which are left out.
    fn member(&mut self, entry: &Entry<'_>, handle: &OwnedFd) -> Result<(), FileError>;
}

struct Level {
    name: OsString,
    below: Vec<u8>,
    /// Names still to do, last first.
    pending: Vec<Listed>,
    stat: Stat,
    attributes: Attributes,
    direct: bool,
}

impl Level {
    fn of(dir: &Dir, name: OsString, below: Vec<u8>, direct: bool) -> io::Result<Self> {
        let mut pending = dir.list()?;
        pending.sort_by(|a, b| b.name.cmp(&a.name));
        let (stat, attributes) = (rustix::fs::fstat(dir)?, attributes(dir)?);
        Ok(Self { name, below, pending, stat, attributes, direct })
    }
}

/// Tells the visitor of what was found, and of what is selected below it.
pub(super) fn walk(found: &Found, patterns: &Patterns, visitor: &mut impl Visitor) -> Result<(), FileError> {
    let top = found.path.as_path();
    if !found.is_directory() {
        let attributes = attributes(&found.handle).map_err(FileError::io("listxattr", top))?;
        let entry = Entry { name: OsStr::new(""), below: b"", top, stat: &found.stat, attributes: &attributes };
        return if entry.kind() == FileType::Socket { Ok(()) } else { visitor.member(&entry, &found.handle) };
    }
    let open = |handle: &OwnedFd, name: OsString, below: Vec<u8>, direct| {
        let dir = Dir::from_handle(handle)?;
        let level = Level::of(&dir, name, below, direct)?;
        Ok((dir, level))
    };
    let fail = || FileError::io("open", top);
    let (dir, level) = open(&found.handle, OsString::new(), Vec::new(), true).map_err(fail())?;
    let mut levels = vec![level];
    let mut dirs = Descent::new(dir, ()).map_err(fail())?;
    // How many of the levels the visitor was told of.
    let mut told = 0;
    tell(&levels, &mut told, top, visitor)?;
    while let (Some(level), Some((dir, ()))) = (levels.last_mut(), dirs.top()) {
        let Some(next) = level.pending.pop() else {
            levels.pop();
            if told > levels.len() {
                told -= 1;
                visitor.leave()?;
            }
            dirs.pop().map_err(fail())?;
            continue;
        };
        let below = match &level.below[..] {
            b"" => next.name.as_bytes().to_vec(),
            prefix => [prefix, b"/", next.name.as_bytes()].concat(),
        };
        if below.len() > MAX_BELOW {
            return Err(fail()(rustix::io::Errno::NAMETOOLONG.into()));
        }
        let named = |action| FileError::io(action, top.join(OsStr::from_bytes(&below)));
        let text = String::from_utf8_lossy(&below);
        let taken = patterns.takes(&text);
        if !taken && next.file_type != FileType::Unknown && next.file_type != FileType::Directory {
            continue;
        }
        let handle = match dir.open_handle(&next.name) {
            Ok(handle) => handle,
            // Removed meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(named("open")(e)),
        };
        let stat = rustix::fs::fstat(&handle).map_err(|e| named("lstat")(e.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                if !taken && !patterns.reaches(&text) {
                    continue;
                }
                let (child, level) = open(&handle, next.name, below.clone(), taken).map_err(named("open"))?;
                levels.push(level);
                dirs.push(child, ()).map_err(fail())?;
                if taken {
                    tell(&levels, &mut told, top, visitor)?;
                }
            }
            FileType::Socket => {}
            _ if taken => {
                tell(&levels, &mut told, top, visitor)?;
                let attributes = attributes(&handle).map_err(named("listxattr"))?;
                let entry = Entry { name: &next.name, below: &below, top, stat: &stat, attributes: &attributes };
                visitor.member(&entry, &handle)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Tells of the directories down to where the walk is.
fn tell(levels: &[Level], told: &mut usize, top: &Path, visitor: &mut impl Visitor) -> Result<(), FileError> {
    for level in &levels[*told..] {
        let Level { name, below, stat, attributes, direct, .. } = level;
        visitor.directory(&Entry { name, below, top, stat, attributes }, *direct)?;
        *told += 1;
    }
    Ok(())
}

/// The attributes that come along.
fn attributes(handle: impl AsFd) -> io::Result<Attributes> {
    let all = sys::path::xattrs(handle)?;
    let own: Attributes = store::tree::kept(&all).cloned().collect();
    Ok(own)
}

/// A path for people and for resolving, from the bytes of one.
pub(super) fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}
