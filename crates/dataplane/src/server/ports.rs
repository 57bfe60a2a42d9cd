//! Published ports: the sockets that reserve them on the host, and those that are served from here because the rules
//! cannot (host and container of different families, or the host's `::1`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use firewall::PortRule;
use rustix::net::{SocketFlags, SocketType, sockopt};
use sys::Errno;
use types::{EndpointId, Protocol};

use super::poller::{Interest, Kind, Poller, Ready, Time, Token, Watched};
use super::relay::{MAX_OF_PORT, Relays, reset};
use super::sessions::Sessions;
use crate::wire::{Failure, FailureKind, ForwarderStatus};

/// Connections that wait to be accepted, the kernel's own bound at most.
const BACKLOG: i32 = 512;
/// Connections accepted of one port before others have their turn.
const ACCEPTS: usize = 32;
/// How long nothing is accepted when descriptors have run out.
const PAUSE: Time = 100;

/// What holds a port.
enum Held {
    /// Nothing: the rule stands without a reservation.
    Nothing,
    /// A socket that does nothing else.
    Reserved {
        _socket: OwnedFd,
    },
    Connections(u64),
    Datagrams(u64),
}

struct Listener {
    socket: Watched,
    target: SocketAddr,
    connections: usize,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Ports {
    endpoints: HashMap<EndpointId, Vec<(PortRule, Held)>>,
    listeners: HashMap<u64, Listener>,
    pub(crate) relays: Relays,
    pub(crate) sessions: Sessions,
    paused: Option<(Time, Vec<u64>)>,
}

/// Ports of an endpoint with what came along, checked.
pub(crate) struct Publication {
    pub(crate) endpoint: EndpointId,
    pub(crate) ports: Vec<(PortRule, Option<OwnedFd>)>,
}

impl Publication {
    /// Checks that each socket is of its port's kind, and listens where connections are to be served.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        for (rule, socket) in &self.ports {
            if !rule.is_translated() && rule.protocol == Protocol::Sctp {
                return Err(Failure {
                    what: format!(
                        "port {}/sctp of {} cannot be forwarded to {}: SCTP passes between addresses of one family only",
                        rule.host_port, rule.host_ip, rule.target
                    ),
                    kind: FailureKind::Unsupported,
                });
            }
            let Some(socket) = socket else { continue };
            let wrong = |errno: Errno| Failure {
                what: format!("the socket of port {}/{}: {errno}", rule.host_port, rule.protocol),
                kind: FailureKind::Protocol,
            };
            let kind = match rule.protocol {
                Protocol::Tcp => Some(SocketType::STREAM),
                Protocol::Udp => Some(SocketType::DGRAM),
                Protocol::Sctp => None,
            };
            let is = sockopt::socket_type(socket).map_err(wrong)?;
            if kind.is_some_and(|kind| kind != is) {
                return Err(wrong(Errno::PROTOTYPE));
            }
            if rule.is_forwarded() && rule.protocol == Protocol::Tcp {
                sys::fd::set_nonblocking(socket.as_fd(), true).map_err(wrong)?;
                // Connections of an earlier owner that linger do not count; who listens beside us still does.
                sockopt::set_socket_reuseaddr(socket, true).map_err(wrong)?;
                rustix::net::listen(socket, BACKLOG).map_err(wrong)?;
            }
        }
        Ok(())
    }

    pub(crate) fn rules(&self) -> impl Iterator<Item = &PortRule> {
        self.ports.iter().map(|(rule, _)| rule)
    }
}

impl Ports {
    /// The rules of an endpoint.
    pub(crate) fn rules(&self, endpoint: EndpointId) -> Vec<PortRule> {
        let ports = self.endpoints.get(&endpoint).map(Vec::as_slice).unwrap_or_default();
        ports.iter().map(|(rule, _)| rule.clone()).collect()
    }

    /// Endpoints with ports.
    pub(crate) fn endpoints(&self) -> Vec<EndpointId> {
        self.endpoints.keys().copied().collect()
    }

    /// Whether every port of an endpoint is held.
    pub(crate) fn is_complete(&self, endpoint: EndpointId) -> bool {
        let ports = self.endpoints.get(&endpoint).map(Vec::as_slice).unwrap_or_default();
        ports.iter().all(|(_, held)| !matches!(held, Held::Nothing))
    }

    /// Replaces the ports of an endpoint. Sockets of equal rules stay when none came along.
    pub(crate) fn put(&mut self, poller: &Poller, publication: Publication) -> Result<(), Errno> {
        let Publication { endpoint, ports } = publication;
        let mut old = self.endpoints.remove(&endpoint).unwrap_or_default();
        let mut new = Vec::with_capacity(ports.len());
        let mut result = Ok(());
        for (rule, socket) in ports {
            let held = match socket {
                Some(socket) => match self.open(poller, &rule, socket) {
                    Ok(held) => held,
                    Err(errno) => {
                        result = Err(errno);
                        Held::Nothing
                    }
                },
                None => match old.iter().position(|(other, _)| *other == rule) {
                    Some(at) => old.swap_remove(at).1,
                    None => Held::Nothing,
                },
            };
            new.push((rule, held));
        }
        for (_, held) in old {
            self.close(held);
        }
        if !new.is_empty() {
            self.endpoints.insert(endpoint, new);
        }
        result
    }

    fn open(&mut self, poller: &Poller, rule: &PortRule, socket: OwnedFd) -> Result<Held, Errno> {
        if !rule.is_forwarded() {
            return Ok(Held::Reserved { _socket: socket });
        }
        let target = SocketAddr::new(rule.target, rule.target_port);
        match rule.protocol {
            Protocol::Tcp => {
                let number = poller.fresh();
                let mut socket = Watched::new(socket, Token::new(Kind::PortListener, number));
                socket.want(poller, Interest::READ)?;
                self.listeners.insert(number, Listener { socket, target, connections: 0 });
                Ok(Held::Connections(number))
            }
            Protocol::Udp => self.sessions.open(poller, socket, target).map(Held::Datagrams),
            Protocol::Sctp => Err(Errno::PROTONOSUPPORT),
        }
    }

    fn close(&mut self, held: Held) {
        match held {
            Held::Nothing | Held::Reserved { .. } => {}
            Held::Connections(number) => {
                self.listeners.remove(&number);
                self.relays.end_port(number);
            }
            Held::Datagrams(number) => self.sessions.close(number),
        }
    }

    /// Takes all ports of an endpoint back, with listeners, connections and sessions.
    pub(crate) fn remove(&mut self, endpoint: EndpointId) {
        for (_, held) in self.endpoints.remove(&endpoint).unwrap_or_default() {
            self.close(held);
        }
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        let paused = self.paused.as_ref().map(|(until, _)| *until);
        [self.relays.next_due(), self.sessions.next_due(), paused].into_iter().flatten().min()
    }

    pub(crate) fn on_time(&mut self, poller: &Poller, now: Time) {
        for port in self.relays.on_time(now) {
            self.ended(port);
        }
        self.sessions.on_time(now);
        if let Some((_, waiting)) = self.paused.take_if(|(until, _)| *until <= now) {
            for listener in waiting {
                if let Some(listener) = self.listeners.get_mut(&listener) {
                    let _ = listener.socket.want(poller, Interest::READ);
                }
            }
        }
    }

    /// Connections to a port.
    pub(crate) fn on_listener(&mut self, poller: &Poller, now: Time, number: u64) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get_mut(&number) else { return };
            match rustix::net::accept_with(&listener.socket.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(client) if listener.connections >= MAX_OF_PORT => {
                    reset(&client);
                    self.relays.passed.refused += 1;
                }
                Ok(client) => {
                    if self.relays.begin(poller, now, number, client, listener.target) {
                        listener.connections += 1;
                    }
                }
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                    let _ = listener.socket.want(poller, Interest::NONE);
                    self.paused.get_or_insert_with(|| (now + PAUSE, Vec::new())).1.push(number);
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// An end of a connection is ready.
    pub(crate) fn on_relay(&mut self, poller: &Poller, ready: Ready) {
        if let Some(port) = self.relays.on_ready(poller, ready) {
            self.ended(port);
        }
    }

    fn ended(&mut self, port: u64) {
        if let Some(listener) = self.listeners.get_mut(&port) {
            listener.connections = listener.connections.saturating_sub(1);
        }
    }

    pub(crate) fn status(&self) -> ForwarderStatus {
        let held = || self.endpoints.values().flatten().map(|(_, held)| held);
        let (relays, sessions) = (self.relays.passed, self.sessions.passed);
        ForwarderStatus {
            ports: held().filter(|held| matches!(held, Held::Connections(_) | Held::Datagrams(_))).count() as u64,
            reserved: held().filter(|held| matches!(held, Held::Reserved { .. })).count() as u64,
            connections: self.relays.len() as u64,
            sessions: self.sessions.len() as u64,
            accepted: relays.accepted + sessions.accepted,
            refused: relays.refused + sessions.refused,
            bytes_in: relays.bytes_in + sessions.bytes_in,
            bytes_out: relays.bytes_out + sessions.bytes_out,
        }
    }
}
