//! Who is called what, on which network, and whom a container may ask for.
//!
//! A container sees the names of the networks it is on: as they are, and as `NAME.NETWORK`. Where names or networks have
//! dots in them every way to cut the two apart counts, the longest name first, as with dockerd. Addresses come in the
//! order in which the container joined the networks; several of one network take turns at being first. Names are kept in
//! wire form and lower case. A link is a name of a container's own for another name on one of its networks, looked up
//! when it is asked for: it follows whoever has that name then.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use types::{ContainerId, EndpointId, NetworkId};

use crate::name::Name;
use crate::query::Query;
use crate::{CLASS_IN, answer, rcode, rtype};

/// An endpoint as others find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub endpoint: EndpointId,
    pub network: NetworkId,
    pub network_name: String,
    /// The network has no way out.
    pub internal: bool,
    pub sandbox: ContainerId,
    /// The first is what PTR queries answer. Those that no query can ask are passed over.
    pub names: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

/// A container's own name for another name on a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    pub alias: &'a str,
    pub network: NetworkId,
    pub name: &'a str,
}

/// What looking for a name came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The answer is written.
    Answered,
    /// No container of the networks is called so.
    Unknown,
}

/// Names of all networks.
#[derive(Debug, Default)]
pub struct Zones {
    hosts: HashMap<EndpointId, Held>,
    networks: HashMap<NetworkId, Network>,
    sandboxes: HashMap<ContainerId, View>,
    /// Addresses of the answer at hand.
    found: Vec<IpAddr>,
}

/// What a container asks from.
#[derive(Debug, Default)]
struct View {
    /// In the order joined.
    places: Vec<EndpointId>,
    links: Vec<Alias>,
}

#[derive(Debug)]
struct Alias {
    alias: Box<[u8]>,
    network: NetworkId,
    name: Box<[u8]>,
}

#[derive(Debug)]
struct Held {
    network: NetworkId,
    internal: bool,
    sandbox: ContainerId,
    addresses: Vec<IpAddr>,
    keys: Vec<Box<[u8]>>,
    pointer: Option<Name>,
}

#[derive(Debug, Default)]
struct Network {
    /// Labels of its name; none when it cannot be asked for.
    label: Option<Box<[u8]>>,
    names: HashMap<Box<[u8]>, Entry>,
    addresses: HashMap<IpAddr, EndpointId>,
    hosts: usize,
}

#[derive(Debug, Default)]
struct Entry {
    members: Vec<EndpointId>,
    /// Which comes first in the next answer.
    turn: usize,
}

fn key(text: &str) -> Option<Box<[u8]>> {
    Name::from_text(text).map(|name| name.lower().labels().into())
}

impl Zones {
    /// Puts an endpoint into its network, or replaces it there. One that stays in its container keeps its turn in the
    /// order joined.
    pub fn put_host(&mut self, host: &Host) {
        self.take_out(host.endpoint, Some(host.sandbox));
        let network = self.networks.entry(host.network).or_default();
        network.label = key(&host.network_name);
        network.hosts += 1;
        let mut keys: Vec<Box<[u8]>> = Vec::with_capacity(host.names.len());
        for name in host.names.iter().filter_map(|name| key(name)) {
            if !keys.contains(&name) {
                network.names.entry(name.clone()).or_default().members.push(host.endpoint);
                keys.push(name);
            }
        }
        for address in &host.addresses {
            network.addresses.insert(*address, host.endpoint);
        }
        let pointer = host.names.first().and_then(|name| Name::from_text(&format!("{name}.{}", host.network_name)));
        let places = &mut self.sandboxes.entry(host.sandbox).or_default().places;
        if !places.contains(&host.endpoint) {
            places.push(host.endpoint);
        }
        self.hosts.insert(
            host.endpoint,
            Held {
                network: host.network,
                internal: host.internal,
                sandbox: host.sandbox,
                addresses: host.addresses.clone(),
                keys,
                pointer,
            },
        );
    }

    /// Takes an endpoint out of its network.
    pub fn remove_host(&mut self, endpoint: EndpointId) {
        self.take_out(endpoint, None);
    }

    /// `stays` is the container in whose order it keeps its turn.
    fn take_out(&mut self, endpoint: EndpointId, stays: Option<ContainerId>) {
        let Some(held) = self.hosts.remove(&endpoint) else { return };
        if stays != Some(held.sandbox)
            && let Some(view) = self.sandboxes.get_mut(&held.sandbox)
        {
            view.places.retain(|place| *place != endpoint);
            if view.places.is_empty() && view.links.is_empty() {
                self.sandboxes.remove(&held.sandbox);
            }
        }
        let Some(network) = self.networks.get_mut(&held.network) else { return };
        for name in &held.keys {
            if let Some(entry) = network.names.get_mut(name) {
                entry.members.retain(|member| *member != endpoint);
                if entry.members.is_empty() {
                    network.names.remove(name);
                }
            }
        }
        for address in &held.addresses {
            if network.addresses.get(address) == Some(&endpoint) {
                network.addresses.remove(address);
            }
        }
        network.hosts -= 1;
        if network.hosts == 0 {
            self.networks.remove(&held.network);
        }
    }

    /// Names of a container's own for other names. Those that no query can ask are passed over.
    pub fn set_links<'a>(&mut self, sandbox: ContainerId, links: impl IntoIterator<Item = Link<'a>>) {
        let alias =
            |link: Link<'_>| Some(Alias { alias: key(link.alias)?, network: link.network, name: key(link.name)? });
        let view = self.sandboxes.entry(sandbox).or_default();
        view.links = links.into_iter().filter_map(alias).collect();
        if view.places.is_empty() && view.links.is_empty() {
            self.sandboxes.remove(&sandbox);
        }
    }

    /// Whether the container is on a network that leads out.
    #[must_use]
    pub fn leads_out(&self, sandbox: ContainerId) -> bool {
        let places = self.sandboxes.get(&sandbox).map(|view| view.places.as_slice()).unwrap_or_default();
        places.iter().filter_map(|place| self.hosts.get(place)).any(|held| !held.internal)
    }

    /// Endpoints known.
    pub fn hosts(&self) -> impl Iterator<Item = EndpointId> + '_ {
        self.hosts.keys().copied()
    }

    /// Answers a query of the container if it is about another one, in at most `limit` bytes.
    pub fn answer(&mut self, sandbox: ContainerId, query: &Query, limit: usize, out: &mut Vec<u8>) -> Found {
        if query.qclass != CLASS_IN {
            return Found::Unknown;
        }
        let name = query.name.lower();
        if query.qtype == rtype::PTR {
            let pointer = reversed(name.labels()).and_then(|address| self.pointer(sandbox, address));
            if let Some(target) = pointer {
                answer::pointer(query, &target, limit, out);
                return Found::Answered;
            }
        }
        self.found.clear();
        if !self.collect(sandbox, &name, query.qtype) {
            return Found::Unknown;
        }
        if self.found.is_empty() {
            answer::empty(query, rcode::NOERROR, out);
        } else {
            answer::addresses(query, self.found.iter().copied(), limit, out);
        }
        Found::Answered
    }

    fn pointer(&self, sandbox: ContainerId, address: IpAddr) -> Option<Name> {
        self.sandboxes.get(&sandbox)?.places.iter().find_map(|place| {
            let network = self.networks.get(&self.hosts.get(place)?.network)?;
            self.hosts.get(network.addresses.get(&address)?)?.pointer
        })
    }

    /// Finds all addresses of the type asked for; whether anything is called so at all.
    fn collect(&mut self, sandbox: ContainerId, name: &Name, qtype: u16) -> bool {
        let Some(view) = self.sandboxes.get(&sandbox) else { return false };
        let labels = name.labels();
        // The whole name first, then the cuts from the last dot on.
        let mut cuts = [0u8; crate::name::MAX_NAME / 2 + 1];
        let mut count = 0;
        for (start, cut) in name.starts().zip(&mut cuts) {
            *cut = u8::try_from(start).unwrap_or(0);
            count += 1;
        }
        let wanted = |address: &IpAddr| match qtype {
            rtype::A => address.is_ipv4(),
            rtype::AAAA => address.is_ipv6(),
            rtype::ANY => true,
            _ => false,
        };
        let later = cuts.get(1..count).unwrap_or_default().iter().rev().map(|cut| usize::from(*cut));
        for cut in std::iter::once(labels.len()).chain(later) {
            let (host, network_label) = labels.split_at(cut);
            let mut known = false;
            for link in view.links.iter().filter(|link| *link.alias == *host) {
                // Only on a network that the container itself is on, as any name.
                let here = |place: &EndpointId| self.hosts.get(place).is_some_and(|held| held.network == link.network);
                let Some(network) = self.networks.get(&link.network).filter(|_| view.places.iter().any(here)) else {
                    continue;
                };
                if !network_label.is_empty() && network.label.as_deref() != Some(network_label) {
                    continue;
                }
                let Some(entry) = network.names.get(&link.name) else { continue };
                known = true;
                for held in entry.members.iter().filter_map(|member| self.hosts.get(member)) {
                    self.found.extend(held.addresses.iter().filter(|address| wanted(address)));
                }
            }
            if known {
                return true;
            }
            for place in &view.places {
                let Some(network) = self.hosts.get(place).and_then(|held| self.networks.get_mut(&held.network)) else {
                    continue;
                };
                if !network_label.is_empty() && network.label.as_deref() != Some(network_label) {
                    continue;
                }
                let Some(entry) = network.names.get_mut(host) else { continue };
                known = true;
                let first = entry.turn % entry.members.len().max(1);
                entry.turn = first + 1;
                let (behind, front) = entry.members.split_at(first);
                for held in front.iter().chain(behind).filter_map(|member| self.hosts.get(member)) {
                    self.found.extend(held.addresses.iter().filter(|address| wanted(address)));
                }
            }
            if known {
                return true;
            }
        }
        false
    }
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for (RFC 1035 3.5, RFC 3596 2.5).
fn reversed(labels: &[u8]) -> Option<IpAddr> {
    if let Some(rest) = labels.strip_suffix(b"\x07in-addr\x04arpa") {
        let mut octets = [0u8; 4];
        let mut rest = rest;
        for octet in octets.iter_mut().rev() {
            let (length, behind) = rest.split_first()?;
            let (digits, behind) = behind.split_at_checked(usize::from(*length))?;
            // Without leading zeros and signs, which would be other names for the same.
            if digits.is_empty() || (digits[0] == b'0' && digits.len() > 1) || !digits.iter().all(u8::is_ascii_digit) {
                return None;
            }
            *octet = std::str::from_utf8(digits).ok()?.parse().ok()?;
            rest = behind;
        }
        return rest.is_empty().then_some(IpAddr::V4(Ipv4Addr::from(octets)));
    }
    let rest = labels.strip_suffix(b"\x03ip6\x04arpa")?;
    let (nibbles, []) = rest.as_chunks::<2>() else { return None };
    if nibbles.len() != 32 {
        return None;
    }
    let mut address = 0u128;
    for [length, digit] in nibbles.iter().rev() {
        let value = char::from(*digit).to_digit(16).filter(|_| *length == 1)?;
        address = address << 4 | u128::from(value);
    }
    Some(IpAddr::V6(Ipv6Addr::from(address)))
}

#[cfg(test)]
mod tests {
    use domain::base::Message;
    use domain::rdata::{A, Aaaa, Ptr};
    use types::Id;

    use super::*;
    use crate::query::tests::ask;

    fn id<T: From<Id>>(n: u8) -> T {
        Id::from_bytes([n; 32]).into()
    }

    fn host(endpoint: u8, network: u8, sandbox: u8, names: &[&str], addresses: &[&str]) -> Host {
        Host {
            endpoint: id(endpoint),
            network: id(network),
            network_name: format!("net{network}"),
            internal: false,
            sandbox: id(sandbox),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    /// The addresses answered, `None` when the name is unknown.
    fn look(zones: &mut Zones, sandbox: u8, name: &str, qtype: u16) -> Option<Vec<String>> {
        let query = Query::parse(&ask(1, name, qtype, None)).unwrap();
        let mut out = Vec::new();
        if zones.answer(id(sandbox), &query, 512, &mut out) == Found::Unknown {
            return None;
        }
        let message = Message::from_octets(&out).unwrap();
        assert_eq!(message.header().rcode().to_int(), 0);
        let answer = message.answer().unwrap();
        let mut all: Vec<String> =
            answer.limit_to::<A>().map(|record| record.unwrap().data().addr().to_string()).collect();
        all.extend(answer.limit_to::<Aaaa>().map(|record| record.unwrap().data().addr().to_string()));
        all.extend(answer.limit_to::<Ptr<_>>().map(|record| record.unwrap().data().ptrdname().to_string()));
        Some(all)
    }

    #[test]
    fn names_belong_to_networks() {
        let mut zones = Zones::default();
        zones.put_host(&host(1, 1, 1, &["web", "www", "aabbccddeeff"], &["10.1.0.2", "fd00::2"]));
        zones.put_host(&host(2, 1, 2, &["db"], &["10.1.0.3"]));
        zones.put_host(&host(3, 2, 3, &["web"], &["10.2.0.2"]));
        for name in ["web", "WEB", "www", "aabbccddeeff", "web.net1", "www.NET1"] {
            assert_eq!(look(&mut zones, 2, name, rtype::A).unwrap(), ["10.1.0.2"], "{name}");
            assert_eq!(look(&mut zones, 2, name, rtype::AAAA).unwrap(), ["fd00::2"], "{name}");
        }
        assert_eq!(look(&mut zones, 1, "web", rtype::ANY).unwrap(), ["10.1.0.2", "fd00::2"]);
        // Known, but without an address of the family, or of any other type.
        assert_eq!(look(&mut zones, 1, "db", rtype::AAAA).unwrap(), [""; 0]);
        assert_eq!(look(&mut zones, 1, "db", rtype::MX).unwrap(), [""; 0]);
        // Other networks are out of sight.
        assert_eq!(look(&mut zones, 3, "db", rtype::A), None);
        assert_eq!(look(&mut zones, 3, "web", rtype::A).unwrap(), ["10.2.0.2"]);
        for name in ["web.net2", "net1", "web.net1.net1", "example.com", "we", "webb"] {
            assert_eq!(look(&mut zones, 2, name, rtype::A), None, "{name}");
        }
        assert_eq!(look(&mut zones, 9, "web", rtype::A), None);
        zones.remove_host(id(1));
        assert_eq!(look(&mut zones, 2, "web", rtype::A), None);
    }

    #[test]
    fn dots_in_names_and_networks() {
        let mut zones = Zones::default();
        let mut dotted = host(1, 1, 1, &["a.b"], &["10.0.0.1"]);
        dotted.network_name = "c.d".to_owned();
        zones.put_host(&dotted);
        let mut shorter = host(2, 2, 1, &["a"], &["10.0.0.2"]);
        shorter.network_name = "b.c.d".to_owned();
        zones.put_host(&shorter);
        assert_eq!(look(&mut zones, 1, "a.b", rtype::A).unwrap(), ["10.0.0.1"]);
        // The longer name wins.
        assert_eq!(look(&mut zones, 1, "a.b.c.d", rtype::A).unwrap(), ["10.0.0.1"]);
        zones.remove_host(id(1));
        assert_eq!(look(&mut zones, 1, "a.b.c.d", rtype::A).unwrap(), ["10.0.0.2"]);
        assert_eq!(look(&mut zones, 1, "a.b", rtype::A), None);
    }

    #[test]
    fn several_take_turns_and_networks_keep_the_order_joined() {
        let mut zones = Zones::default();
        for n in 1..=3 {
            zones.put_host(&host(n, 1, n, &["app"], &[&format!("10.1.0.{n}")]));
        }
        let turns: Vec<_> = (0..4).map(|_| look(&mut zones, 1, "app", rtype::A).unwrap()[0].clone()).collect();
        assert_eq!(turns, ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.1"]);
        assert_eq!(look(&mut zones, 1, "app", rtype::A).unwrap().len(), 3);
        // The second network's come behind the first's, whoever's turn it is.
        zones.put_host(&host(11, 2, 1, &["one"], &["10.2.0.1"]));
        zones.put_host(&host(12, 2, 9, &["app"], &["10.2.0.9"]));
        for _ in 0..3 {
            assert_eq!(look(&mut zones, 1, "app", rtype::A).unwrap()[3], "10.2.0.9");
        }
        // Putting the first again does not move it behind.
        zones.put_host(&host(1, 1, 1, &["app"], &["10.1.0.77"]));
        assert_eq!(look(&mut zones, 1, "app", rtype::A).unwrap()[3], "10.2.0.9");
    }

    #[test]
    fn pointers_name_the_first_name_and_the_network() {
        let mut zones = Zones::default();
        zones.put_host(&host(1, 1, 1, &["web", "www"], &["10.1.0.2", "fd00::2"]));
        zones.put_host(&host(2, 2, 2, &["db"], &["10.2.0.2"]));
        let v6 = format!("2{}.d.f.ip6.arpa", ".0".repeat(29));
        assert_eq!(look(&mut zones, 1, "2.0.1.10.in-addr.arpa", rtype::PTR).unwrap(), ["web.net1"]);
        assert_eq!(look(&mut zones, 1, "2.0.1.10.IN-ADDR.arpa", rtype::PTR).unwrap(), ["web.net1"]);
        assert_eq!(look(&mut zones, 1, &v6, rtype::PTR).unwrap(), ["web.net1"]);
        for name in
            ["2.0.2.10.in-addr.arpa", "02.0.1.10.in-addr.arpa", "2.0.1.in-addr.arpa", "in-addr.arpa", "x.ip6.arpa"]
        {
            assert_eq!(look(&mut zones, 1, name, rtype::PTR), None, "{name}");
        }
        // As on the default bridge: no name, no pointer.
        zones.put_host(&host(3, 3, 3, &[], &["10.3.0.2"]));
        assert_eq!(look(&mut zones, 3, "2.0.3.10.in-addr.arpa", rtype::PTR), None);
    }

    #[test]
    fn links_come_first_and_are_ones_own() {
        let mut zones = Zones::default();
        zones.put_host(&host(1, 1, 1, &["web"], &["10.1.0.1"]));
        zones.put_host(&host(2, 1, 2, &["db"], &["10.1.0.2"]));
        zones.put_host(&host(3, 2, 3, &["far"], &["10.2.0.3"]));
        let link = |alias, network, name| Link { alias, network: id(network), name };
        let links = [link("db", 1, "web"), link("store", 1, "DB"), link("gone", 1, "absent"), link("remote", 2, "far")];
        zones.set_links(id(1), links);
        assert_eq!(look(&mut zones, 1, "db", rtype::A).unwrap(), ["10.1.0.1"]);
        assert_eq!(look(&mut zones, 1, "Store", rtype::A).unwrap(), ["10.1.0.2"]);
        assert_eq!(look(&mut zones, 1, "store.net1", rtype::A).unwrap(), ["10.1.0.2"]);
        assert_eq!(look(&mut zones, 1, "gone", rtype::A), None);
        assert_eq!(look(&mut zones, 2, "store", rtype::A), None);
        assert_eq!(look(&mut zones, 1, "remote", rtype::A), None, "of a network it is not on");
        // A link follows whoever has the name.
        zones.remove_host(id(2));
        assert_eq!(look(&mut zones, 1, "store", rtype::A), None);
        zones.put_host(&host(4, 1, 2, &["db"], &["10.1.0.9"]));
        assert_eq!(look(&mut zones, 1, "store", rtype::A).unwrap(), ["10.1.0.9"]);
        zones.remove_host(id(4));
        zones.put_host(&host(2, 1, 2, &["db"], &["10.1.0.2"]));
        zones.set_links(id(1), []);
        assert_eq!(look(&mut zones, 1, "db", rtype::A).unwrap(), ["10.1.0.2"]);
    }

    #[test]
    fn the_way_out_needs_one_network_with_one() {
        let mut zones = Zones::default();
        assert!(!zones.leads_out(id(1)));
        let mut inside = host(1, 1, 1, &["a"], &[]);
        inside.internal = true;
        zones.put_host(&inside);
        assert!(!zones.leads_out(id(1)));
        zones.put_host(&host(2, 2, 1, &["a"], &[]));
        assert!(zones.leads_out(id(1)));
        zones.remove_host(id(2));
        assert!(!zones.leads_out(id(1)));
        zones.remove_host(id(1));
        assert!(zones.hosts.is_empty() && zones.networks.is_empty() && zones.sandboxes.is_empty());
    }
}
