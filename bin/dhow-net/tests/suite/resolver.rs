//! Names of containers, and what goes to name servers.

use std::io::Write;
use std::time::{Duration, Instant};

use dataplane::{Change, Upstreams};

use crate::fixture::{
    A_RECORD, AAAA_RECORD, Container, Host, PTR_RECORD, eventually, framed, id, place, query, read_answer, servers,
};
use crate::upstream::{Upstream, addresses, cut, failure, missing};

#[test]
fn containers_find_each_other_by_all_their_names() {
    let Some(host) = Host::new() else { return };
    let (web, db, other) = (Container::new(1), Container::new(2), Container::new(3));
    host.add(&web, Upstreams::Host, place(1, 1, &web, &["web", "www", "0123456789ab"], &["10.1.0.2", "fd00:1::2"]));
    host.add(&db, Upstreams::Host, place(2, 1, &db, &["db"], &["10.1.0.3"]));
    host.add(&other, Upstreams::Host, place(3, 2, &other, &["web"], &["10.2.0.2"]));
    for name in ["web", "www", "0123456789ab", "WeB", "web.net1", "www.NET1"] {
        assert_eq!(db.addresses(name, A_RECORD), ["10.1.0.2"], "{name}");
        assert_eq!(db.addresses(name, AAAA_RECORD), ["fd00:1::2"], "{name}");
        assert_eq!(db.ask_stream(&query(name, A_RECORD, None)).addresses(), ["10.1.0.2"], "{name}");
    }
    let answer = db.look("wEb.Net1", A_RECORD);
    assert_eq!((answer.asked().as_slice(), answer.ttl()), (&b"\x03wEb\x04Net1"[..], 600));
    assert_eq!(web.addresses("db", AAAA_RECORD), [""; 0]);
    assert_eq!(web.addresses("web", A_RECORD), ["10.1.0.2"]);
    assert_eq!(other.addresses("web", A_RECORD), ["10.2.0.2"]);
    // Nobody can be asked about others.
    assert_eq!(other.look("db", A_RECORD).rcode(), 2);
    assert_eq!(db.look("2.0.1.10.in-addr.arpa", PTR_RECORD).pointer().as_deref(), Some("web.net1"));
    let v6 = format!("2{}.1.0.0.0.0.0.d.f.ip6.arpa", ".0".repeat(23));
    assert_eq!(db.look(&v6, PTR_RECORD).pointer().as_deref(), Some("web.net1"));
    assert_eq!(other.look("2.0.1.10.in-addr.arpa", PTR_RECORD).rcode(), 2);

    let counts = host.counts(&db);
    assert!(counts.served && counts.local >= 20 && counts.failed == 0 && counts.dropped == 0);
    // A place that goes takes its names along.
    host.put(vec![Change::RemovePlace { endpoint: id(1) }], &[]);
    assert_eq!(db.look("web", A_RECORD).rcode(), 2);
    // A resolver that goes closes its sockets: ours are the last.
    host.put(vec![Change::RemoveSandbox { id: db.id }], &[]);
    assert!(host.client().status().unwrap().sandboxes.iter().all(|status| status.id != db.id));
}

#[test]
fn containers_of_one_name_take_turns() {
    let Some(host) = Host::new() else { return };
    let asking = Container::new(1);
    host.add(&asking, Upstreams::Host, place(1, 1, &asking, &["asking"], &["10.1.0.100"]));
    let changes = (2..=4u8).map(|n| {
        let container = Container::new(n);
        Change::PutPlace(place(n, 1, &container, &["app"], &[&format!("10.1.0.{n}")]))
    });
    host.put(changes.collect(), &[]);
    let first: Vec<_> = (0..6).map(|_| asking.addresses("app", A_RECORD)[0].clone()).collect();
    assert_eq!(first, ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.2", "10.1.0.3", "10.1.0.4"]);
    assert_eq!(asking.addresses("app", A_RECORD).len(), 3);
}

#[test]
fn other_names_are_forwarded_and_remembered() {
    let Some(host) = Host::new() else { return };
    let upstream = Upstream::start(&host, "127.0.0.53", |query, _| {
        let name = String::from_utf8_lossy(&query[12..]).to_lowercase();
        Some(match () {
            () if name.contains("missing") => missing(query, 60),
            () if name.contains("short") => addresses(query, 1, 1),
            () => addresses(query, 300, 2),
        })
    });
    let (one, two) = (Container::new(1), Container::new(2));
    host.add(&one, servers(&["127.0.0.53"]), place(1, 1, &one, &["one"], &["10.1.0.1"]));
    host.add(&two, servers(&["127.0.0.53"]), place(2, 1, &two, &["two"], &["10.1.0.2"]));
    let answer = one.look("wWw.Example.com", A_RECORD);
    assert_eq!(answer.addresses(), ["192.0.2.0", "192.0.2.1"]);
    assert!(answer.asked().starts_with(b"\x03wWw\x07Example"));
    // Again, by another container with the same servers, in another case, by TCP, with an extension: all remembered.
    for container in [&one, &two] {
        assert_eq!(container.addresses("www.example.COM", A_RECORD).len(), 2);
        assert_eq!(container.ask_stream(&query("www.example.com", A_RECORD, Some(1232))).addresses().len(), 2);
    }
    assert_eq!((upstream.datagrams(), upstream.streams()), (1, 0));
    for _ in 0..3 {
        assert_eq!(two.look("missing.example.com", A_RECORD).rcode(), 3);
    }
    assert_eq!(upstream.datagrams(), 2);
    assert_eq!(two.look("short.example.com", A_RECORD).ttl(), 1);
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(two.look("short.example.com", A_RECORD).ttl(), 1);
    assert_eq!(upstream.datagrams(), 4);
    // Time passes for what is remembered.
    assert!(one.look("www.example.com", A_RECORD).ttl() <= 298);
    let counts = host.counts(&two);
    assert_eq!((counts.forwarded, counts.failed), (3, 0));
    let status = host.client().status().unwrap();
    assert!(status.cache_entries >= 2 && status.cache_bytes > 0);
}

#[test]
fn silent_and_failing_servers_give_way_to_the_next() {
    let Some(host) = Host::new() else { return };
    let silent = Upstream::start(&host, "127.0.0.51", |_, _| None);
    let failing = Upstream::start(&host, "127.0.0.52", |query, _| Some(failure(query, 2)));
    let good = Upstream::start(&host, "127.0.0.53", |query, _| Some(addresses(query, 300, 1)));
    let container = Container::new(1);
    host.add(
        &container,
        servers(&["127.0.0.51", "127.0.0.52", "127.0.0.53"]),
        place(1, 1, &container, &["one"], &["10.1.0.1"]),
    );
    assert_eq!(container.addresses("a.example", A_RECORD), ["192.0.2.0"]);
    assert_eq!((silent.datagrams(), failing.datagrams(), good.datagrams()), (1, 1, 1));
    // The silent one is asked last now.
    assert_eq!(container.addresses("b.example", A_RECORD), ["192.0.2.0"]);
    assert_eq!(silent.datagrams(), 1);
    // A closed port says so, which spares the waits of a second each for one that is silent.
    host.put(vec![Change::PutSandbox(container.sandbox(servers(&["127.0.0.99"])))], &container.sockets());
    let start = Instant::now();
    assert_eq!(container.look("c.example", A_RECORD).rcode(), 2);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn long_answers_come_by_tcp_and_are_cut_to_size() {
    let Some(host) = Host::new() else { return };
    let upstream = Upstream::start(&host, "127.0.0.53", |query, stream| {
        Some(if stream { addresses(query, 300, 200) } else { cut(query) })
    });
    let container = Container::new(1);
    host.add(&container, servers(&["127.0.0.53"]), place(1, 1, &container, &["one"], &["10.1.0.1"]));
    let answer = container.look("big.example", A_RECORD);
    // As many as fit into 512 bytes: header and question have 29, a record 16.
    assert!(answer.is_cut() && answer.0.len() <= 512);
    assert_eq!(answer.addresses().len(), 30);
    assert_eq!((upstream.datagrams(), upstream.streams()), (1, 1));
    let answer = container.ask(&query("big.example", A_RECORD, Some(1232)));
    assert!(answer.is_cut() && answer.0.len() <= 1232 && answer.addresses().len() > 70);
    let answer = container.ask(&query("big.example", A_RECORD, Some(65_535)));
    assert!(!answer.is_cut() && answer.addresses().len() == 200);
    let answer = container.ask_stream(&query("big.example", A_RECORD, None));
    assert!(!answer.is_cut() && answer.addresses().len() == 200);
    assert_eq!((upstream.datagrams(), upstream.streams()), (1, 1));
}

#[test]
fn many_queries_share_one_connection() {
    let Some(host) = Host::new() else { return };
    let _upstream = Upstream::start(&host, "127.0.0.53", |query, _| Some(addresses(query, 300, 1)));
    let container = Container::new(1);
    host.add(&container, servers(&["127.0.0.53"]), place(1, 1, &container, &["one"], &["10.1.0.1"]));
    let mut stream = container.stream();
    let mut all = Vec::new();
    for n in 0..100 {
        let name = if n % 2 == 0 { "one".to_owned() } else { format!("n{n}.example") };
        all.extend_from_slice(&framed(&query(&name, A_RECORD, None)));
    }
    // In pieces that end anywhere.
    for piece in all.chunks(97) {
        stream.write_all(piece).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut seen = 0;
    for _ in 0..100 {
        let answer = read_answer(&mut stream);
        assert_eq!(answer.rcode(), 0);
        seen += answer.addresses().len();
    }
    assert_eq!(seen, 100);
    eventually("the connection ends", || host.counts(&container).connections == 0);
}

#[test]
fn names_of_containers_need_no_server() {
    let Some(host) = Host::new() else { return };
    let silent = Upstream::start(&host, "127.0.0.51", |_, _| None);
    let container = Container::new(1);
    host.add(&container, servers(&["127.0.0.51"]), place(1, 1, &container, &["one"], &["10.1.0.1"]));
    let socket = container.datagrams();
    for n in 0..100 {
        socket.send(&query(&format!("n{n}.example"), A_RECORD, None)).unwrap();
    }
    eventually("the server is asked", || silent.datagrams() >= 100);
    assert_eq!(container.addresses("one", A_RECORD), ["10.1.0.1"]);
    // That one did not have to wait until those before it were told.
    let mut buffer = [0; 512];
    socket.set_nonblocking(true).unwrap();
    assert_eq!(socket.recv(&mut buffer).map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
    socket.set_nonblocking(false).unwrap();
    for _ in 1..100 {
        assert_eq!(container.addresses("one", A_RECORD), ["10.1.0.1"]);
    }
    assert_eq!(host.counts(&container).local, 100);
    // And they are told in the end.
    for _ in 0..100 {
        socket.recv(&mut buffer).unwrap();
        assert_eq!(buffer[3] & 0xf, 2);
    }
}

#[test]
fn the_hosts_servers_are_followed() {
    let Some(host) = Host::new() else { return };
    let first = Upstream::start(&host, "127.0.0.51", |query, _| Some(addresses(query, 300, 1)));
    let second = Upstream::start(&host, "127.0.0.52", |query, _| Some(addresses(query, 300, 2)));
    let container = Container::new(1);
    host.add(&container, Upstreams::Host, place(1, 1, &container, &["one"], &["10.1.0.1"]));
    assert_eq!(container.look("a.example", A_RECORD).rcode(), 2);
    host.set_resolv_conf("nameserver 127.0.0.51\n");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(container.addresses("a.example", A_RECORD).len(), 1);
    host.set_resolv_conf("search example.com\nnameserver 127.0.0.52\noptions ndots:1\n");
    std::thread::sleep(Duration::from_millis(1100));
    // What the first said is not what the second would say.
    assert_eq!(container.addresses("a.example", A_RECORD).len(), 2);
    assert_eq!((first.datagrams(), second.datagrams()), (1, 1));
}

#[test]
fn internal_networks_ask_nobody() {
    let Some(host) = Host::new() else { return };
    let upstream = Upstream::start(&host, "127.0.0.53", |query, _| Some(addresses(query, 300, 1)));
    let (inside, outside) = (Container::new(1), Container::new(2));
    let internal = |endpoint, container, name| {
        let mut place = place(endpoint, 1, container, &[name], &[&format!("10.1.0.{endpoint}")]);
        place.internal = true;
        place
    };
    host.add(&inside, servers(&["127.0.0.53"]), internal(1, &inside, "inside"));
    host.add(&outside, servers(&["127.0.0.53"]), place(9, 2, &outside, &["outside"], &["10.2.0.1"]));
    // Remembered for others, and still not told.
    assert_eq!(outside.addresses("www.example.com", A_RECORD).len(), 1);
    for name in ["www.example.com", "other.example.com", "single"] {
        assert_eq!(inside.look(name, A_RECORD).rcode(), 2, "{name}");
        assert_eq!(inside.ask_stream(&query(name, A_RECORD, None)).rcode(), 2, "{name}");
    }
    assert_eq!(inside.addresses("inside", A_RECORD), ["10.1.0.1"]);
    assert_eq!(upstream.datagrams(), 1);
    // A second network leads out.
    host.put(vec![Change::PutPlace(place(3, 2, &inside, &["inside"], &["10.2.0.3"]))], &[]);
    assert_eq!(inside.addresses("www.example.com", A_RECORD).len(), 1);
    host.put(vec![Change::RemovePlace { endpoint: id(3) }], &[]);
    assert_eq!(inside.look("third.example.com", A_RECORD).rcode(), 2);
    assert_eq!(upstream.datagrams(), 1);
}

#[test]
fn single_labels_wait_for_a_search_domain_where_ndots_is_set() {
    let Some(host) = Host::new() else { return };
    let upstream = Upstream::start(&host, "127.0.0.53", |query, _| Some(addresses(query, 300, 1)));
    let container = Container::new(1);
    let mut sandbox = container.sandbox(servers(&["127.0.0.53"]));
    sandbox.ndots_set = true;
    let place = place(1, 1, &container, &["one"], &["10.1.0.1"]);
    host.put(vec![Change::PutSandbox(sandbox), Change::PutPlace(place)], &container.sockets());
    assert_eq!(container.addresses("single", A_RECORD), [""; 0]);
    assert_eq!(container.addresses("one", A_RECORD), ["10.1.0.1"]);
    assert_eq!(upstream.datagrams(), 0);
    assert_eq!(container.addresses("two.labels", A_RECORD).len(), 1);
}
