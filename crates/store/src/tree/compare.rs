//! What differs between two trees: the root file systems of two images.
//!
//! Times alone are no difference: an image that is built again has others. The content of files of equal size
//! is read only where a layer that the two do not share has the path.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags};
use sys::path::Root;

use super::descent::Descent;
use crate::error::{Error, Result};

/// Bytes of paths that are kept of one tree.
const PATHS_MAX: usize = 256 << 20;

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    mode: u32,
    uid: u32,
    gid: u32,
    device: u64,
    /// Bytes of a regular file; 0 for everything else.
    size: u64,
    link: Vec<u8>,
}

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Absolute, as bytes.
    pub path: Vec<u8>,
    /// Bytes of the file in the first tree; `None` when the path is not there.
    pub from: Option<u64>,
    /// The same of the second.
    pub to: Option<u64>,
}

/// Lists what differs, in order of paths. `own` are the layers of either that the other does not have.
///
/// # Errors
/// [`Error::Io`]; a tree with more paths than can be kept.
pub fn compare(from: &Root, to: &Root, own: &[Root]) -> Result<Vec<Difference>> {
    let mut touched: HashSet<Vec<u8>> = HashSet::new();
    for layer in own {
        touched.extend(walk(layer)?.into_keys());
    }
    let (mut before, after) = (walk(from)?, walk(to)?);
    let mut out = Vec::new();
    for (path, new) in after {
        let Some(old) = before.remove(&path) else {
            out.push(Difference { path, from: None, to: Some(new.size) });
            continue;
        };
        let file = FileType::from_raw_mode(new.mode) == FileType::RegularFile;
        if old != new || file && touched.contains(&path) && !same_content(from, to, &path)? {
            out.push(Difference { path, from: Some(old.size), to: Some(new.size) });
        }
    }
    out.extend(before.into_iter().map(|(path, old)| Difference { path, from: Some(old.size), to: None }));
    out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(out)
}

fn walk(root: &Root) -> Result<BTreeMap<Vec<u8>, Facts>> {
    let fail = || Error::io("cannot walk an image");
    let top = root.dir().map_err(fail())?;
    let names = top.list().map_err(fail())?;
    let mut descent = Descent::new(top, (b"/".to_vec(), names)).map_err(fail())?;
    let mut out = BTreeMap::new();
    let mut bytes = 0;
    while let Some((dir, (prefix, pending))) = descent.top() {
        let Some(next) = pending.pop() else {
            descent.pop().map_err(fail())?;
            continue;
        };
        let path = [prefix.as_slice(), next.name.as_bytes()].concat();
        bytes += path.len();
        if bytes > PATHS_MAX {
            return Err(Error::document("image", "it has too many files to be compared"));
        }
        let stat = dir.lstat(&next.name).map_err(fail())?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let link = match kind {
            FileType::Symlink => dir.readlink(&next.name).map_err(fail())?.as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let size = if kind == FileType::RegularFile { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        let facts = Facts { mode: stat.st_mode, uid: stat.st_uid, gid: stat.st_gid, device: stat.st_rdev, size, link };
        if kind == FileType::Directory {
            let child = dir.open_dir(&next.name).map_err(fail())?;
            let names = child.list().map_err(fail())?;
            let below = [path.as_slice(), b"/"].concat();
            descent.push(child, (below, names)).map_err(fail())?;
        }
        out.insert(path, facts);
    }
    Ok(out)
}

fn same_content(from: &Root, to: &Root, path: &[u8]) -> Result<bool> {
    let fail = || Error::io("cannot compare a file of two images");
    let open = |root: &Root| {
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
        root.open_at(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty()).map(File::from)
    };
    let (mut one, mut other) = (open(from).map_err(fail())?, open(to).map_err(fail())?);
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let read = one.read(&mut left).map_err(fail())?;
        if read == 0 {
            return Ok(other.read(&mut right[..1]).map_err(fail())? == 0);
        }
        match other.read_exact(&mut right[..read]) {
            Ok(()) if left[..read] == right[..read] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(fail()(error)),
        }
    }
}
