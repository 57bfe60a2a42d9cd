//! A container's connection to its resolver: messages behind their lengths (RFC 1035 4.2.2, RFC 7766).
//!
//! Bounded in both directions: no more is read than may be answered, and nothing while the client does not take its
//! answers.

use sys::Errno;

use super::poller::{Interest, Poller, Time, Watched};

/// Longest query that is read, in bytes.
const MAX_QUERY: usize = 4096;
/// Shortest, a header.
const MIN_QUERY: usize = dns::HEADER;
/// Questions on their way for one connection.
const MAX_WAITING: u16 = 16;
/// Bytes of answers that wait to be taken before no further query is read.
const MAX_OUTPUT: usize = 64 * 1024;
/// How long a connection may do nothing.
const IDLE: Time = 10_000;

/// What is next on a connection.
pub(crate) enum Taken {
    Query(Vec<u8>),
    /// Nothing until more comes in or goes out.
    Nothing,
    /// It has ended, or what came makes no sense.
    Over,
}

/// A connection.
pub(crate) struct Stream {
    pub(crate) resolver: u64,
    socket: Watched,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of `output` that have been sent.
    sent: usize,
    /// Questions on their way.
    pub(crate) waiting: u16,
    /// When something last moved.
    pub(crate) active: Time,
    /// The client sends no more.
    ended: bool,
    broken: bool,
}

impl Stream {
    pub(crate) fn new(resolver: u64, socket: Watched, now: Time) -> Self {
        Self {
            resolver,
            socket,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            waiting: 0,
            active: now,
            ended: false,
            broken: false,
        }
    }

    pub(crate) fn is_idle(&self, now: Time) -> bool {
        now >= self.active + IDLE
    }

    /// Whether another query may be taken.
    fn is_open(&self) -> bool {
        self.waiting < MAX_WAITING && self.output.len() - self.sent < MAX_OUTPUT
    }

    /// Reads what is there, one query and a half at most.
    pub(crate) fn fill(&mut self, now: Time) {
        let mut buffer = [0u8; 2 + MAX_QUERY];
        let room = buffer.len().saturating_sub(self.input.len());
        if room == 0 || self.ended {
            return;
        }
        match rustix::io::read(&self.socket.fd, &mut buffer[..room]) {
            Ok(0) => self.ended = true,
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                self.active = now;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.broken = true,
        }
    }

    /// The next whole query.
    pub(crate) fn take(&mut self) -> Taken {
        if self.broken {
            return Taken::Over;
        }
        let pending = self.waiting > 0 || self.sent < self.output.len();
        let [high, low, ..] = self.input.as_slice() else {
            return if self.ended && !pending { Taken::Over } else { Taken::Nothing };
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if !(MIN_QUERY..=MAX_QUERY).contains(&length) {
            return Taken::Over;
        }
        if self.input.len() < 2 + length {
            // The rest will never come.
            return if self.ended && !pending { Taken::Over } else { Taken::Nothing };
        }
        if !self.is_open() {
            return Taken::Nothing;
        }
        let query = self.input.get(2..2 + length).unwrap_or_default().to_vec();
        self.input.drain(..2 + length);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Taken::Query(query)
    }

    /// Adds an answer and sends what the client takes.
    pub(crate) fn push(&mut self, answer: &[u8], now: Time) {
        let length = u16::try_from(answer.len()).unwrap_or(0).to_be_bytes();
        self.output.extend_from_slice(&length);
        self.output.extend_from_slice(answer);
        self.flush(now);
    }

    pub(crate) fn flush(&mut self, now: Time) {
        while self.sent < self.output.len() && !self.broken {
            let rest = self.output.get(self.sent..).unwrap_or_default();
            match rustix::net::send(&self.socket.fd, rest, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.sent += count;
                    self.active = now;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.broken = true,
            }
        }
        self.output = Vec::new();
        self.sent = 0;
    }

    /// Watches for what can go on.
    pub(crate) fn settle(&mut self, poller: &Poller) -> Result<(), Errno> {
        let read = !self.ended && self.is_open() && self.input.len() < 2 + MAX_QUERY;
        let write = self.sent < self.output.len();
        self.socket.want(poller, Interest { read, write })
    }
}
