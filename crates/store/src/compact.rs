//! Making room without losing anything: compressed blobs whose layer is there.
//!
//! Called by the engine when nobody waits, and when the disk fills up.

use types::{DiffId, Digest};

use crate::content::Recipe;
use crate::error::{Error, Result};
use crate::store::Store;

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compacted {
    /// It is a recipe from now on; the bytes freed.
    Dropped(u64),
    /// Nothing is known that makes it: no archive of the layer is kept, or its encoder is a foreign one.
    NotKnown,
    /// It is no file, or not here at all.
    NotKept,
}

impl Store {
    /// Replaces the blob of a layer by how it is made, if that is found out. `go_on` is asked now and then
    /// and ends the search by saying no, with [`Compacted::NotKnown`].
    ///
    /// # Errors
    /// [`Error::Digest`] when the blob is damaged, [`Error::Io`].
    pub fn compact(&self, digest: &Digest, layer: &DiffId, go_on: &dyn Fn() -> bool) -> Result<Compacted> {
        let Some((file, _)) = self.blobs().kept(digest)? else { return Ok(Compacted::NotKept) };
        // An uncompressed blob and its layer's archive are one file.
        if layer.0 == *digest || !matches!(self.layers().archive(layer), Ok(Some(_))) {
            return Ok(Compacted::NotKnown);
        }
        let Some(recipe) = self.blobs().recipes.prove(digest, file, layer, go_on)? else {
            return Ok(Compacted::NotKnown);
        };
        // The layer is all there is from here on: the one that is here now, after what may have taken long.
        self.layers().settle(layer)?;
        if !self.layers().has(layer) {
            return Ok(Compacted::NotKnown);
        }
        self.blobs().recipes.put(digest, &recipe)?;
        Ok(self.blobs().drop_kept(digest)?.map_or(Compacted::NotKept, Compacted::Dropped))
    }

    /// Gives a blob up for room: its layer stays, what the blob was is remembered, and only a registry has it.
    ///
    /// # Errors
    /// [`Error::NoLayer`] when the layer is not here; [`Error::Digest`] when the blob is not the layer.
    pub fn release(self: &std::sync::Arc<Self>, digest: &Digest, layer: &DiffId) -> Result<Compacted> {
        let Some((_, size)) = self.blobs().kept(digest)? else { return Ok(Compacted::NotKept) };
        if layer.0 == *digest {
            return Ok(Compacted::NotKnown);
        }
        if !self.layers().has(layer) {
            return Err(Error::NoLayer(layer.0));
        }
        self.ingest().verify_layer(digest, layer)?;
        self.layers().settle(layer)?;
        if !self.layers().has(layer) {
            return Err(Error::NoLayer(layer.0));
        }
        self.blobs().recipes.put(digest, &Recipe { layer: *layer, size, gzip: None })?;
        Ok(self.blobs().drop_kept(digest)?.map_or(Compacted::NotKept, Compacted::Dropped))
    }
}
