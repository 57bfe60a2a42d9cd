//! Tables of every family against the running kernel, in a private network namespace that ends with each test.
//!
//! They need root; without it they say so and pass.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use netlink::conntrack::{Connection, ConntrackSocket};
use netlink::nftables::{
    BaseChain, ChainKind, Change, Checksum, CmpOp, CtKey, DataType, Element, Expression, Family, Header, Hook, MetaKey,
    NatKind, NftMonitor, NftSocket, Object, Policy, Register, SetSpec, TABLE_OWNER, TABLE_PERSIST, Transaction,
    Verdict, priority,
};
use netlink::route::{LinkChange, RouteRequests, RouteSocket};

const PATIENCE: Duration = Duration::from_secs(5);

fn in_private_netns(test: impl FnOnce() + Send) {
    let run = || {
        let mut requests = RouteRequests::new();
        requests.change_link_by_name("lo", &LinkChange { up: Some(true), ..LinkChange::default() });
        RouteSocket::open().unwrap().apply(requests).unwrap();
        test();
    };
    match sys::netns::create_with(run) {
        Ok(_) => {}
        Err(error) => eprintln!("skipped: making a network namespace needs root ({error})"),
    }
}

/// Runs `nft` in the namespace of this thread; none when it is not installed.
fn nft(args: &[&str]) -> Option<String> {
    let output = Command::new("nft").args(args).output().ok()?;
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn base(kind: ChainKind, hook: Hook, priority: i32) -> BaseChain {
    BaseChain { kind, hook, priority, policy: Policy::Accept }
}

fn verdict(verdict: Verdict) -> Expression {
    Expression::Verdict(verdict)
}

#[test]
fn an_inet_table_with_intervals_and_verdict_maps() {
    in_private_netns(|| {
        let mut socket = NftSocket::open().unwrap();
        let mut t = Transaction::of(Family::Inet, "t");
        let map = [DataType::Verdict];
        t.create_table();
        t.create_interval_set(&SetSpec { name: "nets4", key: &[DataType::Ipv4Address], value: &map });
        t.create_interval_set(&SetSpec { name: "nets6", key: &[DataType::Ipv6Address], value: &map });
        t.create_set(&SetSpec { name: "links", key: &[DataType::InterfaceName], value: &map });
        t.create_set(&SetSpec { name: "shut", key: &[DataType::InterfaceName], value: &[] });
        let key = [DataType::Protocol, DataType::Ipv6Address, DataType::Port];
        t.create_set(&SetSpec { name: "ports6", key: &key, value: &[DataType::Ipv6Address, DataType::Port] });
        t.create_chain("net-a").create_chain("net-b").create_chain("publish");
        t.create_base_chain("prerouting", &base(ChainKind::Nat, Hook::Prerouting, priority::DESTINATION_NAT));
        t.create_base_chain("postrouting", &base(ChainKind::Nat, Hook::Postrouting, priority::SOURCE_NAT));
        t.create_base_chain("forward", &base(ChainKind::Filter, Hook::Forward, priority::FILTER));
        t.create_base_chain("input", &base(ChainKind::Filter, Hook::Input, priority::FILTER));
        let translate = |kind, family, port| Expression::Nat { kind, family, address: Register(0), port };
        let v4 = Expression::family(Family::Ipv4);
        let v6 = Expression::family(Family::Ipv6);
        let rule = [
            &v6[..],
            &[
                Expression::Meta(MetaKey::TransportProtocol, Register(0)),
                Expression::load_destination(Family::Ipv6, Register(1)),
                Expression::load_destination_port(Register(5)),
                Expression::Map("ports6".into(), Register(0)),
                translate(NatKind::Destination, Family::Ipv6, Some(Register(4))),
            ],
        ]
        .concat();
        t.add_rule("publish", "to the container", &rule);
        let jump = [verdict(Verdict::Jump("publish".into()))];
        t.add_rule("prerouting", "", &[&Expression::destination_is_local()[..], &jump].concat());
        let by_source = |family, set: &str| {
            [Expression::load_source(family, Register(0)), Expression::VerdictMap(set.into(), Register(0))]
        };
        t.add_rule("postrouting", "", &[&v4[..], &by_source(Family::Ipv4, "nets4")].concat());
        t.add_rule("postrouting", "", &[&v6[..], &by_source(Family::Ipv6, "nets6")].concat());
        t.add_rule("net-a", "", &[Expression::Masquerade]);
        let source = Expression::Load(Register(0), Ipv6Addr::LOCALHOST.octets().to_vec());
        t.add_rule("net-b", "", &[&v6[..], &[source, translate(NatKind::Source, Family::Ipv6, None)]].concat());
        let load = Expression::Meta(MetaKey::InputName, Register(0));
        t.add_rule(
            "forward",
            "",
            &[load.clone(), Expression::NotInSet("shut".into(), Register(0)), Expression::Counter],
        );
        let shut = [load.clone(), Expression::InSet("shut".into(), Register(0)), verdict(Verdict::Drop)];
        t.add_rule("forward", "", &shut);
        t.add_rule("forward", "", &[load, Expression::VerdictMap("links".into(), Register(0))]);
        let own = Expression::destination_is_of_input();
        t.add_rule("input", "", &[&own[..], &[verdict(Verdict::Accept)]].concat());
        let inside = Expression::destination_within("fd00:1::".parse().unwrap(), 48);
        t.add_rule("input", "", &[&v6[..], &inside, &Expression::protocol(58), &[verdict(Verdict::Drop)]].concat());

        let network = |text: &str, prefix, chain: &str| {
            Element::network(text.parse().unwrap(), prefix, Some(Verdict::Jump(chain.into())))
        };
        // Neighbours share the key where one ends and the other begins.
        t.add_elements("nets4", &network("172.17.0.0", 16, "net-a"));
        t.add_elements("nets4", &network("172.18.0.0", 16, "net-a"));
        t.add_elements("nets4", &network("172.16.0.0", 16, "net-a"));
        t.add_elements("nets6", &network("fd00:1::", 64, "net-b"));
        t.add_elements("links", &[Element::new().key_interface("br0").value_verdict(Verdict::Drop)]);
        t.add_elements("shut", &[Element::new().key_interface("br1")]);
        let target: IpAddr = "fd00:1::2".parse().unwrap();
        let port = Element::new().key_protocol(6).key_ip("fd00::5".parse().unwrap()).key_port(8080);
        let port = port.value_ip(target).value_port(80);
        t.add_elements("ports6", std::slice::from_ref(&port));
        assert!(!t.is_empty());
        socket.apply(t).unwrap();

        assert_eq!(socket.elements_of(Family::Inet, "t", "ports6").unwrap(), [port]);
        let links = socket.elements_of(Family::Inet, "t", "links").unwrap();
        assert_eq!(links[0].verdict, Some(Verdict::Drop));
        let mut nets = socket.elements_of(Family::Inet, "t", "nets4").unwrap();
        nets.sort();
        assert_eq!(nets.len(), 6);
        assert_eq!(nets.iter().filter(|net| net.interval_end).count(), 3);
        assert_eq!(nets.iter().filter(|net| net.verdict == Some(Verdict::Jump("net-a".into()))).count(), 3);
        let tables = socket.all_tables().unwrap();
        assert_eq!((tables.len(), tables[0].family, tables[0].name.as_str()), (1, Family::Inet, "t"));
        assert!(socket.tables().unwrap().is_empty(), "the IPv4 view has IPv4 alone");
        assert!(socket.all_chains().unwrap().iter().all(|chain| chain.family == Family::Inet));

        match nft(&["list", "table", "inet", "t"]) {
            None => eprintln!("nft is not installed: its view of the table was not compared"),
            Some(text) => {
                for expected in [
                    "172.16.0.0/16 : jump net-a",
                    "172.17.0.0/16 : jump net-a",
                    "fd00:1::/64 : jump net-b",
                    "tcp . fd00::5 . 8080 : fd00:1::2 . 80",
                    "\"br0\" : drop",
                    "ip saddr vmap @nets4",
                    "ip6 saddr vmap @nets6",
                    "iifname vmap @links",
                    "iifname @shut drop",
                    "iifname != @shut counter",
                    "fib daddr . iif type local accept",
                    "snat ip6 to ::1",
                    "ip6 daddr fd00:1::/48",
                    "masquerade",
                ] {
                    assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
                }
            }
        }

        // A network goes, with its chain, while the neighbours stay.
        let mut t = Transaction::of(Family::Inet, "t");
        t.delete_elements("nets4", &network("172.17.0.0", 16, "net-a"));
        t.delete_elements("nets6", &network("fd00:1::", 64, "net-b")).delete_chain("net-b");
        t.flush_chain("input");
        socket.apply(t).unwrap();
        assert_eq!(socket.elements_of(Family::Inet, "t", "nets4").unwrap().len(), 4);
        assert!(socket.rules_of(Family::Inet, "t", "input").unwrap().is_empty());
        assert!(!socket.all_chains().unwrap().iter().any(|chain| chain.name == "net-b"));
        let mut t = Transaction::of(Family::Inet, "t");
        t.delete_chain("net-a");
        assert!(socket.apply(t).is_err(), "elements lead to it");
        let mut t = Transaction::of(Family::Inet, "t");
        t.delete_chain("net-a").delete_set("shut");
        assert!(socket.apply(t).is_err(), "a rule refers to it");
        let mut t = Transaction::of(Family::Inet, "t");
        t.add_elements("nets4", &network("172.16.128.0", 17, "net-a"));
        assert!(socket.apply(t).is_err(), "intervals do not overlap");
    });
}

#[test]
fn a_transaction_may_be_about_several_tables() {
    in_private_netns(|| {
        let mut socket = NftSocket::open().unwrap();
        let mut t = Transaction::of(Family::Inet, "one");
        t.create_table().table(Family::Ipv6, "two").create_table().table(Family::Ipv4, "three").create_table();
        assert_eq!(t.len(), 3);
        socket.apply(t).unwrap();
        let mut names: Vec<String> = socket.all_tables().unwrap().into_iter().map(|table| table.name).collect();
        names.sort();
        assert_eq!(names, ["one", "three", "two"]);
        let mut t = Transaction::of(Family::Inet, "one");
        t.delete_table().table(Family::Inet, "absent").delete_table();
        assert!(socket.apply(t).unwrap_err().is_absent());
        assert_eq!(socket.all_tables().unwrap().len(), 3, "all or nothing");
    });
}

#[test]
fn an_owned_table_survives_a_flush_and_its_owner() {
    in_private_netns(|| {
        let mut owner = NftSocket::open().unwrap();
        let known = owner.has_persistent_tables().unwrap();
        assert!(owner.all_tables().unwrap().is_empty(), "the probe leaves nothing");
        if !known {
            eprintln!("skipped: this kernel has no persistent tables");
            return;
        }
        let flags = TABLE_OWNER | TABLE_PERSIST;
        let mut t = Transaction::of(Family::Inet, "t");
        t.create_table_with(flags).create_chain("c").add_rule("c", "kept", &[Expression::Counter]);
        owner.apply(t).unwrap();
        let mut other = NftSocket::open().unwrap();
        let mut t = Transaction::of(Family::Ipv4, "flushable");
        t.create_table();
        other.apply(t).unwrap();

        let facts = |socket: &mut NftSocket| {
            let tables = socket.all_tables().unwrap();
            tables.into_iter().find(|table| table.name == "t").map(|table| (table.flags, table.owner))
        };
        assert_eq!(facts(&mut other), Some((flags, Some(owner.port_id()))));
        let change = |socket: &mut NftSocket, change: fn(&mut Transaction) -> &mut Transaction| {
            let mut t = Transaction::of(Family::Inet, "t");
            change(&mut t);
            socket.apply(t)
        };
        assert!(change(&mut other, |t| t.delete_table()).is_err());
        assert!(change(&mut other, |t| t.flush_chain("c")).is_err());
        assert!(change(&mut other, |t| t.create_table_with(TABLE_OWNER | TABLE_PERSIST)).is_err());
        match nft(&["flush", "ruleset"]) {
            None => eprintln!("nft is not installed: a flush was not tried"),
            Some(said) => {
                assert!(other.tables().unwrap().is_empty(), "what is nobody's is flushed: {said}");
                assert_eq!(other.rules_of(Family::Inet, "t", "c").unwrap().len(), 1);
            }
        }

        // Without its owner it is in force still, and another socket may adopt it.
        drop(owner);
        assert_eq!(facts(&mut other), Some((TABLE_PERSIST, None)));
        let mut heir = NftSocket::open().unwrap();
        change(&mut heir, |t| t.create_table_with(TABLE_OWNER | TABLE_PERSIST).create_chain("d")).unwrap();
        assert_eq!(facts(&mut other), Some((flags, Some(heir.port_id()))));
        assert!(change(&mut other, |t| t.delete_table()).is_err());
        assert_eq!(heir.rules_of(Family::Inet, "t", "c").unwrap().len(), 1, "with everything in it");
        // Replaced as a whole without a moment between.
        change(&mut heir, |t| t.delete_table().create_table_with(TABLE_OWNER | TABLE_PERSIST).create_chain("e"))
            .unwrap();
        assert_eq!(heir.all_chains().unwrap().len(), 1);
        drop(heir);
        change(&mut other, |t| t.delete_table().create_table_with(TABLE_OWNER | TABLE_PERSIST)).unwrap();
        assert_eq!(facts(&mut other), Some((flags, Some(other.port_id()))), "an orphan can be replaced as well");
    });
}

/// The four rules that lead a name server at another port to where everybody looks for it.
fn lead_to_name_server(socket: &mut NftSocket, server: Ipv4Addr, port: u16) {
    const DNS: u16 = 53;
    let mut t = Transaction::of(Family::Netdev, "names");
    t.create_table();
    t.create_ingress_chain("lo", "lo", &base(ChainKind::Filter, Hook::Prerouting, priority::FILTER));
    let v4 = [
        Expression::Meta(MetaKey::EtherType, Register(0)),
        Expression::Compare(Register(0), CmpOp::Equal, 0x0800u16.to_be_bytes().to_vec()),
    ];
    for (protocol, checksum) in [(17, 6), (6, 16)] {
        for (address, at, from, to) in [(16, 2, DNS, port), (12, 0, port, DNS)] {
            let load = |header, offset, length| Expression::Payload { header, offset, length, to: Register(0) };
            let equal = |bytes: Vec<u8>| Expression::Compare(Register(0), CmpOp::Equal, bytes);
            let rule = [
                load(Header::Network, address, 4),
                equal(server.octets().to_vec()),
                Expression::Meta(MetaKey::TransportProtocol, Register(0)),
                equal(vec![protocol]),
                load(Header::Transport, at, 2),
                equal(from.to_be_bytes().to_vec()),
                Expression::Load(Register(0), to.to_be_bytes().to_vec()),
                Expression::SetPayload {
                    header: Header::Transport,
                    offset: at,
                    length: 2,
                    from: Register(0),
                    checksum: Checksum::Internet(checksum),
                },
            ];
            t.add_rule("lo", "", &[&v4[..], &rule].concat());
        }
    }
    socket.apply(t).unwrap();
}

#[test]
fn ports_are_rewritten_on_the_way_into_loopback() {
    in_private_netns(|| {
        let server = Ipv4Addr::new(127, 0, 0, 11);
        // Somebody has port 53 of every address, and keeps it.
        let taken = (
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap(),
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap(),
        );
        let datagrams = UdpSocket::bind((server, 0)).unwrap();
        let port = datagrams.local_addr().unwrap().port();
        let streams = TcpListener::bind((server, port)).unwrap();
        for socket in [&taken.0, &datagrams] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        lead_to_name_server(&mut NftSocket::open().unwrap(), server, port);

        let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 16];
        for word in [&b"one"[..], b"two", b"three"] {
            client.connect((server, 53)).unwrap();
            client.send(word).unwrap();
            let (length, from) = datagrams.recv_from(&mut buffer).expect("the name server is asked");
            assert_eq!(&buffer[..length], word);
            datagrams.send_to(b"answer", from).unwrap();
            // A connected socket hears only whom it asked: the answer comes from port 53.
            assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        }
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.send_to(b"other", (Ipv4Addr::LOCALHOST, 53)).unwrap();
        assert_eq!(taken.0.recv_from(&mut buffer).unwrap().0, 5, "other addresses are left alone");

        let mut client = TcpStream::connect_timeout(&(server, 53).into(), PATIENCE).unwrap();
        let (mut served, _) = streams.accept().unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"question").unwrap();
        served.read_exact(&mut buffer[..8]).unwrap();
        let large = vec![7; 300_000];
        let sent = large.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || served.write_all(&sent).unwrap());
            let mut got = vec![0; large.len()];
            client.read_exact(&mut got).unwrap();
            assert!(got == large);
        });
        let client = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, 53).into(), PATIENCE).unwrap();
        assert_eq!(taken.1.accept().unwrap().1, client.local_addr().unwrap());
        match nft(&["list", "table", "netdev", "names"]) {
            None => eprintln!("nft is not installed: its view of the table was not compared"),
            Some(text) => assert!(text.contains("hook ingress device \"lo\"") && text.contains("dport set"), "{text}"),
        }
    });
}

#[test]
fn changes_of_every_family_are_heard_of() {
    in_private_netns(|| {
        let mut monitor = NftMonitor::open().unwrap();
        let mut socket = NftSocket::open().unwrap();
        for family in [Family::Inet, Family::Ipv4, Family::Ipv6, Family::Netdev] {
            let mut t = Transaction::of(family, "t");
            t.create_table().create_chain("c");
            socket.apply(t).unwrap();
        }
        let mut heard = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while heard.len() < 8 && Instant::now() < deadline {
            monitor.read(|change| heard.push(change)).unwrap();
        }
        let by = socket.port_id();
        for family in [Family::Inet, Family::Ipv4, Family::Ipv6, Family::Netdev] {
            for object in [Object::Table, Object::Chain] {
                let change = Change::Made { family, table: "t".into(), object, removed: false, by };
                assert!(heard.contains(&change), "{change:?} is missing in {heard:?}");
            }
        }
    });
}

#[test]
fn connections_of_both_families_are_forgotten() {
    in_private_netns(|| {
        // Connections are tracked where a rule asks about them.
        let mut nft = NftSocket::open().unwrap();
        let mut t = Transaction::of(Family::Inet, "t");
        t.create_table().create_base_chain("output", &base(ChainKind::Filter, Hook::Output, priority::FILTER));
        t.add_rule("output", "", &Expression::ct_any(CtKey::State, 8));
        nft.apply(t).unwrap();
        let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        for address in addresses {
            let server = UdpSocket::bind((address, 0)).unwrap();
            let client = UdpSocket::bind((address, 0)).unwrap();
            client.send_to(b"x", server.local_addr().unwrap()).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            server.recv_from(&mut [0; 4]).unwrap();
        }
        let mut socket = ConntrackSocket::open().unwrap();
        let list = |socket: &mut ConntrackSocket| {
            let seen = std::cell::RefCell::new(Vec::<Connection>::new());
            socket
                .forget(|connection| {
                    seen.borrow_mut().push(*connection);
                    false
                })
                .unwrap();
            seen.into_inner()
        };
        let all = list(&mut socket);
        for address in addresses {
            let of = |c: &&Connection| c.protocol == 17 && c.destination == address && c.responder == address;
            assert_eq!(all.iter().filter(of).count(), 1, "{all:?}");
        }
        socket.forget(|connection| connection.destination.is_ipv6()).unwrap();
        assert!(list(&mut socket).iter().all(|connection| connection.destination.is_ipv4()));
        socket.forget(|_| true).unwrap();
        assert!(list(&mut socket).is_empty());
    });
}
