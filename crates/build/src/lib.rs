//! The builder: Dockerfiles and other definitions become graphs of steps, and a solver carries out what of a graph is needed
//! and not known yet.
//!
//! A client speaks BuildKit's protocol to [`Builder::serve`] and answers questions on the session it gave to
//! [`Builder::serve_session`]. What the builder needs of an engine (images, processes, names for what was built) is
//! [`host::Host`]; nothing else here knows one.

mod attest;
mod builder;
pub mod classic;
pub mod convert;
mod emulation;
mod error;
mod exchange;
mod export;
pub mod file;
mod frontend;
pub mod graph;
mod history;
pub mod host;
mod job;
pub mod kept;
pub mod progress;
mod random;
mod service;
pub mod session;
pub mod solve;
pub mod tree;
mod waiting;

pub use builder::{Builder, Settings};
pub use error::{Error, Result};
pub use history::HistoryLimits;
