//! Connection tracking (`ctnetlink`): forgetting connections whose translation is out of date.
//!
//! A UDP peer that keeps sending keeps its connection entry alive, and with it the old translation: without this,
//! datagrams for a port published anew would go on to where they went before. Called by
//! `network` and `firewall` around publishing.

use std::net::IpAddr;

use rustix::net::netlink::NETFILTER;

use crate::Result;
use crate::attribute::{Attribute, Attributes};
use crate::message::Messages;
use crate::socket::{ACKNOWLEDGE, Socket};

const NEW: u16 = 1 << 8;
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// Length of `struct nfgenmsg`, whose first byte is the family; 0 asks for both.
const NFGENMSG: usize = 4;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IDENTIFIER: u16 = 12;

/// A tracked connection of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Transport protocol number.
    pub protocol: u8,
    /// Destination of the first packet, before translation.
    pub destination: IpAddr,
    /// Its port, 0 for protocols without ports.
    pub destination_port: u16,
    /// Who answers: the destination after translation.
    pub responder: IpAddr,
}

/// A `NETLINK_NETFILTER` socket for ctnetlink, bound to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct ConntrackSocket {
    socket: Socket,
}

impl ConntrackSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`crate::Error::Socket`] when descriptors have run out.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(Some(NETFILTER))? })
    }

    /// Forgets every connection the predicate picks. Reads the whole table: for rare occasions.
    ///
    /// # Errors
    /// As any request; that an entry is gone already is none.
    pub fn forget(&mut self, picks: impl Fn(&Connection) -> bool) -> Result<()> {
        let mut deletions = Messages::new();
        // The table changes all the time; entries missed by an interrupted dump are read again, so a deletion may be
        // listed twice and then fails as absent.
        let collected = std::cell::RefCell::new(&mut deletions);
        self.socket.dump(
            GET,
            &[0; NFGENMSG],
            "list tracked connections",
            |kind, body| {
                if kind != NEW {
                    return;
                }
                let Some((header, rest)) = body.split_at_checked(NFGENMSG) else { return };
                let (family, attributes) = (header[0], Attributes(rest));
                if let Some((connection, original)) = parse(family, attributes)
                    && picks(&connection)
                {
                    collected.borrow_mut().message(DELETE, ACKNOWLEDGE, "forget a tracked connection", |m| {
                        m.raw(&[family, 0, 0, 0]);
                        m.nest(TUPLE_ORIGINAL, |m| m.raw(original.payload));
                        if let Some(id) = attributes.find(IDENTIFIER) {
                            m.bytes(IDENTIFIER, id.payload);
                        }
                    });
                }
            },
            || (),
        )?;
        if deletions.len() == 0 {
            return Ok(());
        }
        match self.socket.request(deletions) {
            Err(error) if error.is_absent() => Ok(()),
            other => other,
        }
    }
}

fn parse(family: u8, attributes: Attributes<'_>) -> Option<(Connection, Attribute<'_>)> {
    // Attributes of a tuple: source and destination of IPv4, the same of IPv6.
    let (source, destination) = match family {
        IPV4 => (1, 2),
        IPV6 => (3, 4),
        _ => return None,
    };
    let original = attributes.find(TUPLE_ORIGINAL)?;
    let reply = attributes.find(TUPLE_REPLY)?;
    let protocol = original.nested().find(TUPLE_PROTOCOL)?.nested();
    let connection = Connection {
        protocol: *protocol.find(1)?.payload.first()?,
        destination: original.nested().find(TUPLE_IP)?.nested().find(destination)?.ip()?,
        destination_port: protocol
            .find(3)
            .and_then(|port| Some(u16::from_be_bytes(port.payload.try_into().ok()?)))
            .unwrap_or(0),
        responder: reply.nested().find(TUPLE_IP)?.nested().find(source)?.ip()?,
    };
    Some((connection, original))
}
