//! Bytes a tree holds: the size of a container's changes.

use std::collections::HashSet;

use rustix::fs::FileType;
use sys::path::Root;

use super::descent::Descent;
use crate::error::{Error, Result};

/// What a tree holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sum of the sizes of regular files and symlinks, each file counted once.
    pub bytes: u64,
    /// Count of everything in it.
    pub inodes: u64,
}

/// Measures the tree below `root`, mounts inside left out.
///
/// # Errors
/// [`Error::Io`]; names that vanish meanwhile are passed over.
pub fn usage(root: &Root) -> Result<Usage> {
    let fail = || Error::io("cannot measure a tree");
    let top = root.dir().map_err(fail())?;
    let device = rustix::fs::fstat(&top).map_err(|e| fail()(e.into()))?.st_dev;
    let mut out = Usage::default();
    let mut linked = HashSet::new();
    let names = top.list().map_err(fail())?;
    let mut descent = Descent::new(top, names).map_err(fail())?;
    while let Some((dir, pending)) = descent.top() {
        let Some(next) = pending.pop() else {
            // A directory that was moved away under the walk ends it: the rest cannot be found again.
            if descent.pop().is_err() {
                break;
            }
            continue;
        };
        let Ok(stat) = dir.lstat(&next.name) else { continue };
        if stat.st_dev != device {
            continue;
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                out.inodes += 1;
                if let Ok(child) = dir.open_dir(&next.name) {
                    let names = child.list().map_err(fail())?;
                    descent.push(child, names).map_err(fail())?;
                }
            }
            FileType::RegularFile | FileType::Symlink if stat.st_nlink <= 1 || linked.insert(stat.st_ino) => {
                out.inodes += 1;
                out.bytes += u64::try_from(stat.st_size).unwrap_or(0);
            }
            FileType::RegularFile | FileType::Symlink => {}
            _ => out.inodes += 1,
        }
    }
    Ok(out)
}
