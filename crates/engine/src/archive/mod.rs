//! Files of containers, running or not: copying in and out, export, and what changed.
//!
//! A container's tree is hostile and may change while it is read: every path is resolved by the kernel
//! below one descriptor, a running container's through its first process, a stopped one's through a
//! mount that nobody else sees. Called by the façade.

pub(crate) mod bridge;
mod copy;
mod place;
mod rename;
mod tree;

pub(crate) use copy::{get, put, stat};
pub(crate) use tree::{changes, export};
