//! What is wanted of the firewall: networks, published ports and ports of bridges, as plain data.
//!
//! These types travel from the engine to whoever owns the rules, so they are serde types without behaviour beyond what
//! follows from their fields alone. A bridge's name is the identity of its network in the rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use netlink::route::MacAddress;
use serde::{Deserialize, Serialize};
use types::{NetworkId, Protocol};

/// One network as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetRules {
    /// The network's id.
    pub id: NetworkId,
    /// Name of the bridge link, at most 15 bytes.
    pub bridge: String,
    /// IPv4, if the network has it.
    pub v4: Option<FamilyRules<Ipv4Net>>,
    /// IPv6, if the network has it.
    pub v6: Option<FamilyRules<Ipv6Net>>,
    /// Whether containers of the network may talk to each other unasked.
    pub icc: bool,
    /// Whether nothing goes in or out but the host itself.
    pub internal: bool,
    /// Hardware address of the bridge, to make the link again when somebody deletes it.
    #[serde(with = "mac_bytes")]
    pub mac: MacAddress,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether the bridge accepts loopback addresses, so that published ports are reached by 127.0.0.1.
    pub route_localnet: bool,
    /// Links of the host from which published ports may be reached by a container's own address too, in families of mode
    /// [`GatewayMode::Nat`]. Without meaning in others, and when [`Self::internal`].
    pub trusted: Vec<String>,
}

/// One address family of a network. `N` is [`Ipv4Net`] or [`Ipv6Net`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(
    serialize = "N: Serialize, N::Address: Serialize",
    deserialize = "N: Deserialize<'de>, N::Address: Deserialize<'de>"
))]
pub struct FamilyRules<N: Net> {
    /// The network's addresses.
    pub subnet: N,
    /// Address of the bridge; none in mode [`GatewayMode::Isolated`].
    pub gateway: Option<N::Address>,
    /// Whether connections to elsewhere take the host's address.
    pub masquerade: bool,
    /// Who may reach containers.
    pub mode: GatewayMode,
    /// Take this address on the way to elsewhere instead of the outgoing link's; counts only with `masquerade`.
    pub source: Option<N::Address>,
}

/// A network of one family and the type of its addresses.
pub trait Net: Copy {
    /// Its addresses.
    type Address: Copy + std::fmt::Debug + PartialEq + Eq;
}

impl Net for Ipv4Net {
    type Address = Ipv4Addr;
}

impl Net for Ipv6Net {
    type Address = Ipv6Addr;
}

/// Who may reach the containers of a network in one address family, as `com.docker.network.bridge.gateway_mode_ipv4`
/// and `_ipv6` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Ports published on the host; nobody by a container's own address.
    #[default]
    Nat,
    /// Ports published on the host, and every port by a container's own address.
    NatUnprotected,
    /// No translation: published ports by a container's own address.
    Routed,
    /// The bridge has no address: containers reach each other only.
    Isolated,
}

/// One published port.
///
/// Host and target of one family are translated by the rules. Mixed families and host address `::1` are not: they are the
/// business of a forwarder. In a family of mode [`GatewayMode::Routed`] the host's part has no meaning, and the target may
/// be reached by its own address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRule {
    /// Bridge of the target's network.
    pub bridge: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Host address; unspecified for every address of its family.
    pub host_ip: IpAddr,
    /// Host port.
    pub host_port: u16,
    /// The container's address.
    pub target: IpAddr,
    /// The container's port.
    pub target_port: u16,
}

impl PortRule {
    /// Whether the rules of the firewall serve it; a forwarder has to otherwise.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        self.host_ip.is_ipv4() == self.target.is_ipv4() && self.host_ip != IpAddr::V6(Ipv6Addr::LOCALHOST)
    }

    /// Whether a forwarder has to serve what arrives at a socket of the port. With a port on every IPv6 address the rules
    /// translate all but what goes to `::1`, which the kernel would not route on to a container.
    #[must_use]
    pub fn is_forwarded(&self) -> bool {
        let any = self.host_ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && self.protocol != Protocol::Sctp;
        !self.is_translated() || any
    }
}

/// A container's port of a bridge, to be put back when its bridge was deleted or it lost its bridge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortLink {
    /// The bridge.
    pub bridge: String,
    /// Name of the host's end of the veth pair.
    pub veth: String,
    /// Whether the bridge may send a frame back out of this port.
    pub hairpin: bool,
    /// Whether the bridge passes nothing between this port and other isolated ones: for networks without
    /// [`NetRules::icc`], unless [`crate::bridges_are_filtered`].
    pub isolated: bool,
}

/// What has been done to make this host pass packets on between links, and what of it the rules have to answer for. Kept in
/// the table by names of chains, so that it is as lasting as the kernel's setting: see [`crate::forwarding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Forwarding {
    /// IPv4 was switched on for networks.
    pub v4: bool,
    /// IPv6 was.
    pub v6: bool,
    /// Packets of a family that was switched on are dropped unless they come from or go to a network.
    pub shut: bool,
}

/// One change of what is wanted. Putting what is there replaces it; removing what is not there does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A network is there, and like this. Comes before its bridge is made.
    PutNet(NetRules),
    /// It is gone, and with it its published ports. Comes before its bridge is deleted, which would be made again
    /// otherwise.
    RemoveNet {
        /// Its bridge.
        bridge: String,
    },
    /// The host became a router, as far as said here.
    SetForwarding(Forwarding),
    /// These ports are published.
    Publish(Vec<PortRule>),
    /// These ports are not published any more.
    Unpublish(Vec<PortRule>),
    /// A bridge has this port.
    PutLink(PortLink),
    /// It is gone.
    RemoveLink {
        /// Name of the host's end.
        veth: String,
    },
}

mod mac_bytes {
    //! Hardware addresses as six bytes.
    use netlink::route::MacAddress;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(mac: &MacAddress, serializer: S) -> Result<S::Ok, S::Error> {
        mac.0.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddress, D::Error> {
        <[u8; 6]>::deserialize(deserializer).map(MacAddress)
    }
}
