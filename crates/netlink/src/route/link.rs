//! Links as the kernel reports them (`RTM_GETLINK`), and hardware addresses.
//!
//! Parsing keeps what the engine needs and ignores the rest, so new attributes of newer kernels are harmless.

use std::fmt;
use std::str::FromStr;

use super::array_at;
use crate::Result;
use crate::attribute::Attributes;
use crate::message::Messages;
use crate::socket::{ACKNOWLEDGE, Socket};

pub(super) const NEW_LINK: u16 = 16;
pub(super) const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
/// Length of `struct ifinfomsg`.
pub(super) const IFINFO: usize = 16;

pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_LINK: u16 = 5;
pub(super) const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_GROUP: u16 = 27;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_SLAVE_DATA: u16 = 5;
pub(super) const IFLA_BRPORT_MODE: u16 = 4;
pub(super) const IFLA_BRPORT_LEARNING: u16 = 8;
pub(super) const IFLA_BRPORT_NEIGH_SUPPRESS: u16 = 32;
pub(super) const IFLA_BRPORT_ISOLATED: u16 = 33;
/// Longest interface name, without its NUL (`IFNAMSIZ` - 1).
const NAME_MAX: usize = 15;
pub(super) const IFF_UP: u32 = 1;
const IFF_RUNNING: u32 = 0x40;

/// An Ethernet hardware address, written `02:42:ac:11:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = crate::Error;

    /// Six pairs of hexadecimal digits separated by colons or dashes.
    fn from_str(text: &str) -> Result<Self> {
        const INVALID: crate::Error = crate::Error::Invalid("a hardware address is six pairs of hexadecimal digits");
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+')).ok_or(INVALID)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| INVALID)?;
        }
        if parts.next().is_some() { Err(INVALID) } else { Ok(Self(bytes)) }
    }
}

/// Whether the kernel would take and show a link's name as it is.
pub(super) fn is_link_name(name: &str) -> bool {
    let odd = |byte: u8| byte == b'/' || byte == b':' || byte == 0 || byte.is_ascii_whitespace();
    (1..=NAME_MAX).contains(&name.len()) && !matches!(name, "." | "..") && !name.bytes().any(odd)
}

/// The name of a link, checked: 1 to 15 bytes without '/', ':', white space or NUL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LinkName([u8; NAME_MAX + 1]);

impl LinkName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        // It was made of text and is only cut where that ended.
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl FromStr for LinkName {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        if !is_link_name(text) {
            return Err(super::requests::BAD_NAME);
        }
        let mut bytes = [0; NAME_MAX + 1];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self(bytes))
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique in its namespace.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Driver kind such as `bridge` or `veth`; empty for physical devices.
    pub kind: String,
    /// Hardware address, for Ethernet-like links.
    pub mac: Option<MacAddress>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Index of the bridge this link is a port of.
    pub master: Option<u32>,
    /// Index of the link it is on top of, or of a veth's far end; in another namespace, if that is elsewhere.
    pub parent: Option<u32>,
    /// Device group, 0 unless set.
    pub group: u32,
    /// Whether the link is administratively up (`IFF_UP`).
    pub up: bool,
    /// Whether packets pass (`IFF_RUNNING`); follows `up` and the other end of a veth after a moment.
    pub running: bool,
    /// Whether a bridge may send a frame back out of this port of it.
    pub hairpin: bool,
    /// Whether its bridge passes nothing between this port and other isolated ones.
    pub isolated: bool,
}

pub(super) fn parse(body: &[u8]) -> Option<Link> {
    let index = i32::from_ne_bytes(array_at(body, 4)?);
    let flags = u32::from_ne_bytes(array_at(body, 8)?);
    let attributes = Attributes(body.get(IFINFO..)?);
    let info = attributes.find(IFLA_LINKINFO);
    let kind = info.and_then(|info| info.nested().find(IFLA_INFO_KIND)).map(|kind| kind.text()).unwrap_or_default();
    let port = info.and_then(|info| info.nested().find(IFLA_INFO_SLAVE_DATA));
    let flag = |kind| port.and_then(|port| port.nested().find(kind)).is_some_and(|flag| flag.payload == [1]);
    Some(Link {
        index: u32::try_from(index).ok()?,
        name: attributes.find(IFLA_IFNAME)?.text(),
        kind,
        mac: attributes.find(IFLA_ADDRESS).and_then(|mac| mac.payload.try_into().ok()).map(MacAddress),
        mtu: attributes.find(IFLA_MTU).and_then(|mtu| mtu.u32()).unwrap_or(0),
        master: attributes.find(IFLA_MASTER).and_then(|master| master.u32()),
        parent: attributes.find(IFLA_LINK).and_then(|parent| parent.u32()).filter(|parent| *parent != 0),
        group: attributes.find(IFLA_GROUP).and_then(|group| group.u32()).unwrap_or(0),
        up: flags & IFF_UP != 0,
        running: flags & IFF_RUNNING != 0,
        hairpin: flag(IFLA_BRPORT_MODE),
        isolated: flag(IFLA_BRPORT_ISOLATED),
    })
}

pub(super) fn dump(socket: &mut Socket) -> Result<Vec<Link>> {
    let links = std::cell::RefCell::new(Vec::new());
    socket.dump(
        GET_LINK,
        &[0; IFINFO],
        "list links",
        |kind, body| {
            if kind == NEW_LINK {
                links.borrow_mut().extend(parse(body));
            }
        },
        || links.borrow_mut().clear(),
    )?;
    Ok(links.into_inner())
}

pub(super) fn get(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let mut messages = Messages::new();
    messages.message(GET_LINK, ACKNOWLEDGE, format!("look up link {name}"), |m| {
        m.raw(&[0; IFINFO]);
        m.text(IFLA_IFNAME, name);
    });
    let mut link = None;
    match socket.query(messages, |kind, body| {
        if kind == NEW_LINK {
            link = parse(body);
        }
    }) {
        Err(error) if error.is_absent() => Ok(None),
        other => other.map(|()| link),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_round_trip_and_refusals() {
        let mac: MacAddress = "02:42:ac:11:00:02".parse().unwrap();
        assert_eq!(mac, MacAddress([2, 0x42, 0xac, 0x11, 0, 2]));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        for bad in
            ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "02:42:ac:11:00:+2", "2:42:ac:11:00:02", "zz:42:ac:11:00:02"]
        {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn short_bodies_are_left_out() {
        for length in 0..IFINFO + 4 {
            assert_eq!(parse(&vec![0; length]), None);
        }
    }
}
