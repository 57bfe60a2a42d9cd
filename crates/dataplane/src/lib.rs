//! The process beside the daemon that keeps networks working: names for containers, forwarded ports, the table of rules.
//!
//! [`wire`] is what the daemon and the process say to each other, [`Client`] the daemon's blocking end of it, [`server`]
//! the process itself: one thread, one epoll loop. It outlives the daemon; a new daemon sends the whole wanted state
//! ([`wire::Request::Sync`]) and learns which descriptors the process has not got.
//! Called by `network` (the client) and `bin/dhow-net` (the server).

pub mod client;
pub mod server;
pub mod wire;

pub use client::{Client, ClientError, Owner, Spawned};
pub use wire::{
    Change, Failure, FailureKind, ForwarderStatus, Link, Place, Request, Response, Sandbox, SandboxStatus, State,
    Status, Synced, Upstreams, WIRE_VERSION,
};
