//! One daemon's connection: a request in, a response out, never waiting for the daemon.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::Errno;
use sys::socket::FdSocket;

use super::poller::{Interest, Kind, Poller, Token};
use crate::wire::{MAX_STAGED, Response, pack};

/// A connected daemon.
pub(crate) struct Control {
    socket: FdSocket,
    /// Descriptors of the next batch that came before it.
    staged: Vec<OwnedFd>,
}

/// A request and what came with it.
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Control {
    pub(crate) fn new(poller: &Poller, number: u64, socket: FdSocket) -> Result<Self, Errno> {
        socket.set_nonblocking(true)?;
        poller.add(socket.as_fd(), Token::new(Kind::Control, number), Interest::READ)?;
        Ok(Self { socket, staged: Vec::new() })
    }

    /// The next request; `None` when there is none for now.
    ///
    /// # Errors
    /// When nothing more will come, or what came cannot be trusted.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<Received>, Errno> {
        match self.socket.recv(buffer) {
            Ok(received) if received.len > 0 => {
                Ok(Some(Received { bytes: buffer.get(..received.len).unwrap_or_default().to_vec(), fds: received.fds }))
            }
            Ok(_) => Err(Errno::CONNRESET),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Keeps descriptors for the next batch; whether there is room for them.
    pub(crate) fn stage(&mut self, fds: Vec<OwnedFd>) -> bool {
        if self.staged.len() + fds.len() > MAX_STAGED {
            self.staged = Vec::new();
            return false;
        }
        self.staged.extend(fds);
        true
    }

    /// What was kept.
    pub(crate) fn take_staged(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.staged)
    }

    /// Sends a response; not one that does not fit into the queue of a daemon that reads nothing.
    pub(crate) fn send(&self, response: &Response) -> bool {
        let Ok(packed) = pack(response) else { return false };
        let fds: Vec<BorrowedFd<'_>> = packed.sealed.iter().map(AsFd::as_fd).collect();
        self.socket.send(&packed.bytes, &fds).is_ok()
    }
}
