//! One connection with its read buffer: writes request bytes, reads response heads, hands out what follows.
//!
//! Invariant: bytes read past a response head stay in the buffer and are the first of the body, so a hijacked
//! stream loses none. Heads are bounded to [`MAX_HEAD`].

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::Instant,
};

use crate::{Error, Result};

/// Largest response head accepted, in bytes.
const MAX_HEAD: usize = 256 * 1024;
/// Size of the read buffer: one `read` takes what a socket buffer holds.
const BUFFER: usize = 256 * 1024;

/// The socket under a connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
        })
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tcp(stream) => stream.shutdown(how),
        }
    }

    fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_nonblocking(on),
            Self::Tcp(stream) => stream.set_nonblocking(on),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(out),
            Self::Tcp(stream) => stream.read(out),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }
    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write_vectored(bufs),
            Self::Tcp(stream) => stream.write_vectored(bufs),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// When the connection became idle, for those that wait for their next request.
    pub(crate) idle_since: Option<Instant>,
}

/// Status line and the headers this client looks at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, end: 0, idle_since: None }
    }

    /// Bytes read and not yet taken.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Reads once more into the buffer; `Ok(0)` is the end of the stream.
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.is_empty() {
            // Small answers are the rule; the large buffer comes with the first stream that fills the small one.
            self.buffer.resize(8 * 1024, 0);
        } else if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                let grown = (self.buffer.len() * 2).max(BUFFER);
                self.buffer.resize(grown, 0);
            }
        }
        loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    if self.end == self.buffer.len() && self.buffer.len() < BUFFER {
                        self.buffer.resize(BUFFER, 0);
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads one response head. `Ok(None)`: the peer closed before the first byte.
    pub(crate) fn read_head(&mut self) -> Result<Option<Head>> {
        loop {
            if self.start < self.end {
                let mut slots = [httparse::EMPTY_HEADER; 64];
                let mut parsed = httparse::Response::new(&mut slots);
                let state = parsed
                    .parse(self.buffered())
                    .map_err(|error| Error::Protocol(format!("bad response head: {error}")))?;
                if let httparse::Status::Complete(length) = state {
                    let head = Head {
                        status: parsed.code.unwrap_or(0),
                        headers: parsed
                            .headers
                            .iter()
                            .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
                            .collect(),
                    };
                    self.consume(length);
                    // Interim answers other than a protocol switch announce a final one.
                    if (100..200).contains(&head.status) && head.status != 101 {
                        continue;
                    }
                    return Ok(Some(head));
                }
                if self.end - self.start > MAX_HEAD {
                    return Err(Error::Protocol("response head is too large".into()));
                }
            }
            let empty = self.start == self.end;
            match self.fill() {
                Ok(0) if empty => return Ok(None),
                Ok(0) => return Err(Error::Protocol("connection closed within a response head".into())),
                Ok(_) => {}
                Err(error) if empty && error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(Error::io("reading the daemon's answer")(error)),
            }
        }
    }

    /// Whether an idle connection still has a peer; a quick look that never blocks.
    pub(crate) fn is_alive(&mut self) -> bool {
        if self.start != self.end || self.stream.set_nonblocking(true).is_err() {
            return false;
        }
        let mut byte = [0];
        let alive = matches!(self.stream.read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).is_ok() && alive
    }
}
