//! A registry of images and artifacts: the server side of the OCI distribution specification 1.1, all four of its
//! categories (pull, push, content discovery, content management), over a directory or a bucket of an object store.
//!
//! From the outside in: [`Server`] owns sockets and connections, `http` turns requests into answers, `storage` keeps
//! content. Everything a client sends is hostile: names are parsed by grammar before they become file names, bodies
//! are bounded or digested while they arrive, and a repository's content is reached through that repository alone.
//! What was acknowledged is on disk, or in the bucket. Called by `dhowd registry serve`.
//!
//! Not offered: digests other than SHA-256.

mod auth;
mod config;
mod connection;
mod error;
mod http;
mod manifest;
mod metrics;
mod multiplexed;
mod name;
mod quota;
mod sendfile;
mod server;
mod storage;
mod tls;
mod upstream;
mod upstream_list;

pub use config::{Config, Limits, Quota, Upstream};
pub use error::StartError;
pub use server::{Control, Server};
pub use storage::bucket::address::BucketAddress;
pub use storage::collect::Collected;
