//! Networks that users make: names, isolation, connecting while it runs, both families, bandwidth, and every refusal in
//! Docker's words.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use e2e::{Client, Daemon};

use crate::eventually;

/// What a web server answers; none when nobody is there.
fn fetch(address: &str) -> Option<String> {
    let address = address.parse().ok()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

const SERVE: &str = "mkdir -p /w; echo $0 > /w/index.html; exec httpd -f -p 80 -h /w";

fn serve(client: &Client, name: &str, options: &[&str]) {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(options);
    args.extend(["busybox", "sh", "-c", SERVE, name]);
    client.run(&args);
}

/// Whether a container gets this page.
fn gets(client: &Client, from: &str, url: &str) -> Option<String> {
    let output = client.try_run(&["exec", from, "timeout", "3", "wget", "-qO-", url]);
    (output.code == 0).then(|| output.stdout.trim().to_owned())
}

fn reaches(client: &Client, from: &str, url: &str) -> bool {
    gets(client, from, url).is_some()
}

#[test]
fn names_aliases_and_isolation() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["network", "create", "front"]);
        client.run(&["network", "create", "--internal", "back"]);
        serve(&client, "web", &["--network", "front", "--network-alias", "www", "-p", "127.0.0.1::80"]);
        serve(&client, "app", &["--network", "name=front,alias=api", "--network", "name=back,alias=api"]);
        serve(&client, "db", &["--network", "back", "--hostname", "dbhost"]);
        eventually(10, "the servers", || {
            ["web", "www"].iter().all(|name| gets(&client, "app", &format!("http://{name}/")).as_deref() == Some("web"))
        });
        for name in ["api", "app", "app.front", "APP"] {
            assert_eq!(gets(&client, "web", &format!("http://{name}/")).as_deref(), Some("app"), "{name}");
        }
        eventually(10, "the database", || reaches(&client, "app", "http://db/"));
        for name in ["db", "dbhost", "db.back"] {
            assert_eq!(gets(&client, "app", &format!("http://{name}/")).as_deref(), Some("db"), "{name}");
        }
        // Neither the name nor the address leads from one network to the other.
        assert!(!reaches(&client, "web", "http://db/"));
        let address = client.inspect("db")["NetworkSettings"]["Networks"]["back"]["IPAddress"].clone();
        assert!(!reaches(&client, "web", &format!("http://{}/", address.as_str().unwrap())));
        // An internal network has no default route.
        assert!(!client.run(&["exec", "db", "ip", "route"]).contains("default"));
        let resolv = client.run(&["exec", "db", "cat", "/etc/resolv.conf"]);
        assert!(resolv.contains("nameserver 127.0.0.11"), "{resolv}");
        // Its own resolver does not keep a program from being a name server.
        client.run(&["exec", "web", "sh", "-c", "nc -l -p 53 & sleep 0.2; kill $!"]);
        client.run(&["rm", "-f", "web", "app", "db"]);
        client.run(&["network", "rm", "front", "back"]);
    }
}

#[test]
fn names_are_known_on_the_default_bridge_too_and_follow_a_rename() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let client = daemon.dhow();
    serve(&client, "one", &[]);
    client.run(&["run", "-d", "--name", "two", "busybox", "sleep", "100"]);
    eventually(10, "an answer by name", || gets(&client, "two", "http://one/").as_deref() == Some("one"));
    client.run(&["rename", "one", "other"]);
    assert_eq!(gets(&client, "two", "http://other/").as_deref(), Some("one"));
    assert!(!reaches(&client, "two", "http://one/"));
}

#[test]
fn one_alias_of_several_containers_goes_round() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let client = daemon.docker();
    client.run(&["network", "create", "n"]);
    for name in ["a1", "a2", "a3"] {
        serve(&client, name, &["--network", "n", "--network-alias", "svc"]);
    }
    client.run(&["run", "-d", "--name", "c1", "--network", "n", "busybox", "sleep", "100"]);
    let mut seen = std::collections::BTreeSet::new();
    eventually(20, "all three", || {
        seen.extend(gets(&client, "c1", "http://svc/"));
        seen.len() == 3
    });
    let answer = client.run(&["exec", "c1", "nslookup", "svc"]);
    assert_eq!(answer.lines().filter(|line| line.starts_with("Address")).count(), 4, "{answer}");
    client.run(&["rm", "-f", "a2"]);
    let answer = client.run(&["exec", "c1", "nslookup", "svc"]);
    assert_eq!(answer.lines().filter(|line| line.starts_with("Address")).count(), 3, "{answer}");
    client.run(&["rm", "-f", "a1", "a3", "c1"]);
    client.run(&["network", "rm", "n"]);
}

#[test]
fn connect_and_disconnect_while_it_runs() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["network", "create", "--subnet", "10.93.0.0/24", "n"]);
        serve(&client, "peer", &["--network", "n"]);
        serve(&client, "web", &["-p", "127.0.0.1::80"]);
        client.run(&["network", "connect", "--alias", "al", "--ip", "10.93.0.77", "n", "web"]);
        let networks = client.inspect("web")["NetworkSettings"]["Networks"].clone();
        assert_eq!(networks["n"]["IPAddress"], "10.93.0.77");
        assert_eq!(networks["n"]["IPAMConfig"]["IPv4Address"], "10.93.0.77");
        eventually(10, "an answer both ways", || {
            gets(&client, "peer", "http://al/").as_deref() == Some("web")
                && gets(&client, "web", "http://peer/").as_deref() == Some("peer")
        });
        assert!(client.run(&["exec", "web", "cat", "/etc/hosts"]).contains("10.93.0.77\t"));
        assert!(client.run(&["exec", "web", "ip", "addr", "show", "eth1"]).contains("10.93.0.77/24"));
        // The published port follows the default route to the network that is left.
        let at = client.run(&["port", "web", "80/tcp"]);
        client.run(&["network", "disconnect", "bridge", "web"]);
        let moved = client.run(&["port", "web", "80/tcp"]);
        eventually(10, "an answer by the other network", || fetch(moved.trim()).is_some_and(|t| t.contains("web")));
        assert!(at.starts_with("127.0.0.1:") && moved.starts_with("127.0.0.1:"));
        assert!(!client.run(&["exec", "web", "ip", "addr"]).contains("eth0"));
        client.run(&["network", "connect", "bridge", "web"]);
        assert!(client.run(&["exec", "web", "ip", "addr"]).contains("eth0"));
        client.run(&["network", "disconnect", "n", "web"]);
        eventually(10, "the alias to be gone", || !reaches(&client, "peer", "http://al/"));
        // What was connected stays so over a restart.
        client.run(&["network", "connect", "--alias", "al", "n", "web"]);
        client.run(&["restart", "-t", "0", "web"]);
        eventually(10, "the alias after a restart", || gets(&client, "peer", "http://al/").as_deref() == Some("web"));
        client.run(&["rm", "-f", "web", "peer"]);
        client.run(&["network", "rm", "n"]);
    }
}

#[test]
fn dual_stack_and_ipv6_published() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let client = daemon.docker();
    client.run(&["network", "create", "--ipv6", "six"]);
    serve(&client, "web", &["--network", "six", "-p", "80"]);
    client.run(&["run", "-d", "--name", "c1", "--network", "six", "busybox", "sleep", "100"]);
    let settings = client.inspect("web")["NetworkSettings"].clone();
    let address = settings["Networks"]["six"]["GlobalIPv6Address"].as_str().unwrap().to_owned();
    assert!(address.starts_with("fd"), "{address}");
    let answer = client.run(&["exec", "c1", "nslookup", "-type=aaaa", "web"]);
    assert!(answer.contains(&address), "{answer}");
    let ports = settings["Ports"]["80/tcp"].as_array().unwrap().clone();
    assert_eq!(ports.len(), 2, "{ports:?}");
    let port = ports[0]["HostPort"].as_str().unwrap();
    for host in ["127.0.0.1", "[::1]"] {
        eventually(10, host, || fetch(&format!("{host}:{port}")).is_some_and(|text| text.contains("web")));
    }
    eventually(10, "an answer by IPv6", || fetch(&format!("[{address}]:80")).is_some_and(|text| text.contains("web")));
    client.run(&["rm", "-f", "web", "c1"]);
    client.run(&["network", "rm", "six"]);
}

#[test]
fn networks_and_names_outlive_the_daemon_and_dhow_net() {
    let Some(mut daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let client = daemon.dhow();
    client.run(&["network", "create", "-o", "dhow.rate.egress=100mbit", "n"]);
    let made = client.json(&["network", "inspect", "n"]);
    serve(&client, "web", &["--network", "n", "-p", "127.0.0.1::80"]);
    client.run(&["run", "-d", "--name", "c1", "--network", "n", "busybox", "sleep", "1000"]);
    eventually(10, "an answer by name", || gets(&client, "c1", "http://web/").is_some());
    let at = client.run(&["port", "web", "80/tcp"]);
    let at = at.trim();
    daemon.kill();
    assert!(fetch(at).is_some_and(|text| text.contains("web")), "ports without a daemon");
    daemon.launch();
    assert_eq!(client.json(&["network", "inspect", "n"])[0]["Id"], made[0]["Id"]);
    assert_eq!(gets(&client, "c1", "http://web/").as_deref(), Some("web"));
    assert!(fetch(at).is_some_and(|text| text.contains("web")));
    // Its own process next.
    let socket = daemon.exec_root().join("net.sock");
    let pid = dataplane::Client::connect(&socket).unwrap().unwrap().pid();
    assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    eventually(10, "names from another process", || gets(&client, "c1", "http://web/").is_some());
    assert_ne!(dataplane::Client::connect(&socket).unwrap().unwrap().pid(), pid);
    assert!(fetch(at).is_some_and(|text| text.contains("web")));
    // A stop with containers running leaves everything as well; one without takes everything down.
    daemon.stop();
    assert!(fetch(at).is_some_and(|text| text.contains("web")));
    daemon.launch();
    client.run(&["rm", "-f", "web", "c1"]);
    daemon.stop();
    assert!(dataplane::Client::connect(&socket).unwrap().is_none(), "dhow-net ends with the last container's daemon");
    daemon.launch();
    assert_eq!(client.json(&["network", "inspect", "n"])[0]["IPAM"], made[0]["IPAM"], "and comes back as it was");
    client.run(&["network", "rm", "n"]);
}

#[test]
fn bandwidth_is_shown_and_changed() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let client = daemon.dhow();
    client.run(&["run", "-d", "--name", "c1", "--net-rate", "ingress=8mbit,egress=4mbit", "busybox", "sleep", "100"]);
    let options = client.inspect("c1")["NetworkSettings"]["Networks"]["bridge"]["DriverOpts"].clone();
    assert_eq!(
        (options["dhow.rate.ingress"].as_str(), options["dhow.rate.egress"].as_str()),
        (Some("8mbit"), Some("4mbit"))
    );
    let shown = client.run(&["exec", "c1", "tc", "qdisc", "show", "dev", "eth0"]);
    assert!(shown.contains("tbf"), "{shown}");
    let limits = || client.run(&["stats", "--no-stream", "--format", "{{.NetLimit}}", "c1"]).trim().to_owned();
    assert_eq!(limits(), "8mbit / 4mbit");
    assert!(client.run(&["stats", "--no-stream"]).contains("NET LIMIT"));
    client.run(&["update", "--net-rate", "egress=unlimited", "c1"]);
    assert_eq!(limits(), "8mbit / --");
    assert!(!client.run(&["exec", "c1", "tc", "qdisc", "show", "dev", "eth0"]).contains("tbf"));
    client.try_run(&["update", "--net-rate", "egress=fast", "c1"]).expect_error(1, "invalid rate \"fast\"");
    client.run(&["rm", "-f", "c1"]);
}

#[test]
fn prune_takes_what_nobody_uses() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["network", "create", "--label", "keep=1", "kept"]);
        client.run(&["network", "create", "used"]);
        client.run(&["network", "create", "gone"]);
        client.run(&["create", "--name", "c1", "--network", "used", "busybox"]);
        let answer = client.run(&["network", "prune", "-f", "--filter", "label!=keep"]);
        assert_eq!(answer.trim(), "Deleted Networks:\ngone");
        let names = client.run(&["network", "ls", "--format", "{{.Name}}", "--filter", "type=custom"]);
        assert_eq!(names.lines().collect::<std::collections::BTreeSet<_>>(), ["kept", "used"].into());
        assert_eq!(client.run(&["network", "ls", "-q", "--filter", "dangling=true"]).lines().count(), 1);
        client.run(&["rm", "c1"]);
        client.run(&["network", "rm", "kept", "used"]);
    }
}

#[test]
fn forty_networks_have_room() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let client = daemon.dhow();
    let names: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
    let mut subnets = std::collections::BTreeSet::new();
    for name in &names {
        client.run(&["network", "create", name]);
        let made = client.json(&["network", "inspect", name]);
        subnets.insert(made[0]["IPAM"]["Config"][0]["Subnet"].as_str().unwrap().to_owned());
    }
    assert_eq!(subnets.len(), 40);
    let answer = client.run(&["run", "--rm", "--network", "n39", "busybox", "ip", "route"]);
    assert!(answer.contains("default via"), "{answer}");
    let mut args = vec!["network", "rm"];
    args.extend(names.iter().map(String::as_str));
    client.run(&args);
}

/// The same commands on real dockerd and on ours: exit code and text must agree.
#[test]
fn refusals_are_dockers() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let tag = format!("dhow-e2e-net-{}", std::process::id());
    let (n, c) = (format!("{tag}-n"), format!("{tag}-c"));
    let sides = [daemon.twin(), daemon.docker()];
    let rows: &[&[&str]] = &[
        &["network", "create", "bridge"],
        &["network", "create", "none"],
        &["network", "create", &n],
        &["network", "create", "-d", "nosuch", "x"],
        &["network", "create", "-d", "overlay", "x"],
        &["network", "create", "-d", "host", "x"],
        &["network", "create", "--subnet", "10.1.0.1/16", "x"],
        &["network", "create", "--subnet", "10.94.0.0/16", "x"],
        &["network", "create", "--ipv4=false", "x"],
        &["network", "create", "-o", "com.docker.network.driver.mtu=x", "x"],
        &["network", "create", "-o", "com.docker.network.driver.mtu=-1", "x"],
        &["network", "create", "-o", "com.docker.network.bridge.enable_icc=maybe", "x"],
        &["network", "create", "-o", "com.docker.network.bridge.gateway_mode_ipv4=odd", "x"],
        &["network", "create", "-o", "com.docker.network.bridge.host_binding_ipv4=x", "x"],
        &["network", "create", "--config-from", "nosuch", "x"],
        &["network", "create", "--ipam-driver", "nosuch", "x"],
        &["network", "create", "--scope", "swarm", "x"],
        &["network", "rm", "bridge"],
        &["network", "rm", "nosuch"],
        &["network", "rm", &n],
        &["network", "inspect", "nosuch"],
        &["network", "ls", "--filter", "nosuch=x"],
        &["network", "ls", "--filter", "dangling=x"],
        &["network", "connect", &n, "nosuch"],
        &["network", "connect", "nosuch", &c],
        &["network", "connect", &n, &c],
        &["network", "connect", "host", &c],
        &["network", "connect", "none", &c],
        &["network", "connect", "--alias", "zz", "bridge", &c],
        &["network", "disconnect", "nosuch", &c],
        &["network", "disconnect", &n, "nosuch"],
        &["run", "--rm", "--network", "nosuch", "busybox", "true"],
        &["run", "--rm", "--network", &n, "--ip", "10.99.0.1", "busybox", "true"],
        &["run", "--rm", "--network", &n, "--ip", "10.94.0.1", "busybox", "true"],
    ];
    // dockerd has a second reason for these, which depends on whether `docker0` was there when it started.
    let static_on_default: &[&[&str]] = &[
        &["network", "connect", "--ip", "172.17.0.77", "bridge", &c],
        &["run", "--rm", "--ip", "10.94.0.9", "busybox", "true"],
    ];
    for client in &sides {
        client.run(&["network", "create", "--subnet", "10.94.0.0/24", &n]);
        client.run(&["run", "-d", "--name", &c, "--network", &n, "busybox", "sleep", "1000"]);
    }
    let mut different = Vec::new();
    for row in rows {
        let [theirs, ours] = [&sides[0], &sides[1]].map(|client| {
            let output = client.try_run(row);
            (output.code, plain(&output.stderr))
        });
        if theirs != ours || theirs.0 == 0 {
            different.push(format!("{}\n  dockerd: {theirs:?}\n  dhowd:   {ours:?}", row.join(" ")));
        }
    }
    for row in static_on_default {
        let codes = sides.each_ref().map(|client| {
            let output = client.try_run(row);
            let reason = "user specified IP address is supported on user defined networks only";
            assert!(output.stderr.contains(reason), "{}", output.stderr);
            output.code
        });
        assert!(codes[0] == codes[1] && codes[0] != 0, "{}: {codes:?}", row.join(" "));
    }
    for client in &sides {
        client.run(&["rm", "-f", &c]);
        client.run(&["network", "rm", &n]);
        let _ = client.try_run(&["network", "rm", "x"]);
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// A text without the ids in it.
fn plain(text: &str) -> String {
    let hex = |word: &str| word.len() >= 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut out = String::new();
    let mut word = String::new();
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_alphanumeric() {
            word.push(letter);
            continue;
        }
        out.push_str(if hex(&word) { "ID" } else { &word });
        word.clear();
        out.push(letter);
    }
    out.trim().to_owned()
}
