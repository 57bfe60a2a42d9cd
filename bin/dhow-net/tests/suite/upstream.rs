//! A name server on the host that answers as a test wants.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::fixture::{Host, framed};

/// What it answers; `true` for questions by TCP.
type Behaviour = dyn Fn(&[u8], bool) -> Option<Vec<u8>> + Send + Sync;

/// A running server.
pub struct Upstream {
    datagrams: Arc<AtomicU32>,
    streams: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Upstream {
    pub fn start(
        host: &Host,
        address: &str,
        behaviour: impl Fn(&[u8], bool) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let address: SocketAddr = format!("{address}:53").parse().unwrap();
        let (udp, tcp) = host.inside(|| (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap()));
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let (datagrams, streams, stop) = (Arc::default(), Arc::default(), Arc::new(AtomicBool::new(false)));
        let threads = vec![
            answer_datagrams(udp, Arc::clone(&behaviour), Arc::clone(&datagrams), Arc::clone(&stop)),
            answer_streams(tcp, behaviour, Arc::clone(&streams), Arc::clone(&stop)),
        ];
        Self { datagrams, streams, stop, threads }
    }

    /// Questions by datagram so far.
    pub fn datagrams(&self) -> u32 {
        self.datagrams.load(Ordering::SeqCst)
    }

    /// Questions by TCP so far.
    pub fn streams(&self) -> u32 {
        self.streams.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn answer_datagrams(
    socket: UdpSocket,
    behaviour: Arc<Behaviour>,
    count: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
) -> JoinHandle<()> {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while !stop.load(Ordering::SeqCst) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            count.fetch_add(1, Ordering::SeqCst);
            if let Some(answer) = behaviour(&buffer[..length], false) {
                let _ = socket.send_to(&answer, from);
            }
        }
    })
}

fn answer_streams(
    listener: TcpListener,
    behaviour: Arc<Behaviour>,
    count: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
) -> JoinHandle<()> {
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            let Ok((mut stream, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut query).is_err() {
                continue;
            }
            count.fetch_add(1, Ordering::SeqCst);
            if let Some(answer) = behaviour(&query, true) {
                let _ = stream.write_all(&framed(&answer));
            }
        }
    })
}

/// The header and question of a query as an answer with these flags and counts, without the extension.
fn begin(query: &[u8], flags: u16, counts: [u16; 3]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let mut out = query[..end].to_vec();
    out[2..4].copy_from_slice(&(0x8080 | flags).to_be_bytes());
    for (at, count) in [6, 8, 10].into_iter().zip(counts) {
        out[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }
    out
}

/// An answer with addresses 192.0.2.N.
pub fn addresses(query: &[u8], ttl: u32, count: u16) -> Vec<u8> {
    let mut out = begin(query, 0, [count, 0, 0]);
    for n in 0..count {
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        out.extend_from_slice(&ttl.to_be_bytes());
        out.extend_from_slice(&[0, 4, 192, 0, 2, u8::try_from(n % 256).unwrap()]);
    }
    out
}

/// An answer that did not fit.
pub fn cut(query: &[u8]) -> Vec<u8> {
    begin(query, 0x0200, [0; 3])
}

/// An answer that says no, with an SOA record that says for how long.
pub fn missing(query: &[u8], ttl: u32) -> Vec<u8> {
    let mut out = begin(query, 3, [0, 1, 0]);
    out.extend_from_slice(&[0, 0, 6, 0, 1]);
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&[0, 22, 0, 0]);
    out.extend_from_slice(&[0; 16]);
    out.extend_from_slice(&ttl.to_be_bytes());
    out
}

/// An answer without any record and with this code.
pub fn failure(query: &[u8], rcode: u16) -> Vec<u8> {
    begin(query, rcode, [0; 3])
}
