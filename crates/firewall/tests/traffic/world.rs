//! A private network namespace that stands for the host, with bridges, containers and a neighbour around it.
//!
//! The neighbour routes everything by the host, as a machine on the same wire could. Containers are namespaces on a
//! bridge. All of it ends with the test.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use firewall::{FamilyRules, Firewall, GatewayMode, NetRules, PortLink, PortRule};
use netlink::route::{IpRoute, LinkChange, MacAddress, RouteRequests, RouteSocket, Veth};
use types::{NetworkId, Protocol};

/// For connections that must succeed.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// For connections that must be dropped: an answer over these links takes microseconds.
pub const SILENCE: Duration = Duration::from_millis(300);
/// How soon damage has to be put right.
pub const SOON: Duration = Duration::from_secs(1);

pub const HOST: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x51, 0, 0, 0, 0, 0, 1))];
pub const NEIGHBOUR: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x51, 0, 0, 0, 0, 0, 2))];
/// Indices of IPv4 and IPv6 in what there is of each.
pub const FAMILIES: [usize; 2] = [0, 1];
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// Runs a test on a host of its own whose bridges pass packets by the firewall, and on one whose bridges do not.
pub fn on_private_hosts(test: impl Fn(&World) + Sync) {
    for filtered in ["0", "1"] {
        on_private_host(|world| {
            for name in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
                // Without the module there are no such bridges, and one run is as good as two.
                let _ = std::fs::write(format!("/proc/sys/net/bridge/{name}"), filtered);
            }
            test(world);
        });
    }
}

/// Runs a test on a host of its own.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
pub fn on_private_host(test: impl FnOnce(&World) + Send) {
    let run = || {
        let mut requests = RouteRequests::new();
        requests.change_link_by_name("lo", &up());
        RouteSocket::open().unwrap().apply(requests).unwrap();
        sysctl("ipv4/ip_forward", "1");
        sysctl("ipv6/conf/all/forwarding", "1");
        test(&World { neighbour: neighbour() });
    };
    if let Err(error) = sys::netns::create_with(run) {
        eprintln!("skipped: making a network namespace needs root ({error})");
    }
}

pub struct World {
    pub neighbour: OwnedFd,
}

/// A container on a bridge.
pub struct Container {
    pub netns: OwnedFd,
    /// IPv4 and IPv6.
    pub ip: [IpAddr; 2],
    pub link: PortLink,
}

pub fn up() -> LinkChange {
    LinkChange { up: Some(true), ..LinkChange::default() }
}

/// Sets a setting of the namespace this thread is in.
pub fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap_or_else(|error| panic!("{name}: {error}"));
}

pub fn read_sysctl(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap().trim().to_owned()
}

fn neighbour() -> OwnedFd {
    let mut host = RouteSocket::open().unwrap();
    let (netns, mut far) = sys::netns::create_with(|| RouteSocket::open().unwrap()).unwrap();
    let veth = Veth { name: "out0", master: 0, peer_name: "eth0", peer_netns: netns.as_fd(), mtu: 1500 };
    let mut requests = RouteRequests::new();
    requests.create_veth(&veth);
    host.apply(requests).unwrap();
    let out = host.link("out0").unwrap().unwrap().index;
    let eth0 = far.link("eth0").unwrap().unwrap().index;
    let (mut here, mut there) = (RouteRequests::new(), RouteRequests::new());
    there.change_link(eth0, &up());
    for ((host, neighbour), prefix) in HOST.into_iter().zip(NEIGHBOUR).zip([24, 64]) {
        here.add_sole_address(out, host, prefix);
        there.add_sole_address(eth0, neighbour, prefix).set_ip_route(&IpRoute::default_by(host));
    }
    host.apply(here).unwrap();
    far.apply(there).unwrap();
    await_link(&mut host, "out0");
    await_link(&mut far, "eth0");
    netns
}

/// Waits until packets pass a link. The kernel sees to that in passing, later on a busy machine than neighbours ask for
/// each other.
fn await_link(socket: &mut RouteSocket, name: &str) {
    let begin = Instant::now();
    while !socket.link(name).unwrap().unwrap().running {
        assert!(begin.elapsed() < PATIENCE, "{name} has no carrier");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Rules of a network: 172.30.N.0/24 and fd00:N::/64, both masqueraded.
pub fn net(bridge: &str, number: u8) -> NetRules {
    NetRules {
        id: NetworkId::from_random([number; 32]),
        bridge: bridge.into(),
        v4: Some(FamilyRules {
            subnet: format!("172.30.{number}.0/24").parse().unwrap(),
            gateway: Some(Ipv4Addr::new(172, 30, number, 1)),
            masquerade: true,
            mode: GatewayMode::Nat,
            source: None,
        }),
        v6: Some(FamilyRules {
            subnet: format!("fd00:{number:x}::/64").parse().unwrap(),
            gateway: format!("fd00:{number:x}::1").parse().ok(),
            masquerade: true,
            mode: GatewayMode::Nat,
            source: None,
        }),
        icc: true,
        internal: false,
        mac: MacAddress([2, 0x42, 0, 0, 0, number]),
        mtu: 1400,
        route_localnet: true,
        trusted: Vec::new(),
    }
}

/// The same in another mode, in both families.
pub fn net_in_mode(bridge: &str, number: u8, mode: GatewayMode) -> NetRules {
    let mut net = net(bridge, number);
    if let (Some(v4), Some(v6)) = (&mut net.v4, &mut net.v6) {
        (v4.mode, v6.mode) = (mode, mode);
        if mode == GatewayMode::Isolated {
            (v4.gateway, v6.gateway) = (None, None);
        }
    }
    net
}

pub fn gateways(net: &NetRules) -> Vec<IpAddr> {
    let v4 = net.v4.and_then(|rules| rules.gateway).map(IpAddr::V4);
    let v6 = net.v6.and_then(|rules| rules.gateway).map(IpAddr::V6);
    v4.into_iter().chain(v6).collect()
}

/// Makes the bridge of a network, as whoever owns networks would.
pub fn make_bridge(net: &NetRules) {
    let mut socket = RouteSocket::open().unwrap();
    let mut requests = RouteRequests::new();
    requests.create_bridge(&net.bridge, net.mac, net.mtu);
    socket.apply(requests).unwrap();
    sysctl(&format!("ipv4/conf/{}/route_localnet", net.bridge), "1");
    sysctl(&format!("ipv6/conf/{}/accept_ra", net.bridge), "0");
    let link = socket.link(&net.bridge).unwrap().unwrap().index;
    let mut requests = RouteRequests::new();
    requests.change_link(link, &up());
    for gateway in gateways(net) {
        requests.add_sole_address(link, gateway, if gateway.is_ipv4() { 24 } else { 64 });
    }
    socket.apply(requests).unwrap();
}

/// Starts a container: the `number`th address of both families, default routes by the host where it has an address.
pub fn container(net: &NetRules, number: u8) -> Container {
    let mut host = RouteSocket::open().unwrap();
    let (netns, mut inside) = sys::netns::create_with(|| RouteSocket::open().unwrap()).unwrap();
    let veth = format!("v{}-{number}", net.bridge);
    let master = host.link(&net.bridge).unwrap().unwrap().index;
    let isolated = !net.icc && !firewall::bridges_are_filtered();
    let link = PortLink { bridge: net.bridge.clone(), veth: veth.clone(), hairpin: true, isolated };
    let mut requests = RouteRequests::new();
    requests.create_veth(&Veth { name: &veth, master, peer_name: "eth0", peer_netns: netns.as_fd(), mtu: net.mtu });
    let flags = LinkChange { hairpin: Some(true), isolated: Some(isolated), ..LinkChange::default() };
    requests.change_port(&veth, &flags);
    host.apply(requests).unwrap();
    let (v4, v6) = (net.v4.unwrap().subnet.network(), net.v6.unwrap().subnet.network());
    let ip = [
        Ipv4Addr::from_bits(v4.to_bits() + u32::from(number)).into(),
        Ipv6Addr::from_bits(v6.to_bits() + u128::from(number)).into(),
    ];
    let eth0 = inside.link("eth0").unwrap().unwrap().index;
    let mut requests = RouteRequests::new();
    requests.change_link_by_name("lo", &up()).change_link(eth0, &up());
    requests.add_sole_address(eth0, ip[0], 24).add_sole_address(eth0, ip[1], 64);
    for gateway in gateways(net) {
        requests.set_ip_route(&IpRoute::default_by(gateway));
    }
    inside.apply(requests).unwrap();
    await_link(&mut host, &veth);
    await_link(&mut host, &net.bridge);
    await_link(&mut inside, "eth0");
    Container { netns, ip, link }
}

/// Publishes a container's port 80 on the same host port of both families' given addresses.
pub fn publish(container: &Container, on: [IpAddr; 2], host_port: u16, protocol: Protocol) -> Vec<PortRule> {
    let rule = |(host_ip, target)| PortRule {
        bridge: container.link.bridge.clone(),
        protocol,
        host_ip,
        host_port,
        target,
        target_port: 80,
    };
    on.into_iter().zip(container.ip).map(rule).collect()
}

impl Container {
    /// Listens on port 80 of every address.
    pub fn listen(&self) -> TcpListener {
        sys::netns::within(&self.netns, || TcpListener::bind("[::]:80").unwrap()).unwrap()
    }

    /// The same for datagrams.
    pub fn listen_udp(&self) -> UdpSocket {
        let socket = sys::netns::within(&self.netns, || UdpSocket::bind("[::]:80").unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

pub fn connect(to: IpAddr, port: u16, patience: Duration) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::new(to, port), patience)
}

pub fn connect_from(netns: &OwnedFd, to: IpAddr, port: u16, patience: Duration) -> io::Result<TcpStream> {
    sys::netns::within(netns, || connect(to, port, patience)).unwrap()
}

/// Asserts that nothing answers, not even with a refusal.
#[track_caller]
pub fn assert_silent(netns: &OwnedFd, to: IpAddr, port: u16, what: &str) {
    match connect_from(netns, to, port, SILENCE) {
        Ok(_) => panic!("{what}: {to}:{port} is open"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{what}: dropped, not refused: {error}"),
    }
}

/// Sends a word each way and returns whom the listener sees.
#[track_caller]
pub fn exchange(client: io::Result<TcpStream>, listener: &TcpListener, what: &str) -> IpAddr {
    let mut client = client.unwrap_or_else(|error| panic!("{what}: {error}"));
    let (mut server, peer) = listener.accept().unwrap();
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    client.write_all(b"ping").unwrap();
    let mut word = [0; 4];
    server.read_exact(&mut word).unwrap();
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"pong", "{what}");
    peer.ip().to_canonical()
}

/// Counts packets to a network's containers that come in from outside, behind the place where they are to be dropped
/// and in front of connection tracking.
pub struct Probe {
    installed: bool,
}

impl Probe {
    pub fn put(net: &NetRules) -> Self {
        let rules = format!(
            "table inet probe {{ chain c {{ type filter hook prerouting priority -250; \
             iifname != \"{bridge}\" ip daddr {v4} counter; iifname != \"{bridge}\" ip6 daddr {v6} counter; }}; }}",
            bridge = net.bridge,
            v4 = net.v4.unwrap().subnet,
            v6 = net.v6.unwrap().subnet,
        );
        Self { installed: run("nft", &[&rules]) }
    }

    /// Whether packets of the families have come by, as far as it could be put in.
    pub fn counted(&self) -> Option<[bool; 2]> {
        if !self.installed {
            return None;
        }
        let text = output("nft", &["list", "chain", "inet", "probe", "c"]);
        let counted = |family: &str| {
            let line = text.lines().find(|line| line.contains(family)).unwrap_or_else(|| panic!("{text}"));
            !line.contains("packets 0 ")
        };
        Some([counted("ip daddr"), counted("ip6 daddr")])
    }
}

/// Runs a program on the host; false when it is not installed.
pub fn run(program: &str, args: &[&str]) -> bool {
    match Command::new(program).args(args).output() {
        Err(_) => false,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{program} {args:?}: {said}");
            true
        }
    }
}

pub fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Runs a test beside a thread that does for a firewall what the loop of its process does.
pub fn tended(firewall: Firewall, test: impl FnOnce(&Tended)) -> Firewall {
    let tended = Tended { firewall: Mutex::new(firewall), stop: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !tended.stop.load(Ordering::Relaxed) {
                tended.lock().handle_events().unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let stop = StopOnDrop(&tended.stop);
        test(&tended);
        drop(stop);
    });
    tended.firewall.into_inner().unwrap()
}

pub struct Tended {
    firewall: Mutex<Firewall>,
    stop: AtomicBool,
}

impl Tended {
    pub fn lock(&self) -> MutexGuard<'_, Firewall> {
        self.firewall.lock().unwrap()
    }
}

/// Ends the other thread also when a test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until something holds; panics when it takes longer than [`SOON`].
#[track_caller]
pub fn soon(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    begin.elapsed()
}

/// Tries every 10 milliseconds what must never succeed, from other threads, while a test goes on.
pub fn never(netns: &OwnedFd, targets: &[(IpAddr, u16)], test: impl FnOnce()) {
    let (stop, tries) = (AtomicBool::new(false), std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let watchers: Vec<_> = targets
            .iter()
            .map(|(ip, port)| {
                let (stop, tries) = (&stop, &tries);
                scope.spawn(move || {
                    sys::netns::within(netns, || {
                        while !stop.load(Ordering::Relaxed) {
                            // An open port answers within microseconds, one that is let through as fast with a refusal.
                            match connect(*ip, *port, Duration::from_millis(10)) {
                                Ok(_) => panic!("{ip}:{port} was open for a moment"),
                                Err(error) => assert_ne!(error.kind(), io::ErrorKind::ConnectionRefused, "{ip}:{port}"),
                            }
                            tries.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                    .unwrap();
                })
            })
            .collect();
        let guard = StopOnDrop(&stop);
        test();
        drop(guard);
        for watcher in watchers {
            watcher.join().unwrap();
        }
    });
    assert!(tries.load(Ordering::Relaxed) >= targets.len(), "nothing was tried");
}
