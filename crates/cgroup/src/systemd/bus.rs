//! A connection to a message bus, or to systemd without a bus between: authentication, calls, signals.
//!
//! What can be sent ahead is: authentication, greeting and the first call leave in one write(2), and their answers
//! are read when the first answer is waited for. That spares a short-lived runtime three round trips.
//!
//! Written here rather than taken from a crate: zbus brings an async runtime and some forty crates, dbus needs
//! libdbus, rustbus stopped with nix 0.26 and syn 1, minidbus wants a newer compiler than the workspace's. Four kinds of
//! message over a local socket need none of that.
//!
//! Invariant: a wait ends at its deadline, whatever the other side sends or does not send.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::address;
use super::error::BusError;
use super::message::{Call, FIXED, Kind, Message};
use super::value::Value;

/// Identity by the socket's credentials (SASL EXTERNAL with no name given): the bus sees who connects, in its own
/// user namespace, so that this works from inside another one.
const AUTH: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
/// Longest line of the bus's answers to it.
const MAX_LINE: usize = 16 << 10;
/// Signals kept while a reply is waited for.
const MAX_SIGNALS: usize = 1024;
const BUS: &str = "org.freedesktop.DBus";

pub(super) struct Bus {
    stream: UnixStream,
    /// Written at the next call.
    ahead: Vec<u8>,
    serial: u32,
    /// Bytes that came and are no whole message yet.
    came: Vec<u8>,
    signals: VecDeque<Message>,
    /// Lines of the answer to [`AUTH`] not read yet.
    auth_lines: usize,
    /// There is a bus: calls need a destination.
    pub(super) has_bus: bool,
}

impl Bus {
    /// Connects to one of the addresses in `list`. With a `rule` the connection is to a bus: it is greeted and gets
    /// the signals that the rule describes; without, the other side is the service itself and sends what it has.
    pub(super) fn connect(list: &str, rule: Option<&str>) -> Result<Bus, BusError> {
        let sockets = address::sockets(list);
        let mut last = None;
        let stream = sockets.iter().find_map(|socket| match UnixStream::connect_addr(socket) {
            Ok(stream) => Some(stream),
            Err(e) => {
                last = Some(e);
                None
            }
        });
        let stream =
            stream.ok_or_else(|| BusError::Connect { address: list.chars().take(200).collect(), source: last })?;
        let mut bus = Bus {
            stream,
            ahead: AUTH.to_vec(),
            serial: 0,
            came: Vec::new(),
            signals: VecDeque::new(),
            auth_lines: 2,
            has_bus: rule.is_some(),
        };
        if let Some(rule) = rule {
            let greet = |member: &'static str, body: &[Value], bus: &mut Bus| {
                let call = Call {
                    destination: Some(BUS),
                    path: "/org/freedesktop/DBus",
                    interface: BUS,
                    member,
                    body,
                    no_reply: true,
                };
                bus.queue(&call);
            };
            greet("Hello", &[], &mut bus);
            greet("AddMatch", &[Value::Str(rule.to_owned())], &mut bus);
        }
        Ok(bus)
    }

    fn queue(&mut self, call: &Call<'_>) -> u32 {
        self.serial += 1;
        self.ahead.extend_from_slice(&call.write(self.serial));
        self.serial
    }

    /// Calls and waits for the answer's values.
    pub(super) fn call(&mut self, call: &Call<'_>, deadline: Instant) -> Result<Vec<Value>, BusError> {
        let serial = self.queue(call);
        let out = std::mem::take(&mut self.ahead);
        self.stream.set_write_timeout(Some(left(deadline)?)).map_err(BusError::Io)?;
        if let Err(e) = self.stream.write_all(&out).map_err(timed) {
            // A bus that closes has said why if it did not take the identity.
            while self.auth_lines > 0 {
                self.auth_line(deadline)?;
            }
            return Err(e);
        }
        loop {
            let message = self.next(deadline)?;
            if message.answers != Some(serial) {
                continue;
            }
            return match message.kind {
                Kind::Reply => Ok(message.body),
                _ => Err(BusError::Refused {
                    name: message.error.unwrap_or_default(),
                    text: message.body.first().and_then(Value::text).unwrap_or_default().to_owned(),
                }),
            };
        }
    }

    /// Waits for the first signal, of those that came already or will, that `wanted` takes.
    pub(super) fn signal<T>(
        &mut self,
        deadline: Instant,
        mut wanted: impl FnMut(&Message) -> Option<T>,
    ) -> Result<T, BusError> {
        loop {
            while let Some(message) = self.signals.pop_front() {
                if let Some(found) = wanted(&message) {
                    return Ok(found);
                }
            }
            self.next(deadline)?;
        }
    }

    /// The next message. Signals are kept as well.
    fn next(&mut self, deadline: Instant) -> Result<Message, BusError> {
        while self.auth_lines > 0 {
            self.auth_line(deadline)?;
        }
        loop {
            if let Some(start) = self.came.first_chunk::<FIXED>() {
                let size = Message::size(start).ok_or(BusError::Malformed)?;
                if self.came.len() >= size {
                    let message = Message::read(&self.came[..size]).ok_or(BusError::Malformed)?;
                    self.came.drain(..size);
                    if message.kind == Kind::Signal {
                        if self.signals.len() == MAX_SIGNALS {
                            self.signals.pop_front();
                        }
                        self.signals.push_back(message.clone());
                    }
                    return Ok(message);
                }
            }
            self.fill(deadline)?;
        }
    }

    /// `DATA` asks for the identity that has been given already, `OK` takes it.
    fn auth_line(&mut self, deadline: Instant) -> Result<(), BusError> {
        let end = loop {
            if let Some(end) = self.came.windows(2).position(|w| w == b"\r\n") {
                break end;
            }
            if self.came.len() > MAX_LINE {
                return Err(BusError::Malformed);
            }
            self.fill(deadline)?;
        };
        let line = String::from_utf8_lossy(&self.came[..end]).into_owned();
        self.came.drain(..end + 2);
        match line.split(' ').next() {
            Some("OK") => self.auth_lines = 0,
            Some("DATA") if self.auth_lines == 2 => self.auth_lines = 1,
            _ => return Err(BusError::Identity { answer: line.chars().take(80).collect() }),
        }
        Ok(())
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), BusError> {
        let mut bytes = [0; 4096];
        self.stream.set_read_timeout(Some(left(deadline)?)).map_err(BusError::Io)?;
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(BusError::Closed),
            Ok(n) => {
                self.came.extend_from_slice(&bytes[..n]);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(timed(e)),
        }
    }
}

fn left(deadline: Instant) -> Result<Duration, BusError> {
    deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()).ok_or(BusError::Timeout)
}

fn timed(e: std::io::Error) -> BusError {
    match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => BusError::Timeout,
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => BusError::Closed,
        _ => BusError::Io(e),
    }
}
