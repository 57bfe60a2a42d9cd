//! The default bridge, published ports, and real packages over a real network.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use e2e::{Client, Daemon};

use crate::eventually;

/// What the published port answers.
fn fetch(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

const SERVE: &str = "mkdir -p /w; echo $0 > /w/index.html; exec httpd -f -p 80 -h /w";

fn published(client: &Client, name: &str) -> String {
    client.run(&["port", name, "80/tcp"]).lines().next().unwrap().replace("0.0.0.0", "127.0.0.1")
}

#[test]
fn containers_reach_each_other_and_are_reached() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&[
            "run",
            "-d",
            "--name",
            "web",
            "-p",
            "127.0.0.1::80",
            "-p",
            "80",
            "busybox",
            "sh",
            "-c",
            SERVE,
            "hello",
        ]);
        let settings = client.inspect("web")["NetworkSettings"].clone();
        let bridge = &settings["Networks"]["bridge"];
        let (address, gateway) = (bridge["IPAddress"].as_str().unwrap(), bridge["Gateway"].as_str().unwrap());
        assert!(client.run(&["exec", "web", "ip", "addr", "show", "eth0"]).contains(address));
        assert!(client.run(&["exec", "web", "ip", "route"]).contains(&format!("default via {gateway}")));
        let at = published(&client, "web");
        eventually(10, "an answer through the published port", || {
            fetch(&at).is_some_and(|text| text.contains("hello"))
        });
        // Through the host's own address, from the host and from another container.
        let port = client.run(&["port", "web", "80/tcp"]);
        let wild =
            port.lines().find(|line| line.starts_with("0.0.0.0:")).unwrap().rsplit(':').next().unwrap().to_owned();
        assert!(fetch(&format!("{gateway}:{wild}")).is_some_and(|text| text.contains("hello")));
        let direct = client.run(&["run", "--rm", "busybox", "wget", "-qO-", &format!("http://{address}/")]);
        assert_eq!(direct, "hello");
        let hairpin = client.run(&["exec", "web", "wget", "-qO-", &format!("http://{gateway}:{wild}/")]);
        assert_eq!(hairpin, "hello");
        client.run(&["rm", "-f", "web"]);
        assert!(fetch(&at).is_none(), "a removed container publishes nothing");
    }
}

#[test]
fn a_port_in_use_is_refused_and_freed_again() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let taken = port.local_addr().unwrap().port();
        let publish = format!("{taken}:80");
        client
            .try_run(&["run", "-d", "--name", "a1", "-p", &publish, "busybox", "sleep", "100"])
            .expect_error(125, "address already in use");
        client.run(&["rm", "-f", "a1"]);
        drop(port);
        client.run(&["run", "-d", "--name", "a1", "-p", &publish, "busybox", "sleep", "100"]);
        client
            .try_run(&["run", "-d", "--name", "b1", "-p", &publish, "busybox", "sleep", "100"])
            .expect_error(125, &format!("Bind for 0.0.0.0:{taken} failed: port is already allocated"));
        client.run(&["rm", "-f", "a1"]);
        client.run(&["start", "b1"]);
        client.run(&["rm", "-f", "b1"]);
    }
}

#[test]
fn host_and_none_and_container_modes() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        let host = client.run(&["run", "--rm", "--network", "host", "busybox", "ip", "-o", "link"]);
        assert!(host.contains(&daemon.bridge), "the host's links are seen: {host}");
        let none = client.run(&["run", "--rm", "--network", "none", "busybox", "ip", "-o", "link"]);
        assert_eq!(none.lines().count(), 1, "only loopback: {none}");
        let networks = client.run(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]);
        let mut networks: Vec<&str> = networks.lines().collect();
        networks.sort_unstable();
        assert_eq!(networks, ["bridge bridge", "host host", "none null"]);
        client.run(&["run", "-d", "--name", "c1", "busybox", "sleep", "100"]);
        let seen = client.json(&["network", "inspect", "bridge"]);
        assert_eq!(seen[0]["Containers"].as_object().unwrap().len(), 1, "{seen}");
        client.run(&["rm", "-f", "c1"]);
    }
}

#[test]
fn published_udp_answers() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.debian();
    let docker = daemon.docker();
    // Perl is the one thing in both small images that speaks UDP.
    let echo = "$s = IO::Socket::INET->new(LocalPort => 9, Proto => 'udp') or die; $s->send($b) while $s->recv($b, 99)";
    docker.run(&[
        "run",
        "-d",
        "--name",
        "echo",
        "-p",
        "127.0.0.1::9/udp",
        "debian:bookworm",
        "perl",
        "-MIO::Socket::INET",
        "-e",
        echo,
    ]);
    let at = docker.run(&["port", "echo", "9/udp"]);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    eventually(15, "an echo", || {
        let _ = socket.send_to(b"ping", &at);
        let mut answer = [0; 16];
        socket.recv(&mut answer).is_ok_and(|count| &answer[..count] == b"ping")
    });
}

/// Debian's own tools inside: what people do first.
#[test]
fn apt_installs_a_server() {
    let Some(daemon) = Daemon::with_network() else { return };
    if !daemon.environment.long {
        return;
    }
    daemon.debian();
    daemon.docker().run(&["run", "-d", "--name", "apt", "debian:bookworm", "sleep", "3600"]);
    use_the_hosts_mirror(&daemon, "apt");
    let script = "set -e; export DEBIAN_FRONTEND=noninteractive; apt-get update -q; apt-get install -yq --no-install-recommends redis-server; redis-server --daemonize yes; sleep 1; redis-cli ping";
    let answer = daemon.docker().run(&["exec", "apt", "sh", "-c", script]);
    assert_eq!(answer.lines().last(), Some("PONG"));
}

#[test]
fn postgresql_serves_through_a_published_port() {
    let Some(daemon) = Daemon::with_network() else { return };
    if !daemon.environment.long {
        return;
    }
    daemon.debian();
    let dhow = daemon.dhow();
    dhow.run(&["run", "-d", "--name", "pg", "-p", "127.0.0.1::5432", "debian:bookworm", "sleep", "3600"]);
    use_the_hosts_mirror(&daemon, "pg");
    let script = "set -e; export DEBIAN_FRONTEND=noninteractive; apt-get update -q; apt-get install -yq --no-install-recommends postgresql; \
                  cd /etc/postgresql/15/main; echo \"listen_addresses='*'\" >> postgresql.conf; echo 'host all all 0.0.0.0/0 trust' >> pg_hba.conf; \
                  service postgresql start";
    dhow.run(&["exec", "pg", "sh", "-c", script]);
    let at = dhow.run(&["port", "pg", "5432/tcp"]);
    let (host, port) = at.rsplit_once(':').unwrap();
    let psql = |sql: &str| {
        let output = std::process::Command::new("psql")
            .args(["-h", host, "-p", port, "-U", "postgres", "-Atc", sql])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    eventually(30, "PostgreSQL", || psql("select 6*7") == "42");
    psql("create table t(x int); insert into t select generate_series(1,1000)");
    assert_eq!(psql("select sum(x) from t"), "500500");
}

/// The container uses the package sources of the host, which are known to be reachable.
fn use_the_hosts_mirror(daemon: &Daemon, name: &str) {
    let docker = daemon.docker();
    docker.run(&["exec", name, "sh", "-c", "rm -f /etc/apt/sources.list"]);
    docker.run(&["cp", "/etc/apt/sources.list.d/debian.sources", &format!("{name}:/etc/apt/sources.list.d/")]);
}
