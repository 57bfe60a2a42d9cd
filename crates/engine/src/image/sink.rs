//! Where a pull puts content: the registry client's [`ContentSink`] over one ingest of the store.
//!
//! Each layer goes through a bounded channel to a thread that stores and unpacks it in one pass. A
//! channel that closes before its end makes that thread fail, and what it made is removed.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use distribution::{Chunk, ContentSink, Descriptor, LayerStream, SinkError};
use store::{ChunkReader, Ingest};
use tokio::sync::mpsc;
use types::{DiffId, Digest, Kind};

/// Chunks of a layer under way between socket and disk.
const QUEUE: usize = 32;

/// Takes one image in.
pub(super) struct Sink {
    pub ingest: Arc<Ingest>,
}

fn failed(error: store::Error) -> SinkError {
    SinkError { kind: error.kind(), message: error.to_string() }
}

fn interrupted(error: tokio::task::JoinError) -> SinkError {
    SinkError { kind: Kind::Internal, message: format!("storing the image was interrupted: {error}") }
}

impl ContentSink for Sink {
    fn has_layer(&self, descriptor: &Descriptor, diff_id: &DiffId) -> bool {
        // Both are pinned by asking, present or not.
        let (blob, layer) = (self.ingest.has_blob(&descriptor.digest), self.ingest.has_layer(diff_id));
        blob && layer
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
        let unpack = tokio::task::spawn_blocking(move || {
            let reader = ChunkReader::new(move || match received.blocking_recv() {
                Some(Chunk::Data(bytes)) => Some(Ok(bytes)),
                Some(Chunk::End) => None,
                None => Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"))),
            });
            ingest.layer(reader, Some((&digest, size)), Some(&diff_id))
        });
        let done = Box::pin(async move { unpack.await.map_err(interrupted)?.map_err(failed).map(drop) });
        Ok(LayerStream { chunks, done, verifies: true })
    }
}
