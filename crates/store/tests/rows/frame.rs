//! How a row is run: a layer is taken in, and the host, the store and the layer's tree are looked at.

use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use layer::tar::Limits;
use store::tree::{ExtractOptions, extract};
use store::{Format, Store};
use types::Kind;

use crate::budget::{Budget, within};
use crate::common::{Canary, Scratch, Tar, formats, layer_path, root, scratch_with};

/// Bytes of archives that are put into a tree as well: what floods a layer takes as long there.
const PUT_MAX: usize = 1 << 20;

/// What must become of a row.
pub enum Must {
    /// Refused, for a reason with these words, whatever their case.
    Refuse(&'static str),
    /// Taken, with a tree that passes.
    Hold(Box<dyn Fn(&Tree)>),
}

/// One way to be hostile.
pub struct Row {
    pub what: String,
    pub bytes: Vec<u8>,
    pub limits: Limits,
    pub must: Must,
}

/// Bytes of an archive, however they were made.
pub trait Archive {
    fn into_bytes(self) -> Vec<u8>;
}

impl Archive for Tar {
    fn into_bytes(self) -> Vec<u8> {
        self.bytes()
    }
}

impl Archive for Vec<u8> {
    fn into_bytes(self) -> Vec<u8> {
        self
    }
}

pub fn refuse(what: impl Into<String>, reason: &'static str, archive: impl Archive) -> Row {
    let (what, bytes) = (what.into(), archive.into_bytes());
    Row { what, bytes, limits: Limits::default(), must: Must::Refuse(reason) }
}

pub fn hold(what: impl Into<String>, archive: impl Archive, look: impl Fn(&Tree) + 'static) -> Row {
    let (what, bytes) = (what.into(), archive.into_bytes());
    Row { what, bytes, limits: Limits::default(), must: Must::Hold(Box::new(look)) }
}

impl Row {
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// The tree of a layer.
pub struct Tree {
    pub path: PathBuf,
    pub format: Format,
}

impl Tree {
    fn at(&self, path: &str) -> PathBuf {
        self.path.join(path.trim_start_matches('/'))
    }

    pub fn has(&self, path: &str) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    pub fn meta(&self, path: &str) -> std::fs::Metadata {
        self.at(path).symlink_metadata().unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn text(&self, path: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))).into()
    }

    pub fn is_dir(&self, path: &str) -> bool {
        self.meta(path).is_dir()
    }

    /// An overlayfs whiteout.
    pub fn is_whiteout(&self, path: &str) -> bool {
        let meta = self.meta(path);
        meta.file_type().is_char_device() && meta.rdev() == 0
    }

    pub fn xattrs(&self, path: &str) -> Vec<(String, Vec<u8>)> {
        let dir = sys::path::Root::open(&self.path).unwrap();
        let path = Path::new(path);
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        let dir = above.map_or_else(|| dir.dir().unwrap(), |above| dir.open_dir(above).unwrap());
        let mut list: Vec<_> = dir.xattrs(path.file_name().unwrap()).unwrap();
        list.sort();
        list.into_iter().map(|(name, value)| (name.to_string_lossy().into_owned(), value)).collect()
    }

    /// Names at the top, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.path).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// Runs the table of the test `name` for both formats of layers.
pub fn layers(name: &str, rows: impl Fn(&Canary) -> Vec<Row>) {
    layers_within(name, Budget::default(), rows);
}

/// The same with bounds of its own.
pub fn layers_within(name: &str, budget: Budget, rows: impl Fn(&Canary) -> Vec<Row>) {
    if !root() {
        return;
    }
    within(name, budget, || {
        for format in formats() {
            let (scratch, canary) = (scratch_with(format), Canary::new());
            for row in rows(&canary) {
                let what = format!("{} ({format:?})", row.what);
                run(&scratch, &row, format, &what);
                canary.check(&what);
                if row.limits == Limits::default() && row.bytes.len() < PUT_MAX {
                    put(&scratch, &row.bytes);
                    canary.check(&format!("{what}, put into a container"));
                }
            }
        }
    });
}

/// The same bytes put into a tree, as `docker cp` does: whatever becomes of it stays in there.
fn put(scratch: &Scratch, bytes: &[u8]) {
    let tree = scratch.dir.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let root = sys::path::Root::open(&tree).unwrap();
    let _ = extract(&root, "/", bytes, ExtractOptions::default());
    let beside = std::fs::read_dir(scratch.dir.path()).unwrap().count();
    assert_eq!(beside, 2, "the store and the tree");
    sys::path::Root::open(scratch.dir.path()).unwrap().remove_tree("tree").unwrap();
}

fn run(scratch: &Scratch, row: &Row, format: Format, what: &str) {
    let store = &scratch.store;
    let before = contents(store);
    let ingest = store.ingest().limits(row.limits);
    match (&row.must, ingest.layer(&row.bytes[..], None, None)) {
        (Must::Refuse(reason), Err(error)) => {
            drop(ingest);
            let text = error.to_string();
            assert!(
                text.to_lowercase().contains(&reason.to_lowercase()),
                "{what} was refused for another reason: {text}"
            );
            assert!(error.kind() != Kind::Internal, "{what} is no fault of ours: {error}");
            assert!(text.len() < 8192, "{what}: {} bytes of error", text.len());
            assert_eq!(contents(store), before, "{what} left something");
        }
        (Must::Hold(look), Ok(info)) => {
            ingest.commit().unwrap();
            let tree = Tree { path: layer_path(store, &info.diff_id), format };
            look(&tree);
            drop(ingest);
            store.remove_unreferenced(&HashSet::new(), &HashSet::new()).unwrap();
            assert_eq!(contents(store), before, "{what} cannot be removed whole");
        }
        (Must::Refuse(reason), Ok(_)) => panic!("{what} was taken, not refused for {reason:?}"),
        (Must::Hold(_), Err(error)) => panic!("{what} was refused: {error}"),
    }
}

/// What is in a store: every path with its size, those of directories left out as they are the file system's.
pub fn contents(store: &Store) -> Vec<(PathBuf, u64)> {
    let mut out = Vec::new();
    let mut pending = vec![store.path().to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let meta = entry.metadata().unwrap();
            out.push((entry.path(), if meta.is_dir() { 0 } else { meta.len() }));
            if meta.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    out.sort();
    out
}
