//! Where a pull puts content: the registry client's [`ContentSink`] over one ingest of the store.
//!
//! Each layer goes through a bounded channel to a thread that stores and unpacks it in one pass. A
//! channel that closes before its end makes that thread fail, and what it made is removed. A layer that is
//! here is used only when its blob was found to be that layer: a manifest may pair any two digests.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use distribution::{Chunk, ContentSink, Descriptor, LayerStream, SinkError};
use store::{ChunkReader, Ingest};
use tokio::sync::mpsc;
use types::{DiffId, Digest, Kind};

use super::verified::Verified;

/// Chunks of a layer under way between socket and disk.
const QUEUE: usize = 32;

/// Takes one image in.
pub(super) struct Sink {
    pub ingest: Arc<Ingest>,
    pub verified: Arc<Verified>,
}

impl Sink {
    /// Check what was pulled as a whole: a blob may stand in one manifest for several layers, and is
    /// fetched for the first of them. Blocking, though only for pairs not seen before.
    ///
    /// # Errors
    /// Of the first blob that is not its layer.
    pub(super) fn check(&self, layers: &[(Descriptor, DiffId)]) -> store::Result<()> {
        layers.iter().try_for_each(|(blob, layer)| self.verified.check(&self.ingest, &blob.digest, layer))
    }
}

fn failed(error: store::Error) -> SinkError {
    SinkError { kind: error.kind(), message: error.to_string() }
}

fn interrupted(error: tokio::task::JoinError) -> SinkError {
    SinkError { kind: Kind::Internal, message: format!("storing the image was interrupted: {error}") }
}

impl ContentSink for Sink {
    /// Blocks on the first sight of a pair; a pull has its thread for itself. What is not as the
    /// manifest says is fetched, and then refused in the words of any wrong layer.
    fn has_layer(&self, descriptor: &Descriptor, diff_id: &DiffId) -> bool {
        // Both are pinned by asking, present or not.
        let (blob, layer) = (self.ingest.has_blob(&descriptor.digest), self.ingest.has_layer(diff_id));
        blob && layer
            && self.ingest.blob_size(&descriptor.digest).is_ok_and(|size| size == descriptor.size)
            && self.verified.check(&self.ingest, &descriptor.digest, diff_id).is_ok()
    }

    fn has_document(&self, digest: &Digest) -> bool {
        self.ingest.has_blob(digest)
    }

    async fn document(&self, descriptor: &Descriptor, bytes: Bytes) -> Result<(), SinkError> {
        let (ingest, digest) = (Arc::clone(&self.ingest), descriptor.digest);
        let stored = tokio::task::spawn_blocking(move || ingest.document(&bytes, Some(&digest)));
        stored.await.map_err(interrupted)?.map_err(failed).map(drop)
    }

    async fn layer(&self, descriptor: &Descriptor, diff_id: DiffId) -> Result<LayerStream, SinkError> {
        let (chunks, mut received) = mpsc::channel(QUEUE);
        let (ingest, digest, size) = (Arc::clone(&self.ingest), descriptor.digest, descriptor.size);
        let verified = Arc::clone(&self.verified);
        let unpack = tokio::task::spawn_blocking(move || {
            let reader = ChunkReader::new(move || match received.blocking_recv() {
                Some(Chunk::Data(bytes)) => Some(Ok(bytes)),
                Some(Chunk::End) => None,
                None => Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"))),
            });
            let made = ingest.layer(reader, Some((&digest, size)), Some(&diff_id))?;
            verified.add(digest, diff_id);
            Ok(made)
        });
        let done = Box::pin(async move { unpack.await.map_err(interrupted)?.map_err(failed).map(drop) });
        Ok(LayerStream { chunks, done, verifies: true })
    }
}
