//! A connection to a message bus, or to a service without a bus between: authentication, calls, signals.
//!
//! What can be sent ahead is: authentication, greeting and the first call leave in one write(2), and their answers
//! are read when the first answer is waited for. That spares a short-lived runtime three round trips.
//!
//! Invariant: a wait ends at its deadline, whatever the other side sends or does not send.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::address;
use crate::error::Error;
use crate::message::{Call, FIXED, Kind, Message, SIGNAL};
use crate::value::Value;

/// Identity by the socket's credentials (SASL EXTERNAL with no name given): the bus sees who connects, in its own
/// user namespace, so that this works from inside another one.
const AUTH: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
/// Longest line of the bus's answers to it.
const MAX_LINE: usize = 16 << 10;
/// Signals kept while a reply is waited for.
const MAX_SIGNALS: usize = 256;
/// Longest signal that is looked at. Whoever is on a bus may send one to anybody; those that are waited for are short.
const MAX_SIGNAL: usize = 4096;
/// Longest wait for a place among those that ask to be connected. A bus that hangs takes none from its queue.
const CONNECTING: Duration = Duration::from_secs(5);
/// How long signals that keep coming are gathered.
const GATHERED: Duration = Duration::from_millis(50);
/// Longest wait of who does not want to wait: the least that a socket can be told.
const MOMENT: Duration = Duration::from_millis(1);
/// Name of the bus itself, also as [`Message::sender`].
pub const BUS: &str = "org.freedesktop.DBus";

/// A connection.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    /// Written at the next call.
    ahead: Vec<u8>,
    serial: u32,
    /// Bytes that came and are no whole message yet.
    came: Vec<u8>,
    signals: VecDeque<Message>,
    /// Lines of the answer to [`AUTH`] not read yet.
    auth_lines: usize,
    has_bus: bool,
}

impl Bus {
    /// Connects to one of the addresses in `list`. With a `rule` the connection is to a bus: it is greeted and gets
    /// the signals that the rule describes; without, the other side is the service itself and sends what it has.
    ///
    /// # Errors
    /// [`Error::Connect`], after five seconds where the other side takes nobody in. What the bus does not take is told by the first call.
    pub fn connect(list: &str, rule: Option<&str>) -> Result<Bus, Error> {
        let sockets = address::sockets(list);
        let mut last = None;
        let end = Instant::now() + CONNECTING;
        let stream = sockets.iter().find_map(|socket| match open(socket, end) {
            Ok(stream) => Some(stream),
            Err(e) => {
                last = Some(e);
                None
            }
        });
        let stream =
            stream.ok_or_else(|| Error::Connect { address: list.chars().take(200).collect(), source: last })?;
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
            bus.queue(&Call { no_reply: true, ..of_the_bus("Hello", &[]) });
            bus.subscribe(rule);
        }
        Ok(bus)
    }

    /// Whether there is a bus, so that calls need a destination.
    #[must_use]
    pub fn has_bus(&self) -> bool {
        self.has_bus
    }

    /// Asks, with the next call, for the signals that the rule describes.
    pub fn subscribe(&mut self, rule: &str) {
        self.queue(&Call { no_reply: true, ..of_the_bus("AddMatch", &[Value::Str(rule.to_owned())]) });
    }

    /// Who has this name, as [`Message::sender`] says it.
    ///
    /// # Errors
    /// See [`Bus::call`]; that nobody has it is none.
    pub fn owner(&mut self, name: &str, deadline: Instant) -> Result<Option<String>, Error> {
        match self.call(&of_the_bus("GetNameOwner", &[Value::Str(name.to_owned())]), deadline) {
            Ok(answer) => match answer.as_slice() {
                [Value::Str(owner)] => Ok(Some(owner.clone())),
                _ => Err(Error::Malformed),
            },
            Err(error) if error.is("org.freedesktop.DBus.Error.NameHasNoOwner") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn queue(&mut self, call: &Call<'_>) -> u32 {
        self.serial += 1;
        self.ahead.extend_from_slice(&call.write(self.serial));
        self.serial
    }

    /// Calls and waits for the answer's values.
    ///
    /// # Errors
    /// [`Error::Refused`] for an answer that is an error; else the connection is of no further use.
    pub fn call(&mut self, call: &Call<'_>, deadline: Instant) -> Result<Vec<Value>, Error> {
        let serial = self.queue(call);
        let out = std::mem::take(&mut self.ahead);
        self.stream.set_write_timeout(Some(left(deadline)?)).map_err(Error::Io)?;
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
                _ => Err(Error::Refused {
                    name: message.error.unwrap_or_default(),
                    text: message.body.first().and_then(Value::text).unwrap_or_default().to_owned(),
                }),
            };
        }
    }

    /// Waits for the first signal, of those that came already or will, that `wanted` takes; others are dropped.
    ///
    /// # Errors
    /// [`Error::Timeout`] when none comes; else the connection is of no further use.
    pub fn signal<T>(&mut self, deadline: Instant, mut wanted: impl FnMut(&Message) -> Option<T>) -> Result<T, Error> {
        loop {
            while let Some(message) = self.signals.pop_front() {
                if let Some(found) = wanted(&message) {
                    return Ok(found);
                }
            }
            self.next(deadline)?;
        }
    }

    /// The signals that came and were not taken, those that can be read without waiting among them.
    ///
    /// # Errors
    /// The connection is of no further use.
    pub fn pending(&mut self) -> Result<Vec<Message>, Error> {
        let end = Instant::now() + GATHERED;
        while self.auth_lines == 0 && Instant::now() < end {
            match self.next(Instant::now() + MOMENT) {
                Ok(_) => {}
                Err(Error::Timeout) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.signals.drain(..).collect())
    }

    /// The next message. Signals are kept as well.
    fn next(&mut self, deadline: Instant) -> Result<Message, Error> {
        while self.auth_lines > 0 {
            self.auth_line(deadline)?;
        }
        loop {
            if let Some(start) = self.came.first_chunk::<FIXED>() {
                let size = Message::size(start).ok_or(Error::Malformed)?;
                if self.came.len() >= size {
                    if start[1] == SIGNAL && size > MAX_SIGNAL {
                        self.came.drain(..size);
                        continue;
                    }
                    let message = Message::read(&self.came[..size]).ok_or(Error::Malformed)?;
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
    fn auth_line(&mut self, deadline: Instant) -> Result<(), Error> {
        let end = loop {
            if let Some(end) = self.came.windows(2).position(|w| w == b"\r\n") {
                break end;
            }
            if self.came.len() > MAX_LINE {
                return Err(Error::Malformed);
            }
            self.fill(deadline)?;
        };
        let line = String::from_utf8_lossy(&self.came[..end]).into_owned();
        self.came.drain(..end + 2);
        match line.split(' ').next() {
            Some("OK") => self.auth_lines = 0,
            Some("DATA") if self.auth_lines == 2 => self.auth_lines = 1,
            _ => return Err(Error::Identity { answer: line.chars().take(80).collect() }),
        }
        Ok(())
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), Error> {
        let mut bytes = [0; 4096];
        self.stream.set_read_timeout(Some(left(deadline)?)).map_err(Error::Io)?;
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(Error::Closed),
            Ok(n) => {
                self.came.extend_from_slice(&bytes[..n]);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(timed(e)),
        }
    }
}

/// Readable when something came.
impl AsFd for Bus {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn of_the_bus<'a>(member: &'a str, body: &'a [Value]) -> Call<'a> {
    Call { destination: Some(BUS), path: "/org/freedesktop/DBus", interface: BUS, member, body, no_reply: false }
}

fn left(deadline: Instant) -> Result<Duration, Error> {
    deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()).ok_or(Error::Timeout)
}

fn timed(e: std::io::Error) -> Error {
    match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout,
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Error::Closed,
        _ => Error::Io(e),
    }
}

/// Connects to a socket. connect(2) of a Unix socket waits for as long as one may send (unix(7), `SO_SNDTIMEO`).
fn open(address: &SocketAddrUnix, end: Instant) -> std::io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    loop {
        let left = end.saturating_duration_since(Instant::now()).max(MOMENT);
        set_socket_timeout(&socket, Timeout::Send, Some(left))?;
        match connect(&socket, address) {
            Err(Errno::INTR) if Instant::now() < end => {}
            result => return Ok(result.map(|()| socket.into())?),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{bind, listen};

    use super::*;

    #[test]
    fn a_bus_that_takes_nobody_in_is_given_up() {
        let name = format!("dhow-test-dbus-{}", std::process::id());
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        let open = |flags| socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let listener = open(SocketFlags::CLOEXEC);
        bind(&listener, &address).unwrap();
        listen(&listener, 0).unwrap();
        let mut queued = Vec::new();
        loop {
            let socket = open(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
            match connect(&socket, &address) {
                Ok(()) => queued.push(socket),
                Err(error) => break assert_eq!(error, Errno::AGAIN),
            }
        }
        let error = Bus::connect(&format!("unix:abstract={name}"), None).unwrap_err();
        assert!(matches!(&error, Error::Connect { source: Some(_), .. }), "{error}");
    }
}
