//! Blobs that are not kept because they can be made again: `content/recipes/HEX` says how.
//!
//! A compressed layer is on disk twice, as it came and as what came out of it. When its archive is kept and
//! compressing it gives the same bytes once more, the blob is no more than that recipe. Nothing is taken on
//! trust: a recipe is written only after the bytes that it gives were found to have the blob's digest. A
//! recipe may also be empty: the blob was given up for room, and only a registry has it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deflate::{Dialect, gzip};
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use sys::path::{Dir, Root};
use types::{DiffId, Digest};

use super::{blobs, layers, random_name};
use crate::error::{Error, Result};

/// Bytes of the archive compressed at a time.
const CHUNK: usize = 128 * 1024;
/// Most bytes of a recipe's document: a gzip header has at most a name and a comment.
const MAX_RECIPE: u64 = 64 * 1024;

/// How a blob comes about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recipe {
    /// The layer it is, uncompressed.
    pub layer: DiffId,
    /// Bytes of the blob.
    pub size: u64,
    /// How the layer's archive is compressed; absent when that is not known and the blob is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gzip: Option<Gzip>,
}

/// Parameters of a gzip stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gzip {
    /// Whose encoder.
    pub encoder: Encoder,
    /// Its level.
    pub level: u8,
    /// The stream's header, hexadecimal.
    pub header: String,
}

/// Encoders whose bytes can be made, by the names that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Encoder {
    /// Go's library before 1.27.
    #[serde(rename = "go")]
    Go,
    /// Go's library since 1.27.
    #[serde(rename = "go1.27")]
    Go127,
}

impl Encoder {
    fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::GoClassic => Self::Go,
            Dialect::Go127 => Self::Go127,
        }
    }

    fn dialect(self) -> Dialect {
        match self {
            Self::Go => Dialect::GoClassic,
            Self::Go127 => Dialect::Go127,
        }
    }
}

/// The directory of recipes.
#[derive(Debug)]
pub(crate) struct Recipes {
    dir: Dir,
    layers: Arc<Dir>,
    /// Blobs without a way to make them that were asked for.
    missed: Mutex<HashSet<Digest>>,
}

impl Recipes {
    pub(crate) fn open(root: &Root, layers: Arc<Dir>) -> Result<Self> {
        let fail = || Error::io("cannot open the directory of recipes");
        let dir = root.create_dir_all("content/recipes", Mode::RWXU).map_err(fail())?;
        for entry in dir.list().map_err(fail())? {
            if blobs::digest_of(&entry.name).is_none() {
                dir.unlink(&entry.name).map_err(fail())?;
            }
        }
        Ok(Self { dir, layers, missed: Mutex::default() })
    }

    /// The recipe of a blob.
    ///
    /// # Errors
    /// [`Error::NoBlob`] when there is none, [`Error::Io`] also for one that cannot be read.
    pub(crate) fn get(&self, digest: &Digest) -> Result<Recipe> {
        let fail = || Error::io(format!("cannot read how blob {digest} is made"));
        let file = match self.dir.open_file(&blobs::name(digest)) {
            Ok(fd) => File::from(fd),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::NoBlob(*digest)),
            Err(e) => return Err(fail()(e)),
        };
        let mut text = Vec::new();
        file.take(MAX_RECIPE).read_to_end(&mut text).map_err(fail())?;
        serde_json::from_slice(&text).map_err(|e| fail()(io::Error::new(io::ErrorKind::InvalidData, e)))
    }

    /// The recipe of a blob whose layer is here.
    ///
    /// # Errors
    /// As [`Recipes::get`]; [`Error::NoBlob`] also when the layer is not here.
    pub(crate) fn usable(&self, digest: &Digest) -> Result<Recipe> {
        let recipe = self.get(digest)?;
        let here = self.layers.lstat(&blobs::name(&recipe.layer.0)).is_ok();
        here.then_some(recipe).ok_or(Error::NoBlob(*digest))
    }

    /// Writes a recipe; it is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn put(&self, digest: &Digest, recipe: &Recipe) -> Result<()> {
        let fail = || Error::io(format!("cannot write how blob {digest} is made"));
        let text = serde_json::to_vec(recipe).map_err(|e| fail()(e.into()))?;
        let temporary = random_name(".tmp-").map_err(fail())?;
        let mut file = File::from(self.dir.create_file(&temporary, Mode::RUSR).map_err(fail())?);
        let written = file.write_all(&text).and_then(|()| file.sync_all());
        written
            .and_then(|()| self.dir.rename(&temporary, &self.dir, &blobs::name(digest)))
            .and_then(|()| Ok(rustix::fs::fsync(self.dir.as_fd())?))
            .inspect_err(|_| drop(self.dir.unlink(&temporary)))
            .map_err(fail())
    }

    /// Removes a recipe if there is one.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<bool> {
        match self.dir.unlink(&blobs::name(digest)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io(format!("cannot remove the recipe of blob {digest}"))(e)),
        }
    }

    /// Blobs that were asked for in vain.
    pub(crate) fn missed(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blobs with a recipe, unsorted.
    pub(crate) fn list(&self) -> Result<Vec<Digest>> {
        let names = self.dir.list().map_err(Error::io("cannot list recipes"))?;
        Ok(names.iter().filter_map(|entry| blobs::digest_of(&entry.name)).collect())
    }

    /// The blob's bytes, made as they are read.
    ///
    /// # Errors
    /// [`Error::Released`] when it cannot be made; [`Error::NoLayer`], [`Error::Io`].
    pub(crate) fn make(&self, digest: &Digest, recipe: &Recipe) -> Result<Made> {
        let fail = || Error::io(format!("cannot make blob {digest} again"));
        let Some(how) = &recipe.gzip else { return Err(Error::Released(*digest)) };
        let header = unhex(&how.header).and_then(|bytes| gzip::Header::parse(&bytes).ok());
        let header = header.ok_or_else(|| fail()(io::Error::other("its header is not one of gzip")))?;
        let encoder = gzip::Encoder::new(&header, how.encoder.dialect(), how.level);
        let encoder = encoder.map_err(|e| fail()(io::Error::other(e)))?;
        Ok(Made { archive: self.archive(&recipe.layer)?, encoder: Some(encoder), out: Vec::new(), at: 0 })
    }

    fn archive(&self, layer: &DiffId) -> Result<File> {
        let fail = || Error::io(format!("cannot open the archive of layer {layer}"));
        let top = match self.layers.open_dir(&blobs::name(&layer.0)) {
            Ok(top) => top,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::NoLayer(layer.0)),
            Err(e) => return Err(fail()(e)),
        };
        top.open_file(layers::ARCHIVE.as_ref()).map(File::from).map_err(fail())
    }

    /// How `blob` is made of the archive of `layer`; `None` when no known encoder makes it. Reads both,
    /// whole only when they agree. `go_on` is asked now and then.
    ///
    /// # Errors
    /// [`Error::Digest`] when the blob is not what its digest says, [`Error::Io`].
    pub(crate) fn prove(
        &self,
        digest: &Digest,
        mut blob: File,
        layer: &DiffId,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Recipe>> {
        let fail = || Error::io(format!("cannot find out how blob {digest} is made"));
        let size = blob.metadata().map_err(fail())?.len();
        let mut head = Vec::new();
        (&mut blob).take(gzip::HEADER_MAX as u64).read_to_end(&mut head).map_err(fail())?;
        let Ok(header) = gzip::Header::parse(&head) else { return Ok(None) };
        for &(dialect, level) in gzip::candidates(&header) {
            io::Seek::rewind(&mut blob).map_err(fail())?;
            let Ok(encoder) = gzip::Encoder::new(&header, dialect, level) else { continue };
            let mut made = Made { archive: self.archive(layer)?, encoder: Some(encoder), out: Vec::new(), at: 0 };
            let Some(found) = same(&mut made, &mut blob, go_on).map_err(fail())? else { continue };
            if found != *digest {
                return Err(Error::Digest { what: "stored blob", expected: *digest, actual: found });
            }
            let how = Gzip { encoder: Encoder::of(dialect), level, header: faster_hex::hex_string(header.raw()) };
            return Ok(Some(Recipe { layer: *layer, size, gzip: Some(how) }));
        }
        Ok(None)
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; text.len() / 2];
    faster_hex::hex_decode(text.as_bytes(), &mut bytes).ok()?;
    Some(bytes)
}

/// Digest of what both give, if that is the same. Not being asked to go on ends it like a difference.
fn same(made: &mut Made, blob: &mut File, go_on: &dyn Fn() -> bool) -> io::Result<Option<Digest>> {
    let mut made = layer::DigestReader::new(made);
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        if !go_on() {
            return Ok(None);
        }
        let read = made.read(&mut left)?;
        if read == 0 {
            let more = blob.read(&mut right[..1])?;
            return Ok((more == 0).then(|| Digest::sha256(made.finish().0)));
        }
        match blob.read_exact(&mut right[..read]) {
            Ok(()) if left[..read] == right[..read] => {}
            Ok(()) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

/// A blob being made.
pub(crate) struct Made {
    archive: File,
    /// Absent once it has finished.
    encoder: Option<gzip::Encoder>,
    out: Vec<u8>,
    at: usize,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Made").field("archive", &self.archive).finish_non_exhaustive()
    }
}

impl Read for Made {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.out.len() {
            (self.at, _) = (0, self.out.clear());
            let Some(mut encoder) = self.encoder.take() else { return Ok(0) };
            let mut chunk = [0; 32 * 1024];
            match self.archive.read(&mut chunk)? {
                0 => encoder.finish(&mut self.out),
                read => {
                    encoder.write(&chunk[..read], &mut self.out);
                    self.encoder = Some(encoder);
                }
            }
        }
        let take = buffer.len().min(self.out.len() - self.at);
        buffer[..take].copy_from_slice(&self.out[self.at..self.at + take]);
        self.at += take;
        Ok(take)
    }
}
