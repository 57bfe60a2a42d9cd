//! Files of layers that are here, which other layers can be made of.

use std::fs::File;
use std::io;
use std::path::Path;

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
}

impl Store {
    /// Opens the trees of layers; those that are not here or cannot be opened are left out.
    #[must_use]
    pub fn files(&self, layers: &[DiffId]) -> Files {
        Files { roots: layers.iter().filter_map(|layer| self.layers().root(layer).ok()).collect() }
    }
}

impl Files {
    /// In which layer there is a file of this path with this content of `size` bytes, to be given to [`Files::open`].
    /// Reads the file.
    #[must_use]
    pub fn find(&self, path: impl AsRef<Path>, size: u64, digest: &Digest) -> Option<usize> {
        let path = path.as_ref();
        let mut sized = (0..self.roots.len()).filter(|layer| self.has(*layer, path, size)).take(CANDIDATES);
        sized.find(|layer| self.digest(*layer, path, size).is_ok_and(|found| found == *digest))
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

    fn has(&self, layer: usize, path: &Path, size: u64) -> bool {
        self.roots[layer].lstat(path).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && u64::try_from(stat.st_size).is_ok_and(|found| found == size)
        })
    }

    fn digest(&self, layer: usize, path: &Path, size: u64) -> io::Result<Digest> {
        let mut reader = DigestReader::new(io::Read::take(self.open(layer, path)?, size));
        let mut buffer = vec![0; 64 * 1024];
        while io::Read::read(&mut reader, &mut buffer)? > 0 {}
        Ok(Digest::sha256(reader.finish().0))
    }
}
