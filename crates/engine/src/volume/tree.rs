//! Sizes of directory trees.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of the files below `root`, each counted once however many names it has; links are not followed.
///
/// # Errors
/// When a directory cannot be read.
pub(super) fn bytes(root: &Path) -> io::Result<u64> {
    let mut seen = HashSet::new();
    let mut sum = 0;
    let mut queue = vec![root.to_owned()];
    while let Some(directory) = queue.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                queue.push(entry.path());
            } else if meta.nlink() == 1 || seen.insert((meta.dev(), meta.ino())) {
                sum += meta.size();
            }
        }
    }
    Ok(sum)
}
