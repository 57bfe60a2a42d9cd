//! One image on its way in: blobs and layers that become visible together, after one sync.
//!
//! An [`Ingest`] lives until the image's record is written: everything it brought or found already
//! present is kept from garbage collection until then. Dropped without [`Ingest::commit`], it leaves
//! nothing. Several threads may bring layers at once.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layer::tar::Limits;
use layer::{Codec, Decompress, DigestReader};
use types::{DiffId, Digest};

use super::unpack::{unpack, unpack_archive};
use super::{BlobWriter, Partial, PendingBlob, PendingLayer, Recipe};
use crate::error::{Error, Result};
use crate::model::{Descriptor, Document, media_type};
use crate::store::Store;

/// Pending documents above which one sync of the file system beats one per file.
const SYNC_ALL: usize = 4;

/// A layer that was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerInfo {
    /// Digest of the uncompressed archive.
    pub diff_id: DiffId,
    /// Bytes of its files.
    pub size: u64,
    /// Digest of the bytes that came in.
    pub blob: Digest,
    /// Count of the bytes that came in.
    pub blob_size: u64,
    /// Their compression.
    pub codec: Codec,
}

impl LayerInfo {
    /// The blob's descriptor for a manifest made here.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        let media_type = match self.codec {
            Codec::Gzip => media_type::OCI_LAYER_GZIP,
            Codec::Zstd => media_type::OCI_LAYER_ZSTD,
            Codec::Plain | Codec::Bzip2 | Codec::Xz => media_type::OCI_LAYER,
        };
        Descriptor::new(media_type, self.blob, self.blob_size)
    }
}

/// An image on its way in.
#[derive(Debug)]
pub struct Ingest {
    store: Arc<Store>,
    pending: Mutex<Pending>,
    /// Held while something becomes visible: a second commit returns once what the first took is there.
    committing: Mutex<()>,
    limits: Limits,
}

#[derive(Debug, Default)]
struct Pending {
    blobs: HashMap<Digest, PendingBlob>,
    layers: HashMap<DiffId, PendingLayer>,
    /// Blobs that did not come although their layers did.
    recipes: HashMap<Digest, Recipe>,
    pins: HashSet<Digest>,
    /// Blobs that were found to be these layers: an image may name the same one any number of times.
    verified: HashSet<(Digest, DiffId)>,
}

impl Ingest {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, pending: Mutex::default(), committing: Mutex::default(), limits: Limits::default() }
    }

    /// Sets bounds for the archives of this image.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether the blob is stored or pending; a stored one is kept from collection from here on.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.pin(digest);
        self.lock().blobs.contains_key(digest) || self.store.blobs().has(digest)
    }

    /// Whether the layer is unpacked or pending; a present one is kept from collection from here on.
    pub fn has_layer(&self, diff_id: &DiffId) -> bool {
        self.pin(&diff_id.0);
        self.lock().layers.contains_key(diff_id) || self.store.layers().has(diff_id)
    }

    /// Takes a small document whole.
    ///
    /// # Errors
    /// [`Error::Digest`] when it is not `expected`, [`Error::Io`].
    pub fn document(&self, bytes: &[u8], expected: Option<&Digest>) -> Result<Digest> {
        let actual = Digest::sha256(layer::digest::sha256(bytes));
        if let Some(expected) = expected
            && *expected != actual
        {
            return Err(Error::Digest { what: "document", expected: *expected, actual });
        }
        // That it is a blob given up may be no more than what somebody said of a layer.
        if self.has_blob(&actual) && !self.store.blobs().is_released(&actual) {
            return Ok(actual);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).map_err(Error::io("cannot write a document"))?;
        self.blob(writer, None)
    }

    /// A writer for a blob that is then given to [`Ingest::blob`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        BlobWriter::new(self.store.ingest_dir())
    }

    /// Takes a written blob.
    ///
    /// # Errors
    /// [`Error::Size`] or [`Error::Digest`] when it is not the one expected (digest and size in bytes).
    pub fn blob(&self, writer: BlobWriter, expected: Option<(&Digest, u64)>) -> Result<Digest> {
        let blob = writer.finish();
        check("blob", &blob, expected)?;
        Ok(self.add_blob(blob))
    }

    /// Takes a layer in one pass: stores the bytes of `reader` as a blob and unpacks them, both digested
    /// on the way. What is expected of the blob (digest, bytes) and of the layer is checked at the end,
    /// and a blob that grows past its size is stopped there.
    ///
    /// # Errors
    /// Those of the archive, [`Error::Digest`], [`Error::Size`], [`Error::Write`] (disk full included).
    pub fn layer(
        &self,
        reader: impl Read + Send,
        expected: Option<(&Digest, u64)>,
        diff_id: Option<&DiffId>,
    ) -> Result<LayerInfo> {
        self.take_layer(self.blob_writer()?, reader, expected, diff_id)
    }

    /// What earlier tries left of a blob of `size` bytes, to be given to [`Ingest::rest_of_layer`]. Nothing
    /// is there while somebody else takes the same blob in.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn partial(&self, digest: &Digest, size: u64) -> Result<Option<Partial>> {
        self.store.partials().claim(digest, size)
    }

    /// Takes a layer of which a part is there: `reader` gives the bytes behind [`Partial::offset`]. When
    /// the reader fails, what came so far is kept for another try; any other failure removes it.
    ///
    /// # Errors
    /// As [`Ingest::layer`].
    pub fn rest_of_layer(
        &self,
        partial: Partial,
        reader: impl Read + Send,
        expected: (&Digest, u64),
        diff_id: Option<&DiffId>,
    ) -> Result<LayerInfo> {
        self.take_layer(partial.writer, partial.prefix.chain(reader), Some(expected), diff_id)
    }

    fn take_layer(
        &self,
        mut writer: BlobWriter,
        reader: impl Read + Send,
        expected: Option<(&Digest, u64)>,
        diff_id: Option<&DiffId>,
    ) -> Result<LayerInfo> {
        if let Some((_, size)) = expected {
            writer = writer.limited(size);
        }
        let mut tee = Tee { inner: reader, out: Some(writer), broken: false };
        let unpacked = unpack(self.store.layers(), self.limits, &mut tee);
        let Some(writer) = tee.out.take() else { return Err(Error::io("cannot store a layer")(ended())) };
        if tee.broken {
            writer.leave();
            return Err(unpacked.map_or_else(|error| error, |_| Error::io("cannot store a layer")(ended())));
        }
        let unpacked = unpacked?;
        let codec = unpacked.codec;
        let mut blob = writer.finish();
        check("layer", &blob, expected)?;
        let found = unpacked.uncompressed.unwrap_or(DiffId(blob.digest));
        check_diff_id(found, diff_id)?;
        blob.keep();
        let (dir, name) = blob.place();
        let (pending, size) = unpacked.complete(self.store.layers(), self.limits, found, Some((&dir, &name)))?;
        let info = LayerInfo { diff_id: found, size, blob: blob.digest, blob_size: blob.size, codec };
        // Formats a manifest has no name for are kept uncompressed.
        if matches!(codec, Codec::Bzip2 | Codec::Xz) {
            let info = self.recode(&blob, info)?;
            self.add_layer(pending, Some(info.blob));
            return Ok(info);
        }
        self.add_blob(blob);
        self.add_layer(pending, Some(info.blob));
        Ok(info)
    }

    /// Takes a layer by its archive, made of something else than the blob (digest, bytes) that a manifest names for it. The
    /// blob itself is not here afterwards, like one that was given up for room.
    ///
    /// # Errors
    /// Those of the archive; [`Error::Digest`] when it is not the layer.
    pub fn archive(
        &self,
        reader: impl Read + Send,
        (blob, blob_size): (&Digest, u64),
        diff_id: &DiffId,
    ) -> Result<LayerInfo> {
        let unpacked = unpack_archive(self.store.layers(), self.limits, reader)?;
        let codec = unpacked.codec;
        let found = unpacked.uncompressed.unwrap_or(*diff_id);
        check_diff_id(found, Some(diff_id))?;
        let (pending, size) = unpacked.complete(self.store.layers(), self.limits, found, None)?;
        self.add_layer(pending, None);
        self.pin(blob);
        let mut waiting = self.lock();
        waiting.recipes.insert(*blob, Recipe { layer: found, size: blob_size, gzip: None });
        // Nobody has seen the blob. That it is this layer is what a manifest and its configuration say, and as long as
        // it is not here it is used for nothing.
        waiting.verified.insert((*blob, found));
        Ok(LayerInfo { diff_id: found, size, blob: *blob, blob_size, codec })
    }

    /// Unpacks a blob that is stored or pending already.
    ///
    /// # Errors
    /// As [`Ingest::layer`]; [`Error::NoBlob`].
    pub fn unpack_blob(&self, digest: &Digest, diff_id: Option<&DiffId>) -> Result<LayerInfo> {
        let file = self.open_blob(digest)?;
        let mut reader = DigestReader::new(file);
        let unpacked = unpack(self.store.layers(), self.limits, &mut reader)?;
        let (actual, blob_size) = reader.finish();
        let actual = Digest::sha256(actual);
        if actual != *digest {
            return Err(Error::Digest { what: "stored blob", expected: *digest, actual });
        }
        let codec = unpacked.codec;
        let found = unpacked.uncompressed.unwrap_or(DiffId(*digest));
        check_diff_id(found, diff_id)?;
        let (layers, limits) = (self.store.layers(), self.limits);
        let on_its_way = self.lock().blobs.get(digest).map(PendingBlob::place);
        let (pending, size) = match on_its_way {
            Some((dir, name)) => unpacked.complete(layers, limits, found, Some((&dir, &name)))?,
            None => {
                let place = (&self.store.blobs().dir, super::blobs::name(digest));
                unpacked.complete(layers, limits, found, Some((place.0, &place.1)))?
            }
        };
        // What is itself made of the layer's archive is nothing to make it of again.
        let kept = self.lock().blobs.contains_key(digest) || matches!(self.store.blobs().kept(digest), Ok(Some(_)));
        self.add_layer(pending, kept.then_some(*digest));
        self.lock().verified.insert((*digest, found));
        Ok(LayerInfo { diff_id: found, size, blob: *digest, blob_size, codec })
    }

    /// Checks that a stored or pending blob is the layer `diff_id`, without unpacking it.
    ///
    /// # Errors
    /// [`Error::Digest`] when it is another; those of decompressing.
    pub fn verify_layer(&self, digest: &Digest, diff_id: &DiffId) -> Result<()> {
        if diff_id.0 == *digest || self.lock().verified.contains(&(*digest, *diff_id)) {
            return Ok(());
        }
        // A recipe is written only of a pair that was verified, or whose blob never came and can be used for nothing: once
        // it is here, its own bytes tell.
        let (blobs, pending) = (self.store.blobs(), self.lock().blobs.contains_key(digest));
        let said = blobs.recipes.get(digest).is_ok_and(|recipe| recipe.layer == *diff_id);
        if said && !pending && blobs.kept(digest)?.is_none() {
            return Ok(());
        }
        let failed = |error: io::Error| Error::Tar(error.into());
        let limit = self.limits.total_bytes.saturating_mul(2);
        let plain = Decompress::new(self.open_blob(digest)?, limit).map_err(failed)?;
        let mut reader = DigestReader::new(plain);
        io::copy(&mut reader, &mut io::sink()).map_err(failed)?;
        check_diff_id(DiffId(Digest::sha256(reader.finish().0)), Some(diff_id))?;
        self.lock().verified.insert((*digest, *diff_id));
        Ok(())
    }

    /// Whether the blob is on its way in with this.
    #[must_use]
    pub fn is_pending(&self, digest: &Digest) -> bool {
        self.lock().blobs.contains_key(digest)
    }

    /// Size in bytes of a stored or pending blob.
    ///
    /// # Errors
    /// [`Error::NoBlob`].
    pub fn blob_size(&self, digest: &Digest) -> Result<u64> {
        let pending = self.lock().blobs.get(digest).map(|blob| blob.size);
        pending.map_or_else(|| self.store.blobs().size(digest), Ok)
    }

    /// Reads a stored or pending document whole.
    ///
    /// # Errors
    /// As [`super::Blobs::read`].
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let file = self.open_blob(digest).map_err(Error::or_absent)?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io(format!("cannot read blob {digest}")))?;
        if bytes.len() as u64 > limit {
            return Err(Error::Size { what: "document", expected: limit, actual: bytes.len() as u64 });
        }
        let actual = Digest::sha256(layer::digest::sha256(&bytes));
        if actual != *digest {
            return Err(Error::Digest { what: "stored blob", expected: *digest, actual });
        }
        Ok(bytes)
    }

    /// Makes everything brought so far visible: a sync of the blobs, the renames, a sync of the directories.
    /// Layers go to disk with [`Store::settle`].
    /// The ingest goes on protecting it until it is dropped.
    ///
    /// # Errors
    /// [`Error::Io`]; then nothing may be acknowledged.
    pub fn commit(&self) -> Result<()> {
        let _committing = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let Pending { blobs, layers, recipes, .. } = {
            let mut pending = self.lock();
            let (blobs, layers) = (std::mem::take(&mut pending.blobs), std::mem::take(&mut pending.layers));
            Pending { blobs, layers, recipes: std::mem::take(&mut pending.recipes), ..Pending::default() }
        };
        // First, so that what the layers are made of is on disk when anybody is told of them. Lost with a power
        // cut they are made again.
        let (any_blob, any_layer) = (!blobs.is_empty(), !layers.is_empty());
        for layer in layers.into_values() {
            self.store.layers().publish(layer)?;
        }
        if blobs.len() > SYNC_ALL {
            self.store.layers().sync_file_system()?;
        } else {
            blobs.values().try_for_each(PendingBlob::sync)?;
        }
        for blob in blobs.into_values() {
            blob.publish(&self.store.blobs().dir)?;
        }
        if any_blob {
            self.store.blobs().sync()?;
        }
        if any_layer {
            self.store.layers().sync()?;
        }
        // Their layers are on disk: there is nothing to make them of again.
        recipes.iter().filter(|(digest, _)| !self.store.blobs().has(digest)).try_for_each(|(digest, recipe)| {
            self.store.layers().settle(&recipe.layer)?;
            self.store.blobs().recipes.put(digest, recipe)
        })
    }

    /// Takes what an image consists of out of this, as an ingest of its own, so that it is committed without waiting for the
    /// rest. Both protect it.
    ///
    /// # Errors
    /// Those of reading its documents.
    pub fn split(&self, target: &Descriptor) -> Result<Ingest> {
        let mut wanted = HashSet::new();
        for (descriptor, document) in crate::image::walk(self, target)? {
            wanted.insert(descriptor.digest);
            if let Document::Manifest(manifest) = document {
                wanted.insert(manifest.config.digest);
                wanted.extend(manifest.layers.iter().map(|layer| layer.digest));
            }
        }
        let part = Self::new(Arc::clone(&self.store)).limits(self.limits);
        let (blobs, layers, recipes) = {
            let mut pending = self.lock();
            let blobs: HashMap<_, _> = pending.blobs.extract_if(|digest, _| wanted.contains(digest)).collect();
            let ours = |layer: &PendingLayer| layer.blob.is_some_and(|blob| wanted.contains(&blob));
            let layers: HashMap<_, _> = pending.layers.extract_if(|_, layer| ours(layer)).collect();
            let recipes: HashMap<_, _> = pending.recipes.extract_if(|digest, _| wanted.contains(digest)).collect();
            (blobs, layers, recipes)
        };
        wanted.iter().for_each(|digest| part.pin(digest));
        layers.keys().for_each(|diff_id| part.pin(&diff_id.0));
        let mut pending = part.lock();
        (pending.blobs, pending.layers, pending.recipes) = (blobs, layers, recipes);
        drop(pending);
        Ok(part)
    }

    /// The store this goes into.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(crate) fn add_blob(&self, blob: PendingBlob) -> Digest {
        let digest = blob.digest;
        self.pin(&digest);
        self.lock().blobs.entry(digest).or_insert(blob);
        digest
    }

    /// Opens a stored or pending blob.
    ///
    /// # Errors
    /// As [`super::Blobs::open`].
    pub fn open_blob(&self, digest: &Digest) -> Result<Box<dyn Read + Send>> {
        let reopened = self.lock().blobs.get(digest).map(PendingBlob::reopen);
        match reopened {
            Some(file) => file.map(|file| Box::new(file) as _),
            None => self.store.blobs().open(digest).map(|blob| Box::new(blob) as _),
        }
    }

    fn add_layer(&self, mut layer: PendingLayer, blob: Option<Digest>) {
        layer.blob = blob;
        self.pin(&layer.diff_id.0);
        self.lock().layers.entry(layer.diff_id).or_insert(layer);
    }

    fn recode(&self, blob: &PendingBlob, info: LayerInfo) -> Result<LayerInfo> {
        let failed = |error: io::Error| Error::Tar(error.into());
        let mut plain = Decompress::new(blob.reopen()?, u64::MAX).map_err(failed)?;
        let mut writer = self.blob_writer()?;
        io::copy(&mut plain, &mut writer).map_err(failed)?;
        let blob_size = writer.count();
        let blob = self.blob(writer, None)?;
        Ok(LayerInfo { blob, blob_size, codec: Codec::Plain, ..info })
    }

    fn pin(&self, digest: &Digest) {
        let mut pending = self.lock();
        if pending.pins.insert(*digest) {
            self.store.pins().add(*digest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        for digest in &self.pending.get_mut().unwrap_or_else(PoisonError::into_inner).pins {
            self.store.pins().release(digest);
        }
    }
}

/// Copies what is read into the blob.
struct Tee<R> {
    inner: R,
    out: Option<BlobWriter>,
    /// The reader failed, as opposed to what came out of it.
    broken: bool,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self.inner.read(buffer) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                self.broken = true;
                return Err(error);
            }
            other => other?,
        };
        self.out.as_mut().ok_or_else(ended)?.write_all(&buffer[..read])?;
        Ok(read)
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF")
}

fn check(what: &'static str, blob: &PendingBlob, expected: Option<(&Digest, u64)>) -> Result<()> {
    let Some((digest, size)) = expected else { return Ok(()) };
    if blob.size != size {
        return Err(Error::Size { what, expected: size, actual: blob.size });
    }
    if blob.digest != *digest {
        return Err(Error::Digest { what, expected: *digest, actual: blob.digest });
    }
    Ok(())
}

fn check_diff_id(found: DiffId, expected: Option<&DiffId>) -> Result<()> {
    match expected {
        Some(expected) if *expected != found => {
            Err(Error::Digest { what: "uncompressed layer", expected: expected.0, actual: found.0 })
        }
        _ => Ok(()),
    }
}
