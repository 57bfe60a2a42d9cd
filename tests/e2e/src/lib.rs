//! What the end-to-end tests share: a daemon of their own, the clients that talk to it, and a real
//! dockerd to compare with; and real engines in namespaces of their own to drive our OCI runtime.
//! Every daemon has its own directories, socket and bridge, and takes all
//! of it away again when it is dropped, also when a test fails.

#![allow(clippy::print_stderr, reason = "tests talk to whoever runs them")]

pub mod clients;
pub mod compose;
pub mod daemon;
pub mod engines;
pub mod environment;
pub mod files;
pub mod http;
pub mod leaks;
pub mod sandbox;

pub use clients::{Client, Output};
pub use compose::Project;
pub use daemon::{Daemon, Options};
pub use engines::{Containerd, Dockerd, Podman};
pub use environment::Environment;
pub use files::FileServer;
pub use sandbox::Sandbox;
