//! The errors of this crate, each with the kind that decides its HTTP status.
//!
//! Where Docker's clients and scripts match on a text, the text is Docker's; the engine puts the network driver's
//! customary words in front.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use types::{ExposedPort, Kind};

/// Result of a network operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a network operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a change of links, routes or firewall rules.
    #[error("{0}")]
    Netlink(#[from] netlink::Error),
    /// A file or socket operation failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was attempted.
        action: String,
        /// The system's reason.
        source: io::Error,
    },
    /// One of our own containers has published the port.
    #[error("Bind for {}:{port} failed: port is already allocated", bracketed(.address))]
    PortAllocated {
        /// Host address asked for.
        address: IpAddr,
        /// Host port asked for.
        port: u16,
    },
    /// The host port cannot be bound, for instance because a program of the host listens on it.
    #[error(
        "failed to bind host port for {}:{port}:{}:{container}: {}",
        bracketed(.address), bracketed(.container_address), reason(.source)
    )]
    PortBind {
        /// Host address asked for.
        address: IpAddr,
        /// Host port asked for.
        port: u16,
        /// Address the port would lead to.
        container_address: IpAddr,
        /// Port it would lead to.
        container: ExposedPort,
        /// The system's reason.
        source: io::Error,
    },
    /// Every port of the range is taken.
    #[error("all ports are allocated: no free host port between {start} and {end} on {address} for {container}")]
    PortsExhausted {
        /// Host address asked for.
        address: IpAddr,
        /// First port tried.
        start: u16,
        /// Last port tried.
        end: u16,
        /// Container port.
        container: ExposedPort,
    },
    /// The address asked for belongs to another endpoint.
    #[error("Address already in use")]
    AddressInUse(IpAddr),
    /// The address asked for is not a host address of the network.
    #[error("requested address {address} is out of range: network {network} has subnet {subnet}")]
    AddressOutOfRange {
        /// Address asked for.
        address: IpAddr,
        /// Name of the network.
        network: String,
        /// Its subnet.
        subnet: IpNet,
    },
    /// Every address of the subnet is taken.
    #[error("no available {} addresses on this network's address pools: {network} ({subnet})", family(.subnet))]
    AddressesExhausted {
        /// Name of the network.
        network: String,
        /// Its subnet.
        subnet: IpNet,
    },
    /// Every candidate subnet overlaps a route or address of the host.
    #[error(
        "all predefined address pools have been fully subnetted: every candidate overlaps a route of this host; \
         set a subnet for network {0} explicitly"
    )]
    SubnetsExhausted(String),
    /// A subnet asked for overlaps that of another network.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlap,
    /// The host lacks what the network needs, or we do.
    #[error("{0}")]
    Unsupported(String),
    /// The network has as many containers as a bridge can have.
    #[error(
        "network {network} is full: a bridge has at most {limit} ports (the kernel's limit); connect further containers \
         to another network"
    )]
    BridgeFull {
        /// Name of the network.
        network: String,
        /// How many ports there are.
        limit: usize,
    },
    /// Another network has the bridge.
    #[error(
        "cannot create network {id} ({name}): conflicts with network {other} ({name}): networks have same bridge name"
    )]
    BridgeTaken {
        /// The new network.
        id: types::NetworkId,
        /// Name of the bridge.
        name: String,
        /// The network that has it.
        other: types::NetworkId,
    },
    /// There is no such network.
    #[error("network {0} not found")]
    NetworkNotFound(types::NetworkId),
    /// Containers are connected to it.
    #[error("network {0} has active endpoints")]
    NetworkInUse(String),
    /// `dhow-net` did not do what it was asked.
    #[error("the network process: {0}")]
    Process(String),
    /// A setting makes no sense or contradicts what is there.
    #[error("{0}")]
    Config(String),
    /// The endpoint is not one of this network's.
    #[error("endpoint {0} not found")]
    EndpointNotFound(types::EndpointId),
}

impl Error {
    /// The kind that decides the HTTP status. Failures to publish are internal, since Docker answers 500 to them.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Netlink(_) | Self::Io { .. } | Self::PortAllocated { .. } | Self::PortBind { .. } => Kind::Internal,
            Self::PortsExhausted { .. } => Kind::Internal,
            Self::Process(_) => Kind::Internal,
            Self::AddressInUse(_) | Self::PoolOverlap | Self::BridgeTaken { .. } | Self::NetworkInUse(_) => {
                Kind::Forbidden
            }
            Self::AddressOutOfRange { .. } | Self::Config(_) => Kind::Invalid,
            Self::Unsupported(_) => Kind::Unsupported,
            Self::AddressesExhausted { .. } | Self::SubnetsExhausted(_) | Self::BridgeFull { .. } => Kind::Exhausted,
            Self::EndpointNotFound(_) | Self::NetworkNotFound(_) => Kind::NotFound,
        }
    }

    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

fn family(subnet: &IpNet) -> &'static str {
    match subnet {
        IpNet::V4(_) => "IPv4",
        IpNet::V6(_) => "IPv6",
    }
}

/// An address in front of a port.
fn bracketed(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The system's reason in the words of Docker, which prints C library texts without their number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".into(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Protocol;

    #[test]
    fn texts_are_dockers() {
        let address = IpAddr::from([0; 4]);
        let error = Error::PortAllocated { address, port: 8080 };
        assert_eq!(error.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        let error = Error::PortBind {
            address,
            port: 8080,
            container_address: IpAddr::from([172, 17, 0, 2]),
            container: ExposedPort { port: 80, protocol: Protocol::Tcp },
            source: io::Error::from_raw_os_error(98),
        };
        let text = "failed to bind host port for 0.0.0.0:8080:172.17.0.2:80/tcp: address already in use";
        assert_eq!(error.to_string(), text);
    }
}
