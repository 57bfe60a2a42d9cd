//! What a container changed, as `docker diff` lists it.
//!
//! Reads overlayfs' upper directory and looks each name up in the layers below. A directory that is in the
//! upper only because something below it changed is listed when its own metadata differ, or when something
//! in it was added or deleted.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use sys::path::{Dir, Listed, Root};

use super::archive::is_opaque;
use super::descent::Descent;
use super::{PATH_MAX, is_whiteout};
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
    /// Path from the top, empty there.
    path: PathBuf,
    /// Which of the layers below have the same directory, topmost first.
    below: Vec<usize>,
    pending: Vec<Listed>,
}

/// Lists the changes in `upper` against `lowers`, topmost first, in order of paths.
///
/// # Errors
/// [`Error::Io`].
pub fn changes(upper: &Root, lowers: &[Root]) -> Result<Vec<Change>> {
    let fail = || Error::io("cannot compare the container with its image");
    let mut out = Vec::new();
    let mut changed: HashSet<String> = HashSet::new();
    let top = upper.dir().map_err(fail())?;
    let first = level(&top, PathBuf::new(), (0..lowers.len()).collect())?;
    // The directories below are open for the directory the walk is in only: an image may have hundreds of
    // layers, each as deep as the walk.
    let mut open = reopen(lowers, &first)?;
    let mut descent = Descent::new(top, first).map_err(fail())?;
    while let Some((dir, top)) = descent.top() {
        let Some(next) = top.pending.pop() else {
            descent.pop().map_err(fail())?;
            if let Some((_, top)) = descent.top() {
                open = reopen(lowers, top)?;
            }
            continue;
        };
        let place = top.path.join(&next.name);
        if place.as_os_str().len() >= PATH_MAX {
            return Err(fail()(rustix::io::Errno::NAMETOOLONG.into()));
        }
        let path = format!("/{}", place.to_string_lossy());
        let stat = match dir.lstat(&next.name) {
            Ok(stat) => stat,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(fail()(e)),
        };
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let (kind, beneath) = if is_whiteout(&stat) {
            (Some(ChangeKind::Deleted), Vec::new())
        } else {
            let (old, beneath) = lookup(&top.below, &open, &next.name)?;
            let kind = match old {
                None => Some(ChangeKind::Added),
                Some(old) if directory && same_directory(&stat, &old) => None,
                Some(_) => Some(ChangeKind::Modified),
            };
            (kind, beneath)
        };
        let parent =
            if top.path.as_os_str().is_empty() { String::new() } else { format!("/{}", top.path.to_string_lossy()) };
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
            let child = match dir.open_dir(&next.name) {
                Ok(child) => child,
                // Removed or replaced meanwhile.
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
                Err(e) => return Err(fail()(e)),
            };
            let beneath = if is_opaque(&child, &fail)? { Vec::new() } else { beneath };
            let (below, dirs) = beneath.into_iter().unzip();
            open = dirs;
            let next = level(&child, place, below)?;
            descent.push(child, next).map_err(fail())?;
        }
    }
    Ok(out)
}

/// Status of a name in the layers below, and which of them have a directory that merges there.
type Found = (Option<Stat>, Vec<(usize, Dir)>);

/// The name in the layers below: its status in the topmost that has it, and the directories that merge there.
fn lookup(below: &[usize], open: &[Dir], name: &OsStr) -> Result<Found> {
    let fail = || Error::io("cannot look into a layer");
    let (mut first, mut merged) = (None, Vec::new());
    for (index, dir) in below.iter().zip(open) {
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
        merged.push((*index, child));
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

fn level(dir: &Dir, path: PathBuf, below: Vec<usize>) -> Result<Level> {
    let mut pending = dir.list().map_err(Error::io("cannot list the container's changes"))?;
    pending.sort_by(|a, b| b.name.as_bytes().cmp(a.name.as_bytes()));
    Ok(Level { path, below, pending })
}

/// The directories of the layers below that merge in a directory of the walk. Layers do not change, so
/// the path leads where it led before.
fn reopen(lowers: &[Root], level: &Level) -> Result<Vec<Dir>> {
    let path = Path::new("/").join(&level.path);
    let dirs = level.below.iter().map(|index| lowers[*index].open_dir(&path));
    dirs.collect::<io::Result<_>>().map_err(Error::io("cannot look into a layer"))
}
