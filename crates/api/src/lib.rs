//! Docker's Engine API over HTTP/1.1: paths, versions, statuses and streams in front of `engine`.
//!
//! The crate knows HTTP and nothing of containers; the engine knows containers and nothing of
//! HTTP. A request passes the gate ([`gate`]: transport, version, path), the router (one table of
//! endpoints), a route (query and body to the engine's types and back), and leaves through
//! [`status`] (one table of failures) or [`body`]. Called by `dhowd` alone.

mod body;
mod call;
mod connection;
mod detach;
mod early;
mod gate;
mod hijack;
mod json;
pub mod listen;
mod query;
mod router;
mod routes;
mod serve;
mod service;
mod status;
mod version;

pub use body::{Body, Response};
pub use gate::{HostNames, Transport};
pub use serve::{Handler, MAX_CONNECTIONS, serve};
pub use service::Api;
pub use status::{ApiError, status_of};
pub use version::{MAXIMUM as MAXIMUM_VERSION, MINIMUM as MINIMUM_VERSION};
