//! What a container changed, as `docker diff` lists it.
//!
//! Reads overlayfs' upper directory and looks each name up in the layers below. A directory that is in the
//! upper only because something below it changed is listed when its own metadata differ, or when something
//! in it was added or deleted.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Stat};
use sys::path::{Dir, Listed, Root};

use super::archive::is_opaque;
use super::is_whiteout;
use crate::error::{Error, Result};

/// Kind of a change, with Docker's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChangeKind {
    /// Changed in place.
    Modified = 0,
    /// Not in the image.
    Added = 1,
    /// In the image only.
    Deleted = 2,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute path, undecodable bytes replaced.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

struct Level {
    dir: Dir,
    path: String,
    /// The same directory in the layers below, topmost first.
    below: Vec<Dir>,
    pending: Vec<Listed>,
}

/// Lists the changes in `upper` against `lowers`, topmost first, in order of paths.
///
/// # Errors
/// [`Error::Io`].
pub fn changes(upper: &Root, lowers: &[Root]) -> Result<Vec<Change>> {
    let fail = || Error::io("cannot compare the container with its image");
    let below = lowers.iter().map(Root::dir).collect::<io::Result<Vec<_>>>().map_err(fail())?;
    let mut out = Vec::new();
    let mut changed: HashSet<String> = HashSet::new();
    let mut levels = vec![level(upper.dir().map_err(fail())?, String::new(), below)?];
    while let Some(top) = levels.last_mut() {
        let Some(next) = top.pending.pop() else {
            levels.pop();
            continue;
        };
        let path = format!("{}/{}", top.path, next.name.to_string_lossy());
        let stat = match top.dir.lstat(&next.name) {
            Ok(stat) => stat,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(fail()(e)),
        };
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let (kind, beneath) = if is_whiteout(&stat) {
            (Some(ChangeKind::Deleted), Vec::new())
        } else {
            let (old, beneath) = lookup(&top.below, &next.name)?;
            let kind = match old {
                None => Some(ChangeKind::Added),
                Some(old) if directory && same_directory(&stat, &old) => None,
                Some(_) => Some(ChangeKind::Modified),
            };
            (kind, beneath)
        };
        let parent = top.path.clone();
        if let Some(kind) = kind {
            if directory {
                changed.insert(path.clone());
            }
            if kind != ChangeKind::Modified && !parent.is_empty() && changed.insert(parent.clone()) {
                out.push(Change { path: parent, kind: ChangeKind::Modified });
            }
            out.push(Change { path: path.clone(), kind });
        }
        if directory {
            let child = top.dir.open_dir(&next.name).map_err(fail())?;
            let beneath = if is_opaque(&child, &fail)? { Vec::new() } else { beneath };
            levels.push(level(child, path, beneath)?);
        }
    }
    Ok(out)
}

/// The name in the layers below: its status in the topmost that has it, and the directories that merge there.
fn lookup(below: &[Dir], name: &OsStr) -> Result<(Option<Stat>, Vec<Dir>)> {
    let fail = || Error::io("cannot look into a layer");
    let (mut first, mut merged) = (None, Vec::new());
    for dir in below {
        let stat = match dir.lstat(name) {
            Ok(stat) => stat,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(fail()(e)),
        };
        if is_whiteout(&stat) {
            break;
        }
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        // Anything but a directory below a directory is hidden by it.
        if first.is_some() && !directory {
            break;
        }
        first = first.or(Some(stat));
        if !directory {
            break;
        }
        let child = dir.open_dir(name).map_err(fail())?;
        let opaque = is_opaque(&child, &fail)?;
        merged.push(child);
        if opaque {
            break;
        }
    }
    Ok((first, merged))
}

fn same_directory(new: &Stat, old: &Stat) -> bool {
    new.st_mode == old.st_mode
        && (new.st_uid, new.st_gid) == (old.st_uid, old.st_gid)
        && (new.st_mtime, new.st_mtime_nsec) == (old.st_mtime, old.st_mtime_nsec)
}

fn level(dir: Dir, path: String, below: Vec<Dir>) -> Result<Level> {
    let mut pending = dir.list().map_err(Error::io("cannot list the container's changes"))?;
    pending.sort_by(|a, b| b.name.as_bytes().cmp(a.name.as_bytes()));
    Ok(Level { dir, path, below, pending })
}
