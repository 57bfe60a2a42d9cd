//! Readiness of descriptors by epoll(7), level-triggered, each known by a token of ours.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use sys::Errno;

/// What a descriptor is to the server. Ids are never used twice, so that an event that was already
/// fetched when its owner went meets nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A child ended.
    Signal,
    /// The zygote has answered or gone.
    Zygote,
    Listener,
    Connection(u32),
    /// Standard output or the terminal of a task.
    Stdout(u32),
    Stderr(u32),
    /// The write end of a task's standard input.
    Stdin(u32),
    /// The status socket of a starting task.
    Status(u32),
    /// An attached client of a task.
    Client {
        task: u32,
        client: u32,
    },
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, task, client) = match self {
            Self::Signal => (0, 0, 0),
            Self::Zygote => (0, 0, 1),
            Self::Listener => (1, 0, 0),
            Self::Connection(id) => (2, 0, id),
            Self::Stdout(task) => (3, task, 0),
            Self::Stderr(task) => (4, task, 0),
            Self::Stdin(task) => (5, task, 0),
            Self::Status(task) => (6, task, 0),
            Self::Client { task, client } => (7, task, client),
        };
        (kind << 61) | (u64::from(task) & 0x1fff_ffff) << 32 | u64::from(client)
    }

    fn unpack(data: u64) -> Self {
        let task = u32::try_from(data >> 32 & 0x1fff_ffff).unwrap_or(0);
        let client = u32::try_from(data & 0xffff_ffff).unwrap_or(0);
        match data >> 61 {
            0 if client == 1 => Self::Zygote,
            0 => Self::Signal,
            1 => Self::Listener,
            2 => Self::Connection(client),
            3 => Self::Stdout(task),
            4 => Self::Stderr(task),
            5 => Self::Stdin(task),
            6 => Self::Status(task),
            _ => Self::Client { task, client },
        }
    }
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    pub(crate) const READ: Self = Self { read: true, write: false };
    pub(crate) const WRITE: Self = Self { read: false, write: true };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.read);
        flags.set(EventFlags::OUT, self.write);
        flags
    }
}

/// What is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) token: Token,
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// Both directions of a connection are closed, or the other end of a pipe.
    pub(crate) hangup: bool,
}

/// The epoll instance.
pub(crate) struct Poller(OwnedFd);

impl Poller {
    pub(crate) fn new() -> Result<Self, Errno> {
        epoll::create(epoll::CreateFlags::CLOEXEC).map(Self)
    }

    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> Result<(), Errno> {
        epoll::add(&self.0, fd, EventData::new_u64(token.pack()), interest.flags())
    }

    pub(crate) fn modify(&self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> Result<(), Errno> {
        epoll::modify(&self.0, fd, EventData::new_u64(token.pack()), interest.flags())
    }

    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits for at most `timeout_ns`, for ever without one; with `rest` at the least cost in memory.
    pub(crate) fn wait(&self, timeout_ns: Option<i64>, rest: bool, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        let mut timeout = timeout_ns.map(|ns| {
            let ns = ns.max(0);
            rustix::time::Timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 }
        });
        let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; 32];
        ready.clear();
        if rest {
            match sys::memory::rest(self.0.as_fd(), timeout.as_ref()) {
                Err(Errno::INTR) => return Ok(()),
                other => other?,
            }
            timeout = Some(rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let (events, _) = match epoll::wait(&self.0, &mut events, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(()),
            other => other?,
        };
        for event in events.iter() {
            let flags = event.flags;
            ready.push(Ready {
                token: Token::unpack(event.data.u64()),
                read: flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR),
                write: flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR),
                hangup: flags.intersects(EventFlags::HUP | EventFlags::ERR),
            });
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

    /// Watches for exactly this; for nothing takes it out, as even an idle entry reports hang-ups.
    pub(crate) fn want(&mut self, poller: &Poller, interest: Interest) -> Result<(), Errno> {
        self.set(poller, (interest != Interest::default()).then_some(interest))
    }

    /// Watches only for the other end going away.
    pub(crate) fn watch_hangup(&mut self, poller: &Poller) -> Result<(), Errno> {
        self.set(poller, Some(Interest::default()))
    }

    fn set(&mut self, poller: &Poller, interest: Option<Interest>) -> Result<(), Errno> {
        let fd = self.fd.as_fd();
        match (self.interest, interest) {
            (old, new) if old == new => return Ok(()),
            (_, None) => poller.remove(fd),
            (None, Some(new)) => poller.add(fd, self.token, new)?,
            (Some(_), Some(new)) => poller.modify(fd, self.token, new)?,
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
        for token in [
            Token::Signal,
            Token::Zygote,
            Token::Listener,
            Token::Connection(u32::MAX),
            Token::Stdout(7),
            Token::Stderr(0x1fff_ffff),
            Token::Stdin(1),
            Token::Status(2),
            Token::Client { task: 0x1fff_ffff, client: u32::MAX },
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
