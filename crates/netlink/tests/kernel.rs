//! The encoders against the running kernel, in a private network namespace that ends with each test.
//!
//! They need root; without it they say so and pass.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use netlink::nftables::{
    BaseChain, ChainKind, CmpOp, CtKey, DataType, Element, Expression, Header, Hook, MetaKey, NftSocket, Policy,
    Register, SetSpec, Transaction, Verdict, priority,
};
use netlink::route::{LinkChange, MacAddress, RouteRequests, RouteSocket, Veth};

fn in_private_netns(test: impl FnOnce() + Send) {
    match sys::netns::create_with(test) {
        Ok(_) => {}
        Err(error) => eprintln!("skipped: making a network namespace needs root ({error})"),
    }
}

#[test]
fn bridge_veth_address_and_route() {
    in_private_netns(|| {
        let mut socket = RouteSocket::open().unwrap();
        let mac = MacAddress([2, 0x42, 1, 2, 3, 4]);
        let mut requests = RouteRequests::new();
        requests.create_bridge("br-t", mac, 1400);
        requests.change_link_by_name("br-t", &LinkChange { up: Some(true), ..LinkChange::default() });
        socket.apply(requests).unwrap();
        let bridge = socket.link("br-t").unwrap().unwrap();
        assert_eq!((bridge.kind.as_str(), bridge.mac, bridge.mtu, bridge.up), ("bridge", Some(mac), 1400, true));

        let (far, mut far_socket) = sys::netns::create_with(|| RouteSocket::open().unwrap()).unwrap();
        let mut requests = RouteRequests::new();
        requests.create_veth(&Veth {
            name: "veth-t",
            master: bridge.index,
            peer_name: "eth0",
            peer_netns: far.as_fd(),
            mtu: 1400,
        });
        socket.apply(requests).unwrap();
        let near = socket.link("veth-t").unwrap().unwrap();
        assert_eq!((near.master, near.up, near.mtu), (Some(bridge.index), true, 1400));
        let eth0 = far_socket.link("eth0").unwrap().expect("the peer is born in the other namespace");
        assert!(!eth0.up);

        let address = Ipv4Addr::new(10, 77, 0, 2);
        let gateway = Ipv4Addr::new(10, 77, 0, 1);
        let mac = MacAddress([2, 0x42, 10, 77, 0, 2]);
        let mut requests = RouteRequests::new();
        requests
            .change_link(eth0.index, &LinkChange { up: Some(true), mac: Some(mac), ..LinkChange::default() })
            .add_address(eth0.index, address, 16)
            .set_route(Ipv4Addr::UNSPECIFIED, 0, Some(gateway), None);
        far_socket.apply(requests).unwrap();
        assert_eq!(far_socket.link("eth0").unwrap().unwrap().mac, Some(mac));
        let addresses = far_socket.addresses().unwrap();
        assert!(addresses.iter().any(|a| a.local == address && a.prefix == 16 && a.link == eth0.index));
        let routes = far_socket.routes().unwrap();
        assert!(routes.iter().any(|r| r.prefix == 0 && r.gateway == Some(gateway) && r.table == 254), "{routes:?}");

        let mut requests = RouteRequests::new();
        requests.set_hairpin("veth-t");
        socket.apply(requests).unwrap();
        assert!(socket.links().unwrap().iter().any(|link| link.name == "veth-t" && link.hairpin));
        let mut requests = RouteRequests::new();
        requests.change_link(near.index, &LinkChange { group: Some(0x7123), ..LinkChange::default() });
        requests.delete_group(0x7123);
        socket.apply(requests).unwrap();
        assert!(socket.link("veth-t").unwrap().is_none());
        assert!(far_socket.link("eth0").unwrap().is_none(), "both ends go together");
    });
}

#[test]
fn refusals_name_the_request() {
    in_private_netns(|| {
        let mut socket = RouteSocket::open().unwrap();
        let mut requests = RouteRequests::new();
        requests.delete_link("absent0");
        let error = socket.apply(requests).unwrap_err();
        assert!(error.is_absent() && error.to_string().contains("delete link absent0"), "{error}");
        let mut requests = RouteRequests::new();
        requests.create_bridge("twice", MacAddress([2, 0, 0, 0, 0, 1]), 1500);
        requests.create_bridge("twice", MacAddress([2, 0, 0, 0, 0, 1]), 1500);
        assert!(socket.apply(requests).unwrap_err().is_exists());
        // The socket is in step again afterwards.
        assert!(socket.link("twice").unwrap().is_some());
    });
}

fn ruleset(transaction: &mut Transaction) {
    let key = [DataType::Protocol, DataType::Ipv4Address, DataType::Port];
    let value = [DataType::Ipv4Address, DataType::Port];
    transaction.replace_table();
    transaction.create_set(&SetSpec { name: "ports", key: &key, value: &value });
    transaction.create_chain("translate");
    let base = BaseChain {
        kind: ChainKind::Nat,
        hook: Hook::Prerouting,
        priority: priority::DESTINATION_NAT,
        policy: Policy::Accept,
    };
    transaction.create_base_chain("prerouting", &base);
    let base = BaseChain { kind: ChainKind::Nat, hook: Hook::Postrouting, priority: priority::SOURCE_NAT, ..base };
    transaction.create_base_chain("postrouting", &base);
    let base = BaseChain { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Drop };
    transaction.create_base_chain("forward", &base);
    transaction.add_rule(
        "translate",
        "to the container",
        &[
            Expression::Meta(MetaKey::TransportProtocol, Register(0)),
            Expression::Payload { header: Header::Network, offset: 16, length: 4, to: Register(1) },
            Expression::Payload { header: Header::Transport, offset: 2, length: 2, to: Register(2) },
            Expression::Map("ports".into(), Register(0)),
            Expression::DestinationNat { address: Register(0), port: Register(1) },
        ],
    );
    let jump = [Expression::Verdict(Verdict::Jump("translate".into()))];
    transaction.add_rule("prerouting", "", &[&Expression::destination_is_local()[..], &jump].concat());
    let network = Ipv4Addr::new(10, 77, 0, 0);
    let source = Expression::source_in(network, 16);
    let leaving = Expression::output(CmpOp::NotEqual, "br-t");
    transaction.add_rule("postrouting", "out", &[&source[..], &leaving, &[Expression::Masquerade]].concat());
    let known = Expression::ct_any(CtKey::State, 6);
    let accept = [Expression::Counter, Expression::Verdict(Verdict::Accept)];
    transaction.add_rule("forward", "known", &[&known[..], &accept].concat());
}

#[test]
fn a_transaction_is_in_force_and_nft_reads_it_back() {
    in_private_netns(|| {
        let mut socket = NftSocket::open().unwrap();
        let mut transaction = Transaction::new("t");
        ruleset(&mut transaction);
        let element = Element::new()
            .key_protocol(6)
            .key_address(Ipv4Addr::LOCALHOST)
            .key_port(8080)
            .value_address(Ipv4Addr::new(10, 77, 0, 2))
            .value_port(80);
        transaction.add_elements("ports", std::slice::from_ref(&element));
        socket.apply(transaction).unwrap();

        assert_eq!(socket.tables().unwrap(), ["t"]);
        let chains = socket.chains().unwrap();
        assert!(chains.iter().any(|c| c.name == "forward" && c.hook == Some(2) && c.drops));
        let rules = socket.rules("t", "forward").unwrap();
        assert_eq!((rules.len(), rules[0].comment.as_str()), (1, "known"));
        assert_eq!(socket.elements("t", "ports").unwrap(), std::slice::from_ref(&element));

        if let Ok(nft) = std::process::Command::new("nft").args(["list", "table", "ip", "t"]).output() {
            let text = String::from_utf8_lossy(&nft.stdout).into_owned();
            for expected in [
                "map ports",
                "tcp . 127.0.0.1 . 8080 : 10.77.0.2 . 80",
                "dnat",
                "fib daddr type local",
                "ip saddr 10.77.0.0/16 oifname != \"br-t\" masquerade comment \"out\"",
                "ct state established,related counter",
                "policy drop",
            ] {
                assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
            }
        } else {
            eprintln!("nft is not installed: its view of the table was not compared");
        }

        let mut transaction = Transaction::new("t");
        transaction.delete_elements("ports", &[element]);
        transaction.delete_rule("forward", rules[0].handle);
        socket.apply(transaction).unwrap();
        assert!(socket.elements("t", "ports").unwrap().is_empty());
        assert!(socket.rules("t", "forward").unwrap().is_empty());
        let mut transaction = Transaction::new("t");
        transaction.delete_table();
        socket.apply(transaction).unwrap();
        assert!(socket.tables().unwrap().is_empty());
    });
}

#[test]
fn a_refused_transaction_changes_nothing() {
    in_private_netns(|| {
        let mut socket = NftSocket::open().unwrap();
        let mut transaction = Transaction::new("t");
        ruleset(&mut transaction);
        socket.apply(transaction).unwrap();
        let element = |port| Element::new().key_protocol(17).key_address(Ipv4Addr::LOCALHOST).key_port(port);
        let valued = |port| element(port).value_address(Ipv4Addr::LOCALHOST).value_port(1);
        let mut transaction = Transaction::new("t");
        transaction.add_elements("ports", &[valued(1), valued(2)]);
        transaction.delete_elements("ports", &[element(3)]);
        transaction.add_elements("ports", &[valued(4)]);
        let error = socket.apply(transaction).unwrap_err();
        assert!(error.is_absent() && error.to_string().contains("delete elements of nf_tables set t ports"), "{error}");
        assert!(socket.elements("t", "ports").unwrap().is_empty());
    });
}

#[test]
fn thousands_of_elements_fit_one_transaction() {
    in_private_netns(|| {
        let mut socket = NftSocket::open().unwrap();
        let mut transaction = Transaction::new("t");
        ruleset(&mut transaction);
        let elements: Vec<Element> = (1..=3000)
            .map(|port| {
                let key = Element::new().key_protocol(6).key_address(Ipv4Addr::LOCALHOST).key_port(port);
                key.value_address(Ipv4Addr::LOCALHOST).value_port(port)
            })
            .collect();
        transaction.add_elements("ports", &elements);
        socket.apply(transaction).unwrap();
        // The kernel grows the hash table of a set after the transaction, and a walk meanwhile can repeat entries or miss
        // some (rhashtable_walk_next(9)): the list counts once it is the same in two readings.
        let read = |socket: &mut NftSocket| {
            let mut found = socket.elements("t", "ports").unwrap();
            found.sort();
            found
        };
        let mut found = read(&mut socket);
        for _ in 0..1000 {
            let before = std::mem::replace(&mut found, read(&mut socket));
            if before == found {
                break;
            }
        }
        assert_eq!(found, elements);
    });
}
