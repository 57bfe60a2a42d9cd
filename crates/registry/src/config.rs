//! What a registry is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::storage::bucket::address::BucketAddress;

/// Configuration of one server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the API.
    pub address: SocketAddr,
    /// Directory of everything it keeps, or of the mirror of the bucket; made when missing.
    pub root: PathBuf,
    /// Bucket that content is kept in; nothing for the directory.
    pub storage: Option<BucketAddress>,
    /// Certificate chain and private key, PEM; nothing for plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// File of `name:bcrypt` lines; nothing to let everybody in.
    pub passwords: Option<PathBuf>,
    /// File that says who may do what in which repositories; nothing to let whoever is let in do everything.
    pub access: Option<PathBuf>,
    /// `https://host` under which clients reach the registry, for where tokens are; nothing for what they ask for.
    pub public_url: Option<String>,
    /// Most bytes that are stored.
    pub quotas: Vec<Quota>,
    /// Registries that are pulled through.
    pub upstreams: Vec<Upstream>,
    /// Address of `/metrics`; nothing for none.
    pub metrics: Option<SocketAddr>,
    /// Refuse everything that changes content.
    pub read_only: bool,
    /// Time between two collections; nothing for none.
    pub collect_every: Option<Duration>,
    /// Age below which content nobody refers to is kept.
    pub grace: Duration,
    /// Bounds of time and number.
    pub limits: Limits,
}

/// A bound on what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// The repository of this name and those below it; nothing for all content.
    pub prefix: Option<String>,
    /// Most bytes.
    pub bytes: u64,
}

/// A registry of which repositories here are copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Repositories below this name are copies; nothing for all.
    pub prefix: Option<String>,
    /// `host[:port]`, and where the repositories lie below another name there, `/name`.
    pub registry: String,
    /// Also without TLS.
    pub plain: bool,
    /// Who we are there.
    pub credentials: Option<distribution::Credentials>,
}

/// Bounds of time and number.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Uploads open at once.
    pub uploads: usize,
    /// Time after which an upload that no client works on ends.
    pub upload_idle: Duration,
    /// Connections served at once.
    pub connections: usize,
    /// Connections served at once to one address.
    pub connections_per_address: usize,
    /// Time for a TLS handshake, for the head of a request, and between two requests.
    pub head: Duration,
    /// Time without a byte, in either direction, in the middle of a request or an answer.
    pub stall: Duration,
    /// Time requests in progress get when the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            uploads: 1024,
            upload_idle: Duration::from_secs(3600),
            connections: 4096,
            connections_per_address: 1024,
            head: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// A plain registry without passwords, with a collection each day that keeps what is younger than one.
    #[must_use]
    pub fn new(address: SocketAddr, root: PathBuf) -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            address,
            root,
            storage: None,
            tls: None,
            passwords: None,
            access: None,
            public_url: None,
            quotas: Vec::new(),
            upstreams: Vec::new(),
            metrics: None,
            read_only: false,
            collect_every: Some(day),
            grace: day,
            limits: Limits::default(),
        }
    }
}
