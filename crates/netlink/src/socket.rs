//! A netlink socket: send requests, collect acknowledgements, walk dumps.
//!
//! The invariant: after any call, successful or not, no answer to it is left in the socket, so the next call cannot
//! mistake it for its own (sequence numbers guard against the rest). Only answers from the kernel (port id 0) count.
//! `RouteSocket` and `NftSocket` are built on it; each locks its socket for the length of a request.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force, set_socket_timeout,
};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recvfrom, socket_with};

use crate::attribute::{Attributes, align};
use crate::message::{ACK, DUMP, HEADER, Messages};
use crate::{Error, Result};

/// Message types of netlink itself.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Flags of an answer: the request is not echoed; explanatory attributes follow; the dump is inconsistent.
const CAPPED: u16 = 0x100;
const EXPLAINED: u16 = 0x200;
const DUMP_INTERRUPTED: u16 = 0x10;
/// Attribute of an extended acknowledgement: text.
const EXPLANATION: u16 = 1;

/// The kernel fills dump answers up to 32 KiB at a time when the reader offers that much.
const RECEIVE_BUFFER: usize = 32 * 1024;
/// Room for transactions of some thousand set elements and their answers.
const SOCKET_BUFFER: usize = 2 * 1024 * 1024;
/// The kernel answers at once; a lost answer must not hang the daemon for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a dump is taken again when the tables changed under it.
const DUMP_ATTEMPTS: usize = 5;

/// Datagrams read at once from a socket that listens to a group.
const DRAIN: usize = 256;

/// What a socket that listens to a group gets.
pub(crate) enum Heard<'a> {
    /// A message: its type, the port id of its originator, its body.
    Message(u16, u32, &'a [u8]),
    /// Messages were lost, since they came faster than they were read.
    Lost,
}

/// One bound-on-demand netlink socket with its receive buffer.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket of `protocol`, rtnetlink (number 0) for none, in the network namespace of the calling thread.
    pub(crate) fn open(protocol: Option<Protocol>) -> Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map_err(Error::socket("open"))?;
        // Older kernels explain less; that is no failure.
        let _ = sys::netlink_option::explain_refusals(&fd);
        // Refused without CAP_NET_ADMIN: large transactions then fail with a clear ENOBUFS or EMSGSIZE.
        let _ = set_socket_send_buffer_size_force(&fd, SOCKET_BUFFER);
        let _ = set_socket_recv_buffer_size_force(&fd, SOCKET_BUFFER);
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE)).map_err(Error::socket("set the time limit of"))?;
        Ok(Self { fd, sequence: 1, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// Joins a multicast group.
    pub(crate) fn join(&mut self, group: u32) -> Result<()> {
        let groups = 1u32.checked_shl(group - 1).unwrap_or(0);
        rustix::net::bind(&self.fd, &SocketAddrNetlink::new(0, groups)).map_err(Error::socket("subscribe"))
    }

    /// The port id the kernel knows this socket by; 0 before the first request.
    pub(crate) fn port_id(&self) -> u32 {
        let address = rustix::net::getsockname(&self.fd).ok();
        address.and_then(|address| SocketAddrNetlink::try_from(address).ok()).map_or(0, |address| address.pid())
    }

    /// Passes on the messages that have arrived, without waiting: at most [`DRAIN`] datagrams, so that a flood of them
    /// cannot hold the caller. Returns whether there may be more.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Heard<'_>)) -> Result<bool> {
        for _ in 0..DRAIN {
            match self.receive(RecvFlags::DONTWAIT) {
                Ok(length) => {
                    for answer in Answers(&self.buffer[..length]) {
                        each(Heard::Message(answer.kind, answer.port, answer.body));
                    }
                }
                Err(Error::Socket { errno: Errno::NOBUFS, .. }) | Err(Error::Protocol(_)) => each(Heard::Lost),
                Err(Error::Socket { errno: Errno::AGAIN, .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Sends messages that each carry an acknowledgement request and waits for all answers. The kernel carries them
    /// out in order, each for itself: a refusal does not undo or stop the others. The first refusal is returned.
    pub(crate) fn request(&mut self, messages: Messages) -> Result<()> {
        self.query(messages, |_, _| ())
    }

    /// As [`Self::request`]; `each` sees the type and body of every answer that is no acknowledgement.
    pub(crate) fn query(&mut self, mut messages: Messages, mut each: impl FnMut(u16, &[u8])) -> Result<()> {
        let first = self.send(&mut messages)?;
        let mut missing = messages.len();
        let mut outcome = Ok(());
        while missing > 0 {
            let length = self.receive(RecvFlags::empty())?;
            for answer in Answers(&self.buffer[..length]) {
                let index = answer.sequence.wrapping_sub(first) as usize;
                if index >= messages.len() {
                    continue;
                }
                if answer.kind == ERROR {
                    missing = missing.saturating_sub(1);
                    outcome = outcome.and(refusal(&answer, messages.request(index)));
                } else {
                    each(answer.kind, answer.body);
                }
            }
        }
        outcome
    }

    /// Sends one nfnetlink batch and collects its answers: applied as a whole, or refused as a whole.
    /// The last message but one (the last before the batch's end) must ask for an acknowledgement.
    pub(crate) fn transaction(&mut self, mut messages: Messages) -> Result<()> {
        let first = self.send(&mut messages)?;
        let mut answered = false;
        let mut outcome = Ok(());
        // The kernel has processed the batch when `send` returns, so all answers are here already.
        loop {
            let length = match self.receive(RecvFlags::DONTWAIT) {
                Ok(length) => length,
                Err(Error::Socket { errno: Errno::AGAIN, .. }) => break,
                Err(error) => return Err(error),
            };
            for answer in Answers(&self.buffer[..length]) {
                let index = answer.sequence.wrapping_sub(first) as usize;
                if answer.kind == ERROR && index < messages.len() {
                    answered = true;
                    outcome = outcome.and(refusal(&answer, messages.request(index)));
                }
            }
        }
        outcome.and(if answered { Ok(()) } else { Err(Error::Protocol("a transaction was not acknowledged")) })
    }

    /// Dumps a table: `fixed` is the fixed part of the request, `each` sees the type and body of every answer.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        fixed: &[u8],
        what: &'static str,
        mut each: impl FnMut(u16, &[u8]),
        mut restart: impl FnMut(),
    ) -> Result<()> {
        for _ in 0..DUMP_ATTEMPTS {
            restart();
            if self.dump_once(kind, fixed, what, &mut each)? {
                return Ok(());
            }
        }
        Err(Error::Protocol("a table kept changing while it was read"))
    }

    /// One pass over a table; false when it changed meanwhile and what was seen may be incomplete.
    fn dump_once(
        &mut self,
        kind: u16,
        fixed: &[u8],
        what: &'static str,
        each: &mut impl FnMut(u16, &[u8]),
    ) -> Result<bool> {
        let mut messages = Messages::new();
        messages.message(kind, DUMP, what, |m| m.raw(fixed));
        let first = self.send(&mut messages)?;
        let mut consistent = true;
        loop {
            let length = self.receive(RecvFlags::empty())?;
            for answer in Answers(&self.buffer[..length]) {
                if answer.sequence != first {
                    continue;
                }
                consistent &= answer.flags & DUMP_INTERRUPTED == 0;
                match answer.kind {
                    DONE => return Ok(consistent),
                    ERROR => return refusal(&answer, what).map(|()| consistent),
                    kind => each(kind, answer.body),
                }
            }
        }
    }

    fn send(&mut self, messages: &mut Messages) -> Result<u32> {
        self.discard_stale();
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(messages.len() as u32);
        let bytes = messages.numbered(first).ok_or(Error::Invalid("an attribute exceeds 64 KiB"))?;
        if bytes.len() > SOCKET_BUFFER {
            // The kernel takes no message longer than the buffer; refused without CAP_NET_ADMIN, and then so is sending.
            let _ = set_socket_send_buffer_size_force(&self.fd, bytes.len());
        }
        let sent = rustix::net::send(&self.fd, bytes, SendFlags::empty()).map_err(Error::socket("send to"))?;
        if sent == bytes.len() { Ok(first) } else { Err(Error::Protocol("a request was sent in part")) }
    }

    /// Empties the socket of answers that a failed call left behind.
    fn discard_stale(&mut self) {
        while self.receive(RecvFlags::DONTWAIT).is_ok() {}
    }

    fn receive(&mut self, flags: RecvFlags) -> Result<usize> {
        loop {
            let (_, actual, from) = match recvfrom(&self.fd, &mut self.buffer[..], flags | RecvFlags::TRUNC) {
                Err(Errno::INTR) => continue,
                other => other.map_err(Error::socket("receive from"))?,
            };
            if actual > self.buffer.len() {
                return Err(Error::Protocol("an answer exceeds the receive buffer"));
            }
            let kernel = from.and_then(|from| SocketAddrNetlink::try_from(from).ok()).is_some_and(|a| a.pid() == 0);
            if kernel {
                return Ok(actual);
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One message of an answer.
struct Answer<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    body: &'a [u8],
}

/// Iterator over the messages of one datagram; malformed lengths end it.
struct Answers<'a>(&'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let length = u32_at(self.0, 0)? as usize;
        let kind = u16_at(self.0, 4)?;
        let flags = u16_at(self.0, 6)?;
        let sequence = u32_at(self.0, 8)?;
        let port = u32_at(self.0, 12)?;
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(align(length)..).unwrap_or(&[]);
        Some(Answer { kind, flags, sequence, port, body })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// An acknowledgement (`struct nlmsgerr`): `Ok` when its error is zero.
fn refusal(answer: &Answer<'_>, request: &str) -> Result<()> {
    let code = u32_at(answer.body, 0).ok_or(Error::Protocol("an acknowledgement is too short"))?.cast_signed();
    if code == 0 {
        return Ok(());
    }
    let mut explanation = String::new();
    if answer.flags & EXPLAINED != 0 {
        // After the error code comes the refused header, and its body too unless the answer is capped.
        let echoed = if answer.flags & CAPPED != 0 { HEADER } else { u32_at(answer.body, 4).unwrap_or(0) as usize };
        let attributes = answer.body.get(4usize.saturating_add(align(echoed))..).unwrap_or(&[]);
        explanation = Attributes(attributes).find(EXPLANATION).map(|text| text.text()).unwrap_or_default();
    }
    let errno = Errno::from_raw_os_error(code.checked_neg().filter(|code| (1..4096).contains(code)).unwrap_or(5));
    Err(Error::Refused { request: request.to_owned(), errno, explanation })
}

/// Flag for messages whose answer [`Socket::request`] waits for.
pub(crate) const ACKNOWLEDGE: u16 = ACK;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_bytes(code: i32, flags: u16, text: Option<&str>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let attribute = text.map(|text| {
            let mut attribute = ((4 + text.len() + 1) as u16).to_ne_bytes().to_vec();
            attribute.extend(EXPLANATION.to_ne_bytes());
            attribute.extend(text.as_bytes());
            attribute.push(0);
            attribute
        });
        let length = HEADER + 4 + HEADER + attribute.as_ref().map_or(0, Vec::len);
        bytes.extend((length as u32).to_ne_bytes());
        bytes.extend(ERROR.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend([0; HEADER]);
        bytes.extend(attribute.unwrap_or_default());
        bytes
    }

    #[test]
    fn refusal_carries_the_explanation() {
        let bytes = answer_bytes(-22, CAPPED | EXPLAINED, Some("Invalid gateway"));
        let answer = Answers(&bytes).next().unwrap();
        assert_eq!(answer.sequence, 7);
        let error = refusal(&answer, "add route").unwrap_err();
        assert_eq!(error.errno(), Some(Errno::INVAL));
        assert!(error.to_string().contains("add route") && error.to_string().contains("Invalid gateway"), "{error}");
    }

    #[test]
    fn zero_is_an_acknowledgement() {
        let bytes = answer_bytes(0, CAPPED, None);
        assert!(refusal(&Answers(&bytes).next().unwrap(), "x").is_ok());
    }

    #[test]
    fn hostile_answers_neither_panic_nor_loop() {
        let good = answer_bytes(-1, EXPLAINED, Some("text"));
        for cut in 0..good.len() {
            for answer in Answers(&good[..cut]) {
                let _ = refusal(&answer, "x");
            }
        }
        let mut wild = good.clone();
        for at in 0..wild.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let kept = std::mem::replace(&mut wild[at], value);
                for answer in Answers(&wild).take(100) {
                    let _ = refusal(&answer, "x");
                }
                wild[at] = kept;
            }
        }
    }

    #[test]
    fn code_of_minimum_integer_is_an_error() {
        let bytes = answer_bytes(i32::MIN, CAPPED, None);
        assert!(refusal(&Answers(&bytes).next().unwrap(), "x").is_err());
    }
}
