//! Daemons and processes that come and go.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use dataplane::client::EXIT_TAKEN;
use dataplane::{Change, Client, ClientError, Owner, State, Upstreams};
use netlink::route::{RouteRequests, RouteSocket};
use sys::spawn::Program;
use types::Protocol;

use crate::fixture::{A_RECORD, Container, Host, eventually, id, place};
use crate::ports::{PUBLISHED, net, publish, reserve, rule};

#[test]
fn a_new_process_learns_everything_but_sockets_from_the_state() {
    let Some(mut host) = Host::new() else { return };
    let (one, two) = (Container::new(1), Container::new(2));
    let port = rule(Protocol::Tcp, 9);
    let state = || State {
        forwarding: firewall::Forwarding::default(),
        nets: vec![net()],
        sandboxes: vec![one.sandbox(Upstreams::Host), two.sandbox(Upstreams::Host)],
        places: vec![place(1, 1, &one, &["one"], &["10.99.0.2"]), place(2, 1, &two, &["two"], &["10.99.0.3"])],
        ports: vec![(id(1), vec![port.clone()])],
    };
    let synced = host.client().sync(state()).unwrap();
    assert_eq!((synced.need_sockets, synced.need_ports), (vec![one.id, two.id], vec![id(1)]));
    let give = |host: &Host| {
        for container in [&one, &two] {
            host.put(vec![Change::PutSandbox(container.sandbox(Upstreams::Host))], &container.sockets());
        }
        let socket = reserve(host, PUBLISHED);
        host.put(vec![publish(&port)], &[socket.as_fd()]);
    };
    give(&host);
    let synced = host.client().sync(state()).unwrap();
    assert!(synced.need_sockets.is_empty() && synced.need_ports.is_empty());
    assert_eq!(one.addresses("two", A_RECORD), ["10.99.0.3"]);

    host.kill();
    host.start();
    assert!(host.client().status().unwrap().sandboxes.is_empty());
    let synced = host.client().sync(state()).unwrap();
    assert_eq!((synced.need_sockets, synced.need_ports), (vec![one.id, two.id], vec![id(1)]));
    give(&host);
    assert_eq!(two.addresses("one", A_RECORD), ["10.99.0.2"]);
    assert_eq!(host.client().status().unwrap().forwarder.ports, 1);

    // What is not in the state goes.
    let mut less = state();
    less.sandboxes.pop();
    less.places.pop();
    less.ports.clear();
    host.client().sync(less).unwrap();
    assert_eq!(one.look("two", A_RECORD).rcode(), 2);
    let status = host.client().status().unwrap();
    assert_eq!((status.sandboxes.len(), status.forwarder.ports), (1, 0));
}

#[test]
fn containers_are_served_without_a_daemon() {
    let Some(mut host) = Host::new() else { return };
    let one = Container::new(1);
    host.add(&one, Upstreams::Host, place(1, 1, &one, &["one"], &["10.1.0.2"]));
    host.disconnect();
    for _ in 0..10 {
        assert_eq!(one.addresses("one", A_RECORD), ["10.1.0.2"]);
        std::thread::sleep(Duration::from_millis(5));
    }
    let next = host.connect();
    assert!(next.status().unwrap().sandboxes[0].served);
    // Several at a time.
    let other = host.connect();
    assert_eq!(next.pid(), other.pid());
    assert!(other.status().unwrap().sandboxes[0].local >= 10);
}

#[test]
fn of_many_that_are_started_one_stays() {
    let Some(mut host) = Host::new() else { return };
    host.kill();
    let program = Program::open(Path::new(env!("CARGO_BIN_EXE_dhow-net"))).unwrap();
    let log = host.log();
    let spawned: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    host.inside(|| {
                        let log = std::fs::File::options().write(true).open("/dev/null").unwrap();
                        Client::spawn_and_connect(&program, &host.socket(), "dhow-test", Owner::Auto, log.into())
                    })
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    });
    let pid = spawned[0].client.pid();
    assert!(spawned.iter().all(|spawned| spawned.client.pid() == pid), "{log}");
    let mut children: Vec<_> = spawned.into_iter().filter_map(|spawned| spawned.child).collect();
    assert_eq!(children.len(), 1);
    let mut child = children.remove(0);
    assert_eq!(i32::try_from(child.id()).unwrap(), pid);

    // By hand it says so.
    let mut second = host.command();
    let mut second = host.inside(move || second.spawn().unwrap());
    assert_eq!(second.wait().unwrap().code(), Some(EXIT_TAKEN));
    assert!(host.log().contains("another process serves"));

    let client = host.connect();
    client.quit(true).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!host.socket().exists());
    assert!(matches!(client.status(), Err(ClientError::Gone)));
    assert!(Client::connect(&host.socket()).unwrap().is_none());
}

#[test]
fn whoever_lost_its_name_ends() {
    let Some(mut host) = Host::new() else { return };
    let first = host.pid();
    // Removed alone it is no reason.
    std::fs::remove_file(host.socket()).unwrap();
    assert_eq!(i32::try_from(first).unwrap(), host.client().pid());
    host.client().status().unwrap();
    std::fs::remove_file(host.socket().with_extension("sock.lock")).unwrap();
    let mut command = host.command();
    // The table still belongs to the first one, where the kernel can keep it.
    command.args(["--owner=off", "--table", "dhow-other"]);
    let mut second = host.inside(move || command.spawn().unwrap());
    assert_eq!(host.wait(), Some(0));
    let client = host.connect();
    assert_eq!(u32::try_from(client.pid()).unwrap(), second.id());
    Client::dismiss(&host.socket(), true).unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(0));
}

#[test]
fn a_deleted_bridge_comes_back_with_its_settings() {
    let Some(host) = Host::new() else { return };
    let make = || {
        let mut requests = RouteRequests::new();
        requests.create_bridge("t0", net().mac, 1500);
        RouteSocket::open().unwrap().apply(requests).unwrap();
    };
    let index = || host.inside(|| RouteSocket::open().unwrap().link("t0").unwrap().map(|link| link.index));
    let mut rules = net();
    rules.route_localnet = true;
    host.put(vec![Change::PutNet(rules)], &[]);
    host.inside(make);
    let first = index().unwrap();
    host.inside(|| {
        let mut requests = RouteRequests::new();
        requests.delete_link("t0");
        RouteSocket::open().unwrap().apply(requests).unwrap();
    });
    eventually("the bridge is back", || index().is_some_and(|index| index != first));
    // The files of a namespace's settings are seen by those inside it.
    let setting =
        || host.inside(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/t0/route_localnet").unwrap_or_default());
    eventually("its setting is back", || setting().trim() == "1");
    assert!(host.client().status().unwrap().restored >= 1);
    assert!(host.log().contains("deleted the bridge"));
}

#[test]
fn flags_are_checked() {
    let Some(host) = Host::new() else { return };
    for arguments in [&["--owner=maybe"][..], &["--nonsense"], &["surplus"]] {
        let mut command = host.command();
        command.args(arguments);
        let mut child = host.inside(move || command.spawn().unwrap());
        assert_eq!(child.wait().unwrap().code(), Some(125));
    }
    eventually("it says why", || host.log().matches("Usage:").count() == 3);
}

#[test]
fn privileges_are_given_up() {
    let Some(host) = Host::new() else { return };
    host.client().status().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    let admin = "0000000000001000";
    assert_eq!([field("CapEff"), field("CapPrm"), field("CapBnd")], [admin; 3]);
    assert_eq!([field("CapInh"), field("CapAmb")], ["0000000000000000"; 2]);
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Threads"), "1");
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        assert_eq!(field("Seccomp"), "2");
    }
}
