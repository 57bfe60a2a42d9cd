//! Notifications of links that come, change and go, whoever made it so (`RTNLGRP_LINK`).
//!
//! What is heard may be out of date when it is read, so a listener looks again before it acts. When changes come faster
//! than they are read, some are lost and the kernel says so.

use std::os::fd::{AsFd, BorrowedFd};

use super::link::{DELETE_LINK, Link, NEW_LINK, parse};
use crate::Result;
use crate::socket::{Heard, Socket};

/// `RTNLGRP_LINK`.
const GROUP: u32 = 1;

/// What has become of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is new or has changed, and is this now.
    Present(Link),
    /// It is gone from this namespace; it was this.
    Removed(Link),
    /// Messages were lost: anything may have changed.
    Lost,
}

/// A socket that hears of links in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct LinkMonitor {
    socket: Socket,
}

impl LinkMonitor {
    /// Starts listening.
    ///
    /// # Errors
    /// [`crate::Error::Socket`] when descriptors have run out.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::open(None)?;
        socket.join(GROUP)?;
        Ok(Self { socket })
    }

    /// Passes on what has happened since the last call, without waiting. At most some hundred events at a time;
    /// returns whether there may be more, as the descriptor tells too.
    ///
    /// # Errors
    /// [`crate::Error::Socket`] when receiving fails.
    pub fn read(&mut self, mut each: impl FnMut(LinkEvent)) -> Result<bool> {
        self.socket.drain(|message| match message {
            Heard::Message(NEW_LINK, _, body) => {
                if let Some(link) = of_device(body) {
                    each(LinkEvent::Present(link));
                }
            }
            Heard::Message(DELETE_LINK, _, body) => {
                if let Some(link) = of_device(body) {
                    each(LinkEvent::Removed(link));
                }
            }
            Heard::Message(..) => {}
            Heard::Lost => each(LinkEvent::Lost),
        })
    }
}

/// The link of a message. Bridges tell of their ports in messages of their own family, where "deleted" means that the
/// port has left the bridge.
fn of_device(body: &[u8]) -> Option<Link> {
    (*body.first()? == 0).then(|| parse(body)).flatten()
}

impl AsFd for LinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
