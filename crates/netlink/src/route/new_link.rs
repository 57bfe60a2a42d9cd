//! Making links of the kinds that networks are made of, each also straight inside another namespace.
//!
//! A link on top of another (macvlan, ipvlan, VLAN) is born in the namespace it is for while its parent stays where the
//! socket is: moving it there afterwards would cost an RCU grace period and show it to everybody meanwhile.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::link::{
    IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU, MacAddress,
    NEW_LINK,
};
use super::requests::{IFLA_INFO_DATA, IFLA_NET_NS_FD, RouteRequests, ifinfo};
use crate::message::{CREATE, EXCLUSIVE, Messages};
use crate::socket::ACKNOWLEDGE;

const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;

/// How links on one parent see each other, by frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Not at all.
    Private = 1,
    /// By way of the switch outside.
    Vepa = 2,
    /// Directly.
    Bridge = 4,
    /// There is one such link, and it takes the parent over.
    Passthru = 8,
}

/// At which layer links on one parent share its hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanMode {
    /// Each does address resolution.
    L2 = 0,
    /// The parent's namespace routes.
    L3 = 1,
    /// The same, through its firewall.
    L3s = 2,
}

/// How ipvlan links on one parent see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanFlag {
    /// Directly.
    Bridge = 0,
    /// Not at all.
    Private = 1,
    /// By way of the switch outside.
    Vepa = 2,
}

/// Kind of a link to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A link to nowhere.
    Dummy,
    /// A switch.
    Bridge,
    /// A hardware address of its own on the parent.
    Macvlan(MacvlanMode),
    /// Network addresses of its own on the parent's hardware address.
    Ipvlan(IpvlanMode, IpvlanFlag),
    /// The parent's frames with this VLAN id, 1 to 4094.
    Vlan(u16),
}

/// A link to make.
#[derive(Debug)]
pub struct NewLink<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its kind.
    pub kind: LinkKind,
    /// Index of the link it is on top of, in the socket's namespace.
    pub parent: Option<u32>,
    /// Namespace it is born in; the socket's if none.
    pub netns: Option<BorrowedFd<'a>>,
    /// Hardware address; the kernel's choice if none.
    pub mac: Option<MacAddress>,
    /// Largest packet in bytes; the kind's or parent's if none.
    pub mtu: Option<u32>,
    /// Index of the bridge it becomes a port of.
    pub master: Option<u32>,
    /// Whether it is up at once.
    pub up: bool,
}

impl<'a> NewLink<'a> {
    /// A link with nothing set but its name and kind.
    #[must_use]
    pub const fn new(name: &'a str, kind: LinkKind) -> Self {
        Self { name, kind, parent: None, netns: None, mac: None, mtu: None, master: None, up: false }
    }
}

impl LinkKind {
    fn name(self) -> &'static str {
        match self {
            Self::Dummy => "dummy",
            Self::Bridge => "bridge",
            Self::Macvlan(_) => "macvlan",
            Self::Ipvlan(..) => "ipvlan",
            Self::Vlan(_) => "vlan",
        }
    }

    fn encode(self, m: &mut Messages) {
        m.bytes(IFLA_INFO_KIND, self.name().as_bytes());
        match self {
            Self::Dummy | Self::Bridge => {}
            Self::Macvlan(mode) => m.nest(IFLA_INFO_DATA, |m| m.u32(IFLA_MACVLAN_MODE, mode as u32)),
            Self::Ipvlan(mode, flag) => m.nest(IFLA_INFO_DATA, |m| {
                m.u16(IFLA_IPVLAN_MODE, mode as u16);
                m.u16(IFLA_IPVLAN_FLAGS, flag as u16);
            }),
            Self::Vlan(id) => m.nest(IFLA_INFO_DATA, |m| m.u16(IFLA_VLAN_ID, id)),
        }
    }
}

impl RouteRequests {
    /// Makes a link. Refused with `EEXIST` when one of that name exists where it is to be born, `ENODEV` when its parent
    /// does not.
    pub fn create_link(&mut self, link: &NewLink<'_>) -> &mut Self {
        self.name(link.name);
        let request = format!("create {} {}", link.kind.name(), link.name);
        self.messages.message(NEW_LINK, ACKNOWLEDGE | CREATE | EXCLUSIVE, request, |m| {
            let flags = if link.up { IFF_UP } else { 0 };
            m.raw(&ifinfo(0, flags, flags));
            m.text(IFLA_IFNAME, link.name);
            if let Some(mac) = link.mac {
                m.bytes(IFLA_ADDRESS, &mac.0);
            }
            if let Some(mtu) = link.mtu {
                m.u32(IFLA_MTU, mtu);
            }
            if let Some(parent) = link.parent {
                m.u32(IFLA_LINK, parent);
            }
            if let Some(master) = link.master {
                m.u32(IFLA_MASTER, master);
            }
            if let Some(netns) = link.netns {
                m.u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
            }
            m.nest(IFLA_LINKINFO, |m| link.kind.encode(m));
        });
        self
    }
}
