//! Archives and stores for the tests of this crate.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer::tar::{Entry, Kind, Writer};
use store::overlay::Lower;
use store::{Format, Store};
use tempfile::TempDir;

/// A store in a directory of its own, removed at the end.
pub struct Scratch {
    pub dir: TempDir,
    pub store: Arc<Store>,
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
/// Layers need device nodes and trusted attributes.
pub fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: unpacking layers needs root");
    }
    root
}

pub fn scratch() -> Scratch {
    let dir = tempfile::Builder::new().prefix("dhow-store-").tempdir().unwrap();
    let store = open(dir.path().join("data")).unwrap();
    Scratch { dir, store }
}

/// A store that keeps new layers in this format.
pub fn scratch_with(format: Format) -> Scratch {
    let dir = tempfile::Builder::new().prefix("dhow-store-").tempdir().unwrap();
    let store = Store::open_with(dir.path().join("data"), format).unwrap();
    Scratch { dir, store }
}

/// Both formats; unpacked directories alone when they were asked for, as another run has the rest.
pub fn formats() -> Vec<Format> {
    if directories() { vec![Format::Directories] } else { vec![Format::Automatic, Format::Directories] }
}

fn directories() -> bool {
    std::env::var("DHOW_TEST_LAYERS").is_ok_and(|value| value == "directories")
}

/// Opens a store; `DHOW_TEST_LAYERS=directories` has layers unpacked where they would be indexed.
pub fn open(path: impl AsRef<Path>) -> Result<Arc<Store>, store::Error> {
    Store::open_with(path, if directories() { Format::Directories } else { Format::Automatic })
}

/// Where a layer's files can be looked at.
pub fn layer_path(store: &Store, diff_id: &types::DiffId) -> PathBuf {
    lower_path(&store.layers().lower(diff_id).unwrap())
}

/// The same for something to stack on. The store keeps the descriptor of a mount.
pub fn lower_path(lower: &Lower) -> PathBuf {
    match lower {
        Lower::Dir(path) => path.clone(),
        Lower::Mount(mount) => PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())),
    }
}

/// Everything in a directory with its content and metadata, to be compared later.
pub fn picture(dir: &Path) -> Vec<(PathBuf, u32, u64, i64, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        let data = if meta.is_file() { std::fs::read(entry.path()).unwrap() } else { Vec::new() };
        out.push((entry.path(), meta.mode(), meta.nlink(), meta.mtime(), data));
        if meta.is_dir() {
            out.extend(picture(&entry.path()));
        }
    }
    out.sort();
    out
}

/// A directory outside of every tree that must not change: what attacks are aimed at.
pub struct Canary {
    dir: TempDir,
    before: Vec<(PathBuf, u32, u64, i64, Vec<u8>)>,
}

impl Canary {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("dhow-canary-").tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "untouched").unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/secret"), "secret").unwrap();
        let before = picture(dir.path());
        Self { dir, before }
    }

    pub fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    pub fn check(&self, what: &str) {
        assert_eq!(picture(self.dir.path()), self.before, "{what}: something outside has changed");
        let owner = |name: &str| std::fs::metadata(self.dir.path().join(name)).unwrap().uid();
        assert_eq!([owner(""), owner("file"), owner("sub"), owner("sub/secret")], [0; 4], "{what}");
    }
}

/// Members of an archive: an entry and its data.
#[derive(Default)]
pub struct Tar(pub Vec<(Entry, Vec<u8>)>);

impl Tar {
    pub fn entry(mut self, entry: Entry) -> Self {
        self.0.push((entry, Vec::new()));
        self
    }

    pub fn file(mut self, path: &str, data: &[u8]) -> Self {
        let mut entry = Entry::new(path, Kind::File, 0o644);
        entry.size = data.len() as u64;
        entry.mtime.secs = 1_000_000_000;
        self.0.push((entry, data.to_vec()));
        self
    }

    pub fn dir(self, path: &str) -> Self {
        let mut entry = Entry::new(path, Kind::Directory, 0o755);
        entry.mtime.secs = 1_000_000_000;
        self.entry(entry)
    }

    pub fn link(self, path: &str, kind: Kind, target: &str) -> Self {
        let mut entry = Entry::new(path, kind, 0o777);
        entry.link = target.into();
        self.entry(entry)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (entry, data) in &self.0 {
            writer.entry(entry).unwrap();
            if entry.kind == Kind::File {
                writer.data(data).unwrap();
            }
        }
        writer.finish().unwrap()
    }
}

pub fn tar() -> Tar {
    Tar::default()
}

pub fn sha256(bytes: &[u8]) -> types::Digest {
    types::Digest::sha256(layer::digest::sha256(bytes))
}

/// Names of an archive's members.
pub fn names(bytes: &[u8]) -> Vec<String> {
    members(bytes).into_iter().map(|(name, _)| name).collect()
}

/// Names and data of an archive's members, read by an independent reader.
pub fn members(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(bytes);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut data = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut data).unwrap();
        (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), data)
    };
    archive.entries().unwrap().map(read).collect()
}
