//! Bridges that somebody deleted, and ports that lost theirs, put back.
//!
//! The invariant: everything is decided by what the kernel has now, never by what a notification said, so that
//! late, doubled and lost notifications do no harm, and each step may be taken again. Rules match bridges by name and
//! need no attention when one comes back. Called by `firewall`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use netlink::route::{Link, LinkChange, LinkEvent, LinkName, RouteRequests, RouteSocket};

use crate::rules::{GatewayMode, NetRules, PortLink};
use crate::wanted::Wanted;
use crate::{Result, sysctl};

/// What may be missing.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    /// Bridges, by name.
    pub(crate) bridges: BTreeSet<String>,
    /// Names of veths that may not be ports of their bridge.
    pub(crate) ports: BTreeSet<String>,
    /// Any port.
    pub(crate) any_port: bool,
    /// Anything.
    pub(crate) all: bool,
}

impl Missing {
    /// Whether it is more than a port that may not be in its place.
    pub(crate) fn is_grave(&self) -> bool {
        !self.bridges.is_empty() || self.all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bridges.is_empty() && self.ports.is_empty() && !self.any_port && !self.all
    }
}

/// The watch over links: indices of our bridges as last heard of.
#[derive(Debug)]
pub(crate) struct Links {
    socket: RouteSocket,
    indices: HashMap<String, u32>,
}

impl Links {
    pub(crate) fn open() -> Result<Self> {
        Ok(Self { socket: RouteSocket::open()?, indices: HashMap::new() })
    }

    /// Whether there is a link of that name, as far as can be told.
    pub(crate) fn is_there(&mut self, name: &str) -> bool {
        !matches!(self.socket.link(name), Ok(None))
    }

    /// Notes what an event may call for. Costs a look-up, as every container that starts or ends causes some.
    pub(crate) fn note(&mut self, event: &LinkEvent, wanted: &Wanted, missing: &mut Missing) {
        match event {
            LinkEvent::Lost => {
                // Only bridges that have been there: others may be about to be made.
                missing.bridges.extend(self.indices.keys().filter(|name| wanted.nets.contains_key(*name)).cloned());
                missing.any_port = true;
            }
            LinkEvent::Removed(link) => {
                if self.indices.get(&link.name) == Some(&link.index) {
                    self.indices.remove(&link.name);
                }
                if wanted.nets.contains_key(&link.name) {
                    missing.bridges.insert(link.name.clone());
                }
            }
            LinkEvent::Present(link) => {
                if wanted.nets.contains_key(&link.name) {
                    self.indices.insert(link.name.clone(), link.index);
                } else if let Some(port) = wanted.links.get(&link.name) {
                    let known = self.indices.get(&port.bridge);
                    if link.master.is_none() || known.is_none() || link.master.as_ref() != known {
                        missing.ports.insert(link.name.clone());
                    }
                }
            }
        }
    }

    /// Puts back what is missing. What could not be put back is in `missing` afterwards.
    pub(crate) fn restore(&mut self, wanted: &Wanted, missing: &mut Missing) -> Result<()> {
        if missing.all || missing.any_port {
            self.look(wanted, missing)?;
        }
        let mut outcome = Ok(());
        for bridge in std::mem::take(&mut missing.bridges) {
            let Some(net) = wanted.nets.get(&bridge) else { continue };
            match self.restore_bridge(net) {
                Ok(()) => {
                    let ports = wanted.links.values().filter(|port| port.bridge == bridge);
                    missing.ports.extend(ports.map(|port| port.veth.clone()));
                }
                Err(error) => {
                    missing.bridges.insert(bridge);
                    outcome = Err(error);
                }
            }
        }
        let ports = std::mem::take(&mut missing.ports);
        outcome.and(self.restore_ports(ports.iter().filter_map(|veth| wanted.links.get(veth)), missing))
    }

    /// Finds out by name what is missing.
    fn look(&mut self, wanted: &Wanted, missing: &mut Missing) -> Result<()> {
        let present: BTreeMap<String, Link> =
            self.socket.links()?.into_iter().map(|link| (link.name.clone(), link)).collect();
        let index = |bridge: &String| Some((bridge.clone(), present.get(bridge)?.index));
        self.indices = wanted.nets.keys().filter_map(index).collect();
        if missing.all {
            missing.bridges.extend(wanted.nets.keys().filter(|bridge| !present.contains_key(*bridge)).cloned());
        }
        let misplaced = |port: &&PortLink| {
            let bridge = self.indices.get(&port.bridge);
            present.get(&port.veth).is_some_and(|link| link.master.as_ref() != bridge)
        };
        missing.ports.extend(wanted.links.values().filter(misplaced).map(|port| port.veth.clone()));
        (missing.all, missing.any_port) = (false, false);
        Ok(())
    }

    /// Makes a bridge as it was, or what is missing of one that came back by halves.
    fn restore_bridge(&mut self, net: &NetRules) -> Result<()> {
        let name: LinkName = net.bridge.parse()?;
        let link = match self.socket.link(&net.bridge)? {
            Some(link) => link,
            None => {
                tracing::warn!(bridge = net.bridge, "somebody deleted the bridge of a network: making it again");
                let mut requests = RouteRequests::new();
                requests.create_bridge(&net.bridge, net.mac, net.mtu);
                match self.socket.apply(requests) {
                    Err(error) if !error.is_exists() => return Err(error.into()),
                    _ => {}
                }
                match self.socket.link(&net.bridge)? {
                    Some(link) => link,
                    // Deleted again already; the kernel will tell.
                    None => return Ok(()),
                }
            }
        };
        if link.kind != "bridge" {
            tracing::warn!(bridge = net.bridge, kind = link.kind, "a link of another kind has the name of a bridge");
            return Ok(());
        }
        self.indices.insert(net.bridge.clone(), link.index);
        sysctl::set("ipv4", name, "route_localnet", if net.route_localnet { "1" } else { "0" })?;
        sysctl::set("ipv6", name, "accept_ra", "0")?;
        sysctl::set("ipv6", name, "disable_ipv6", if net.v6.is_some() { "0" } else { "1" })?;
        let mut requests = RouteRequests::new();
        // Somebody may have made another of that name.
        let mac = (link.mac != Some(net.mac)).then_some(net.mac);
        let mtu = (link.mtu != net.mtu).then_some(net.mtu);
        requests.change_link(link.index, &LinkChange { up: Some(true), mac, mtu, ..LinkChange::default() });
        self.socket.apply(requests)?;
        for (address, prefix) in addresses(net) {
            let mut requests = RouteRequests::new();
            requests.add_sole_address(link.index, address, prefix);
            match self.socket.apply(requests) {
                Err(error) if !error.is_exists() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes veths ports of their bridges again. A veth or bridge that is gone meanwhile is no failure.
    fn restore_ports<'a>(&mut self, ports: impl Iterator<Item = &'a PortLink>, missing: &mut Missing) -> Result<()> {
        let mut outcome = Ok(());
        for port in ports {
            let index = match self.indices.get(&port.bridge) {
                Some(index) => Some(*index),
                None => self.socket.link(&port.bridge)?.map(|link| link.index),
            };
            let (Some(master), Some(link)) = (index, self.socket.link(&port.veth)?) else { continue };
            self.indices.insert(port.bridge.clone(), master);
            let flags = (link.hairpin, link.isolated) == (port.hairpin, port.isolated);
            if link.master == Some(master) && flags {
                continue;
            }
            let change = LinkChange {
                master: (link.master != Some(master)).then_some(master),
                hairpin: Some(port.hairpin),
                isolated: Some(port.isolated),
                ..LinkChange::default()
            };
            let mut requests = RouteRequests::new();
            requests.change_link(link.index, &change);
            match self.socket.apply(requests) {
                Err(error) if error.is_absent() => {
                    // Which of the two is gone will be told; the index is not to be trusted.
                    self.indices.remove(&port.bridge);
                }
                Err(error) => {
                    missing.ports.insert(port.veth.clone());
                    outcome = Err(error.into());
                }
                Ok(()) => {}
            }
        }
        outcome
    }
}

/// Addresses of the bridge itself.
fn addresses(net: &NetRules) -> impl Iterator<Item = (IpAddr, u8)> {
    let v4 = net.v4.as_ref().filter(|rules| rules.mode != GatewayMode::Isolated);
    let v4 = v4.and_then(|rules| Some((IpAddr::V4(rules.gateway?), rules.subnet.prefix_len())));
    let v6 = net.v6.as_ref().filter(|rules| rules.mode != GatewayMode::Isolated);
    let v6 = v6.and_then(|rules| Some((IpAddr::V6(rules.gateway?), rules.subnet.prefix_len())));
    v4.into_iter().chain(v6)
}
