//! From an archive's bytes to a layer: decompressed, digested, and indexed or unpacked, each stage on a thread
//! of its own.
//!
//! What an index cannot show is unpacked instead, from the archive that is on disk by then: the bytes come in
//! once, whatever the layer is.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::thread::{Scope, ScopedJoinHandle};

use layer::tar::{Limits, Reader};
use layer::{Codec, Decompress, DigestReader};
use sys::path::{Dir, Root};
use types::{DiffId, Digest};

use super::ahead::ahead;
use super::{Layers, PendingLayer};
use crate::error::{Error, Result};
use crate::tree::{ApplyOptions, apply};

/// A growing file is handed to the disk in pieces of so many bytes.
const WRITEBACK: u64 = 8 << 20;

/// What an archive became.
pub(super) struct Unpacked {
    pub(super) codec: Codec,
    /// Digest of the uncompressed archive; `None` when it was not compressed, and is the blob's own.
    pub(super) uncompressed: Option<DiffId>,
    pending: PendingLayer,
    shape: Shape,
}

enum Shape {
    Unpacked {
        bytes: u64,
        opaque: bool,
    },
    Indexed {
        tree: Box<erofs::Tree>,
        archive_bytes: u64,
    },
    /// The archive has something an index cannot show.
    NotIndexed,
}

/// Reads `reader` to its end and makes a layer of it, but for what [`Unpacked::complete`] does.
pub(super) fn unpack(layers: &Layers, limits: Limits, reader: impl Read + Send) -> Result<Unpacked> {
    let failed = |error: io::Error| Error::Tar(error.into());
    let decompress = Decompress::new(reader, limits.total_bytes.saturating_mul(2)).map_err(failed)?;
    let codec = decompress.codec();
    let pending = layers.create()?;
    std::thread::scope(|scope| {
        if codec == Codec::Plain {
            // The archive's digest is the blob's own, and so are its bytes.
            let (plain, source) = ahead(scope, "ingest-read", decompress).map_err(stage)?;
            let shape = if layers.are_indexed() { index(plain, limits)? } else { plant(&pending, plain, limits)? };
            joined(source)?;
            return Ok(Unpacked { codec, uncompressed: None, pending, shape });
        }
        unpack_plain(scope, layers, limits, codec, pending, decompress)
    })
}

/// As [`unpack`], of an archive that is not compressed and that nobody else keeps.
pub(super) fn unpack_archive(layers: &Layers, limits: Limits, archive: impl Read + Send) -> Result<Unpacked> {
    let pending = layers.create()?;
    std::thread::scope(|scope| unpack_plain(scope, layers, limits, Codec::Plain, pending, archive))
}

fn unpack_plain<'scope>(
    scope: &'scope Scope<'scope, '_>,
    layers: &Layers,
    limits: Limits,
    codec: Codec,
    pending: PendingLayer,
    archive: impl Read + Send + 'scope,
) -> Result<Unpacked> {
    let (inflated, source) = ahead(scope, "ingest-inflate", archive).map_err(stage)?;
    let (digested, digest) = ahead(scope, "ingest-digest", DigestReader::new(inflated)).map_err(stage)?;
    let shape = if layers.are_indexed() {
        index(Copying::new(digested, pending.archive()?), limits)?
    } else {
        plant(&pending, digested, limits)?
    };
    let diff_id = DiffId(Digest::sha256(joined(digest)?.finish().0));
    joined(source)?;
    Ok(Unpacked { codec, uncompressed: Some(diff_id), pending, shape })
}

fn stage(error: io::Error) -> Error {
    Error::io("cannot start a thread to unpack a layer")(error)
}

impl Unpacked {
    /// Makes the layer whole: gives it, and the bytes of its files. `blob` is where the blob is that it was made of.
    pub(super) fn complete(
        self,
        layers: &Layers,
        limits: Limits,
        diff_id: DiffId,
        blob: Option<(&Dir, &OsStr)>,
    ) -> Result<(PendingLayer, u64)> {
        let Self { uncompressed, mut pending, shape, .. } = self;
        if let Some((dir, name)) = blob
            && uncompressed.is_none()
            && !matches!(shape, Shape::Unpacked { .. })
        {
            pending.link_archive(dir, name)?;
        }
        match shape {
            Shape::Unpacked { bytes, opaque } => {
                pending.complete(diff_id, bytes, opaque)?;
                Ok((pending, bytes))
            }
            Shape::Indexed { tree, archive_bytes } => {
                let bytes = pending.complete_indexed(diff_id, *tree, archive_bytes)?;
                Ok((pending, bytes))
            }
            Shape::NotIndexed => {
                let mut unpacked = layers.create()?;
                let Shape::Unpacked { bytes, opaque } = plant(&unpacked, pending.open_archive()?, limits)? else {
                    return Err(Error::io("cannot unpack a layer")(io::ErrorKind::Unsupported.into()));
                };
                unpacked.complete(diff_id, bytes, opaque)?;
                Ok((unpacked, bytes))
            }
        }
    }
}

/// Unpacks an archive into a layer's tree.
fn plant(pending: &PendingLayer, archive: impl Read, limits: Limits) -> Result<Shape> {
    let root: Root = pending.tree()?;
    let mut archive = Reader::new(archive, limits);
    let applied = apply(&root, &mut archive, &ApplyOptions::layer())?;
    archive.drain()?;
    Ok(Shape::Unpacked { bytes: applied.bytes, opaque: applied.opaque_root })
}

/// Collects an archive's index.
fn index(archive: impl Read, limits: Limits) -> Result<Shape> {
    let mut counting = Counting { inner: archive, count: 0 };
    match index_of(&mut counting, limits) {
        Ok(tree) => Ok(Shape::Indexed { tree: Box::new(tree), archive_bytes: counting.count }),
        Err(Error::Index(erofs::Error::Unsupported(_))) => {
            // Members are looked at again when the archive is unpacked.
            io::copy(&mut counting, &mut io::sink()).map_err(|error| Error::Tar(error.into()))?;
            Ok(Shape::NotIndexed)
        }
        Err(error) => Err(error),
    }
}

/// The tree of an archive that is read to its end.
pub(crate) fn index_of(archive: impl Read, limits: Limits) -> Result<erofs::Tree> {
    let mut archive = Reader::new(archive, limits);
    let mut tree = erofs::Tree::new(erofs::Options::default());
    while let Some(entry) = archive.next_entry()? {
        tree.add(&entry, archive.position())?;
    }
    archive.drain()?;
    Ok(tree)
}

/// What a stage was reading from.
fn joined<R>(thread: ScopedJoinHandle<'_, R>) -> Result<R> {
    thread.join().map_err(|_| Error::io("cannot unpack a layer")(io::Error::other("a stage of unpacking panicked")))
}

struct Counting<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}

/// Copies what is read to a file, which goes to the disk as it grows.
struct Copying<R> {
    inner: R,
    out: Growing,
}

impl<R> Copying<R> {
    fn new(inner: R, file: File) -> Self {
        Self { inner, out: Growing::new(file, 0) }
    }
}

impl<R: Read> Read for Copying<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.out.write_all(&buffer[..read])?;
        Ok(read)
    }
}

/// A file that is written to disk while it grows, so that the sync at its end has little left to do.
#[derive(Debug)]
pub(super) struct Growing {
    file: File,
    size: u64,
    started: u64,
}

impl Growing {
    /// A file of `size` bytes, to be written at its end.
    pub(super) fn new(file: File, size: u64) -> Self {
        Self { file, size, started: size }
    }
}

impl Write for Growing {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.file.write(data)?;
        self.size += written as u64;
        if self.size - self.started >= WRITEBACK {
            // A help for the sync to come, which is what counts.
            let _ = sys::writeback::start(self.file.as_fd(), self.started, self.size - self.started);
            self.started = self.size;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
