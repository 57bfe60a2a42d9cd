//! Where pulled content goes: the seam between the registry client and the engine's store.

use crate::fetch::Manifest;
use crate::manifest::Descriptor;
use crate::parts::Parts;
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use tokio::sync::mpsc;
use types::{DiffId, Digest, Kind};

/// Why a sink could not take content.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// Its kind.
    pub kind: Kind,
    /// For the user.
    pub message: String,
}

/// A piece of a layer's blob, compressed as the registry keeps it.
#[derive(Debug, Clone)]
pub enum Chunk {
    /// The next bytes, in order.
    Data(Bytes),
    /// The blob is whole and checked. A channel that closes without it was abandoned, and
    /// everything received is to be thrown away.
    End,
}

/// A layer being received.
pub struct LayerStream {
    /// Takes the blob; its capacity is the back-pressure on the download.
    pub chunks: mpsc::Sender<Chunk>,
    /// Ends when blob and unpacked layer are stored, after [`Chunk::End`]; or earlier by failing.
    pub done: Pin<Box<dyn Future<Output = Result<(), SinkError>> + Send>>,
    /// True when the sink itself checks the blob's digest and makes `done` fail when it differs;
    /// the puller then does not hash a second time.
    pub verifies: bool,
    /// Bytes of the blob that are there from an earlier try: what is sent begins behind them. Only for
    /// sinks that verify; when the blob turns out to be another, the layer is opened once more, and must
    /// then begin at 0.
    pub offset: u64,
}

/// Receives an image. Documents come whole, layers as streams, several at a time.
pub trait ContentSink: Send + Sync + 'static {
    /// Called with what the reference stands for and, after an index, with the platform's manifest, once their digests
    /// are checked and before anything else is fetched or used. An error ends the pull.
    fn admit(&self, documents: &[Manifest]) -> impl Future<Output = Result<(), SinkError>> {
        let _ = documents;
        std::future::ready(Ok(()))
    }

    /// True when the layer is stored, blob and unpacked, so that it need not be fetched.
    fn has_layer(&self, descriptor: &Descriptor, diff_id: &DiffId) -> bool;

    /// True when a document is stored.
    fn has_document(&self, digest: &Digest) -> bool;

    /// Stores an index, manifest or configuration whose digest has been checked. Called after all
    /// layers are stored, configuration first, index last.
    fn document(&self, descriptor: &Descriptor, bytes: Bytes) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Asked for a layer of which annotations are known, before it is opened: a sink that has much of it can make it of that
    /// and of parts of the blob. False when it is to be fetched as a whole, as it also is after an error.
    fn patch(
        &self,
        descriptor: &Descriptor,
        diff_id: DiffId,
        parts: Parts,
    ) -> impl Future<Output = Result<bool, SinkError>> + Send {
        let _ = (descriptor, diff_id, parts);
        std::future::ready(Ok(false))
    }

    /// Opens a layer for receiving.
    fn layer(
        &self,
        descriptor: &Descriptor,
        diff_id: DiffId,
    ) -> impl Future<Output = Result<LayerStream, SinkError>> + Send;
}
