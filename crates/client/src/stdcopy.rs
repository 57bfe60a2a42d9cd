//! Demultiplexer for the framed output of logs, attach and exec: an 8-byte head (stream, three zeros, length as
//! big-endian 32 bits) before each payload, as the Engine API documents under "Stream format".
//!
//! Invariant: bytes of one stream keep their order, and when both streams end in the same file the order between them
//! is kept too. Payloads are gathered over a whole read, so the number of writes follows the buffers, not the lines.

use std::io;

/// What a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Standard output (and, by the protocol, echoed input).
    Stdout,
    /// Standard error.
    Stderr,
}

/// Where demultiplexed bytes go.
pub trait Sink {
    /// Takes all of `bytes`.
    ///
    /// # Errors
    /// What the destination says.
    fn write(&mut self, channel: Channel, bytes: &[u8]) -> io::Result<()>;
}

/// Largest error text of a frame of the system channel.
const MAX_ERROR: usize = 64 * 1024;
/// Payloads of at least this size are written as they are; copying them would cost more than a call.
const DIRECT: usize = 32 * 1024;

/// State between reads.
#[derive(Debug)]
pub struct Demux {
    head: [u8; 8],
    head_len: usize,
    left: usize,
    channel: u8,
    merged: bool,
    out: Vec<u8>,
    err: Vec<u8>,
    failure: Vec<u8>,
}

impl Demux {
    /// `merged`: both streams go to the same file, so one buffer keeps their order.
    pub fn new(merged: bool) -> Self {
        Self {
            head: [0; 8],
            head_len: 0,
            left: 0,
            channel: 0,
            merged,
            out: Vec::new(),
            err: Vec::new(),
            failure: Vec::new(),
        }
    }

    /// Takes what one read returned and writes all whole and partial payloads in it.
    ///
    /// # Errors
    /// The sink's error; `InvalidData` when a head names an unknown stream; `Other` with the daemon's text when it
    /// reports an error in the stream.
    pub fn feed(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> io::Result<()> {
        let outcome = loop {
            if self.left > 0 {
                let count = bytes.len().min(self.left);
                let (payload, rest) = bytes.split_at(count);
                bytes = rest;
                self.left -= count;
                self.take(payload, sink)?;
            }
            if bytes.is_empty() || self.left > 0 {
                break Ok(());
            }
            if self.channel == 3 && !self.failure.is_empty() {
                break Err(io::Error::other(String::from_utf8_lossy(&self.failure).into_owned()));
            }
            let count = bytes.len().min(8 - self.head_len);
            self.head[self.head_len..self.head_len + count].copy_from_slice(&bytes[..count]);
            self.head_len += count;
            bytes = &bytes[count..];
            if self.head_len == 8 {
                self.head_len = 0;
                let [channel, _, _, _, a, b, c, d] = self.head;
                if channel > 3 {
                    break Err(io::Error::new(io::ErrorKind::InvalidData, format!("unrecognized stream: {channel}")));
                }
                self.channel = channel;
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
            }
        };
        self.flush(sink)?;
        if self.channel == 3 && self.left == 0 && !self.failure.is_empty() {
            return Err(io::Error::other(String::from_utf8_lossy(&self.failure).into_owned()));
        }
        outcome
    }

    fn take(&mut self, payload: &[u8], sink: &mut impl Sink) -> io::Result<()> {
        let channel = match self.channel {
            3 => {
                let room = MAX_ERROR - self.failure.len().min(MAX_ERROR);
                self.failure.extend_from_slice(&payload[..payload.len().min(room)]);
                return Ok(());
            }
            2 if !self.merged => Channel::Stderr,
            _ => Channel::Stdout,
        };
        if payload.len() >= DIRECT {
            self.flush(sink)?;
            return sink.write(channel, payload);
        }
        let buffer = if channel == Channel::Stderr { &mut self.err } else { &mut self.out };
        buffer.extend_from_slice(payload);
        Ok(())
    }

    fn flush(&mut self, sink: &mut impl Sink) -> io::Result<()> {
        for (channel, buffer) in [(Channel::Stdout, &mut self.out), (Channel::Stderr, &mut self.err)] {
            if !buffer.is_empty() {
                let outcome = sink.write(channel, buffer);
                buffer.clear();
                outcome?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Record {
        out: Vec<u8>,
        err: Vec<u8>,
        calls: usize,
    }
    impl Sink for Record {
        fn write(&mut self, channel: Channel, bytes: &[u8]) -> io::Result<()> {
            self.calls += 1;
            match channel {
                Channel::Stdout => self.out.extend_from_slice(bytes),
                Channel::Stderr => self.err.extend_from_slice(bytes),
            }
            Ok(())
        }
    }

    fn frame(channel: u8, text: &[u8]) -> Vec<u8> {
        let mut out = vec![channel, 0, 0, 0];
        out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        out.extend_from_slice(text);
        out
    }

    #[test]
    fn any_split_gives_the_same_bytes() {
        let wire = [frame(1, b"one\n"), frame(2, b"two\n"), frame(1, b""), frame(1, &[b'x'; 40_000])].concat();
        for step in [1, 3, 8, 9, 1000, wire.len()] {
            let mut sink = Record::default();
            let mut demux = Demux::new(false);
            for part in wire.chunks(step) {
                demux.feed(part, &mut sink).unwrap();
            }
            assert_eq!(sink.out.len(), 40_004, "step {step}");
            assert_eq!(sink.err, b"two\n");
        }
    }

    #[test]
    fn one_destination_keeps_the_order_in_one_write() {
        let wire = [frame(1, b"a"), frame(2, b"b"), frame(1, b"c")].concat();
        let mut sink = Record::default();
        Demux::new(true).feed(&wire, &mut sink).unwrap();
        assert_eq!((sink.out.as_slice(), sink.calls), (&b"abc"[..], 1));
    }

    #[test]
    fn errors_of_the_daemon_and_of_the_framing() {
        let mut sink = Record::default();
        let wire = [frame(1, b"a"), frame(3, b"log driver gone")].concat();
        let error = Demux::new(false).feed(&wire, &mut sink).unwrap_err();
        assert_eq!(error.to_string(), "log driver gone");
        assert_eq!(sink.out, b"a");
        let error = Demux::new(false).feed(b"plain text, no frames", &mut sink).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
