//! Sessions: connections on which clients answer what the builder asks, for as long as they wait for a build.

mod content;
mod files;
mod local;
mod pool;
mod receive;
mod send;

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buildkit::session::Session;
use buildkit::wire::{auth, secrets};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use types::Kind;

pub(crate) use content::{named, output_store};
pub use files::{Received, Wanted};
pub use pool::Pool;
pub use send::Sent;

use crate::error::{Error, Result};

/// How long a build waits for its client to open the session, which may come after it.
const ARRIVAL: Duration = Duration::from_secs(5);

/// What a client says of itself when it opens a session.
#[derive(Clone, Debug, Default)]
pub struct Greeting {
    /// Its id, by which builds name it.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// The same for sessions that send the same files.
    pub shared_key: String,
    /// Methods that it serves, as `/package.Service/Method`.
    pub methods: HashSet<String>,
    /// Directories of its own that it shares, by the names it has them under.
    pub directories: HashMap<String, Arc<OwnedFd>>,
}

/// A client that answers.
#[derive(Clone, Debug)]
pub struct Client {
    session: Session,
    greeting: Arc<Greeting>,
    gone: CancellationToken,
}

/// The clients that are there.
#[derive(Debug, Default)]
pub struct Sessions {
    clients: Mutex<HashMap<String, Client>>,
    arrivals: watch::Sender<u64>,
}

impl Sessions {
    /// Keeps a session until its connection ends.
    ///
    /// # Errors
    /// The connection is no HTTP/2, or the id is one that is there.
    pub async fn serve<I>(&self, io: I, greeting: Greeting) -> Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let id = greeting.id.clone();
        if id.is_empty() || id.len() > 256 {
            return Err(Error::new(Kind::Invalid, "a session needs an id of at most 256 bytes"));
        }
        let failed = |e| Error::io("the session's connection broke", e);
        let (session, driven) = Session::open(io).await.map_err(failed)?;
        let gone = CancellationToken::new();
        let client = Client { session, greeting: Arc::new(greeting), gone: gone.clone() };
        {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            if clients.contains_key(&id) {
                return Err(Error::new(Kind::Conflict, format!("session {id} is there already")));
            }
            clients.insert(id.clone(), client);
        }
        self.arrivals.send_modify(|count| *count += 1);
        let ended = driven.await;
        gone.cancel();
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        ended.map_err(failed)
    }

    /// A client by its id; it may be about to come.
    ///
    /// # Errors
    /// Not found when it does not come.
    pub async fn get(&self, id: &str) -> Result<Client> {
        let mut arrivals = self.arrivals.subscribe();
        let wait = async {
            loop {
                arrivals.borrow_and_update();
                let found = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
                if let Some(client) = found {
                    return client;
                }
                if arrivals.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(ARRIVAL, wait)
            .await
            .map_err(|_| Error::new(Kind::NotFound, format!("no active session for {id}: context deadline exceeded")))
    }
}

impl Client {
    /// Cancelled once the client has left.
    #[must_use]
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// The same for clients with the same files.
    #[must_use]
    pub fn shared_key(&self) -> &str {
        &self.greeting.shared_key
    }

    /// A directory that the client shares instead of sending it.
    #[must_use]
    pub fn directory(&self, name: &str) -> Option<Arc<OwnedFd>> {
        self.greeting.directories.get(name).cloned()
    }

    /// Whether the client serves a method.
    #[must_use]
    pub fn serves(&self, method: &str) -> bool {
        self.greeting.methods.contains(method)
    }

    /// The connection, for calls.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// A secret by its name; none that the client does not have.
    ///
    /// # Errors
    /// The client has left, or cannot read it.
    pub async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>> {
        const METHOD: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
        let request = secrets::GetSecretRequest { id: id.to_owned(), ..secrets::GetSecretRequest::default() };
        match self.session.call::<_, secrets::GetSecretResponse>(METHOD, Request::new(request)).await {
            Ok(answer) => Ok(Some(answer.into_inner().data)),
            Err(status) if matches!(status.code(), tonic::Code::NotFound | tonic::Code::Unimplemented) => Ok(None),
            Err(status) => Err(Error::from(status).context(format_args!("cannot get secret {id}"))),
        }
    }

    /// User and password for a registry; empty where the client has none.
    ///
    /// # Errors
    /// The client has left.
    pub async fn credentials(&self, host: &str) -> Result<Option<(String, String)>> {
        const METHOD: &str = "/moby.filesync.v1.Auth/Credentials";
        let request = auth::CredentialsRequest { host: host.to_owned() };
        match self.session.call::<_, auth::CredentialsResponse>(METHOD, Request::new(request)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                Ok(Some((answer.username, answer.secret))
                    .filter(|(name, secret)| !name.is_empty() || !secret.is_empty()))
            }
            Err(status) if status.code() == tonic::Code::Unimplemented => Ok(None),
            Err(status) => Err(Error::from(status).context(format_args!("cannot get credentials for {host}"))),
        }
    }
}
