//! Where pushed content comes from: the seam between the registry client and the engine's store.

use crate::manifest::Descriptor;
use crate::sink::SinkError;
use bytes::Bytes;
use std::future::Future;
use std::io;
use tokio::sync::mpsc;
use types::Digest;

/// Content on its way out, in order and without gaps.
pub type Chunks = mpsc::Receiver<io::Result<Bytes>>;

/// Gives the content of an image.
pub trait ContentSource: Send + Sync + 'static {
    /// Opens what `descriptor` names from byte `offset` to its end. A receiver that is dropped is an
    /// upload that broke; the same content may be opened again.
    fn open(&self, descriptor: &Descriptor, offset: u64) -> impl Future<Output = Result<Chunks, SinkError>> + Send;

    /// Repositories of the registry `domain` that may hold the content, likeliest first.
    fn origins(&self, domain: &str, digest: &Digest) -> Vec<String>;
}
