//! Who reaches a published port, and who reaches a container without one.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use firewall::{Firewall, NetRules};
use netlink::route::{IpRoute, RouteRequests, RouteSocket};
use types::Protocol;

use crate::world::*;

#[test]
fn published_ports_are_reached_and_nothing_else() {
    on_private_hosts(|world| {
        let (a, b) = (net("br-a", 0xa), net("br-b", 0xb));
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![a.clone(), b.clone()], vec![], vec![]).unwrap();
        make_bridge(&a);
        make_bridge(&b);
        let (a2, a3, b2) = (container(&a, 2), container(&a, 3), container(&b, 2));
        let listener = a2.listen();
        let probe = Probe::put(&a);
        firewall.publish(&publish(&a2, ANY, 8080, Protocol::Tcp)).unwrap();

        exchange(connect(LOOPBACK, 8080, PATIENCE), &listener, "loopback");
        exchange(connect(Ipv4Addr::new(127, 9, 9, 9).into(), 8080, PATIENCE), &listener, "another loopback address");
        let refused = connect("::1".parse().unwrap(), 8080, PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "::1 is left to a forwarder");
        for family in FAMILIES {
            let (host, gateway) = (HOST[family], gateways(&a)[family]);
            let from = |netns, to, what| exchange(connect_from(netns, to, 8080, PATIENCE), &listener, what);
            assert_eq!(from(&world.neighbour, host, "neighbour"), NEIGHBOUR[family], "it keeps its address");
            exchange(connect(host, 8080, PATIENCE), &listener, "the host by its own address");
            exchange(connect(gateway, 8080, PATIENCE), &listener, "the host by the gateway");
            assert_eq!(from(&a3.netns, host, "the same network"), gateway, "the answer comes back by the host");
            from(&a3.netns, gateway, "the same network by the gateway");
            from(&a2.netns, host, "the container itself");
            from(&b2.netns, host, "another network");
            from(&b2.netns, gateways(&b)[family], "another network by its gateway");
            exchange(connect_from(&a3.netns, a2.ip[family], 80, PATIENCE), &listener, "straight within the network");
            exchange(connect(a2.ip[family], 80, PATIENCE), &listener, "straight from the host");

            // Straight to a container, published or not, from the neighbour and from another network.
            for target in [&a2, &a3] {
                for (netns, who) in [(&world.neighbour, "neighbour"), (&b2.netns, "another network")] {
                    for port in [80, 8080] {
                        assert_silent(netns, target.ip[family], port, who);
                    }
                }
            }
        }

        assert!(probe.counted().is_none_or(|counted| counted == [false; 2]), "dropped before connection tracking");

        firewall.unpublish(&publish(&a2, ANY, 8080, Protocol::Tcp)).unwrap();
        for host in HOST {
            let refused = connect_from(&world.neighbour, host, 8080, PATIENCE).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        firewall.close(true).unwrap();
        for ip in a2.ip {
            exchange(connect_from(&world.neighbour, ip, 80, PATIENCE), &listener, "the way in exists without us");
        }
        assert!(probe.counted().is_none_or(|counted| counted == [true; 2]), "the probe sees what there is");
    });
}

#[test]
fn containers_go_out_with_the_address_they_are_told_to() {
    on_private_host(|world| {
        let mut a = net("br-a", 0xa);
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![a.clone()], vec![], vec![]).unwrap();
        make_bridge(&a);
        let a2 = container(&a, 2);
        let outside = sys::netns::within(&world.neighbour, || TcpListener::bind("[::]:90").unwrap()).unwrap();
        let seen = |family: usize| exchange(connect_from(&a2.netns, NEIGHBOUR[family], 90, PATIENCE), &outside, "out");
        assert_eq!([seen(0), seen(1)], HOST);

        // Other addresses of the host.
        let other: [IpAddr; 2] = ["198.51.100.77".parse().unwrap(), "fd00:51::77".parse().unwrap()];
        let mut socket = RouteSocket::open().unwrap();
        let out = socket.link("out0").unwrap().unwrap().index;
        let mut requests = RouteRequests::new();
        requests.add_sole_address(out, other[0], 24).add_sole_address(out, other[1], 64);
        socket.apply(requests).unwrap();
        if let (Some(v4), Some(v6)) = (&mut a.v4, &mut a.v6) {
            v4.source = "198.51.100.77".parse().ok();
            v6.source = "fd00:51::77".parse().ok();
        }
        firewall.put_net(a.clone()).unwrap();
        assert_eq!([seen(0), seen(1)], other);

        // No translation: the neighbour has a way back to the network, since the host is its router.
        if let (Some(v4), Some(v6)) = (&mut a.v4, &mut a.v6) {
            (v4.masquerade, v6.masquerade) = (false, false);
        }
        firewall.put_net(a).unwrap();
        assert_eq!([seen(0), seen(1)], a2.ip);
        firewall.close(true).unwrap();
    });
}

#[test]
fn loopback_alone_is_for_the_host_alone() {
    on_private_hosts(|world| {
        // A neighbour on the wire that sends to 127.0.0.1, and a link of the host that accepts such packets.
        sys::netns::within(&world.neighbour, || {
            let mut requests = RouteRequests::new();
            let way = IpRoute { gateway: Some(HOST[0]), ..IpRoute::to(Ipv4Addr::new(127, 0, 0, 0).into(), 8) };
            requests.set_ip_route(&way);
            RouteSocket::open().unwrap().apply(requests).unwrap();
            sysctl("ipv4/conf/all/route_localnet", "1");
        })
        .unwrap();
        sysctl("ipv4/conf/out0/route_localnet", "1");
        let _server = TcpListener::bind((Ipv4Addr::LOCALHOST, 7070)).unwrap();
        assert!(connect_from(&world.neighbour, LOOPBACK, 7070, PATIENCE).is_ok(), "the way in exists without us");

        let a = net("br-a", 0xa);
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![a.clone()], vec![], vec![]).unwrap();
        make_bridge(&a);
        let a2 = container(&a, 2);
        let listener = a2.listen();
        let rule = publish(&a2, [LOOPBACK, HOST[1]], 8080, Protocol::Tcp);
        firewall.publish(&rule[..1]).unwrap();
        for port in [7070, 8080] {
            assert_silent(&world.neighbour, LOOPBACK, port, "by a route to 127.0.0.1");
        }
        exchange(connect(LOOPBACK, 8080, PATIENCE), &listener, "the host itself");
        assert!(connect_from(&world.neighbour, HOST[0], 8080, SILENCE).is_err());
        assert!(connect_from(&a2.netns, gateways(&a)[0], 8080, SILENCE).is_err());
        firewall.close(true).unwrap();
    });
}

#[test]
fn one_address_is_not_every_address() {
    on_private_host(|world| {
        let a = net("br-a", 0xa);
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![a.clone()], vec![], vec![]).unwrap();
        make_bridge(&a);
        let a2 = container(&a, 2);
        let listener = a2.listen();
        firewall.publish(&publish(&a2, HOST, 8080, Protocol::Tcp)).unwrap();
        for family in FAMILIES {
            let client = connect_from(&world.neighbour, HOST[family], 8080, PATIENCE);
            exchange(client, &listener, "the address published on");
            assert!(connect_from(&a2.netns, gateways(&a)[family], 8080, SILENCE).is_err(), "another address");
        }
        assert!(connect(LOOPBACK, 8080, SILENCE).is_err());
        firewall.close(true).unwrap();
    });
}

#[test]
fn datagrams_follow_a_port_to_its_new_container() {
    on_private_host(|world| {
        let a = net("br-a", 0xa);
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![a.clone()], vec![], vec![]).unwrap();
        make_bridge(&a);
        let containers = [container(&a, 2), container(&a, 3)];
        let servers = containers.each_ref().map(|container| container.listen_udp());
        for host in HOST {
            // A peer that sends all the time from one port keeps its tracked connection alive.
            let any = if host.is_ipv4() { ANY[0] } else { ANY[1] };
            let peer = sys::netns::within(&world.neighbour, || UdpSocket::bind((any, 0)).unwrap()).unwrap();
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            for (container, server) in containers.iter().zip(&servers) {
                let rules = publish(container, ANY, 5300, Protocol::Udp);
                firewall.publish(&rules).unwrap();
                while let Some(due) = firewall.deadline() {
                    std::thread::sleep(due.saturating_duration_since(std::time::Instant::now()));
                    firewall.handle_events().unwrap();
                }
                peer.send_to(b"word", (host, 5300)).unwrap();
                let mut buffer = [0; 8];
                let (length, from) = server.recv_from(&mut buffer).expect("the datagram reaches the new container");
                assert_eq!(&buffer[..length], b"word");
                server.send_to(b"answer", from).unwrap();
                let (length, from) = peer.recv_from(&mut buffer).unwrap();
                assert_eq!((length, from.ip(), from.port()), (6, host, 5300), "from where it was sent to");
                firewall.unpublish(&rules).unwrap();
            }
        }
        firewall.close(true).unwrap();
    });
}

#[test]
fn containers_kept_apart_reach_published_ports_only() {
    on_private_hosts(|world| {
        let a = NetRules { icc: false, ..net("br-a", 0xa) };
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![a.clone()], vec![], vec![]).unwrap();
        make_bridge(&a);
        let (a2, a3) = (container(&a, 2), container(&a, 3));
        let listener = a2.listen();
        for family in FAMILIES {
            assert!(
                connect_from(&a3.netns, a2.ip[family], 80, SILENCE).is_err(),
                "the bridge or its firewall keeps them apart"
            );
        }
        // By the host as their router, they meet the rules.
        sys::netns::within(&a3.netns, || {
            let mut requests = RouteRequests::new();
            for (ip, gateway) in a2.ip.into_iter().zip(gateways(&a)) {
                let prefix = if ip.is_ipv4() { 32 } else { 128 };
                requests.set_ip_route(&IpRoute { gateway: Some(gateway), ..IpRoute::to(ip, prefix) });
            }
            RouteSocket::open().unwrap().apply(requests).unwrap();
        })
        .unwrap();
        sysctl("ipv4/conf/br-a/send_redirects", "0");
        for family in FAMILIES {
            assert!(connect_from(&a3.netns, a2.ip[family], 80, SILENCE).is_err(), "the rules keep them apart");
        }
        firewall.publish(&publish(&a2, ANY, 8080, Protocol::Tcp)).unwrap();
        for family in FAMILIES {
            let client = connect_from(&a3.netns, HOST[family], 8080, PATIENCE);
            exchange(client, &listener, &format!("a published port of the same network ({family})"));
            exchange(connect_from(&world.neighbour, HOST[family], 8080, PATIENCE), &listener, "from outside");
        }
        firewall.close(true).unwrap();
    });
}
