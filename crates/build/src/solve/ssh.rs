//! Agents of SSH that a client forwards: a socket for as long as a step or git runs, each connection to which is carried over
//! the session. Keys stay with the client.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use buildkit::wire::sshforward::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Request;
use types::Kind;

use super::Build;
use crate::error::{Error, Result};
use crate::session::Client;

/// Most bytes of one message.
const PIECE: usize = 32 << 10;
/// Most connections at a time.
const CONNECTIONS: usize = 64;

/// A socket that leads to a client's agent. It goes with this.
#[derive(Debug)]
pub(super) struct Agent {
    path: PathBuf,
    _stop: DropGuard,
}

impl Agent {
    /// Where the socket is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a socket of an agent stays until the next start");
        }
    }
}

impl Build {
    /// A socket that leads to an agent of the client; none when it forwards none of that name.
    pub(super) async fn agent(&self, id: &str, owner: (u32, u32), mode: u32) -> Result<Option<Agent>> {
        let id = if id.is_empty() { "default" } else { id };
        let Some(session) = &self.session else { return Ok(None) };
        let client = self.shared.sessions.get(session).await?;
        let check = Request::new(CheckAgentRequest { id: id.to_owned() });
        let checked = client.session().call::<_, CheckAgentResponse>("/moby.sshforward.v1.SSH/CheckAgent", check).await;
        match checked {
            Ok(_) => {}
            // The client's words for an agent that it does not know.
            Err(status) if matches!(status.code(), tonic::Code::Unimplemented | tonic::Code::NotFound) => {
                return Ok(None);
            }
            Err(status) if status.message().contains("unset ssh forward key") => return Ok(None),
            Err(status) => return Err(Error::from(status).context(format_args!("cannot reach the SSH agent {id}"))),
        }
        let failed = |e: std::io::Error| Error::io("cannot make the socket of an agent", e);
        let path = self.shared.host.secrets().join(crate::random::name()?);
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let stop = CancellationToken::new();
        let agent = Agent { path: path.clone(), _stop: stop.clone().drop_guard() };
        std::os::unix::fs::chown(&path, Some(owner.0), Some(owner.1)).map_err(failed)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode & 0o777)).map_err(failed)?;
        let id = id.to_owned();
        tokio::spawn(async move { stop.run_until_cancelled(accept(&listener, &client, &id)).await });
        Ok(Some(agent))
    }
}

async fn accept(listener: &UnixListener, client: &Client, id: &str) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            drop(connections.join_next().await);
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let (client, id) = (client.clone(), id.to_owned());
                connections.spawn(async move {
                    if let Err(error) = forward(stream, &client, &id).await {
                        tracing::debug!(%error, "a connection to an agent broke");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "an agent cannot be connected to");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Carries one connection until either end closes it.
async fn forward(stream: UnixStream, client: &Client, id: &str) -> Result<()> {
    let (reading, mut writing) = stream.into_split();
    let outgoing = futures_util::stream::unfold(reading, |mut reading| async move {
        let mut data = vec![0; PIECE];
        let count = reading.read(&mut data).await.ok().filter(|count| *count > 0)?;
        data.truncate(count);
        Some((BytesMessage { data }, reading))
    });
    let mut request = Request::new(outgoing);
    let id = id.parse().map_err(|_| Error::new(Kind::Invalid, "the name of an agent is no text"))?;
    request.metadata_mut().insert("buildkit.ssh.id", id);
    let method = "/moby.sshforward.v1.SSH/ForwardAgent";
    let answer = client.session().stream::<BytesMessage, BytesMessage>(method, request).await?;
    let mut incoming = answer.into_inner();
    while let Some(message) = incoming.next().await {
        writing.write_all(&message?.data).await.map_err(|e| Error::io("cannot answer", e))?;
    }
    Ok(())
}
