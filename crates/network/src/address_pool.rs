//! Which addresses of a subnet are taken.
//!
//! The invariant: no address is handed out twice, and the network's, the broadcast and the gateway's address never.
//! Addresses are handed out in order and a released one only comes round again after the rest: neighbours' ARP tables
//! and connection tracking keep remembering it for a while. Owned by `Bridge`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::Subnet;

/// Addresses of one subnet.
#[derive(Debug)]
pub(crate) struct AddressPool {
    subnet: Subnet,
    taken: BTreeSet<u32>,
    last: u32,
}

impl AddressPool {
    pub(crate) fn new(subnet: Subnet, gateway: Ipv4Addr) -> Self {
        let mut taken = BTreeSet::from([gateway.to_bits()]);
        if subnet.prefix() < 31 {
            taken.extend([subnet.network().to_bits(), subnet.broadcast().to_bits()]);
        }
        Self { subnet, taken, last: subnet.network().to_bits() }
    }

    /// The next free address, or `None` when all are taken.
    pub(crate) fn take_next(&mut self) -> Option<Ipv4Addr> {
        let after = self.first_free(self.last.saturating_add(1), self.subnet.broadcast().to_bits());
        let found = after.or_else(|| self.first_free(self.subnet.network().to_bits(), self.last))?;
        self.taken.insert(found.to_bits());
        self.last = found.to_bits();
        Some(found)
    }

    /// The first free address between two bounds, both included. Walks the taken addresses, not the free ones.
    fn first_free(&self, from: u32, to: u32) -> Option<Ipv4Addr> {
        if from > to {
            return None;
        }
        let mut candidate = from;
        for taken in self.taken.range(from..=to) {
            if candidate < *taken {
                break;
            }
            candidate = taken.checked_add(1)?;
        }
        (candidate <= to).then(|| Ipv4Addr::from_bits(candidate))
    }

    /// Takes one address; false when it is taken already.
    pub(crate) fn take(&mut self, address: Ipv4Addr) -> bool {
        self.taken.insert(address.to_bits())
    }

    /// Takes the address of a container found running and goes on behind it.
    pub(crate) fn adopt(&mut self, address: Ipv4Addr) {
        self.taken.insert(address.to_bits());
        if self.subnet.is_host(address) {
            self.last = self.last.max(address.to_bits());
        }
    }

    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address.to_bits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(subnet: &str) -> AddressPool {
        let subnet: Subnet = subnet.parse().unwrap();
        AddressPool::new(subnet, subnet.first_host())
    }

    #[test]
    fn in_order_without_the_reserved_ones() {
        let mut pool = pool("10.0.0.0/29");
        let all: Vec<u8> = std::iter::from_fn(|| pool.take_next()).map(|a| a.octets()[3]).collect();
        assert_eq!(all, [2, 3, 4, 5, 6]);
        assert_eq!(pool.take_next(), None);
    }

    #[test]
    fn a_released_address_comes_round_last() {
        let mut pool = pool("10.0.0.0/29");
        let first = pool.take_next().unwrap();
        pool.release(first);
        let next: Vec<u8> = std::iter::from_fn(|| pool.take_next()).map(|a| a.octets()[3]).collect();
        assert_eq!(next, [3, 4, 5, 6, 2]);
    }

    #[test]
    fn adopted_and_chosen_addresses_are_skipped() {
        let mut pool = pool("10.0.0.0/29");
        assert!(pool.take(Ipv4Addr::new(10, 0, 0, 3)));
        assert!(!pool.take(Ipv4Addr::new(10, 0, 0, 3)));
        assert!(!pool.take(Ipv4Addr::new(10, 0, 0, 1)), "the gateway's");
        pool.adopt(Ipv4Addr::new(10, 0, 0, 4));
        let next: Vec<u8> = std::iter::from_fn(|| pool.take_next()).map(|a| a.octets()[3]).collect();
        assert_eq!(next, [5, 6, 2]);
    }

    #[test]
    fn a_gateway_in_the_middle_and_tiny_subnets() {
        let mut pool = AddressPool::new("10.0.0.0/29".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 3));
        let all: Vec<u8> = std::iter::from_fn(|| pool.take_next()).map(|a| a.octets()[3]).collect();
        assert_eq!(all, [1, 2, 4, 5, 6]);
        let mut pool = AddressPool::new("10.0.0.0/31".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 0));
        assert_eq!(pool.take_next(), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(pool.take_next(), None);
    }
}
