//! Blobs into a content store of the client's: containerd's service for content, which clients serve where an output is a
//! directory in the OCI layout. The client writes the directory's index itself.

use std::collections::HashMap;
use std::io::Read;

use prost::Message;
use tokio::sync::mpsc;
use tonic::Request;
use tonic::metadata::MetadataValue;
use types::Digest;

use super::Client;
use super::send::{CHUNK, QUEUE, gone, stream};
use crate::error::{Error, Result};

const INFO: &str = "/containerd.services.content.v1.Content/Info";
const WRITE: &str = "/containerd.services.content.v1.Content/Write";
/// Which of the client's stores: the one that outputs go to.
const STORE: (&str, &str) = ("buildkit-attachable-store-id", "export");

#[derive(Clone, PartialEq, Message)]
struct InfoRequest {
    #[prost(string, tag = "1")]
    digest: String,
}

/// That there is one is all that is asked.
#[derive(Clone, PartialEq, Message)]
struct InfoResponse {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum Action {
    Stat = 0,
    Write = 1,
    Commit = 2,
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(enumeration = "Action", tag = "1")]
    action: i32,
    #[prost(string, tag = "2")]
    r#ref: String,
    #[prost(int64, tag = "3")]
    total: i64,
    #[prost(string, tag = "4")]
    expected: String,
    #[prost(int64, tag = "5")]
    offset: i64,
    #[prost(bytes = "vec", tag = "6")]
    data: Vec<u8>,
    #[prost(map = "string, string", tag = "7")]
    labels: HashMap<String, String>,
}

/// How far it is; errors end the call.
#[derive(Clone, PartialEq, Message)]
struct WriteResponse {
    #[prost(int64, tag = "4")]
    offset: i64,
}

impl Client {
    /// Writes a blob of `size` bytes, unless the client has it. `moved` is told of bytes as they go.
    ///
    /// # Errors
    /// That of `blob`; the client has left, or cannot store it.
    pub async fn send_blob(
        &self,
        digest: &Digest,
        size: u64,
        blob: impl FnOnce() -> Result<Box<dyn Read + Send>> + Send + 'static,
        moved: impl Fn(u64) + Send + 'static,
    ) -> Result<()> {
        let mut question = Request::new(InfoRequest { digest: digest.to_string() });
        question.metadata_mut().insert(STORE.0, MetadataValue::from_static(STORE.1));
        match self.session.call::<_, InfoResponse>(INFO, question).await {
            Ok(_) => return Ok(()),
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => return Err(Error::from(status).context("the client has no directory for the output")),
        }
        let (to, messages) = mpsc::channel::<WriteRequest>(QUEUE);
        let mut request = Request::new(stream(messages));
        request.metadata_mut().insert(STORE.0, MetadataValue::from_static(STORE.1));
        let (sender, expected) = (to.clone(), digest.to_string());
        let writing = move || {
            let message = |action: Action, offset: u64, data: Vec<u8>| WriteRequest {
                action: action as i32,
                r#ref: format!("build-{expected}"),
                total: i64::try_from(size).unwrap_or(i64::MAX),
                expected: expected.clone(),
                offset: i64::try_from(offset).unwrap_or(i64::MAX),
                data,
                labels: HashMap::new(),
            };
            let send = |message| sender.blocking_send(message).map_err(|_| gone());
            let mut blob = blob()?;
            send(message(Action::Stat, 0, Vec::new()))?;
            let mut offset = 0;
            loop {
                let mut data = vec![0; CHUNK];
                let read = match blob.read(&mut data) {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(Error::io(format_args!("cannot read blob {expected}"), e)),
                };
                data.truncate(read);
                send(message(Action::Write, offset, data))?;
                offset += read as u64;
                moved(read as u64);
            }
            send(message(Action::Commit, offset, Vec::new()))
        };
        self.exchange::<WriteRequest, WriteResponse>(WRITE, request, to, writing, |_| {}).await
    }
}
