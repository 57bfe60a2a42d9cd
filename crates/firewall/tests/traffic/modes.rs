//! Networks of other kinds: internal ones, and those whose gateways are routed, unprotected or none at all.

use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener, UdpSocket};

use firewall::{Firewall, GatewayMode, NetRules};
use netlink::route::RouteSocket;
use types::Protocol;

use crate::world::*;

#[test]
fn an_internal_network_is_shut_both_ways() {
    on_private_hosts(|world| {
        let internal = NetRules { internal: true, ..net("br-i", 0xc) };
        let a = net("br-a", 0xa);
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![internal.clone(), a.clone()], vec![], vec![]).unwrap();
        make_bridge(&internal);
        make_bridge(&a);
        let (i2, i3, a2) = (container(&internal, 2), container(&internal, 3), container(&a, 2));
        let (inner, published) = (i2.listen(), a2.listen());
        firewall.publish(&publish(&a2, ANY, 8080, Protocol::Tcp)).unwrap();
        firewall.publish(&publish(&i2, ANY, 9090, Protocol::Tcp)).unwrap();
        let _outside = sys::netns::within(&world.neighbour, || TcpListener::bind("[::]:90").unwrap()).unwrap();
        let host = TcpListener::bind("[::]:7070").unwrap();
        // A forwarder serves the published port beside the rules.
        let _forwarder = TcpListener::bind("[::]:8080").unwrap();
        let heard = sys::netns::within(&world.neighbour, || UdpSocket::bind("[::]:91").unwrap()).unwrap();
        heard.set_read_timeout(Some(SILENCE)).unwrap();
        let word = sys::netns::within(&i2.netns, || UdpSocket::bind("[::]:0").unwrap()).unwrap();
        for family in FAMILIES {
            // Not even without an answer.
            let to = match NEIGHBOUR[family] {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            word.send_to(b"word", (to, 91)).unwrap();
            assert!(heard.recv(&mut [0; 8]).is_err(), "a word to the outside");
            exchange(connect_from(&i3.netns, i2.ip[family], 80, PATIENCE), &inner, "within");
            exchange(connect(i2.ip[family], 80, PATIENCE), &inner, "from the host");
            exchange(
                connect_from(&i2.netns, gateways(&internal)[family], 7070, PATIENCE),
                &host,
                "to the host's bridge",
            );
            // Out: straight, by published ports of others, and to the rest of the host.
            for (to, port, what) in [
                (NEIGHBOUR[family], 90, "to the outside"),
                (a2.ip[family], 80, "to another network"),
                (HOST[family], 8080, "to a published port"),
                (HOST[family], 7070, "to another address of the host"),
                (gateways(&a)[family], 7070, "to another bridge of the host"),
                (gateways(&internal)[family], 8080, "to a forwarder of published ports"),
            ] {
                assert_silent(&i2.netns, to, port, what);
            }
            let by_gateway = connect_from(&i2.netns, gateways(&internal)[family], 9191, SILENCE).unwrap_err();
            assert_eq!(by_gateway.kind(), ErrorKind::ConnectionRefused, "the host itself has nothing there");
            // In.
            for netns in [&world.neighbour, &a2.netns] {
                assert_silent(netns, i2.ip[family], 80, "into an internal network");
                assert!(connect_from(netns, HOST[family], 9090, SILENCE).is_err(), "its ports are not published");
            }
        }
        exchange(connect_from(&world.neighbour, HOST[0], 8080, PATIENCE), &published, "others are not concerned");

        // It opens when it is internal no longer, and what it has published is there.
        firewall.put_net(NetRules { internal: false, ..internal.clone() }).unwrap();
        for family in FAMILIES {
            exchange(connect_from(&world.neighbour, HOST[family], 9090, PATIENCE), &inner, "published");
            connect_from(&i2.netns, NEIGHBOUR[family], 90, PATIENCE).unwrap();
        }
        firewall.put_net(internal).unwrap();
        assert!(connect_from(&world.neighbour, HOST[0], 9090, SILENCE).is_err());
        firewall.close(true).unwrap();
    });
}

#[test]
fn a_routed_network_shows_its_published_ports() {
    on_private_hosts(|world| {
        let routed = net_in_mode("br-r", 0xd, GatewayMode::Routed);
        let a = net("br-a", 0xa);
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![routed.clone(), a.clone()], vec![], vec![]).unwrap();
        make_bridge(&routed);
        make_bridge(&a);
        let (r2, a2) = (container(&routed, 2), container(&a, 2));
        let listener = r2.listen();
        let hidden = sys::netns::within(&r2.netns, || TcpListener::bind("[::]:81").unwrap()).unwrap();
        for family in FAMILIES {
            assert_silent(&world.neighbour, r2.ip[family], 80, "not published yet");
        }
        firewall.publish(&publish(&r2, ANY, 8080, Protocol::Tcp)).unwrap();
        let outside = sys::netns::within(&world.neighbour, || TcpListener::bind("[::]:90").unwrap()).unwrap();
        for family in FAMILIES {
            let client = connect_from(&world.neighbour, r2.ip[family], 80, PATIENCE);
            assert_eq!(exchange(client, &listener, "by its own address"), NEIGHBOUR[family]);
            exchange(connect_from(&a2.netns, r2.ip[family], 80, PATIENCE), &listener, "from another network");
            assert_silent(&world.neighbour, r2.ip[family], 81, "another port");
            assert!(connect_from(&world.neighbour, HOST[family], 8080, SILENCE).is_err(), "nothing on the host");
            let client = connect_from(&r2.netns, NEIGHBOUR[family], 90, PATIENCE);
            assert_eq!(exchange(client, &outside, "out"), r2.ip[family], "with its own address");
            let ping = if family == 0 { "-4" } else { "-6" };
            let reached = sys::netns::within(&world.neighbour, || {
                std::process::Command::new("ping")
                    .args([ping, "-c1", "-W2", &r2.ip[family].to_string()])
                    .output()
                    .map(|output| output.status.success())
            });
            assert!(reached.unwrap().unwrap_or(true), "echo requests pass");
        }
        drop(hidden);
        firewall.close(true).unwrap();
    });
}

#[test]
fn an_unprotected_network_shows_every_port_and_publishes_too() {
    on_private_host(|world| {
        let open = net_in_mode("br-u", 0xe, GatewayMode::NatUnprotected);
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![open.clone()], vec![], vec![]).unwrap();
        make_bridge(&open);
        let u2 = container(&open, 2);
        let listener = u2.listen();
        firewall.publish(&publish(&u2, ANY, 8080, Protocol::Tcp)).unwrap();
        for family in FAMILIES {
            exchange(connect_from(&world.neighbour, u2.ip[family], 80, PATIENCE), &listener, "straight");
            exchange(connect_from(&world.neighbour, HOST[family], 8080, PATIENCE), &listener, "published");
        }
        firewall.close(true).unwrap();
    });
}

#[test]
fn a_trusted_link_sees_published_ports_of_containers() {
    on_private_host(|world| {
        let a = NetRules { trusted: vec!["out0".into(), "out9".into()], ..net("br-a", 0xa) };
        let b = net("br-b", 0xb);
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![a.clone(), b.clone()], vec![], vec![]).unwrap();
        make_bridge(&a);
        make_bridge(&b);
        let (a2, b2) = (container(&a, 2), container(&b, 2));
        let listener = a2.listen();
        let hidden = sys::netns::within(&a2.netns, || TcpListener::bind("[::]:81").unwrap()).unwrap();
        // Two host ports of one: that one is open until both are gone.
        let ports = [publish(&a2, ANY, 8080, Protocol::Tcp), publish(&a2, ANY, 8081, Protocol::Tcp)];
        for ports in &ports {
            firewall.publish(ports).unwrap();
        }
        for family in FAMILIES {
            let client = connect_from(&world.neighbour, a2.ip[family], 80, PATIENCE);
            assert_eq!(exchange(client, &listener, "by its own address"), NEIGHBOUR[family]);
            exchange(connect_from(&world.neighbour, HOST[family], 8080, PATIENCE), &listener, "published");
            assert_silent(&world.neighbour, a2.ip[family], 81, "another port");
            assert_silent(&b2.netns, a2.ip[family], 80, "from another network");
        }
        firewall.unpublish(&ports[0]).unwrap();
        exchange(connect_from(&world.neighbour, a2.ip[0], 80, PATIENCE), &listener, "still published");
        firewall.unpublish(&ports[1]).unwrap();
        assert_silent(&world.neighbour, a2.ip[0], 80, "not published any more");
        // Trust is taken back with ports in place.
        firewall.publish(&ports[0]).unwrap();
        exchange(connect_from(&world.neighbour, a2.ip[0], 80, PATIENCE), &listener, "trusted");
        firewall.put_net(NetRules { trusted: vec![], ..a.clone() }).unwrap();
        for family in FAMILIES {
            assert_silent(&world.neighbour, a2.ip[family], 80, "not trusted any more");
            exchange(connect_from(&world.neighbour, HOST[family], 8080, PATIENCE), &listener, "published");
        }
        // Where packets are let in without translation, too.
        let mut bare = NetRules { trusted: vec!["out9".into()], ..a.clone() };
        if let (Some(v4), Some(v6)) = (&mut bare.v4, &mut bare.v6) {
            (v4.masquerade, v6.masquerade) = (false, false);
        }
        firewall.put_net(bare).unwrap();
        for family in FAMILIES {
            assert_silent(&world.neighbour, a2.ip[family], 80, "another link is trusted");
        }
        // An internal network trusts nobody.
        firewall.put_net(NetRules { internal: true, ..a.clone() }).unwrap();
        for family in FAMILIES {
            assert_silent(&world.neighbour, a2.ip[family], 80, "internal");
        }
        drop(hidden);
        firewall.close(true).unwrap();
    });
}

#[test]
fn an_isolated_network_does_not_even_see_the_host() {
    on_private_host(|world| {
        let isolated = NetRules { internal: true, ..net_in_mode("br-s", 0xf, GatewayMode::Isolated) };
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![isolated.clone()], vec![], vec![]).unwrap();
        make_bridge(&isolated);
        let (s2, s3) = (container(&isolated, 2), container(&isolated, 3));
        let listener = s2.listen();
        let _host = TcpListener::bind("[::]:7070").unwrap();
        for family in FAMILIES {
            exchange(connect_from(&s3.netns, s2.ip[family], 80, PATIENCE), &listener, "each other");
        }
        // A container that takes the bridge for its router all the same.
        let link = RouteSocket::open().unwrap().link("br-s").unwrap().unwrap();
        sys::netns::within(&s2.netns, || {
            let mac = link.mac.unwrap().to_string();
            for host in HOST {
                let net = if host.is_ipv4() { "198.51.100.0/24" } else { "fd00:51::/64" };
                let family = if host.is_ipv4() { "-4" } else { "-6" };
                run("ip", &[family, "route", "replace", net, "dev", "eth0"]);
                run("ip", &["neigh", "replace", &host.to_string(), "lladdr", &mac, "dev", "eth0"]);
            }
        })
        .unwrap();
        for host in HOST {
            assert!(connect_from(&s2.netns, host, 7070, SILENCE).is_err());
        }
        for ip in s2.ip {
            assert!(connect_from(&world.neighbour, ip, 80, SILENCE).is_err());
        }
        firewall.close(true).unwrap();
    });
}
