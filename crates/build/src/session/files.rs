//! Files of a client: asked for by the name of a directory and patterns, brought over by the protocol of `receive`.

use std::path::Path;
use std::sync::Arc;

use buildkit::wire::packet::Packet;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tonic::Request;
use tonic::metadata::{MetadataMap, MetadataValue};
use types::Kind;

use super::pool::{Held, Pool};
use super::receive::{self, Counts};
use super::{Client, local};
use crate::error::{Error, Result};
use crate::file::ContentDigests;
use crate::tree::Files;
use crate::waiting;

const METHOD: &str = "/moby.filesync.v1.FileSync/DiffCopy";

/// Which files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The client's name for the directory.
    pub name: String,
    /// Patterns of what is sent; all without any.
    pub include: Vec<String>,
    /// Patterns of what is not.
    pub exclude: Vec<String>,
    /// Paths that are sent with what links in them lead to.
    pub follow: Vec<String>,
    /// Tells apart what would otherwise share a directory here.
    pub hint: String,
}

/// Files that came. They are kept for the next build when this is dropped.
#[derive(Debug)]
pub struct Received {
    pool: Arc<Pool>,
    key: String,
    held: Option<Held>,
}

impl Files for Received {
    fn path(&self) -> &Path {
        self.held.as_ref().map_or(Path::new("/nonexistent"), |held| &held.path)
    }

    fn digests(&self) -> &dyn ContentDigests {
        match &self.held {
            Some(held) => &held.index,
            None => &(),
        }
    }

    fn remembered(&self, selection: &str) -> Option<[u8; 32]> {
        self.held.as_ref()?.index.remembered(selection)
    }

    fn remember(&self, selection: String, digest: [u8; 32]) {
        if let Some(held) = &self.held {
            held.index.remember(selection, digest);
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.pool.put(std::mem::take(&mut self.key), held);
        }
    }
}

impl Client {
    /// Brings files here. `moved` is told of bytes as they come.
    ///
    /// # Errors
    /// The client has left or refuses; what it sends is no tree; the disk is full.
    pub async fn files(
        &self,
        pool: &Arc<Pool>,
        wanted: &Wanted,
        moved: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Received> {
        let key = key(self.shared_key(), wanted);
        let held = pool.take(&key, &wanted.name)?;
        let brought = match self.directory(&wanted.name) {
            Some(directory) => {
                let wanted = wanted.clone();
                let taking = tokio::task::spawn_blocking(move || local::take(held, &directory, &wanted, &moved));
                let taken = taking.await.map_err(|e| Error::io("taking files was interrupted", e));
                taken.and_then(|taken| taken).map(|(held, Counts { files, bytes })| {
                    tracing::debug!(directory = key, files, bytes, "files taken from the client's directory");
                    held
                })
            }
            None => self.bring(held, wanted, moved).await,
        };
        match brought {
            Ok(held) => Ok(Received { pool: Arc::clone(pool), key, held: Some(held) }),
            Err(error) => Err(error),
        }
    }

    async fn bring(&self, held: Held, wanted: &Wanted, moved: impl Fn(u64) + Send + Sync + 'static) -> Result<Held> {
        let (requests, outgoing) = mpsc::channel::<Packet>(256);
        let (incoming, packets) = mpsc::channel::<Packet>(256);
        let stream = futures_util::stream::unfold(outgoing, |mut outgoing| async move {
            outgoing.recv().await.map(|packet| (packet, outgoing))
        });
        let mut request = Request::new(stream);
        describe(request.metadata_mut(), wanted)?;
        let receive = move || receive::receive(held, packets, &requests, &moved);
        let writing = tokio::spawn(waiting::run("receiving files", receive));
        let answered = self.session.stream::<Packet, Packet>(METHOD, request).await;
        let mut answers = answered.map_err(|status| refused(&wanted.name, status))?.into_inner();
        let mut broke = None;
        while let Some(packet) = answers.next().await {
            match packet {
                Ok(packet) => {
                    if incoming.send(packet).await.is_err() {
                        break;
                    }
                }
                Err(status) => {
                    broke = Some(refused(&wanted.name, status));
                    break;
                }
            }
        }
        drop(incoming);
        let written = writing.await.map_err(|e| Error::io("receiving files was interrupted", e))??;
        match (written, broke) {
            (Ok((held, Counts { files, bytes })), None) => {
                tracing::debug!(directory = wanted.name, files, bytes, "files received");
                Ok(held)
            }
            (Ok(_), Some(error)) | (Err(error), None) => Err(error),
            // That the client broke off is why nothing more came.
            (Err(error), Some(broke)) => Err(if receive::is_ended(&error) { broke } else { error }),
        }
    }
}

fn refused(name: &str, status: tonic::Status) -> Error {
    let text = status.message();
    let known = match status.code() {
        tonic::Code::NotFound | tonic::Code::PermissionDenied => {
            Error::new(Kind::NotFound, format!("the client has no directory {name} to send: {text}"))
        }
        _ => Error::from(status.clone()),
    };
    known.context(format_args!("cannot get the files of {name}"))
}

/// What belongs in one directory. Patterns count: other files that are there would have to be hidden.
fn key(shared: &str, wanted: &Wanted) -> String {
    let parts = [&wanted.include, &wanted.exclude, &wanted.follow];
    let parts: Vec<String> = parts.iter().map(|list| list.join("\0")).collect();
    [shared, &wanted.name, &wanted.hint, &parts.join("\u{1}")].join("\u{2}")
}

fn describe(metadata: &mut MetadataMap, wanted: &Wanted) -> Result<()> {
    let name = std::slice::from_ref(&wanted.name);
    for (key, values) in [
        ("dir-name", name),
        ("include-patterns", wanted.include.as_slice()),
        ("exclude-patterns", wanted.exclude.as_slice()),
        ("followpaths", wanted.follow.as_slice()),
    ] {
        let plain = values.iter().all(|value| value.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        if !plain {
            let encoded = format!("{key}-encoded").parse::<tonic::metadata::MetadataKey<_>>();
            metadata.insert(encoded.map_err(|e| Error::io("metadata", e))?, MetadataValue::from_static("1"));
        }
        for value in values {
            let value = if plain { value.clone() } else { percent(value) };
            let value = MetadataValue::try_from(value).map_err(|e| Error::io("metadata", e))?;
            metadata.append(key, value);
        }
    }
    Ok(())
}

/// As a query of an address encodes it.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
