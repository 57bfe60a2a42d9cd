//! Published ports that are served by the process: from IPv6 addresses of the host to IPv4 targets.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use dataplane::{Change, ClientError, FailureKind, State};
use firewall::{FamilyRules, GatewayMode, NetRules, PortRule};
use netlink::route::MacAddress;
use types::Protocol;

use crate::fixture::{Host, PATIENCE, eventually, id};

pub fn net() -> NetRules {
    NetRules {
        id: id(1),
        bridge: "t0".to_owned(),
        v4: Some(FamilyRules {
            subnet: "10.99.0.0/24".parse().unwrap(),
            gateway: Some("10.99.0.1".parse().unwrap()),
            masquerade: true,
            mode: GatewayMode::Nat,
            source: None,
        }),
        v6: None,
        icc: true,
        internal: false,
        mac: MacAddress([2, 0, 0, 0, 0, 9]),
        mtu: 1500,
        route_localnet: false,
        trusted: Vec::new(),
    }
}

/// From `[::1]:8080` to `127.0.0.1:TARGET`.
pub fn rule(protocol: Protocol, target_port: u16) -> PortRule {
    PortRule {
        bridge: "t0".to_owned(),
        protocol,
        host_ip: Ipv6Addr::LOCALHOST.into(),
        host_port: 8080,
        target: Ipv4Addr::LOCALHOST.into(),
        target_port,
    }
}

pub const PUBLISHED: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 8080);

/// A bound socket that does not listen.
pub fn reserve(host: &Host, address: SocketAddr) -> OwnedFd {
    host.inside(|| {
        let family =
            if address.is_ipv4() { rustix::net::AddressFamily::INET } else { rustix::net::AddressFamily::INET6 };
        let socket = rustix::net::socket(family, rustix::net::SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &address).unwrap();
        socket
    })
}

pub fn publish(rule: &PortRule) -> Change {
    Change::Publish { endpoint: id(1), ports: vec![rule.clone()], sockets: vec![true] }
}

fn dial(host: &Host) -> TcpStream {
    let stream = host.inside(|| TcpStream::connect(PUBLISHED).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A target whose connections are treated by `serve`.
fn target(host: &Host, serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> u16 {
    let listener = host.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), serve) = (stream, serve.clone()) else { return };
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

#[test]
fn bytes_go_both_ways_until_each_side_has_ended() {
    let Some(host) = Host::new() else { return };
    // Answers with all it got, once the client has ended.
    let port = target(&host, |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
        stream.write_all(b"end").unwrap();
    });
    let rule = rule(Protocol::Tcp, port);
    let socket = reserve(&host, PUBLISHED);
    host.put(vec![Change::PutNet(net()), publish(&rule)], &[socket.as_fd()]);
    drop(socket);
    for size in [0usize, 1, 70_000, 8 << 20] {
        let mut stream = dial(&host);
        let bytes: Vec<u8> = (0..size).map(|n| (n * 7 % 251) as u8).collect();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert!(back.len() == size + 3 && back.starts_with(&bytes) && back.ends_with(b"end"), "{size}");
    }
    eventually("connections end", || host.client().status().unwrap().forwarder.connections == 0);
    let status = host.client().status().unwrap().forwarder;
    assert_eq!((status.ports, status.accepted, status.refused), (1, 4, 0));
    assert_eq!((status.bytes_in, status.bytes_out), ((8 << 20) + 70_001, (8 << 20) + 70_001 + 12));
}

#[test]
fn two_hundred_connections_at_a_time_and_none_once_it_is_taken_back() {
    let Some(host) = Host::new() else { return };
    let port = target(&host, |mut stream| {
        let mut buffer = [0; 256];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
    let rule = rule(Protocol::Tcp, port);
    let socket = reserve(&host, PUBLISHED);
    host.put(vec![Change::PutNet(net()), publish(&rule)], &[socket.as_fd()]);
    drop(socket);
    let idle = host.descriptors();
    let mut streams: Vec<TcpStream> = (0..200).map(|_| dial(&host)).collect();
    for round in 0..3u8 {
        for (n, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&[round, n as u8]).unwrap();
        }
        for (n, stream) in streams.iter_mut().enumerate() {
            let mut buffer = [0; 2];
            stream.read_exact(&mut buffer).unwrap();
            assert_eq!(buffer, [round, n as u8]);
        }
    }
    assert_eq!(host.client().status().unwrap().forwarder.connections, 200);
    // Two descriptors each, and a few pipes for all.
    assert!(host.descriptors() <= idle + 400 + 64);
    let before = host.cpu();
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(host.cpu(), before, "the process is not idle");

    // A client that is gone without an end takes its connection along.
    let gone = streams.pop().unwrap();
    rustix::net::sockopt::set_socket_linger(gone.as_fd(), Some(Duration::ZERO)).unwrap();
    drop(gone);
    eventually("the connection ends", || host.client().status().unwrap().forwarder.connections == 199);

    host.put(vec![Change::Unpublish { endpoint: id(1) }], &[]);
    for stream in &mut streams {
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
    assert!(host.inside(|| TcpStream::connect(PUBLISHED)).is_err());
    eventually("everything is closed", || host.descriptors() < idle);
    assert_eq!(host.client().status().unwrap().forwarder.ports, 0);
}

#[test]
fn a_target_that_does_not_answer_is_a_broken_connection() {
    let Some(host) = Host::new() else { return };
    let free = host.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port());
    let rule = rule(Protocol::Tcp, free);
    let socket = reserve(&host, PUBLISHED);
    host.put(vec![Change::PutNet(net()), publish(&rule)], &[socket.as_fd()]);
    // The end may come before the connection is seen to be there.
    match host.inside(|| TcpStream::connect(PUBLISHED)) {
        Ok(mut stream) => {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let kind = stream.read(&mut [0; 1]).map_err(|error| error.kind());
            assert_eq!(kind, Err(std::io::ErrorKind::ConnectionReset));
        }
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    eventually("it is counted", || host.client().status().unwrap().forwarder.refused == 1);
}

#[test]
fn datagrams_have_sessions() {
    let Some(host) = Host::new() else { return };
    let target = host.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let port = target.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        while let Ok((count, from)) = target.recv_from(&mut buffer) {
            // So that a client sees which session it has.
            let answer = [&from.port().to_be_bytes()[..], &buffer[..count]].concat();
            if count == 0 || target.send_to(&answer, from).is_err() {
                return;
            }
        }
    });
    let rule = rule(Protocol::Udp, port);
    let socket: OwnedFd = host.inside(|| UdpSocket::bind(PUBLISHED).unwrap()).into();
    host.put(vec![Change::PutNet(net()), publish(&rule)], &[socket.as_fd()]);
    drop(socket);
    let mut sessions = Vec::new();
    let clients: Vec<UdpSocket> = (0..50)
        .map(|_| {
            let client = host.inside(|| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap());
            // Only what comes from the published address arrives.
            client.connect(PUBLISHED).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client
        })
        .collect();
    for round in 0..2 {
        for (n, client) in clients.iter().enumerate() {
            let bytes = vec![n as u8; 1 + n * 600 * round];
            client.send(&bytes).unwrap();
            let mut buffer = vec![0; 65_535];
            let count = client.recv(&mut buffer).unwrap();
            assert_eq!(buffer[2..count], bytes);
            if round == 0 {
                sessions.push([buffer[0], buffer[1]]);
            } else {
                assert_eq!(sessions[n], [buffer[0], buffer[1]]);
            }
        }
    }
    let status = host.client().status().unwrap().forwarder;
    assert_eq!((status.sessions, status.accepted, status.refused), (50, 50, 0));
    host.put(vec![Change::Unpublish { endpoint: id(1) }], &[]);
    assert_eq!(host.client().status().unwrap().forwarder.sessions, 0);
    let _ = clients[0].send(b"x");
    assert!(clients[0].recv(&mut [0; 8]).is_err());
}

#[test]
fn a_thousand_reserved_ports_in_one_batch() {
    let Some(host) = Host::new() else { return };
    let rules: Vec<PortRule> = (0..1000)
        .map(|n| PortRule {
            host_ip: Ipv4Addr::UNSPECIFIED.into(),
            host_port: 20_000 + n,
            target: "10.99.0.2".parse().unwrap(),
            ..rule(Protocol::Tcp, 80)
        })
        .collect();
    let sockets: Vec<OwnedFd> =
        rules.iter().map(|rule| reserve(&host, SocketAddr::new(rule.host_ip, rule.host_port))).collect();
    let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let change = Change::Publish { endpoint: id(1), ports: rules, sockets: vec![true; 1000] };
    host.put(vec![Change::PutNet(net()), change], &fds);
    drop(sockets);
    let status = host.client().status().unwrap().forwarder;
    assert_eq!((status.reserved, status.ports), (1000, 0));
    assert!(host.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 20_500))).is_err());
    host.put(vec![Change::Unpublish { endpoint: id(1) }], &[]);
    assert!(host.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 20_500))).is_ok());
}

#[test]
fn a_batch_is_taken_as_a_whole_or_not() {
    let Some(mut host) = Host::new() else { return };
    let kind = |result: Result<(), ClientError>| match result {
        Err(ClientError::Failed(failure)) => failure.kind,
        other => panic!("{other:?}"),
    };
    // A port of a network that is not there, behind one that could be.
    let stranger = PortRule { bridge: "nowhere".to_owned(), ..rule(Protocol::Tcp, 80) };
    let socket = reserve(&host, PUBLISHED);
    let changes = vec![Change::PutNet(net()), publish(&stranger)];
    assert_eq!(kind(host.client().batch(changes, &[socket.as_fd()])), FailureKind::Firewall);
    // Fewer descriptors than ports.
    let changes = vec![Change::PutNet(net()), publish(&rule(Protocol::Tcp, 80))];
    assert_eq!(kind(host.client().batch(changes, &[])), FailureKind::Protocol);
    // A socket of another protocol.
    let changes = vec![Change::PutNet(net()), publish(&rule(Protocol::Udp, 80))];
    assert_eq!(kind(host.client().batch(changes, &[socket.as_fd()])), FailureKind::Protocol);
    let changes = vec![Change::PutNet(net()), publish(&rule(Protocol::Sctp, 80))];
    assert_eq!(kind(host.client().batch(changes, &[socket.as_fd()])), FailureKind::Unsupported);
    let status = host.client().status().unwrap().forwarder;
    assert_eq!((status.ports, status.reserved), (0, 0));
    drop(socket);
    assert!(host.inside(|| TcpStream::connect(PUBLISHED)).is_err());
    // A new process has to be told everything first.
    host.kill();
    let mut command = host.command();
    let mut child = host.inside(move || command.spawn().unwrap());
    let client = host.connect();
    assert_eq!(kind(client.batch(vec![Change::PutNet(net())], &[])), FailureKind::Protocol);
    client.sync(State::default()).unwrap();
    client.batch(vec![Change::PutNet(net())], &[]).unwrap();
    client.quit(true).unwrap();
    assert!(child.wait().unwrap().success());
}
