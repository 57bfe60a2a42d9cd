//! Files of layers that are here, which other layers can be made of.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use layer::DigestReader;
use rustix::fs::{FileType, Mode, OFlags};
use sys::path::Root;
use types::{DiffId, Digest};

use crate::store::Store;

/// Files of one path and size whose content is looked at before it is taken for absent.
const CANDIDATES: usize = 4;

/// The files of some layers. Called by the engine when an update of an image is pulled.
#[derive(Debug)]
pub struct Files {
    roots: Vec<Root>,
    /// What was read, by layer and inode: a table of contents may ask for one file any number of times.
    read: Mutex<HashMap<(usize, u64), Option<Digest>>>,
}

impl Store {
    /// Opens the trees of layers; those that are not here or cannot be opened are left out.
    #[must_use]
    pub fn files(&self, layers: &[DiffId]) -> Files {
        let roots = layers.iter().filter_map(|layer| self.layers().root(layer).ok()).collect();
        Files { roots, read: Mutex::default() }
    }
}

impl Files {
    /// In which layer there is a file of this path with this content of `size` bytes, to be given to [`Files::open`].
    /// Reads the file the first time.
    #[must_use]
    pub fn find(&self, path: impl AsRef<Path>, size: u64, digest: &Digest) -> Option<usize> {
        let path = path.as_ref();
        let inode = |layer: usize| self.inode(layer, path, size).map(|inode| (layer, inode));
        let mut sized = (0..self.roots.len()).filter_map(inode).take(CANDIDATES);
        sized.find(|file| self.content(*file, path, size) == Some(*digest)).map(|(layer, _)| layer)
    }

    /// Opens a file of a layer.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(&self, layer: usize, path: impl AsRef<Path>) -> io::Result<File> {
        let root = self.roots.get(layer).ok_or(io::ErrorKind::NotFound)?;
        // Nothing but a file is opened, but nothing may block either.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        root.open_at(path, flags, Mode::empty()).map(File::from)
    }

    fn inode(&self, layer: usize, path: &Path, size: u64) -> Option<u64> {
        let stat = self.roots[layer].lstat(path).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        (is_file && u64::try_from(stat.st_size).is_ok_and(|found| found == size)).then_some(stat.st_ino)
    }

    fn content(&self, file: (usize, u64), path: &Path, size: u64) -> Option<Digest> {
        let known = || self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(&file) {
            return *found;
        }
        let found = self.digest(file.0, path, size).ok();
        known().insert(file, found);
        found
    }

    fn digest(&self, layer: usize, path: &Path, size: u64) -> io::Result<Digest> {
        let mut reader = DigestReader::new(io::Read::take(self.open(layer, path)?, size));
        let mut buffer = vec![0; 64 * 1024];
        while io::Read::read(&mut reader, &mut buffer)? > 0 {}
        Ok(Digest::sha256(reader.finish().0))
    }
}
