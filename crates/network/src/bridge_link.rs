//! The bridge's link: choosing its addresses beside what the host has, making it, and listing its ports.
//!
//! A chosen subnet overlaps no address and no route of the host, so a new network never takes traffic from an old one.
//! Called by `Bridge` while it is set up and taken down.

use std::net::Ipv4Addr;

use netlink::route::{Link, MacAddress, RouteRequests, RouteSocket};

use crate::bridge::BridgeConfig;
use crate::slot::is_slot_veth;
use crate::{Error, Result, Subnet, random};

/// Number of the routing table in everyday use.
const MAIN_TABLE: u32 = 254;

/// Subnet and gateway: configured, or those of the link there is, or the first free candidate.
pub(crate) fn choose_addresses(
    config: &BridgeConfig,
    present: Option<&Link>,
    route: &mut RouteSocket,
) -> Result<(Subnet, Ipv4Addr)> {
    let addresses = route.addresses()?;
    let link = present.map(|link| link.index);
    let own = addresses.iter().find(|address| Some(address.link) == link);
    let subnet = match (config.subnet, own) {
        (Some(subnet), Some(own)) if Subnet::containing(own.local, own.prefix) != subnet => {
            let text = format!(
                "bridge {} has address {}/{} but subnet {subnet} is configured: remove the bridge or the setting",
                config.name, own.local, own.prefix
            );
            return Err(Error::Config(text));
        }
        (Some(subnet), _) => subnet,
        (None, Some(own)) => Subnet::containing(own.local, own.prefix),
        (None, None) => {
            let of_links = addresses.iter().map(|address| Subnet::containing(address.local, address.prefix));
            let of_routes = route
                .routes()?
                .into_iter()
                .filter(|route| route.table == MAIN_TABLE && route.prefix > 0 && (link.is_none() || route.link != link))
                .map(|route| Subnet::containing(route.destination, route.prefix));
            let taken: Vec<Subnet> = of_links.chain(of_routes).collect();
            let free = |candidate: &&Subnet| taken.iter().all(|taken| !taken.overlaps(**candidate));
            let chosen = config.candidates.iter().find(free);
            *chosen.ok_or_else(|| Error::SubnetsExhausted(config.name.clone()))?
        }
    };
    let gateway = match (config.gateway, own) {
        (Some(gateway), _) => gateway,
        (None, Some(own)) => own.local,
        (None, None) => subnet.first_host(),
    };
    if !subnet.is_host(gateway) {
        return Err(Error::Config(format!("invalid gateway {gateway}: it is no host address of subnet {subnet}")));
    }
    Ok((subnet, gateway))
}

/// Names of the slots' veth pairs on a bridge.
pub(crate) fn slot_veths(route: &mut RouteSocket, bridge: u32) -> Result<Vec<String>> {
    let ports = route.links()?.into_iter().filter(|link| link.master == Some(bridge));
    Ok(ports.map(|link| link.name).filter(|name| is_slot_veth(name)).collect())
}

/// Makes the bridge link with a random, locally administered hardware address.
pub(crate) fn make_link(config: &BridgeConfig, route: &mut RouteSocket) -> Result<Link> {
    let mut mac = random::bytes::<6>()?;
    mac[0] = mac[0] & !1 | 2;
    let mut requests = RouteRequests::new();
    requests.create_bridge(&config.name, MacAddress(mac), config.mtu);
    route.apply(requests)?;
    let vanished = || Error::Config(format!("bridge {} vanished while it was being set up", config.name));
    route.link(&config.name)?.ok_or_else(vanished)
}
