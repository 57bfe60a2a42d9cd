//! Netlink spoken directly: rtnetlink for links, addresses and routes, nf_tables for firewall transactions.
//!
//! Synchronous, without `libnl`, `ip` or `nft`. A [`route::RouteSocket`] or [`nftables::NftSocket`] belongs to the
//! network namespace of the thread that opened it and can then be used from any thread. Every request is
//! acknowledged by the kernel; a refusal becomes an [`Error`] with the kernel's own explanation.
//! Whatever arrives is parsed with bounds checks, since a short or malformed message must never panic the daemon.
//!
//! Called by `network`. Documents: `netlink(7)`, `rtnetlink(7)`, the kernel's `Documentation/userspace-api/netlink`.

mod attribute;
pub mod conntrack;
mod error;
mod message;
pub mod nftables;
pub mod route;
mod socket;

pub use error::{Error, Result};
