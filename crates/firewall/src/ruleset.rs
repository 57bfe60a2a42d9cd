//! The rules of the table: constant chains at the hooks, and a few small chains per network that maps lead to.
//!
//! The invariant: a packet meets a fixed number of rules however many networks and ports there are, and a change of one
//! network or port changes elements and chains of its own alone. What reaches a container from elsewhere is a translated
//! connection or is allowed by the mode of its network; packets straight to an address behind translation are dropped
//! before connection tracking. A bridge of another network is elsewhere too.
//!
//! Pure: puts changes into a [`Transaction`]. Called by `firewall` and `wanted`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink::nftables::{
    BaseChain, ChainKind, CmpOp, CtKey, DataType, Element, Expression, Family, Hook, MetaKey, NatKind, Policy,
    Register, SetSpec, Transaction, Verdict, priority,
};
use types::Protocol;

use crate::forwarding;
use crate::rules::{FamilyRules, Forwarding, GatewayMode, NetRules, PortRule};

/// Maps from a network to its chain.
const GUARD_4: &str = "guard4";
const GUARD_6: &str = "guard6";
const OUT_4: &str = "out4";
const OUT_6: &str = "out6";
/// Maps from a bridge to its chain.
const FROM: &str = "from";
const TO: &str = "to";
const IN: &str = "in";
/// Bridges whose packets are not translated to published ports.
const INTERNAL: &str = "internal";
/// Bridges of all networks.
const BRIDGES: &str = "bridges";
/// Bridges that published IPv4 ports may lead to.
const PUBLISHING: &str = "publishing";
/// The chain of published ports.
const PUBLISH: &str = "publish";

const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const DESTINATION_TRANSLATED: u32 = 32;
const ICMP: u8 = 1;
const ICMP_6: u8 = 58;
const LOOPBACK: (IpAddr, u8) = (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
const LOOPBACK_6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const LINK_LOCAL_6: (IpAddr, u8) = (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10);
const LINK_MULTICAST_6: (IpAddr, u8) = (IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0)), 16);

/// A set or map of published ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum PortSet {
    /// Published on one IPv4 address: where they lead to.
    On4,
    /// Published on every IPv4 address.
    Any4,
    /// Published on one IPv6 address.
    On6,
    /// Published on every IPv6 address.
    Any6,
    /// Addresses and ports of containers that may be reached as they are, by some at least.
    Open4,
    /// The same of IPv6.
    Open6,
    /// Published ports that a forwarder of this host serves too or alone, by protocol and port.
    Forwarded,
}

impl PortSet {
    pub(crate) const ALL: [Self; 7] =
        [Self::On4, Self::Any4, Self::On6, Self::Any6, Self::Open4, Self::Open6, Self::Forwarded];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::On4 => "published4",
            Self::Any4 => "published4-any",
            Self::On6 => "published6",
            Self::Any6 => "published6-any",
            Self::Open4 => "open4",
            Self::Open6 => "open6",
            Self::Forwarded => "forwarded",
        }
    }

    /// What an element is found by, and what it holds.
    const fn types(self) -> (&'static [DataType], &'static [DataType]) {
        use DataType::{Ipv4Address, Ipv6Address, Port, Protocol};
        match self {
            Self::On4 => (&[Protocol, Ipv4Address, Port], &[Ipv4Address, Port]),
            Self::Any4 => (&[Protocol, Port], &[Ipv4Address, Port]),
            Self::On6 => (&[Protocol, Ipv6Address, Port], &[Ipv6Address, Port]),
            Self::Any6 => (&[Protocol, Port], &[Ipv6Address, Port]),
            Self::Open4 => (&[Protocol, Ipv4Address, Port], &[]),
            Self::Open6 => (&[Protocol, Ipv6Address, Port], &[]),
            Self::Forwarded => (&[Protocol, Port], &[]),
        }
    }
}

/// What the rules need of one family of a network, of whichever family.
struct Side {
    family: Family,
    subnet: (IpAddr, u8),
    gateway: Option<IpAddr>,
    masquerade: bool,
    mode: GatewayMode,
    source: Option<IpAddr>,
}

impl Side {
    /// Whether host ports are translated to containers, and containers to the host's address.
    fn translates(&self) -> bool {
        matches!(self.mode, GatewayMode::Nat | GatewayMode::NatUnprotected)
    }

    /// Whether packets straight to containers are dropped early.
    fn guarded(&self, net: &NetRules) -> bool {
        net.internal || self.mode == GatewayMode::Isolated || (self.mode == GatewayMode::Nat && self.masquerade)
    }
}

fn sides(net: &NetRules) -> impl Iterator<Item = Side> {
    let v4 = net.v4.as_ref().map(|rules| Side {
        family: Family::Ipv4,
        subnet: (rules.subnet.network().into(), rules.subnet.prefix_len()),
        gateway: rules.gateway.map(Into::into),
        masquerade: rules.masquerade,
        mode: rules.mode,
        source: rules.source.map(Into::into),
    });
    let v6 = net.v6.as_ref().map(|rules| Side {
        family: Family::Ipv6,
        subnet: (rules.subnet.network().into(), rules.subnet.prefix_len()),
        gateway: rules.gateway.map(Into::into),
        masquerade: rules.masquerade,
        mode: rules.mode,
        source: rules.source.map(Into::into),
    });
    v4.into_iter().chain(v6)
}

/// The mode of the family a port's target is of, if its network has that.
pub(crate) fn mode_of(net: &NetRules, port: &PortRule) -> Option<GatewayMode> {
    if port.target.is_ipv4() {
        net.v4.as_ref().map(|FamilyRules { mode, .. }| *mode)
    } else {
        net.v6.as_ref().map(|FamilyRules { mode, .. }| *mode)
    }
}

/// IANA protocol number.
pub(crate) const fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// The elements that publish a port, and where they belong; none when the rules have nothing to do for it.
pub(crate) fn port_elements(net: &NetRules, port: &PortRule) -> impl Iterator<Item = (PortSet, Element)> {
    open_element(net, port).into_iter().chain(publishing_element(net, port)).chain(forwarded_element(net, port))
}

/// A port that may be reached by the container's own address, by some at least.
fn open_element(net: &NetRules, port: &PortRule) -> Option<(PortSet, Element)> {
    let open = match mode_of(net, port)? {
        GatewayMode::Routed => true,
        GatewayMode::Nat => !net.trusted.is_empty(),
        GatewayMode::NatUnprotected | GatewayMode::Isolated => false,
    };
    let set = if port.target.is_ipv4() { PortSet::Open4 } else { PortSet::Open6 };
    let protocol = Element::new().key_protocol(protocol_number(port.protocol));
    (open && !net.internal).then(|| (set, protocol.key_ip(port.target).key_port(port.target_port)))
}

fn publishing_element(net: &NetRules, port: &PortRule) -> Option<(PortSet, Element)> {
    let v4 = port.target.is_ipv4();
    let protocol = Element::new().key_protocol(protocol_number(port.protocol));
    match mode_of(net, port)? {
        _ if net.internal => None,
        GatewayMode::Isolated | GatewayMode::Routed => None,
        GatewayMode::Nat | GatewayMode::NatUnprotected => {
            if !port.is_translated() {
                return None;
            }
            let (set, key) = match (port.host_ip.is_unspecified(), v4) {
                (true, true) => (PortSet::Any4, protocol.key_port(port.host_port)),
                (true, false) => (PortSet::Any6, protocol.key_port(port.host_port)),
                (false, true) => (PortSet::On4, protocol.key_ip(port.host_ip).key_port(port.host_port)),
                (false, false) => (PortSet::On6, protocol.key_ip(port.host_ip).key_port(port.host_port)),
            };
            Some((set, key.value_ip(port.target).value_port(port.target_port)))
        }
    }
}

/// A forwarder answers whoever reaches its socket, internal networks by their bridge's address.
fn forwarded_element(net: &NetRules, port: &PortRule) -> Option<(PortSet, Element)> {
    let reached = port.is_forwarded() && !port.host_ip.is_loopback() && mode_of(net, port).is_some();
    let protocol = Element::new().key_protocol(protocol_number(port.protocol));
    reached.then(|| (PortSet::Forwarded, protocol.key_port(port.host_port)))
}

/// Fills an empty table with everything that does not depend on networks.
pub(crate) fn base(t: &mut Transaction) {
    let verdict = [DataType::Verdict];
    for (name, key) in [
        (GUARD_4, DataType::Ipv4Address),
        (OUT_4, DataType::Ipv4Address),
        (GUARD_6, DataType::Ipv6Address),
        (OUT_6, DataType::Ipv6Address),
    ] {
        t.create_interval_set(&SetSpec { name, key: &[key], value: &verdict });
    }
    for name in [FROM, TO, IN] {
        t.create_set(&SetSpec { name, key: &[DataType::InterfaceName], value: &verdict });
    }
    for name in [BRIDGES, INTERNAL, PUBLISHING] {
        t.create_set(&SetSpec { name, key: &[DataType::InterfaceName], value: &[] });
    }
    for set in PortSet::ALL {
        let (key, value) = set.types();
        t.create_set(&SetSpec { name: set.name(), key, value });
    }
    guard(t);
    destination_nat(t);
    source_nat(t);
    forward(t);
    let base = filter(Hook::Input, priority::FILTER);
    t.create_base_chain("input", &base);
    let by_bridge = rule(&[&input_name()], Expression::VerdictMap(IN.into(), Register(0)));
    t.add_rule("input", "containers of internal networks to this host", &by_bridge);
}

/// Drops what must not even reach connection tracking.
fn guard(t: &mut Transaction) {
    let chain = "guard";
    t.create_base_chain(chain, &filter(Hook::Prerouting, priority::RAW));
    let own = Expression::input(CmpOp::Equal, "lo");
    t.add_rule(chain, "this host to itself", &rule(&[&own], verdict(Verdict::Accept)));
    // Bridges accept loopback addresses (route_localnet); nobody outside may make use of that.
    let to_loopback = Expression::destination_within(LOOPBACK.0, LOOPBACK.1);
    let v4 = Expression::family(Family::Ipv4);
    t.add_rule(chain, "to loopback from outside", &rule(&[&v4, &to_loopback], verdict(Verdict::Drop)));
    for (family, map) in [(Family::Ipv4, GUARD_4), (Family::Ipv6, GUARD_6)] {
        let destination = [Expression::load_destination(family, Register(0))];
        let by_network = Expression::VerdictMap(map.into(), Register(0));
        t.add_rule(chain, "straight to containers", &rule(&[&Expression::family(family), &destination], by_network));
    }
}

fn destination_nat(t: &mut Transaction) {
    t.create_chain(PUBLISH);
    for (family, exact, any) in
        [(Family::Ipv4, PortSet::On4, PortSet::Any4), (Family::Ipv6, PortSet::On6, PortSet::Any6)]
    {
        let of_family = Expression::family(family);
        if family == Family::Ipv6 {
            // Neither source can be forwarded to a container: a forwarder listens there.
            let to_loopback = Expression::destination_address(CmpOp::Equal, LOOPBACK_6);
            let leave = rule(&[&of_family, &to_loopback], verdict(Verdict::Return));
            t.add_rule(PUBLISH, "loopback is for the forwarder", &leave);
            let from_link = Expression::source_within(LINK_LOCAL_6.0, LINK_LOCAL_6.1);
            let leave = rule(&[&of_family, &from_link], verdict(Verdict::Return));
            t.add_rule(PUBLISH, "link-local sources are for the forwarder", &leave);
        }
        // Registers of four bytes: an address takes one or four.
        let past_address = |first: u8| Register(first + if family == Family::Ipv4 { 1 } else { 4 });
        let port = Some(past_address(0));
        let translate = Expression::Nat { kind: NatKind::Destination, family, address: Register(0), port };
        let key = exact_key(family);
        let lookup = [Expression::Map(exact.name().into(), Register(0))];
        let found = rule(&[&of_family, &key, &lookup], translate.clone());
        t.add_rule(PUBLISH, "ports published on this address", &found);
        let key = [
            Expression::Meta(MetaKey::TransportProtocol, Register(0)),
            Expression::load_destination_port(Register(1)),
            Expression::Map(any.name().into(), Register(0)),
        ];
        t.add_rule(PUBLISH, "ports published on every address", &rule(&[&of_family, &key], translate));
    }
    for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        let (kind, priority) = (ChainKind::Nat, priority::DESTINATION_NAT);
        t.create_base_chain(chain, &BaseChain { kind, hook, priority, policy: Policy::Accept });
        if hook == Hook::Prerouting {
            let internal = [input_name()[0].clone(), Expression::InSet(INTERNAL.into(), Register(0))];
            let leave = rule(&[&internal], verdict(Verdict::Accept));
            t.add_rule(chain, "internal networks have no way out by published ports", &leave);
        }
        let jump = verdict(Verdict::Jump(PUBLISH.into()));
        t.add_rule(chain, "to this host", &rule(&[&Expression::destination_is_local()], jump));
    }
}

/// Loads protocol, destination address and port, as the keys of published ports are made.
fn exact_key(family: Family) -> [Expression; 3] {
    let port = Register(if family == Family::Ipv4 { 2 } else { 5 });
    [
        Expression::Meta(MetaKey::TransportProtocol, Register(0)),
        Expression::load_destination(family, Register(1)),
        Expression::load_destination_port(port),
    ]
}

fn source_nat(t: &mut Transaction) {
    let chain = "postrouting";
    let (kind, hook, priority) = (ChainKind::Nat, Hook::Postrouting, priority::SOURCE_NAT);
    t.create_base_chain(chain, &BaseChain { kind, hook, priority, policy: Policy::Accept });
    for (family, map) in [(Family::Ipv4, OUT_4), (Family::Ipv6, OUT_6)] {
        let source = [Expression::load_source(family, Register(0))];
        let by_network = Expression::VerdictMap(map.into(), Register(0));
        t.add_rule(chain, "from containers", &rule(&[&Expression::family(family), &source], by_network));
    }
    let from_loopback = Expression::source_within(LOOPBACK.0, LOOPBACK.1);
    let to_bridge =
        [Expression::Meta(MetaKey::OutputName, Register(0)), Expression::InSet(PUBLISHING.into(), Register(0))];
    let v4 = Expression::family(Family::Ipv4);
    let found = rule(&[&v4, &from_loopback, &to_bridge], Expression::Masquerade);
    t.add_rule(chain, "loopback to published ports", &found);
}

fn forward(t: &mut Transaction) {
    let chain = "forward";
    t.create_base_chain(chain, &filter(Hook::Forward, priority::FILTER));
    for (name, comment) in [(MetaKey::InputName, "of containers"), (MetaKey::OutputName, "for containers")] {
        let own = [Expression::Meta(name, Register(0)), Expression::InSet(BRIDGES.into(), Register(0))];
        t.add_rule(chain, comment, &[&own[..], &Expression::mark(forwarding::MARK)].concat());
    }
    let from = rule(&[&input_name()], Expression::VerdictMap(FROM.into(), Register(0)));
    t.add_rule(chain, "from internal networks", &from);
    let output = [Expression::Meta(MetaKey::OutputName, Register(0))];
    t.add_rule(chain, "to containers", &rule(&[&output], Expression::VerdictMap(TO.into(), Register(0))));
}

/// Says in the table what forwarding was switched on, and keeps links that are nobody's concern here apart where the host
/// has become a router for them by it. The chain comes last, so that every other may mark a packet before.
pub(crate) fn add_forwarding(t: &mut Transaction, forwarding: Forwarding) {
    for family in forwarding::families(forwarding) {
        t.create_chain(forwarding::chain_of(family));
    }
    if !forwarding.shut || forwarding::families(forwarding).next().is_none() {
        return;
    }
    let chain = forwarding::SHUT;
    t.create_base_chain(chain, &filter(Hook::Forward, priority::FILTER + 10));
    let marked = rule(&[&Expression::marked(forwarding::MARK)], verdict(Verdict::Accept));
    t.add_rule(chain, "of networks, or let through by others", &marked);
    for (bridge, comment) in
        [(Expression::input_bridge(), "of networks of others"), (Expression::output_bridge(), "to networks of others")]
    {
        t.add_rule(chain, comment, &rule(&[&bridge], verdict(Verdict::Accept)));
    }
    for family in forwarding::families(forwarding) {
        let shut = rule(&[&Expression::family(family)], verdict(Verdict::Drop));
        t.add_rule(chain, "between other links", &shut);
    }
}

/// Removes what [`add_forwarding`] added for the same.
pub(crate) fn remove_forwarding(t: &mut Transaction, forwarding: Forwarding) {
    if forwarding.shut && forwarding::families(forwarding).next().is_some() {
        t.delete_chain(forwarding::SHUT);
    }
    for family in forwarding::families(forwarding) {
        t.delete_chain(forwarding::chain_of(family));
    }
}

/// Adds a network: its chains, then the elements that lead to them.
pub(crate) fn add_net(t: &mut Transaction, net: &NetRules) {
    let bridge = &net.bridge;
    for (prefix, rules) in chains(net) {
        let chain = chain_name(prefix, bridge);
        t.create_chain(&chain);
        for (comment, rule) in rules {
            t.add_rule(&chain, comment, &rule);
        }
    }
    for (set, elements) in elements(net) {
        t.add_elements(set, &elements);
    }
}

/// Removes what [`add_net`] added for the same network.
pub(crate) fn remove_net(t: &mut Transaction, net: &NetRules) {
    for (set, elements) in elements(net) {
        t.delete_elements(set, &elements);
    }
    for (prefix, _) in chains(net) {
        t.delete_chain(&chain_name(prefix, &net.bridge));
    }
}

fn chain_name(prefix: &str, bridge: &str) -> String {
    format!("{prefix}-{bridge}")
}

type Rules = Vec<(&'static str, Vec<Expression>)>;

/// The chains of a network: prefix of the name, and rules with their comments.
fn chains(net: &NetRules) -> Vec<(&'static str, Rules)> {
    let mut chains = vec![("to", to_chain(net))];
    if sides(net).any(|side| side.guarded(net)) {
        chains.push(("guard", guard_chain(net)));
    }
    if net.internal {
        let elsewhere = Expression::output(CmpOp::NotEqual, &net.bridge);
        chains.push(("from", vec![("to elsewhere", rule(&[&elsewhere], verdict(Verdict::Drop)))]));
    } else if sides(net).any(|side| side.translates()) {
        chains.push(("out", out_chain(net)));
    }
    if shut_in(net) {
        chains.push(("in", in_chain(net)));
    }
    chains
}

/// Whether not everything of this host may be reached from the network.
fn shut_in(net: &NetRules) -> bool {
    net.internal || sides(net).any(|side| side.mode == GatewayMode::Isolated)
}

/// Sets and the elements of a network in them.
fn elements(net: &NetRules) -> Vec<(&'static str, Vec<Element>)> {
    let bridge = || Element::new().key_interface(&net.bridge);
    let jump = |prefix| Verdict::Jump(chain_name(prefix, &net.bridge));
    let mut elements = vec![(TO, vec![bridge().value_verdict(jump("to"))]), (BRIDGES, vec![bridge()])];
    for side in sides(net) {
        let (guard, out) = if side.family == Family::Ipv4 { (GUARD_4, OUT_4) } else { (GUARD_6, OUT_6) };
        if side.guarded(net) {
            elements.push((guard, Element::network(side.subnet.0, side.subnet.1, Some(jump("guard")))));
        }
        if !net.internal && side.translates() {
            elements.push((out, Element::network(side.subnet.0, side.subnet.1, Some(jump("out")))));
            if side.family == Family::Ipv4 {
                elements.push((PUBLISHING, vec![bridge()]));
            }
        }
    }
    if net.internal {
        elements.push((FROM, vec![bridge().value_verdict(jump("from"))]));
        elements.push((INTERNAL, vec![bridge()]));
    }
    if shut_in(net) {
        elements.push((IN, vec![bridge().value_verdict(jump("in"))]));
    }
    elements
}

/// What comes with a container's address as its destination.
fn guard_chain(net: &NetRules) -> Rules {
    let own = Expression::input(CmpOp::Equal, &net.bridge);
    let mut rules = vec![("from its bridge", rule(&[&own], verdict(Verdict::Return)))];
    for side in sides(net) {
        if let (true, Some(gateway)) = (side.guarded(net), side.gateway) {
            let to_gateway = Expression::destination_address(CmpOp::Equal, gateway);
            let found = rule(&[&Expression::family(side.family), &to_gateway], verdict(Verdict::Return));
            rules.push(("to this host", found));
        }
    }
    // Nobody is trusted by who shuts everybody out.
    for side in sides(net).filter(|side| side.mode == GatewayMode::Nat && side.guarded(net) && !net.internal) {
        for link in &net.trusted {
            let trusted = Expression::input(CmpOp::Equal, link);
            let found = rule(&[&Expression::family(side.family), &trusted], verdict(Verdict::Return));
            rules.push(("from a trusted link", found));
        }
    }
    rules.push(("straight to a container", vec![verdict(Verdict::Drop)]));
    rules
}

/// What leaves with a container's address as its source.
fn out_chain(net: &NetRules) -> Rules {
    let mut rules = Rules::new();
    let elsewhere = Expression::output(CmpOp::NotEqual, &net.bridge);
    for side in sides(net).filter(|side| side.translates() && side.masquerade) {
        let mut found = [&Expression::family(side.family)[..], &elsewhere].concat();
        match side.source {
            Some(source) => {
                let load = match source {
                    IpAddr::V4(source) => source.octets().to_vec(),
                    IpAddr::V6(source) => source.octets().to_vec(),
                };
                let (kind, family) = (NatKind::Source, side.family);
                found.push(Expression::Load(Register(0), load));
                found.push(Expression::Nat { kind, family, address: Register(0), port: None });
            }
            None => found.push(Expression::Masquerade),
        }
        rules.push(("to elsewhere", found));
    }
    // The answer must come back through this host to be translated back.
    let back = Expression::output(CmpOp::Equal, &net.bridge);
    let translated = Expression::ct_any(CtKey::Status, DESTINATION_TRANSLATED);
    rules.push(("to published ports of the network", rule(&[&back, &translated], Expression::Masquerade)));
    rules
}

/// What is forwarded to the bridge.
fn to_chain(net: &NetRules) -> Rules {
    let mut rules = Rules::new();
    let accept = || verdict(Verdict::Accept);
    if !net.internal {
        let known = Expression::ct_any(CtKey::State, ESTABLISHED_OR_RELATED);
        rules.push(("answers", rule(&[&known], accept())));
        let translated = Expression::ct_any(CtKey::Status, DESTINATION_TRANSLATED);
        rules.push(("published ports", rule(&[&translated], accept())));
    }
    let own = Expression::input(CmpOp::Equal, &net.bridge);
    let between = verdict(if net.icc { Verdict::Accept } else { Verdict::Drop });
    rules.push(("between containers", rule(&[&own], between)));
    for side in sides(net).filter(|_| !net.internal) {
        let of_family = Expression::family(side.family);
        let v4 = side.family == Family::Ipv4;
        let set = if v4 { PortSet::Open4 } else { PortSet::Open6 };
        let open = [Expression::InSet(set.name().into(), Register(0))];
        match side.mode {
            GatewayMode::Isolated => {}
            GatewayMode::Nat => {
                for link in &net.trusted {
                    let trusted = Expression::input(CmpOp::Equal, link);
                    let found = rule(&[&trusted, &of_family, &exact_key(side.family), &open], accept());
                    rules.push(("published ports by a trusted link", found));
                }
            }
            GatewayMode::NatUnprotected => rules.push(("every port", rule(&[&of_family], accept()))),
            GatewayMode::Routed => {
                rules.push(("open ports", rule(&[&of_family, &exact_key(side.family), &open], accept())));
                let icmp = Expression::protocol(if v4 { ICMP } else { ICMP_6 });
                rules.push(("echo and errors", rule(&[&of_family, &icmp], accept())));
            }
        }
    }
    rules.push(("anything else", vec![verdict(Verdict::Drop)]));
    rules
}

/// What comes in from an internal or isolated network for this host itself.
fn in_chain(net: &NetRules) -> Rules {
    let mut rules = Rules::new();
    for side in sides(net).filter(|side| side.mode == GatewayMode::Isolated) {
        let found = rule(&[&Expression::family(side.family)], verdict(Verdict::Drop));
        rules.push(("isolated", found));
    }
    if !net.internal {
        return rules;
    }
    let accept = || verdict(Verdict::Accept);
    let known = Expression::ct_any(CtKey::State, ESTABLISHED_OR_RELATED);
    rules.push(("answers", rule(&[&known], accept())));
    let v6 = Expression::family(Family::Ipv6);
    let on_link = Expression::destination_within(LINK_MULTICAST_6.0, LINK_MULTICAST_6.1);
    let icmp = Expression::protocol(ICMP_6);
    rules.push(("neighbour discovery", rule(&[&v6, &on_link, &icmp], accept())));
    let port = [
        Expression::Meta(MetaKey::TransportProtocol, Register(0)),
        Expression::load_destination_port(Register(1)),
        Expression::InSet(PortSet::Forwarded.name().into(), Register(0)),
    ];
    rules.push(("to forwarders of published ports", rule(&[&port], verdict(Verdict::Drop))));
    rules.push(("to the bridge itself", rule(&[&Expression::destination_is_of_input()], accept())));
    rules.push(("to the rest of this host", vec![verdict(Verdict::Drop)]));
    rules
}

fn filter(hook: Hook, priority: i32) -> BaseChain {
    BaseChain { kind: ChainKind::Filter, hook, priority, policy: Policy::Accept }
}

fn input_name() -> [Expression; 1] {
    [Expression::Meta(MetaKey::InputName, Register(0))]
}

fn verdict(verdict: Verdict) -> Expression {
    Expression::Verdict(verdict)
}

fn rule(matches: &[&[Expression]], action: Expression) -> Vec<Expression> {
    let mut rule = matches.concat();
    rule.push(action);
    rule
}
