//! The registry client: pulls and pushes images, and fetches their parts, by the OCI distribution specification 1.1.
//!
//! A registry, whatever it redirects to and whatever its token server answers are hostile input:
//! sizes and digests are checked against what the manifest promised, documents are read under a
//! cap, credentials stay with the origin they are for, and nothing a registry says can make the
//! client talk to loopback, link-local or private addresses that the registry itself is not on.
//! Storage is behind [`ContentSink`] and [`ContentSource`]; the engine adapts its store to them.
//!
//! Proxies of the environment (`HTTP_PROXY`) are not supported.

mod address;
mod auth;
mod blob;
mod client;
mod config;
mod dial;
mod document;
mod endpoint;
mod error;
mod fetch;
mod holders;
mod hosts;
mod login;
mod manifest;
mod multipart;
mod origin;
mod parts;
mod payload;
mod pool;
mod progress;
mod pull;
mod push;
mod put;
mod ranges;
mod referrers;
mod repository;
mod sessions;
mod sink;
mod source;
mod tags;
mod tls;
mod transport;
mod upload;
mod web;

pub use auth::Credentials;
pub use client::Client;
pub use config::{Config, Limits, Ranges};
pub use error::Error;
pub use fetch::{Blob, Manifest};
pub use login::Login;
pub use manifest::{
    Descriptor, MEDIA_DOCKER_CONFIG, MEDIA_DOCKER_LIST, MEDIA_DOCKER_MANIFEST, MEDIA_OCI_CONFIG, MEDIA_OCI_INDEX,
    MEDIA_OCI_MANIFEST,
};
pub use parts::Parts;
pub use progress::{LayerStatus, Progress};
pub use pull::{PullRequest, Pulled, Resolved};
pub use push::{PushProgress, PushRequest, PushStatus};
pub use put::PutRequest;
pub use referrers::Referrer;
pub use sink::{Chunk, ContentSink, LayerStream, SinkError};
pub use source::{Chunks, ContentSource};
pub use tls::client_config as tls_client_config;
pub use web::WebAnswer;
