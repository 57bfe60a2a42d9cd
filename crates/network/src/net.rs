//! One network in force: its subnets' addresses, its members and its link.
//!
//! The invariant: an address is in a pool's books as long as an endpoint has it. Owned by `Fabric`, whose lock guards it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::Change;
use ipnet::IpNet;
use netlink::route::{RouteRequests, RouteSocket};
use types::EndpointId;

use crate::address_pool::AddressPool;
use crate::control::Control;
use crate::fabric::SubnetUse;
use crate::spec::{DEFAULT_MTU, NetworkSpec, SubnetSpec, is_ipv6};
use crate::stock::Stock;
use crate::{Driver, Error, Result, links, parent};

/// Ports a bridge can have (`BR_MAX_PORTS` without the port number 0, see the kernel's `br_private.h`).
const BRIDGE_PORTS: usize = 1023;

/// A network in force.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) spec: Arc<NetworkSpec>,
    pools: Vec<AddressPool>,
    pub(crate) members: HashSet<EndpointId>,
    /// Joins under way, which count as members.
    pub(crate) joining: usize,
    /// Why it could not be brought up at the start. The next container tries again.
    pub(crate) broken: Option<String>,
}

impl Net {
    pub(crate) fn new(spec: NetworkSpec) -> Self {
        let pools = spec
            .subnets
            .iter()
            .filter(|own| spec.has(is_ipv6(own.subnet)))
            .map(|own| {
                let reserved = own.gateway.into_iter().chain(own.reserved.values().copied());
                AddressPool::new(own.subnet, own.range, reserved)
            })
            .collect();
        Self { spec: Arc::new(spec), pools, members: HashSet::new(), joining: 0, broken: None }
    }

    pub(crate) fn pool_of(&mut self, address: IpAddr) -> Option<&mut AddressPool> {
        self.pools.iter_mut().find(|pool| pool.subnet.contains(&address))
    }

    /// Takes the address that was asked for, or the next one of the family, with its subnet's prefix.
    pub(crate) fn take(&mut self, ipv6: bool, wanted: Option<IpAddr>) -> Result<Option<IpNet>> {
        if !self.spec.has(ipv6) && wanted.is_none() {
            return Ok(None);
        }
        let network = self.spec.name.clone();
        let with_prefix = |address: IpAddr, subnet: IpNet| IpNet::new(address, subnet.prefix_len()).ok();
        let first = self.pools.iter().map(|pool| pool.subnet).find(|subnet| is_ipv6(*subnet) == ipv6);
        let Some(wanted) = wanted else {
            let found = self
                .pools
                .iter_mut()
                .filter(|pool| is_ipv6(pool.subnet) == ipv6)
                .find_map(|pool| Some((pool.take_next()?, pool.subnet)));
            return match (found, first) {
                (Some((address, subnet)), _) => Ok(with_prefix(address, subnet)),
                (None, Some(subnet)) => Err(Error::AddressesExhausted { network, subnet }),
                (None, None) => Ok(None),
            };
        };
        match self.pool_of(wanted) {
            Some(pool) => match pool.take(wanted) {
                true => Ok(with_prefix(wanted, pool.subnet)),
                false => Err(Error::AddressInUse(wanted)),
            },
            None => match first {
                Some(subnet) => Err(Error::AddressOutOfRange { address: wanted, network, subnet }),
                None => Err(Error::Config(format!("network {network} has no subnet for address {wanted}"))),
            },
        }
    }

    pub(crate) fn usage(&self) -> Vec<SubnetUse> {
        let usage =
            |pool: &AddressPool| SubnetUse { subnet: pool.subnet, in_use: pool.used(), available: pool.available() };
        self.pools.iter().map(usage).collect()
    }

    pub(crate) fn release(&mut self, address: IpAddr) {
        if let Some(pool) = self.pool_of(address) {
            pool.release(address);
        }
    }

    /// Whether another container fits, as far as links are concerned.
    pub(crate) fn check_room(&self) -> Result<()> {
        if self.spec.driver == Driver::Bridge && self.members.len() + self.joining >= BRIDGE_PORTS {
            return Err(Error::BridgeFull { network: self.spec.name.clone(), limit: BRIDGE_PORTS });
        }
        Ok(())
    }

    /// Finds or makes the link, still without an address. Gives the rules that have to be in force before it gets one.
    pub(crate) fn make_link(&mut self, route: &mut RouteSocket) -> Result<Option<Change>> {
        match self.spec.driver {
            Driver::Host | Driver::Null => Ok(None),
            Driver::Macvlan | Driver::Ipvlan => {
                parent::ensure(route, &self.spec)?;
                Ok(None)
            }
            Driver::Bridge => {
                let name = self.spec.bridge_name()?;
                let mac = links::bridge_mac(&self.spec.id);
                let mtu = self.spec.common()?.mtu.unwrap_or(DEFAULT_MTU);
                let (link, made) = links::find_or_make_bridge(route, &name, mac, mtu)?;
                if !made && link.mac != Some(mac) {
                    // Ours has the address that its network's id gives it.
                    Arc::make_mut(&mut self.spec).foreign_link = true;
                }
                Ok(Some(Change::PutNet(self.spec.rules(link.mac.unwrap_or(mac))?)))
            }
        }
    }

    pub(crate) fn raise(&self, route: &mut RouteSocket) -> Result<()> {
        if self.spec.driver != Driver::Bridge {
            return Ok(());
        }
        let name = self.spec.bridge_name()?;
        let vanished = || Error::Config(format!("bridge {name} vanished while it was being set up"));
        let link = route.link(&name)?.ok_or_else(vanished)?;
        let mtu = self.spec.common()?.mtu.unwrap_or(DEFAULT_MTU);
        let localnet = self.spec.ipv4 && !self.spec.internal;
        links::raise_bridge(route, &link, &self.bridge_addresses(), mtu, localnet, self.spec.foreign_link)
    }

    /// The bridge's own addresses.
    fn bridge_addresses(&self) -> Vec<IpNet> {
        let Ok(options) = self.spec.bridge_options() else { return Vec::new() };
        let shown = |ipv6: bool| {
            let mode = if ipv6 { options.mode6 } else { options.mode4 };
            mode != firewall::GatewayMode::Isolated && (ipv6 || !options.inhibit4)
        };
        let families = [false, true].into_iter().filter(|ipv6| shown(*ipv6));
        let with_prefix = |own: &SubnetSpec| IpNet::new(own.gateway?, own.subnet.prefix_len()).ok();
        families.flat_map(|ipv6| self.spec.of_family(ipv6).filter_map(with_prefix).collect::<Vec<_>>()).collect()
    }

    /// Takes rules and link away. What fails is logged: there is nobody to refuse it to.
    pub(crate) fn remove_link(&mut self, route: &mut RouteSocket, control: &Control, stock: &Stock) {
        match self.spec.driver {
            Driver::Host | Driver::Null => {}
            Driver::Macvlan | Driver::Ipvlan => parent::release(route, &self.spec),
            Driver::Bridge => {
                let Ok(name) = self.spec.bridge_name() else { return };
                if let Err(error) = control.change(vec![Change::RemoveNet { bridge: name.clone() }], &[]) {
                    tracing::warn!(network = self.spec.name, %error, "the rules of a network stay");
                }
                if self.spec.foreign_link {
                    return;
                }
                if let Err(error) = links::silence_bridge(route, &name, &self.bridge_addresses()) {
                    tracing::warn!(network = self.spec.name, %error, "the bridge of a network keeps its addresses");
                }
                let own_name = self.spec.bridge_options().is_ok_and(|options| options.name.is_none());
                if own_name && stock.delete(name.clone()) {
                    return;
                }
                // Somebody may want the name at once, or the thread has ended.
                let mut requests = RouteRequests::new();
                requests.delete_link(&name);
                match route.apply(requests) {
                    Err(error) if !error.is_absent() => {
                        tracing::warn!(network = self.spec.name, %error, "the bridge of a network stays");
                    }
                    _ => {}
                }
            }
        }
    }
}
