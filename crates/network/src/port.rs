//! Ports to publish, as asked for and as published.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use types::{ExposedPort, PortRange, Protocol};

/// A container port to publish on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortSpec {
    /// Port and protocol inside the container.
    pub container: ExposedPort,
    /// Host address to publish on; the network's default bindings if none.
    pub host_ip: Option<IpAddr>,
    /// Host port, or a range of which the first free one is taken; any free ephemeral port if none or zero.
    pub host: Option<PortRange>,
}

/// A container port as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Port inside the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Host address; `0.0.0.0` or `::` for all of the family.
    pub host_ip: IpAddr,
    /// Host port.
    pub host_port: u16,
}

/// IANA protocol number.
pub(crate) const fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}
