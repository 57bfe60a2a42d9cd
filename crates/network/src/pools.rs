//! Which subnet a network gets when none is configured.
//!
//! The invariant: a chosen subnet overlaps no network of this engine and no address or route of the host, so a new
//! network never takes traffic from an old one. Docker's own list comes first, in its order; when it is used up a
//! further range is divided into small subnets, so that the thirty-second network is not an error.
//! Called by `Fabric` while a network is made.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A range that is divided into subnets of one size, as `--default-address-pool base=…,size=…` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// The whole range.
    pub base: IpNet,
    /// Length of the prefix of each subnet.
    pub size: u8,
}

impl Pool {
    /// A pool, or nothing when the subnets would be larger than the range or too small for a container.
    #[must_use]
    pub fn new(base: IpNet, size: u8) -> Option<Self> {
        let longest = base.max_prefix_len() - 2;
        (base.prefix_len() <= size && size <= longest).then_some(Self { base: base.trunc(), size })
    }

    /// Its subnets in order.
    fn subnets(&self) -> Box<dyn Iterator<Item = IpNet>> {
        match self.base {
            IpNet::V4(base) => Box::new(base.subnets(self.size).into_iter().flatten().map(IpNet::V4)),
            IpNet::V6(base) => Box::new(base.subnets(self.size).into_iter().flatten().map(IpNet::V6)),
        }
    }
}

/// Docker's default pools (172.17.0.0/16 to 172.31.0.0/16, 192.168.0.0/16 in steps of /20), then 10.208.0.0/12 in steps
/// of /24, and for IPv6 the engine's own unique local prefix of 48 bits (RFC 4193) in steps of /64.
#[must_use]
pub fn default_pools(unique_local: [u8; 5]) -> Vec<Pool> {
    let v4 = |a, b, c, prefix, size| Ipv4Net::new(Ipv4Addr::new(a, b, c, 0), prefix).ok().map(|n| (IpNet::V4(n), size));
    let large = (17..=31).map(|second| v4(172, second, 0, 16, 16));
    let rest = [v4(192, 168, 0, 16, 20), v4(10, 208, 0, 12, 24)];
    let [a, b, c, d, e] = unique_local;
    let local = Ipv6Addr::from([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let v6 = Ipv6Net::new(local, 48).ok().map(|net| (IpNet::V6(net), 64));
    large.chain(rest).chain([v6]).flatten().filter_map(|(base, size)| Pool::new(base, size)).collect()
}

/// The first subnet of the family that overlaps nothing that is taken.
pub(crate) fn choose(pools: &[Pool], ipv6: bool, taken: &[IpNet]) -> Option<IpNet> {
    let pools = pools.iter().filter(|pool| matches!(pool.base, IpNet::V6(_)) == ipv6);
    pools.flat_map(Pool::subnets).find(|subnet| !taken.iter().any(|other| overlap(*subnet, *other)))
}

/// Whether any address belongs to both.
pub(crate) fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn dockers_list_comes_first_and_then_goes_on() {
        let pools = default_pools([0x2a, 0x41, 0xb7, 0x71, 0xc3]);
        let mut taken = Vec::new();
        for _ in 0..40 {
            taken.push(choose(&pools, false, &taken).unwrap());
        }
        assert_eq!(taken[0], nets(&["172.17.0.0/16"])[0]);
        assert_eq!(taken[14..16], nets(&["172.31.0.0/16", "192.168.0.0/20"]));
        assert_eq!(taken[30..33], nets(&["192.168.240.0/20", "10.208.0.0/24", "10.208.1.0/24"]));
        assert_eq!(choose(&pools, true, &[]), Some(nets(&["fd2a:41b7:71c3::/64"])[0]));
        assert_eq!(choose(&pools, true, &nets(&["fd2a:41b7:71c3::/63"])), Some(nets(&["fd2a:41b7:71c3:2::/64"])[0]));
    }

    #[test]
    fn routes_of_the_host_are_kept_clear_of() {
        let pools = default_pools([0; 5]);
        assert_eq!(
            choose(&pools, false, &nets(&["172.16.0.0/12", "192.168.1.0/24"])),
            nets(&["192.168.16.0/20"]).pop()
        );
        assert_eq!(choose(&pools, false, &nets(&["0.0.0.0/0"])), None);
    }

    #[test]
    fn pools_that_make_no_sense_are_none() {
        let base: IpNet = "10.0.0.0/16".parse().unwrap();
        assert!(Pool::new(base, 15).is_none() && Pool::new(base, 31).is_none() && Pool::new(base, 24).is_some());
    }
}
