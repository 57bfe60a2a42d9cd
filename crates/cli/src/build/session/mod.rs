//! What the builder asks of us while it builds: files, credentials, secrets, agents, and places for results.

mod files;
mod outputs;
mod secrets;
mod ssh;
mod upload;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use buildkit::server::{Messages, Methods};
use buildkit::wire::{auth, filesync, health, packet, secrets as wire_secrets, sshforward, upload as wire_upload};
use futures_util::Stream;
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

pub(super) use secrets::Secrets;
pub(super) use ssh::Agents;

use super::outputs::Target;
use crate::config::{ConfigFile, credentials};

/// What we have for the builder.
pub(super) struct Offer {
    pub(super) directories: BTreeMap<String, PathBuf>,
    /// What was read of an archive on standard input; the rest follows there.
    pub(super) archive: Mutex<Option<Vec<u8>>>,
    pub(super) secrets: Secrets,
    pub(super) agents: Agents,
    pub(super) targets: HashMap<usize, Target>,
    pub(super) config: ConfigFile,
    /// Says what is done.
    pub(super) debug: bool,
}

pub(super) const FILES: &str = "/moby.filesync.v1.FileSync/DiffCopy";
const OUTPUT: &str = "/moby.filesync.v1.FileSend/DiffCopy";
const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";
const SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
const CHECK_AGENT: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const FORWARD_AGENT: &str = "/moby.sshforward.v1.SSH/ForwardAgent";
const UPLOAD: &str = "/moby.upload.v1.Upload/Pull";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

impl Offer {
    /// Names of the methods that the builder may call.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let mut names = vec![FILES, CREDENTIALS, SECRET, HEALTH];
        if !self.agents.is_empty() {
            names.extend([CHECK_AGENT, FORWARD_AGENT]);
        }
        if !self.targets.is_empty() {
            names.push(OUTPUT);
        }
        if self.archive.lock().is_ok_and(|archive| archive.is_some()) {
            names.push(UPLOAD);
        }
        names
    }

    /// The methods.
    pub(super) fn methods(self: &Arc<Self>) -> Methods {
        let offer = || Arc::clone(self);
        let mut methods = Methods::default().unary(HEALTH, |_: Request<health::HealthCheckRequest>| async {
            let serving = health::HealthCheckResponseServingStatus::Serving as i32;
            Ok(Response::new(health::HealthCheckResponse { status: serving }))
        });
        let own = offer();
        methods = methods.streaming(FILES, move |request: Request<tonic::Streaming<packet::Packet>>| {
            let offer = Arc::clone(&own);
            async move { files::send(&offer, request) }
        });
        let own = offer();
        methods = methods.unary(CREDENTIALS, move |request: Request<auth::CredentialsRequest>| {
            let offer = Arc::clone(&own);
            async move { offer.credentials(request.into_inner().host).await }
        });
        let own = offer();
        methods = methods.unary(SECRET, move |request: Request<wire_secrets::GetSecretRequest>| {
            let offer = Arc::clone(&own);
            async move {
                let data = offer.secrets.get(&request.into_inner().id)?;
                Ok(Response::new(wire_secrets::GetSecretResponse { data }))
            }
        });
        let own = offer();
        methods = methods.unary(CHECK_AGENT, move |request: Request<sshforward::CheckAgentRequest>| {
            let offer = Arc::clone(&own);
            async move {
                offer.agents.get(&request.into_inner().id)?;
                Ok(Response::new(sshforward::CheckAgentResponse {}))
            }
        });
        let own = offer();
        methods =
            methods.streaming(FORWARD_AGENT, move |request: Request<tonic::Streaming<sshforward::BytesMessage>>| {
                let offer = Arc::clone(&own);
                async move { ssh::forward(&offer.agents, request).await }
            });
        let own = offer();
        methods = methods.streaming(OUTPUT, move |request: Request<tonic::Streaming<filesync::Sent>>| {
            let offer = Arc::clone(&own);
            async move { outputs::receive(&offer, request) }
        });
        let own = offer();
        methods.streaming(UPLOAD, move |request: Request<tonic::Streaming<wire_upload::BytesMessage>>| {
            let offer = Arc::clone(&own);
            async move { upload::send(&offer, &request) }
        })
    }

    async fn credentials(&self, host: String) -> Result<Response<auth::CredentialsResponse>, Status> {
        let config = self.config.clone();
        // A helper is a process that may ask its user.
        let found = tokio::task::spawn_blocking(move || credentials::lookup(&config, credentials::server_key(&host)));
        let found = found.await.map_err(|_| Status::internal("looking up credentials was interrupted"))?;
        let found = found.map_err(|error| Status::unknown(error.to_string()))?;
        // A token that stands for user and password comes without a name.
        let answer = if found.identity_token.is_empty() {
            auth::CredentialsResponse { username: found.username, secret: found.password }
        } else {
            auth::CredentialsResponse { username: String::new(), secret: found.identity_token }
        };
        Ok(Response::new(answer))
    }
}

/// Messages of a channel.
fn messages<M: Send + 'static>(receiver: mpsc::Receiver<M>) -> Messages<M> {
    Box::pin(stream(receiver, Ok))
}

fn stream<M, T>(receiver: mpsc::Receiver<M>, map: impl Fn(M) -> T + Send) -> impl Stream<Item = T> + Send
where
    M: Send,
{
    futures_util::stream::unfold((receiver, map), |(mut receiver, map)| async move {
        let message = receiver.recv().await?;
        Some((map(message), (receiver, map)))
    })
}

/// Moves a client's messages into a channel that threads read.
fn pump<M: Send + 'static>(mut incoming: tonic::Streaming<M>) -> mpsc::Receiver<M> {
    let (sender, receiver) = mpsc::channel(256);
    tokio::spawn(async move {
        while let Ok(Some(message)) = incoming.message().await {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// The values of a call's metadata, which are encoded when they are not plain text.
fn list(metadata: &MetadataMap, key: &str) -> Vec<String> {
    let encoded = metadata.get(format!("{key}-encoded")).is_some();
    let values = metadata.get_all(key).iter().filter_map(|value| value.to_str().ok());
    values.map(|value| if encoded { decode(value) } else { value.to_owned() }).collect()
}

/// As queries of addresses are encoded.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits =
                    [bytes.next(), bytes.next()].map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
                if let [Some(high), Some(low)] = digits {
                    out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                }
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_decoded() {
        let mut metadata = MetadataMap::new();
        metadata.append("followpaths", "a+b%2Fc%C3%A9".parse().unwrap());
        assert_eq!(list(&metadata, "followpaths"), ["a+b%2Fc%C3%A9"]);
        metadata.append("followpaths-encoded", "1".parse().unwrap());
        assert_eq!(list(&metadata, "followpaths"), ["a b/cé"]);
        assert_eq!(list(&metadata, "none"), [""; 0]);
        assert_eq!(decode("%zz%4"), "");
    }
}
