//! What the end-to-end tests share: a daemon of their own, the clients that talk to it, and a real
//! dockerd to compare with. Every daemon has its own directories, socket and bridge, and takes all
//! of it away again when it is dropped, also when a test fails.

#![allow(clippy::print_stderr, reason = "tests talk to whoever runs them")]

pub mod clients;
pub mod daemon;
pub mod environment;
pub mod leaks;

pub use clients::{Client, Output};
pub use daemon::{Daemon, Options};
pub use environment::Environment;
