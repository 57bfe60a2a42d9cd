//! Response bodies: sized, chunked (RFC 9112 §7.1) or until the connection closes.
//!
//! Invariant: one call of `read` drains as many small chunks as are already buffered, so a log of two million
//! one-line chunks costs system calls by the buffer, not by the line. A body read to its end gives its connection back.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex},
};

use crate::{Error, Result, connection::Connection};

/// Connections that wait for their next request.
pub(crate) type Pool = Arc<Mutex<Vec<Connection>>>;

/// Longest line of chunk framing accepted.
const MAX_LINE: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Sized(u64),
    /// Bytes left in the current chunk; `first` until a chunk has been opened.
    Chunked {
        left: u64,
        first: bool,
    },
    UntilClose,
    Done,
}

/// A response body; read it to its end to let the connection be used again.
#[derive(Debug)]
pub struct Body {
    connection: Option<Connection>,
    framing: Framing,
    pool: Option<Pool>,
}

impl Body {
    pub(crate) fn new(connection: Connection, framing: Framing, pool: Option<Pool>) -> Self {
        let mut body = Self { connection: Some(connection), framing, pool };
        if body.framing == Framing::Sized(0) || body.framing == Framing::Done {
            body.finish();
        }
        body
    }

    /// Reads everything, refusing more than `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Io`] when the connection breaks, [`Error::Protocol`] above the limit.
    pub fn read_all(mut self, limit: u64) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let taken =
            (&mut self).take(limit + 1).read_to_end(&mut out).map_err(Error::io("reading the daemon's answer"))?;
        if taken as u64 > limit {
            return Err(Error::Protocol(format!("answer is larger than {limit} bytes")));
        }
        Ok(out)
    }

    /// A handle that can end the connection from another thread, which makes a blocked `read` return.
    ///
    /// # Errors
    /// [`Error::Io`] when the descriptor cannot be duplicated.
    pub fn closer(&self) -> Result<Option<Closer>> {
        self.connection
            .as_ref()
            .map(|connection| connection.stream.try_clone().map(Closer).map_err(Error::io("duplicating a connection")))
            .transpose()
    }

    fn finish(&mut self) {
        self.framing = Framing::Done;
        if let (Some(mut connection), Some(pool)) = (self.connection.take(), self.pool.take())
            && connection.buffered().is_empty()
        {
            connection.idle_since = Some(std::time::Instant::now());
            if let Ok(mut idle) = pool.lock() {
                idle.push(connection);
            }
        }
    }

    /// Opens the next chunk from buffered bytes. `Ok(false)`: more bytes are needed.
    fn next_chunk(connection: &mut Connection, first: bool) -> io::Result<Option<u64>> {
        let bad = |text| io::Error::new(io::ErrorKind::InvalidData, text);
        let buffered = connection.buffered();
        // A chunk but the first is preceded by the line end of the one before.
        let skip = if first { 0 } else { 2 };
        if buffered.len() < skip {
            return Ok(None);
        }
        if buffered[..skip] != b"\r\n"[..skip] {
            return Err(bad("chunk does not end with a line end"));
        }
        let Some(line) = buffered[skip..].iter().position(|byte| *byte == b'\n') else {
            return if buffered.len() > MAX_LINE { Err(bad("chunk header is too long")) } else { Ok(None) };
        };
        let header = &buffered[skip..skip + line];
        let digits = header.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let text = std::str::from_utf8(&header[..digits]).map_err(|_| bad("chunk size is not a number"))?;
        let size = u64::from_str_radix(text, 16).map_err(|_| bad("chunk size is not a number"))?;
        if size == 0 {
            // Trailer lines up to an empty one belong to the end mark.
            let mut at = skip + line + 1;
            loop {
                let Some(end) = buffered[at..].iter().position(|byte| *byte == b'\n') else {
                    return if buffered.len() > 4 * MAX_LINE { Err(bad("trailer is too long")) } else { Ok(None) };
                };
                let empty = matches!(&buffered[at..at + end], b"" | b"\r");
                at += end + 1;
                if empty {
                    connection.consume(at);
                    return Ok(Some(0));
                }
            }
        }
        connection.consume(skip + line + 1);
        Ok(Some(size))
    }

    fn read_chunked(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut written = 0;
        loop {
            let Some(connection) = self.connection.as_mut() else { return Ok(written) };
            let Framing::Chunked { left, first } = &mut self.framing else { return Ok(written) };
            if *left == 0 {
                match Self::next_chunk(connection, *first)? {
                    Some(0) => {
                        self.finish();
                        return Ok(written);
                    }
                    Some(size) => (*left, *first) = (size, false),
                    None if written > 0 => return Ok(written),
                    None => {
                        if connection.fill()? == 0 {
                            return Err(io::Error::new(
                                io::ErrorKind::UnexpectedEof,
                                "connection closed within a chunked body",
                            ));
                        }
                        continue;
                    }
                }
            }
            let Framing::Chunked { left, .. } = &mut self.framing else { return Ok(written) };
            let buffered = connection.buffered();
            if buffered.is_empty() {
                if written > 0 {
                    return Ok(written);
                }
                if connection.fill()? == 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed within a chunk"));
                }
                continue;
            }
            let count = buffered.len().min(out.len() - written).min(usize::try_from(*left).unwrap_or(usize::MAX));
            out[written..written + count].copy_from_slice(&buffered[..count]);
            connection.consume(count);
            written += count;
            *left -= count as u64;
            if written == out.len() {
                return Ok(written);
            }
        }
    }
}

/// Ends a connection that another thread reads.
#[derive(Debug)]
pub struct Closer(crate::connection::Stream);

impl Closer {
    /// Shuts both directions down.
    pub fn close(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// Takes buffered bytes first, then reads the socket: straight into `out` when that is large.
pub(crate) fn read_raw(connection: &mut Connection, out: &mut [u8]) -> io::Result<usize> {
    if connection.buffered().is_empty() {
        if out.len() >= 32 * 1024 {
            loop {
                match connection.stream.read(out) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => return other,
                }
            }
        }
        connection.fill()?;
    }
    let buffered = connection.buffered();
    let count = buffered.len().min(out.len());
    out[..count].copy_from_slice(&buffered[..count]);
    connection.consume(count);
    Ok(count)
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        match self.framing {
            Framing::Done => Ok(0),
            Framing::Chunked { .. } => self.read_chunked(out),
            Framing::UntilClose => match self.connection.as_mut() {
                Some(connection) => read_raw(connection, out),
                None => Ok(0),
            },
            Framing::Sized(left) => {
                let Some(connection) = self.connection.as_mut() else { return Ok(0) };
                let room = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let count = read_raw(connection, &mut out[..room])?;
                if count == 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed within a body"));
                }
                let left = left - count as u64;
                self.framing = Framing::Sized(left);
                if left == 0 {
                    self.finish();
                }
                Ok(count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::connection::Stream;

    fn body(bytes: &[u8], framing: Framing) -> (Body, Pool) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let bytes = bytes.to_vec();
        std::thread::spawn(move || theirs.write_all(&bytes));
        let pool: Pool = Arc::new(Mutex::new(Vec::new()));
        (Body::new(Connection::new(Stream::Unix(ours)), framing, Some(pool.clone())), pool)
    }

    const CHUNKED: Framing = Framing::Chunked { left: 0, first: true };

    #[test]
    fn chunks_join_and_the_connection_comes_back() {
        let (mut body, pool) = body(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n", CHUNKED);
        let mut text = String::new();
        body.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
        assert_eq!(pool.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_large_chunked_body_is_whole() {
        let mut wire = Vec::new();
        let mut want = Vec::new();
        for n in 0..20_000 {
            let line = format!("line {n}\n");
            wire.extend_from_slice(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes());
            want.extend_from_slice(line.as_bytes());
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        let (body, _) = body(&wire, CHUNKED);
        assert_eq!(body.read_all(1 << 30).unwrap(), want);
    }

    #[test]
    fn broken_framing_is_an_error() {
        for wire in [&b"zz\r\nabc\r\n"[..], b"3\r\nabcXX", b"3\r\nab", b"ffffffffffffffffff\r\n"] {
            let (mut body, _) = body(wire, CHUNKED);
            assert!(body.read_to_end(&mut Vec::new()).is_err(), "{wire:?}");
        }
        let (mut short, pool) = body(b"ab", Framing::Sized(3));
        assert!(short.read_to_end(&mut Vec::new()).is_err());
        assert!(pool.lock().unwrap().is_empty());
    }

    #[test]
    fn answers_above_the_limit_are_refused() {
        let (body, _) = body(b"abcdef", Framing::Sized(6));
        assert!(body.read_all(5).is_err());
    }
}
