//! An attached client: one end of a stream socket, output framed as Docker's stdcopy unless there is
//! a terminal.
//!
//! Output for a client that reads slowly is kept up to [`LIMIT`]; beyond that the task is held back
//! (its pipes fill), because a foreground client must not lose output. A client that takes nothing
//! at all for [`STALL_NS`] while holding the task back is cut off, so that a stopped reader cannot
//! freeze a workload for ever.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};

use launch::Streams;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use sys::Errno;

use crate::clock::monotonic_ns;
use crate::log::Stream;
use crate::poller::{Interest, Poller, Token, Watched};

/// Bytes kept for one client before its task is held back.
pub(crate) const LIMIT: usize = 4 * 1024 * 1024;
/// Time without any progress after which a client that holds its task back is given up.
pub(crate) const STALL_NS: i64 = 5_000_000_000;

/// One attached client.
pub(crate) struct Client {
    pub(crate) id: u32,
    watched: Watched,
    streams: Streams,
    framed: bool,
    queue: VecDeque<u8>,
    /// Since when the socket has taken nothing although there was something.
    stalled_since: Option<i64>,
    /// Its input is still open and wanted.
    pub(crate) reading: bool,
    /// Closed altogether; kept only while input read from it is on its way.
    hung_up: bool,
    dead: bool,
}

impl Client {
    /// Takes our end of the pair. `reading` says whether its input goes anywhere.
    pub(crate) fn new(id: u32, task: u32, fd: OwnedFd, streams: Streams, framed: bool) -> Result<Self, Errno> {
        sys::fd::set_nonblocking(fd.as_fd(), true)?;
        Ok(Self {
            id,
            watched: Watched::new(fd, Token::Client { task, client: id }),
            streams,
            framed,
            queue: VecDeque::new(),
            stalled_since: None,
            reading: streams.stdin,
            hung_up: false,
            dead: false,
        })
    }

    /// Decided at the launch, for clients that came before it.
    pub(crate) fn set_framed(&mut self, framed: bool) {
        self.framed = framed;
    }

    /// Output for this client: sent at once as far as the socket takes it, kept otherwise.
    pub(crate) fn push(&mut self, stream: Stream, data: &[u8]) {
        let wanted = match stream {
            Stream::Stdout => self.streams.stdout,
            Stream::Stderr => self.streams.stderr,
        };
        if !wanted || self.dead || self.hung_up {
            return;
        }
        let header = if self.framed { Some(header(stream, data.len())) } else { None };
        let header = header.as_ref().map_or(&[][..], |header| &header[..]);
        let mut sent = 0;
        if self.queue.is_empty() {
            match send(&self.watched.fd, &[header, data]) {
                Ok(count) => sent = count,
                Err(Errno::AGAIN) => {}
                Err(_) => {
                    self.dead = true;
                    return;
                }
            }
        }
        self.queue.extend(&header[sent.min(header.len())..]);
        self.queue.extend(&data[sent.saturating_sub(header.len())..]);
        if !self.queue.is_empty() && self.stalled_since.is_none() {
            self.stalled_since = Some(monotonic_ns());
        }
    }

    /// The socket takes data again.
    pub(crate) fn flush(&mut self) {
        while !self.queue.is_empty() && !self.dead {
            let (head, tail) = self.queue.as_slices();
            match send(&self.watched.fd, &[head, tail]) {
                Ok(count) => {
                    self.queue.drain(..count);
                    self.stalled_since = Some(monotonic_ns());
                }
                Err(Errno::AGAIN) => return,
                Err(_) => self.dead = true,
            }
        }
        self.stalled_since = None;
        self.queue.shrink_to(0);
    }

    /// What the client sent: `None` when nothing is there for now, empty at its end of input.
    pub(crate) fn read<'b>(&mut self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        match rustix::io::read(&self.watched.fd, &mut *buffer) {
            Ok(len) => Some(&buffer[..len]),
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(_) => Some(&[]),
        }
    }

    /// Both directions are closed by the client.
    pub(crate) fn hang_up(&mut self) {
        self.hung_up = true;
        self.queue.clear();
        if !self.reading {
            self.dead = true;
        }
    }

    pub(crate) fn end_input(&mut self) {
        self.reading = false;
        if self.hung_up {
            self.dead = true;
        }
    }

    /// Whether the task should wait for this client.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() >= LIMIT && !self.dead
    }

    /// Nothing is left to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    /// When this client is given up unless it takes something before.
    pub(crate) fn deadline(&self, task_over: bool) -> Option<i64> {
        if self.is_full() || task_over { self.stalled_since.map(|since| since + STALL_NS) } else { None }
    }

    pub(crate) fn give_up(&mut self) {
        self.dead = true;
    }

    /// Watches for what matters now. `take_input`: the task could take more.
    pub(crate) fn watch(&mut self, poller: &Poller, take_input: bool) {
        let interest = if self.dead || self.hung_up && !take_input {
            Interest::default()
        } else if self.hung_up {
            Interest { read: self.reading, write: false }
        } else {
            Interest { read: self.reading && take_input, write: !self.queue.is_empty() }
        };
        // A client that is watched for nothing still reports when it goes, unless it already has.
        let result = if interest == Interest::default() && !self.dead && !self.hung_up {
            self.watched.watch_hangup(poller)
        } else {
            self.watched.want(poller, interest)
        };
        if result.is_err() {
            self.dead = true;
        }
    }
}

/// Docker's frame header: stream number, three zeros, length in network order.
fn header(stream: Stream, len: usize) -> [u8; 8] {
    let len = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    let number = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    [number, 0, 0, 0, len[0], len[1], len[2], len[3]]
}

fn send(fd: &OwnedFd, parts: &[&[u8]; 2]) -> Result<usize, Errno> {
    let slices = [IoSlice::new(parts[0]), IoSlice::new(parts[1])];
    let mut control = SendAncillaryBuffer::default();
    rustix::net::sendmsg(fd, &slices, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}
