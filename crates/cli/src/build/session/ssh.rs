//! Agents: sockets of ours that steps may speak to.

use std::collections::HashMap;
use std::path::PathBuf;

use buildkit::server::Messages;
use buildkit::wire::sshforward::BytesMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::{Request, Response, Status, Streaming};

use super::messages;
use crate::{Error, Result, flags::Parsed, session::non_empty};

/// Metadata that names the agent.
const ID: &str = "buildkit.ssh.id";

/// Sockets by the names of agents.
#[derive(Debug, Default)]
pub(in crate::build) struct Agents(HashMap<String, PathBuf>);

impl Agents {
    /// Reads the flags.
    pub(in crate::build) fn read(parsed: &Parsed) -> Result<Self> {
        use std::os::unix::fs::FileTypeExt;
        let mut all = HashMap::new();
        for text in parsed.list("ssh") {
            let (id, path) = text.split_once('=').unwrap_or((text, ""));
            let path = match path {
                "" => non_empty("SSH_AUTH_SOCK").ok_or_else(|| {
                    Error::new(format!(
                        "invalid empty ssh agent socket: --ssh {id} needs SSH_AUTH_SOCK, or a socket (--ssh {id}=path)"
                    ))
                })?,
                path => path.to_owned(),
            };
            let found = std::fs::metadata(&path)
                .map_err(|error| Error::new(format!("--ssh {id}: {path}: {}", crate::error::os_text(&error))))?;
            if !found.file_type().is_socket() {
                return Err(Error::new(format!(
                    "--ssh {id}: {path} is no socket; keys are not read from files: add it to an agent (ssh-add) and name that"
                )));
            }
            if all.insert(id.to_owned(), PathBuf::from(path)).is_some() {
                return Err(Error::new(format!("--ssh: {id} is there twice")));
            }
        }
        Ok(Self(all))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The socket of an agent.
    pub(super) fn get(&self, id: &str) -> std::result::Result<&PathBuf, Status> {
        let id = if id.is_empty() { "default" } else { id };
        self.0.get(id).ok_or_else(|| Status::not_found(format!("unset ssh forward key {id}")))
    }
}

/// Joins a step to an agent.
pub(super) async fn forward(
    agents: &Agents,
    request: Request<Streaming<BytesMessage>>,
) -> std::result::Result<Response<Messages<BytesMessage>>, Status> {
    let id = request.metadata().get(ID).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let path = agents.get(&id)?;
    let socket = UnixStream::connect(path).await;
    let socket =
        socket.map_err(|error| Status::unavailable(format!("failed to connect to {}: {error}", path.display())))?;
    let (mut read, mut write) = socket.into_split();
    let mut incoming = request.into_inner();
    let (sender, outgoing) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok(Some(message)) = incoming.message().await {
            if write.write_all(&message.data).await.is_err() {
                return;
            }
        }
        // The step has said everything; the agent may still answer.
        let _ = write.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            let data = buffer.get(..count).unwrap_or_default().to_vec();
            if sender.send(BytesMessage { data }).await.is_err() {
                return;
            }
        }
    });
    Ok(Response::new(messages(outgoing)))
}
