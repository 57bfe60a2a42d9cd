//! Blobs: `content/blobs/sha256/HEX`, each the bytes its name is the digest of.
//!
//! A name appears only by rename of a complete, synced file, so a blob that exists is whole.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use layer::DigestReader;
use sys::path::Dir;
use types::Digest;

use crate::error::{Error, Result};

/// The directory of blobs.
#[derive(Debug)]
pub struct Blobs {
    pub(crate) dir: Dir,
}

/// An open blob.
#[derive(Debug)]
pub struct Blob {
    file: File,
    digest: Digest,
    size: u64,
}

impl Blobs {
    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`Error::NoBlob`]; [`Error::Io`].
    pub fn open(&self, digest: &Digest) -> Result<Blob> {
        let fail = || Error::io(format!("cannot open blob {digest}"));
        let file = match self.dir.open_file(&name(digest)) {
            Ok(fd) => File::from(fd),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::NoBlob(*digest)),
            Err(e) => return Err(fail()(e)),
        };
        let size = file.metadata().map_err(fail())?.len();
        Ok(Blob { file, digest: *digest, size })
    }

    /// Whether the blob is there.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.dir.lstat(&name(digest)).is_ok()
    }

    /// Size of a blob in bytes.
    ///
    /// # Errors
    /// As [`Blobs::open`].
    pub fn size(&self, digest: &Digest) -> Result<u64> {
        Ok(self.open(digest)?.size)
    }

    /// A small document, read whole and checked against its digest.
    ///
    /// # Errors
    /// [`Error::NoBlob`], [`Error::Size`] beyond `limit` bytes, [`Error::Digest`] when the disk changed it.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let blob = self.open(digest)?;
        if blob.size > limit {
            return Err(Error::Size { what: "document", expected: limit, actual: blob.size });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or(0));
        blob.file.take(limit).read_to_end(&mut bytes).map_err(Error::io(format!("cannot read blob {digest}")))?;
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
        Ok(names.iter().filter_map(|entry| digest_of(&entry.name)).collect())
    }

    pub(crate) fn remove(&self, digest: &Digest) -> Result<u64> {
        let size = self.size(digest)?;
        self.dir.unlink(&name(digest)).map_err(Error::io(format!("cannot remove blob {digest}")))?;
        Ok(size)
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

    /// The open file, at its beginning unless read from.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }

    /// Reads the whole blob and compares its digest.
    ///
    /// # Errors
    /// [`Error::Digest`], [`Error::Io`].
    pub fn verify(self) -> Result<()> {
        let mut reader = DigestReader::new(self.file);
        let fail = Error::io(format!("cannot read blob {}", self.digest));
        io::copy(&mut reader, &mut io::sink()).map_err(fail)?;
        let actual = Digest::sha256(reader.finish().0);
        if actual != self.digest {
            return Err(Error::Digest { what: "stored blob", expected: self.digest, actual });
        }
        Ok(())
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

pub(crate) fn name(digest: &Digest) -> OsString {
    OsString::from(digest.hex())
}

pub(crate) fn digest_of(name: &std::ffi::OsStr) -> Option<Digest> {
    format!("sha256:{}", name.to_str()?).parse().ok()
}
