//! Readiness of descriptors by epoll(7), level-triggered, each known by a token of ours.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use sys::Errno;

/// Milliseconds of a clock that never jumps.
pub(crate) type Time = u64;

/// The present time.
pub(crate) fn now() -> Time {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let ms = time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}

/// What a descriptor is to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The listening control socket, and the watch over its file.
    Listener = 1,
    SocketFile,
    /// A daemon's connection.
    Control,
    /// A monitor of the firewall, by its index.
    Rules,
    /// A resolver's sockets, and connections to it.
    ResolverDatagram,
    ResolverListener,
    ResolverStream,
    /// A socket to a name server.
    Upstream,
    /// A published port's socket.
    PortListener,
    PortDatagram,
    /// The two ends of a relayed connection.
    RelayClient,
    RelayTarget,
    /// A socket to a container for one client's datagrams.
    Session,
}

const KINDS: [Kind; 13] = [
    Kind::Listener,
    Kind::SocketFile,
    Kind::Control,
    Kind::Rules,
    Kind::ResolverDatagram,
    Kind::ResolverListener,
    Kind::ResolverStream,
    Kind::Upstream,
    Kind::PortListener,
    Kind::PortDatagram,
    Kind::RelayClient,
    Kind::RelayTarget,
    Kind::Session,
];

/// A descriptor's kind and number. Numbers are never used twice, so that an event that was already fetched when its owner
/// went meets nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
}

impl Token {
    pub(crate) fn new(kind: Kind, number: u64) -> Self {
        Self { kind, number }
    }

    fn pack(self) -> u64 {
        u64::from(self.kind as u8) << 56 | self.number & (u64::MAX >> 8)
    }

    fn unpack(data: u64) -> Option<Self> {
        let kind = KINDS.into_iter().find(|kind| u64::from(*kind as u8) == data >> 56)?;
        Some(Self { kind, number: data & (u64::MAX >> 8) })
    }
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    pub(crate) const NONE: Self = Self { read: false, write: false };
    pub(crate) const READ: Self = Self { read: true, write: false };
    pub(crate) const WRITE: Self = Self { read: false, write: true };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.read);
        flags.set(EventFlags::OUT, self.write);
        flags
    }
}

/// What is there. The end of a connection or an error is both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) token: Token,
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// An error, or both directions are closed.
    pub(crate) broken: bool,
}

/// The epoll instance, and the numbers of what is watched by it.
pub(crate) struct Poller {
    epoll: OwnedFd,
    next: std::cell::Cell<u64>,
}

impl Poller {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, next: std::cell::Cell::new(0) })
    }

    /// A number never given before.
    pub(crate) fn fresh(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token.pack()), interest.flags())
    }

    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits until `deadline`, for ever without one.
    pub(crate) fn wait(&self, deadline: Option<Time>, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        ready.clear();
        let timeout = deadline.map(|deadline| {
            // Rounded up, so that what is due is due when we wake.
            let left = deadline.saturating_sub(now()).min(3_600_000);
            let left = i64::try_from(left).unwrap_or(0);
            rustix::time::Timespec { tv_sec: left / 1000, tv_nsec: left % 1000 * 1_000_000 }
        });
        let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; 128];
        let (events, _) = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(()),
            other => other?,
        };
        for event in events.iter() {
            let flags = event.flags;
            let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            if let Some(token) = Token::unpack(event.data.u64()) {
                ready.push(Ready {
                    token,
                    read: broken || flags.contains(EventFlags::IN),
                    write: broken || flags.contains(EventFlags::OUT),
                    broken,
                });
            }
        }
        Ok(())
    }
}

/// A descriptor and what it is watched for. Closing it takes it out of the poller.
pub(crate) struct Watched {
    pub(crate) fd: OwnedFd,
    token: Token,
    /// `None`: not in the poller at all.
    interest: Option<Interest>,
}

impl Watched {
    /// Not watched for anything yet.
    pub(crate) fn new(fd: OwnedFd, token: Token) -> Self {
        Self { fd, token, interest: None }
    }

    /// Watches for exactly this; for nothing takes it out, as even an idle entry reports that the other end has gone.
    pub(crate) fn want(&mut self, poller: &Poller, interest: Interest) -> Result<(), Errno> {
        self.set(poller, (interest != Interest::NONE).then_some(interest))
    }

    /// Watches for exactly this, and in any case for the end of the connection.
    pub(crate) fn want_or_end(&mut self, poller: &Poller, interest: Interest) -> Result<(), Errno> {
        self.set(poller, Some(interest))
    }

    fn set(&mut self, poller: &Poller, interest: Option<Interest>) -> Result<(), Errno> {
        let fd = self.fd.as_fd();
        match (self.interest, interest) {
            (old, new) if old == new => return Ok(()),
            (_, None) => drop(epoll::delete(&poller.epoll, fd)),
            (None, Some(new)) => poller.add(fd, self.token, new)?,
            (Some(_), Some(new)) => {
                epoll::modify(&poller.epoll, fd, EventData::new_u64(self.token.pack()), new.flags())?;
            }
        }
        self.interest = interest;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_packing() {
        for kind in KINDS {
            for number in [0, 1, u64::MAX >> 8] {
                let token = Token::new(kind, number);
                assert_eq!(Token::unpack(token.pack()), Some(token));
            }
        }
        assert_eq!(Token::unpack(0), None);
    }
}
