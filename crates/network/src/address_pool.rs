//! Which addresses of a subnet are taken.
//!
//! The invariant: no address is handed out twice, and the network's, the broadcast and the gateway's address never.
//! Addresses are handed out in order and a released one only comes round again after the rest: neighbours' ARP tables
//! and connection tracking keep remembering it for a while. Both families are numbers of 128 bits here.
//! Owned by `Fabric`, one per subnet.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Addresses of one subnet.
#[derive(Debug)]
pub(crate) struct AddressPool {
    pub(crate) subnet: IpNet,
    /// Bounds, both included, of what is handed out unasked.
    first: u128,
    end: u128,
    taken: BTreeSet<u128>,
    last: u128,
}

impl AddressPool {
    /// A pool that hands out addresses of `range`, a part of the subnet, if one is given.
    pub(crate) fn new(subnet: IpNet, range: Option<IpNet>, reserved: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut taken: BTreeSet<u128> = reserved.into_iter().map(number).collect();
        let host_bits = subnet.max_prefix_len() - subnet.prefix_len();
        if host_bits > 1 {
            // IPv6 has no broadcast address, but its first address is the routers' anycast address (RFC 4291, 2.6.1).
            taken.insert(number(subnet.network()));
            if matches!(subnet, IpNet::V4(_)) {
                taken.insert(number(subnet.broadcast()));
            }
        }
        let part = range.unwrap_or(subnet);
        let (first, end) = (number(part.network()), number(part.broadcast()));
        Self { subnet, first, end, taken, last: first.wrapping_sub(1) }
    }

    /// The next free address, or `None` when all are taken.
    pub(crate) fn take_next(&mut self) -> Option<IpAddr> {
        let from = self.last.wrapping_add(1);
        let after = if (self.first..=self.end).contains(&from) { self.first_free(from, self.end) } else { None };
        let found = after.or_else(|| self.first_free(self.first, self.end))?;
        self.taken.insert(found);
        self.last = found;
        Some(self.address(found))
    }

    /// The first free address between two bounds, both included. Walks the taken addresses, not the free ones.
    fn first_free(&self, from: u128, to: u128) -> Option<u128> {
        let mut candidate = from;
        for taken in self.taken.range(from..=to) {
            if candidate < *taken {
                break;
            }
            candidate = taken.checked_add(1)?;
        }
        (candidate <= to).then_some(candidate)
    }

    /// Takes one address; false when it is taken already.
    pub(crate) fn take(&mut self, address: IpAddr) -> bool {
        self.taken.insert(number(address))
    }

    /// Takes the address of a container found running and goes on behind it.
    pub(crate) fn adopt(&mut self, address: IpAddr) {
        let address = number(address);
        self.taken.insert(address);
        if (self.first..=self.end).contains(&address) && self.last.wrapping_add(1) <= address {
            self.last = address;
        }
    }

    pub(crate) fn release(&mut self, address: IpAddr) {
        self.taken.remove(&number(address));
    }

    /// How many addresses are taken, reserved ones included.
    pub(crate) fn used(&self) -> u64 {
        self.taken.len() as u64
    }

    /// How many more [`Self::take_next`] would give.
    pub(crate) fn available(&self) -> u64 {
        let all = self.end.saturating_sub(self.first).saturating_add(1);
        let taken = self.taken.range(self.first..=self.end).count() as u128;
        u64::try_from(all.saturating_sub(taken)).unwrap_or(u64::MAX)
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.subnet {
            // The upper bits of an IPv4 address are zero.
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(subnet: &str, range: Option<&str>) -> AddressPool {
        let subnet: IpNet = subnet.parse().unwrap();
        let gateway = subnet.hosts().next().unwrap();
        AddressPool::new(subnet, range.map(|range| range.parse().unwrap()), [gateway])
    }

    fn all(pool: &mut AddressPool) -> Vec<String> {
        std::iter::from_fn(|| pool.take_next()).map(|address| address.to_string()).collect()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn in_order_without_the_reserved_ones() {
        let mut pool = pool("10.0.0.0/29", None);
        assert_eq!(pool.available(), 5);
        assert_eq!(all(&mut pool), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!((pool.available(), pool.used()), (0, 8));
    }

    #[test]
    fn a_released_address_comes_round_last() {
        let mut pool = pool("10.0.0.0/29", None);
        let first = pool.take_next().unwrap();
        pool.release(first);
        assert_eq!(all(&mut pool), ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"]);
    }

    #[test]
    fn adopted_and_chosen_addresses_are_skipped() {
        let mut pool = pool("10.0.0.0/29", None);
        assert!(pool.take(address("10.0.0.3")));
        assert!(!pool.take(address("10.0.0.3")));
        assert!(!pool.take(address("10.0.0.1")), "the gateway's");
        pool.adopt(address("10.0.0.4"));
        assert_eq!(all(&mut pool), ["10.0.0.5", "10.0.0.6", "10.0.0.2"]);
    }

    #[test]
    fn a_range_bounds_what_is_given_unasked() {
        let mut pool = pool("10.0.0.0/24", Some("10.0.0.128/30"));
        assert!(pool.take(address("10.0.0.5")), "outside of the range, asked for");
        assert_eq!(all(&mut pool), ["10.0.0.128", "10.0.0.129", "10.0.0.130", "10.0.0.131"]);
    }

    #[test]
    fn tiny_subnets_and_the_ends_of_the_numbers() {
        let mut tiny = AddressPool::new("10.0.0.0/31".parse().unwrap(), None, [address("10.0.0.0")]);
        assert_eq!(all(&mut tiny), ["10.0.0.1"]);
        let mut top = AddressPool::new("255.255.255.252/30".parse().unwrap(), None, [address("255.255.255.253")]);
        assert_eq!(all(&mut top), ["255.255.255.254"]);
        let mut zero = AddressPool::new("0.0.0.0/30".parse().unwrap(), None, [address("0.0.0.1")]);
        assert_eq!(all(&mut zero), ["0.0.0.2"]);
    }

    #[test]
    fn ipv6_starts_behind_the_gateway_and_has_no_broadcast() {
        let mut pool = pool("fd00::/126", None);
        // The iterator of hosts begins with the network's own address, which is the routers'.
        assert_eq!(all(&mut pool), ["fd00::1", "fd00::2", "fd00::3"]);
        let large = AddressPool::new("fd00::/64".parse().unwrap(), None, [address("fd00::1")]);
        assert_eq!(large.available(), u64::MAX - 1);
    }
}
