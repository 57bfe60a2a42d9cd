//! Blobs: `content/blobs/sha256/HEX`, each the bytes its name is the digest of, or a recipe for them.
//!
//! A name appears only by rename of a complete, synced file, so a blob that exists is whole. A file is taken
//! before a recipe, and removed only when the recipe is on disk.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;

use layer::DigestReader;
use sys::path::Dir;
use types::Digest;

use super::recipes::{Made, Recipes};
use crate::error::{Error, Result};

/// The directory of blobs.
#[derive(Debug)]
pub struct Blobs {
    pub(crate) dir: Dir,
    pub(crate) recipes: Recipes,
}

/// An open blob.
#[derive(Debug)]
pub struct Blob {
    content: Content,
    digest: Digest,
    size: u64,
}

#[derive(Debug)]
enum Content {
    Kept(File),
    Made(Box<Made>),
}

impl Blobs {
    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`Error::NoBlob`]; [`Error::Released`] when it was given up for room; [`Error::Io`].
    pub fn open(&self, digest: &Digest) -> Result<Blob> {
        if let Some((file, size)) = self.kept(digest)? {
            return Ok(Blob { content: Content::Kept(file), digest: *digest, size });
        }
        let recipe = self.recipes.get(digest)?;
        let made = self.recipes.make(digest, &recipe)?;
        Ok(Blob { content: Content::Made(Box::new(made)), digest: *digest, size: recipe.size })
    }

    /// The file of a blob that is kept, and its size.
    pub(crate) fn kept(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        let fail = || Error::io(format!("cannot open blob {digest}"));
        let file = match self.dir.open_file(&name(digest)) {
            Ok(fd) => File::from(fd),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail()(e)),
        };
        let size = file.metadata().map_err(fail())?.len();
        Ok(Some((file, size)))
    }

    /// Whether the blob is there, as it came or as a recipe, or was given up for room.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.dir.lstat(&name(digest)).is_ok() || self.recipes.usable(digest).is_ok()
    }

    /// Whether the blob was given up for room: it is known what it was, and nobody here can make it.
    #[must_use]
    pub fn is_released(&self, digest: &Digest) -> bool {
        self.dir.lstat(&name(digest)).is_err() && self.recipes.usable(digest).is_ok_and(|recipe| recipe.gzip.is_none())
    }

    /// Notes that a released blob was asked for: the next pull of its image is to bring it.
    pub fn miss(&self, digest: &Digest) {
        self.recipes.missed().insert(*digest);
    }

    /// Whether the blob was asked for since it was released.
    #[must_use]
    pub fn is_missed(&self, digest: &Digest) -> bool {
        self.recipes.missed().contains(digest) && self.is_released(digest)
    }

    /// Size of a blob in bytes.
    ///
    /// # Errors
    /// As [`Blobs::open`], without [`Error::Released`].
    pub fn size(&self, digest: &Digest) -> Result<u64> {
        match self.kept(digest)? {
            Some((_, size)) => Ok(size),
            None => Ok(self.recipes.usable(digest)?.size),
        }
    }

    /// Bytes the blob takes on disk: none when there is only a recipe.
    #[must_use]
    pub fn kept_size(&self, digest: &Digest) -> u64 {
        self.kept(digest).ok().flatten().map_or(0, |(_, size)| size)
    }

    /// A small document, read whole and checked against its digest. None is ever given up: one of which that is known was
    /// said to be a layer's blob, and is not here.
    ///
    /// # Errors
    /// [`Error::NoBlob`], [`Error::Size`] beyond `limit` bytes, [`Error::Digest`] when the disk changed it.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let blob = self.open(digest).map_err(Error::or_absent)?;
        if blob.size > limit {
            return Err(Error::Size { what: "document", expected: limit, actual: blob.size });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or(0));
        blob.take(limit).read_to_end(&mut bytes).map_err(Error::io(format!("cannot read blob {digest}")))?;
        let actual = Digest::sha256(layer::digest::sha256(&bytes));
        if actual != *digest {
            return Err(Error::Digest { what: "stored blob", expected: *digest, actual });
        }
        Ok(bytes)
    }

    /// All blobs, unsorted.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<Digest>> {
        let names = self.dir.list().map_err(Error::io("cannot list blobs"))?;
        let mut digests: Vec<Digest> = names.iter().filter_map(|entry| digest_of(&entry.name)).collect();
        digests.extend(self.recipes.list()?);
        digests.sort_unstable();
        digests.dedup();
        Ok(digests)
    }

    /// Removes a blob in every form; gives the bytes freed.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<u64> {
        let size = self.drop_kept(digest)?;
        let recipe = self.recipes.remove(digest)?;
        size.or(recipe.then_some(0)).ok_or(Error::NoBlob(*digest))
    }

    /// Removes the file of a blob; gives its bytes if there was one.
    pub(crate) fn drop_kept(&self, digest: &Digest) -> Result<Option<u64>> {
        let Some((_, size)) = self.kept(digest)? else { return Ok(None) };
        self.dir.unlink(&name(digest)).map_err(Error::io(format!("cannot remove blob {digest}")))?;
        Ok(Some(size))
    }

    pub(crate) fn sync(&self) -> Result<()> {
        rustix::fs::fsync(self.dir.as_fd()).map_err(|e| Error::io("cannot sync blobs")(e.into()))
    }
}

impl Blob {
    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest it was opened by.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Passes over the next `bytes`.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match &mut self.content {
            Content::Kept(file) => file.seek(SeekFrom::Current(i64::try_from(bytes).unwrap_or(i64::MAX))).map(drop),
            Content::Made(made) => io::copy(&mut made.take(bytes), &mut io::sink()).map(drop),
        }
    }

    /// Reads the whole blob and compares its digest.
    ///
    /// # Errors
    /// [`Error::Digest`], [`Error::Io`].
    pub fn verify(self) -> Result<()> {
        let (digest, fail) = (self.digest, Error::io(format!("cannot read blob {}", self.digest)));
        let mut reader = DigestReader::new(self);
        io::copy(&mut reader, &mut io::sink()).map_err(fail)?;
        let actual = Digest::sha256(reader.finish().0);
        if actual != digest {
            return Err(Error::Digest { what: "stored blob", expected: digest, actual });
        }
        Ok(())
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.content {
            Content::Kept(file) => file.read(buffer),
            Content::Made(made) => made.read(buffer),
        }
    }
}

pub(crate) fn name(digest: &Digest) -> OsString {
    OsString::from(digest.hex())
}

pub(crate) fn digest_of(name: &std::ffi::OsStr) -> Option<Digest> {
    format!("sha256:{}", name.to_str()?).parse().ok()
}
