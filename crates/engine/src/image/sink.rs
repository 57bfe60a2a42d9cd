//! Where a pull puts content: the registry client's [`ContentSink`] over one ingest of the store.
//!
//! Each layer goes through a bounded channel to a thread that stores and unpacks it in one pass. A
//! channel that closes before its end makes that thread fail; what it unpacked is removed, and the bytes
//! that came are kept for the next pull. A layer that is
//! here is used only when its blob was found to be that layer: a manifest may pair any two digests.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use distribution::{Chunk, ContentSink, Descriptor, LayerStream, Manifest, Parts, SinkError};
use store::{ChunkReader, Ingest, Partial};
use tokio::sync::mpsc;
use types::{DiffId, Digest, Kind};

use super::guard::Gate;
use super::patch::patch;
use super::verified::Verified;

/// Chunks of a layer under way between socket and disk. Each is up to 400 KiB, what hyper reads at once at most.
pub(super) const QUEUE: usize = 8;

/// Takes one image in.
pub(super) struct Sink {
    pub ingest: Arc<Ingest>,
    pub verified: Arc<Verified>,
    /// Stored blobs that are to be unpacked, and with the second try fetched.
    reused: Mutex<HashSet<Digest>>,
    /// Blobs and layers that are here and not what they should be.
    distrusted: HashSet<Digest>,
    /// Layers whose files others may be made of.
    relatives: Vec<DiffId>,
    /// Judges what comes; none for content that is here and to be repaired.
    gate: Option<Arc<Gate>>,
}

impl Sink {
    pub(super) fn new(ingest: Arc<Ingest>, verified: Arc<Verified>) -> Self {
        Self {
            ingest,
            verified,
            reused: Mutex::default(),
            distrusted: HashSet::new(),
            relatives: Vec::new(),
            gate: None,
        }
    }

    /// Takes a blob or layer for absent, whatever the store has.
    pub(super) fn distrust(mut self, digest: Digest) -> Self {
        self.distrusted.insert(digest);
        self
    }

    /// Makes layers of files of these where that saves fetching much of them.
    pub(super) fn related(mut self, relatives: Vec<DiffId>) -> Self {
        self.relatives = relatives;
        self
    }

    /// Lets through only what the gate does.
    pub(super) fn behind(mut self, gate: &Arc<Gate>) -> Self {
        self.gate = Some(Arc::clone(gate));
        self
    }

    /// Whether the blob is stored and was not tried before in this pull.
    fn reuse(&self, descriptor: &Descriptor) -> bool {
        let same = self.ingest.has_blob(&descriptor.digest)
            && !self.ingest.store().blobs().is_released(&descriptor.digest)
            && !self.distrusted.contains(&descriptor.digest)
            && self.ingest.blob_size(&descriptor.digest).is_ok_and(|size| size == descriptor.size);
        same && self.reused.lock().unwrap_or_else(PoisonError::into_inner).insert(descriptor.digest)
    }

    /// Check what was pulled as a whole: a blob may stand in one manifest for several layers, and is
    /// fetched for the first of them. Blocking, though only for pairs not seen before.
    ///
    /// # Errors
    /// Of the first blob that is not its layer.
    pub(super) fn check(&self, layers: &[(Descriptor, DiffId)]) -> store::Result<()> {
        layers.iter().try_for_each(|(blob, layer)| self.verified.check(&self.ingest, &blob.digest, layer))
    }
}

/// Reads what comes through a channel.
pub(super) fn reader(mut received: mpsc::Receiver<Chunk>) -> impl io::Read + Send {
    ChunkReader::new(move || match received.blocking_recv() {
        Some(Chunk::Data(bytes)) => Some(Ok(bytes)),
        Some(Chunk::End) => None,
        None => Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"))),
    })
}

fn failed(error: store::Error) -> SinkError {
    SinkError { kind: error.kind(), message: error.to_string() }
}

fn interrupted(error: tokio::task::JoinError) -> SinkError {
    SinkError { kind: Kind::Internal, message: format!("storing the image was interrupted: {error}") }
}

impl ContentSink for Sink {
    async fn admit(&self, documents: &[Manifest]) -> Result<(), SinkError> {
        match &self.gate {
            Some(gate) => gate.admit(documents).await,
            None => Ok(()),
        }
    }

    /// Blocks on the first sight of a pair; a pull has its thread for itself. What is not as the
    /// manifest says is fetched, and then refused in the words of any wrong layer.
    fn has_layer(&self, descriptor: &Descriptor, diff_id: &DiffId) -> bool {
        // Both are pinned by asking, present or not.
        let (blob, layer) = (self.ingest.has_blob(&descriptor.digest), self.ingest.has_layer(diff_id));
        let trusted = [&descriptor.digest, &diff_id.0].iter().all(|digest| !self.distrusted.contains(digest));
        blob && layer
            && trusted
            && !self.ingest.store().blobs().is_missed(&descriptor.digest)
            && self.ingest.blob_size(&descriptor.digest).is_ok_and(|size| size == descriptor.size)
            && self.verified.check(&self.ingest, &descriptor.digest, diff_id).is_ok()
    }

    /// A document is small and never given up: what is only said to be a layer's blob is none that is here.
    fn has_document(&self, digest: &Digest) -> bool {
        self.ingest.has_blob(digest) && !self.ingest.store().blobs().is_released(digest)
    }

    async fn document(&self, descriptor: &Descriptor, bytes: Bytes) -> Result<(), SinkError> {
        let (ingest, digest) = (Arc::clone(&self.ingest), descriptor.digest);
        let stored = tokio::task::spawn_blocking(move || ingest.document(&bytes, Some(&digest)));
        stored.await.map_err(interrupted)?.map_err(failed).map(drop)
    }

    async fn patch(&self, descriptor: &Descriptor, diff_id: DiffId, parts: Parts) -> Result<bool, SinkError> {
        // A layer that is here lacks nothing but its blob, and so does a blob that was asked for since.
        if self.relatives.is_empty() || self.ingest.has_layer(&diff_id) || self.ingest.has_blob(&descriptor.digest) {
            return Ok(false);
        }
        let patched = patch(&self.ingest, &self.relatives, (descriptor, diff_id), &parts).await;
        patched.map_err(|error| SinkError { kind: error.kind(), message: error.to_string() })
    }

    async fn layer(&self, descriptor: &Descriptor, diff_id: DiffId) -> Result<LayerStream, SinkError> {
        let (chunks, mut received) = mpsc::channel(QUEUE);
        let (ingest, digest, size) = (Arc::clone(&self.ingest), descriptor.digest, descriptor.size);
        let verified = Arc::clone(&self.verified);
        if self.reuse(descriptor) {
            let unpack = tokio::task::spawn_blocking(move || {
                // Ends with the sender, which has nothing to send.
                while let Some(Chunk::Data(_)) = received.blocking_recv() {}
                ingest.unpack_blob(&digest, Some(&diff_id)).inspect(|_| verified.add(digest, diff_id))
            });
            let done = Box::pin(async move { unpack.await.map_err(interrupted)?.map_err(failed).map(drop) });
            return Ok(LayerStream { chunks, done, verifies: true, offset: size });
        }
        let claiming = Arc::clone(&self.ingest);
        let claimed = tokio::task::spawn_blocking(move || claiming.partial(&digest, size));
        let partial = claimed.await.map_err(interrupted)?.map_err(failed)?;
        let offset = partial.as_ref().map_or(0, Partial::offset);
        let unpack = tokio::task::spawn_blocking(move || {
            let reader = reader(received);
            let made = match partial {
                Some(partial) => ingest.rest_of_layer(partial, reader, (&digest, size), Some(&diff_id))?,
                // Another pull is taking the same blob in.
                None => ingest.layer(reader, Some((&digest, size)), Some(&diff_id))?,
            };
            verified.add(digest, diff_id);
            Ok(made)
        });
        let done = Box::pin(async move { unpack.await.map_err(interrupted)?.map_err(failed).map(drop) });
        Ok(LayerStream { chunks, done, verifies: true, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_of_a_blob_keeps_no_document_out() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::Store::open(dir.path().join("data")).unwrap();
        let document = store.ingest().document(b"{}", None).unwrap();
        let archive = [0; 1024];
        let layer = DiffId(store.ingest().document(&archive, None).unwrap());
        let claim = store.ingest();
        claim.archive(&archive[..], (&document, 2), &layer).unwrap();
        claim.commit().unwrap();
        let ingest = Arc::new(store.ingest());
        let sink = Sink::new(Arc::clone(&ingest), Arc::default());
        assert!(!sink.has_document(&document));
        ingest.document(b"{}", None).unwrap();
        ingest.commit().unwrap();
        assert!(sink.has_document(&document));
    }
}
