//! Requests over a connection each, as `curl` makes them, and a steady load of them that tells every one that failed.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// Connections of a load that may be open at once.
const THREADS: usize = 64;

/// The status and the body of a whole answer; one that ends early is an error.
pub fn request(address: &str, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let bad = |what: &str| Error::new(ErrorKind::InvalidData, what.to_owned());
    let address = address.parse().map_err(|_| bad("no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| bad("an answer without an end of its head"))?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| bad("no status"))?;
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    if length.is_some_and(|length| length.parse() != Ok(body.len())) {
        return Err(bad("a body that ends early"));
    }
    Ok((status, body.to_owned()))
}

/// So many requests a second for `/`, each when its time comes whether or not earlier ones were answered.
#[derive(Debug)]
pub struct Load {
    threads: Vec<JoinHandle<Vec<String>>>,
    sent: Arc<AtomicUsize>,
    begin: Instant,
}

/// What became of a load.
#[derive(Debug)]
pub struct Tally {
    pub sent: usize,
    /// A line for each request without a good answer: when, and what instead.
    pub failures: Vec<String>,
    pub took: Duration,
}

impl Load {
    pub fn start(address: &str, per_second: usize, total: usize) -> Self {
        let sent = Arc::new(AtomicUsize::new(0));
        let begin = Instant::now();
        let threads = (0..THREADS).map(|first| {
            let (address, sent) = (address.to_owned(), Arc::clone(&sent));
            thread::spawn(move || {
                let mut failures = Vec::new();
                for number in (first..total).step_by(THREADS) {
                    let due = Duration::from_secs(1) * u32::try_from(number).unwrap_or(u32::MAX)
                        / u32::try_from(per_second).unwrap_or(u32::MAX);
                    thread::sleep(due.saturating_sub(begin.elapsed()));
                    sent.fetch_add(1, Ordering::Relaxed);
                    let at = begin.elapsed();
                    match request(&address, "GET", "/", "") {
                        Ok((200, _)) => {}
                        other => failures.push(format!("after {at:?}: {other:?}")),
                    }
                }
                failures
            })
        });
        Self { threads: threads.collect(), sent, begin }
    }

    /// How many requests were begun.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Wait for the last answer.
    pub fn finish(self) -> Tally {
        let threads = self.threads.into_iter();
        let failures = threads.flat_map(|thread| thread.join().expect("a thread of the load panics at nothing"));
        let failures: Vec<String> = failures.collect();
        Tally { sent: self.sent.load(Ordering::Relaxed), failures, took: self.begin.elapsed() }
    }
}
