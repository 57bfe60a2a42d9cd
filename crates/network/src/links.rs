//! The host's side of networks: bridges, and what is plugged into them.
//!
//! Links that are made here carry names of their own kind (`dhv` and eight digits for the host's end of a veth pair), so
//! that those a killed daemon left behind are found again. Called by `Fabric`, `Attachment` and the stock.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink::route::{Link, LinkChange, MacAddress, RouteRequests, RouteSocket};
use rustix::io::Errno;

use crate::{Error, Result, random, sysctl};

/// Start of the names of the host's ends; eight hexadecimal digits follow.
const VETH_PREFIX: &str = "dhv";
/// Number of the routing table in everyday use.
const MAIN_TABLE: u32 = 254;

/// A name for the host's end of a new veth pair.
pub(crate) fn veth_name() -> Result<String> {
    Ok(format!("{VETH_PREFIX}{:08x}", random::bytes::<4>().map(u32::from_ne_bytes)?))
}

/// Whether a link's name is one of [`veth_name`]'s.
pub(crate) fn is_our_veth(name: &str) -> bool {
    name.strip_prefix(VETH_PREFIX).is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Names of our veth pairs on these bridges. Those of other engines on the host are on bridges of their own.
pub(crate) fn our_veths(route: &mut RouteSocket, bridges: &[String]) -> Result<Vec<String>> {
    let links = route.links()?;
    let masters: Vec<u32> = links.iter().filter(|link| bridges.contains(&link.name)).map(|link| link.index).collect();
    let plugged = |link: &Link| link.master.is_some_and(|master| masters.contains(&master));
    Ok(links.into_iter().filter(plugged).map(|link| link.name).filter(|name| is_our_veth(name)).collect())
}

/// The bridge of that name, made if there is none; says whether it was made. It gets no address and does not come up.
pub(crate) fn find_or_make_bridge(
    route: &mut RouteSocket,
    name: &str,
    mac: MacAddress,
    mtu: u32,
) -> Result<(Link, bool)> {
    let present = route.link(name)?;
    let made = present.is_none();
    let link = match present {
        Some(link) if link.kind != "bridge" => {
            return Err(Error::Config(format!("{name} exists and is no bridge; configure another name")));
        }
        Some(link) => link,
        None => {
            let mut requests = RouteRequests::new();
            requests.create_bridge(name, mac, mtu);
            route.apply(requests)?;
            let vanished = || Error::Config(format!("bridge {name} vanished while it was being set up"));
            route.link(name)?.ok_or_else(vanished)?
        }
    };
    Ok((link, made))
}

/// Gives the bridge its addresses and brings it up. Its rules are in force already. A bridge of somebody else's (`foreign`)
/// keeps everything else as it is.
pub(crate) fn raise_bridge(
    route: &mut RouteSocket,
    link: &Link,
    addresses: &[IpNet],
    mtu: u32,
    localnet: bool,
    foreign: bool,
) -> Result<()> {
    let name = &link.name;
    if localnet {
        // Published ports are reached from the host's loopback as well; the rules keep everybody else out.
        sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    }
    let ipv6 = addresses.iter().any(|address| matches!(address, IpNet::V6(_)));
    if !foreign {
        sysctl::set_if_present(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    }
    if ipv6 || !foreign {
        sysctl::set_if_present(&format!("ipv6/conf/{name}/disable_ipv6"), if ipv6 { "0" } else { "1" })?;
    }
    let mut requests = RouteRequests::new();
    let mtu = (!foreign).then_some(mtu);
    requests.change_link(link.index, &LinkChange { up: Some(true), mtu, ..LinkChange::default() });
    route.apply(requests)?;
    for address in addresses {
        let mut requests = RouteRequests::new();
        requests.add_sole_address(link.index, address.addr(), address.prefix_len());
        match route.apply(requests) {
            Err(error) if error.is_exists() => {}
            other => other?,
        }
    }
    Ok(())
}

/// Takes the addresses from a bridge, and with them the routes, at once; deleting the link waits for the kernel.
pub(crate) fn silence_bridge(route: &mut RouteSocket, name: &str, addresses: &[IpNet]) -> Result<()> {
    let Some(link) = route.link(name)? else { return Ok(()) };
    for address in addresses {
        let mut requests = RouteRequests::new();
        requests.delete_address(link.index, address.addr(), address.prefix_len());
        match route.apply(requests) {
            Err(error) if error.is_absent() || error.errno() == Some(Errno::ADDRNOTAVAIL) => {}
            other => other?,
        }
    }
    Ok(())
}

/// What of the address space the host uses: subnets of its links and destinations of its routes. `but` is a link that
/// does not count.
pub(crate) fn host_subnets(route: &mut RouteSocket, but: Option<u32>) -> Result<Vec<IpNet>> {
    let of_links = route.ip_addresses()?.into_iter().filter(|address| Some(address.link) != but);
    let of_links = of_links.filter_map(|address| IpNet::new(address.local, address.prefix).ok());
    let of_routes = route.ip_routes()?.into_iter().filter(|found| {
        // IPv6 has routes to link-local and multicast addresses on every link.
        let kept = match found.destination {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_multicast(),
        };
        kept && found.table == MAIN_TABLE && found.prefix > 0 && (but.is_none() || found.link != but)
    });
    let of_routes = of_routes.filter_map(|found| IpNet::new(found.destination, found.prefix).ok());
    Ok(of_links.chain(of_routes).map(|net| net.trunc()).collect())
}

/// A locally administered hardware address that a bridge keeps when it is made again.
pub(crate) fn bridge_mac(id: &types::NetworkId) -> MacAddress {
    let text = id.to_string();
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2).unwrap_or("00"), 16).unwrap_or(0);
    MacAddress([0x02, byte(0), byte(2), byte(4), byte(6), byte(8)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_veth_pairs_are_known_again() {
        assert!(is_our_veth(&veth_name().unwrap()));
        for other in ["dhv", "dhv1234567", "dhv1234567g", "veth12345678", "eth0"] {
            assert!(!is_our_veth(other), "{other}");
        }
    }

    #[test]
    fn hardware_addresses_of_bridges_are_unicast_and_local() {
        let mac = bridge_mac(&types::NetworkId::from_random([0xff; 32]));
        assert_eq!(mac.to_string(), "02:ff:ff:ff:ff:ff");
    }
}
