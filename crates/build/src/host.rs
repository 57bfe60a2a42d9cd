//! What the builder needs of the engine around it: images, processes, names for what was built.
//!
//! The builder knows snapshots, graphs and caches; how a process is confined and what an image is called is the engine's.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use store::model::{Descriptor, Image, Manifest};
use store::{Ingest, Store};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::{Digest, Platform, Reference};

use crate::error::Result;

/// An answer on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The engine.
pub trait Host: Send + Sync + 'static {
    /// Where layers and blobs are.
    fn store(&self) -> &Arc<Store>;

    /// A directory for work in progress, on the store's file system. It is the builder's alone and is emptied at its start.
    fn work(&self) -> &Path;

    /// A directory in memory for secrets, the builder's alone.
    fn secrets(&self) -> &Path;

    /// Places that every root file system needs for the engine's own mounts, to be stacked below the layers.
    fn places(&self) -> Option<&Path>;

    /// The host's address for steps (`host-gateway`), if there is one.
    fn gateway(&self) -> Option<std::net::IpAddr>;

    /// Layers that images have.
    fn layers_of_images(&self) -> std::collections::HashSet<types::DiffId>;

    /// Removes content that neither images nor results need any more.
    fn collect(&self) -> Pending<'_, ()>;

    /// An image by its name, for a platform; fetched when it is not here or `fresh` is asked for.
    fn image<'a>(&'a self, wanted: &'a WantedImage) -> Pending<'a, BaseImage>;

    /// What is at an address (`http`, `https`), whatever the answer's status. `headers` go to the host that is named alone.
    fn fetch<'a>(&'a self, address: &'a str, headers: Vec<(&'static str, String)>) -> Pending<'a, Fetched>;

    /// Runs a process to its end. When `run.cancel` is cancelled it is killed.
    fn run(&self, run: Run) -> Pending<'_, Ended>;

    /// Makes an image known by its names; gives its id.
    fn admit(&self, ingest: Arc<Ingest>, target: Descriptor, names: Vec<Reference>) -> Pending<'_, String>;

    /// Sends an image to the registry of its name. All that it leads to is in the store.
    fn push(&self, push: Push) -> Pending<'_, ()>;

    /// Keeps what is known of results over restarts: those to be put, and keys to be forgotten.
    fn keep(&self, put: Vec<(String, String)>, forget: Vec<String>) -> Pending<'_, ()>;

    /// A manifest or index of a registry, of whatever kind; with the credentials of a session.
    fn cache_manifest<'a>(&'a self, name: &'a Reference, session: Option<&'a str>) -> Pending<'a, Vec<u8>>;

    /// A blob of a repository, piece by piece. Whoever receives checks it.
    fn cache_blob<'a>(
        &'a self,
        name: &'a Reference,
        session: Option<&'a str>,
        digest: Digest,
        chunks: mpsc::Sender<Bytes>,
    ) -> Pending<'a, ()>;

    /// Sends blobs of the store to a registry, and then documents, the last of which is what the name will stand for.
    fn cache_push<'a>(
        &'a self,
        name: &'a Reference,
        session: Option<&'a str>,
        documents: Vec<Descriptor>,
        blobs: Vec<Descriptor>,
    ) -> Pending<'a, ()>;

    /// Keeps records of builds over restarts: those to be put, and names to be forgotten.
    fn remember(&self, put: Vec<(String, String)>, forget: Vec<String>) -> Pending<'_, ()>;
}

/// An image on its way to a registry.
pub struct Push {
    /// Keeps its content.
    pub ingest: Arc<Ingest>,
    /// Its index or manifest.
    pub target: Descriptor,
    /// Its name.
    pub reference: Reference,
    /// It gets no tag there.
    pub by_digest: bool,
    /// The session that has credentials.
    pub session: Option<String>,
    /// Told of bytes as they go.
    pub moved: Box<dyn Fn(u64) + Send + Sync>,
    /// Ends it.
    pub cancel: CancellationToken,
}

impl std::fmt::Debug for Push {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Push").field("target", &self.target).field("reference", &self.reference).finish_non_exhaustive()
    }
}

/// Which image.
#[derive(Clone)]
pub struct WantedImage {
    /// Its name.
    pub reference: Reference,
    /// The platform; the host's without one.
    pub platform: Option<Platform>,
    /// Whether the registry is asked even if the image is here.
    pub fresh: bool,
    /// The session that has credentials.
    pub session: Option<String>,
    /// User and password that the build has for its registry; asked for in the session without them.
    pub credentials: Option<(String, String)>,
}

impl std::fmt::Debug for WantedImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WantedImage").field("reference", &self.reference).finish_non_exhaustive()
    }
}

/// An image to build upon.
#[derive(Clone)]
pub struct BaseImage {
    /// Digest of what the name points at.
    pub digest: String,
    /// Its configuration.
    pub image: Image,
    /// Its manifest.
    pub manifest: Manifest,
    /// Keeps its layers from collection.
    pub lease: Arc<dyn Send + Sync>,
}

impl std::fmt::Debug for BaseImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BaseImage").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// The body of an answer.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// What somebody answered.
pub struct Fetched {
    /// The status.
    pub status: u16,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub modified: Option<String>,
    /// The body.
    pub body: Body,
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetched").field("status", &self.status).finish_non_exhaustive()
    }
}

/// The network of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The engine's default.
    #[default]
    Default,
    /// Loopback alone.
    None,
    /// The host's.
    Host,
}

/// A process to run.
#[derive(Debug)]
pub struct Run {
    /// Its root file system, a detached mount.
    pub rootfs: OwnedFd,
    /// Mounts on it, in order.
    pub mounts: Vec<Mounted>,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Its environment, `NAME=value`.
    pub env: Vec<String>,
    /// Where it begins.
    pub cwd: String,
    /// User and group, as `USER` has them.
    pub user: String,
    /// Its host name; the engine's choice when empty.
    pub hostname: String,
    /// Names and addresses for `/etc/hosts`.
    pub extra_hosts: Vec<(String, String)>,
    /// Its network.
    pub network: Network,
    /// Not confined.
    pub insecure: bool,
    /// Resource limits: name, soft, hard.
    pub ulimits: Vec<(String, i64, i64)>,
    /// The parent control group; the engine's default when empty.
    pub cgroup_parent: String,
    /// What it reads; nothing without it.
    pub input: Option<mpsc::Receiver<Bytes>>,
    /// Where its output goes.
    pub output: mpsc::Sender<Output>,
    /// Ends it.
    pub cancel: CancellationToken,
    /// What it works on: to be dropped when it has ended and no sooner.
    pub hold: Hold,
}

/// Something to hold on to.
pub struct Hold(pub Box<dyn std::any::Any + Send + Sync>);

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold")
    }
}

/// A mount of a step.
#[derive(Debug)]
pub struct Mounted {
    /// Absolute path in the root.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// Not writable.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug)]
pub enum MountSource {
    /// A detached mount of a directory or file.
    Tree {
        /// The mount.
        fd: OwnedFd,
        /// A file rather than a directory.
        file: bool,
    },
    /// Memory, of at most so many bytes.
    Tmpfs(Option<u64>),
}

/// Something a process wrote.
#[derive(Clone, Debug)]
pub struct Output {
    /// 1 for standard output, 2 for standard error.
    pub stream: u8,
    /// What.
    pub data: Bytes,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its exit code; 128 and the number for a signal.
    pub code: i32,
    /// It was killed for want of memory.
    pub out_of_memory: bool,
}
