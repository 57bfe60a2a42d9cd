//! What is wanted: networks, ports of bridges and published ports, and what a batch of changes to them means for the table.
//!
//! The invariant: a batch is in [`Wanted`] as a whole or not at all, and what it costs is in proportion to what it
//! changes. A [`Journal`] remembers how everything a batch touches was before; from the difference comes the
//! transaction, so the order of changes inside a batch does not matter to the kernel, and with it the batch is undone
//! when the kernel refuses.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::{Ipv4Net, Ipv6Net};
use netlink::nftables::{Element, Transaction};
use netlink::route::LinkName;

use crate::rules::{Change, Forwarding, NetRules, PortLink, PortRule};
use crate::ruleset::{self, PortSet, port_elements};
use crate::{Error, Result};

/// An element's place in the table: the set, and the key.
type Place = (PortSet, Vec<u8>);
/// Elements that are wanted at one place, with how many ports want each. More than one is a contradiction.
type Claims = Vec<(Element, usize)>;

/// Everything that is wanted.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// By bridge.
    pub(crate) nets: BTreeMap<String, NetRules>,
    /// By name of the veth.
    pub(crate) links: BTreeMap<String, PortLink>,
    /// By bridge; only of networks there are.
    ports: BTreeMap<String, BTreeSet<PortRule>>,
    placed: HashMap<Place, Claims>,
    forwarding: Forwarding,
}

/// How what a batch touches was before it.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    nets: BTreeMap<String, Option<NetRules>>,
    links: BTreeMap<String, Option<PortLink>>,
    ports: BTreeMap<PortRule, bool>,
    placed: HashMap<Place, Claims>,
    forwarding: Option<Forwarding>,
}

impl Wanted {
    /// Takes changes in, or none of them.
    pub(crate) fn apply(&mut self, changes: &[Change]) -> Result<Journal> {
        let mut journal = Journal::default();
        let mut result = Ok(());
        for change in changes {
            result = self.apply_one(change, &mut journal);
            if result.is_err() {
                break;
            }
        }
        match result.and_then(|()| self.check(&journal)) {
            Ok(()) => Ok(journal),
            Err(error) => {
                self.undo(journal);
                Err(error)
            }
        }
    }

    fn apply_one(&mut self, change: &Change, journal: &mut Journal) -> Result<()> {
        match change {
            Change::PutNet(net) => self.put_net(net, journal)?,
            Change::RemoveNet { bridge } => self.remove_net(bridge, journal),
            Change::SetForwarding(forwarding) => {
                journal.forwarding.get_or_insert(self.forwarding);
                self.forwarding = *forwarding;
            }
            Change::Publish(ports) => {
                for port in ports {
                    self.publish(port, journal)?;
                }
            }
            Change::Unpublish(ports) => {
                for port in ports {
                    self.unpublish(port, journal);
                }
            }
            Change::PutLink(link) => {
                link.veth.parse::<LinkName>().map_err(Error::Netlink)?;
                self.set_link(&link.veth, Some(link.clone()), journal);
            }
            Change::RemoveLink { veth } => self.set_link(veth, None, journal),
        }
        Ok(())
    }

    fn put_net(&mut self, net: &NetRules, journal: &mut Journal) -> Result<()> {
        net.bridge.parse::<LinkName>().map_err(Error::Netlink)?;
        let before = self.nets.get(&net.bridge).cloned();
        if before.as_ref() == Some(net) {
            return Ok(());
        }
        // What the ports of the network mean may change with it.
        let ports = self.ports.get(&net.bridge).cloned().unwrap_or_default();
        if let Some(before) = &before {
            for port in &ports {
                self.claim(before, port, false, journal);
            }
        }
        for port in &ports {
            self.claim(net, port, true, journal);
        }
        self.nets.insert(net.bridge.clone(), net.clone());
        journal.nets.entry(net.bridge.clone()).or_insert(before);
        Ok(())
    }

    fn remove_net(&mut self, bridge: &str, journal: &mut Journal) {
        for port in self.ports.get(bridge).cloned().unwrap_or_default() {
            self.unpublish(&port, journal);
        }
        if let Some(before) = self.nets.remove(bridge) {
            journal.nets.entry(bridge.to_owned()).or_insert(Some(before));
        }
    }

    fn publish(&mut self, port: &PortRule, journal: &mut Journal) -> Result<()> {
        let net = self.nets.get(&port.bridge).ok_or_else(|| Error::UnknownNetwork(port.bridge.clone()))?.clone();
        if ruleset::mode_of(&net, port).is_none() {
            let text = format!("port target {} is of a family that the network of {} has not", port.target, net.bridge);
            return Err(Error::Invalid(text));
        }
        if self.ports.entry(port.bridge.clone()).or_default().insert(port.clone()) {
            journal.ports.entry(port.clone()).or_insert(false);
            self.claim(&net, port, true, journal);
        }
        Ok(())
    }

    fn unpublish(&mut self, port: &PortRule, journal: &mut Journal) {
        let Some(ports) = self.ports.get_mut(&port.bridge) else { return };
        if !ports.remove(port) {
            return;
        }
        if ports.is_empty() {
            self.ports.remove(&port.bridge);
        }
        journal.ports.entry(port.clone()).or_insert(true);
        if let Some(net) = self.nets.get(&port.bridge).cloned() {
            self.claim(&net, port, false, journal);
        }
    }

    fn set_link(&mut self, veth: &str, link: Option<PortLink>, journal: &mut Journal) {
        let before = match link {
            Some(link) => self.links.insert(veth.to_owned(), link),
            None => self.links.remove(veth),
        };
        journal.links.entry(veth.to_owned()).or_insert(before);
    }

    /// Counts a port in or out at the places where its network puts it.
    fn claim(&mut self, net: &NetRules, port: &PortRule, wanted: bool, journal: &mut Journal) {
        for (set, element) in port_elements(net, port) {
            let place = (set, element.key.clone());
            let claims = self.placed.entry(place.clone()).or_default();
            journal.placed.entry(place.clone()).or_insert_with(|| claims.clone());
            match (claims.iter().position(|(claimed, _)| *claimed == element), wanted) {
                (Some(at), true) => claims[at].1 += 1,
                (None, true) => claims.push((element, 1)),
                (Some(at), false) if claims[at].1 > 1 => claims[at].1 -= 1,
                (Some(at), false) => drop(claims.remove(at)),
                (None, false) => {}
            }
            if claims.is_empty() {
                self.placed.remove(&place);
            }
        }
    }

    /// Refuses what contradicts itself once a batch is complete.
    fn check(&self, journal: &Journal) -> Result<()> {
        let contradicts = |place: &&Place| self.placed.get(*place).is_some_and(|claims| claims.len() > 1);
        if let Some((set, key)) = journal.placed.keys().find(contradicts) {
            return Err(self.taken(*set, key));
        }
        for bridge in journal.nets.keys() {
            let Some(net) = self.nets.get(bridge) else { continue };
            if let Some(other) = self.nets.values().find(|other| other.bridge != *bridge && overlap(net, other)) {
                return Err(Error::Overlap(bridge.clone(), other.bridge.clone()));
            }
        }
        Ok(())
    }

    /// The error for a place that several ports want.
    fn taken(&self, set: PortSet, key: &[u8]) -> Error {
        let at_place = |port: &&PortRule| {
            let net = self.nets.get(&port.bridge);
            net.is_some_and(|net| port_elements(net, port).any(|(of, element)| of == set && element.key == key))
        };
        match self.ports().find(at_place) {
            Some(port) => {
                Error::PortTaken { host_ip: port.host_ip, host_port: port.host_port, protocol: port.protocol }
            }
            None => Error::Invalid("a host port is published twice".into()),
        }
    }

    /// Takes a batch back.
    pub(crate) fn undo(&mut self, journal: Journal) {
        self.forwarding = journal.forwarding.unwrap_or(self.forwarding);
        for (bridge, before) in journal.nets {
            put_back(&mut self.nets, bridge, before);
        }
        for (veth, before) in journal.links {
            put_back(&mut self.links, veth, before);
        }
        for (port, before) in journal.ports {
            let ports = self.ports.entry(port.bridge.clone()).or_default();
            if before {
                ports.insert(port);
            } else {
                ports.remove(&port);
                if ports.is_empty() {
                    self.ports.remove(&port.bridge);
                }
            }
        }
        for (place, before) in journal.placed {
            if before.is_empty() {
                self.placed.remove(&place);
            } else {
                self.placed.insert(place, before);
            }
        }
    }

    /// The changes of the table that a batch comes to.
    pub(crate) fn difference(&self, journal: &Journal, t: &mut Transaction) {
        let mut removed: BTreeMap<PortSet, Vec<Element>> = BTreeMap::new();
        let mut added: BTreeMap<PortSet, Vec<Element>> = BTreeMap::new();
        for (place, before) in &journal.placed {
            let before = before.first().map(|(element, _)| element);
            let after = self.placed.get(place).and_then(|claims| claims.first()).map(|(element, _)| element);
            if before == after {
                continue;
            }
            removed.entry(place.0).or_default().extend(before.cloned());
            added.entry(place.0).or_default().extend(after.cloned());
        }
        for (set, elements) in removed {
            t.delete_elements(set.name(), &elements);
        }
        if let Some(before) = journal.forwarding.filter(|before| *before != self.forwarding) {
            ruleset::remove_forwarding(t, before);
            ruleset::add_forwarding(t, self.forwarding);
        }
        // Every old network goes before any new one comes: they may have changed places.
        let changed = |(bridge, before): &(&String, &Option<NetRules>)| self.nets.get(*bridge) != before.as_ref();
        for (_, before) in journal.nets.iter().filter(changed) {
            if let Some(before) = before {
                ruleset::remove_net(t, before);
            }
        }
        for (bridge, _) in journal.nets.iter().filter(changed) {
            if let Some(net) = self.nets.get(bridge) {
                ruleset::add_net(t, net);
            }
        }
        for (set, elements) in added {
            t.add_elements(set.name(), &elements);
        }
    }

    /// Fills an empty table.
    pub(crate) fn install(&self, t: &mut Transaction) {
        ruleset::base(t);
        ruleset::add_forwarding(t, self.forwarding);
        for net in self.nets.values() {
            ruleset::add_net(t, net);
        }
        let mut elements: BTreeMap<PortSet, Vec<Element>> = BTreeMap::new();
        for ((set, _), claims) in &self.placed {
            elements.entry(*set).or_default().extend(claims.iter().take(1).map(|(element, _)| element.clone()));
        }
        for (set, elements) in elements {
            t.add_elements(set.name(), &elements);
        }
    }

    /// Every published port.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &PortRule> {
        self.ports.values().flatten()
    }
}

impl Journal {
    /// Ports that are published now and were not, or the other way round.
    pub(crate) fn changed_ports<'a>(&'a self, wanted: &'a Wanted) -> impl Iterator<Item = &'a PortRule> {
        let is = |port: &PortRule| wanted.ports.get(&port.bridge).is_some_and(|ports| ports.contains(port));
        self.ports.iter().filter(move |(port, before)| is(port) != **before).map(|(port, _)| port)
    }

    /// Networks as they were before the batch changed or removed them, and bridges that are new.
    pub(crate) fn nets(&self) -> impl Iterator<Item = (&String, Option<&NetRules>)> {
        self.nets.iter().map(|(bridge, before)| (bridge, before.as_ref()))
    }

    /// Names of the veths touched.
    pub(crate) fn links(&self) -> impl Iterator<Item = &String> {
        self.links.keys()
    }
}

fn put_back<T>(map: &mut BTreeMap<String, T>, key: String, before: Option<T>) {
    match before {
        Some(before) => drop(map.insert(key, before)),
        None => drop(map.remove(&key)),
    }
}

fn overlap(one: &NetRules, other: &NetRules) -> bool {
    let v4 = |a: Ipv4Net, b: Ipv4Net| a.contains(&b.network()) || b.contains(&a.network());
    let v6 = |a: Ipv6Net, b: Ipv6Net| a.contains(&b.network()) || b.contains(&a.network());
    matches!((&one.v4, &other.v4), (Some(a), Some(b)) if v4(a.subnet, b.subnet))
        || matches!((&one.v6, &other.v6), (Some(a), Some(b)) if v6(a.subnet, b.subnet))
}

#[cfg(test)]
mod tests {
    use netlink::nftables::Family;
    use netlink::route::MacAddress;
    use types::{NetworkId, Protocol};

    use super::*;
    use crate::rules::{FamilyRules, GatewayMode};

    fn net(bridge: &str, third: u8) -> NetRules {
        let rules = |mode| FamilyRules {
            subnet: format!("172.30.{third}.0/24").parse().unwrap(),
            gateway: format!("172.30.{third}.1").parse().ok(),
            masquerade: true,
            mode,
            source: None,
        };
        NetRules {
            id: NetworkId::from_random([third; 32]),
            bridge: bridge.into(),
            v4: Some(rules(GatewayMode::Nat)),
            v6: None,
            icc: true,
            internal: false,
            mac: MacAddress([2, 0, 0, 0, 0, third]),
            mtu: 1500,
            route_localnet: true,
            trusted: Vec::new(),
        }
    }

    fn port(bridge: &str, host_port: u16, target: &str) -> PortRule {
        PortRule {
            bridge: bridge.into(),
            protocol: Protocol::Tcp,
            host_ip: "0.0.0.0".parse().unwrap(),
            host_port,
            target: target.parse().unwrap(),
            target_port: 80,
        }
    }

    fn cost(wanted: &Wanted, journal: &Journal) -> usize {
        let mut t = Transaction::of(Family::Inet, "t");
        wanted.difference(journal, &mut t);
        t.len()
    }

    #[test]
    fn a_batch_costs_what_it_changes() {
        let mut wanted = Wanted::default();
        let mut costs = Vec::new();
        for index in 0..40 {
            let journal = wanted.apply(&[Change::PutNet(net(&format!("br{index}"), index))]).unwrap();
            costs.push(cost(&wanted, &journal));
        }
        assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?}");
        let ports: Vec<PortRule> = (1..=512).map(|number| port("br3", number, "172.30.3.2")).collect();
        let journal = wanted.apply(&[Change::Publish(ports.clone())]).unwrap();
        assert_eq!(cost(&wanted, &journal), 2, "256 elements a message");
        let journal = wanted.apply(&[Change::Publish(vec![port("br3", 600, "172.30.3.2")])]).unwrap();
        assert_eq!(cost(&wanted, &journal), 1);
        let journal = wanted.apply(&[Change::Publish(ports.clone()), Change::PutNet(net("br5", 5))]).unwrap();
        assert_eq!(cost(&wanted, &journal), 0, "what is there is put again for nothing");
        let journal = wanted.apply(&[Change::Unpublish(ports)]).unwrap();
        assert_eq!(cost(&wanted, &journal), 2);
        assert_eq!(wanted.placed.len(), 1);
    }

    #[test]
    fn a_port_changes_hands_within_one_batch_in_either_order() {
        let mut wanted = Wanted::default();
        let (old, new) = (port("br1", 80, "172.30.1.2"), port("br1", 80, "172.30.1.3"));
        wanted.apply(&[Change::PutNet(net("br1", 1)), Change::Publish(vec![old.clone()])]).unwrap();
        let swap = [Change::Publish(vec![new.clone()]), Change::Unpublish(vec![old.clone()])];
        let journal = wanted.apply(&swap).unwrap();
        assert_eq!(cost(&wanted, &journal), 2);
        let error = wanted.apply(&[Change::Publish(vec![old.clone()])]).unwrap_err();
        assert_eq!(error.to_string(), "host port 0.0.0.0:80/tcp is published twice");
        assert_eq!(wanted.ports().collect::<Vec<_>>(), [&new]);
    }

    #[test]
    fn a_refused_batch_leaves_nothing() {
        let mut wanted = Wanted::default();
        wanted.apply(&[Change::PutNet(net("br1", 1)), Change::Publish(vec![port("br1", 1, "172.30.1.2")])]).unwrap();
        let before = format!("{:?} {:?} {:?}", wanted.nets, wanted.ports, wanted.links);
        let link = PortLink { bridge: "br1".into(), veth: "v1".into(), hairpin: true, isolated: false };
        let batch = [
            Change::PutLink(link),
            Change::Unpublish(vec![port("br1", 1, "172.30.1.2")]),
            Change::Publish(vec![port("br1", 2, "172.30.1.2")]),
            Change::PutNet(net("br2", 2)),
            Change::PutNet(NetRules { mtu: 9000, ..net("br1", 1) }),
            Change::Publish(vec![port("absent", 3, "172.30.1.2")]),
        ];
        assert!(matches!(wanted.apply(&batch), Err(Error::UnknownNetwork(_))));
        assert_eq!(format!("{:?} {:?} {:?}", wanted.nets, wanted.ports, wanted.links), before);
        assert!(matches!(wanted.apply(&[Change::PutNet(net("br9", 1))]), Err(Error::Overlap(..))));
        assert!(wanted.apply(&[Change::PutNet(net("a/b", 7))]).is_err());
        let journal = wanted.apply(&[Change::RemoveNet { bridge: "br1".into() }]).unwrap();
        assert!(cost(&wanted, &journal) > 0 && wanted.placed.is_empty() && wanted.ports().count() == 0);
    }

    #[test]
    fn targets_of_routed_networks_are_opened_once() {
        let mut wanted = Wanted::default();
        let mut routed = net("br1", 1);
        if let Some(rules) = &mut routed.v4 {
            rules.mode = GatewayMode::Routed;
        }
        wanted.apply(&[Change::PutNet(routed.clone())]).unwrap();
        let (one, two) = (port("br1", 1, "172.30.1.2"), port("br1", 2, "172.30.1.2"));
        let journal = wanted.apply(&[Change::Publish(vec![one.clone(), two.clone()])]).unwrap();
        assert_eq!((cost(&wanted, &journal), wanted.placed.len()), (1, 1));
        let journal = wanted.apply(&[Change::Unpublish(vec![one])]).unwrap();
        assert_eq!(cost(&wanted, &journal), 0, "the other port still leads there");
        // The network becomes one of another mode: its ports move with it.
        wanted.apply(&[Change::PutNet(net("br1", 1))]).unwrap();
        assert_eq!(wanted.placed.keys().map(|(set, _)| *set).collect::<Vec<_>>(), [PortSet::Any4]);
    }
}
