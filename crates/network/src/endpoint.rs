//! A container's place in a network: what is asked for and what it got.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::{Change, Place};
use firewall::{PortLink, PortRule};
use ipnet::{Ipv4Net, Ipv6Net};
use netlink::route::MacAddress;
use serde::{Deserialize, Serialize};
use types::{ContainerId, EndpointId, NetworkId};

use crate::port::PublishedPort;
use crate::rate::Rate;

/// What a container asks of a network.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// The network.
    pub network: NetworkId,
    /// Names that others on the network find it by, the most particular first.
    pub names: Vec<String>,
    /// IPv4 address; the next free one if none.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address; the next free one if none.
    pub ipv6: Option<Ipv6Addr>,
    /// Hardware address; derived from the first address if none.
    pub mac: Option<MacAddress>,
    /// Name of the container's interface; `eth` and the next number if none.
    pub interface: Option<String>,
    /// Settings of the interface: names below `/proc/sys`, with dots, `IFNAME` standing for its name.
    pub sysctls: Vec<(String, String)>,
    /// The endpoint with the highest has the default routes; equal ones by the networks' names.
    pub priority: i64,
    /// Bandwidth; what is not said here is the network's.
    pub rate: Rate,
}

impl JoinRequest {
    /// A place on the network of which nothing is asked.
    #[must_use]
    pub const fn new(network: NetworkId) -> Self {
        Self {
            network,
            names: Vec::new(),
            ipv4: None,
            ipv6: None,
            mac: None,
            interface: None,
            sysctls: Vec::new(),
            priority: 0,
            rate: Rate { ingress: None, egress: None },
        }
    }
}

/// A container's place in a network. The caller keeps it and hands it back after a restart of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its own id.
    pub id: EndpointId,
    /// The network.
    pub network: NetworkId,
    /// Its name.
    pub network_name: String,
    /// The container.
    pub container: ContainerId,
    /// Name of the container's interface.
    pub interface: String,
    /// Bridge of the network; none for a link on a parent.
    pub bridge: Option<String>,
    /// Name of the host's end of the veth pair; none for a link on a parent.
    pub veth: Option<String>,
    /// IPv4 address with the length of the subnet's prefix.
    pub ipv4: Option<Ipv4Net>,
    /// Where the IPv4 default route would lead.
    pub gateway4: Option<Ipv4Addr>,
    /// IPv6 address with the length of the subnet's prefix.
    pub ipv6: Option<Ipv6Net>,
    /// Where the IPv6 default route would lead.
    pub gateway6: Option<Ipv6Addr>,
    /// Hardware address.
    #[serde(with = "mac_text")]
    pub mac: MacAddress,
    /// The network has no way out.
    pub internal: bool,
    /// Frames between containers of the network are not passed on.
    pub isolated: bool,
    /// Rank among the container's endpoints.
    pub priority: i64,
    /// Bandwidth in force.
    pub rate: Rate,
    /// Names that others on the network find it by.
    pub names: Vec<String>,
    /// Published ports, in the order they were asked for; on the endpoint with the default route alone.
    pub ports: Vec<PublishedPort>,
}

impl Endpoint {
    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.ipv4.map(|net| IpAddr::V4(net.addr()));
        v4.into_iter().chain(self.ipv6.map(|net| IpAddr::V6(net.addr())))
    }

    pub(crate) fn place(&self) -> Place {
        let link = self.bridge.as_ref().zip(self.veth.as_ref()).map(|(bridge, veth)| PortLink {
            bridge: bridge.clone(),
            veth: veth.clone(),
            hairpin: true,
            isolated: self.isolated,
        });
        Place {
            endpoint: self.id,
            network: self.network,
            network_name: self.network_name.clone(),
            internal: self.internal,
            sandbox: self.container,
            names: self.names.clone(),
            addresses: self.addresses().collect(),
            link,
        }
    }

    /// The rules behind its published ports: to the address of the host address's family where the container has one.
    pub(crate) fn port_rules(&self) -> Vec<PortRule> {
        let (v4, v6) = (self.ipv4.map(|net| IpAddr::V4(net.addr())), self.ipv6.map(|net| IpAddr::V6(net.addr())));
        let rule = |port: &PublishedPort| {
            let target = if port.host_ip.is_ipv4() { v4.or(v6) } else { v6.or(v4) };
            Some(PortRule {
                bridge: self.bridge.clone()?,
                protocol: port.protocol,
                host_ip: port.host_ip,
                host_port: port.host_port,
                target: target?,
                target_port: port.container_port,
            })
        };
        self.ports.iter().filter_map(rule).collect()
    }

    /// Publishes its ports; `sockets` says which of them come with their reserving socket.
    pub(crate) fn publish(&self, sockets: Vec<bool>) -> Change {
        Change::Publish { endpoint: self.id, ports: self.port_rules(), sockets }
    }
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
