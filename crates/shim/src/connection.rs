//! One control connection: requests in, responses and events out, never blocking.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use launch::{ReplyFrame, RequestFrame};
use sys::Errno;
use sys::socket::FdSocket;

use crate::poller::{Interest, Poller, Token};

/// Messages kept for a peer that does not read. One that lets more pile up is cut off: it will
/// connect again and ask for the state.
const MAX_QUEUED: usize = 256;

/// A connected daemon.
pub(crate) struct Connection {
    pub(crate) id: u32,
    socket: FdSocket,
    queue: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    broken: bool,
}

/// A request and what came with it.
pub(crate) struct Incoming {
    pub(crate) frame: RequestFrame,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Connection {
    pub(crate) fn new(id: u32, socket: FdSocket, poller: &Poller) -> Result<Self, Errno> {
        socket.set_nonblocking(true)?;
        poller.add(socket.as_fd(), Token::Connection(id), Interest::READ)?;
        Ok(Self { id, socket, queue: VecDeque::new(), broken: false })
    }

    /// The next request; `None` when there is none for now. After it [`Connection::is_broken`] tells
    /// whether there will ever be another.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Option<Incoming> {
        let received = match self.socket.recv(buffer) {
            Ok(received) if received.len > 0 => received,
            Err(Errno::AGAIN) => return None,
            // A foreign, overlong or ended conversation: nothing after it can be trusted.
            Ok(_) | Err(_) => {
                self.broken = true;
                return None;
            }
        };
        match RequestFrame::decode(&buffer[..received.len]) {
            Ok(frame) => Some(Incoming { frame, fds: received.fds }),
            Err(_) => {
                self.broken = true;
                None
            }
        }
    }

    pub(crate) fn send(&mut self, frame: &ReplyFrame, fd: Option<OwnedFd>, poller: &Poller) {
        let Ok(bytes) = frame.encode() else {
            self.broken = true;
            return;
        };
        self.queue.push_back((bytes, fd));
        self.flush(poller);
    }

    /// Sends what the socket takes.
    pub(crate) fn flush(&mut self, poller: &Poller) {
        let waited = self.queue.len() > 1;
        while let Some((bytes, fd)) = self.queue.front() {
            let fds: Vec<BorrowedFd<'_>> = fd.iter().map(AsFd::as_fd).collect();
            match self.socket.send(bytes, &fds) {
                Ok(()) => {
                    self.queue.pop_front();
                }
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.broken = true;
                    return;
                }
            }
        }
        if self.queue.len() > MAX_QUEUED {
            self.broken = true;
        }
        if waited || !self.queue.is_empty() {
            let interest = Interest { read: true, write: !self.queue.is_empty() };
            if poller.modify(self.socket.as_fd(), Token::Connection(self.id), interest).is_err() {
                self.broken = true;
            }
        }
    }

    /// The peer is gone or beyond understanding.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Everything has reached the socket.
    pub(crate) fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }
}
