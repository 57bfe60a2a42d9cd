//! From a launch plan to a running process: namespaces, root, mounts, credentials, execve.
//!
//! The caller is single-threaded ([`sys::clone::clone3`] insists). [`spawn`] and [`exec`] return as
//! soon as the process exists; whether it reached its program is told by [`Spawning::advance`], so
//! that a program on a stuck file system stalls nobody else.
//! Called by `shim` and `oci-runtime`; what the latter adds between birth and program is in [`Stages`].

mod cgroup;
mod child;
mod confine;
mod copy_up;
mod devices;
mod failure;
mod foreign;
mod init;
mod labels;
mod masks;
mod mounts;
mod procfs;
mod report;
mod root;
mod spawn;
mod stages;
mod visit;

pub use failure::{At, Failure};
pub use report::{Progress, Spawning, Status};
pub use spawn::{Stdio, exec, exec_as_sibling, spawn};
pub use stages::{Point, Stages};
