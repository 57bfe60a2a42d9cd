//! A neighbour on the host's network who tries to reach what was not published to it, while others flush the firewall.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::{Daemon, Options};

/// A connection that is let through is there in microseconds.
const SILENCE: Duration = Duration::from_millis(200);
/// Probers of one address: together they ask every ten milliseconds.
const PROBERS: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(10);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// A network namespace, for as long as a process in it.
struct Host(Child);

impl Host {
    fn new() -> Self {
        let mut child = Command::new("unshare");
        let child = child.args(["--net", "sleep", "600"]).stdin(Stdio::null()).spawn().expect("unshare starts");
        let host = Self(child);
        let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        let begin = Instant::now();
        while std::fs::read_link(host.path()).is_ok_and(|other| other == own) {
            assert!(begin.elapsed() < PATIENCE, "no network namespace");
            std::thread::sleep(Duration::from_millis(1));
        }
        host.run("ip link set lo up");
        host
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    fn run(&self, line: &str) {
        let mut command = Command::new("nsenter");
        let output = command.arg(format!("--net={}", self.path())).args(["sh", "-c", line]).output().expect("nsenter");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Moves the calling thread there.
    fn enter(&self) {
        let file = std::fs::File::open(self.path()).expect("a namespace");
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), kind).expect("root moves");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connects(to: SocketAddr, within: Duration) -> bool {
    TcpStream::connect_timeout(&to, within).is_ok()
}

#[test]
fn a_neighbour_reaches_nothing_while_the_firewall_is_flushed() {
    let (host, neighbour) = (Host::new(), Host::new());
    let options = Options { network: true, host: Some(host.0.id()), ..Options::default() };
    let Some(daemon) = Daemon::start_with(options) else { return };
    daemon.busybox();
    host.run(&format!(
        "ip link add n0 type veth peer name n1 netns {} && ip addr add {HOST}/24 dev n0 && ip link set n0 up",
        neighbour.0.id()
    ));
    neighbour.run(&format!("ip addr add 10.99.0.2/24 dev n1 && ip link set n1 up && ip route add default via {HOST}"));
    let client = daemon.docker();
    client.run(&["run", "-d", "--name", "web", "-p", "127.0.0.1:8080:80", "busybox", "httpd", "-f", "-p", "80"]);
    client.run(&["exec", "-d", "web", "nc", "-lk", "-p", "22", "-e", "true"]);
    client.run(&["run", "-d", "--name", "all", "-p", "8081:80", "busybox", "httpd", "-f", "-p", "80"]);
    let inside: IpAddr = client.inspect("web")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        .as_str()
        .and_then(|ip| ip.parse().ok())
        .expect("an address");
    // The last is what the neighbour may reach: the way there works.
    let (open, shut) = (SocketAddr::new(HOST.into(), 8081), SocketAddr::new(HOST.into(), 8080));
    let targets = [SocketAddr::new(inside, 80), SocketAddr::new(inside, 22), shut];
    let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8080);

    let (ended, asked, found) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for (target, number) in targets.iter().flat_map(|target| (0..PROBERS).map(move |number| (*target, number))) {
            let (ended, asked, found, neighbour) = (&ended, &asked, &found, &neighbour);
            scope.spawn(move || {
                neighbour.enter();
                std::thread::sleep(SILENCE / PROBERS * number);
                while !ended.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    if connects(target, SILENCE) {
                        found.lock().unwrap().push(target);
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(SILENCE.saturating_sub(begin.elapsed()));
                }
            });
        }
        let user = || {
            // As someone at the host, and as the neighbour where it may.
            let works = |at: &Host, to| {
                scope_in(at, move || {
                    let begin = Instant::now();
                    while !connects(to, SILENCE) {
                        if begin.elapsed() > PATIENCE {
                            return None;
                        }
                    }
                    Some(begin.elapsed())
                })
            };
            let mut slowest = Duration::ZERO;
            let flushes = [
                "true",
                "nft flush ruleset",
                "iptables -F && iptables -t nat -F",
                "nft flush ruleset; iptables -P FORWARD DROP",
                &format!("ip link del {}", daemon.bridge),
            ];
            for what in flushes.iter().cycle().take(4 * flushes.len()) {
                host.run(what);
                for (at, to) in [(&host, local), (&neighbour, open)] {
                    let took = works(at, to).ok_or_else(|| format!("{to} stays closed after {what:?}"))?;
                    slowest = slowest.max(took);
                }
            }
            Ok::<_, String>(slowest)
        };
        let outcome = user();
        ended.store(true, Ordering::Relaxed);
        match outcome {
            Ok(slowest) => eprintln!("slowest recovery {slowest:?}, {} probes", asked.load(Ordering::Relaxed)),
            Err(text) => panic!("{text}\n{}", daemon.log()),
        }
    });
    assert!(asked.into_inner() > 100);
    assert_eq!(found.into_inner().unwrap(), []);
    client.run(&["rm", "-f", "web", "all"]);
}

/// In a thread of its own there.
fn scope_in<T: Send>(host: &Host, body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            host.enter();
            body()
        });
        thread.join().expect("no panic")
    })
}
