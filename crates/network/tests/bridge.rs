//! A bridge network end to end, on real packets, in a private network namespace that stands for the host.
//!
//! Another namespace stands for the outside, joined to the "host" by a second bridge. They need root; without it they say
//! so and pass. Everything ends with its namespace, so a failing test leaves nothing behind.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use netlink::nftables::{BaseChain, ChainKind, Hook, NftSocket, Policy, Transaction};
use netlink::route::{LinkChange, MacAddress, RouteRequests, RouteSocket, Veth};
use network::{AttachRequest, Bridge, BridgeConfig, PortSpec, Slot};
use types::{ContainerId, ExposedPort, PortRange, Protocol};

const HOST_OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// For connections that must succeed.
const PATIENCE: Duration = Duration::from_secs(10);
/// For connections that must be dropped: an answer over these links takes microseconds.
const SILENCE: Duration = Duration::from_millis(400);

fn on_private_host(test: impl FnOnce() + Send) {
    let run = || {
        let mut requests = RouteRequests::new();
        requests.change_link_by_name("lo", &up());
        RouteSocket::open().unwrap().apply(requests).unwrap();
        test();
    };
    if let Err(error) = sys::netns::create_with(run) {
        eprintln!("skipped: making a network namespace needs root ({error})");
    }
}

fn up() -> LinkChange {
    LinkChange { up: Some(true), ..LinkChange::default() }
}

/// A namespace outside, 198.51.100.2, whose default route leads to the host.
fn outside() -> OwnedFd {
    let mut host = RouteSocket::open().unwrap();
    let (netns, mut far) = sys::netns::create_with(|| RouteSocket::open().unwrap()).unwrap();
    let mut requests = RouteRequests::new();
    requests.create_bridge("br-out", MacAddress([2, 0, 0, 0, 9, 1]), 1500).change_link_by_name("br-out", &up());
    host.apply(requests).unwrap();
    let master = host.link("br-out").unwrap().unwrap().index;
    let mut requests = RouteRequests::new();
    requests.add_address(master, HOST_OUTSIDE, 24).create_veth(&Veth {
        name: "out0",
        master,
        peer_name: "eth0",
        peer_netns: netns.as_fd(),
        mtu: 1500,
    });
    host.apply(requests).unwrap();
    let eth0 = far.link("eth0").unwrap().unwrap().index;
    let mut requests = RouteRequests::new();
    requests.change_link(eth0, &up()).add_address(eth0, OUTSIDE, 24);
    requests.set_route(Ipv4Addr::UNSPECIFIED, 0, Some(HOST_OUTSIDE), None);
    far.apply(requests).unwrap();
    netns
}

fn bridge(idle_slots: usize) -> Bridge {
    Bridge::setup(config(idle_slots), &[]).unwrap()
}

fn config(idle_slots: usize) -> BridgeConfig {
    BridgeConfig { name: "dhow-t".into(), table: "dhow-t".into(), idle_slots, ..BridgeConfig::default() }
}

fn container() -> ContainerId {
    ContainerId::from_random([7; 32])
}

fn publish(protocol: Protocol, host_ip: Option<Ipv4Addr>, host_port: u16, port: u16) -> AttachRequest {
    let host = (host_port > 0).then_some(PortRange { start: host_port, end: host_port });
    let spec = PortSpec { container: ExposedPort { port, protocol }, host_ip, host };
    AttachRequest { ports: vec![spec], ..AttachRequest::default() }
}

fn listen(slot: &Slot, port: u16) -> TcpListener {
    sys::netns::within(&slot.netns, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()).unwrap()
}

fn connect(ip: Ipv4Addr, port: u16, patience: Duration) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::V4(SocketAddrV4::new(ip, port)), patience)
}

fn connect_from(netns: &OwnedFd, ip: Ipv4Addr, port: u16, patience: Duration) -> io::Result<TcpStream> {
    sys::netns::within(netns, || connect(ip, port, patience)).unwrap()
}

/// Sends a word each way and returns whom the listener sees.
fn exchange(mut client: TcpStream, listener: &TcpListener) -> Ipv4Addr {
    let (mut server, peer) = listener.accept().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"ping").unwrap();
    let mut word = [0; 4];
    server.read_exact(&mut word).unwrap();
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"pong");
    match peer {
        SocketAddr::V4(peer) => *peer.ip(),
        SocketAddr::V6(peer) => panic!("unexpected IPv6 peer {peer}"),
    }
}

fn link_names() -> Vec<String> {
    let mut names: Vec<String> = RouteSocket::open().unwrap().links().unwrap().into_iter().map(|l| l.name).collect();
    names.sort();
    names
}

#[test]
fn containers_get_addresses_in_order_and_talk() {
    on_private_host(|| {
        let bridge = bridge(0);
        assert_eq!(bridge.subnet().to_string(), "172.17.0.0/16");
        let one = bridge.attach(container(), &AttachRequest::default()).unwrap();
        let two = bridge.attach(container(), &AttachRequest::default()).unwrap();
        assert_eq!(one.endpoint.ip, Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(two.endpoint.ip, Ipv4Addr::new(172, 17, 0, 3));
        assert_eq!(one.endpoint.mac.to_string(), "02:42:ac:11:00:02");
        let listener = listen(&two, 80);
        let client = connect_from(&one.netns, two.endpoint.ip, 80, PATIENCE).unwrap();
        assert_eq!(exchange(client, &listener), one.endpoint.ip);
        // The host reaches containers directly.
        let client = connect(two.endpoint.ip, 80, PATIENCE).unwrap();
        assert_eq!(exchange(client, &listener), bridge.gateway());
        let inside = sys::netns::within(&one.netns, || {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap();
            (read("ipv4/ip_unprivileged_port_start"), read("ipv6/conf/eth0/disable_ipv6"))
        });
        assert_eq!(inside.unwrap(), ("0\n".to_owned(), "1\n".to_owned()));
        bridge.teardown().unwrap();
    });
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    on_private_host(|| {
        let outside = outside();
        let bridge = bridge(1);
        let slot = bridge.attach(container(), &publish(Protocol::Tcp, None, 8080, 80)).unwrap();
        let other = bridge.attach(container(), &AttachRequest::default()).unwrap();
        let listener = listen(&slot, 80);
        let port = slot.endpoint.ports[0];
        assert_eq!((port.host_ip, port.host_port, port.container_port), (Ipv4Addr::UNSPECIFIED, 8080, 80));

        let gateway = bridge.gateway();
        let reached = [
            ("host by loopback", connect(Ipv4Addr::LOCALHOST, 8080, PATIENCE), gateway),
            ("host by another loopback address", connect(Ipv4Addr::new(127, 0, 0, 9), 8080, PATIENCE), gateway),
            ("outside keeps its address", connect_from(&outside, HOST_OUTSIDE, 8080, PATIENCE), OUTSIDE),
            ("another container", connect_from(&other.netns, gateway, 8080, PATIENCE), gateway),
            ("another container by the outside", connect_from(&other.netns, HOST_OUTSIDE, 8080, PATIENCE), gateway),
            ("the container itself", connect_from(&slot.netns, gateway, 8080, PATIENCE), gateway),
        ];
        for (who, client, seen) in reached {
            let client = client.unwrap_or_else(|error| panic!("{who}: {error}"));
            assert_eq!(exchange(client, &listener), seen, "{who}");
        }
        let client = connect(HOST_OUTSIDE, 8080, PATIENCE).unwrap();
        exchange(client, &listener);

        bridge.release(&slot.endpoint.id).unwrap();
        let refused = connect(Ipv4Addr::LOCALHOST, 8080, PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).expect("a closed port is free for others");
        bridge.teardown().unwrap();
    });
}

#[test]
fn a_port_on_one_address_is_not_on_others() {
    on_private_host(|| {
        let outside = outside();
        let bridge = bridge(0);
        let request = publish(Protocol::Tcp, Some(Ipv4Addr::LOCALHOST), 8081, 80);
        let slot = bridge.attach(container(), &request).unwrap();
        let listener = listen(&slot, 80);
        exchange(connect(Ipv4Addr::LOCALHOST, 8081, PATIENCE).unwrap(), &listener);
        assert!(connect_from(&outside, HOST_OUTSIDE, 8081, PATIENCE).is_err());
        assert!(connect_from(&slot.netns, bridge.gateway(), 8081, PATIENCE).is_err());
        bridge.teardown().unwrap();
    });
}

#[test]
fn datagrams_follow_a_port_to_its_new_container() {
    on_private_host(|| {
        let bridge = bridge(0);
        let request = publish(Protocol::Udp, None, 5300, 53);
        // A peer that sends all the time from one port keeps its tracked connection alive.
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        for word in [b"1", b"2"] {
            let slot = bridge.attach(container(), &request).unwrap();
            let server =
                sys::netns::within(&slot.netns, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap()).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            peer.send_to(word, (Ipv4Addr::LOCALHOST, 5300)).unwrap();
            let mut buffer = [0; 8];
            let (length, from) = server.recv_from(&mut buffer).expect("the datagram reaches the new container");
            assert_eq!(&buffer[..length], word);
            server.send_to(b"answer", from).unwrap();
            let (length, from) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!((length, from.port()), (6, 5300), "the answer comes from the published port");
            bridge.release(&slot.endpoint.id).unwrap();
        }
        bridge.teardown().unwrap();
    });
}

#[test]
fn containers_go_out_with_the_hosts_address_and_nobody_comes_straight_in() {
    on_private_host(|| {
        let outside = outside();
        let bridge = bridge(0);
        let slot = bridge.attach(container(), &AttachRequest::default()).unwrap();
        let listener = sys::netns::within(&outside, || TcpListener::bind((OUTSIDE, 90)).unwrap()).unwrap();
        let client = connect_from(&slot.netns, OUTSIDE, 90, PATIENCE).unwrap();
        assert_eq!(exchange(client, &listener), HOST_OUTSIDE);

        let _listener = listen(&slot, 80);
        let straight = connect_from(&outside, slot.endpoint.ip, 80, SILENCE).unwrap_err();
        assert_eq!(straight.kind(), io::ErrorKind::TimedOut, "dropped, not refused");
        // Not even under cover of a published port of the same number.
        let published = bridge.attach(container(), &publish(Protocol::Tcp, None, 80, 80)).unwrap();
        let _other = listen(&published, 80);
        assert!(connect_from(&outside, published.endpoint.ip, 80, SILENCE).is_err());
        bridge.teardown().unwrap();
    });
}

#[test]
fn networks_are_isolated_from_each_other() {
    on_private_host(|| {
        let one = bridge(0);
        let config = BridgeConfig { name: "dhow-u".into(), table: "dhow-u".into(), ..config(0) };
        let two = Bridge::setup(config, &[]).unwrap();
        assert_eq!(two.subnet().to_string(), "172.18.0.0/16", "the next pool that overlaps nothing");
        let here = one.attach(container(), &AttachRequest::default()).unwrap();
        let there = two.attach(container(), &publish(Protocol::Tcp, None, 8080, 80)).unwrap();
        let listener = listen(&there, 80);
        assert!(connect_from(&here.netns, there.endpoint.ip, 80, SILENCE).is_err());
        exchange(connect_from(&here.netns, one.gateway(), 8080, PATIENCE).unwrap(), &listener);
        one.teardown().unwrap();
        two.teardown().unwrap();
    });
}

#[test]
fn loopback_stays_closed_to_neighbours() {
    on_private_host(|| {
        let outside = outside();
        // A neighbour on the wire that sends to 127.0.0.1, and a link of the host that accepts such packets.
        sys::netns::within(&outside, || {
            let mut far = RouteSocket::open().unwrap();
            let mut requests = RouteRequests::new();
            requests.set_route(Ipv4Addr::new(127, 0, 0, 0), 8, Some(HOST_OUTSIDE), None);
            far.apply(requests).unwrap();
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        })
        .unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/br-out/route_localnet", "1").unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 7070)).unwrap();
        assert!(connect_from(&outside, Ipv4Addr::LOCALHOST, 7070, PATIENCE).is_ok(), "the way in exists without us");

        let bridge = bridge(0);
        let request = publish(Protocol::Tcp, Some(Ipv4Addr::LOCALHOST), 8080, 80);
        let slot = bridge.attach(container(), &request).unwrap();
        let listener = listen(&slot, 80);
        for port in [7070, 8080] {
            assert!(connect_from(&outside, Ipv4Addr::LOCALHOST, port, SILENCE).is_err(), "{port}");
        }
        exchange(connect(Ipv4Addr::LOCALHOST, 8080, PATIENCE).unwrap(), &listener);
        bridge.teardown().unwrap();
    });
}

#[test]
fn a_foreign_firewall_that_drops_is_passed_and_left_as_found() {
    on_private_host(|| {
        let outside = outside();
        let mut nft = NftSocket::open().unwrap();
        let mut transaction = Transaction::new("filter");
        let base = BaseChain { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Drop };
        transaction.create_table().create_base_chain("FORWARD", &base);
        nft.apply(transaction).unwrap();
        let bridge = bridge(0);
        let slot = bridge.attach(container(), &publish(Protocol::Tcp, None, 8080, 80)).unwrap();
        let listener = listen(&slot, 80);
        exchange(connect_from(&outside, HOST_OUTSIDE, 8080, PATIENCE).unwrap(), &listener);
        match std::process::Command::new("iptables").args(["-S", "FORWARD"]).output() {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(text.contains("-i dhow-t") && text.contains("-j ACCEPT"), "iptables still reads it: {text}");
            }
            Err(_) => eprintln!("iptables is not installed: its view of the chain was not checked"),
        }
        bridge.teardown().unwrap();
        assert!(nft.rules("filter", "FORWARD").unwrap().is_empty());
    });
}

#[test]
fn a_new_daemon_takes_over_without_closing_a_port() {
    on_private_host(|| {
        let old = bridge(1);
        let slot = old.attach(container(), &publish(Protocol::Tcp, None, 8080, 80)).unwrap();
        let listener = listen(&slot, 80);
        let mut talking = connect(Ipv4Addr::LOCALHOST, 8080, PATIENCE).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        // The endpoint goes through the caller's records.
        let endpoint = slot.endpoint.clone();
        drop(old);
        assert!(connect(Ipv4Addr::LOCALHOST, 8080, PATIENCE).is_ok(), "no daemon, open port");
        drop(listener.accept().unwrap());

        let new = Bridge::setup(config(0), std::slice::from_ref(&endpoint)).unwrap();
        new.reconcile();
        assert_eq!(new.subnet().to_string(), "172.17.0.0/16");
        talking.write_all(b"x").unwrap();
        served.read_exact(&mut [0]).unwrap();
        exchange(connect(Ipv4Addr::LOCALHOST, 8080, PATIENCE).unwrap(), &listener);
        let error = new.attach(container(), &publish(Protocol::Tcp, None, 8080, 80)).unwrap_err();
        assert_eq!(error.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        let next = new.attach(container(), &AttachRequest::default()).unwrap();
        assert_ne!(next.endpoint.ip, endpoint.ip);
        let same = AttachRequest { ip: Some(endpoint.ip), ..AttachRequest::default() };
        assert!(new.attach(container(), &same).is_err());
        new.release(&endpoint.id).unwrap();
        new.teardown().unwrap();
    });
}

#[test]
fn flushed_rules_come_back() {
    on_private_host(|| {
        let bridge = bridge(0);
        let slot = bridge.attach(container(), &publish(Protocol::Tcp, None, 8080, 80)).unwrap();
        let listener = listen(&slot, 80);
        let mut nft = NftSocket::open().unwrap();
        for round in 0..3 {
            let mut transaction = Transaction::new("dhow-t");
            transaction.delete_table();
            nft.apply(transaction).unwrap();
            let restored = (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                bridge.rules_in_force().unwrap()
            });
            assert!(restored, "round {round}");
            exchange(connect(Ipv4Addr::LOCALHOST, 8080, PATIENCE).unwrap(), &listener);
        }
        // A single rule counts as well, and a foreign firewall that comes up later is passed too.
        let guard = nft.rules("dhow-t", "guard").unwrap();
        let mut transaction = Transaction::new("dhow-t");
        transaction.delete_rule("guard", guard[0].handle);
        nft.apply(transaction).unwrap();
        let mut transaction = Transaction::new("filter");
        let base = BaseChain { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Drop };
        transaction.create_table().create_base_chain("FORWARD", &base);
        nft.apply(transaction).unwrap();
        let restored = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            nft.rules("dhow-t", "guard").unwrap().len() == guard.len()
                && nft.rules("filter", "FORWARD").unwrap().len() == 2
        });
        assert!(restored);
        bridge.teardown().unwrap();
        assert_eq!(nft.tables().unwrap(), ["filter"], "nothing comes back after the end");
    });
}

#[test]
fn strays_of_a_killed_daemon_are_swept() {
    on_private_host(|| {
        let old = bridge(0);
        let running = old.attach(container(), &AttachRequest::default()).unwrap();
        // Its namespace is held by somebody, but no record of it has survived.
        let stray = old.attach(container(), &AttachRequest::default()).unwrap();
        drop(old);
        let new = Bridge::setup(config(0), std::slice::from_ref(&running.endpoint)).unwrap();
        new.reconcile();
        let swept = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            !link_names().contains(&stray.endpoint.veth)
        });
        assert!(swept && link_names().contains(&running.endpoint.veth));
        new.teardown().unwrap();
    });
}

#[test]
fn nothing_is_left_behind() {
    on_private_host(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let before = link_names();
        let bridge = bridge(2);
        let slots: Vec<Slot> = (0..12)
            .map(|index| bridge.attach(container(), &publish(Protocol::Tcp, None, 9000 + index, 80)).unwrap())
            .collect();
        // A failing attach gives back what it took.
        let error = bridge.attach(container(), &publish(Protocol::Tcp, None, 9000, 80)).unwrap_err();
        assert!(error.to_string().contains("already allocated"), "{error}");
        assert_eq!(bridge.endpoints().len(), 12);
        let held = slots[3].netns.try_clone().unwrap();
        for slot in &slots {
            bridge.release(&slot.endpoint.id).unwrap();
        }
        drop(slots);
        assert!(bridge.release(&network_endpoint()).is_err());
        // A namespace that somebody holds open does not keep its link.
        let gone = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            sys::netns::within(&held, || !link_names().contains(&"eth0".to_owned())).unwrap()
        });
        assert!(gone);
        bridge.teardown().unwrap();
        let settled = (0..100).any(|_| {
            let same = link_names() == before;
            if !same {
                std::thread::sleep(Duration::from_millis(100));
            }
            same
        });
        assert!(settled, "{:?} instead of {before:?}", link_names());
        assert!(NftSocket::open().unwrap().tables().unwrap().is_empty());
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "0\n");
    });
}

fn network_endpoint() -> types::EndpointId {
    types::EndpointId::from_random([9; 32])
}

#[test]
fn many_attach_at_once() {
    on_private_host(|| {
        let bridge = bridge(2);
        let slots: Vec<Slot> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let request = publish(Protocol::Tcp, None, 0, 80);
                        (0..5).map(|_| bridge.attach(container(), &request).unwrap()).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let addresses: std::collections::HashSet<Ipv4Addr> = slots.iter().map(|slot| slot.endpoint.ip).collect();
        let ports: std::collections::HashSet<u16> = slots.iter().map(|slot| slot.endpoint.ports[0].host_port).collect();
        assert_eq!((addresses.len(), ports.len()), (20, 20));
        let listener = listen(&slots[19], 80);
        exchange(connect(Ipv4Addr::LOCALHOST, slots[19].endpoint.ports[0].host_port, PATIENCE).unwrap(), &listener);
        bridge.teardown().unwrap();
    });
}
