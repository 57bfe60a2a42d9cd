//! Changes to links, addresses, routes and queues, encoded one behind the other for a single send.
//!
//! Names are checked before anything is sent: the kernel would truncate or misread a name with a NUL in it.
//! See `rtnetlink(7)` and, for veth pairs and bridges, the kernel's `if_link.h`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::address::AF_INET6;
use super::link::{
    DELETE_LINK, IFF_UP, IFINFO, IFLA_ADDRESS, IFLA_BRPORT_ISOLATED, IFLA_BRPORT_LEARNING, IFLA_BRPORT_MODE,
    IFLA_BRPORT_NEIGH_SUPPRESS, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA, IFLA_LINKINFO,
    IFLA_MASTER, IFLA_MTU, LinkName, MacAddress, NEW_LINK, is_link_name,
};
use crate::message::{CREATE, EXCLUSIVE, Messages};
use crate::socket::ACKNOWLEDGE;
use crate::{Error, Result};

pub(super) const IFLA_NET_NS_FD: u16 = 28;
pub(super) const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const VETH_INFO_PEER: u16 = 1;

pub(super) const BAD_NAME: Error = Error::Invalid("an interface name is 1 to 15 bytes without '/', white space or NUL");

/// A veth pair: one end here, mostly as a bridge port, the other born inside another network namespace. Moving it there
/// afterwards would cost an RCU grace period.
#[derive(Debug)]
pub struct Veth<'a> {
    /// Name of the end in this namespace.
    pub name: &'a str,
    /// Index of the bridge this end joins, 0 for none.
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
    /// Its name. Kernels before 6.2 refuse it with `EBUSY` while the link is up.
    pub name: Option<LinkName>,
    /// Index of the bridge it becomes a port of; 0 makes it leave the one it is in.
    pub master: Option<u32>,
    /// Whether the kernel gives it a link-local IPv6 address of its own choice when it comes up. Refused with
    /// `EAFNOSUPPORT` where IPv6 is off.
    pub link_local: Option<bool>,
    /// For a bridge port: whether the bridge may send a frame back out of it.
    pub hairpin: Option<bool>,
    /// For a bridge port: whether the bridge passes nothing between it and other isolated ones.
    pub isolated: Option<bool>,
    /// For a bridge port: whether the bridge learns addresses from its frames.
    pub learning: Option<bool>,
    /// For a bridge port: whether the bridge answers address resolution in place of who is behind it.
    pub neigh_suppress: Option<bool>,
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
            return Err(BAD_NAME);
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

    /// Creates a veth pair; this end is up and a port of its bridge at once, the far end is down.
    pub fn create_veth(&mut self, veth: &Veth<'_>) -> &mut Self {
        self.name(veth.name).name(veth.peer_name);
        let request = format!("create veth {}", veth.name);
        self.messages.message(NEW_LINK, ACKNOWLEDGE | CREATE | EXCLUSIVE, request, |m| {
            m.raw(&ifinfo(0, IFF_UP, IFF_UP));
            m.text(IFLA_IFNAME, veth.name);
            m.u32(IFLA_MTU, veth.mtu);
            if veth.master != 0 {
                m.u32(IFLA_MASTER, veth.master);
            }
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

    /// Changes properties of the link of that name, whatever its index. A name in `change` has no effect here.
    pub fn change_link_by_name(&mut self, name: &str, change: &LinkChange) -> &mut Self {
        self.name(name).change(0, Some(name), change)
    }

    /// Up to three messages: addresses must not be made up before the link comes up, and flags of a port are refused
    /// before it is one.
    fn change(&mut self, index: u32, name: Option<&str>, change: &LinkChange) -> &mut Self {
        let request = match name {
            Some(name) => format!("change link {name}"),
            None => format!("change link number {index}"),
        };
        if let Some(link_local) = change.link_local {
            let mode = u8::from(!link_local);
            self.change_message(&request, index, name, (0, 0), |m| {
                m.nest(IFLA_AF_SPEC, |m| m.nest(AF_INET6.into(), |m| m.u8(IFLA_INET6_ADDR_GEN_MODE, mode)));
            });
        }
        let flags = match change.up {
            Some(true) => (IFF_UP, IFF_UP),
            Some(false) => (0, IFF_UP),
            None => (0, 0),
        };
        self.change_message(&request, index, name, flags, |m| {
            if let (None, Some(new)) = (name, change.name) {
                m.text(IFLA_IFNAME, new.as_str());
            }
            if let Some(mac) = change.mac {
                m.bytes(IFLA_ADDRESS, &mac.0);
            }
            if let Some(mtu) = change.mtu {
                m.u32(IFLA_MTU, mtu);
            }
            if let Some(master) = change.master {
                m.u32(IFLA_MASTER, master);
            }
            if let Some(group) = change.group {
                m.u32(IFLA_GROUP, group);
            }
        });
        self.port_flags(index, name, change)
    }

    fn port_flags(&mut self, index: u32, name: Option<&str>, change: &LinkChange) -> &mut Self {
        let flags = [
            (IFLA_BRPORT_MODE, change.hairpin),
            (IFLA_BRPORT_ISOLATED, change.isolated),
            (IFLA_BRPORT_LEARNING, change.learning),
            (IFLA_BRPORT_NEIGH_SUPPRESS, change.neigh_suppress),
        ];
        if flags.iter().any(|(_, value)| value.is_some()) {
            let request = match name {
                Some(name) => format!("set flags of bridge port {name}"),
                None => format!("set flags of bridge port number {index}"),
            };
            self.change_message(&request, index, name, (0, 0), |m| {
                m.nest(IFLA_LINKINFO, |m| {
                    m.bytes(IFLA_INFO_SLAVE_KIND, b"bridge");
                    m.nest(IFLA_INFO_SLAVE_DATA, |m| {
                        for (kind, value) in flags {
                            if let Some(value) = value {
                                m.u8(kind, u8::from(value));
                            }
                        }
                    });
                });
            });
        }
        self
    }

    fn change_message(
        &mut self,
        request: &str,
        index: u32,
        name: Option<&str>,
        (flags, mask): (u32, u32),
        body: impl FnOnce(&mut Messages),
    ) {
        self.messages.message(NEW_LINK, ACKNOWLEDGE, request, |m| {
            m.raw(&ifinfo(index, flags, mask));
            if let Some(name) = name {
                m.text(IFLA_IFNAME, name);
            }
            body(m);
        });
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
        self.change_port(port, &LinkChange { hairpin: Some(true), ..LinkChange::default() })
    }

    /// Changes flags of the bridge port of that name, and nothing else of it.
    pub fn change_port(&mut self, port: &str, change: &LinkChange) -> &mut Self {
        self.name(port).port_flags(0, Some(port), change)
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

    pub(super) fn name(&mut self, name: &str) -> &mut Self {
        self.bad_name |= !is_link_name(name);
        self
    }
}

/// `struct ifinfomsg`.
pub(super) fn ifinfo(index: u32, flags: u32, mask: u32) -> [u8; IFINFO] {
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
