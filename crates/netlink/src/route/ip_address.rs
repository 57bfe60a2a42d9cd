//! Addresses of both families with what a move to another namespace has to keep (`RTM_GETADDR`, `RTM_NEWADDR`).

use std::net::{IpAddr, Ipv6Addr};

use super::address::{AF_INET, IFA_ADDRESS, IFA_LOCAL, NEW_ADDRESS};
use super::array_at;
use super::requests::RouteRequests;
use crate::Result;
use crate::attribute::Attributes;
use crate::message::{CREATE, EXCLUSIVE};
use crate::socket::{ACKNOWLEDGE, Socket};

const GET_ADDRESS: u16 = 22;
/// Length of `struct ifaddrmsg`.
const IFADDR: usize = 8;
const AF_INET6: u8 = 10;
const SCOPE_UNIVERSE: u8 = 0;
/// `IFA_F_PERMANENT` of linux/if_addr.h: set by an administrator, not by a protocol with a lifetime.
const PERMANENT: u8 = 0x80;

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpAddress {
    /// Interface index.
    pub link: u32,
    /// The address itself.
    pub local: IpAddr,
    /// Length of its subnet's prefix.
    pub prefix: u8,
    /// It is valid everywhere, not only on the link or host.
    pub global: bool,
    /// It has no lifetime.
    pub permanent: bool,
}

fn parse(body: &[u8]) -> Option<IpAddress> {
    let [family, prefix, flags, scope] = array_at(body, 0)?;
    let link = u32::from_ne_bytes(array_at(body, 4)?);
    let attributes = Attributes(body.get(IFADDR..)?);
    let found = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?;
    let local = match family {
        AF_INET => IpAddr::V4(found.ipv4()?),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(array_at::<16>(found.payload, 0)?)),
        _ => return None,
    };
    Some(IpAddress { link, local, prefix, global: scope == SCOPE_UNIVERSE, permanent: flags & PERMANENT != 0 })
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
    /// Gives a link an address of either family. Refused with `EEXIST` when it has it.
    pub fn add_ip_address(&mut self, link: u32, address: IpAddr, prefix: u8) -> &mut Self {
        match address {
            IpAddr::V4(address) => self.add_address(link, address, prefix),
            IpAddr::V6(address) => self.add_ipv6_address(link, address, prefix),
        }
    }

    fn add_ipv6_address(&mut self, link: u32, address: Ipv6Addr, prefix: u8) -> &mut Self {
        let request = format!("add address {address}/{prefix}");
        self.messages.message(NEW_ADDRESS, ACKNOWLEDGE | CREATE | EXCLUSIVE, request, |m| {
            let index = link.to_ne_bytes();
            m.raw(&[AF_INET6, prefix, 0, SCOPE_UNIVERSE, index[0], index[1], index[2], index[3]]);
            m.bytes(IFA_LOCAL, &address.octets());
            m.bytes(IFA_ADDRESS, &address.octets());
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
}
