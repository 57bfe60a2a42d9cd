//! Containers: what clients ask for (`config`, `host_config`) and what they are shown (`inspect`,
//! `summary`, `stats`).

mod config;
mod host_config;
mod inspect;
mod stats;
mod summary;

pub use config::*;
pub use host_config::*;
pub use inspect::*;
pub use stats::*;
pub use summary::*;
