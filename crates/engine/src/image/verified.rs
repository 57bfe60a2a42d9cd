//! Which blobs are known to be which layers, so that no layer is decompressed twice to find out.
//!
//! That a blob's uncompressed bytes have a digest never changes, whatever is removed and comes again: an
//! entry stays true for ever and is kept only as long as memory allows. Called by pulls.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use store::Ingest;
use types::{DiffId, Digest};

/// Pairs kept: some MiB.
const MAX_PAIRS: usize = 1 << 16;

/// Pairs of a blob's and its layer's digest that were computed here, or of which the blob never came (ADR 11).
#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<HashSet<(Digest, DiffId)>>);

impl Verified {
    /// Remember a pair that was computed.
    pub(super) fn add(&self, blob: Digest, layer: DiffId) {
        let mut pairs = self.lock();
        if pairs.len() >= MAX_PAIRS {
            pairs.clear();
        }
        pairs.insert((blob, layer));
    }

    /// Whether the blob, stored or pending, is the layer. Blocking: reads all of it the first time.
    ///
    /// # Errors
    /// When it is another, cannot be decompressed or is not here.
    pub(super) fn check(&self, ingest: &Ingest, blob: &Digest, layer: &DiffId) -> store::Result<()> {
        if self.lock().contains(&(*blob, *layer)) {
            return Ok(());
        }
        ingest.verify_layer(blob, layer)?;
        self.add(*blob, *layer);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(Digest, DiffId)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
