//! File operations on real trees, as root: what a copy takes and where it goes, and that nothing leaves a tree.

mod copy;
mod digest;
mod make;
mod metadata;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use build::file::{self, Copy, Selection};
use sys::path::Root;

/// A source and a destination beside each other.
struct Trees {
    scratch: tempfile::TempDir,
    from: Root,
    to: Root,
}

impl Trees {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            fs::create_dir(scratch.path().join(name)).unwrap();
            Root::open(scratch.path().join(name)).unwrap()
        };
        let (from, to) = (open("from"), open("to"));
        Self { scratch, from, to }
    }

    fn src(&self, path: &str) -> PathBuf {
        self.scratch.path().join("from").join(path)
    }

    fn dst(&self, path: &str) -> PathBuf {
        self.scratch.path().join("to").join(path)
    }

    /// Writes files, whose parents are made.
    fn files(&self, paths: &[&str]) {
        for path in paths {
            fs::create_dir_all(self.src(path).parent().unwrap()).unwrap();
            fs::write(self.src(path), path).unwrap();
        }
    }

    fn copy(&self, src: &str, dest: &str) -> Result<(), String> {
        self.copy_as(&plain(src, dest))
    }

    fn copy_as(&self, action: &Copy) -> Result<(), String> {
        file::copy(&self.from, &self.to, action).map_err(|e| e.to_string())
    }

    /// All paths of the destination, sorted.
    fn listed(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut pending = vec![self.dst("")];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let path = entry.path();
                found.push(path.strip_prefix(self.dst("")).unwrap().to_string_lossy().into_owned());
                if entry.file_type().unwrap().is_dir() {
                    pending.push(path);
                }
            }
        }
        found.sort();
        found
    }

    fn digest(&self, selection: &Selection) -> [u8; 32] {
        file::digest(&self.from, selection, &()).unwrap()
    }
}

/// A copy as the instruction makes it.
fn plain(src: &str, dest: &str) -> Copy {
    let selection = Selection {
        src: src.to_owned(),
        allow_wildcard: true,
        follow_symlink: true,
        dir_copy_contents: true,
        ..Selection::default()
    };
    Copy { selection, dest: dest.to_owned(), create_dest_path: true, ..Copy::default() }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn meta(path: impl AsRef<Path>) -> fs::Metadata {
    fs::symlink_metadata(path).unwrap()
}

fn chmod(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
