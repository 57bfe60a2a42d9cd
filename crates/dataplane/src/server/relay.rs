//! Connections that are carried from a published port to a container: bytes go through pipes by splice(2), never through
//! memory of ours, in both directions until each side has ended its own (half-close included).
//!
//! A pipe belongs to a direction only while it holds bytes, so that idle connections cost two descriptors. Peers that are
//! gone without a word are found by keepalive.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags};
use sys::Errno;

use super::poller::{Interest, Kind, Poller, Ready, Time, Token, Watched};

/// Connections of one port.
pub(crate) const MAX_OF_PORT: usize = 2048;
/// Connections of all ports.
const MAX_ALL: usize = 16_384;
/// How long the container may take to answer a connection.
const CONNECTING: Time = 20_000;
/// How often connections are looked through for those.
const SWEEP: Time = 1000;
/// Bytes moved at once: what a pipe holds.
const CHUNK: usize = 64 * 1024;
/// Chunks of one direction before others have their turn.
const CHUNKS: usize = 8;
/// Pipes kept for the next bytes.
const MAX_PIPES: usize = 32;

/// Silence before a peer is asked whether it is there, between questions, and how many may stay unanswered.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 5);

struct Pipe {
    from: OwnedFd,
    to: OwnedFd,
}

/// Bytes from one side to the other.
#[derive(Default)]
struct Direction {
    pipe: Option<Pipe>,
    /// Bytes in the pipe.
    held: usize,
    /// The source has ended, and the destination knows.
    closed: bool,
}

struct Relay {
    port: u64,
    client: Watched,
    target: Watched,
    /// Until when the container has to answer; none once it has.
    connecting: Option<Time>,
    inward: Direction,
    outward: Direction,
}

/// What has passed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Passed {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// All connections.
#[derive(Default)]
pub(crate) struct Relays {
    relays: HashMap<u64, Relay>,
    pipes: Vec<Pipe>,
    swept: Time,
    connecting: usize,
    pub(crate) passed: Passed,
}

impl Relays {
    pub(crate) fn len(&self) -> usize {
        self.relays.len()
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        (self.connecting > 0).then_some(self.swept + SWEEP)
    }

    /// Ends connections that the container does not answer. Gives the ports they came by.
    pub(crate) fn on_time(&mut self, now: Time) -> Vec<u64> {
        if self.connecting == 0 || now < self.swept + SWEEP {
            return Vec::new();
        }
        self.swept = now;
        let late: Vec<u64> = self
            .relays
            .iter()
            .filter(|(_, relay)| relay.connecting.is_some_and(|until| until <= now))
            .map(|(number, _)| *number)
            .collect();
        late.into_iter().filter_map(|number| self.fail(number)).collect()
    }

    /// Takes a connection that came by `port`; whether it was taken.
    pub(crate) fn begin(&mut self, poller: &Poller, now: Time, port: u64, client: OwnedFd, target: SocketAddr) -> bool {
        let relay = if self.relays.len() < MAX_ALL { connect(poller, port, client, target, now) } else { None };
        let Some((number, relay)) = relay else {
            self.passed.refused += 1;
            return false;
        };
        if self.connecting == 0 {
            self.swept = now;
        }
        self.connecting += 1;
        self.passed.accepted += 1;
        self.relays.insert(number, relay);
        true
    }

    /// One of the ends is ready. Gives the port when the connection has ended.
    pub(crate) fn on_ready(&mut self, poller: &Poller, ready: Ready) -> Option<u64> {
        let (number, write) = (ready.token.number, ready.write);
        let relay = self.relays.get_mut(&number)?;
        if relay.connecting.is_some() {
            if !write {
                return None;
            }
            if !matches!(sockopt::socket_error(&relay.target.fd), Ok(Ok(()))) {
                return self.fail(number);
            }
            relay.connecting = None;
            self.connecting -= 1;
        } else if ready.broken {
            // The end of a connection that we have not ended ourselves can only be a broken one.
            let (socket, shut) = match ready.token.kind {
                Kind::RelayClient => (&relay.client.fd, relay.outward.closed),
                _ => (&relay.target.fd, relay.inward.closed),
            };
            if !shut && !matches!(sockopt::socket_error(socket), Ok(Ok(()))) {
                return self.end(number);
            }
        }
        let (pipes, passed) = (&mut self.pipes, &mut self.passed);
        let inward = pump(&relay.client.fd, &relay.target.fd, &mut relay.inward, pipes, &mut passed.bytes_in);
        let outward = pump(&relay.target.fd, &relay.client.fd, &mut relay.outward, pipes, &mut passed.bytes_out);
        let over = relay.inward.closed && relay.outward.closed;
        if over || inward.is_err() || outward.is_err() || relay.settle(poller).is_err() {
            return self.end(number);
        }
        None
    }

    /// The container did not answer.
    fn fail(&mut self, number: u64) -> Option<u64> {
        self.passed.refused += 1;
        if let Some(relay) = self.relays.get(&number) {
            reset(&relay.client.fd);
        }
        self.end(number)
    }

    fn end(&mut self, number: u64) -> Option<u64> {
        let relay = self.relays.remove(&number)?;
        if relay.connecting.is_some() {
            self.connecting -= 1;
        }
        // Pipes with bytes in them go with it.
        for direction in [relay.inward, relay.outward] {
            if let Some(pipe) = direction.pipe.filter(|_| direction.held == 0) {
                give_back(&mut self.pipes, pipe);
            }
        }
        Some(relay.port)
    }

    /// Ends all connections of a port.
    pub(crate) fn end_port(&mut self, port: u64) {
        let all: Vec<u64> =
            self.relays.iter().filter(|(_, relay)| relay.port == port).map(|(number, _)| *number).collect();
        for number in all {
            self.end(number);
        }
        if self.relays.is_empty() {
            self.pipes.clear();
        }
    }
}

/// Makes closing tell the peer that something went wrong rather than that all was said.
pub(crate) fn reset(socket: &OwnedFd) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

fn connect(poller: &Poller, port: u64, client: OwnedFd, target: SocketAddr, now: Time) -> Option<(u64, Relay)> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let made =
        rustix::net::socket_with(family, SocketType::STREAM, flags, None).and_then(
            |socket| match rustix::net::connect(&socket, &target) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
                Err(errno) => Err(errno),
            },
        );
    let Ok(socket) = made else {
        reset(&client);
        return None;
    };
    // It has the port of a socket that shares it with nobody, and may linger when that has gone: whoever publishes the port
    // next must not be kept from it (socket(7), SO_REUSEADDR).
    let _ = sockopt::set_socket_reuseaddr(&client, true);
    for socket in [&client, &socket] {
        let _ = sockopt::set_tcp_nodelay(socket, true);
        let (idle, interval, count) = KEEPALIVE;
        let _ = sockopt::set_socket_keepalive(socket, true);
        let _ = sockopt::set_tcp_keepidle(socket, idle);
        let _ = sockopt::set_tcp_keepintvl(socket, interval);
        let _ = sockopt::set_tcp_keepcnt(socket, count);
    }
    let number = poller.fresh();
    let mut relay = Relay {
        port,
        client: Watched::new(client, Token::new(Kind::RelayClient, number)),
        target: Watched::new(socket, Token::new(Kind::RelayTarget, number)),
        connecting: Some(now + CONNECTING),
        inward: Direction::default(),
        outward: Direction::default(),
    };
    relay.target.want(poller, Interest::WRITE).ok()?;
    Some((number, relay))
}

impl Relay {
    /// Watches each end for what can go on.
    fn settle(&mut self, poller: &Poller) -> Result<(), Errno> {
        let reads = |direction: &Direction| !direction.closed && direction.held == 0;
        let (inward, outward) = (&self.inward, &self.outward);
        let client = Interest { read: reads(inward), write: outward.held > 0 };
        let target = Interest { read: reads(outward), write: inward.held > 0 };
        // One that both sides have ended would report its end for ever.
        if outward.closed {
            self.client.want(poller, client)?;
        } else {
            self.client.want_or_end(poller, client)?;
        }
        if inward.closed { self.target.want(poller, target) } else { self.target.want_or_end(poller, target) }
    }
}

/// Moves what can be moved now.
fn pump(
    from: &OwnedFd,
    to: &OwnedFd,
    direction: &mut Direction,
    pipes: &mut Vec<Pipe>,
    bytes: &mut u64,
) -> Result<(), Errno> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    let mut result = Ok(());
    for _ in 0..CHUNKS {
        if direction.closed {
            break;
        }
        if direction.held > 0 {
            let Some(pipe) = &direction.pipe else { return Err(Errno::PIPE) };
            match rustix::pipe::splice(&pipe.from, None, to, None, direction.held, flags) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(count) => {
                    direction.held = direction.held.saturating_sub(count);
                    *bytes += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            continue;
        }
        let pipe = match direction.pipe.take() {
            Some(pipe) => pipe,
            None => take(pipes)?,
        };
        let moved = rustix::pipe::splice(from, None, &pipe.to, None, CHUNK, flags);
        direction.pipe = Some(pipe);
        match moved {
            Ok(0) => {
                // At once, as nothing wakes us for it later. A peer that is gone already has nothing to be told.
                let _ = rustix::net::shutdown(to, Shutdown::Write);
                direction.closed = true;
            }
            Ok(count) => direction.held = count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(errno) => {
                result = Err(errno);
                break;
            }
        }
    }
    if direction.held == 0
        && let Some(pipe) = direction.pipe.take()
    {
        give_back(pipes, pipe);
    }
    result
}

fn take(pipes: &mut Vec<Pipe>) -> Result<Pipe, Errno> {
    if let Some(pipe) = pipes.pop() {
        return Ok(pipe);
    }
    let (from, to) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    Ok(Pipe { from, to })
}

fn give_back(pipes: &mut Vec<Pipe>, pipe: Pipe) {
    if pipes.len() < MAX_PIPES {
        pipes.push(pipe);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A source that ends just when the others have their turn: nothing wakes for it again.
    #[test]
    fn an_end_is_passed_on_whenever_it_comes() {
        let roomy = || {
            let (from, to) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
            rustix::pipe::fcntl_setpipe_size(&to, 16 * CHUNK).unwrap();
            Pipe { from, to }
        };
        for chunks in 0..=CHUNKS {
            for held in [0, 5] {
                let (source, destination, mut pipes) = (roomy(), roomy(), Vec::new());
                let mut writer = std::fs::File::from(source.to);
                writer.write_all(&vec![1; chunks * CHUNK]).unwrap();
                drop(writer);
                let mut direction = Direction::default();
                if held > 0 {
                    let pipe = take(&mut pipes).unwrap();
                    rustix::io::write(&pipe.to, &vec![1; held]).unwrap();
                    direction = Direction { pipe: Some(pipe), held, closed: false };
                }
                let (mut passed, mut turns) = (0, 0);
                // What settle() waits for is there in each turn: more to read, or what is held.
                while !direction.closed {
                    pump(&source.from, &destination.to, &mut direction, &mut pipes, &mut passed).unwrap();
                    turns += 1;
                    assert!(turns <= 2 * chunks + 2, "{chunks} chunks and {held} bytes");
                }
                assert_eq!(passed, (chunks * CHUNK + held) as u64);
                assert!(direction.pipe.is_none() && direction.held == 0);
            }
        }
    }
}
