//! Notifications of nf_tables changes, whoever made them.
//!
//! The kernel sends one message per changed object after each transaction, marked with the port id of the socket that
//! asked for it, so an owner of a table can tell its own changes from others'. When changes come faster than they are
//! read, messages are lost and the kernel says so; that counts as a change of everything.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;

use super::{Family, NFGENMSG, SUBSYSTEM, TABLE_NAME};
use crate::attribute::Attributes;
use crate::socket::{Heard, Socket};
use crate::{Error, Result};

/// Multicast group of nf_tables changes (`NFNLGRP_NFTABLES`).
const GROUP: u32 = 7;

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// A table.
    Table,
    /// A chain.
    Chain,
    /// A rule.
    Rule,
    /// A set or map.
    Set,
    /// Elements of one.
    Element,
}

/// A change of a table or something in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Something was added or removed.
    Made {
        /// Family of the table.
        family: Family,
        /// The table.
        table: String,
        /// What was added or removed.
        object: Object,
        /// Which of the two.
        removed: bool,
        /// Port id of the socket that asked for it.
        by: u32,
    },
    /// Messages were lost: anything may have changed.
    Lost,
}

/// A socket that hears of changes in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct NftMonitor {
    socket: Socket,
}

impl NftMonitor {
    /// Starts listening.
    ///
    /// # Errors
    /// [`Error::Socket`] without `CAP_NET_ADMIN` or when descriptors have run out.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::open(Some(NETFILTER))?;
        socket.join(GROUP)?;
        Ok(Self { socket })
    }

    /// Passes on what has happened since the last call, without waiting. At most some thousand changes at a time;
    /// returns whether there may be more, as the descriptor tells too.
    ///
    /// # Errors
    /// [`Error::Socket`] when receiving fails.
    pub fn read(&mut self, mut each: impl FnMut(Change)) -> Result<bool> {
        self.socket.drain(|message| match message {
            Heard::Message(kind, port, body) => each_change(kind, port, body, &mut each),
            Heard::Lost => each(Change::Lost),
        })
    }

    /// Waits for changes of IPv4 tables and passes each on. Returns false once `stop` becomes readable or is hung up.
    ///
    /// # Errors
    /// [`Error::Socket`] when waiting or receiving fails.
    pub fn wait(&mut self, stop: BorrowedFd<'_>, mut each: impl FnMut(Change)) -> Result<bool> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::from_borrowed_fd(stop, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => return Ok(true),
            other => other.map_err(Error::socket("wait for"))?,
        };
        if !fds[1].revents().is_empty() {
            return Ok(false);
        }
        self.read(|change| {
            if !matches!(&change, Change::Made { family, .. } if *family != Family::Ipv4) {
                each(change);
            }
        })?;
        Ok(true)
    }
}

impl AsFd for NftMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn each_change(kind: u16, by: u32, body: &[u8], each: &mut impl FnMut(Change)) {
    let Some((header, rest)) = body.split_at_checked(NFGENMSG) else { return };
    let Some(family) = Family::from_number(header[0]).filter(|_| kind >> 8 == SUBSYSTEM) else { return };
    // The table's name is attribute 1 of every kind of object.
    let Some(table) = Attributes(rest).find(TABLE_NAME).map(|name| name.text()) else { return };
    let (object, removed) = match kind & 0xff {
        0 => (Object::Table, false),
        2 => (Object::Table, true),
        3 => (Object::Chain, false),
        5 => (Object::Chain, true),
        6 => (Object::Rule, false),
        8 => (Object::Rule, true),
        9 => (Object::Set, false),
        11 => (Object::Set, true),
        12 => (Object::Element, false),
        14 => (Object::Element, true),
        _ => return,
    };
    each(Change::Made { family, table, object, removed, by });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_messages_are_harmless() {
        let body = [1, 0, 0, 0, 9, 0, 1, 0, b'd', b'h', b'o', b'w', 0, 0, 0, 0];
        let mut heard = Vec::new();
        let new_chain = SUBSYSTEM << 8 | 3;
        each_change(new_chain, 7, &body, &mut |change| heard.push(change));
        let (family, table) = (Family::Inet, "dhow".to_owned());
        assert_eq!(heard, [Change::Made { family, table, object: Object::Chain, removed: false, by: 7 }]);
        for cut in 0..body.len() {
            for kind in [0, u16::MAX, new_chain, SUBSYSTEM << 8 | 0xff] {
                let mut wild = body[..cut].to_vec();
                each_change(kind, 7, &wild, &mut |_| ());
                for at in 0..cut {
                    wild[at] = !wild[at];
                    each_change(kind, 7, &wild, &mut |_| ());
                }
            }
        }
    }
}
