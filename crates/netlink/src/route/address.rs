//! Addresses of links: as the kernel reports them (`RTM_GETADDR`), and giving and taking them.
//!
//! IPv6 addresses are checked for duplicates on the link unless the caller says that nobody else can have them.

use std::net::{IpAddr, Ipv4Addr};

use super::array_at;
use super::requests::RouteRequests;
use crate::Result;
use crate::attribute::Attributes;
use crate::message::{CREATE, EXCLUSIVE};
use crate::socket::{ACKNOWLEDGE, Socket};

const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
/// Length of `struct ifaddrmsg`.
const IFADDR: usize = 8;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const SCOPE_UNIVERSE: u8 = 0;
/// `IFA_F_NODAD` of linux/if_addr.h: used at once, without looking whether another host has it.
const NO_DUPLICATE_DETECTION: u8 = 0x02;
/// `IFA_F_PERMANENT`: set by an administrator, not by a protocol with a lifetime.
const PERMANENT: u8 = 0x80;

/// An IPv4 address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Interface index.
    pub link: u32,
    /// The address itself.
    pub local: Ipv4Addr,
    /// Length of its subnet's prefix, 0 to 32.
    pub prefix: u8,
}

/// An address of a link, with what a move to another namespace has to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpAddress {
    /// Interface index.
    pub link: u32,
    /// The address itself.
    pub local: IpAddr,
    /// Length of its subnet's prefix, 0 to 32 or 128.
    pub prefix: u8,
    /// It is valid everywhere, not only on the link or host.
    pub global: bool,
    /// It has no lifetime.
    pub permanent: bool,
}

impl IpAddress {
    /// The same, if it is of IPv4.
    pub(super) fn v4(&self) -> Option<Address> {
        match self.local {
            IpAddr::V4(local) => Some(Address { link: self.link, local, prefix: self.prefix }),
            IpAddr::V6(_) => None,
        }
    }
}

fn parse(body: &[u8]) -> Option<IpAddress> {
    let [family, prefix, flags, scope] = array_at(body, 0)?;
    let link = u32::from_ne_bytes(array_at(body, 4)?);
    let attributes = Attributes(body.get(IFADDR..)?);
    // On point-to-point links IFA_ADDRESS is the far end; IFA_LOCAL is always ours where present.
    let local = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?.ip()?;
    let longest = match (family, local) {
        (AF_INET, IpAddr::V4(_)) => 32,
        (AF_INET6, IpAddr::V6(_)) => 128,
        _ => return None,
    };
    (prefix <= longest).then_some(IpAddress {
        link,
        local,
        prefix,
        global: scope == SCOPE_UNIVERSE,
        permanent: flags & PERMANENT != 0,
    })
}

pub(super) fn dump(socket: &mut Socket) -> Result<Vec<IpAddress>> {
    let addresses = std::cell::RefCell::new(Vec::new());
    socket.dump(
        GET_ADDRESS,
        &[0; IFADDR],
        "list addresses",
        |kind, body| {
            if kind == NEW_ADDRESS {
                addresses.borrow_mut().extend(parse(body));
            }
        },
        || addresses.borrow_mut().clear(),
    )?;
    Ok(addresses.into_inner())
}

impl RouteRequests {
    /// Gives a link an IPv4 address; the route to its subnet comes with it. Refused with `EEXIST` when it has it.
    pub fn add_address(&mut self, link: u32, address: Ipv4Addr, prefix: u8) -> &mut Self {
        self.add_ip_address(link, address.into(), prefix)
    }

    /// Gives a link an address of either family; the route to its subnet comes with it. Refused with `EEXIST` when it
    /// has it.
    pub fn add_ip_address(&mut self, link: u32, address: IpAddr, prefix: u8) -> &mut Self {
        self.new_address(link, address, prefix, 0)
    }

    /// As [`Self::add_ip_address`], for an address that no other host can have: an IPv6 address can be used at once.
    pub fn add_sole_address(&mut self, link: u32, address: IpAddr, prefix: u8) -> &mut Self {
        let flags = if address.is_ipv6() { NO_DUPLICATE_DETECTION } else { 0 };
        self.new_address(link, address, prefix, flags)
    }

    /// Takes an address from a link. Refused with `EADDRNOTAVAIL` when it does not have it.
    pub fn delete_address(&mut self, link: u32, address: IpAddr, prefix: u8) -> &mut Self {
        let request = format!("delete address {address}/{prefix}");
        self.messages.message(DELETE_ADDRESS, ACKNOWLEDGE, request, |m| {
            m.raw(&ifaddr(link, address, prefix, 0));
            m.ip(IFA_LOCAL, address);
            m.ip(IFA_ADDRESS, address);
        });
        self
    }

    fn new_address(&mut self, link: u32, address: IpAddr, prefix: u8, flags: u8) -> &mut Self {
        let request = format!("add address {address}/{prefix}");
        self.messages.message(NEW_ADDRESS, ACKNOWLEDGE | CREATE | EXCLUSIVE, request, |m| {
            m.raw(&ifaddr(link, address, prefix, flags));
            m.ip(IFA_LOCAL, address);
            m.ip(IFA_ADDRESS, address);
            if let IpAddr::V4(address) = address
                && prefix < 31
            {
                let broadcast = u32::from(address) | u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                m.bytes(IFA_BROADCAST, &broadcast.to_be_bytes());
            }
        });
        self
    }
}

/// `struct ifaddrmsg`.
fn ifaddr(link: u32, address: IpAddr, prefix: u8, flags: u8) -> [u8; IFADDR] {
    let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
    let index = link.to_ne_bytes();
    [family, prefix, flags, SCOPE_UNIVERSE, index[0], index[1], index[2], index[3]]
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn both_families_are_read() {
        let v4 = [&[2, 24, 0x80, 0, 3, 0, 0, 0][..], &[8, 0, 2, 0, 10, 0, 0, 1]].concat();
        let address = parse(&v4).unwrap();
        assert_eq!((address.link, address.local), (3, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))));
        assert!(address.global && address.permanent);
        let v6 = [&[10, 64, 0, 253, 3, 0, 0, 0][..], &[20, 0, 1, 0], &Ipv6Addr::LOCALHOST.octets()].concat();
        let address = parse(&v6).unwrap();
        assert_eq!((address.local, address.prefix), (IpAddr::V6(Ipv6Addr::LOCALHOST), 64));
        assert!(!address.global && !address.permanent);
        assert!(parse(&v6[..12]).is_none());
    }

    #[test]
    fn families_and_prefixes_that_contradict_the_address_are_left_out() {
        let v4 = |family, prefix| [&[family, prefix, 0x80, 0, 3, 0, 0, 0][..], &[8, 0, 2, 0, 10, 0, 0, 1]].concat();
        assert!(parse(&v4(2, 32)).is_some());
        assert!(parse(&v4(2, 33)).is_none() && parse(&v4(10, 32)).is_none() && parse(&v4(0, 0)).is_none());
    }
}
