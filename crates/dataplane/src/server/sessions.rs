//! Datagrams that are carried from a published port to a container: a session for each client and the address it wrote to,
//! so that answers come from there.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use sys::Errno;
use sys::datagram::{Receiver, Sender};

use super::poller::{Interest, Kind, Poller, Time, Token, Watched};
use super::relay::Passed;

/// Sessions of one port. Another one takes the place of that which has been idle longest.
const MAX_OF_PORT: usize = 1024;
/// Sessions of all ports.
const MAX_ALL: usize = 8192;
/// How long a session may do nothing, as dockerd's proxy says.
const IDLE: Time = 90_000;
/// How often sessions are looked through for idle ones.
const SWEEP: Time = 5000;
/// Datagrams received at once, and how long each may be.
const BATCH: usize = 16;
const MAX_DATAGRAM: usize = 65_535;
/// Batches of one socket before others have their turn.
const BATCHES: usize = 4;

/// A client and the address it wrote to.
type Client = (SocketAddr, Option<IpAddr>);

struct Port {
    socket: Watched,
    target: SocketAddr,
    by_client: HashMap<Client, u64>,
}

struct Session {
    port: u64,
    client: Client,
    socket: Watched,
    active: Time,
}

/// All of them.
pub(crate) struct Sessions {
    ports: HashMap<u64, Port>,
    sessions: HashMap<u64, Session>,
    receiver: Receiver,
    sender: Sender,
    swept: Time,
    pub(crate) passed: Passed,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            ports: HashMap::new(),
            sessions: HashMap::new(),
            receiver: Receiver::with_destinations(BATCH, MAX_DATAGRAM),
            sender: Sender::new(BATCH),
            swept: 0,
            passed: Passed::default(),
        }
    }
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Serves a port from its reserving socket.
    pub(crate) fn open(&mut self, poller: &Poller, socket: OwnedFd, target: SocketAddr) -> Result<u64, Errno> {
        sys::fd::set_nonblocking(socket.as_fd(), true)?;
        let v6 = rustix::net::sockopt::socket_domain(&socket)? == AddressFamily::INET6;
        sys::datagram::want_destination(&socket, v6)?;
        let number = poller.fresh();
        let mut socket = Watched::new(socket, Token::new(Kind::PortDatagram, number));
        socket.want(poller, Interest::READ)?;
        self.ports.insert(number, Port { socket, target, by_client: HashMap::new() });
        Ok(number)
    }

    /// Gives the socket back; its sessions end.
    pub(crate) fn close(&mut self, number: u64) {
        if let Some(port) = self.ports.remove(&number) {
            for session in port.by_client.values() {
                self.sessions.remove(session);
            }
        }
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        (!self.sessions.is_empty()).then_some(self.swept + SWEEP)
    }

    pub(crate) fn on_time(&mut self, now: Time) {
        if now < self.swept + SWEEP {
            return;
        }
        self.swept = now;
        let idle: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, session)| now >= session.active + IDLE)
            .map(|(number, _)| *number)
            .collect();
        for number in idle {
            self.end(number);
        }
    }

    fn end(&mut self, number: u64) {
        if let Some(session) = self.sessions.remove(&number)
            && let Some(port) = self.ports.get_mut(&session.port)
        {
            port.by_client.remove(&session.client);
        }
    }

    /// Datagrams of clients.
    pub(crate) fn on_port(&mut self, poller: &Poller, now: Time, number: u64) {
        let mut receiver = std::mem::replace(&mut self.receiver, Receiver::new(0, 1));
        for _ in 0..BATCHES {
            let Some(port) = self.ports.get(&number) else { break };
            let Ok(count) = receiver.receive(&port.socket.fd) else { break };
            for index in 0..count {
                let Some(datagram) = receiver.get(index) else { break };
                let Some(from) = datagram.from else { continue };
                let Some(session) = self.session(poller, now, number, (from, datagram.to)) else {
                    self.passed.refused += 1;
                    continue;
                };
                // A refusal of an earlier one is told at this one, which is lost then.
                if let Ok(sent) = rustix::net::send(&session.socket.fd, datagram.bytes, SendFlags::NOSIGNAL) {
                    self.passed.bytes_in += sent as u64;
                }
            }
            if count < BATCH {
                break;
            }
        }
        self.receiver = receiver;
    }

    /// The client's session, begun if there is none.
    fn session(&mut self, poller: &Poller, now: Time, number: u64, client: Client) -> Option<&mut Session> {
        let port = self.ports.get(&number)?;
        if let Some(session) = port.by_client.get(&client).copied() {
            let session = self.sessions.get_mut(&session)?;
            session.active = now;
            return Some(session);
        }
        let target = port.target;
        if port.by_client.len() >= MAX_OF_PORT {
            let sessions = port.by_client.values();
            let oldest = sessions.min_by_key(|session| self.sessions.get(session).map(|session| session.active));
            if let Some(oldest) = oldest.copied() {
                self.end(oldest);
            }
        }
        if self.sessions.len() >= MAX_ALL {
            return None;
        }
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None).ok()?;
        rustix::net::connect(&socket, &target).ok()?;
        let fresh = poller.fresh();
        let mut socket = Watched::new(socket, Token::new(Kind::Session, fresh));
        socket.want(poller, Interest::READ).ok()?;
        if self.sessions.is_empty() {
            self.swept = now;
        }
        self.passed.accepted += 1;
        self.ports.get_mut(&number)?.by_client.insert(client, fresh);
        self.sessions.insert(fresh, Session { port: number, client, socket, active: now });
        self.sessions.get_mut(&fresh)
    }

    /// Datagrams of a container.
    pub(crate) fn on_session(&mut self, now: Time, number: u64) {
        for _ in 0..BATCHES {
            let Some(session) = self.sessions.get_mut(&number) else { return };
            let Some(port) = self.ports.get(&session.port) else { return };
            // An error is one of an earlier datagram: nobody listens, which may change.
            let Ok(count) = self.receiver.receive(&session.socket.fd) else { return };
            session.active = now;
            let (to, from) = session.client;
            for index in 0..count {
                let Some(datagram) = self.receiver.get(index) else { break };
                self.passed.bytes_out += datagram.bytes.len() as u64;
                self.sender.push(datagram.bytes, &to, from);
            }
            self.sender.flush(&port.socket.fd);
            if count < BATCH {
                return;
            }
        }
    }
}
