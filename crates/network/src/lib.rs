//! Container networks: bridges, endpoint slots, addresses, published ports and the firewall rules behind them.
//!
//! A [`Bridge`] is one network: a bridge link, a pool of addresses and one nf_tables table with constant rules, in
//! which publishing a port is adding a map element. Containers get a [`Slot`]: a network namespace with a
//! configured `eth0`, usually taken from a small stock prepared ahead. Everything works in the network namespace of the
//! thread that sets the bridge up.
//!
//! Synchronous: a call takes well under a millisecond when the stock is not empty. Called by `engine`.

mod address_pool;
mod bridge;
mod bridge_link;
mod endpoint;
mod error;
mod firewall_watch;
mod foreign_firewall;
mod network_info;
mod port;
mod port_table;
mod random;
mod ruleset;
mod slot;
mod stats;
mod stock;
mod subnet;
mod sysctl;

pub use bridge::{Bridge, BridgeConfig};
pub use endpoint::{AttachRequest, Endpoint, Slot};
pub use error::{Error, Result};
pub use netlink::route::MacAddress;
pub use network_info::{Driver, NetworkInfo};
pub use port::{PortSpec, PublishedPort};
pub use stats::{InterfaceStats, read_stats};
pub use subnet::{Subnet, docker_address_pools};
