//! From a launch plan to a running process: namespaces, root, mounts, credentials, execve.
//!
//! The caller is single-threaded ([`sys::clone::clone3`] insists). [`spawn`] and [`exec`] return as
//! soon as the process exists; whether it reached its program is told by [`Spawning::advance`], so
//! that a program on a stuck file system stalls nobody else.
//! Called by `shim`.

mod cgroup;
mod child;
mod confine;
mod devices;
mod failure;
mod init;
mod masks;
mod mounts;
mod procfs;
mod report;
mod root;
mod spawn;

pub use failure::Failure;
pub use report::{Progress, Spawning};
pub use spawn::{Stdio, exec, exec_as_sibling, spawn};
