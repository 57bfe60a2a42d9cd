//! The firewall rules of one bridge: a table of its own with constant rules, and maps of published ports.
//!
//! The invariant: the rules never change while the bridge exists. Publishing adds elements to one of two maps (one keyed
//! by host address, one for ports published on every address), so its cost does not grow with what is published
//! already. A container is reachable from elsewhere only by a translated connection:
//! packets straight to its address are dropped before routing unless they come from its bridge or this host.
//! Bridges of other networks count as elsewhere, since every table sees every packet and any table's drop is final.

use std::net::Ipv4Addr;

use netlink::nftables::{
    BaseChain, ChainKind, CmpOp, CtKey, DataType, Element, Expression, Header, Hook, MetaKey, Policy, Register,
    SetSpec, Transaction, Verdict, priority,
};

use crate::Subnet;
use crate::port::{PublishedPort, protocol_number};

/// Ports published on one host address.
const BY_ADDRESS: &str = "published";
/// Ports published on every host address.
const ON_ANY: &str = "published-any";

const PUBLISH: &str = "publish";
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const DESTINATION_TRANSLATED: u32 = 32;
const LOOPBACK: Subnet = Subnet::containing(Ipv4Addr::LOCALHOST, 8);

/// What the rules of a bridge depend on.
#[derive(Debug, Clone)]
pub(crate) struct Ruleset {
    /// Name of the table.
    pub(crate) table: String,
    /// Name of the bridge link.
    pub(crate) bridge: String,
    pub(crate) subnet: Subnet,
    pub(crate) gateway: Ipv4Addr,
    /// Whether containers of the bridge may talk to each other unasked.
    pub(crate) icc: bool,
    /// Whether connections to elsewhere take the host's address.
    pub(crate) masquerade: bool,
}

impl Ruleset {
    /// Puts the table in force with these ports published, in place of whatever table there was, in one step.
    pub(crate) fn install<'a>(&self, ports: impl IntoIterator<Item = (Ipv4Addr, &'a PublishedPort)>) -> Transaction {
        let mut transaction = Transaction::new(&self.table);
        let t = &mut transaction;
        t.replace_table();
        let value = [DataType::Ipv4Address, DataType::Port];
        let key = [DataType::Protocol, DataType::Ipv4Address, DataType::Port];
        t.create_set(&SetSpec { name: BY_ADDRESS, key: &key, value: &value });
        t.create_set(&SetSpec { name: ON_ANY, key: &[DataType::Protocol, DataType::Port], value: &value });
        self.destination_nat(t);
        self.source_nat(t);
        self.guard(t);
        self.forward(t);
        add(t, ports);
        transaction
    }

    /// Publishes ports of the container with that address.
    pub(crate) fn publish(&self, target: Ipv4Addr, ports: &[PublishedPort]) -> Transaction {
        let mut transaction = Transaction::new(&self.table);
        add(&mut transaction, ports.iter().map(|port| (target, port)));
        transaction
    }

    /// Takes ports back.
    pub(crate) fn unpublish(&self, ports: &[PublishedPort]) -> Transaction {
        let mut transaction = Transaction::new(&self.table);
        for port in ports {
            let (map, key) = element(port);
            transaction.delete_elements(map, &[key]);
        }
        transaction
    }

    /// Removes the table.
    pub(crate) fn remove(&self) -> Transaction {
        let mut transaction = Transaction::new(&self.table);
        // Creating it first makes deleting sure to find it.
        transaction.create_table().delete_table();
        transaction
    }

    fn destination_nat(&self, t: &mut Transaction) {
        t.create_chain(PUBLISH);
        let protocol = Expression::Meta(MetaKey::TransportProtocol, Register(0));
        let address = Expression::Payload { header: Header::Network, offset: 16, length: 4, to: Register(1) };
        let port = |to| Expression::Payload { header: Header::Transport, offset: 2, length: 2, to };
        let translate = Expression::DestinationNat { address: Register(0), port: Register(1) };
        let exact = Expression::Map(BY_ADDRESS.into(), Register(0));
        let any = Expression::Map(ON_ANY.into(), Register(0));
        let rule = [protocol.clone(), address, port(Register(2)), exact, translate.clone()];
        t.add_rule(PUBLISH, "ports published on this address", &rule);
        let rule = [protocol, port(Register(1)), any, translate];
        t.add_rule(PUBLISH, "ports published on every address", &rule);
        for (name, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
            let priority = priority::DESTINATION_NAT;
            t.create_base_chain(name, &BaseChain { kind: ChainKind::Nat, hook, priority, policy: Policy::Accept });
            let jump = Expression::Verdict(Verdict::Jump(PUBLISH.into()));
            t.add_rule(name, "to this host", &rule_of(&[&Expression::destination_is_local()], jump));
        }
    }

    fn source_nat(&self, t: &mut Transaction) {
        let chain = "postrouting";
        let base = BaseChain {
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: priority::SOURCE_NAT,
            policy: Policy::Accept,
        };
        t.create_base_chain(chain, &base);
        let from_containers = Expression::source_in(self.subnet.network(), self.subnet.prefix());
        let to_bridge = Expression::output(CmpOp::Equal, &self.bridge);
        if self.masquerade {
            let elsewhere = Expression::output(CmpOp::NotEqual, &self.bridge);
            let rule = rule_of(&[&from_containers, &elsewhere], Expression::Masquerade);
            t.add_rule(chain, "containers to elsewhere", &rule);
        }
        let from_loopback = Expression::source_in(LOOPBACK.network(), LOOPBACK.prefix());
        let rule = rule_of(&[&to_bridge, &from_loopback], Expression::Masquerade);
        t.add_rule(chain, "loopback to published ports", &rule);
        // The answer must come back through this host to be translated back.
        let translated = Expression::ct_any(CtKey::Status, DESTINATION_TRANSLATED);
        let rule = rule_of(&[&to_bridge, &from_containers, &translated], Expression::Masquerade);
        t.add_rule(chain, "containers to published ports", &rule);
    }

    /// Drops what must not even reach connection tracking.
    fn guard(&self, t: &mut Transaction) {
        let chain = "guard";
        let base = BaseChain {
            kind: ChainKind::Filter,
            hook: Hook::Prerouting,
            priority: priority::RAW,
            policy: Policy::Accept,
        };
        t.create_base_chain(chain, &base);
        let not_bridge = Expression::input(CmpOp::NotEqual, &self.bridge);
        let not_loopback = Expression::input(CmpOp::NotEqual, "lo");
        let to_containers = Expression::destination_in(self.subnet.network(), self.subnet.prefix());
        let not_gateway = Expression::destination(CmpOp::NotEqual, self.gateway);
        let drop = Expression::Verdict(Verdict::Drop);
        let rule = rule_of(&[&not_bridge, &not_loopback, &to_containers, &not_gateway], drop.clone());
        t.add_rule(chain, "straight to a container", &rule);
        // The bridge accepts loopback addresses (route_localnet); nobody outside may make use of that.
        let to_loopback = Expression::destination_in(LOOPBACK.network(), LOOPBACK.prefix());
        t.add_rule(chain, "to loopback from outside", &rule_of(&[&not_loopback, &to_loopback], drop));
    }

    fn forward(&self, t: &mut Transaction) {
        let chain = "forward";
        let base = BaseChain {
            kind: ChainKind::Filter,
            hook: Hook::Forward,
            priority: priority::FILTER,
            policy: Policy::Accept,
        };
        t.create_base_chain(chain, &base);
        let to_bridge = Expression::output(CmpOp::Equal, &self.bridge);
        let from_bridge = Expression::input(CmpOp::Equal, &self.bridge);
        let accept = Expression::Verdict(Verdict::Accept);
        let known = Expression::ct_any(CtKey::State, ESTABLISHED_OR_RELATED);
        t.add_rule(chain, "answers to containers", &rule_of(&[&to_bridge, &known], accept.clone()));
        let translated = Expression::ct_any(CtKey::Status, DESTINATION_TRANSLATED);
        t.add_rule(chain, "published ports", &rule_of(&[&to_bridge, &translated], accept.clone()));
        if self.icc {
            t.add_rule(chain, "between containers", &rule_of(&[&from_bridge, &to_bridge], accept.clone()));
        }
        let drop = Expression::Verdict(Verdict::Drop);
        t.add_rule(chain, "anything else to containers", &rule_of(&[&to_bridge], drop));
        t.add_rule(chain, "containers to elsewhere", &rule_of(&[&from_bridge], accept));
    }
}

fn rule_of(matches: &[&[Expression]], action: Expression) -> Vec<Expression> {
    let mut rule = matches.concat();
    rule.push(action);
    rule
}

fn add<'a>(t: &mut Transaction, ports: impl IntoIterator<Item = (Ipv4Addr, &'a PublishedPort)>) {
    let (mut by_address, mut on_any) = (Vec::new(), Vec::new());
    for (target, port) in ports {
        let (map, key) = element(port);
        let element = key.value_address(target).value_port(port.container_port);
        if map == ON_ANY { on_any.push(element) } else { by_address.push(element) }
    }
    t.add_elements(BY_ADDRESS, &by_address);
    t.add_elements(ON_ANY, &on_any);
}

/// The map a port belongs to and its key there.
fn element(port: &PublishedPort) -> (&'static str, Element) {
    let key = Element::new().key_protocol(protocol_number(port.protocol));
    if port.host_ip.is_unspecified() {
        (ON_ANY, key.key_port(port.host_port))
    } else {
        (BY_ADDRESS, key.key_address(port.host_ip).key_port(port.host_port))
    }
}
