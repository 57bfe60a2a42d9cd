//! The engine: containers, execs, images, volumes and the built-in networks behind one façade that
//! knows no HTTP.
//!
//! [`Engine`] is the only door. Its requests and answers are the structures of `docker-types`; its
//! errors carry a [`types::Kind`] and Docker's text. Blocking kernel work runs on the runtime's
//! blocking pool, state lives in `state`, processes live under shims that outlive this process.
//! Called by `api`.

mod archive;
mod boot;
mod build_host;
mod clock;
mod config;
mod container;
mod engine;
mod error;
mod events;
mod exec;
mod facade;
mod idmap;
mod image;
mod lock;
mod logs;
mod network;
mod plan;
mod reserve;
mod shim_link;
mod system;
mod volume;
mod watched;

use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;

pub use config::{
    BuilderSettings, CacheLimits, CachePolicy, Collect, EngineConfig, HistoryLimits, LayerFormat, Watermark,
};
pub use container::attach::{AttachStream, Attached};
pub use container::list::ListOptions;
pub use container::remove::RemoveOptions;
pub use container::stop::StopOptions;
pub use container::wait::{WaitCondition, WaitHandle};
pub use engine::Engine;
pub use error::{Error, Result};
pub use events::EventsOptions;
pub use facade::*;
pub use logs::LogOptions;
pub use network::parse_address_pool;
pub use volume::Copied as VolumeCopy;

/// A stream of values that may cross threads.
pub type AnyStream<T> = Pin<Box<dyn Stream<Item = T> + Send>>;
/// A stream of bytes, such as an archive on its way in or out.
pub type ByteStream = AnyStream<std::io::Result<Bytes>>;
