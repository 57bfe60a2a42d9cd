//! The host's firewall and bridges, as container networks need them.
//!
//! [`Firewall`] keeps what is wanted ([`NetRules`], [`PortRule`], [`PortLink`]) and what the kernel has equal: one table
//! of rules for any number of networks, in which a network is a few elements and small chains and a published port is
//! one element of a map; room in other programs' firewalls; bridges that come back when somebody deletes them.
//!
//! Synchronous, without threads. Terms: `nft(8)`. Called by the process that owns an engine's networks; the types of what
//! is wanted also by whoever tells it.

mod error;
mod firewall;
mod foreign;
pub mod forwarding;
mod links;
mod name_server;
mod rules;
mod ruleset;
mod sysctl;
mod wanted;

pub use error::{Error, Result};
pub use firewall::{Firewall, Stats, USER_TABLE};
pub use name_server::lead_to_name_server;
pub use rules::{Change, FamilyRules, Forwarding, GatewayMode, Net, NetRules, PortLink, PortRule};
pub use sysctl::bridges_are_filtered;
