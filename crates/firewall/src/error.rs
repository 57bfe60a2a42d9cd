//! The errors of this crate.

use std::io;
use std::net::IpAddr;

use types::Protocol;

/// Result of an operation on the firewall.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on the firewall failed. Nothing has changed then, neither in the kernel nor in what is wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a change.
    #[error("{0}")]
    Netlink(#[from] netlink::Error),
    /// A kernel setting could not be read or set.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was attempted.
        action: String,
        /// The system's reason.
        source: io::Error,
    },
    /// What is wanted contradicts itself.
    #[error("{0}")]
    Invalid(String),
    /// A port is asked for on a network that is not there.
    #[error("no network has bridge {0}")]
    UnknownNetwork(String),
    /// The host port leads to another container already.
    #[error("host port {host_ip}:{host_port}/{protocol} is published twice")]
    PortTaken {
        /// Host address.
        host_ip: IpAddr,
        /// Host port.
        host_port: u16,
        /// Protocol.
        protocol: Protocol,
    },
    /// Two networks share addresses.
    #[error("the networks of bridges {0} and {1} overlap")]
    Overlap(String, String),
    /// Another process that is still there owns the table of rules.
    #[error("another process owns nf_tables table {0}")]
    Owned(String),
}
