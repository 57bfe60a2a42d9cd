//! The resolvers of all containers: sockets in their namespaces, answers from names, and what is passed on.
//!
//! Whatever comes from a container is bounded: datagrams per turn, connections, questions on their way, bytes waiting to
//! be read by it. A container that exceeds its share is refused; the others do not notice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use dns::cache::{Cache, Key};
use dns::forward::{Action, Forwarder, NotTaken, Outcome};
use dns::{Found, Query, Unanswerable, Zones, rcode, rtype};
use rustix::net::{SocketFlags, SocketType};
use sys::Errno;
use sys::datagram::{Receiver, Sender};
use types::ContainerId;

use super::host_servers::{Groups, HostServers, Servers};
use super::poller::{Interest, Kind, Poller, Time, Token, Watched};
use super::stream::{Stream, Taken};
use super::upstream::Sockets;
use crate::wire::{Sandbox, SandboxStatus, Upstreams};

/// Datagrams received at once.
const BATCH: usize = 32;
/// Batches of one container before the others have their turn.
const BATCHES: usize = 4;
/// Longest query.
const MAX_QUERY: usize = 4096;
/// Connections accepted of one container before the others have their turn.
const ACCEPTS: usize = 32;
/// Connections of one container. Another one takes the place of that which has been idle longest.
const MAX_STREAMS: usize = 64;
/// Connections of all.
const MAX_ALL_STREAMS: usize = 4096;
/// Questions of one container on their way.
const MAX_WAITING: usize = 256;
/// How often connections are looked through for idle ones.
const SWEEP: Time = 1000;
/// How long nothing is accepted when descriptors have run out.
const PAUSE: Time = 100;

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Via {
    Datagram(SocketAddr),
    Stream(u64),
}

/// A client that waits for an upstream.
pub(crate) struct Waiter {
    resolver: u64,
    query: Query,
    via: Via,
}

/// One container's resolver.
struct Resolver {
    id: ContainerId,
    upstreams: Upstreams,
    /// Of a list of its own.
    servers: Servers,
    ndots_set: bool,
    datagrams: Option<Watched>,
    listener: Option<Watched>,
    waiting: usize,
    streams: usize,
    counts: Counts,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    queries: u64,
    local: u64,
    cached: u64,
    forwarded: u64,
    failed: u64,
    dropped: u64,
}

/// All resolvers.
pub(crate) struct Resolvers {
    pub(crate) zones: Zones,
    resolvers: HashMap<u64, Resolver>,
    by_id: HashMap<ContainerId, u64>,
    streams: HashMap<u64, Stream>,
    forwarder: Forwarder<Waiter>,
    sockets: Sockets,
    cache: Cache,
    host: HostServers,
    groups: Groups,
    receiver: Receiver,
    sender: Sender,
    /// The answer at hand.
    out: Vec<u8>,
    actions: Vec<Action<Waiter>>,
    /// They are being done: what is added meanwhile is done by the same loop.
    acting: bool,
    swept: Time,
    /// Until when nothing is accepted, and whose sockets wait for it.
    paused: Option<(Time, Vec<u64>)>,
}

/// What became of a query.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handled {
    /// The answer is in `out`.
    Answered,
    /// It comes later, or never.
    Waits,
}

/// Ids of queries to upstreams.
fn random_id() -> u16 {
    let mut bytes = [0u8; 2];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}

impl Resolvers {
    pub(crate) fn new(resolv_conf: std::path::PathBuf) -> Self {
        Self {
            zones: Zones::default(),
            resolvers: HashMap::new(),
            by_id: HashMap::new(),
            streams: HashMap::new(),
            forwarder: Forwarder::new(random_id),
            sockets: Sockets::default(),
            cache: Cache::default(),
            host: HostServers::new(resolv_conf),
            groups: Groups::default(),
            receiver: Receiver::new(BATCH, MAX_QUERY),
            sender: Sender::new(BATCH),
            out: Vec::new(),
            actions: Vec::new(),
            acting: false,
            swept: 0,
            paused: None,
        }
    }

    /// Checks that two descriptors are a resolver's sockets, and makes them ready.
    pub(crate) fn check_sockets(datagrams: &OwnedFd, listener: &OwnedFd) -> Result<(), Errno> {
        use rustix::net::sockopt::socket_type;
        if socket_type(datagrams)? != SocketType::DGRAM || socket_type(listener)? != SocketType::STREAM {
            return Err(Errno::PROTOTYPE);
        }
        sys::fd::set_nonblocking(datagrams.as_fd(), true)?;
        sys::fd::set_nonblocking(listener.as_fd(), true)?;
        rustix::net::listen(listener, 64)
    }

    /// Puts a container's resolver, or changes it. Without sockets those held stay.
    pub(crate) fn put(
        &mut self,
        poller: &Poller,
        sandbox: &Sandbox,
        sockets: Option<[OwnedFd; 2]>,
    ) -> Result<(), Errno> {
        let number = *self.by_id.entry(sandbox.id).or_insert_with(|| poller.fresh());
        let servers = match &sandbox.upstreams {
            Upstreams::Host => Servers::default(),
            Upstreams::List(list) => self.groups.of_addresses(list),
        };
        let resolver = self.resolvers.entry(number).or_insert_with(|| Resolver {
            id: sandbox.id,
            upstreams: sandbox.upstreams.clone(),
            servers: Servers::default(),
            ndots_set: false,
            datagrams: None,
            listener: None,
            waiting: 0,
            streams: 0,
            counts: Counts::default(),
        });
        resolver.upstreams = sandbox.upstreams.clone();
        resolver.servers = servers;
        resolver.ndots_set = sandbox.ndots_set;
        let links = sandbox.links.iter();
        let links = links.map(|link| dns::Link { alias: &link.alias, network: link.network, name: &link.name });
        self.zones.set_links(sandbox.id, links);
        if let Some([datagrams, listener]) = sockets {
            // Gone before the new ones are watched, whose numbers are the same.
            (resolver.datagrams, resolver.listener) = (None, None);
            let mut datagrams = Watched::new(datagrams, Token::new(Kind::ResolverDatagram, number));
            let mut listener = Watched::new(listener, Token::new(Kind::ResolverListener, number));
            datagrams.want(poller, Interest::READ)?;
            listener.want(poller, Interest::READ)?;
            (resolver.datagrams, resolver.listener) = (Some(datagrams), Some(listener));
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, id: ContainerId) {
        let Some(number) = self.by_id.remove(&id) else { return };
        self.resolvers.remove(&number);
        self.streams.retain(|_, stream| stream.resolver != number);
        self.zones.set_links(id, []);
    }

    /// Containers with a resolver.
    pub(crate) fn ids(&self) -> Vec<ContainerId> {
        self.by_id.keys().copied().collect()
    }

    /// Whether the sockets of a container are held.
    pub(crate) fn is_served(&self, id: ContainerId) -> bool {
        self.by_id.get(&id).and_then(|number| self.resolvers.get(number)).is_some_and(|it| it.datagrams.is_some())
    }

    pub(crate) fn status(&self) -> Vec<SandboxStatus> {
        let mut all: Vec<SandboxStatus> = self
            .resolvers
            .values()
            .map(|resolver| SandboxStatus {
                id: resolver.id,
                served: resolver.datagrams.is_some(),
                queries: resolver.counts.queries,
                local: resolver.counts.local,
                cached: resolver.counts.cached,
                forwarded: resolver.counts.forwarded,
                failed: resolver.counts.failed,
                dropped: resolver.counts.dropped,
                connections: resolver.streams as u64,
            })
            .collect();
        all.sort_by_key(|status| status.id);
        all
    }

    /// Entries and bytes.
    pub(crate) fn cache_size(&self) -> (u64, u64) {
        (self.cache.len() as u64, self.cache.bytes() as u64)
    }

    /// When [`Resolvers::on_time`] has something to do.
    pub(crate) fn next_due(&self) -> Option<Time> {
        let sweep = (!self.streams.is_empty()).then_some(self.swept + SWEEP);
        let paused = self.paused.as_ref().map(|(until, _)| *until);
        [self.forwarder.next_due(), sweep, paused].into_iter().flatten().min()
    }

    pub(crate) fn on_time(&mut self, poller: &Poller, now: Time) {
        self.forwarder.on_time(now, &mut self.actions);
        self.act(poller, now);
        if let Some((_, waiting)) = self.paused.take_if(|(until, _)| *until <= now) {
            for number in waiting {
                let listener = self.resolvers.get_mut(&number).and_then(|resolver| resolver.listener.as_mut());
                if let Some(listener) = listener {
                    let _ = listener.want(poller, Interest::READ);
                }
            }
        }
        if now >= self.swept + SWEEP {
            self.swept = now;
            let idle: Vec<u64> =
                self.streams.iter().filter(|(_, stream)| stream.is_idle(now)).map(|(number, _)| *number).collect();
            for number in idle {
                self.close(number);
            }
        }
    }

    /// Datagrams of a container.
    pub(crate) fn on_datagrams(&mut self, poller: &Poller, now: Time, number: u64) {
        for _ in 0..BATCHES {
            let Some(socket) = self.resolvers.get(&number).and_then(|it| it.datagrams.as_ref()) else { return };
            let count = match self.receiver.receive(&socket.fd) {
                Ok(count) => count,
                Err(_) => return,
            };
            let receiver = std::mem::replace(&mut self.receiver, Receiver::new(0, 1));
            for index in 0..count {
                let Some(datagram) = receiver.get(index) else { break };
                let Some(from) = datagram.from.filter(|_| !datagram.cut) else {
                    self.count(number, |counts| {
                        counts.queries += 1;
                        counts.dropped += 1;
                    });
                    continue;
                };
                if self.handle(poller, now, number, datagram.bytes, Via::Datagram(from)) == Handled::Answered {
                    self.sender.push(&self.out, &from, None);
                }
            }
            self.receiver = receiver;
            self.flush(number);
            if count < BATCH {
                return;
            }
        }
    }

    fn flush(&mut self, number: u64) {
        let Some(resolver) = self.resolvers.get_mut(&number) else { return };
        let Some(socket) = &resolver.datagrams else { return };
        if !self.sender.is_empty() {
            let wanted = self.sender.len();
            let sent = self.sender.flush(&socket.fd);
            resolver.counts.dropped += (wanted - sent) as u64;
        }
    }

    fn count(&mut self, number: u64, change: impl FnOnce(&mut Counts)) {
        if let Some(resolver) = self.resolvers.get_mut(&number) {
            change(&mut resolver.counts);
        }
    }

    /// Answers a query, or sees to it that it will be.
    fn handle(&mut self, poller: &Poller, now: Time, number: u64, bytes: &[u8], via: Via) -> Handled {
        let Some(resolver) = self.resolvers.get_mut(&number) else { return Handled::Waits };
        resolver.counts.queries += 1;
        let query = match Query::parse(bytes) {
            Ok(query) => query,
            Err(Unanswerable::Ignore) => {
                resolver.counts.dropped += 1;
                return Handled::Waits;
            }
            Err(Unanswerable::Refuse(refusal)) => {
                resolver.counts.failed += 1;
                refusal.write(&mut self.out);
                return Handled::Answered;
            }
        };
        let limit = limit(&query, via);
        if self.zones.answer(resolver.id, &query, limit, &mut self.out) == Found::Answered {
            resolver.counts.local += 1;
            return Handled::Answered;
        }
        let of_address = matches!(query.qtype, rtype::A | rtype::AAAA);
        if resolver.ndots_set && of_address && query.name.is_single() {
            resolver.counts.local += 1;
            dns::answer::empty(&query, rcode::NOERROR, &mut self.out);
            return Handled::Answered;
        }
        // A whole zone does not fit into one message, and an internal network's containers ask nobody outside.
        let refused = match query.qtype {
            rtype::AXFR | rtype::IXFR => Some(rcode::REFUSED),
            _ if !self.zones.leads_out(resolver.id) => Some(rcode::SERVFAIL),
            _ => None,
        };
        if let Some(code) = refused {
            resolver.counts.failed += 1;
            dns::answer::empty(&query, code, &mut self.out);
            return Handled::Answered;
        }
        let servers = match &resolver.upstreams {
            Upstreams::Host => self.host.get(now, &self.groups),
            Upstreams::List(_) => &resolver.servers,
        };
        let key = Key::new(servers.group, &query);
        if let Some((reply, age)) = self.cache.get(&key, now / 1000) {
            resolver.counts.cached += 1;
            reply.write(&query, age, limit, &mut self.out);
            return Handled::Answered;
        }
        let taken = if resolver.waiting < MAX_WAITING {
            let waiter = Waiter { resolver: number, query, via };
            self.forwarder.ask(now, key.bytes(), &query, &servers.list, waiter, &mut self.actions)
        } else {
            Err(NotTaken::Full)
        };
        if let Err(why) = taken {
            resolver.counts.failed += 1;
            let code = if why == NotTaken::Full { rcode::REFUSED } else { rcode::SERVFAIL };
            dns::answer::empty(&query, code, &mut self.out);
            return Handled::Answered;
        }
        resolver.waiting += 1;
        if let Via::Stream(stream) = via
            && let Some(stream) = self.streams.get_mut(&stream)
        {
            stream.waiting += 1;
        }
        self.act(poller, now);
        Handled::Waits
    }

    /// Does what the forwarder wants done, and what follows from that.
    fn act(&mut self, poller: &Poller, now: Time) {
        if std::mem::replace(&mut self.acting, true) {
            return;
        }
        while let Some(action) = pop_front(&mut self.actions) {
            match action {
                Action::Datagram { socket, server, bytes } => {
                    if self.sockets.send(poller, socket, server, &bytes).is_err() {
                        self.forwarder.on_failure(now, socket, &mut self.actions);
                    }
                }
                Action::Stream { socket, server, bytes } => {
                    if self.sockets.connect(poller, socket, server, bytes).is_err() {
                        self.forwarder.on_failure(now, socket, &mut self.actions);
                    }
                }
                Action::Close { question } => self.sockets.close(question),
                Action::Answer { key, waiters, outcome } => {
                    if let Outcome::Reply(reply) = &outcome {
                        self.cache.put(&key, reply, now / 1000);
                    }
                    for waiter in waiters {
                        self.tell(poller, now, &waiter, &outcome);
                    }
                }
            }
        }
        self.acting = false;
    }

    fn tell(&mut self, poller: &Poller, now: Time, waiter: &Waiter, outcome: &Outcome) {
        let Some(resolver) = self.resolvers.get_mut(&waiter.resolver) else { return };
        resolver.waiting = resolver.waiting.saturating_sub(1);
        let mut out = Vec::new();
        match outcome {
            Outcome::Reply(reply) => {
                resolver.counts.forwarded += 1;
                Rc::as_ref(reply).write(&waiter.query, 0, limit(&waiter.query, waiter.via), &mut out);
            }
            Outcome::Failed => {
                resolver.counts.failed += 1;
                dns::answer::empty(&waiter.query, rcode::SERVFAIL, &mut out);
            }
        }
        match waiter.via {
            Via::Datagram(to) => {
                let sent = resolver
                    .datagrams
                    .as_ref()
                    .map(|socket| rustix::net::sendto(&socket.fd, &out, rustix::net::SendFlags::DONTWAIT, &to));
                if !matches!(sent, Some(Ok(_))) {
                    resolver.counts.dropped += 1;
                }
            }
            Via::Stream(number) => {
                let Some(stream) = self.streams.get_mut(&number) else {
                    resolver.counts.dropped += 1;
                    return;
                };
                stream.waiting = stream.waiting.saturating_sub(1);
                stream.push(&out, now);
                self.progress(poller, now, number);
            }
        }
    }

    /// Something came from a name server.
    pub(crate) fn on_upstream(&mut self, poller: &Poller, now: Time, number: u64, write: bool) {
        let (forwarder, actions) = (&mut self.forwarder, &mut self.actions);
        self.sockets.on_ready(poller, number, write, |socket, event| match event {
            Ok(bytes) => forwarder.on_message(now, socket, bytes, actions),
            Err(_) => forwarder.on_failure(now, socket, actions),
        });
        self.act(poller, now);
    }

    /// Connections to a container's resolver.
    pub(crate) fn on_listener(&mut self, poller: &Poller, now: Time, number: u64) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.resolvers.get_mut(&number).and_then(|it| it.listener.as_mut()) else { return };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::accept_with(&listener.fd, flags) {
                Ok(socket) => self.begin(poller, now, number, socket),
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                    let _ = listener.want(poller, Interest::NONE);
                    self.paused.get_or_insert_with(|| (now + PAUSE, Vec::new())).1.push(number);
                    return;
                }
                Err(_) => return,
            }
        }
    }

    fn begin(&mut self, poller: &Poller, now: Time, resolver: u64, socket: OwnedFd) {
        let all_full = self.streams.len() >= MAX_ALL_STREAMS;
        let Some(count) = self.resolvers.get(&resolver).map(|it| it.streams) else { return };
        if count >= MAX_STREAMS || all_full {
            let oldest = self
                .streams
                .iter()
                .filter(|(_, stream)| all_full || stream.resolver == resolver)
                .min_by_key(|(_, stream)| (stream.waiting > 0, stream.active));
            if let Some(number) = oldest.map(|(number, _)| *number) {
                self.close(number);
            }
        }
        let number = poller.fresh();
        let mut watched = Watched::new(socket, Token::new(Kind::ResolverStream, number));
        if watched.want(poller, Interest::READ).is_err() {
            return;
        }
        if self.streams.is_empty() {
            self.swept = now;
        }
        self.streams.insert(number, Stream::new(resolver, watched, now));
        if let Some(resolver) = self.resolvers.get_mut(&resolver) {
            resolver.streams += 1;
        }
    }

    fn close(&mut self, number: u64) {
        if let Some(stream) = self.streams.remove(&number)
            && let Some(resolver) = self.resolvers.get_mut(&stream.resolver)
        {
            resolver.streams = resolver.streams.saturating_sub(1);
        }
    }

    /// A connection has bytes, or room for some.
    pub(crate) fn on_stream(&mut self, poller: &Poller, now: Time, number: u64, read: bool, write: bool) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if write {
            stream.flush(now);
        }
        if read {
            stream.fill(now);
        }
        self.progress(poller, now, number);
    }

    /// Answers the queries that have come in whole, as long as the client takes the answers.
    fn progress(&mut self, poller: &Poller, now: Time, number: u64) {
        loop {
            let Some(stream) = self.streams.get_mut(&number) else { return };
            let resolver = stream.resolver;
            match stream.take() {
                Taken::Query(bytes) => {
                    if self.handle(poller, now, resolver, &bytes, Via::Stream(number)) == Handled::Answered
                        && let Some(stream) = self.streams.get_mut(&number)
                    {
                        stream.push(&self.out, now);
                    }
                }
                Taken::Nothing => {
                    if stream.settle(poller).is_err() {
                        self.close(number);
                    }
                    return;
                }
                Taken::Over => return self.close(number),
            }
        }
    }
}

fn limit(query: &Query, via: Via) -> usize {
    match via {
        Via::Datagram(_) => query.datagram_limit(),
        Via::Stream(_) => dns::query::MAX_STREAM,
    }
}

fn pop_front<T>(items: &mut Vec<T>) -> Option<T> {
    if items.is_empty() { None } else { Some(items.remove(0)) }
}
