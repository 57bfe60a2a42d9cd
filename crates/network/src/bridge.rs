//! One bridge network: its link, addresses, ports, rules and slots.
//!
//! The invariant: what [`Bridge`] believes about addresses and ports is what the kernel has in force. Each attach either
//! takes effect as a whole or leaves nothing behind, and the rules of running containers are replaced in one
//! transaction, never taken away first, when a new daemon takes over. Owned by `engine`, which keeps the
//! [`Endpoint`]s and hands them back at the next start.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netlink::conntrack::{Connection, ConntrackSocket};
use netlink::nftables::{NftSocket, Transaction};
use netlink::route::{Link, LinkChange, MacAddress, RouteRequests, RouteSocket};
use types::{ContainerId, EndpointId, NetworkId, Protocol};

use crate::address_pool::AddressPool;
use crate::bridge_link::{choose_addresses, make_link, slot_veths};
use crate::endpoint::{AttachRequest, Endpoint, Slot};
use crate::firewall_watch::{FirewallWatch, Repair};
use crate::network_info::{Driver, NetworkInfo};
use crate::port::{PublishedPort, protocol_number};
use crate::port_table::PortTable;
use crate::ruleset::Ruleset;
use crate::slot::{PreparedSlot, SlotSite};
use crate::stock::{Stock, delete_leftovers};
use crate::subnet::{Subnet, docker_address_pools};
use crate::{Error, Result, foreign_firewall, random, sysctl};

/// Smallest packet size IPv4 allows a link to have, and the largest IPv4 packet.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65535;

/// Settings of a bridge network.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// Name of the bridge link, at most 15 bytes.
    pub name: String,
    /// Name of the nf_tables table, which belongs to this bridge alone.
    pub table: String,
    /// Subnet; the first candidate that overlaps nothing of the host if none.
    pub subnet: Option<Subnet>,
    /// Address of the bridge; the first host address of the subnet if none.
    pub gateway: Option<Ipv4Addr>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Subnets to choose from, best first.
    pub candidates: Vec<Subnet>,
    /// Host address ports are published on unless a container asks for another.
    pub default_binding: Ipv4Addr,
    /// Whether containers may talk to each other unasked.
    pub icc: bool,
    /// Whether connections to elsewhere take the host's address.
    pub masquerade: bool,
    /// Slots kept ready at quiet times; 0 prepares none ahead.
    pub idle_slots: usize,
    /// Slots kept ready under load.
    pub idle_slots_max: usize,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            name: "dhow0".into(),
            table: "dhow".into(),
            subnet: None,
            gateway: None,
            mtu: 1500,
            candidates: docker_address_pools(),
            default_binding: Ipv4Addr::UNSPECIFIED,
            icc: true,
            masquerade: true,
            idle_slots: 2,
            idle_slots_max: 8,
        }
    }
}

/// A bridge network in force.
///
/// Its sockets and its thread belong to the network namespace of the thread that called [`Bridge::setup`]; host ports
/// are bound by the thread that calls [`Bridge::attach`], which must be in the same one.
#[derive(Debug)]
pub struct Bridge {
    config: BridgeConfig,
    link: u32,
    ruleset: Ruleset,
    site: SlotSite,
    route: Mutex<RouteSocket>,
    nft: Arc<Mutex<NftSocket>>,
    conntrack: Mutex<ConntrackSocket>,
    state: Arc<Mutex<State>>,
    stock: Stock,
    watch: FirewallWatch,
    /// Value of `ip_forward` before it was switched on here.
    forward_before: Option<String>,
}

#[derive(Debug)]
struct State {
    addresses: AddressPool,
    ports: PortTable,
    endpoints: HashMap<EndpointId, Endpoint>,
    /// Slots' veth pairs found on the bridge at the start.
    strays: Vec<String>,
}

impl Bridge {
    /// Makes the bridge, or takes over the one of that name, in the calling thread's network namespace.
    ///
    /// `running` are the endpoints of containers that outlived the last daemon: their ports are in the first and only
    /// transaction that replaces the rules, so that not a packet to them is lost.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that contradict each other or the link there is, [`Error::SubnetsExhausted`], or
    /// what the kernel refused. A link made here is removed again.
    pub fn setup(config: BridgeConfig, running: &[Endpoint]) -> Result<Self> {
        check(&config)?;
        let mut route = RouteSocket::open()?;
        let mut nft = NftSocket::open()?;
        let conntrack = ConntrackSocket::open()?;
        let present = route.link(&config.name)?;
        let made = present.is_none();
        let result = Self::bring_up(&config, present, &mut route, &mut nft, running);
        match result {
            Ok(parts) => {
                let (nft, state) = (Arc::new(Mutex::new(nft)), Arc::new(Mutex::new(parts.state)));
                let watch = FirewallWatch::start(&parts.ruleset, &nft, {
                    let (ruleset, nft, state) = (parts.ruleset.clone(), Arc::clone(&nft), Arc::clone(&state));
                    move |repair| match repair {
                        Repair::Everything => restore_rules(&ruleset, &state, &nft),
                        Repair::ForeignChains => admit(&ruleset, &nft),
                    }
                })?;
                Ok(Self {
                    config,
                    link: parts.link,
                    ruleset: parts.ruleset,
                    site: parts.site,
                    route: Mutex::new(route),
                    nft,
                    conntrack: Mutex::new(conntrack),
                    state,
                    stock: parts.stock,
                    watch,
                    forward_before: parts.forward_before,
                })
            }
            Err(error) => {
                if made {
                    let mut requests = RouteRequests::new();
                    requests.delete_link(&config.name);
                    // The first failure is the one to report; there may be nothing to delete.
                    let _ = route.apply(requests);
                    let mut removal = Transaction::new(&config.table);
                    removal.delete_table();
                    let _ = nft.apply(removal);
                }
                Err(error)
            }
        }
    }

    fn bring_up(
        config: &BridgeConfig,
        present: Option<Link>,
        route: &mut RouteSocket,
        nft: &mut NftSocket,
        running: &[Endpoint],
    ) -> Result<Parts> {
        let (subnet, gateway) = choose_addresses(config, present.as_ref(), route)?;
        let link = match present {
            Some(link) if link.kind != "bridge" => {
                let text = format!("{} exists and is no bridge; configure another name", config.name);
                return Err(Error::Config(text));
            }
            Some(link) => link,
            None => make_link(config, route)?,
        };
        let name = &config.name;
        // Published ports are reached from the host's loopback as well; the rules keep everybody else out.
        sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
        sysctl::set_if_present(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
        sysctl::set_if_present(&format!("ipv6/conf/{name}/disable_ipv6"), "1")?;

        let ruleset = Ruleset {
            table: config.table.clone(),
            bridge: name.clone(),
            subnet,
            gateway,
            icc: config.icc,
            masquerade: config.masquerade,
        };
        let mut state = State {
            addresses: AddressPool::new(subnet, gateway),
            ports: PortTable::new(),
            endpoints: HashMap::new(),
            strays: slot_veths(route, link.index)?,
        };
        for endpoint in running {
            state.adopt(endpoint);
        }
        // The rules come before the address, so that the bridge never forwards unguarded.
        nft.apply(ruleset.install(targets(state.endpoints.values())))?;

        let mut requests = RouteRequests::new();
        requests
            .change_link(link.index, &LinkChange { up: Some(true), mtu: Some(config.mtu), ..LinkChange::default() });
        route.apply(requests)?;
        let mut requests = RouteRequests::new();
        requests.add_address(link.index, gateway, subnet.prefix());
        match route.apply(requests) {
            Err(error) if error.is_exists() => {}
            other => other?,
        }
        if let Err(error) = foreign_firewall::admit(nft, &ruleset.table, name) {
            tracing::warn!(%error, bridge = name, "cannot make room in another firewall; containers may be cut off");
        }
        let forward_before = sysctl::read(sysctl::IP_FORWARD).ok().filter(|value| value == "0");
        sysctl::set(sysctl::IP_FORWARD, "1")?;
        let site = SlotSite { bridge: link.index, mtu: config.mtu };
        let stock = Stock::start(site.clone(), config.idle_slots, config.idle_slots_max)?;
        Ok(Parts { link: link.index, ruleset, site, state, stock, forward_before })
    }

    /// Gives a container a slot: namespace, address, route and published ports.
    ///
    /// # Errors
    /// [`Error::PortAllocated`], [`Error::PortBind`], [`Error::PortsExhausted`] for ports; [`Error::AddressInUse`],
    /// [`Error::AddressOutOfRange`], [`Error::AddressesExhausted`] for addresses; or what the kernel refused. Nothing is
    /// left behind.
    pub fn attach(&self, container: ContainerId, request: &AttachRequest) -> Result<Slot> {
        let mtu = request.mtu.unwrap_or(self.config.mtu);
        if !MTU_RANGE.contains(&mtu) {
            return Err(Error::Config(format!("invalid MTU {mtu}: it must be 68 to 65535 bytes")));
        }
        if let Some(mac) = request.mac.filter(|mac| mac.0[0] & 1 == 1 || mac.0 == [0; 6]) {
            return Err(Error::Config(format!("invalid MAC address {mac}: it must be a unicast address")));
        }
        let id = EndpointId::from_random(random::bytes()?);
        let (ip, ports) = self.reserve(request)?;
        match self.build(id, container, request, ip, mtu, &ports) {
            Ok(slot) => Ok(slot),
            Err(error) => {
                let mut state = self.state();
                state.ports.release(&ports);
                state.addresses.release(ip);
                Err(error)
            }
        }
    }

    fn reserve(&self, request: &AttachRequest) -> Result<(Ipv4Addr, Vec<PublishedPort>)> {
        let subnet = self.ruleset.subnet;
        let network = || self.config.name.clone();
        let mut state = self.state();
        let ip = match request.ip {
            Some(address) if !subnet.is_host(address) => {
                return Err(Error::AddressOutOfRange { address, network: network(), subnet });
            }
            Some(address) if !state.addresses.take(address) => return Err(Error::AddressInUse(address)),
            Some(address) => address,
            None => {
                state.addresses.take_next().ok_or_else(|| Error::AddressesExhausted { network: network(), subnet })?
            }
        };
        match state.ports.reserve(&request.ports, self.config.default_binding, ip) {
            Ok(ports) => Ok((ip, ports)),
            Err(error) => {
                state.addresses.release(ip);
                Err(error)
            }
        }
    }

    fn build(
        &self,
        id: EndpointId,
        container: ContainerId,
        request: &AttachRequest,
        ip: Ipv4Addr,
        mtu: u32,
        ports: &[PublishedPort],
    ) -> Result<Slot> {
        let prepared = match self.stock.take() {
            Some(prepared) => prepared,
            None => PreparedSlot::prepare(&mut self.route(), &self.site)?,
        };
        let mac = request.mac.unwrap_or_else(|| mac_of(ip));
        let (prefix, gateway) = (self.ruleset.subnet.prefix(), self.ruleset.gateway);
        let veth = prepared.veth.clone();
        let netns = prepared.configure(ip, prefix, gateway, mac, mtu)?;
        let endpoint = Endpoint { id, container, ip, prefix, gateway, mac, veth, ports: ports.to_vec() };
        // The rules and the record change under one lock: a restore of the rules in between would lose or double ports.
        let mut state = self.state();
        if !ports.is_empty() {
            self.nft().apply(self.ruleset.publish(ip, ports))?;
        }
        state.endpoints.insert(id, endpoint.clone());
        drop(state);
        self.forget_datagrams(ports, ip);
        Ok(Slot { netns, endpoint })
    }

    /// Takes back an endpoint of a container found running after [`Self::setup`]; its namespace is not touched.
    ///
    /// # Errors
    /// What the kernel refused while publishing its ports again.
    pub fn adopt(&self, endpoint: &Endpoint) -> Result<()> {
        let mut state = self.state();
        if state.endpoints.contains_key(&endpoint.id) {
            return Ok(());
        }
        state.adopt(endpoint);
        // As a whole, since the ports may be in force already.
        let install = self.ruleset.install(targets(state.endpoints.values()));
        Ok(self.nft().apply(install)?)
    }

    /// Ends an endpoint: its ports are closed and its address is free when this returns; what is left of its link goes
    /// in the background.
    ///
    /// # Errors
    /// [`Error::EndpointNotFound`], or the kernel's refusal to close the ports; the endpoint is gone even then.
    pub fn release(&self, id: &EndpointId) -> Result<()> {
        let mut state = self.state();
        let endpoint = state.endpoints.remove(id).ok_or(Error::EndpointNotFound(*id))?;
        let closed = if endpoint.ports.is_empty() { Ok(()) } else { self.unpublish(&endpoint) };
        state.ports.release(&endpoint.ports);
        state.addresses.release(endpoint.ip);
        drop(state);
        self.stock.sweep(endpoint.veth);
        closed
    }

    fn unpublish(&self, endpoint: &Endpoint) -> Result<()> {
        let mut nft = self.nft();
        match nft.apply(self.ruleset.unpublish(&endpoint.ports)) {
            Err(error) if error.is_absent() => {
                // Somebody flushed the table: the ports that are left go one by one.
                for port in &endpoint.ports {
                    match nft.apply(self.ruleset.unpublish(std::slice::from_ref(port))) {
                        Err(error) if !error.is_absent() => return Err(error.into()),
                        _ => {}
                    }
                }
            }
            other => other?,
        }
        drop(nft);
        self.forget_datagrams(&endpoint.ports, endpoint.ip);
        Ok(())
    }

    /// Makes the kernel look up the translation of datagrams anew. Peers that keep sending would otherwise keep the old
    /// one.
    fn forget_datagrams(&self, ports: &[PublishedPort], container: Ipv4Addr) {
        let ports: Vec<u16> = ports.iter().filter(|p| p.protocol == Protocol::Udp).map(|p| p.host_port).collect();
        if ports.is_empty() {
            return;
        }
        let udp = protocol_number(Protocol::Udp);
        let stale = |connection: &Connection| {
            connection.protocol == udp
                && (connection.responder == container || ports.contains(&connection.destination_port))
        };
        if let Err(error) = self.conntrack.lock().unwrap_or_else(PoisonError::into_inner).forget(stale) {
            tracing::warn!(%error, "cannot forget tracked datagrams; peers that keep sending may reach an old container");
        }
    }

    /// Puts all rules in force again, in one transaction, after somebody flushed the firewall. The bridge does so by itself
    /// when the kernel tells it; this is for where that is not possible.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn restore_rules(&self) -> Result<()> {
        restore_rules(&self.ruleset, &self.state, &self.nft)
    }

    /// Whether the table of rules exists.
    ///
    /// # Errors
    /// As any request to the kernel.
    pub fn rules_in_force(&self) -> Result<bool> {
        Ok(self.nft().tables()?.contains(&self.ruleset.table))
    }

    /// Deletes the veth pairs that were on this bridge when it was set up and belong to no endpoint, as a killed daemon
    /// may leave them. Call it once, after every running container has been adopted. Returns at once.
    pub fn reconcile(&self) {
        let mut state = self.state();
        let strays = std::mem::take(&mut state.strays);
        for stray in strays {
            if !state.endpoints.values().any(|endpoint| endpoint.veth == stray) {
                self.stock.sweep(stray);
            }
        }
    }

    /// The endpoints there are.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.state().endpoints.values().cloned().collect()
    }

    /// One endpoint.
    #[must_use]
    pub fn endpoint(&self, id: &EndpointId) -> Option<Endpoint> {
        self.state().endpoints.get(id).cloned()
    }

    /// The subnet.
    #[must_use]
    pub fn subnet(&self) -> Subnet {
        self.ruleset.subnet
    }

    /// Address of the bridge.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.ruleset.gateway
    }

    /// How many slots are prepared.
    #[must_use]
    pub fn idle_slots(&self) -> usize {
        self.stock.idle()
    }

    /// What `network inspect` shows of the default network, options as dockerd lists them.
    #[must_use]
    pub fn info(&self, id: NetworkId, name: &str) -> NetworkInfo {
        let option = |key: &str, value: String| (format!("com.docker.network.{key}"), value);
        let options = BTreeMap::from([
            option("bridge.default_bridge", "true".into()),
            option("bridge.enable_icc", self.config.icc.to_string()),
            option("bridge.enable_ip_masquerade", self.config.masquerade.to_string()),
            option("bridge.host_binding_ipv4", self.config.default_binding.to_string()),
            option("bridge.name", self.config.name.clone()),
            option("driver.mtu", self.config.mtu.to_string()),
        ]);
        NetworkInfo {
            id,
            name: name.into(),
            driver: Driver::Bridge,
            subnet: Some(self.ruleset.subnet),
            gateway: Some(self.ruleset.gateway),
            options,
        }
    }

    /// Removes everything: slots, links, rules, and the forwarding switched on at the start. For tests and for a daemon
    /// told to leave nothing; running containers lose their network.
    ///
    /// # Errors
    /// The first refusal of the kernel; everything else is removed all the same.
    pub fn teardown(&self) -> Result<()> {
        self.watch.stop();
        self.stock.stop();
        let mut route = self.route();
        let veths = slot_veths(&mut route, self.link)?;
        delete_leftovers(&mut route, &veths, random::bytes::<4>().map(u32::from_ne_bytes)? | 0x8000_0000);
        let mut requests = RouteRequests::new();
        requests.delete_link(&self.config.name);
        let link = route.apply(requests).map_err(Error::from);
        let mut nft = self.nft();
        let rules = nft.apply(self.ruleset.remove()).map_err(Error::from);
        let foreign = foreign_firewall::withdraw(&mut nft, &self.ruleset.table, &self.config.name);
        let forward = self.forward_before.as_ref().map_or(Ok(()), |value| sysctl::set(sysctl::IP_FORWARD, value));
        let mut state = self.state();
        let endpoints = std::mem::take(&mut state.endpoints);
        for endpoint in endpoints.values() {
            state.ports.release(&endpoint.ports);
            state.addresses.release(endpoint.ip);
        }
        link.and(rules).and(foreign.map_err(Error::from)).and(forward)
    }

    fn route(&self) -> MutexGuard<'_, RouteSocket> {
        // The socket puts itself in step again at the next request.
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nft(&self) -> MutexGuard<'_, NftSocket> {
        self.nft.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locked before `route` and `nft` wherever both are needed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn adopt(&mut self, endpoint: &Endpoint) {
        self.addresses.adopt(endpoint.ip);
        for port in &endpoint.ports {
            if !self.ports.adopt(port) {
                tracing::warn!(
                    container = %endpoint.container, address = %port.host_ip, port = port.host_port,
                    "another program took a published port while no daemon ran; the container keeps it"
                );
            }
        }
        self.endpoints.insert(endpoint.id, endpoint.clone());
    }
}

/// What bringing up yields, before the sockets join it.
struct Parts {
    link: u32,
    ruleset: Ruleset,
    site: SlotSite,
    state: State,
    stock: Stock,
    forward_before: Option<String>,
}

fn restore_rules(ruleset: &Ruleset, state: &Mutex<State>, nft_socket: &Mutex<NftSocket>) -> Result<()> {
    let state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let mut nft = nft_socket.lock().unwrap_or_else(PoisonError::into_inner);
    nft.apply(ruleset.install(targets(state.endpoints.values())))?;
    drop(nft);
    admit(ruleset, nft_socket)
}

fn admit(ruleset: &Ruleset, nft: &Mutex<NftSocket>) -> Result<()> {
    let mut nft = nft.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(foreign_firewall::admit(&mut nft, &ruleset.table, &ruleset.bridge)?)
}

fn targets<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> impl Iterator<Item = (Ipv4Addr, &'a PublishedPort)> {
    endpoints.flat_map(|endpoint| endpoint.ports.iter().map(|port| (endpoint.ip, port)))
}

fn check(config: &BridgeConfig) -> Result<()> {
    let name = &config.name;
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    // The name becomes part of a path below /proc/sys, where two names have a meaning of their own.
    if !(1..=15).contains(&name.len())
        || !name.bytes().all(safe)
        || name.starts_with(['.', '-'])
        || matches!(name.as_str(), "all" | "default")
    {
        return Err(Error::Config(format!(
            "invalid bridge name {name:?}: use 1 to 15 letters, digits, '-', '_' or '.'"
        )));
    }
    if !MTU_RANGE.contains(&config.mtu) {
        return Err(Error::Config(format!("invalid MTU {}: it must be 68 to 65535 bytes", config.mtu)));
    }
    if let Some(subnet) = config.subnet
        && !(8..=30).contains(&subnet.prefix())
    {
        return Err(Error::Config(format!("invalid subnet {subnet}: its prefix must be 8 to 30")));
    }
    Ok(())
}

/// Docker's hardware address of a container: two fixed bytes and the IPv4 address, so that neighbours which remember an
/// earlier owner of the address stay right.
fn mac_of(ip: Ipv4Addr) -> MacAddress {
    let [a, b, c, d] = ip.octets();
    MacAddress([0x02, 0x42, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_is_dockers() {
        assert_eq!(mac_of(Ipv4Addr::new(172, 17, 0, 2)).to_string(), "02:42:ac:11:00:02");
    }

    #[test]
    fn names_that_would_leave_their_place_are_refused() {
        for name in ["", "..", "../ipv4", "all", "default", "a b", "sixteen-bytes-xx", "-x", "ü"] {
            let config = BridgeConfig { name: name.into(), ..BridgeConfig::default() };
            assert!(check(&config).is_err(), "{name:?}");
        }
        assert!(check(&BridgeConfig::default()).is_ok());
    }
}
