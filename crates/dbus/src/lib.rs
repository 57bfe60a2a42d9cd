//! A small blocking client of D-Bus: calls and signals over a local socket, to a bus or to one service directly.
//!
//! Written here rather than taken from a crate: zbus brings an async runtime and some forty crates, dbus needs
//! libdbus, rustbus stopped with nix 0.26 and syn 1, minidbus wants a newer compiler than the workspace's. Four kinds of
//! message over a local socket need none of that. Left out: descriptors in messages, big-endian peers, TCP addresses, and
//! offering objects of one's own. Called by `cgroup` (systemd) and `network` (firewalld).

mod address;
mod bus;
mod error;
mod message;
mod value;

pub use address::{session_address, system_address};
pub use bus::{BUS, Bus};
pub use error::Error;
pub use message::{Call, Kind, Message};
pub use value::Value;
