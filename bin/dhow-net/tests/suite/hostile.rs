//! What containers may send, and that others do not notice.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::fixture::{A_RECORD, Container, Host, eventually, framed, place, query, servers};
use crate::upstream::{Upstream, addresses};

/// Memory the process may have gained at the end, in KiB.
const GROWTH: u64 = 16 * 1024;

/// xorshift64*: the same bytes in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = (self.next() >> 33) % (most + 1);
        (0..length).map(|_| (self.next() >> 56) as u8).collect()
    }
}

fn is_served(container: &Container) {
    let start = Instant::now();
    assert_eq!(container.addresses("quiet", A_RECORD), ["10.1.0.2"]);
    // Before a C library asks again: resolv.conf(5), `timeout`.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO)).unwrap();
}

fn drain(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    let mut count = 0;
    while socket.recv(&mut buffer).is_ok() {
        count += 1;
    }
    socket.set_nonblocking(false).unwrap();
    count
}

#[test]
fn attacks_cost_neither_memory_nor_time_nor_others_answers() {
    let Some(host) = Host::new() else { return };
    let _upstream = Upstream::start(&host, "127.0.0.53", |query, _| Some(addresses(query, 1, 20)));
    let (bad, quiet) = (Container::new(1), Container::new(2));
    host.add(&bad, servers(&["127.0.0.53"]), place(1, 1, &bad, &["bad"], &["10.1.0.1"]));
    host.add(&quiet, servers(&["127.0.0.53"]), place(2, 1, &quiet, &["quiet"], &["10.1.0.2"]));
    is_served(&quiet);
    let (memory, descriptors) = (host.memory(), host.descriptors());

    // A query that is cut, and the connection with it.
    for n in 0..1000 {
        let mut stream = bad.stream();
        let whole = framed(&query("cut.example", A_RECORD, None));
        stream.write_all(&whole[..1 + n % (whole.len() - 1)]).unwrap();
        reset(stream);
    }
    is_served(&quiet);

    // Connections that say nothing, or too little.
    let idle: Vec<TcpStream> = (0..500)
        .map(|n| {
            let mut stream = bad.stream();
            if n % 2 == 0 {
                let _ = stream.write_all(&[0]);
            }
            stream
        })
        .collect();
    is_served(&quiet);
    assert_eq!(quiet.ask_stream(&query("quiet", A_RECORD, None)).addresses(), ["10.1.0.2"]);
    // The bad one itself still gets a connection.
    assert_eq!(bad.ask_stream(&query("quiet", A_RECORD, None)).addresses(), ["10.1.0.2"]);
    assert!(host.counts(&bad).connections <= 64);
    drop(idle);

    // A client that asks and never reads the answers.
    let mut deaf = bad.stream();
    deaf.set_nonblocking(true).unwrap();
    let question = framed(&query("quiet", A_RECORD, None));
    for _ in 0..200_000 {
        if deaf.write(&question).is_err() {
            break;
        }
    }
    is_served(&quiet);
    reset(deaf);

    let socket = bad.datagrams();
    let head = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for name in [&b"\xc0\x0c"[..], b"\x01a\xc0\x0c", b"\xc0\x0e\xc0\x0c", b"\xff\xff"] {
        for _ in 0..100 {
            socket.send(&[&head[..], name, &[0, 1, 0, 1]].concat()).unwrap();
        }
    }
    let junk = [&head[..], &b"\x3f".repeat(65_400)].concat();
    for _ in 0..200 {
        socket.send(&junk).unwrap();
    }
    let mut stream = bad.stream();
    stream.write_all(&framed(&junk)).unwrap_or(());
    let mut buffer = [0; 64];
    assert!(matches!(stream.read(&mut buffer), Ok(0) | Err(_)));
    is_served(&quiet);

    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for n in 0..100_000 {
        let mut bytes = random.bytes(128);
        // Half of them look like queries.
        if n % 2 == 0 && bytes.len() > 12 {
            bytes[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        }
        let _ = socket.send(&bytes);
        if n % 64 == 0 {
            drain(&socket);
        }
    }
    is_served(&quiet);

    // A flood of questions for the server, more than may be on their way.
    for n in 0..20_000 {
        socket.send(&query(&format!("flood{n}.example"), A_RECORD, None)).unwrap();
        if n % 64 == 0 {
            drain(&socket);
        }
    }
    is_served(&quiet);

    eventually("all is answered or dropped", || {
        std::thread::sleep(Duration::from_millis(200));
        drain(&socket);
        host.descriptors() <= descriptors
    });
    assert!(host.memory() <= memory + GROWTH, "{} KiB, then {} KiB", memory, host.memory());
    let before = host.cpu();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(host.cpu(), before, "the process is not idle");
    is_served(&quiet);
    assert_eq!(host.log(), "");
}

#[test]
fn daemons_that_make_no_sense_change_nothing() {
    let Some(host) = Host::new() else { return };
    let container = Container::new(1);
    host.add(&container, servers(&[]), place(1, 1, &container, &["one"], &["10.1.0.1"]));
    let mut random = Random(7);
    for _ in 0..200 {
        let socket = sys::socket::FdSocket::connect(&host.socket()).unwrap();
        for _ in 0..5 {
            let null = std::fs::File::open("/dev/null").unwrap();
            let mut bytes = random.bytes(200);
            bytes.push(1);
            // Neither a request to end nor one for an empty state.
            if matches!(bytes[0], 1 | 2) {
                bytes[0] = 9;
            }
            if socket.send(&bytes, &[null.as_fd(), null.as_fd()]).is_err() {
                break;
            }
        }
    }
    assert_eq!(container.addresses("one", A_RECORD), ["10.1.0.1"]);
    assert_eq!(host.client().status().unwrap().sandboxes.len(), 1);
}
