//! How many queries a second the process answers: names of containers, and answers it remembers.
//!
//! One client process with many sockets asks over the loopback of a container's namespace and keeps some queries on their
//! way. Prints figures and asserts nothing about them.

#![expect(clippy::print_stdout, reason = "the figures")]

#[path = "../tests/suite/fixture.rs"]
#[allow(dead_code, reason = "made for tests")]
mod fixture;
#[path = "../tests/suite/upstream.rs"]
#[allow(dead_code, reason = "made for tests")]
mod upstream;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use fixture::{A_RECORD, Container, Host, place, query, servers};
use sys::datagram::{Receiver, Sender};
use upstream::{Upstream, addresses};

const SOCKETS: usize = 64;
const WINDOW: usize = 16;
const TIME: Duration = Duration::from_secs(3);

fn main() {
    let Some(host) = Host::new() else { return };
    let _upstream = Upstream::start(&host, "127.0.0.53", |query, _| Some(addresses(query, 3600, 1)));
    let container = Container::new(1);
    host.add(&container, servers(&["127.0.0.53"]), place(1, 1, &container, &["web"], &["10.1.0.2"]));
    container.look("www.example.com", A_RECORD);
    for (what, name) in
        [("local names", "web"), ("NAME.NETWORK", "web.net1"), ("remembered answers", "www.example.com")]
    {
        measure(&host, &container, what, &query(name, A_RECORD, None));
    }
    let sockets = [container.datagrams()];
    let question = query("web", A_RECORD, None);
    let start = Instant::now();
    let mut buffer = [0; 512];
    for _ in 0..20_000 {
        sockets[0].send(&question).unwrap();
        sockets[0].recv(&mut buffer).unwrap();
    }
    println!("one after the other    {:>9.1} µs a query", start.elapsed().as_secs_f64() * 1e6 / 20_000.0);
    println!("memory                 {:>9} KiB", host.memory());
}

fn measure(host: &Host, container: &Container, what: &str, question: &[u8]) {
    let sockets: Vec<UdpSocket> = (0..SOCKETS).map(|_| container.datagrams()).collect();
    let to = sockets[0].peer_addr().unwrap();
    let (mut receiver, mut sender) = (Receiver::new(WINDOW, 512), Sender::new(WINDOW));
    let mut ask = |socket: &UdpSocket, count: usize| {
        for _ in 0..count {
            sender.push(question, &to, None);
        }
        sender.flush(socket);
    };
    for socket in &sockets {
        ask(socket, WINDOW);
    }
    let (start, cpu, mut answers) = (Instant::now(), host.cpu(), 0u64);
    let mut last = Instant::now();
    while start.elapsed() < TIME {
        for socket in &sockets {
            if let Ok(count) = receiver.receive(socket) {
                answers += count as u64;
                ask(socket, count);
                last = Instant::now();
            }
        }
        // Lost datagrams would leave all windows empty in the end.
        if last.elapsed() > Duration::from_millis(50) {
            sockets.iter().for_each(|socket| ask(socket, WINDOW));
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let used = (host.cpu() - cpu) as f64 / 100.0;
    println!(
        "{what:<22} {:>9.0} a second, {:.2} µs of processor each, {:.0} a second on a whole one",
        answers as f64 / seconds,
        used * 1e6 / answers as f64,
        answers as f64 / used,
    );
}
