//! A container being connected to networks, and disconnected from them.
//!
//! The invariant: everything an [`Attachment`] took is given back when it is dropped, unless [`Attachment::finish`] has put it
//! in force. The links and addresses of a container that is about to start are set up first; then one change makes its
//! rules, names and ports known together. Made by `Fabric`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use dataplane::{Change, Link, Sandbox as WireSandbox, Upstreams};
use ipnet::IpNet;
use netlink::route::{IpRoute, LinkChange, MacAddress, RouteRequests, RouteSocket};
use serde::{Deserialize, Serialize};
use types::{ContainerId, EndpointId};

use crate::endpoint::{Endpoint, JoinRequest};
use crate::fabric::Fabric;
use crate::options::valid_interface_name;
use crate::port::{PortSpec, PublishedPort};
use crate::port_table::Reserved;
use crate::rate::{Rate, limit_index, limit_link};
use crate::resolver::{self, Process, ResolverSockets};
use crate::sandbox::{Pair, SPARE, Sandbox, make_pair};
use crate::spec::{DEFAULT_MTU, NetworkSpec};
use crate::{Driver, Error, Result, links, parent, random, sysctl};

/// Where a container's names come from, beyond its networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Name servers for everything else; those of the host if none.
    pub servers: Option<Vec<IpAddr>>,
    /// Names of its own for others on its networks.
    pub links: Vec<Link>,
    /// Its resolv.conf sets `ndots` above 0.
    pub ndots_set: bool,
}

impl Resolver {
    pub(crate) fn put(&self, container: ContainerId, has_sockets: bool) -> Change {
        let upstreams = self.servers.clone().map_or(Upstreams::Host, Upstreams::List);
        Change::PutSandbox(WireSandbox {
            id: container,
            upstreams,
            links: self.links.clone(),
            ndots_set: self.ndots_set,
            has_sockets,
        })
    }
}

/// A container's network namespace with what has been done to it so far.
#[derive(Debug)]
pub struct Attachment<'a> {
    fabric: &'a Fabric,
    container: ContainerId,
    netns: OwnedFd,
    inside: RouteSocket,
    /// The sockets of a fresh namespace.
    resolver: Option<ResolverSockets>,
    spare: Option<Pair>,
    /// Places it had before.
    known: Vec<Endpoint>,
    /// Places it got.
    joined: Vec<Endpoint>,
    /// Host ports it got.
    reserved: Vec<PublishedPort>,
    finished: bool,
}

impl<'a> Attachment<'a> {
    pub(crate) fn fresh(fabric: &'a Fabric, container: ContainerId) -> Result<Self> {
        let sandbox = match fabric.stock.take() {
            Some(sandbox) => sandbox,
            None => Sandbox::prepare(&mut fabric.route())?,
        };
        let Sandbox { netns, inside, resolver, spare } = sandbox;
        Ok(Self {
            fabric,
            container,
            netns,
            inside,
            resolver: Some(resolver),
            spare,
            known: Vec::new(),
            joined: Vec::new(),
            reserved: Vec::new(),
            finished: false,
        })
    }

    pub(crate) fn of_process(
        fabric: &'a Fabric,
        container: ContainerId,
        process: Process,
        known: Vec<Endpoint>,
    ) -> Result<Self> {
        let netns = resolver::namespace_of(process)?;
        let inside = sys::netns::within(&netns, RouteSocket::open)
            .map_err(Error::io("enter a container's network namespace"))??;
        Ok(Self {
            fabric,
            container,
            netns,
            inside,
            resolver: None,
            spare: None,
            known,
            joined: Vec::new(),
            reserved: Vec::new(),
            finished: false,
        })
    }

    /// Gives the container a place on a network: a link with its addresses, up. It has no rules, names or default route
    /// before [`Self::finish`].
    ///
    /// # Errors
    /// [`Error::NetworkNotFound`], [`Error::BridgeFull`], [`Error::AddressInUse`], [`Error::AddressOutOfRange`],
    /// [`Error::AddressesExhausted`], [`Error::Config`], or what the kernel refused. Nothing of this network is left behind.
    pub fn join(&mut self, request: &JoinRequest) -> Result<&Endpoint> {
        if let Some(mac) = request.mac.filter(|mac| mac.0[0] & 1 == 1 || mac.0 == [0; 6]) {
            return Err(Error::Config(format!("invalid MAC address {mac}: it must be a unicast address")));
        }
        self.fabric.mend(&request.network)?;
        let id = EndpointId::from_random(random::bytes()?);
        let (spec, ipv4, ipv6) = {
            let mut state = self.fabric.state();
            let net = state.networks.get_mut(&request.network).ok_or(Error::NetworkNotFound(request.network))?;
            net.check_room()?;
            let ipv4 = net.take(false, request.ipv4.map(IpAddr::V4))?;
            let ipv6 = match net.take(true, request.ipv6.map(IpAddr::V6)) {
                Ok(ipv6) => ipv6,
                Err(error) => {
                    ipv4.into_iter().for_each(|address| net.release(address.addr()));
                    return Err(error);
                }
            };
            net.joining += 1;
            (net.spec.clone(), ipv4, ipv6)
        };
        let built = self.build(id, request, &spec, ipv4, ipv6);
        let mut state = self.fabric.state();
        if let Some(net) = state.networks.get_mut(&request.network) {
            net.joining -= 1;
            match &built {
                Ok(_) => {
                    net.members.insert(id);
                }
                Err(_) => ipv4.into_iter().chain(ipv6).for_each(|address| net.release(address.addr())),
            }
        }
        drop(state);
        self.joined.push(built?);
        self.joined.last().ok_or(Error::EndpointNotFound(id))
    }

    fn build(
        &mut self,
        id: EndpointId,
        request: &JoinRequest,
        spec: &NetworkSpec,
        ipv4: Option<IpNet>,
        ipv6: Option<IpNet>,
    ) -> Result<Endpoint> {
        let common = spec.common()?;
        let interface = self.interface_name(request, &common.prefix)?;
        let mac = request.mac.unwrap_or_else(|| mac_of(ipv4, ipv6, &id));
        let (index, veth, bridge) = match spec.driver {
            Driver::Bridge => {
                let bridge = spec.bridge_name()?;
                let isolated = is_isolated(spec)?;
                let pair = self.plug(&bridge, &interface, common.mtu.unwrap_or(DEFAULT_MTU), isolated)?;
                (pair.interface, Some(pair.veth), Some(bridge))
            }
            Driver::Macvlan | Driver::Ipvlan => {
                let name = links::veth_name()?;
                let mut host = self.fabric.route();
                parent::make_link(&mut host, spec, &name, self.netns.as_fd(), common.mtu)?;
                drop(host);
                self.put_spare_aside()?;
                let index = self.rename(&name, &interface)?;
                (index, None, None)
            }
            Driver::Host | Driver::Null => {
                return Err(Error::Config(format!(
                    "a container cannot join a network of driver {}",
                    spec.driver.as_str()
                )));
            }
        };
        let gateway = |ipv6: bool| spec.gateway(ipv6).filter(|_| !spec.internal);
        let endpoint = Endpoint {
            id,
            network: spec.id,
            network_name: spec.name.clone(),
            container: self.container,
            interface,
            isolated: is_isolated(spec)?,
            bridge,
            veth,
            ipv4: v4(ipv4),
            gateway4: match gateway(false) {
                Some(IpAddr::V4(gateway)) => Some(gateway),
                _ => None,
            },
            ipv6: v6(ipv6),
            gateway6: match gateway(true) {
                Some(IpAddr::V6(gateway)) => Some(gateway),
                _ => None,
            },
            mac,
            internal: spec.internal,
            priority: request.priority,
            rate: request.rate.or(common.rate),
            names: request.names.clone(),
            ports: Vec::new(),
        };
        let keeps_mac = spec.driver != Driver::Ipvlan;
        let mtu = (spec.driver == Driver::Bridge).then(|| common.mtu.unwrap_or(DEFAULT_MTU));
        let configured = self.configure(&endpoint, index, keeps_mac, mtu, &request.sysctls);
        if let Err(error) = configured {
            self.unplug(&endpoint);
            return Err(error);
        }
        Ok(endpoint)
    }

    /// A veth pair in the bridge: the prepared one, or a new one.
    fn plug(&mut self, bridge: &str, interface: &str, mtu: u32, isolated: bool) -> Result<Pair> {
        let mut host = self.fabric.route();
        let pair = match self.spare.take() {
            Some(spare) => spare,
            None => make_pair(&mut host, &mut self.inside, self.netns.as_fd(), interface, mtu)?,
        };
        let vanished = || Error::Config(format!("bridge {bridge} is missing; it comes back within a second"));
        let plugged = (|| {
            let master = host.link(bridge)?.ok_or_else(vanished)?.index;
            let mut requests = RouteRequests::new();
            let change = LinkChange { up: Some(true), master: Some(master), mtu: Some(mtu), ..LinkChange::default() };
            requests.change_link_by_name(&pair.veth, &change);
            let port = LinkChange { hairpin: Some(true), isolated: Some(isolated), ..LinkChange::default() };
            requests.change_port(&pair.veth, &port);
            host.apply(requests)?;
            Ok(())
        })();
        drop(host);
        let plugged = plugged.and_then(|()| {
            if interface == SPARE {
                return Ok(());
            }
            let mut requests = RouteRequests::new();
            let change = LinkChange { name: Some(interface.parse()?), ..LinkChange::default() };
            requests.change_link(pair.interface, &change);
            Ok(self.inside.apply(requests)?)
        });
        match plugged {
            Ok(()) => Ok(pair),
            Err(error) => {
                self.fabric.stock.sweep(pair.veth);
                Err(error)
            }
        }
    }

    /// Takes back what was plugged in for an endpoint that did not come about. What fails is logged.
    fn unplug(&mut self, endpoint: &Endpoint) {
        if let Some(veth) = &endpoint.veth {
            self.fabric.stock.sweep(veth.clone());
            return;
        }
        // A link on a parent would go on living on the parent's network.
        let mut requests = RouteRequests::new();
        requests.delete_link(&endpoint.interface);
        match self.inside.apply(requests) {
            Err(error) if !error.is_absent() => {
                tracing::warn!(container = %self.container, %error, "a link stays in a container's namespace");
            }
            _ => {}
        }
    }

    /// The prepared link is in the way of names where no bridge takes it.
    fn put_spare_aside(&mut self) -> Result<()> {
        let Some(spare) = self.spare.take() else { return Ok(()) };
        let aside = links::veth_name()?;
        let mut requests = RouteRequests::new();
        requests.change_link(spare.interface, &LinkChange { name: Some(aside.parse()?), ..LinkChange::default() });
        let renamed = self.inside.apply(requests);
        if !self.fabric.stock.delete(spare.veth.clone()) {
            self.fabric.stock.sweep(spare.veth);
        }
        Ok(renamed?)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<u32> {
        let vanished = || Error::Config(format!("link {from} vanished from a container's namespace"));
        let index = self.inside.link(from)?.ok_or_else(vanished)?.index;
        let mut requests = RouteRequests::new();
        requests.change_link(index, &LinkChange { name: Some(to.parse()?), ..LinkChange::default() });
        self.inside.apply(requests)?;
        Ok(index)
    }

    /// Addresses, hardware address, settings; then up, and as fast as it may be.
    fn configure(
        &mut self,
        endpoint: &Endpoint,
        index: u32,
        set_mac: bool,
        mtu: Option<u32>,
        sysctls: &[(String, String)],
    ) -> Result<()> {
        let interface = &endpoint.interface;
        if endpoint.ipv6.is_some() || !sysctls.is_empty() {
            let ipv6 = endpoint.ipv6.is_some();
            let set = || -> Result<()> {
                if ipv6 {
                    sysctl::set(&format!("ipv6/conf/{interface}/disable_ipv6"), "0")?;
                    sysctl::set(&format!("ipv6/conf/{interface}/accept_ra"), "0")?;
                }
                sysctls.iter().try_for_each(|(name, value)| set_own(name, value, interface))
            };
            sys::netns::within(&self.netns, set).map_err(Error::io("enter a container's network namespace"))??;
        }
        let mut requests = RouteRequests::new();
        let mac = set_mac.then_some(endpoint.mac);
        requests.change_link(index, &LinkChange { up: Some(true), mac, mtu, ..LinkChange::default() });
        let addresses = endpoint.ipv4.map(IpNet::V4).into_iter().chain(endpoint.ipv6.map(IpNet::V6));
        for address in addresses {
            requests.add_sole_address(index, address.addr(), address.prefix_len());
        }
        self.inside.apply(requests)?;
        self.limit(endpoint, index, endpoint.rate)
    }

    fn limit(&mut self, endpoint: &Endpoint, index: u32, rate: Rate) -> Result<()> {
        if let Some(veth) = &endpoint.veth {
            limit_link(&mut self.fabric.route(), veth, rate.ingress)?;
        } else if rate.ingress.is_some() {
            return Err(Error::Unsupported(format!(
                "bandwidth towards a container cannot be limited on network {}: its driver has no link on the host",
                endpoint.network_name
            )));
        }
        limit_index(&mut self.inside, index, rate.egress)
    }

    /// The name that was asked for, or the prefix with the lowest number that is free.
    fn interface_name(&self, request: &JoinRequest, prefix: &str) -> Result<String> {
        let taken = |name: &str| self.known.iter().chain(&self.joined).any(|other| other.interface == name);
        if let Some(name) = &request.interface {
            if !valid_interface_name(name) {
                return Err(Error::Config(format!(
                    "invalid interface name {name:?}: use 1 to 15 letters, digits, '-', '_' or '.'"
                )));
            }
            if taken(name) {
                return Err(Error::Config(format!(
                    "interface name {name:?} is used by another network of the container"
                )));
            }
            return Ok(name.clone());
        }
        // As many as there may be endpoints.
        let free = (0..=self.known.len() + self.joined.len()).map(|number| format!("{prefix}{number}"));
        free.into_iter()
            .find(|name| !taken(name))
            .ok_or_else(|| Error::Config(format!("no name is left for an interface {prefix}N")))
    }

    /// Takes the container off a network it is on. Its ports go with the default route, see [`Self::finish`].
    ///
    /// # Errors
    /// [`Error::EndpointNotFound`], or when the namespace cannot be changed.
    pub fn leave(&mut self, id: &EndpointId) -> Result<()> {
        let at = self.known.iter().position(|known| known.id == *id).ok_or(Error::EndpointNotFound(*id))?;
        let endpoint = self.known.remove(at);
        let mut changes = Vec::new();
        if !endpoint.ports.is_empty() {
            changes.push(Change::Unpublish { endpoint: endpoint.id });
        }
        changes.push(Change::RemovePlace { endpoint: endpoint.id });
        if let Err(error) = self.fabric.control.change(changes, &[]) {
            // It is told with the next change.
            tracing::warn!(container = %self.container, %error, "names and ports of a network are taken back late");
        }
        // Out of sight at once, under a name nobody asks for; deleting it waits for the kernel.
        let aside = links::veth_name()?;
        let hidden = (|| -> Result<()> {
            let Some(link) = self.inside.link(&endpoint.interface)? else { return Ok(()) };
            let mut requests = RouteRequests::new();
            requests.change_link(link.index, &LinkChange { up: Some(false), ..LinkChange::default() });
            requests.change_link(link.index, &LinkChange { name: Some(aside.parse()?), ..LinkChange::default() });
            self.inside.apply(requests)?;
            if endpoint.veth.is_none() {
                let mut requests = RouteRequests::new();
                requests.delete_link(&aside);
                self.inside.apply(requests)?;
            }
            Ok(())
        })();
        if let Some(veth) = &endpoint.veth
            && !self.fabric.stock.delete(veth.clone())
        {
            self.fabric.stock.sweep(veth.clone());
        }
        self.fabric.state().forget(&endpoint);
        hidden
    }

    /// Changes the bandwidth of a place the container has.
    ///
    /// # Errors
    /// [`Error::EndpointNotFound`], or what the kernel refused.
    pub fn set_rate(&mut self, id: &EndpointId, rate: Rate) -> Result<()> {
        let at = self.known.iter().position(|known| known.id == *id).ok_or(Error::EndpointNotFound(*id))?;
        let endpoint = self.known[at].clone();
        let link = self.inside.link(&endpoint.interface)?.ok_or(Error::EndpointNotFound(*id))?;
        self.limit(&endpoint, link.index, rate)?;
        self.known[at].rate = rate;
        if let Some(kept) = self.fabric.state().endpoints.get_mut(id) {
            kept.rate = rate;
        }
        Ok(())
    }

    /// Changes the names of a place the container has.
    ///
    /// # Errors
    /// [`Error::EndpointNotFound`], or when `dhow-net` cannot be told.
    pub fn set_names(&mut self, id: &EndpointId, names: Vec<String>) -> Result<()> {
        let known = self.known.iter_mut().find(|known| known.id == *id).ok_or(Error::EndpointNotFound(*id))?;
        let before = std::mem::replace(&mut known.names, names);
        let told = self.fabric.control.change(vec![Change::PutPlace(known.place())], &[]);
        if told.is_err() {
            known.names = before;
        }
        told
    }

    /// Puts everything in force: default routes by the endpoint that comes first, ports on the same one, names. Gives
    /// the namespace and every place the container has now.
    ///
    /// # Errors
    /// [`Error::PortAllocated`], [`Error::PortBind`], [`Error::PortsExhausted`], or what the kernel or `dhow-net` refused.
    /// What this [`Attachment`] added is gone then.
    pub fn finish(mut self, resolver: &Resolver, ports: &[PortSpec]) -> Result<(OwnedFd, Vec<Endpoint>)> {
        let mut endpoints: Vec<Endpoint> = self.known.iter().chain(&self.joined).cloned().collect();
        self.set_default_routes(&endpoints)?;
        let published = endpoints.iter().position(|endpoint| !endpoint.ports.is_empty());
        let leader = leader(&endpoints);
        let mut changes = Vec::new();
        let mut sockets: Vec<OwnedFd> = Vec::new();
        let own = self.resolver.take();
        // Also of a container that runs: a network brings links with it.
        changes.push(resolver.put(self.container, own.is_some()));
        sockets.extend(own.into_iter().flat_map(|own| [own.udp, own.tcp]));
        changes.extend(self.joined.iter().map(|endpoint| Change::PutPlace(endpoint.place())));
        let moves = published.is_some() && published != leader;
        if let (true, Some(at)) = (moves, published) {
            // The reserving sockets have to go before they can be bound again.
            self.fabric.control.change(vec![Change::Unpublish { endpoint: endpoints[at].id }], &[])?;
            let ports = std::mem::take(&mut endpoints[at].ports);
            let mut state = self.fabric.state();
            state.ports.release(&ports);
            if let Some(kept) = state.endpoints.get_mut(&endpoints[at].id) {
                kept.ports.clear();
            }
        }
        if (published.is_none() || moves)
            && let Some(at) = leader.filter(|_| !ports.is_empty())
        {
            let target = endpoints[at].addresses().next().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            let spec = self.fabric.network(&endpoints[at].network);
            let bindings = spec.map(|spec| self.fabric.default_bindings(&spec)).unwrap_or_default();
            let reserved = self.fabric.reserve(ports, &bindings, target, &endpoints[at])?;
            let mut sent = Vec::with_capacity(reserved.len());
            for Reserved { port, socket } in reserved {
                endpoints[at].ports.push(port);
                sent.push(socket.is_some());
                sockets.extend(socket);
            }
            self.reserved.clone_from(&endpoints[at].ports);
            changes.push(endpoints[at].publish(sent));
        }
        let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        self.fabric.control.change(changes, &fds)?;
        self.finished = true;
        let mut state = self.fabric.state();
        for endpoint in &endpoints {
            state.endpoints.insert(endpoint.id, endpoint.clone());
        }
        drop(state);
        for endpoint in &endpoints {
            let addresses: Vec<IpAddr> = endpoint.addresses().collect();
            self.fabric.forget_datagrams(&endpoint.ports, &addresses);
        }
        let netns = self.netns.try_clone().map_err(Error::io("copy a descriptor"))?;
        Ok((netns, endpoints))
    }

    fn set_default_routes(&mut self, endpoints: &[Endpoint]) -> Result<()> {
        let order = order(endpoints);
        let first4 = order.iter().find(|at| endpoints[**at].gateway4.is_some());
        let first6 = order.iter().find(|at| endpoints[**at].gateway6.is_some());
        let mut requests = RouteRequests::new();
        for (family, first) in
            [(IpAddr::V4(Ipv4Addr::UNSPECIFIED), first4), (IpAddr::V6(Ipv6Addr::UNSPECIFIED), first6)]
        {
            let Some(endpoint) = first.map(|at| &endpoints[*at]) else { continue };
            let gateway = match family {
                IpAddr::V4(_) => endpoint.gateway4.map(IpAddr::V4),
                IpAddr::V6(_) => endpoint.gateway6.map(IpAddr::V6),
            };
            let link = self.inside.link(&endpoint.interface)?.map(|link| link.index);
            requests.set_ip_route(&IpRoute { gateway, link, ..IpRoute::to(family, 0) });
        }
        Ok(self.inside.apply(requests)?)
    }
}

impl Drop for Attachment<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut state = self.fabric.state();
        state.ports.release(&self.reserved);
        for endpoint in &self.joined {
            state.forget(endpoint);
        }
        drop(state);
        for endpoint in std::mem::take(&mut self.joined) {
            self.unplug(&endpoint);
        }
    }
}

/// Whether the container's port of the bridge is kept apart from others. Where bridged frames pass the firewall the rules do
/// that, and published ports are translated inside the bridge, which isolated ports would not let through.
fn is_isolated(spec: &NetworkSpec) -> Result<bool> {
    Ok(spec.driver == Driver::Bridge && !spec.bridge_options()?.icc && !firewall::bridges_are_filtered())
}

/// Which endpoint has the default route and the published ports: the first in order with a way out.
fn leader(endpoints: &[Endpoint]) -> Option<usize> {
    let way_out = |endpoint: &Endpoint| endpoint.gateway4.is_some() || endpoint.gateway6.is_some();
    order(endpoints).into_iter().find(|at| way_out(&endpoints[*at]) && endpoints[*at].bridge.is_some())
}

/// Endpoints by priority, then by the name of their network.
fn order(endpoints: &[Endpoint]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..endpoints.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&endpoints[*a], &endpoints[*b]);
        b.priority.cmp(&a.priority).then_with(|| a.network_name.cmp(&b.network_name))
    });
    order
}

fn v4(net: Option<IpNet>) -> Option<ipnet::Ipv4Net> {
    match net {
        Some(IpNet::V4(net)) => Some(net),
        _ => None,
    }
}

fn v6(net: Option<IpNet>) -> Option<ipnet::Ipv6Net> {
    match net {
        Some(IpNet::V6(net)) => Some(net),
        _ => None,
    }
}

/// Docker's hardware address of a container: two fixed bytes and the IPv4 address, so that neighbours which remember an
/// earlier owner of the address stay right. Without IPv4, the last bytes of the endpoint's id.
fn mac_of(ipv4: Option<IpNet>, ipv6: Option<IpNet>, id: &EndpointId) -> MacAddress {
    if let Some(IpNet::V4(net)) = ipv4 {
        let [a, b, c, d] = net.addr().octets();
        return MacAddress([0x02, 0x42, a, b, c, d]);
    }
    let mut mac = [0x02, 0x42, 0, 0, 0, 0];
    if let Some(IpNet::V6(net)) = ipv6 {
        mac[2..].copy_from_slice(&net.addr().octets()[12..]);
    } else {
        let text = id.to_string();
        for (index, byte) in mac[2..].iter_mut().enumerate() {
            *byte = text.get(2 * index..2 * index + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(0);
        }
    }
    MacAddress(mac)
}

/// Sets one of a link's own settings: `net.ipv4.conf.IFNAME.…` and the like. Names come from outside.
fn set_own(name: &str, value: &str, interface: &str) -> Result<()> {
    let invalid = |why: &str| Error::Config(format!("invalid sysctl {name:?} of an endpoint: {why}"));
    let path = name.replace('.', "/").replace("IFNAME", interface);
    let path = path.strip_prefix("net/").ok_or_else(|| invalid("it must begin with net."))?;
    let mut parts = path.split('/');
    let family = parts.next().unwrap_or_default();
    let group = parts.next().unwrap_or_default();
    if !matches!(family, "ipv4" | "ipv6" | "mpls") || !matches!(group, "conf" | "neigh") {
        return Err(invalid("only settings of one interface can be set, such as net.ipv4.conf.IFNAME.log_martians"));
    }
    let own = path.contains(&format!("/{interface}/"));
    let plain = path.split('/').all(|part| !part.is_empty() && part != "..");
    if !own || !plain || path.bytes().any(|byte| byte == 0) || Path::new(path).is_absolute() {
        return Err(invalid("IFNAME must stand for the interface"));
    }
    sysctl::set(path, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_is_dockers() {
        let id = EndpointId::from_random([0xcd; 32]);
        assert_eq!(mac_of("172.17.0.2/16".parse().ok(), None, &id).to_string(), "02:42:ac:11:00:02");
        assert_eq!(mac_of(None, "fd00::1:2/64".parse().ok(), &id).to_string(), "02:42:00:01:00:02");
        assert_eq!(mac_of(None, None, &id).to_string(), "02:42:cd:cd:cd:cd");
    }

    #[test]
    fn only_settings_of_the_own_interface_are_set() {
        for name in [
            "kernel.hostname",
            "net.ipv4.ip_forward",
            "net.core.somaxconn",
            "net.ipv4.conf.all.forwarding",
            "net.ipv4.conf.IFNAME...forwarding",
            "net.ipv4.conf.IFNAME/../all/forwarding",
        ] {
            assert!(set_own(name, "1", "eth0").is_err(), "{name}");
        }
    }
}
