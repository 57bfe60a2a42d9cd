//! A container's place in a network: what is asked for, what it got, and the namespace it gets it in.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use netlink::route::MacAddress;
use serde::{Deserialize, Serialize};
use types::{ContainerId, EndpointId};

use crate::port::{PortSpec, PublishedPort};

/// What a container asks of a network.
#[derive(Debug, Clone, Default)]
pub struct AttachRequest {
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
    /// Hardware address; derived from the IPv4 address if none.
    pub mac: Option<MacAddress>,
    /// IPv4 address; the next free one if none.
    pub ip: Option<Ipv4Addr>,
    /// Largest packet in bytes; the network's if none.
    pub mtu: Option<u32>,
}

/// A container's place in a network. The caller keeps it and hands it back after a restart of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its own id.
    pub id: EndpointId,
    /// The container.
    pub container: ContainerId,
    /// IPv4 address.
    pub ip: Ipv4Addr,
    /// Length of the subnet's prefix.
    pub prefix: u8,
    /// Where the default route leads.
    pub gateway: Ipv4Addr,
    /// Hardware address of `eth0`.
    #[serde(with = "mac_text")]
    pub mac: MacAddress,
    /// Name of the host's end of the veth pair.
    pub veth: String,
    /// Published ports, in the order they were asked for.
    pub ports: Vec<PublishedPort>,
}

/// A network namespace ready for a container: `lo` up, `eth0` up with address and default route.
#[derive(Debug)]
pub struct Slot {
    /// The namespace. It ends with the last of this descriptor, its processes and their sockets.
    pub netns: OwnedFd,
    /// What `eth0` was given.
    pub endpoint: Endpoint,
}

mod mac_text {
    //! Hardware addresses as text.
    use netlink::route::MacAddress;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(mac: &MacAddress, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mac)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddress, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
