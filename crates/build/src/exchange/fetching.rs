//! Layers from elsewhere, each fetched once at a time and checked on its way in.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use store::Ingest;
use tokio::sync::mpsc;
use types::DiffId;

use super::Remote;
use crate::error::{Error, Result};
use crate::tree::Stored;
use crate::waiting;

/// Turns at layers.
#[derive(Debug, Default)]
pub(crate) struct Fetching(Mutex<HashMap<DiffId, Arc<tokio::sync::Mutex<()>>>>);

impl Fetching {
    /// Brings a layer into the store's content on its way, unless it is there.
    ///
    /// # Errors
    /// It does not come, or is another one; the disk is full.
    pub(crate) async fn fetch(&self, remote: &Remote, layer: &Stored, ingest: &Arc<Ingest>) -> Result<()> {
        let lock = {
            let mut fetching = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(fetching.entry(layer.diff_id).or_default())
        };
        let _alone = lock.lock().await;
        if ingest.has_layer(&layer.diff_id) && ingest.has_blob(&layer.blob.digest) {
            return Ok(());
        }
        let (chunks, received) = mpsc::channel(8);
        let (taking, taken) = (Arc::clone(ingest), layer.clone());
        let take = move || {
            let reader = Received { chunks: received, rest: Bytes::new() };
            let expected = (&taken.blob.digest, taken.blob.size);
            taking.layer(reader, Some(expected), Some(&taken.diff_id)).map(drop)
        };
        let taken = tokio::spawn(waiting::run("fetching", take));
        let sent = remote.read(&layer.blob.digest, chunks).await;
        let taken = taken.await.map_err(|e| Error::io("fetching was interrupted", e))??;
        sent?;
        Ok(taken?)
    }
}

/// Pieces as a reader.
struct Received {
    chunks: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.split_to(count).copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
