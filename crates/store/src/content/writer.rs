//! A blob being written: a file in `content/ingest`, digested as it grows.
//!
//! Nothing of it is visible until [`super::Ingest::commit`]; dropped before that, it is removed. The one
//! exception is a blob whose source broke off: it stays under its digest, to be gone on with.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use layer::DigestWriter;
use rustix::fs::Mode;
use sys::path::Dir;
use types::Digest;

use super::partial::Claim;
use super::unpack::Growing;
use super::{blobs, random_name};
use crate::error::{Error, Result};

/// Writes a blob and its digest in one pass.
#[derive(Debug)]
pub struct BlobWriter {
    out: DigestWriter<Continued>,
    temporary: Temporary,
    limit: Option<u64>,
    /// Held while a blob is gone on with.
    claim: Option<Claim>,
}

/// A file whose first bytes are there already: they are digested and not written again.
#[derive(Debug)]
struct Continued {
    file: Growing,
    there: u64,
}

impl Write for Continued {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.there == 0 {
            return self.file.write(data);
        }
        let taken = usize::try_from(self.there).map_or(data.len(), |there| there.min(data.len()));
        self.there -= taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A complete blob that has not got its name yet.
#[derive(Debug)]
pub(crate) struct PendingBlob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    temporary: Temporary,
    /// Held until the blob has its name.
    claim: Option<Claim>,
}

/// A name in a directory that goes away unless it is kept.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) dir: Arc<Dir>,
    pub(crate) name: OsString,
    pub(crate) armed: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.armed {
            // What stays behind after a failure here is removed when the store is next opened.
            let _ = self.dir.remove_tree(&self.name);
        }
    }
}

impl BlobWriter {
    pub(crate) fn new(dir: &Arc<Dir>) -> Result<Self> {
        let fail = || Error::io("cannot create a blob");
        let name = random_name("blob-").map_err(fail())?;
        let dir = Arc::clone(dir);
        let file = File::from(dir.create_file(&name, Mode::RUSR | Mode::WUSR).map_err(fail())?);
        let temporary = Temporary { dir, name, armed: true };
        Ok(Self {
            out: DigestWriter::new(Continued { file: Growing::new(file, 0), there: 0 }),
            temporary,
            limit: None,
            claim: None,
        })
    }

    /// Goes on with a blob of which `there` bytes are in `file`. They must be written to it once more, and
    /// are only digested.
    pub(super) fn continued(dir: &Arc<Dir>, name: OsString, file: File, there: u64, claim: Claim) -> Self {
        let temporary = Temporary { dir: Arc::clone(dir), name, armed: true };
        Self {
            out: DigestWriter::new(Continued { file: Growing::new(file, there), there }),
            temporary,
            limit: None,
            claim: Some(claim),
        }
    }

    /// Leaves what came so far for a later try, if it can be found again.
    pub(super) fn leave(mut self) {
        if self.claim.is_some() {
            self.temporary.armed = false;
        }
    }

    /// Refuses more than `limit` bytes while they come.
    #[must_use]
    pub fn limited(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Bytes written so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.out.count()
    }

    pub(crate) fn finish(self) -> PendingBlob {
        // The file is closed: an archive may have more members than a process descriptors.
        let (_, digest, size) = self.out.into_parts();
        PendingBlob { digest: Digest::sha256(digest), size, temporary: self.temporary, claim: self.claim }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if let Some(limit) = self.limit
            && self.out.count() + data.len() as u64 > limit
        {
            let text = format!("size mismatch: more than the {limit} bytes declared");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.out.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl PendingBlob {
    pub(crate) fn sync(&self) -> Result<()> {
        rustix::fs::fsync(self.reopen()?).map_err(|e| Error::io("cannot sync a blob")(e.into()))
    }

    /// Opens the bytes again from the beginning.
    pub(crate) fn reopen(&self) -> Result<File> {
        self.temporary.dir.open_file(&self.temporary.name).map(File::from).map_err(Error::io("cannot reopen a blob"))
    }

    /// Where its bytes are.
    pub(super) fn place(&self) -> (Arc<Dir>, OsString) {
        (Arc::clone(&self.temporary.dir), self.temporary.name.clone())
    }

    /// The blob is the one that was asked for: if the image it belongs to does not come about, it is left
    /// for the next try.
    pub(super) fn keep(&mut self) {
        if self.claim.is_some() {
            self.temporary.armed = false;
        }
    }

    /// Gives the blob its name. The file must be synced.
    pub(crate) fn publish(mut self, blobs: &Dir) -> Result<()> {
        let name = blobs::name(&self.digest);
        rename(&self.temporary.dir, &self.temporary.name, blobs, &name)?;
        self.temporary.armed = false;
        Ok(())
    }
}

fn rename(from: &Dir, name: &OsStr, to: &Dir, new_name: &OsStr) -> Result<()> {
    // A blob must not be changed through a name; only its reader's copy may.
    rustix::fs::chmodat(from.as_fd(), name, Mode::RUSR, rustix::fs::AtFlags::empty())
        .map_err(|e| Error::io("cannot publish a blob")(e.into()))?;
    from.rename(name, to, new_name).map_err(Error::io("cannot publish a blob"))
}
