//! Content stores of a client's, which it serves by name (containerd's service for content): directories in the OCI layout
//! that outputs and caches go to.

use std::collections::HashMap;
use std::io::Read;

use buildkit::wire::content::{InfoRequest, InfoResponse, WriteAction, WriteContentRequest, WriteContentResponse};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};
use types::{Digest, Kind};

use super::Client;
use super::send::{QUEUE, stream};
use crate::error::{Error, Result};
use crate::waiting;

const INFO: &str = "/containerd.services.content.v1.Content/Info";
const WRITE: &str = "/containerd.services.content.v1.Content/Write";
/// Bytes of one message.
const PIECE: usize = 512 * 1024;

/// The store that outputs go to.
pub(crate) fn output_store() -> MetadataValue<Ascii> {
    MetadataValue::from_static("export")
}

/// A question about a store.
pub(crate) fn named<T>(message: T, store: &MetadataValue<Ascii>) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("buildkit-attachable-store-id", store.clone());
    request
}

impl Client {
    /// Writes a blob of `size` bytes into a store, unless it is there. `moved` is told of bytes as they go.
    ///
    /// # Errors
    /// That of `open` or of reading; the client has left, has no such store, or cannot keep it.
    pub async fn send_blob(
        &self,
        store: &MetadataValue<Ascii>,
        digest: &Digest,
        size: u64,
        open: impl FnOnce() -> Result<Box<dyn Read + Send>> + Send + 'static,
        moved: impl Fn(u64) + Send + 'static,
    ) -> Result<()> {
        let question = named(InfoRequest { digest: digest.to_string() }, store);
        match self.session.call::<_, InfoResponse>(INFO, question).await {
            Ok(_) => return Ok(()),
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(Error::from(status).context("the client has no directory for it")),
        }
        let (pieces, read) = mpsc::channel(QUEUE);
        let reading = tokio::spawn(waiting::run("sending a blob", move || send(open, &pieces)));
        let written = self.write(store, digest, size, read, moved).await;
        let ended = reading.await.map_err(|e| Error::io("reading was interrupted", e))?;
        // Why nothing more was read is why nothing more was written.
        ended?.and(written)
    }

    async fn write(
        &self,
        store: &MetadataValue<Ascii>,
        digest: &Digest,
        size: u64,
        mut pieces: mpsc::Receiver<Vec<u8>>,
        moved: impl Fn(u64),
    ) -> Result<()> {
        let message = |action: WriteAction, offset: u64, data: Vec<u8>| WriteContentRequest {
            action: action as i32,
            r#ref: format!("build-{digest}"),
            total: i64::try_from(size).unwrap_or(i64::MAX),
            expected: digest.to_string(),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            data,
            labels: HashMap::new(),
        };
        let left = || Error::new(Kind::Unavailable, "the client has left");
        let refused = |status| Error::from(status).context(format_args!("cannot write {digest} for the client"));
        let exists = |status: &Status| status.code() == Code::AlreadyExists;
        let (requests, outgoing) = mpsc::channel(1);
        requests.send(message(WriteAction::Stat, 0, Vec::new())).await.map_err(|_| left())?;
        let request = named(stream(outgoing), store);
        let answer = self.session.stream::<WriteContentRequest, WriteContentResponse>(WRITE, request).await;
        let mut answers = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) if exists(&status) => return Ok(()),
            Err(status) => return Err(refused(status)),
        };
        // What an interrupted try left is there already.
        let mut offset = match answers.next().await {
            Some(Ok(answer)) => u64::try_from(answer.offset).unwrap_or(0),
            Some(Err(status)) if exists(&status) => return Ok(()),
            Some(Err(status)) => return Err(refused(status)),
            None => return Err(left()),
        };
        let mut skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut came = 0;
        loop {
            let piece = pieces.recv().await;
            let last = piece.is_none();
            let mut piece = piece.unwrap_or_default();
            came += piece.len() as u64;
            moved(piece.len() as u64);
            let skipped = skip.min(piece.len());
            skip -= skipped;
            piece.drain(..skipped);
            if last && came < size {
                return Err(Error::new(Kind::Internal, format!("{digest} ends after {came} of {size} bytes")));
            }
            if !last && piece.is_empty() {
                continue;
            }
            let at = offset;
            offset += piece.len() as u64;
            let action = if last { WriteAction::Commit } else { WriteAction::Write };
            requests.send(message(action, at, piece)).await.map_err(|_| left())?;
            match answers.next().await {
                Some(Ok(_)) if last => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(status)) if exists(&status) => return Ok(()),
                Some(Err(status)) => return Err(refused(status)),
                None => return Err(left()),
            }
        }
    }
}

/// Reads a blob to its end, or until nobody wants it any more.
fn send(open: impl FnOnce() -> Result<Box<dyn Read + Send>>, pieces: &mpsc::Sender<Vec<u8>>) -> Result<()> {
    let mut blob = open()?;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = blob.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        let read = read.map_err(|e| Error::io("cannot read a blob", e))?;
        if read == 0 || pieces.blocking_send(piece).is_err() {
            return Ok(());
        }
    }
}
