//! Changes to links, addresses and routes, encoded one behind the other for a single send.
//!
//! Names are checked before anything is sent: the kernel would truncate or misread a name with a NUL in it.
//! See `rtnetlink(7)` and, for veth pairs and bridges, the kernel's `if_link.h`.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::address::{AF_INET, IFA_ADDRESS, IFA_BROADCAST, IFA_LOCAL, NEW_ADDRESS};
use super::link::{
    DELETE_LINK, IFF_UP, IFINFO, IFLA_ADDRESS, IFLA_BRPORT_MODE, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU, MacAddress, NEW_LINK,
};
use super::route::{NEW_ROUTE, RTA_DESTINATION, RTA_GATEWAY, RTA_OUTPUT_LINK, RTMSG};
use crate::message::{CREATE, EXCLUSIVE, Messages, REPLACE};
use crate::socket::ACKNOWLEDGE;
use crate::{Error, Result};

const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const VETH_INFO_PEER: u16 = 1;
/// Longest interface name, without its NUL (`IFNAMSIZ` - 1).
const NAME_MAX: usize = 15;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_BOOT: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const UNICAST: u8 = 1;

/// A veth pair: one end here as a bridge port, the other born inside another network namespace. Moving it there
/// afterwards would cost an RCU grace period.
#[derive(Debug)]
pub struct Veth<'a> {
    /// Name of the end in this namespace.
    pub name: &'a str,
    /// Index of the bridge this end joins.
    pub master: u32,
    /// Name of the far end.
    pub peer_name: &'a str,
    /// Namespace of the far end.
    pub peer_netns: BorrowedFd<'a>,
    /// Largest packet of both ends, in bytes.
    pub mtu: u32,
}

/// What to change about a link; `None` leaves a property alone.
#[derive(Debug, Default, Clone, Copy)]
pub struct LinkChange {
    /// Administrative state.
    pub up: Option<bool>,
    /// Hardware address.
    pub mac: Option<MacAddress>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Device group.
    pub group: Option<u32>,
}

/// Changes to be sent together with [`super::RouteSocket::apply`].
#[derive(Debug, Default)]
pub struct RouteRequests {
    pub(super) messages: Messages,
    bad_name: bool,
}

impl RouteRequests {
    /// No changes yet.
    #[must_use]
    pub fn new() -> Self {
        Self { messages: Messages::new(), bad_name: false }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.bad_name {
            return Err(Error::Invalid("an interface name is 1 to 15 bytes without '/', white space or NUL"));
        }
        Ok(())
    }

    /// Creates a bridge with a fixed hardware address, so that it does not change as ports come and go.
    /// Refused with `EEXIST` when a link of that name exists.
    pub fn create_bridge(&mut self, name: &str, mac: MacAddress, mtu: u32) -> &mut Self {
        self.name(name);
        self.messages.message(NEW_LINK, ACKNOWLEDGE | CREATE | EXCLUSIVE, format!("create bridge {name}"), |m| {
            m.raw(&ifinfo(0, 0, 0));
            m.text(IFLA_IFNAME, name);
            m.bytes(IFLA_ADDRESS, &mac.0);
            m.u32(IFLA_MTU, mtu);
            m.nest(IFLA_LINKINFO, |m| m.bytes(IFLA_INFO_KIND, b"bridge"));
        });
        self
    }

    /// Creates a veth pair; this end is up and a port of the bridge at once, the far end is down.
    pub fn create_veth(&mut self, veth: &Veth<'_>) -> &mut Self {
        self.name(veth.name).name(veth.peer_name);
        let request = format!("create veth {}", veth.name);
        self.messages.message(NEW_LINK, ACKNOWLEDGE | CREATE | EXCLUSIVE, request, |m| {
            m.raw(&ifinfo(0, IFF_UP, IFF_UP));
            m.text(IFLA_IFNAME, veth.name);
            m.u32(IFLA_MTU, veth.mtu);
            m.u32(IFLA_MASTER, veth.master);
            m.nest(IFLA_LINKINFO, |m| {
                m.bytes(IFLA_INFO_KIND, b"veth");
                m.nest(IFLA_INFO_DATA, |m| {
                    m.nest(VETH_INFO_PEER, |m| {
                        m.raw(&ifinfo(0, 0, 0));
                        m.text(IFLA_IFNAME, veth.peer_name);
                        m.u32(IFLA_MTU, veth.mtu);
                        m.u32(IFLA_NET_NS_FD, veth.peer_netns.as_fd().as_raw_fd().cast_unsigned());
                    });
                });
            });
        });
        self
    }

    /// Changes properties of the link with that index.
    pub fn change_link(&mut self, index: u32, change: &LinkChange) -> &mut Self {
        self.change(index, None, change)
    }

    /// Changes properties of the link of that name, whatever its index.
    pub fn change_link_by_name(&mut self, name: &str, change: &LinkChange) -> &mut Self {
        self.name(name).change(0, Some(name), change)
    }

    fn change(&mut self, index: u32, name: Option<&str>, change: &LinkChange) -> &mut Self {
        let request = match name {
            Some(name) => format!("change link {name}"),
            None => format!("change link number {index}"),
        };
        let (flags, mask) = match change.up {
            Some(true) => (IFF_UP, IFF_UP),
            Some(false) => (0, IFF_UP),
            None => (0, 0),
        };
        self.messages.message(NEW_LINK, ACKNOWLEDGE, request, |m| {
            m.raw(&ifinfo(index, flags, mask));
            if let Some(name) = name {
                m.text(IFLA_IFNAME, name);
            }
            if let Some(mac) = change.mac {
                m.bytes(IFLA_ADDRESS, &mac.0);
            }
            if let Some(mtu) = change.mtu {
                m.u32(IFLA_MTU, mtu);
            }
            if let Some(group) = change.group {
                m.u32(IFLA_GROUP, group);
            }
        });
        self
    }

    /// Moves a link into another network namespace under a name of its own there. It arrives down and without
    /// addresses.
    pub fn move_link(&mut self, index: u32, netns: BorrowedFd<'_>, name: &str) -> &mut Self {
        self.name(name);
        self.messages.message(NEW_LINK, ACKNOWLEDGE, format!("move link number {index} as {name}"), |m| {
            m.raw(&ifinfo(index, 0, 0));
            m.text(IFLA_IFNAME, name);
            m.u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
        });
        self
    }

    /// Lets a bridge send a frame back out of the port it came in by, which a container reaching its own published
    /// port needs where bridged packets pass the firewall.
    pub fn set_hairpin(&mut self, port: &str) -> &mut Self {
        self.name(port);
        self.messages.message(NEW_LINK, ACKNOWLEDGE, format!("set hairpin mode of bridge port {port}"), |m| {
            m.raw(&ifinfo(0, 0, 0));
            m.text(IFLA_IFNAME, port);
            m.nest(IFLA_LINKINFO, |m| {
                m.bytes(IFLA_INFO_SLAVE_KIND, b"bridge");
                m.nest(IFLA_INFO_SLAVE_DATA, |m| m.u8(IFLA_BRPORT_MODE, 1));
            });
        });
        self
    }

    /// Deletes the link of that name. The kernel waits for an RCU grace period: keep this off a caller's path.
    pub fn delete_link(&mut self, name: &str) -> &mut Self {
        self.name(name);
        self.messages.message(DELETE_LINK, ACKNOWLEDGE, format!("delete link {name}"), |m| {
            m.raw(&ifinfo(0, 0, 0));
            m.text(IFLA_IFNAME, name);
        });
        self
    }

    /// Deletes every link of a device group in one grace period. Refused with `ENODEV` when there is none.
    pub fn delete_group(&mut self, group: u32) -> &mut Self {
        self.messages.message(DELETE_LINK, ACKNOWLEDGE, format!("delete link group {group}"), |m| {
            m.raw(&ifinfo(0, 0, 0));
            m.u32(IFLA_GROUP, group);
        });
        self
    }

    /// Gives a link an IPv4 address; the route to its subnet comes with it. Refused with `EEXIST` when it has it.
    pub fn add_address(&mut self, link: u32, address: Ipv4Addr, prefix: u8) -> &mut Self {
        let request = format!("add address {address}/{prefix}");
        self.messages.message(NEW_ADDRESS, ACKNOWLEDGE | CREATE | EXCLUSIVE, request, |m| {
            let index = link.to_ne_bytes();
            m.raw(&[AF_INET, prefix, 0, SCOPE_UNIVERSE, index[0], index[1], index[2], index[3]]);
            m.bytes(IFA_LOCAL, &address.octets());
            m.bytes(IFA_ADDRESS, &address.octets());
            if prefix < 31 {
                let broadcast = u32::from(address) | u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                m.bytes(IFA_BROADCAST, &broadcast.to_be_bytes());
            }
        });
        self
    }

    /// Adds or replaces the IPv4 route to a network: through a gateway, or directly over the link.
    pub fn set_route(
        &mut self,
        destination: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
        link: Option<u32>,
    ) -> &mut Self {
        let scope = if gateway.is_some() { SCOPE_UNIVERSE } else { SCOPE_LINK };
        let request = format!("add route {destination}/{prefix}");
        self.messages.message(NEW_ROUTE, ACKNOWLEDGE | CREATE | REPLACE, request, |m| {
            m.raw(&{
                let mut rtmsg = [0; RTMSG];
                rtmsg[..8].copy_from_slice(&[AF_INET, prefix, 0, 0, TABLE_MAIN, PROTOCOL_BOOT, scope, UNICAST]);
                rtmsg
            });
            if prefix > 0 {
                m.bytes(RTA_DESTINATION, &destination.octets());
            }
            if let Some(gateway) = gateway {
                m.bytes(RTA_GATEWAY, &gateway.octets());
            }
            if let Some(link) = link {
                m.u32(RTA_OUTPUT_LINK, link);
            }
        });
        self
    }

    fn name(&mut self, name: &str) -> &mut Self {
        self.bad_name |= !(1..=NAME_MAX).contains(&name.len())
            || matches!(name, "." | "..")
            || name.bytes().any(|byte| byte == b'/' || byte == b':' || byte == 0 || byte.is_ascii_whitespace());
        self
    }
}

/// `struct ifinfomsg`.
fn ifinfo(index: u32, flags: u32, mask: u32) -> [u8; IFINFO] {
    let mut bytes = [0; IFINFO];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&mask.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_before_sending() {
        for bad in ["", "sixteen-bytes-xx", "a/b", "a b", "a\0b", "..", "eth0:1"] {
            assert!(RouteRequests::new().delete_link(bad).check().is_err(), "{bad:?}");
        }
        assert!(RouteRequests::new().delete_link("fifteen-bytes-x").check().is_ok());
    }
}
