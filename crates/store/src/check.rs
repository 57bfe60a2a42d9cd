//! Whether what is stored is still what it was: blobs and archives against their digests, indexes against what
//! the archive gives once more, unpacked layers against the digest that was recorded when they were made.
//!
//! Nothing is changed by looking. Called by `system fsck`.

use std::io::{self, Read, Write};

use layer::DigestWriter;
use layer::tar::Limits;
use types::{DiffId, Digest};

use crate::content::{index_of, indexed_files};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::tree;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is what it was.
    Sound,
    /// It is not, and why that is known.
    Damaged(String),
    /// There is nothing to compare it with.
    Unknown(String),
}

impl Store {
    /// Reads a blob, or makes it by its recipe, and compares it with its digest. One that was given up is
    /// sound as long as its layer is there.
    ///
    /// # Errors
    /// [`Error::NoBlob`]; a disk that cannot read it makes it [`Verdict::Damaged`].
    pub fn check_blob(&self, digest: &Digest) -> Result<Verdict> {
        let blob = match self.blobs().open(digest) {
            Ok(blob) => blob,
            Err(Error::Released(_)) => {
                let layer = self.blobs().recipes.get(digest)?.layer;
                let lost = || Verdict::Damaged(format!("it was given up for room and its layer {layer} is not here"));
                return Ok(if self.layers().has(&layer) { Verdict::Sound } else { lost() });
            }
            Err(Error::NoLayer(layer)) => {
                return Ok(Verdict::Damaged(format!("it is made of layer {layer}, which is not here")));
            }
            Err(error) => return Err(error),
        };
        Ok(match blob.verify() {
            Ok(()) => Verdict::Sound,
            Err(error) => Verdict::Damaged(error.to_string()),
        })
    }

    /// Reads a layer and compares it with its digest, its index, or what was recorded of it.
    ///
    /// # Errors
    /// [`Error::NoLayer`].
    pub fn check_layer(&self, diff_id: &DiffId) -> Result<Verdict> {
        let layers = self.layers();
        layers.settle(diff_id)?;
        let checked = match layers.archive(diff_id)? {
            Some(_) => self.check_indexed(diff_id),
            None => self.check_unpacked(diff_id),
        };
        Ok(checked.unwrap_or_else(|error| Verdict::Damaged(error.to_string())))
    }

    fn check_indexed(&self, diff_id: &DiffId) -> Result<Verdict> {
        let (archive, index) = indexed_files(self.layers(), diff_id)?;
        let mut digested = layer::DigestReader::new(archive);
        let made = index_of(&mut digested, Limits::default());
        let (actual, bytes) = digested.finish();
        let actual = Digest::sha256(actual);
        if actual != diff_id.0 {
            return Ok(Verdict::Damaged(format!("its archive has digest {actual}")));
        }
        let mut same = Same { expected: io::BufReader::with_capacity(256 * 1024, index), differs: false };
        made?.finish(bytes, &mut same)?;
        let more = same.expected.read(&mut [0]).map_err(Error::io("cannot read a layer's index"))?;
        if same.differs || more > 0 {
            return Ok(Verdict::Damaged("its index is not that of its archive".to_owned()));
        }
        Ok(Verdict::Sound)
    }

    fn check_unpacked(&self, diff_id: &DiffId) -> Result<Verdict> {
        let Some(recorded) = self.layers().tree_digest(diff_id)? else {
            return Ok(Verdict::Unknown("nothing was recorded of its files when it was unpacked".to_owned()));
        };
        let actual = tree_digest(&self.layers().root(diff_id)?)?;
        if actual != recorded {
            return Ok(Verdict::Damaged(format!("its files have digest {actual} where {recorded} was recorded")));
        }
        Ok(Verdict::Sound)
    }

    /// Removes a blob that is damaged, whoever needs it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn discard_blob(&self, digest: &Digest) -> Result<()> {
        self.blobs().remove(digest).map(drop)
    }

    /// Removes a layer that is damaged, whoever needs it. What is mounted of it stays so.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn discard_layer(&self, diff_id: &DiffId) -> Result<()> {
        let retired = self.layers().retire(diff_id)?;
        self.layers().sweep(&retired)
    }
}

/// Digest of an unpacked layer: that of the archive its files make.
pub(crate) fn tree_digest(root: &sys::path::Root) -> Result<Digest> {
    let mut digest = DigestWriter::new(io::sink());
    tree::diff_tar(root, io::BufWriter::with_capacity(256 * 1024, &mut digest))?;
    Ok(Digest::sha256(digest.into_parts().1))
}

/// Compares what is written with what is there.
struct Same<R> {
    expected: R,
    differs: bool,
}

impl<R: Read> Write for Same<R> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut expected = [0; 4096];
        for piece in data.chunks(expected.len()) {
            let there = &mut expected[..piece.len()];
            match self.expected.read_exact(there) {
                Ok(()) => self.differs = self.differs || *there != *piece,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.differs = true,
                Err(error) => return Err(error),
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
