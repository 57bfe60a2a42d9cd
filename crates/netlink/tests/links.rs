//! Links, addresses, routes and queues of both families against the running kernel, in a private network namespace that
//! ends with each test.
//!
//! They need root; without it they say so and pass.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink::route::{
    IpRoute, IpvlanFlag, IpvlanMode, Link, LinkChange, LinkEvent, LinkKind, LinkMonitor, MacAddress, MacvlanMode,
    NewLink, RouteRequests, RouteSocket, TABLE_MAIN, TokenBucket, Veth,
};

fn in_private_netns(test: impl FnOnce() + Send) {
    match sys::netns::create_with(test) {
        Ok(_) => {}
        Err(error) => eprintln!("skipped: making a network namespace needs root ({error})"),
    }
}

fn up() -> LinkChange {
    LinkChange { up: Some(true), ..LinkChange::default() }
}

fn apply(
    socket: &mut RouteSocket,
    fill: impl for<'a> FnOnce(&'a mut RouteRequests) -> &'a mut RouteRequests,
) -> netlink::Result<()> {
    let mut requests = RouteRequests::new();
    fill(&mut requests);
    socket.apply(requests)
}

/// Makes a bridge that is up.
fn bridge(socket: &mut RouteSocket, name: &str) -> Link {
    apply(socket, |r| r.create_bridge(name, MacAddress([2, 0x42, 1, 2, 3, 4]), 1500).change_link_by_name(name, &up()))
        .unwrap();
    socket.link(name).unwrap().unwrap()
}

#[test]
fn addresses_and_routes_of_both_families() {
    in_private_netns(|| {
        let mut socket = RouteSocket::open().unwrap();
        let link = bridge(&mut socket, "br-t").index;
        let v4: IpAddr = Ipv4Addr::new(10, 77, 0, 1).into();
        let v6: IpAddr = "fd00:77::1".parse().unwrap();
        apply(&mut socket, |r| r.add_sole_address(link, v4, 16).add_sole_address(link, v6, 64)).unwrap();
        let addresses = socket.ip_addresses().unwrap();
        for (address, prefix) in [(v4, 16), (v6, 64)] {
            assert!(addresses.iter().any(|a| a.local == address && a.prefix == prefix && a.link == link));
            UdpSocket::bind((address, 0)).expect("an address that is sole can be used at once");
        }
        assert_eq!(socket.addresses().unwrap().len(), 1, "the IPv4 view has IPv4 alone");
        assert!(apply(&mut socket, |r| r.add_sole_address(link, v6, 64)).unwrap_err().is_exists());

        let by_v4 = IpRoute { metric: Some(7), ..IpRoute::default_by(Ipv4Addr::new(10, 77, 0, 9).into()) };
        let by_v6 = IpRoute { metric: Some(9), ..IpRoute::default_by("fd00:77::9".parse().unwrap()) };
        let direct = IpRoute { link: Some(link), ..IpRoute::to("fd00:88::".parse().unwrap(), 48) };
        let elsewhere =
            IpRoute { link: Some(link), table: 1000, ..IpRoute::to(Ipv4Addr::new(10, 99, 0, 0).into(), 16) };
        apply(&mut socket, |r| {
            for route in [&by_v4, &by_v6, &direct, &elsewhere] {
                r.set_ip_route(route);
            }
            r
        })
        .unwrap();
        let routes = socket.ip_routes().unwrap();
        let found = |wanted: &IpRoute| {
            routes.iter().any(|route| {
                (route.destination, route.prefix, route.table) == (wanted.destination, wanted.prefix, wanted.table)
                    && route.gateway == wanted.gateway
                    && route.link == Some(link)
                    && (wanted.metric.is_none() || route.metric == wanted.metric)
            })
        };
        assert!([by_v4, by_v6, direct, elsewhere].iter().all(found), "{routes:#?}");
        assert!(socket.routes().unwrap().iter().any(|route| route.prefix == 0 && route.table == TABLE_MAIN));
        for route in [by_v4, by_v6, direct, elsewhere] {
            apply(&mut socket, |r| r.delete_ip_route(&route)).unwrap();
            assert!(apply(&mut socket, |r| r.delete_ip_route(&route)).unwrap_err().is_absent(), "{route:?}");
        }
        for (address, prefix) in [(v4, 16), (v6, 64)] {
            apply(&mut socket, |r| r.delete_address(link, address, prefix)).unwrap();
            let error = apply(&mut socket, |r| r.delete_address(link, address, prefix)).unwrap_err();
            assert!(error.is_absent(), "{error}");
        }
    });
}

#[test]
fn ports_join_leave_and_change() {
    in_private_netns(|| {
        let mut socket = RouteSocket::open().unwrap();
        let bridge = bridge(&mut socket, "br-t").index;
        let (far, mut far_socket) = sys::netns::create_with(|| RouteSocket::open().unwrap()).unwrap();
        let peer_netns = far.as_fd();
        apply(&mut socket, |r| {
            r.create_veth(&Veth { name: "v0", master: 0, peer_name: "eth0", peer_netns, mtu: 1400 })
        })
        .unwrap();
        let port = socket.link("v0").unwrap().unwrap();
        assert_eq!((port.master, port.mtu), (None, 1400));

        let change = LinkChange {
            master: Some(bridge),
            hairpin: Some(true),
            isolated: Some(true),
            learning: Some(false),
            neigh_suppress: Some(true),
            ..LinkChange::default()
        };
        apply(&mut socket, |r| r.change_link(port.index, &change)).unwrap();
        let port = socket.link("v0").unwrap().unwrap();
        assert_eq!((port.master, port.hairpin, port.isolated), (Some(bridge), true, true));
        apply(&mut socket, |r| r.change_port("v0", &LinkChange { isolated: Some(false), ..up() })).unwrap();
        assert!(!socket.link("v0").unwrap().unwrap().isolated);
        let leave = LinkChange { master: Some(0), ..LinkChange::default() };
        apply(&mut socket, |r| r.change_link_by_name("v0", &leave)).unwrap();
        assert_eq!(socket.link("v0").unwrap().unwrap().master, None);

        // The far end: another name, and up without an address of the kernel's making.
        let eth0 = far_socket.link("eth0").unwrap().unwrap();
        let change = LinkChange { name: Some("net7".parse().unwrap()), link_local: Some(false), ..up() };
        apply(&mut far_socket, |r| r.change_link(eth0.index, &change)).unwrap();
        let renamed = far_socket.link("net7").unwrap().unwrap();
        assert_eq!((renamed.index, renamed.up), (eth0.index, true));
        assert!(far_socket.link("eth0").unwrap().is_none());
        std::thread::sleep(Duration::from_millis(100));
        assert!(!far_socket.ip_addresses().unwrap().iter().any(|address| address.link == eth0.index));
    });
}

#[test]
fn links_are_born_where_they_belong() {
    in_private_netns(|| {
        let mut socket = RouteSocket::open().unwrap();
        let (far, mut far_socket) = sys::netns::create_with(|| RouteSocket::open().unwrap()).unwrap();
        let veth = Veth { name: "parent0", master: 0, peer_name: "eth0", peer_netns: far.as_fd(), mtu: 1500 };
        apply(&mut socket, |r| r.create_veth(&veth)).unwrap();
        apply(&mut far_socket, |r| r.change_link_by_name("eth0", &up())).unwrap();
        let parent = socket.link("parent0").unwrap().unwrap();
        let kinds = [
            (LinkKind::Macvlan(MacvlanMode::Bridge), "macvlan"),
            (LinkKind::Macvlan(MacvlanMode::Private), "macvlan"),
            (LinkKind::Macvlan(MacvlanMode::Vepa), "macvlan"),
            (LinkKind::Macvlan(MacvlanMode::Passthru), "macvlan"),
            (LinkKind::Ipvlan(IpvlanMode::L2, IpvlanFlag::Bridge), "ipvlan"),
            (LinkKind::Ipvlan(IpvlanMode::L3, IpvlanFlag::Private), "ipvlan"),
            (LinkKind::Ipvlan(IpvlanMode::L3s, IpvlanFlag::Vepa), "ipvlan"),
            (LinkKind::Vlan(77), "vlan"),
            (LinkKind::Dummy, "dummy"),
            (LinkKind::Bridge, "bridge"),
        ];
        for (kind, name) in kinds {
            let (netns, mut inside) = sys::netns::create_with(|| RouteSocket::open().unwrap()).unwrap();
            let parent = (!matches!(kind, LinkKind::Dummy | LinkKind::Bridge)).then_some(parent.index);
            let link = NewLink { parent, netns: Some(netns.as_fd()), mtu: Some(1300), ..NewLink::new("eth0", kind) };
            match apply(&mut socket, |r| r.create_link(&link)) {
                Err(error) if error.to_string().contains("not supported") || error.is_absent() => {
                    eprintln!("skipped: this kernel has no {name} links ({error})");
                    continue;
                }
                other => other.unwrap_or_else(|error| panic!("{kind:?}: {error}")),
            }
            let made = inside.link("eth0").unwrap().unwrap_or_else(|| panic!("{kind:?} is elsewhere"));
            assert_eq!((made.kind.as_str(), made.mtu, made.parent), (name, 1300, parent), "{kind:?}");
            assert!(socket.link("eth0").unwrap().is_none());
            // Its parent is free for the next, which a passthru link would not leave it.
            apply(&mut inside, |r| r.delete_link("eth0")).unwrap();
        }
    });
}

/// Reads until an event is what is waited for.
fn hear(monitor: &mut LinkMonitor, mut wanted: impl FnMut(&LinkEvent) -> bool) -> Vec<LinkEvent> {
    let (deadline, mut heard) = (Instant::now() + Duration::from_secs(5), Vec::new());
    while !heard.iter().any(&mut wanted) {
        assert!(Instant::now() < deadline, "not heard; heard were {heard:#?}");
        monitor.read(|event| heard.push(event)).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    heard
}

#[test]
fn links_are_heard_of() {
    in_private_netns(|| {
        let mut socket = RouteSocket::open().unwrap();
        let mut monitor = LinkMonitor::open().unwrap();
        monitor.read(|event| panic!("{event:?} out of nothing")).unwrap();
        let master = bridge(&mut socket, "br-t").index;
        let (far, ()) = sys::netns::create_with(|| ()).unwrap();
        let veth = Veth { name: "v0", master, peer_name: "eth0", peer_netns: far.as_fd(), mtu: 1500 };
        apply(&mut socket, |r| r.create_veth(&veth)).unwrap();
        hear(&mut monitor, |event| matches!(event, LinkEvent::Present(link) if link.master == Some(master)));
        apply(&mut socket, |r| r.delete_link("br-t")).unwrap();
        let heard = hear(&mut monitor, |event| matches!(event, LinkEvent::Removed(link) if link.name == "br-t"));
        let mut master = Some(master);
        for event in &heard {
            match event {
                LinkEvent::Present(link) if link.name == "v0" => master = link.master,
                LinkEvent::Removed(link) => assert_ne!(link.name, "v0", "a port that loses its bridge is not gone"),
                _ => {}
            }
        }
        assert_eq!(master, None, "the port has no bridge any more");
        apply(&mut socket, |r| r.delete_link("v0")).unwrap();
        hear(&mut monitor, |event| matches!(event, LinkEvent::Removed(link) if link.name == "v0"));
    });
}

#[test]
fn a_token_bucket_is_put_changed_read_and_taken() {
    in_private_netns(|| {
        let mut socket = RouteSocket::open().unwrap();
        let (far, mut far_socket) = sys::netns::create_with(|| RouteSocket::open().unwrap()).unwrap();
        let veth = Veth { name: "v0", master: 0, peer_name: "eth0", peer_netns: far.as_fd(), mtu: 1500 };
        apply(&mut socket, |r| r.create_veth(&veth)).unwrap();
        apply(&mut far_socket, |r| r.change_link_by_name("eth0", &up())).unwrap();
        let link = socket.link("v0").unwrap().unwrap().index;
        let bucket = TokenBucket { rate: 1_000_000, burst: 64 * 1024, limit: 200_000 };
        match apply(&mut socket, |r| r.add_token_bucket(link, &bucket)) {
            Err(error) if error.is_absent() || error.to_string().contains("not supported") => {
                eprintln!("skipped: this kernel has no tbf ({error})");
                return;
            }
            other => other.unwrap(),
        }
        assert!(apply(&mut socket, |r| r.add_token_bucket(link, &bucket)).unwrap_err().is_exists());
        let read = |socket: &mut RouteSocket| {
            let found = socket.qdiscs(link).unwrap().into_iter().find(|qdisc| qdisc.root);
            found.map(|qdisc| (qdisc.kind, qdisc.rate, qdisc.limit, qdisc.drops, qdisc.backlog))
        };
        assert_eq!(read(&mut socket), Some(("tbf".into(), Some(1_000_000), Some(200_000), 0, 0)));
        let fast = TokenBucket { rate: 10_000_000_000, limit: 300_000, ..bucket };
        apply(&mut socket, |r| r.replace_token_bucket(link, &fast)).unwrap();
        assert_eq!(read(&mut socket), Some(("tbf".into(), Some(10_000_000_000), Some(300_000), 0, 0)));
        // It limits: a burst leaves, the rest waits or is dropped.
        let slow = TokenBucket { rate: 10_000, burst: 3000, limit: 6000 };
        apply(&mut socket, |r| {
            r.replace_token_bucket(link, &slow).add_address(link, Ipv4Addr::new(10, 77, 0, 1), 16);
            let neighbour = IpRoute { link: Some(link), ..IpRoute::to(Ipv4Addr::new(224, 0, 0, 0).into(), 4) };
            r.set_ip_route(&neighbour)
        })
        .unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::new(10, 77, 0, 1), 0)).unwrap();
        for _ in 0..40 {
            // Refused or not, as the queue fills.
            let _ = sender.send_to(&[0; 1000], (Ipv4Addr::new(224, 0, 0, 99), 9));
        }
        let limited = socket.qdiscs(link).unwrap().into_iter().find(|qdisc| qdisc.root).unwrap();
        assert!(limited.drops >= 25 && limited.backlog > 0 && limited.bytes >= 1000, "{limited:?}");
        apply(&mut socket, |r| r.delete_qdisc(link)).unwrap();
        assert_ne!(read(&mut socket).map(|found| found.0), Some("tbf".into()));
        assert!(apply(&mut socket, |r| r.delete_qdisc(link)).is_err());
    });
}

#[test]
fn wrong_names_are_refused_here() {
    for bad in ["", "sixteen-bytes-xx", "a/b", "a\0b", ".."] {
        assert!(bad.parse::<netlink::route::LinkName>().is_err(), "{bad:?}");
    }
    let name: netlink::route::LinkName = "eth0".parse().unwrap();
    assert_eq!((name.as_str(), format!("{name:?}")), ("eth0", "\"eth0\"".to_owned()));
}
