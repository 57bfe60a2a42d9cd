//! Request bodies written as they are made (chunked): archives of `cp`, `load` and `import`.

use std::io::{self, Write};

use crate::{Error, Response, Result, body::Pool, connection::Connection};

/// Bytes gathered before a chunk is sent.
const CHUNK: usize = 256 * 1024;

/// A request whose body is being written. Dropping it without [`Upload::finish`] breaks the request off.
#[derive(Debug)]
pub struct Upload {
    connection: Connection,
    pending: Vec<u8>,
    pool: Pool,
}

impl Upload {
    pub(crate) fn new(connection: Connection, pool: Pool) -> Self {
        Self { connection, pending: Vec::with_capacity(CHUNK + 32), pool }
    }

    fn send_chunk(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.connection.stream.write_all(format!("{:x}\r\n", self.pending.len()).as_bytes())?;
        self.pending.extend_from_slice(b"\r\n");
        self.connection.stream.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// Ends the body and reads the head of the answer.
    ///
    /// # Errors
    /// As [`crate::Request::send`].
    pub fn finish(mut self) -> Result<Response> {
        let sent = self.send_chunk().and_then(|()| self.connection.stream.write_all(b"0\r\n\r\n"));
        self.answer(sent.err())
    }

    /// Reads the answer of a daemon that stopped taking the body; call it after a failed write.
    ///
    /// # Errors
    /// The daemon's own error if it gave one, else the failed write.
    pub fn failed(self, cause: io::Error) -> Result<Response> {
        self.answer(Some(cause))
    }

    fn answer(mut self, cause: Option<io::Error>) -> Result<Response> {
        match (self.connection.read_head(), cause) {
            (Ok(Some(head)), _) => Response::new(self.connection, head, "POST", self.pool).checked(),
            (_, Some(source)) => Err(Error::Io { action: "sending a request to the daemon", source }),
            (Ok(None), None) => Err(Error::Protocol("the daemon closed the connection without an answer".into())),
            (Err(error), None) => Err(error),
        }
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= CHUNK {
            self.send_chunk()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_chunk()
    }
}
