//! All networks of one engine: their links, subnets and members, and the ports published on the host.
//!
//! The invariant: what [`Fabric`] believes about addresses and ports is what the kernel and `dhow-net` have in force. Each
//! operation takes effect as a whole or leaves nothing behind; rules are in force before the link they guard has an
//! address, and those of running containers are replaced in one transaction when a new daemon takes over.
//! Owned by `engine`, which keeps the [`NetworkSpec`]s and [`Endpoint`]s and hands them back at the next start.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dataplane::{Change, Status};
use firewall::PortRule;
use ipnet::IpNet;
use netlink::conntrack::{Connection, ConntrackSocket};
use netlink::route::RouteSocket;
use types::{ContainerId, EndpointId, NetworkId, Protocol};

use crate::address_pool::AddressPool;
use crate::attachment::{Attachment, Resolver};
use crate::control::{Control, ProcessConfig};
use crate::endpoint::Endpoint;
use crate::firewalld::Zone;
use crate::links;
use crate::net::Net;
use crate::pools::{self, Pool};
use crate::port::{PortSpec, PublishedPort, protocol_number};
use crate::port_table::{self, PortTable, Reserved};
use crate::resolver::Process;
use crate::router::Router;
use crate::spec::{NetworkSpec, SubnetSpec};
use crate::stock::Stock;
use crate::{Driver, Error, Result, host_lock, parent};

/// Settings of an engine's networks.
#[derive(Debug, Clone)]
pub struct FabricConfig {
    /// `dhow-net`.
    pub process: ProcessConfig,
    /// Where subnets come from.
    pub pools: Vec<Pool>,
    /// Host addresses that ports are published on unless somebody asks for another; every address if none.
    pub bindings: Vec<IpAddr>,
    /// Namespaces kept ready at quiet times; 0 prepares none ahead.
    pub idle: usize,
    /// Namespaces kept ready under load.
    pub idle_max: usize,
    /// Address of the bus on which a firewalld that guards the host is told of bridges; none tells nobody.
    pub firewalld: Option<String>,
    /// Where forwarding between links is switched on, other links of the host may reach each other by it.
    pub ip_forward_no_drop: bool,
}

/// A container that outlived the last daemon.
#[derive(Debug, Clone)]
pub struct Running {
    /// The container.
    pub container: ContainerId,
    /// A process in its network namespace.
    pub process: Process,
    /// Where its names come from.
    pub resolver: Resolver,
    /// Its places, in the order it joined.
    pub endpoints: Vec<Endpoint>,
}

/// The networks of an engine.
///
/// Its sockets and threads belong to the network namespace of the thread that called [`Fabric::open`]; host ports are
/// bound by the thread that starts a container, which must be in the same one.
#[derive(Debug)]
pub struct Fabric {
    pub(crate) route: Mutex<RouteSocket>,
    conntrack: Mutex<ConntrackSocket>,
    state: Mutex<State>,
    pub(crate) stock: Stock,
    pub(crate) control: Arc<Control>,
    pools: Vec<Pool>,
    bindings: Vec<IpAddr>,
    zone: Option<Zone>,
    router: Router,
    pub(crate) host_ipv6: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) networks: HashMap<NetworkId, Net>,
    pub(crate) ports: PortTable,
    pub(crate) endpoints: HashMap<EndpointId, Endpoint>,
    /// Veth pairs found at the start.
    strays: Vec<String>,
}

/// Use of one subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubnetUse {
    /// The subnet.
    pub subnet: IpNet,
    /// Addresses that are taken, reserved ones included.
    pub in_use: u64,
    /// Addresses that containers can still get unasked.
    pub available: u64,
}

impl Fabric {
    /// Brings networks up in the calling thread's network namespace, or takes over what is there.
    ///
    /// `running` are the containers that outlived the last daemon: their rules, names and ports are in the first and only
    /// change that replaces what was in force, so that not a packet to them is lost. A network that cannot be brought up
    /// is logged, and tried again when a container joins it; but for `default`, the network of containers that ask for
    /// none, whose subnet is chosen anew where none is configured.
    ///
    /// # Errors
    /// When the default network cannot be brought up, `dhow-net` cannot be started or refuses the rules, or what the kernel
    /// refused of namespaces.
    pub fn open(
        config: FabricConfig,
        default: Option<NetworkSpec>,
        mut networks: Vec<NetworkSpec>,
        running: &[Running],
    ) -> Result<Self> {
        let mut route = RouteSocket::open()?;
        let default_id = default.as_ref().map(|spec| spec.id);
        // Until the addresses that tell other engines of the choice are there, and the rules what was switched on.
        let alone = host_lock::take();
        if let Some(mut spec) = default {
            spec.check()?;
            let ours: Vec<IpNet> = networks.iter().flat_map(|spec| spec.subnets.iter().map(|own| own.subnet)).collect();
            choose_subnets(&config.pools, &mut spec, &ours, &mut route)?;
            networks.insert(0, spec);
        }
        let mut state =
            State { networks: HashMap::new(), ports: PortTable::new(), endpoints: HashMap::new(), strays: Vec::new() };
        let mut changes = Vec::new();
        let mut raised = Vec::new();
        for spec in networks {
            let mut net = Net::new(spec);
            match net.make_link(&mut route) {
                Ok(Some(change)) => {
                    changes.push(change);
                    raised.push(net.spec.id);
                }
                Ok(None) => {}
                Err(error) if Some(net.spec.id) == default_id => return Err(error),
                Err(error) => {
                    tracing::error!(network = net.spec.name, %error, "a network cannot be brought up");
                    net.broken = Some(error.to_string());
                }
            }
            state.networks.insert(net.spec.id, net);
        }
        let bridges: Vec<String> = state.networks.values().filter_map(|net| bridge_of(&net.spec)).collect();
        state.strays = links::our_veths(&mut route, &bridges)?;
        let mut processes = HashMap::new();
        for container in running {
            processes.insert(container.container, container.process);
            changes.push(container.resolver.put(container.container, false));
            for endpoint in &container.endpoints {
                state.adopt(endpoint);
                changes.push(Change::PutPlace(endpoint.place()));
                let rules = endpoint.port_rules();
                let count = rules.len();
                // One container whose network has changed under it must not keep all others from being served.
                let fit: Vec<PortRule> = rules.into_iter().filter(|rule| fits(&changes, rule)).collect();
                if fit.len() < count {
                    tracing::error!(container = %endpoint.container, network = endpoint.network_name, "published ports do not fit their network any more; they are closed until the container starts again");
                }
                if !fit.is_empty() {
                    let sockets = vec![false; fit.len()];
                    changes.push(Change::Publish { endpoint: endpoint.id, ports: fit, sockets });
                }
            }
        }
        let specs = state.networks.values().map(|net| &*net.spec);
        let (router, said) = Router::open(config.process.table.clone(), !config.ip_forward_no_drop, specs)?;
        changes.push(said);
        let control = Control::open(config.process, changes, processes)?;
        for id in raised {
            let Some(net) = state.networks.get_mut(&id) else { continue };
            if let Err(error) = net.raise(&mut route) {
                if Some(id) == default_id {
                    return Err(error);
                }
                tracing::error!(network = net.spec.name, %error, "a network cannot be brought up");
                net.broken = Some(error.to_string());
            }
        }
        for net in state.networks.values() {
            router.forward(&net.spec, &control)?;
        }
        drop(alone);
        let stock = Stock::start(config.idle, config.idle_max)?;
        let start = |address| Zone::start(address, bridges.into_iter().collect());
        let zone = config.firewalld.map(start).transpose().map_err(Error::io("start a thread for firewalld"))?;
        Ok(Self {
            route: Mutex::new(route),
            conntrack: Mutex::new(ConntrackSocket::open()?),
            state: Mutex::new(state),
            stock,
            control,
            pools: config.pools,
            bindings: config.bindings,
            zone,
            router,
            host_ipv6: port_table::host_has_ipv6(),
        })
    }

    /// Makes a network. Gives it back with the subnets that were chosen for it.
    ///
    /// # Errors
    /// [`Error::PoolOverlap`], [`Error::SubnetsExhausted`], [`Error::BridgeTaken`], [`Error::Config`], or what the kernel
    /// refused. Nothing is left behind.
    pub fn create(&self, mut spec: NetworkSpec) -> Result<NetworkSpec> {
        spec.check()?;
        // Before the own locks: whoever is on this host may keep it from us for a while, and nobody else is to wait for that.
        let alone = host_lock::take();
        let mut state = self.state();
        let mut route = self.route();
        if spec.driver == Driver::Bridge {
            let name = spec.bridge_name()?;
            let other = state.networks.values().find(|net| {
                net.spec.driver == Driver::Bridge && net.spec.bridge_name().is_ok_and(|other| other == name)
            });
            if let Some(other) = other {
                return Err(Error::BridgeTaken { id: spec.id, name, other: other.spec.id });
            }
            spec.foreign_link = route.link(&name)?.is_some();
        }
        if matches!(spec.driver, Driver::Macvlan | Driver::Ipvlan) {
            for other in state.on_parent(&spec) {
                parent::check_shared(&spec, other)?;
            }
            let found = parent::ensure(&mut route, &spec)?;
            spec.foreign_link = found && !state.on_parent(&spec).any(|other| !other.foreign_link);
        }
        let ours: Vec<IpNet> =
            state.networks.values().flat_map(|net| net.spec.subnets.iter().map(|own| own.subnet)).collect();
        if let Err(error) = choose_subnets(&self.pools, &mut spec, &ours, &mut route) {
            if matches!(spec.driver, Driver::Macvlan | Driver::Ipvlan) && state.on_parent(&spec).next().is_none() {
                parent::release(&mut route, &spec);
            }
            return Err(error);
        }
        let mut net = Net::new(spec);
        let made = (|| {
            if let Some(change) = net.make_link(&mut route)? {
                self.control.change(vec![change], &[])?;
            }
            net.raise(&mut route)?;
            self.router.forward(&net.spec, &self.control)
        })();
        if let Err(error) = made {
            if state.on_parent(&net.spec).next().is_none() {
                net.remove_link(&mut route, &self.control, &self.stock);
            }
            return Err(error);
        }
        let spec = NetworkSpec::clone(&net.spec);
        state.networks.insert(spec.id, net);
        drop((route, state, alone));
        if let (Some(zone), Some(bridge)) = (&self.zone, bridge_of(&spec)) {
            zone.add(&bridge);
        }
        Ok(spec)
    }

    /// Removes a network nobody is on.
    ///
    /// # Errors
    /// [`Error::NetworkNotFound`], [`Error::NetworkInUse`].
    pub fn remove(&self, id: &NetworkId) -> Result<()> {
        let mut state = self.state();
        let net = state.networks.get(id).ok_or(Error::NetworkNotFound(*id))?;
        if !net.members.is_empty() || net.joining > 0 {
            return Err(Error::NetworkInUse(net.spec.name.clone()));
        }
        if let Some(mut net) = state.networks.remove(id)
            && state.on_parent(&net.spec).next().is_none()
        {
            net.remove_link(&mut self.route(), &self.control, &self.stock);
            drop(state);
            if let (Some(zone), Some(bridge)) = (&self.zone, bridge_of(&net.spec)) {
                zone.remove(vec![bridge]);
            }
        }
        Ok(())
    }

    /// A fresh network namespace for a container that is about to start.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn prepare(&self, container: ContainerId) -> Result<Attachment<'_>> {
        Attachment::fresh(self, container)
    }

    /// The network namespace of a running container, to join or leave networks. `endpoints` are its places.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn enter(&self, container: ContainerId, process: Process, endpoints: Vec<Endpoint>) -> Result<Attachment<'_>> {
        Attachment::of_process(self, container, process, endpoints)
    }

    /// Remembers the process of a container whose namespace came from [`Self::prepare`].
    pub fn started(&self, container: ContainerId, process: Process) {
        self.control.set_process(container, process);
    }

    /// A container has ended: its ports are closed, its names are gone and its addresses are free when this returns; what
    /// is left of its links goes in the background.
    ///
    /// # Errors
    /// When `dhow-net` could not be told; everything else is released even then.
    pub fn release(&self, container: ContainerId, endpoints: &[Endpoint]) -> Result<()> {
        self.control.forget_process(container);
        let mut changes = Vec::with_capacity(2 * endpoints.len() + 1);
        for endpoint in endpoints {
            if !endpoint.ports.is_empty() {
                changes.push(Change::Unpublish { endpoint: endpoint.id });
            }
            changes.push(Change::RemovePlace { endpoint: endpoint.id });
        }
        changes.push(Change::RemoveSandbox { id: container });
        let told = self.control.change(changes, &[]);
        let mut state = self.state();
        for endpoint in endpoints {
            state.forget(endpoint);
        }
        drop(state);
        for veth in endpoints.iter().filter_map(|endpoint| endpoint.veth.clone()) {
            self.stock.sweep(veth);
        }
        told
    }

    /// Deletes the veth pairs that were there at the start and belong to no endpoint, as a killed daemon may leave them.
    /// Call it once, when every running container is known. Returns at once.
    pub fn reconcile(&self) {
        let mut state = self.state();
        let strays = std::mem::take(&mut state.strays);
        for stray in strays {
            if !state.endpoints.values().any(|endpoint| endpoint.veth.as_ref() == Some(&stray)) {
                self.stock.sweep(stray);
            }
        }
    }

    /// The network as it is in force.
    #[must_use]
    pub fn network(&self, id: &NetworkId) -> Option<Arc<NetworkSpec>> {
        self.state().networks.get(id).map(|net| Arc::clone(&net.spec))
    }

    /// Use of a network's subnets.
    #[must_use]
    pub fn usage(&self, id: &NetworkId) -> Vec<SubnetUse> {
        let state = self.state();
        state.networks.get(id).map(Net::usage).unwrap_or_default()
    }

    /// What `dhow-net` has done.
    ///
    /// # Errors
    /// When it has gone and is only being started again.
    pub fn status(&self) -> Result<Status> {
        self.control.status()
    }

    /// How many namespaces are ready.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.stock.idle()
    }

    /// The daemon ends and containers go on: so do their networks.
    pub fn detach(&self) {
        self.control.detach();
        self.stock.stop();
    }

    /// Removes everything: namespaces, links, rules, `dhow-net`, and the forwarding switched on for networks. For a daemon
    /// that ends with no container running.
    ///
    /// # Errors
    /// The first refusal; everything else is removed all the same.
    pub fn teardown(&self) -> Result<()> {
        self.stock.stop();
        // An engine that starts meanwhile finds forwarding switched on and somebody who says so, or neither.
        let alone = host_lock::take();
        let mut state = self.state();
        let mut route = self.route();
        for net in state.networks.values_mut() {
            net.remove_link(&mut route, &self.control, &self.stock);
        }
        let bridges = state.networks.values().filter_map(|net| bridge_of(&net.spec)).collect();
        state.networks.clear();
        state.endpoints.clear();
        drop((route, state));
        let gone = self.control.quit();
        let given_back = self.router.give_back();
        drop(alone);
        // Last, and once for all: firewalld may be slow.
        if let Some(zone) = &self.zone {
            zone.remove(bridges);
        }
        gone.and(given_back)
    }

    /// Host addresses that a port of the network is published on when nobody says where.
    pub(crate) fn default_bindings(&self, spec: &NetworkSpec) -> Vec<IpAddr> {
        let own = (spec.driver == Driver::Bridge).then(|| spec.bridge_options().ok()?.binding).flatten();
        match own {
            Some(address) if !address.is_unspecified() => vec![address],
            _ if !self.bindings.is_empty() => self.bindings.clone(),
            // What is said of IPv4 without a choice holds for both families, as with dockerd.
            _ if self.host_ipv6 => vec![IpAddr::from([0; 4]), IpAddr::from([0u16; 8])],
            _ => vec![IpAddr::from([0; 4])],
        }
    }

    /// Reserves host ports for an endpoint, on all addresses that are served: SCTP, which nobody forwards, by default only
    /// in the families that the endpoint has.
    pub(crate) fn reserve(
        &self,
        ports: &[PortSpec],
        bindings: &[IpAddr],
        target: IpAddr,
        endpoint: &Endpoint,
    ) -> Result<Vec<Reserved>> {
        let has = |address: &IpAddr| if address.is_ipv4() { endpoint.ipv4.is_some() } else { endpoint.ipv6.is_some() };
        let own: Vec<IpAddr> = bindings.iter().copied().filter(has).collect();
        let (sctp, others): (Vec<PortSpec>, Vec<PortSpec>) =
            ports.iter().copied().partition(|port| port.container.protocol == Protocol::Sctp);
        let mut state = self.state();
        let mut reserved = state.ports.reserve(&others, bindings, target)?;
        match state.ports.reserve(&sctp, &own, target) {
            Ok(more) => reserved.extend(more),
            Err(error) => {
                state.ports.release(reserved.iter().map(|reserved| &reserved.port));
                return Err(error);
            }
        }
        Ok(reserved)
    }

    /// Makes the tracked datagrams to these ports look up the translation anew. Peers that keep sending would otherwise
    /// keep the old one.
    pub(crate) fn forget_datagrams(&self, ports: &[PublishedPort], containers: &[IpAddr]) {
        let ports: Vec<u16> = ports.iter().filter(|p| p.protocol == Protocol::Udp).map(|p| p.host_port).collect();
        if ports.is_empty() {
            return;
        }
        let udp = protocol_number(Protocol::Udp);
        let stale = |connection: &Connection| {
            connection.protocol == udp
                && (containers.contains(&connection.responder) || ports.contains(&connection.destination_port))
        };
        if let Err(error) = self.conntrack.lock().unwrap_or_else(PoisonError::into_inner).forget(stale) {
            tracing::warn!(%error, "cannot forget tracked datagrams; peers that keep sending may reach an old container");
        }
    }

    pub(crate) fn route(&self) -> MutexGuard<'_, RouteSocket> {
        // The socket puts itself in step again at the next request.
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locked before `route` wherever both are needed.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings up a network that could not be at the start.
    pub(crate) fn mend(&self, id: &NetworkId) -> Result<()> {
        let mut state = self.state();
        let net = state.networks.get_mut(id).ok_or(Error::NetworkNotFound(*id))?;
        if net.broken.is_none() {
            return Ok(());
        }
        let mut route = self.route();
        if let Some(change) = net.make_link(&mut route)? {
            self.control.change(vec![change], &[])?;
        }
        net.raise(&mut route)?;
        net.broken = None;
        self.router.forward(&net.spec, &self.control)
    }
}

fn bridge_of(spec: &NetworkSpec) -> Option<String> {
    (spec.driver == Driver::Bridge).then(|| spec.bridge_name().ok()).flatten()
}

impl State {
    /// Networks on the same link of the host as a macvlan or ipvlan network.
    fn on_parent(&self, spec: &NetworkSpec) -> impl Iterator<Item = &NetworkSpec> {
        let parent = |spec: &NetworkSpec| match spec.driver {
            Driver::Macvlan | Driver::Ipvlan => parent::name_of(spec).ok(),
            _ => None,
        };
        let wanted = parent(spec);
        let same = move |other: &&NetworkSpec| wanted.is_some() && parent(other) == wanted;
        self.networks.values().map(|net| &*net.spec).filter(same)
    }

    fn adopt(&mut self, endpoint: &Endpoint) {
        if let Some(net) = self.networks.get_mut(&endpoint.network) {
            for address in endpoint.addresses() {
                if let Some(pool) = net.pool_of(address) {
                    pool.adopt(address);
                }
            }
            net.members.insert(endpoint.id);
        }
        for port in &endpoint.ports {
            self.ports.adopt(port);
        }
        self.endpoints.insert(endpoint.id, endpoint.clone());
    }

    /// Gives everything of an endpoint back.
    pub(crate) fn forget(&mut self, endpoint: &Endpoint) {
        if self.endpoints.remove(&endpoint.id).is_some() {
            self.ports.release(&endpoint.ports);
        }
        if let Some(net) = self.networks.get_mut(&endpoint.network)
            && net.members.remove(&endpoint.id)
        {
            for address in endpoint.addresses() {
                net.release(address);
            }
        }
    }
}

/// Whether a port's network is there in the family of its target, and the host's part is nobody else's.
fn fits(changes: &[Change], rule: &PortRule) -> bool {
    let there = changes.iter().any(|change| match change {
        Change::PutNet(net) if net.bridge == rule.bridge => {
            if rule.target.is_ipv4() {
                net.v4.is_some()
            } else {
                net.v6.is_some()
            }
        }
        _ => false,
    });
    let same = |other: &PortRule| {
        (other.protocol, other.host_ip, other.host_port) == (rule.protocol, rule.host_ip, rule.host_port)
    };
    let taken = changes.iter().any(|change| match change {
        Change::Publish { ports, .. } => ports.iter().any(same),
        _ => false,
    });
    there && !taken
}

/// The address a gateway gets when nobody chose one: the first that a container would get.
fn first_host(own: &SubnetSpec) -> Option<IpAddr> {
    AddressPool::new(own.subnet, own.range, own.reserved.values().copied()).take_next()
}

/// Completes the subnets of a network: one for each family that has none, and gateways. `ours` are those of others.
fn choose_subnets(pools: &[Pool], spec: &mut NetworkSpec, ours: &[IpNet], route: &mut RouteSocket) -> Result<()> {
    // Subnets of a link on a parent are the parent's network: they overlap the host's by design.
    let exclusive = spec.driver == Driver::Bridge;
    for own in &spec.subnets {
        if ours.iter().any(|other| pools::overlap(own.subnet, *other)) {
            return Err(Error::PoolOverlap);
        }
    }
    for ipv6 in [false, true] {
        if !spec.has(ipv6) || spec.of_family(ipv6).next().is_some() {
            continue;
        }
        let name = if exclusive { Some(spec.bridge_name()?) } else { None };
        let link = name.map(|name| route.link(&name)).transpose()?.flatten();
        let addresses = route.ip_addresses()?;
        // A bridge that somebody has set up says itself where it is.
        let given = link.as_ref().and_then(|link| {
            addresses.iter().find(|address| address.link == link.index && address.local.is_ipv6() == ipv6)
        });
        let chosen = match given.and_then(|address| IpNet::new(address.local, address.prefix).ok()) {
            Some(given) => SubnetSpec { gateway: Some(given.addr()), ..SubnetSpec::new(given.trunc()) },
            None => {
                let mut taken = links::host_subnets(route, link.map(|link| link.index))?;
                taken.extend(ours.iter().chain(spec.subnets.iter().map(|own| &own.subnet)));
                let found = pools::choose(pools, ipv6, &taken);
                SubnetSpec::new(found.ok_or_else(|| Error::SubnetsExhausted(spec.name.clone()))?)
            }
        };
        spec.subnets.push(chosen);
    }
    for own in &mut spec.subnets {
        if own.gateway.is_none() {
            own.quiet_gateway = own.configured;
            own.gateway = first_host(own);
        }
    }
    Ok(())
}
