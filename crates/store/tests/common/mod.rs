//! Archives and stores for the tests of this crate.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::os::fd::AsRawFd;
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

/// Opens a store; `DHOW_TEST_LAYERS=directories` has layers unpacked where they would be indexed.
pub fn open(path: impl AsRef<Path>) -> Result<Arc<Store>, store::Error> {
    let directories = std::env::var("DHOW_TEST_LAYERS").is_ok_and(|value| value == "directories");
    Store::open_with(path, if directories { Format::Directories } else { Format::Automatic })
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
