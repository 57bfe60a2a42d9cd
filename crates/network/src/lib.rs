//! Container networks: bridges and links of the host, addresses, published ports, names and bandwidth.
//!
//! A [`Fabric`] is all networks of one engine. A container gets a network namespace, usually from a small stock prepared
//! ahead, as an [`Attachment`]; it joins networks through it, and [`Attachment::finish`] puts everything in force with one
//! change. Rules, names and what must outlive the daemon are the business of `dhow-net`, which is started here and told
//! through `dataplane`. Everything works in the network namespace of the thread that opens the fabric.
//!
//! Synchronous: a join takes well under a millisecond when the stock is not empty. Called by `engine`.

mod address_pool;
mod attachment;
mod control;
mod driver;
mod endpoint;
mod error;
mod fabric;
mod firewalld;
mod host_lock;
mod links;
mod net;
mod options;
mod parent;
mod pools;
mod port;
mod port_table;
mod random;
mod rate;
mod redirect;
mod resolver;
mod router;
mod sandbox;
mod spec;
mod stats;
mod stock;
mod sysctl;

pub use attachment::{Attachment, Resolver};
pub use control::ProcessConfig;
pub use dataplane::{Link, SandboxStatus, Status};
pub use dbus::system_address as system_bus;
pub use driver::Driver;
pub use endpoint::{Endpoint, JoinRequest};
pub use error::{Error, Result};
pub use fabric::{Fabric, FabricConfig, Running, SubnetUse};
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use netlink::route::MacAddress;
pub use options::Options;
pub use pools::{Pool, default_pools};
pub use port::{PortSpec, PublishedPort};
pub use rate::{Rate, parse_rate};
pub use resolver::Process;
pub use spec::{NetworkSpec, SubnetSpec};
pub use stats::{InterfaceStats, read_stats};
