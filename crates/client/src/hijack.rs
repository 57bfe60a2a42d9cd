//! A connection taken over from HTTP: attach, exec and `dial-stdio`. Both directions are raw bytes; closing the
//! writing side tells the process its input ended while its output goes on.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
};

use crate::{
    Error, Result,
    body::read_raw,
    connection::{Connection, Head, Stream},
};

/// The reading side of a hijacked connection.
#[derive(Debug)]
pub struct Hijacked {
    connection: Connection,
    content_type: Option<String>,
}

impl Hijacked {
    pub(crate) fn new(connection: Connection, content_type: Option<String>) -> Result<Self> {
        Ok(Self { connection, content_type })
    }

    /// Whether the daemon says that output is framed: `Some(false)` for a terminal, `None` when it says nothing.
    pub fn is_multiplexed(&self) -> Option<bool> {
        match self.content_type.as_deref()? {
            "application/vnd.docker.multiplexed-stream" => Some(true),
            "application/vnd.docker.raw-stream" => Some(false),
            _ => None,
        }
    }

    /// The writing side, usable from another thread.
    ///
    /// # Errors
    /// [`Error::Io`] when the descriptor cannot be duplicated.
    pub fn writer(&self) -> Result<HijackWriter> {
        self.connection.stream.try_clone().map(HijackWriter).map_err(Error::io("duplicating a connection"))
    }
}

impl Read for Hijacked {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match read_raw(&mut self.connection, out) {
            // The daemon went away or the process ended while input was under way: either way the output is over.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            other => other,
        }
    }
}

/// A connection that speaks another protocol from here on.
#[derive(Debug)]
pub struct Upgraded {
    connection: Connection,
    head: Head,
}

/// A socket as the system has it.
#[derive(Debug)]
pub enum Socket {
    /// A Unix socket.
    Unix(UnixStream),
    /// A TCP connection.
    Tcp(TcpStream),
}

impl Upgraded {
    pub(crate) fn new(connection: Connection, head: Head) -> Self {
        Self { connection, head }
    }

    /// First header of this name in the daemon's answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The socket, with what was read from it beyond the answer.
    pub fn into_parts(self) -> (Socket, Vec<u8>) {
        let early = self.connection.buffered().to_vec();
        let socket = match self.connection.stream {
            Stream::Unix(stream) => Socket::Unix(stream),
            Stream::Tcp(stream) => Socket::Tcp(stream),
        };
        (socket, early)
    }
}

/// The writing side of a hijacked connection.
#[derive(Debug)]
pub struct HijackWriter(Stream);

impl HijackWriter {
    /// Ends the input; output goes on.
    pub fn close_write(&self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Ends both directions, which makes the reading side return.
    pub fn close(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Write for HijackWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
