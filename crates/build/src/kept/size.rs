//! How much of the disk a directory takes up.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use sys::path::Root;

/// Bytes of the blocks of everything in a directory, files of several names once. What vanishes meanwhile does not count.
pub(crate) fn of_tree(path: &Path) -> u64 {
    let Ok(root) = Root::open(path) else { return 0 };
    let bytes = |stat: &rustix::fs::Stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    let mut total = root.lstat("/").map_or(0, |stat| bytes(&stat));
    let mut linked = HashSet::new();
    let mut left = vec![PathBuf::from("/")];
    while let Some(at) = left.pop() {
        let Ok(dir) = root.open_dir(&at) else { continue };
        let Ok(names) = dir.list() else { continue };
        for listed in names {
            let Ok(stat) = dir.lstat(&listed.name) else { continue };
            let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if directory {
                left.push(at.join(&listed.name));
            } else if stat.st_nlink > 1 && !linked.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            total += bytes(&stat);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_several_names_count_once_and_holes_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let empty = of_tree(dir.path());
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/file"), vec![1_u8; 1 << 20]).unwrap();
        std::fs::hard_link(dir.path().join("sub/file"), dir.path().join("again")).unwrap();
        std::fs::File::create(dir.path().join("holes")).unwrap().set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("out")).unwrap();
        let found = of_tree(dir.path()) - empty;
        assert!((1 << 20..(1 << 20) + (64 << 10)).contains(&found), "{found}");
    }
}
