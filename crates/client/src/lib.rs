//! Docker Engine API client: one small blocking HTTP/1.1 implementation over Unix and TCP sockets.
//!
//! Blocking on purpose: a command makes a handful of requests, and starting a reactor costs more than they do.
//! Concurrency (attach beside wait, sixteen removals at once) is a thread or a second connection.
//! Nothing here knows about flags, terminals or output; `cli` is the caller, tests are the other.
//!
//! ```no_run
//! use client::{Client, Host};
//! let engine = Client::new(Host::parse("unix:///run/dhow/dhow.sock")?);
//! let containers: serde_json::Value = engine.get("/containers/json").query("all", "1").send()?.json()?;
//! # Ok::<(), client::Error>(())
//! ```

mod body;
mod connection;
mod engine;
mod error;
mod hijack;
mod host;
mod query;
mod request;
pub mod stdcopy;
mod upload;
mod version;

pub use body::{Body, Closer};
pub use engine::{Client, Ping};
pub use error::Error;
pub use hijack::{HijackWriter, Hijacked, Socket, Upgraded};
pub use host::Host;
pub use query::{Query, escape_segment};
pub use request::{Pending, Request, Response};
pub use upload::Upload;
pub use version::ApiVersion;

/// Result of every call of this crate.
pub type Result<T> = std::result::Result<T, Error>;
