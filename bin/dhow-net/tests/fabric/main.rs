//! Networks end to end, on real packets, with a real `dhow-net`, in a private network namespace that stands for the host.
//!
//! Another namespace stands for the outside, joined to the "host" by a bridge. They need root; without it they say so and
//! pass. Everything ends with its namespace and its process, so a failing test leaves nothing behind.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]

mod firewalld;

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use netlink::nftables::{BaseChain, ChainKind, Expression, Family, Hook, NftSocket, Policy, Transaction, priority};
use netlink::route::{IpRoute, LinkChange, LinkKind, MacAddress, NewLink, RouteRequests, RouteSocket, Veth};
use network::{
    Driver, Endpoint, Fabric, FabricConfig, JoinRequest, Link, NetworkSpec, Options, PortSpec, Process, ProcessConfig,
    Rate, Resolver, Running, SubnetSpec, default_pools,
};
use types::{ContainerId, ExposedPort, NetworkId, PortRange, Protocol};

const HOST_OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const HOST_OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const HOST_NEAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const NEAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const HOST_OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// For connections that must succeed.
const PATIENCE: Duration = Duration::from_secs(10);
/// For connections that must be dropped: an answer over these links takes microseconds.
const SILENCE: Duration = Duration::from_millis(400);

/// Where a test's `dhow-net` lives; it ends with this.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn process(&self) -> ProcessConfig {
        ProcessConfig {
            program: PathBuf::from(env!("CARGO_BIN_EXE_dhow-net")),
            socket: self.dir.path().join("net.sock"),
            log: self.dir.path().join("net.log"),
            table: "dhow-t".into(),
        }
    }

    fn config(&self, idle: usize) -> FabricConfig {
        FabricConfig {
            process: self.process(),
            pools: default_pools([1, 2, 3, 4, 5]),
            bindings: Vec::new(),
            idle,
            idle_max: idle.max(4),
            firewalld: None,
            ip_forward_no_drop: false,
        }
    }

    /// Networks with a default bridge alone.
    fn fabric(&self, idle: usize) -> Fabric {
        Fabric::open(self.config(idle), Some(default_bridge()), Vec::new(), &[]).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = dataplane::Client::dismiss(&self.dir.path().join("net.sock"), true);
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("net.log")).unwrap_or_default();
            eprintln!("dhow-net said: {log}");
        }
    }
}

fn on_private_host(test: impl FnOnce(&Place) + Send) {
    let run = || {
        let mut requests = RouteRequests::new();
        requests.change_link_by_name("lo", &up());
        RouteSocket::open().unwrap().apply(requests).unwrap();
        let place = Place { dir: tempfile::tempdir().unwrap() };
        test(&place);
    };
    if let Err(error) = sys::netns::create_with(run) {
        eprintln!("skipped: making a network namespace needs root ({error})");
    }
}

fn up() -> LinkChange {
    LinkChange { up: Some(true), ..LinkChange::default() }
}

fn id(number: u8) -> NetworkId {
    NetworkId::from_random([number; 32])
}

fn spec(number: u8, name: &str) -> NetworkSpec {
    NetworkSpec {
        id: id(number),
        name: name.into(),
        driver: Driver::Bridge,
        ipv4: true,
        ipv6: false,
        internal: false,
        subnets: Vec::new(),
        options: Options::new(),
        foreign_link: false,
    }
}

fn default_bridge() -> NetworkSpec {
    let mut spec = spec(1, "bridge");
    spec.options.insert("com.docker.network.bridge.name".into(), "dhow-t".into());
    spec
}

/// A namespace outside, 198.51.100.2 and 2001:db8::2, whose default routes lead to the host.
fn outside() -> OwnedFd {
    let mut host = RouteSocket::open().unwrap();
    let (netns, mut far) = sys::netns::create_with(|| RouteSocket::open().unwrap()).unwrap();
    let mut requests = RouteRequests::new();
    requests.create_bridge("br-out", MacAddress([2, 0, 0, 0, 9, 1]), 1500).change_link_by_name("br-out", &up());
    host.apply(requests).unwrap();
    let master = host.link("br-out").unwrap().unwrap().index;
    let mut requests = RouteRequests::new();
    requests
        .add_sole_address(master, HOST_OUTSIDE.into(), 24)
        .add_sole_address(master, HOST_OUTSIDE6.into(), 64)
        .create_veth(&Veth { name: "out0", master, peer_name: "eth0", peer_netns: netns.as_fd(), mtu: 1500 });
    host.apply(requests).unwrap();
    let eth0 = far.link("eth0").unwrap().unwrap().index;
    let mut requests = RouteRequests::new();
    requests.change_link(eth0, &up()).add_sole_address(eth0, OUTSIDE.into(), 24);
    requests.add_sole_address(eth0, OUTSIDE6.into(), 64);
    far.apply(requests).unwrap();
    for (family, gateway) in [(ANY, IpAddr::V4(HOST_OUTSIDE)), (Ipv6Addr::UNSPECIFIED.into(), HOST_OUTSIDE6.into())] {
        let mut requests = RouteRequests::new();
        requests.set_ip_route(&IpRoute { gateway: Some(gateway), link: Some(eth0), ..IpRoute::to(family, 0) });
        far.apply(requests).unwrap();
    }
    netns
}

/// Another namespace behind a link of the host that is in no bridge: nobody whom networks concern.
fn neighbour(link: &str, host_ip: Ipv4Addr, ip: Ipv4Addr) -> OwnedFd {
    let mut host = RouteSocket::open().unwrap();
    let (netns, mut far) = sys::netns::create_with(|| RouteSocket::open().unwrap()).unwrap();
    let mut requests = RouteRequests::new();
    requests
        .create_veth(&Veth { name: link, master: 0, peer_name: "eth0", peer_netns: netns.as_fd(), mtu: 1500 })
        .change_link_by_name(link, &up());
    host.apply(requests).unwrap();
    let index = host.link(link).unwrap().unwrap().index;
    let mut requests = RouteRequests::new();
    requests.add_sole_address(index, host_ip.into(), 24);
    host.apply(requests).unwrap();
    let eth0 = far.link("eth0").unwrap().unwrap().index;
    let mut requests = RouteRequests::new();
    requests.change_link(eth0, &up()).add_sole_address(eth0, ip.into(), 24);
    far.apply(requests).unwrap();
    let mut requests = RouteRequests::new();
    requests.set_ip_route(&IpRoute { gateway: Some(host_ip.into()), link: Some(eth0), ..IpRoute::to(ANY, 0) });
    far.apply(requests).unwrap();
    netns
}

fn forwarding() -> String {
    std::fs::read_to_string(FORWARDING).unwrap().trim().to_owned()
}

/// A started container.
struct Started {
    id: ContainerId,
    netns: OwnedFd,
    endpoints: Vec<Endpoint>,
}

impl Started {
    fn ip(&self) -> IpAddr {
        self.endpoints[0].addresses().next().unwrap()
    }

    fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        sys::netns::within(&self.netns, body).unwrap()
    }

    fn listen(&self, port: u16) -> TcpListener {
        self.inside(|| {
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| TcpListener::bind((ANY, port))).unwrap()
        })
    }
}

fn process_in(pid: i32, netns: &OwnedFd) -> Process {
    Process::new(pid, netns).unwrap()
}

fn container(number: u8) -> ContainerId {
    ContainerId::from_random([number; 32])
}

fn resolver() -> Resolver {
    Resolver { servers: Some(Vec::new()), links: Vec::new(), ndots_set: false }
}

fn try_start(fabric: &Fabric, number: u8, networks: &[JoinRequest], ports: &[PortSpec]) -> network::Result<Started> {
    let id = container(number);
    let mut attachment = fabric.prepare(id)?;
    for request in networks {
        attachment.join(request)?;
    }
    let (netns, endpoints) = attachment.finish(&resolver(), ports)?;
    Ok(Started { id, netns, endpoints })
}

fn start(fabric: &Fabric, number: u8, ports: &[PortSpec]) -> Started {
    try_start(fabric, number, &[join(1, &format!("c{number}"))], ports).unwrap()
}

fn join(network: u8, name: &str) -> JoinRequest {
    JoinRequest { names: vec![name.to_owned()], ..JoinRequest::new(id(network)) }
}

fn publish(protocol: Protocol, host_ip: Option<IpAddr>, host_port: u16, port: u16) -> PortSpec {
    let host = (host_port > 0).then_some(PortRange { start: host_port, end: host_port });
    PortSpec { container: ExposedPort { port, protocol }, host_ip, host }
}

fn connect(ip: impl Into<IpAddr>, port: u16, patience: Duration) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::new(ip.into(), port), patience)
}

fn connect_from(netns: &OwnedFd, ip: impl Into<IpAddr>, port: u16, patience: Duration) -> io::Result<TcpStream> {
    let ip = ip.into();
    sys::netns::within(netns, || connect(ip, port, patience)).unwrap()
}

/// Sends a word each way and returns whom the listener sees.
fn exchange(mut client: TcpStream, listener: &TcpListener) -> IpAddr {
    let (mut server, peer) = listener.accept().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"ping").unwrap();
    let mut word = [0; 4];
    server.read_exact(&mut word).unwrap();
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"pong");
    peer.ip().to_canonical()
}

fn link_names() -> Vec<String> {
    let mut names: Vec<String> = RouteSocket::open().unwrap().links().unwrap().into_iter().map(|l| l.name).collect();
    names.sort();
    names
}

fn soon(what: impl Fn() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Asks the container's resolver for the addresses of a name, as its C library would.
fn ask(container: &Started, name: &str) -> Vec<IpAddr> {
    container.inside(|| {
        let socket = UdpSocket::bind((ANY, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(("127.0.0.11", 53)).unwrap();
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend(label.bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        socket.send(&query).unwrap();
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(answer[..2], query[..2]);
        let count = usize::from(u16::from_be_bytes([answer[6], answer[7]]));
        // Each record is a pointer to the name, type, class, time and length, then four bytes.
        answer[query.len()..length].chunks(16).take(count).map(|r| IpAddr::from([r[12], r[13], r[14], r[15]])).collect()
    })
}

#[test]
fn containers_get_addresses_in_order_and_talk() {
    on_private_host(|place| {
        let fabric = place.fabric(0);
        assert_eq!(fabric.network(&id(1)).unwrap().subnets[0].subnet.to_string(), "172.17.0.0/16");
        let one = start(&fabric, 1, &[]);
        let two = start(&fabric, 2, &[]);
        assert_eq!((one.ip().to_string().as_str(), two.ip().to_string().as_str()), ("172.17.0.2", "172.17.0.3"));
        assert_eq!(one.endpoints[0].mac.to_string(), "02:42:ac:11:00:02");
        let listener = two.listen(80);
        let client = connect_from(&one.netns, two.ip(), 80, PATIENCE).unwrap();
        assert_eq!(exchange(client, &listener), one.ip());
        // The host reaches containers directly.
        let client = connect(two.ip(), 80, PATIENCE).unwrap();
        assert_eq!(exchange(client, &listener).to_string(), "172.17.0.1");
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap();
        let inside = one.inside(|| (read("ipv4/ip_unprivileged_port_start"), read("ipv6/conf/eth0/disable_ipv6")));
        assert_eq!(inside, ("0\n".to_owned(), "1\n".to_owned()));
        fabric.teardown().unwrap();
    });
}

#[test]
fn names_are_served_in_every_namespace_and_port_53_is_free() {
    on_private_host(|place| {
        let fabric = place.fabric(1);
        let web = start(&fabric, 1, &[]);
        let database = start(&fabric, 2, &[]);
        // A program that is a name server itself.
        let _own = web.inside(|| (UdpSocket::bind((ANY, 53)).unwrap(), TcpListener::bind((ANY, 53)).unwrap()));
        assert_eq!(ask(&web, "c2"), [database.ip()]);
        assert_eq!(ask(&web, "C2"), [database.ip()]);
        assert_eq!(ask(&database, "c1"), [web.ip()]);
        fabric.release(database.id, &database.endpoints).unwrap();
        assert!(ask(&web, "c2").is_empty());
        fabric.teardown().unwrap();
    });
}

#[test]
fn published_ports_are_reached_from_everywhere_by_both_families() {
    on_private_host(|place| {
        let outside = outside();
        let fabric = place.fabric(1);
        let served = start(&fabric, 1, &[publish(Protocol::Tcp, None, 8080, 80)]);
        let other = start(&fabric, 2, &[]);
        let listener = served.listen(80);
        let hosts: Vec<String> = served.endpoints[0].ports.iter().map(|port| port.host_ip.to_string()).collect();
        assert_eq!(hosts, ["0.0.0.0", "::"]);

        let gateway = IpAddr::from([172, 17, 0, 1]);
        let outside4 = IpAddr::V4(OUTSIDE);
        // One after the other: forwarded connections reach the container in no order.
        let host = sys::netns::current().unwrap();
        let reached: [(&str, &OwnedFd, IpAddr, IpAddr); 8] = [
            ("host by loopback", &host, LOOPBACK, gateway),
            ("host by another loopback address", &host, IpAddr::from([127, 0, 0, 9]), gateway),
            ("host by the loopback address of IPv6", &host, Ipv6Addr::LOCALHOST.into(), gateway),
            ("outside keeps its address", &outside, HOST_OUTSIDE.into(), outside4),
            ("outside by IPv6 is forwarded", &outside, HOST_OUTSIDE6.into(), gateway),
            ("another container", &other.netns, gateway, gateway),
            ("another container by the outside", &other.netns, HOST_OUTSIDE.into(), gateway),
            ("the container itself", &served.netns, gateway, gateway),
        ];
        for (who, from, to, seen) in reached {
            let client = connect_from(from, to, 8080, PATIENCE).unwrap_or_else(|error| panic!("{who}: {error}"));
            assert_eq!(exchange(client, &listener), seen, "{who}");
        }
        exchange(connect(HOST_OUTSIDE, 8080, PATIENCE).unwrap(), &listener);

        fabric.release(served.id, &served.endpoints).unwrap();
        let refused = connect(LOOPBACK, 8080, PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        TcpListener::bind((ANY, 8080)).expect("a closed port is free for others");
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, 8080))
            .expect("in both families, whatever lingers of old connections");
        start(&fabric, 3, &[publish(Protocol::Tcp, None, 8080, 80)]);
        fabric.teardown().unwrap();
    });
}

#[test]
fn a_port_on_one_address_is_not_on_others() {
    on_private_host(|place| {
        let outside = outside();
        let fabric = place.fabric(0);
        let served = start(&fabric, 1, &[publish(Protocol::Tcp, Some(LOOPBACK), 8081, 80)]);
        let listener = served.listen(80);
        exchange(connect(LOOPBACK, 8081, PATIENCE).unwrap(), &listener);
        assert!(connect_from(&outside, HOST_OUTSIDE, 8081, PATIENCE).is_err());
        assert!(connect_from(&served.netns, [172, 17, 0, 1], 8081, PATIENCE).is_err());
        fabric.teardown().unwrap();
    });
}

#[test]
fn datagrams_follow_a_port_to_its_new_container() {
    on_private_host(|place| {
        let fabric = place.fabric(0);
        // A peer that sends all the time from one port keeps its tracked connection alive.
        let peer = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        for word in [b"1", b"2"] {
            let served = start(&fabric, word[0], &[publish(Protocol::Udp, None, 5300, 5353)]);
            let server = served.inside(|| UdpSocket::bind((ANY, 5353)).unwrap());
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            peer.send_to(word, (LOOPBACK, 5300)).unwrap();
            let mut buffer = [0; 8];
            let (length, from) = server.recv_from(&mut buffer).expect("the datagram reaches the new container");
            assert_eq!(&buffer[..length], word);
            server.send_to(b"answer", from).unwrap();
            let (length, from) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!((length, from.port()), (6, 5300), "the answer comes from the published port");
            fabric.release(served.id, &served.endpoints).unwrap();
        }
        fabric.teardown().unwrap();
    });
}

#[test]
fn containers_go_out_with_the_hosts_address_and_nobody_comes_straight_in() {
    on_private_host(|place| {
        let outside = outside();
        let fabric = place.fabric(0);
        let one = start(&fabric, 1, &[]);
        let listener = sys::netns::within(&outside, || TcpListener::bind((OUTSIDE, 90)).unwrap()).unwrap();
        let client = connect_from(&one.netns, OUTSIDE, 90, PATIENCE).unwrap();
        assert_eq!(exchange(client, &listener), IpAddr::V4(HOST_OUTSIDE));
        let _listener = one.listen(80);
        let straight = connect_from(&outside, one.ip(), 80, SILENCE).unwrap_err();
        assert_eq!(straight.kind(), io::ErrorKind::TimedOut, "dropped, not refused");
        // Not even under cover of a published port of the same number.
        let published = start(&fabric, 2, &[publish(Protocol::Tcp, None, 80, 80)]);
        let _other = published.listen(80);
        assert!(connect_from(&outside, published.ip(), 80, SILENCE).is_err());
        fabric.teardown().unwrap();
    });
}

#[test]
fn user_networks_are_apart_and_a_container_on_two_is_on_both() {
    on_private_host(|place| {
        let outside = outside();
        let fabric = place.fabric(0);
        let front = fabric.create(spec(2, "front")).unwrap();
        assert_eq!(front.subnets[0].subnet.to_string(), "172.18.0.0/16", "the next pool that overlaps nothing");
        let back = fabric.create(NetworkSpec { internal: true, ..spec(3, "back") }).unwrap();
        let proxy = try_start(&fabric, 1, &[join(2, "proxy")], &[publish(Protocol::Tcp, None, 8080, 80)]).unwrap();
        let app = try_start(&fabric, 2, &[join(3, "app"), join(2, "app")], &[]).unwrap();
        let database = try_start(&fabric, 3, &[join(3, "db")], &[publish(Protocol::Tcp, None, 5432, 5432)]).unwrap();
        assert!(database.endpoints[0].ports.is_empty(), "an internal network publishes nothing");
        let names: Vec<&str> = app.endpoints.iter().map(|endpoint| endpoint.interface.as_str()).collect();
        assert_eq!(names, ["eth0", "eth1"]);

        assert_eq!(ask(&proxy, "app"), [app.endpoints[1].addresses().next().unwrap()]);
        assert_eq!(ask(&app, "db"), [database.ip()]);
        assert_eq!(ask(&app, "db.back"), [database.ip()]);
        assert!(ask(&proxy, "db").is_empty());
        let listener = database.listen(5432);
        exchange(connect_from(&app.netns, database.ip(), 5432, PATIENCE).unwrap(), &listener);
        assert!(connect_from(&proxy.netns, database.ip(), 5432, SILENCE).is_err());
        assert!(connect_from(&outside, database.ip(), 5432, SILENCE).is_err());
        assert!(connect_from(&database.netns, OUTSIDE, 90, SILENCE).is_err());
        let served = proxy.listen(80);
        assert!(connect_from(&database.netns, HOST_OUTSIDE, 8080, SILENCE).is_err(), "not by a published port either");
        exchange(connect_from(&app.netns, HOST_OUTSIDE, 8080, PATIENCE).unwrap(), &served);

        let error = fabric.remove(&back.id).unwrap_err();
        assert_eq!(error.to_string(), "network back has active endpoints");
        fabric.release(database.id, &database.endpoints).unwrap();
        fabric.release(app.id, &app.endpoints).unwrap();
        fabric.remove(&back.id).unwrap();
        assert!(fabric.remove(&back.id).is_err());
        let again = fabric.create(spec(4, "back")).unwrap();
        assert_eq!(again.subnets[0].subnet, back.subnets[0].subnet, "what is free is taken again at once");
        fabric.teardown().unwrap();
    });
}

#[test]
fn connecting_and_disconnecting_a_running_container() {
    on_private_host(|place| {
        let fabric = place.fabric(0);
        fabric.create(spec(2, "more")).unwrap();
        let peer = try_start(&fabric, 1, &[join(2, "peer")], &[]).unwrap();
        let moved = start(&fabric, 2, &[publish(Protocol::Tcp, None, 8080, 80)]);
        // Somebody has to live in the namespace, as the container's first process does.
        let mut sleeper = moved.inside(|| std::process::Command::new("sleep").arg("60").spawn().unwrap());
        let pid = i32::try_from(sleeper.id()).unwrap();
        let process = process_in(pid, &moved.netns);
        fabric.started(moved.id, process);

        let mut attachment = fabric.enter(moved.id, process, moved.endpoints.clone()).unwrap();
        attachment.join(&join(2, "moved")).unwrap();
        let link = Link { alias: "friend".into(), network: id(2), name: "peer".into() };
        let linked = Resolver { links: vec![link], ..resolver() };
        let (_, endpoints) = attachment.finish(&linked, &[publish(Protocol::Tcp, None, 8080, 80)]).unwrap();
        assert_eq!(endpoints.len(), 2);
        assert_eq!(ask(&moved, "peer"), [peer.ip()]);
        assert_eq!(ask(&moved, "friend"), [peer.ip()], "a network brings links to a container that runs");
        let listener = moved.listen(80);
        exchange(connect_from(&peer.netns, endpoints[1].addresses().next().unwrap(), 80, PATIENCE).unwrap(), &listener);

        // Off the first network: the ports and the default route move to the second.
        let mut attachment = fabric.enter(moved.id, process, endpoints.clone()).unwrap();
        attachment.leave(&endpoints[0].id).unwrap();
        let (_, rest) = attachment.finish(&resolver(), &[publish(Protocol::Tcp, None, 8080, 80)]).unwrap();
        assert_eq!((rest.len(), rest[0].ports.len()), (1, 2));
        exchange(connect(LOOPBACK, 8080, PATIENCE).unwrap(), &listener);
        moved.inside(|| assert!(!link_names().contains(&"eth0".to_owned())));
        // Back again under the lowest name that is free.
        let mut attachment = fabric.enter(moved.id, process, rest).unwrap();
        assert_eq!(attachment.join(&join(1, "moved")).unwrap().interface, "eth0");
        drop(attachment);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        fabric.teardown().unwrap();
    });
}

#[test]
fn dual_stack_and_ipv6_alone() {
    on_private_host(|place| {
        let outside = outside();
        let fabric = place.fabric(0);
        let both = fabric.create(NetworkSpec { ipv6: true, ..spec(2, "both") }).unwrap();
        assert_eq!(both.subnets[1].subnet.to_string(), "fd01:203:405::/64");
        fabric.create(NetworkSpec { ipv4: false, ipv6: true, ..spec(3, "six") }).unwrap();
        let one = try_start(&fabric, 1, &[join(2, "one")], &[publish(Protocol::Tcp, None, 8080, 80)]).unwrap();
        let six = try_start(&fabric, 2, &[join(3, "six")], &[publish(Protocol::Tcp, None, 9090, 80)]).unwrap();
        let listener = one.listen(80);
        let outside6 = IpAddr::V6(OUTSIDE6);
        assert_eq!(exchange(connect_from(&outside, HOST_OUTSIDE6, 8080, PATIENCE).unwrap(), &listener), outside6);
        exchange(connect_from(&outside, HOST_OUTSIDE, 8080, PATIENCE).unwrap(), &listener);
        exchange(connect(Ipv6Addr::LOCALHOST, 8080, PATIENCE).unwrap(), &listener);
        assert!(connect_from(&outside, one.endpoints[0].ipv6.unwrap().addr(), 80, SILENCE).is_err());
        let only6 = six.listen(80);
        exchange(connect(LOOPBACK, 9090, PATIENCE).unwrap(), &only6);
        exchange(connect_from(&outside, HOST_OUTSIDE6, 9090, PATIENCE).unwrap(), &only6);
        // Out, by the host's address.
        let far = sys::netns::within(&outside, || TcpListener::bind((OUTSIDE6, 90)).unwrap()).unwrap();
        let client = connect_from(&six.netns, OUTSIDE6, 90, PATIENCE).unwrap();
        assert_eq!(exchange(client, &far), IpAddr::V6(HOST_OUTSIDE6));
        fabric.teardown().unwrap();
    });
}

#[test]
fn a_new_daemon_takes_over_without_closing_a_port() {
    on_private_host(|place| {
        let old = place.fabric(1);
        let front = old.create(spec(2, "front")).unwrap();
        let served =
            try_start(&old, 1, &[join(1, "served"), join(2, "served")], &[publish(Protocol::Tcp, None, 8080, 80)])
                .unwrap();
        let other = start(&old, 2, &[]);
        let listener = served.listen(80);
        let mut talking = connect(LOOPBACK, 8080, PATIENCE).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        drop(old);
        assert!(connect(LOOPBACK, 8080, PATIENCE).is_ok(), "no daemon, open port");
        drop(listener.accept().unwrap());
        assert_eq!(ask(&other, "served"), [served.ip()], "no daemon, but names");
        assert!(TcpListener::bind((ANY, 8080)).is_err(), "and the port is nobody else's");

        let running: Vec<Running> = [&served, &other]
            .iter()
            .map(|c| Running {
                container: c.id,
                process: process_in(1, &c.netns),
                resolver: resolver(),
                endpoints: c.endpoints.clone(),
            })
            .collect();
        let new = Fabric::open(place.config(0), Some(default_bridge()), vec![front], &running).unwrap();
        new.reconcile();
        talking.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        exchange(connect(LOOPBACK, 8080, PATIENCE).unwrap(), &listener);
        assert_eq!(ask(&other, "served"), [served.ip()]);
        let error = try_start(&new, 3, &[join(1, "x")], &[publish(Protocol::Tcp, None, 8080, 80)]).err().unwrap();
        assert_eq!(error.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        let next = start(&new, 4, &[]);
        assert!(next.ip() != served.ip() && next.ip() != other.ip());
        new.release(served.id, &served.endpoints).unwrap();
        new.teardown().unwrap();
    });
}

#[test]
fn a_killed_dhow_net_is_replaced_and_knows_everything() {
    on_private_host(|place| {
        let fabric = place.fabric(0);
        let served = start(&fabric, 1, &[publish(Protocol::Tcp, None, 8080, 80)]);
        let other = start(&fabric, 2, &[]);
        let mut sleepers: Vec<_> = [&served, &other]
            .iter()
            .map(|c| {
                let sleeper = c.inside(|| std::process::Command::new("sleep").arg("60").spawn().unwrap());
                fabric.started(c.id, process_in(i32::try_from(sleeper.id()).unwrap(), &c.netns));
                sleeper
            })
            .collect();
        let listener = served.listen(80);
        let pid = fabric.status().unwrap().pid;
        let process = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        exchange(connect(LOOPBACK, 8080, PATIENCE).unwrap(), &listener);
        assert!(soon(|| fabric.status().is_ok_and(|status| status.pid != pid)));
        assert_eq!(ask(&other, "c1"), [served.ip()]);
        exchange(connect(Ipv6Addr::LOCALHOST, 8080, PATIENCE).unwrap(), &listener);
        assert!(TcpListener::bind((ANY, 8080)).is_err(), "the port is reserved again");
        start(&fabric, 3, &[]);
        for sleeper in &mut sleepers {
            sleeper.kill().unwrap();
            sleeper.wait().unwrap();
        }
        fabric.teardown().unwrap();
    });
}

#[test]
fn bandwidth_is_limited_both_ways_and_changes_while_it_runs() {
    on_private_host(|place| {
        let fabric = place.fabric(0);
        let rate = Rate { ingress: Some(40_000_000), egress: Some(20_000_000) };
        let limited = try_start(&fabric, 1, &[JoinRequest { rate, ..join(1, "slow") }], &[]).unwrap();
        let other = start(&fabric, 2, &[]);
        let kind = |netns: Option<&OwnedFd>, name: &str| {
            let look = || {
                let mut socket = RouteSocket::open().unwrap();
                let index = socket.link(name).unwrap().unwrap().index;
                socket.qdiscs(index).unwrap().into_iter().find(|qdisc| qdisc.root).and_then(|qdisc| qdisc.rate)
            };
            match netns {
                Some(netns) => sys::netns::within(netns, look).unwrap(),
                None => look(),
            }
        };
        let veth = limited.endpoints[0].veth.clone().unwrap();
        assert_eq!(kind(None, &veth), Some(5_000_000));
        assert_eq!(kind(Some(&limited.netns), "eth0"), Some(2_500_000));
        let bytes = send_for(&limited, &other, Duration::from_secs(2));
        let measured = bytes as f64 * 8.0 / 2.0;
        assert!((15e6..25e6).contains(&measured), "{measured} bit/s of 20 million");

        let mut sleeper = limited.inside(|| std::process::Command::new("sleep").arg("60").spawn().unwrap());
        let pid = i32::try_from(sleeper.id()).unwrap();
        let mut attachment =
            fabric.enter(limited.id, process_in(pid, &limited.netns), limited.endpoints.clone()).unwrap();
        attachment.set_rate(&limited.endpoints[0].id, Rate::default()).unwrap();
        drop(attachment);
        assert_eq!((kind(None, &veth), kind(Some(&limited.netns), "eth0")), (None, None));
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        fabric.teardown().unwrap();
    });
}

/// How many bytes get from one container to another in a time.
fn send_for(from: &Started, to: &Started, time: Duration) -> u64 {
    let listener = to.listen(7000);
    let mut client = connect_from(&from.netns, to.ip(), 7000, PATIENCE).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let sender = std::thread::spawn(move || {
        let block = vec![7; 64 * 1024];
        while client.write_all(&block).is_ok() {}
    });
    let mut block = vec![0; 64 * 1024];
    // What the buckets hold at the start does not count.
    let warm = Instant::now() + Duration::from_millis(500);
    while Instant::now() < warm {
        let _ = server.read(&mut block).unwrap();
    }
    let (mut bytes, end) = (0, Instant::now() + time);
    while Instant::now() < end {
        bytes += server.read(&mut block).unwrap() as u64;
    }
    drop(server);
    sender.join().unwrap();
    bytes
}

#[test]
fn strays_of_a_killed_daemon_are_swept_and_others_are_not() {
    on_private_host(|place| {
        let old = place.fabric(0);
        let running = start(&old, 1, &[]);
        // Its namespace is held by somebody, but no record of it has survived.
        let stray = start(&old, 2, &[]);
        drop(old);
        let running_now = Running {
            container: running.id,
            process: process_in(1, &running.netns),
            resolver: resolver(),
            endpoints: running.endpoints.clone(),
        };
        let new = Fabric::open(place.config(0), Some(default_bridge()), Vec::new(), &[running_now]).unwrap();
        new.reconcile();
        let veth = |started: &Started| started.endpoints[0].veth.clone().unwrap();
        assert!(soon(|| !link_names().contains(&veth(&stray))));
        assert!(link_names().contains(&veth(&running)));
        new.teardown().unwrap();
    });
}

#[test]
fn nothing_is_left_behind() {
    on_private_host(|place| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let before = link_names();
        let fabric = place.fabric(2);
        let started: Vec<Started> =
            (0..12).map(|n| start(&fabric, n, &[publish(Protocol::Tcp, None, 9000 + u16::from(n), 80)])).collect();
        // A failing start gives back what it took.
        let error = try_start(&fabric, 50, &[join(1, "x")], &[publish(Protocol::Tcp, None, 9000, 80)]).err().unwrap();
        assert!(error.to_string().contains("already allocated"), "{error}");
        let held = started[3].netns.try_clone().unwrap();
        for container in &started {
            fabric.release(container.id, &container.endpoints).unwrap();
        }
        drop(started);
        assert_eq!(fabric.usage(&id(1))[0].in_use, 3, "network, broadcast, gateway");
        // A namespace that somebody holds open does not keep its link.
        assert!(soon(|| sys::netns::within(&held, || !link_names().contains(&"eth0".to_owned())).unwrap()));
        fabric.teardown().unwrap();
        assert!(soon(|| link_names() == before), "{:?} instead of {before:?}", link_names());
        let tables: Vec<String> = NftSocket::open()
            .unwrap()
            .all_tables()
            .unwrap()
            .into_iter()
            .filter(|table| table.family == Family::Inet)
            .map(|table| table.name)
            .collect();
        assert!(!tables.contains(&"dhow-t".to_owned()), "{tables:?}");
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "0\n");
    });
}

#[test]
fn many_start_at_once_and_share_no_port() {
    on_private_host(|place| {
        let fabric = place.fabric(2);
        let started: Vec<Started> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4u8)
                .map(|thread| {
                    let fabric = &fabric;
                    scope.spawn(move || {
                        // All from one range that has just enough.
                        let ports = PortSpec {
                            host: Some(PortRange { start: 9100, end: 9119 }),
                            ..publish(Protocol::Tcp, None, 0, 80)
                        };
                        (0..5).map(|n| start(fabric, thread * 5 + n, &[ports])).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let addresses: HashSet<IpAddr> = started.iter().map(Started::ip).collect();
        let ports: HashSet<u16> = started.iter().map(|c| c.endpoints[0].ports[0].host_port).collect();
        assert_eq!((addresses.len(), ports.len()), (20, 20));
        let listener = started[19].listen(80);
        exchange(connect(LOOPBACK, started[19].endpoints[0].ports[0].host_port, PATIENCE).unwrap(), &listener);
        fabric.teardown().unwrap();
    });
}

#[test]
fn addresses_that_are_asked_for() {
    on_private_host(|place| {
        let fabric = place.fabric(0);
        let subnet = SubnetSpec {
            range: Some("10.9.0.128/30".parse().unwrap()),
            reserved: [("router".to_owned(), IpAddr::from([10, 9, 0, 129]))].into(),
            configured: true,
            ..SubnetSpec::new("10.9.0.0/24".parse().unwrap())
        };
        let made = fabric.create(NetworkSpec { subnets: vec![subnet], ..spec(2, "n") }).unwrap();
        assert_eq!(made.subnets[0].gateway.unwrap().to_string(), "10.9.0.128");
        let asks = |text: &str| JoinRequest { ipv4: Some(text.parse().unwrap()), ..join(2, "x") };
        let one = try_start(&fabric, 1, &[asks("10.9.0.5")], &[]).unwrap();
        assert_eq!(one.ip().to_string(), "10.9.0.5");
        for (text, refusal) in [
            ("10.9.0.5", "Address already in use"),
            ("10.9.0.129", "Address already in use"),
            ("10.9.0.128", "Address already in use"),
            ("10.8.0.1", "requested address 10.8.0.1 is out of range: network n has subnet 10.9.0.0/24"),
        ] {
            let error = try_start(&fabric, 9, &[asks(text)], &[]).err().unwrap();
            assert_eq!(error.to_string(), refusal);
        }
        try_start(&fabric, 2, &[join(2, "x")], &[]).unwrap();
        try_start(&fabric, 3, &[join(2, "x")], &[]).unwrap();
        let error = try_start(&fabric, 4, &[join(2, "x")], &[]).err().unwrap();
        assert!(
            error.to_string().starts_with("no available IPv4 addresses on this network's address pools"),
            "{error}"
        );
        let overlapping = SubnetSpec::new("10.9.0.0/16".parse().unwrap());
        let error = fabric.create(NetworkSpec { subnets: vec![overlapping], ..spec(3, "m") }).unwrap_err();
        assert_eq!(error.to_string(), "invalid pool request: Pool overlaps with other one on this address space");
        fabric.teardown().unwrap();
    });
}

#[test]
fn containers_of_a_macvlan_network_are_neighbours_of_the_parents_network() {
    on_private_host(|place| {
        let outside = outside();
        let fabric = place.fabric(0);
        // The host's end of the wire to the outside is a port of a bridge: the parent is another wire to that bridge.
        let mut host = RouteSocket::open().unwrap();
        let master = host.link("br-out").unwrap().unwrap().index;
        let here = sys::netns::current().unwrap();
        let mut requests = RouteRequests::new();
        requests.create_veth(&Veth { name: "wire1", master, peer_name: "wire0", peer_netns: here.as_fd(), mtu: 1500 });
        requests.change_link_by_name("wire0", &up());
        host.apply(requests).unwrap();
        let subnet = SubnetSpec {
            gateway: Some(HOST_OUTSIDE.into()),
            range: Some("198.51.100.64/26".parse().unwrap()),
            configured: true,
            ..SubnetSpec::new("198.51.100.0/24".parse().unwrap())
        };
        let options = [("parent".to_owned(), "wire0".to_owned())].into();
        let made = NetworkSpec { driver: Driver::Macvlan, subnets: vec![subnet], options, ..spec(2, "lan") };
        let made = match fabric.create(made) {
            Err(error) if error.kind() == types::Kind::Unsupported => return without_links(&error),
            other => other.unwrap(),
        };
        let one = match try_start(&fabric, 1, &[join(2, "one")], &[publish(Protocol::Tcp, None, 8080, 80)]) {
            Err(error) if error.kind() == types::Kind::Unsupported => return without_links(&error),
            other => other.unwrap(),
        };
        assert!(one.endpoints[0].ports.is_empty(), "nothing is published: the container is on the network itself");
        assert_eq!(one.ip().to_string(), "198.51.100.64");
        let listener = one.listen(80);
        let client = connect_from(&outside, one.ip(), 80, PATIENCE).unwrap();
        assert_eq!(exchange(client, &listener), IpAddr::V4(OUTSIDE));
        let two = try_start(&fabric, 2, &[join(2, "two")], &[]).unwrap();
        assert_eq!(ask(&two, "one"), [one.ip()]);
        fabric.release(one.id, &one.endpoints).unwrap();
        fabric.release(two.id, &two.endpoints).unwrap();
        fabric.remove(&made.id).unwrap();
        assert!(link_names().contains(&"wire0".to_owned()), "the parent is not ours");
        fabric.teardown().unwrap();
    });
}

/// What a test says that needs links this kernel does not have. The virtual machines' kernels have all of them.
fn without_links(error: &network::Error) {
    assert!(std::env::var_os("DHOW_TEST_VM").is_none(), "this machine is there to have them: {error}");
    eprintln!("skipped: {error}");
}

#[test]
fn ipvlan_containers_are_neighbours_of_the_parents_network() {
    ipvlan("l2", "wire0", "eth0");
}

#[test]
fn ipvlan_containers_are_neighbours_on_a_vlan() {
    ipvlan("l2", "wire0.7", "eth0.7");
}

#[test]
fn ipvlan_containers_are_routed_to_by_the_parent() {
    ipvlan("l3", "wire0", "eth0");
}

#[test]
fn ipvlan_containers_are_routed_to_on_a_vlan_through_the_hosts_filters() {
    ipvlan("l3s", "wire0.7", "eth0.7");
}

/// Two containers of an ipvlan network reach each other, and the outside, whose link `far` is on the parent's wire.
fn ipvlan(mode: &str, parent: &str, far: &str) {
    const NEAR_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    const FAR_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
    on_private_host(|place| {
        let outside = outside();
        let fabric = place.fabric(0);
        wire(&outside);
        // Neighbours have addresses of the parent's network; who is routed to has others.
        let (subnet, range, gateway) = match mode {
            "l2" => ("203.0.113.0/24", Some("203.0.113.64/26"), Some(FAR_IP.into())),
            _ => ("10.50.0.0/24", None, None),
        };
        let subnet = SubnetSpec {
            gateway,
            range: range.map(|range| range.parse().unwrap()),
            configured: true,
            ..SubnetSpec::new(subnet.parse().unwrap())
        };
        let options = [("parent".to_owned(), parent.to_owned()), ("ipvlan_mode".to_owned(), mode.to_owned())].into();
        let made = NetworkSpec { driver: Driver::Ipvlan, subnets: vec![subnet], options, ..spec(2, "lan") };
        let made = match fabric.create(made) {
            Err(error) if error.kind() == types::Kind::Unsupported => return without_links(&error),
            other => other.unwrap(),
        };
        let on_link = |socket: &mut RouteSocket, name: &str, address: Ipv4Addr| {
            let index = socket.link(name).unwrap().unwrap().index;
            let mut requests = RouteRequests::new();
            requests.change_link(index, &up()).add_sole_address(index, address.into(), 24);
            socket.apply(requests).unwrap();
            index
        };
        if mode != "l2" {
            on_link(&mut RouteSocket::open().unwrap(), parent, NEAR_IP);
        }
        let mut there = sys::netns::within(&outside, || RouteSocket::open().unwrap()).unwrap();
        let index = on_link(&mut there, far, FAR_IP);
        if mode != "l2" {
            let mut requests = RouteRequests::new();
            requests.set_ip_route(&IpRoute {
                gateway: Some(NEAR_IP.into()),
                link: Some(index),
                ..IpRoute::to(Ipv4Addr::new(10, 50, 0, 0).into(), 24)
            });
            there.apply(requests).unwrap();
        }

        let one = match try_start(&fabric, 1, &[join(2, "one")], &[publish(Protocol::Tcp, None, 8080, 80)]) {
            Err(error) if error.kind() == types::Kind::Unsupported => return without_links(&error),
            other => other.unwrap(),
        };
        assert!(one.endpoints[0].ports.is_empty(), "nothing is published");
        let two = try_start(&fabric, 2, &[join(2, "two")], &[]).unwrap();
        assert_eq!(ask(&two, "one"), [one.ip()]);
        let listener = one.listen(80);
        for (who, from, seen) in [("its neighbour", &two.netns, two.ip()), ("the outside", &outside, FAR_IP.into())] {
            let client = connect_from(from, one.ip(), 80, PATIENCE).unwrap_or_else(|error| panic!("{who}: {error}"));
            assert_eq!(exchange(client, &listener), seen, "{who}");
        }
        let listener = sys::netns::within(&outside, || TcpListener::bind((ANY, 81)).unwrap()).unwrap();
        let client = connect_from(&two.netns, FAR_IP, 81, PATIENCE).unwrap();
        assert_eq!(exchange(client, &listener), two.ip(), "nothing is translated");
        let mac = |netns: Option<&OwnedFd>, name: &str| {
            let look = || RouteSocket::open().unwrap().link(name).unwrap().unwrap().mac;
            netns.map_or_else(look, |netns| sys::netns::within(netns, look).unwrap())
        };
        assert_eq!(mac(Some(&one.netns), "eth0"), mac(None, parent), "one hardware address for all");

        for container in [&one, &two] {
            fabric.release(container.id, &container.endpoints).unwrap();
        }
        fabric.remove(&made.id).unwrap();
        assert_eq!(link_names().contains(&parent.to_owned()), parent == "wire0", "only what was made for it goes");
        fabric.teardown().unwrap();
    });
}

/// A second wire from the host to the outside, `wire0` here; there `eth0` is on it, with a link of VLAN 7 on top.
fn wire(outside: &OwnedFd) {
    // Two links of this host are on one wire: each answers for its own address alone.
    std::fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "1").unwrap();
    let mut host = RouteSocket::open().unwrap();
    let master = host.link("br-out").unwrap().unwrap().index;
    let here = sys::netns::current().unwrap();
    let mut requests = RouteRequests::new();
    requests.create_veth(&Veth { name: "wire1", master, peer_name: "wire0", peer_netns: here.as_fd(), mtu: 1500 });
    requests.change_link_by_name("wire0", &up());
    host.apply(requests).unwrap();
    sys::netns::within(outside, || {
        let mut there = RouteSocket::open().unwrap();
        let parent = there.link("eth0").unwrap().map(|link| link.index);
        let mut requests = RouteRequests::new();
        requests.create_link(&NewLink { parent, up: true, ..NewLink::new("eth0.7", LinkKind::Vlan(7)) });
        if let Err(error) = there.apply(requests) {
            // The test says so when it comes to the same on the host.
            eprintln!("no VLAN links: {error}");
        }
    })
    .unwrap();
}

#[test]
fn a_parent_is_shared_by_networks_that_can() {
    on_private_host(|place| {
        let _outside = outside();
        let fabric = place.fabric(0);
        let on = |number: u8, driver: Driver, subnet: &str, mode: &str| {
            let mut options: Options = [("parent".to_owned(), "br-out".to_owned())].into();
            if driver == Driver::Ipvlan {
                options.insert("ipvlan_mode".into(), mode.into());
            }
            let subnets = vec![SubnetSpec::new(subnet.parse().unwrap())];
            NetworkSpec { driver, subnets, options, ..spec(number, &format!("n{number}")) }
        };
        fabric.create(on(2, Driver::Ipvlan, "10.7.0.0/24", "l2")).unwrap();
        fabric.create(on(3, Driver::Ipvlan, "10.7.1.0/24", "l2")).unwrap();
        // The kernel would put all of them into the last one's mode.
        let error = fabric.create(on(4, Driver::Ipvlan, "10.7.2.0/24", "l3")).unwrap_err().to_string();
        assert!(error.contains("already using parent interface br-out with ipvlan_mode l2"), "{error}");
        let error = fabric.create(on(4, Driver::Macvlan, "10.7.2.0/24", "")).unwrap_err().to_string();
        assert!(error.contains("of driver ipvlan is already using parent interface br-out"), "{error}");
        fabric.remove(&id(2)).unwrap();
        fabric.remove(&id(3)).unwrap();
        fabric.create(on(4, Driver::Ipvlan, "10.7.2.0/24", "l3")).unwrap();
        fabric.teardown().unwrap();
    });
}

#[test]
fn a_parent_made_for_networks_goes_with_the_last_of_them() {
    on_private_host(|place| {
        let _outside = outside();
        let fabric = place.fabric(0);
        let on_vlan = |number: u8, subnet: &str| NetworkSpec {
            driver: Driver::Macvlan,
            subnets: vec![SubnetSpec::new(subnet.parse().unwrap())],
            options: [("parent".to_owned(), "br-out.7".to_owned())].into(),
            ..spec(number, &format!("vlan{number}"))
        };
        let is_there = || link_names().contains(&"br-out.7".to_owned());
        for first_goes in [2, 3] {
            match fabric.create(on_vlan(2, "10.7.0.0/24")) {
                Err(error) if error.kind() == types::Kind::Unsupported => return without_links(&error),
                other => other.unwrap(),
            };
            fabric.create(on_vlan(3, "10.7.1.0/24")).unwrap();
            fabric.remove(&spec(first_goes, "").id).unwrap();
            assert!(is_there(), "the other network is on it");
            fabric.remove(&spec(5 - first_goes, "").id).unwrap();
            assert!(!is_there());
        }
        fabric.teardown().unwrap();
    });
}

/// The kernel's bridges have 1,023 ports: who comes next is told so, and everybody else goes on.
#[test]
fn a_full_bridge_is_a_clear_error() {
    // Two descriptors of each namespace here.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    if limit.maximum.is_some_and(|maximum| maximum < 8192) {
        return eprintln!("skipped: too few descriptors");
    }
    on_private_host(|place| {
        let fabric = place.fabric(0);
        let numbered = |number: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            ContainerId::from_random(bytes)
        };
        let begin = |number: u32| {
            let mut attachment = fabric.prepare(numbered(number))?;
            attachment.join(&join(1, &format!("c{number}")))?;
            attachment.finish(&resolver(), &[])
        };
        let mut started: Vec<_> = (0..1023).map(|number| begin(number).unwrap()).collect();
        let error = begin(1023).err().unwrap();
        assert_eq!(error.kind(), types::Kind::Exhausted);
        assert!(error.to_string().starts_with("network bridge is full: a bridge has at most 1023 ports"), "{error}");
        let (netns, endpoints) = started.pop().unwrap();
        fabric.release(numbered(1022), &endpoints).unwrap();
        drop(netns);
        assert!(soon(|| begin(2000).is_ok()), "there is room again");
        fabric.teardown().unwrap();
    });
}

#[test]
fn forwarding_that_was_off_is_off_again_after_a_restart_too() {
    on_private_host(|place| {
        std::fs::write(FORWARDING, "0").unwrap();
        let old = place.fabric(0);
        assert_eq!(forwarding(), "1");
        // The daemon ends with containers running, and another one comes.
        old.detach();
        drop(old);
        let new = place.fabric(0);
        new.teardown().unwrap();
        assert_eq!(forwarding(), "0", "whoever switched it on");
        // What the administrator has switched on stays so.
        std::fs::write(FORWARDING, "1").unwrap();
        place.fabric(0).teardown().unwrap();
        assert_eq!(forwarding(), "1");
        // And what somebody who came later relies on.
        std::fs::write(FORWARDING, "0").unwrap();
        let fabric = place.fabric(0);
        let mut somebody = Transaction::of(Family::Ipv4, "somebody");
        let (kind, hook) = (ChainKind::Nat, Hook::Postrouting);
        let base = BaseChain { kind, hook, priority: priority::SOURCE_NAT, policy: Policy::Accept };
        somebody.create_table().create_base_chain("postrouting", &base);
        NftSocket::open().unwrap().apply(somebody).unwrap();
        fabric.teardown().unwrap();
        assert_eq!(forwarding(), "1");
    });
}

#[test]
fn engines_of_one_host_do_not_switch_forwarding_off_for_each_other() {
    on_private_host(|place| {
        std::fs::write(FORWARDING, "0").unwrap();
        let other_place = Place { dir: tempfile::tempdir().unwrap() };
        let mut config = other_place.config(0);
        config.process.table = "dhow-u".into();
        let mut bridge = default_bridge();
        bridge.options.insert("com.docker.network.bridge.name".into(), "dhow-u".into());
        let outside = outside();

        let first = place.fabric(0);
        let second = Fabric::open(config, Some(bridge), Vec::new(), &[]).unwrap();
        // Neither keeps packets of the other's networks back.
        let (one, two) = (start(&first, 1, &[]), start(&second, 2, &[]));
        let listener = sys::netns::within(&outside, || TcpListener::bind((OUTSIDE, 90)).unwrap()).unwrap();
        for container in [&one, &two] {
            exchange(connect_from(&container.netns, OUTSIDE, 90, PATIENCE).unwrap(), &listener);
        }
        first.teardown().unwrap();
        assert_eq!(forwarding(), "1", "the second one needs it");
        exchange(connect_from(&two.netns, OUTSIDE, 90, PATIENCE).unwrap(), &listener);
        second.teardown().unwrap();
        assert_eq!(forwarding(), "0", "nobody needs it");
    });
}

#[test]
fn a_host_made_a_router_is_none_for_other_links() {
    on_private_host(|place| {
        let near = neighbour("near0", HOST_NEAR, NEAR);
        let other = neighbour("other0", HOST_OTHER, OTHER);
        let bridged = outside();
        let listen = |netns, ip| sys::netns::within(netns, || TcpListener::bind((ip, 90)).unwrap()).unwrap();
        let (listener, behind) = (listen(&other, OTHER), listen(&bridged, OUTSIDE));
        let passes = || connect_from(&near, OTHER, 90, SILENCE).is_ok();

        std::fs::write(FORWARDING, "0").unwrap();
        let fabric = place.fabric(0);
        assert!(!passes(), "the host was no router before");
        let container = start(&fabric, 1, &[]);
        exchange(connect_from(&container.netns, OTHER, 90, PATIENCE).unwrap(), &listener);
        // A bridge is a network of somebody who looks after it.
        exchange(connect_from(&near, OUTSIDE, 90, PATIENCE).unwrap(), &behind);
        exchange(connect_from(&bridged, OTHER, 90, PATIENCE).unwrap(), &listener);
        // The way through for whom the administrator wants to let.
        let mut opened = Transaction::of(Family::Inet, firewall::USER_TABLE);
        opened.add_rule("forward", "everybody", &Expression::mark(firewall::forwarding::MARK));
        NftSocket::open().unwrap().apply(opened).unwrap();
        assert!(passes());
        let mut closed = Transaction::of(Family::Inet, firewall::USER_TABLE);
        closed.delete_table();
        NftSocket::open().unwrap().apply(closed).unwrap();
        assert!(!passes());
        fabric.teardown().unwrap();

        std::fs::write(FORWARDING, "0").unwrap();
        let config = FabricConfig { ip_forward_no_drop: true, ..place.config(0) };
        let fabric = Fabric::open(config, Some(default_bridge()), Vec::new(), &[]).unwrap();
        assert!(passes(), "the flag says so");
        fabric.teardown().unwrap();

        std::fs::write(FORWARDING, "1").unwrap();
        let fabric = place.fabric(0);
        assert!(passes(), "the host was a router before");
        fabric.teardown().unwrap();
    });
}

/// Engines that start and make networks at the same moment on one host.
#[test]
fn engines_that_begin_together_choose_other_subnets() {
    on_private_host(|place| {
        let netns = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let others: Vec<Place> = (0..4).map(|_| Place { dir: tempfile::tempdir().unwrap() }).collect();
        let _ = place;
        let barrier = std::sync::Barrier::new(others.len());
        let chosen: Vec<Vec<network::IpNet>> = std::thread::scope(|scope| {
            let begin = |(number, place): (usize, &Place)| {
                let (netns, barrier) = (&netns, &barrier);
                let mut config = place.config(0);
                config.process.table = format!("dhow-t{number}");
                let mut default = default_bridge();
                default.options.insert("com.docker.network.bridge.name".into(), format!("dhow-t{number}"));
                let second = u8::try_from(10 + number).unwrap();
                scope.spawn(move || {
                    sys::netns::within(netns, || {
                        barrier.wait();
                        let fabric = Fabric::open(config, Some(default), Vec::new(), &[]).unwrap();
                        barrier.wait();
                        let made = fabric.create(spec(second, "second")).unwrap();
                        barrier.wait();
                        let first = fabric.network(&id(1)).unwrap();
                        let subnets = first.subnets.iter().chain(&made.subnets).map(|own| own.subnet).collect();
                        fabric.teardown().unwrap();
                        subnets
                    })
                    .unwrap()
                })
            };
            let threads: Vec<_> = others.iter().enumerate().map(begin).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let all: Vec<_> = chosen.iter().flatten().collect();
        let different: HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), 2 * others.len(), "{all:?}");
    });
}
