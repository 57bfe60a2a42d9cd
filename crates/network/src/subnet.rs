//! IPv4 subnets, and Docker's list of those a network gets when none is configured.
//!
//! A [`Subnet`] always holds the network address itself: bits beyond the prefix are zero.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// An IPv4 network, written `172.17.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The subnet an address belongs to; prefixes beyond 32 count as 32.
    #[must_use]
    pub const fn containing(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = if prefix > 32 { 32 } else { prefix };
        Self { network: Ipv4Addr::from_bits(address.to_bits() & mask(prefix)), prefix }
    }

    /// The network address.
    #[must_use]
    pub const fn network(self) -> Ipv4Addr {
        self.network
    }

    /// Length of the prefix, 0 to 32.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The last address: broadcast of the network.
    #[must_use]
    pub const fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | !mask(self.prefix))
    }

    /// Whether the address belongs to the subnet.
    #[must_use]
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.network.to_bits()
    }

    /// Whether any address belongs to both.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// Whether the address may be given to a host: inside, and neither the network's nor the broadcast address.
    #[must_use]
    pub fn is_host(self, address: Ipv4Addr) -> bool {
        self.contains(address) && (self.prefix >= 31 || (address != self.network && address != self.broadcast()))
    }

    /// The first host address, which the bridge takes by default.
    #[must_use]
    pub const fn first_host(self) -> Ipv4Addr {
        let offset = if self.prefix >= 31 { 0 } else { 1 };
        Ipv4Addr::from_bits(self.network.to_bits() + offset)
    }
}

const fn mask(prefix: u8) -> u32 {
    if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = Error;

    /// `address/prefix`; bits beyond the prefix are refused, as Docker does.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Config(format!("invalid subnet {text}: write it as 172.17.0.0/16"));
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: Ipv4Addr = address.parse().map_err(|_| invalid())?;
        let digits = (1..=2).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|prefix| digits && *prefix <= 32).ok_or_else(invalid)?;
        let subnet = Self::containing(address, prefix);
        if subnet.network != address {
            let text = format!("invalid subnet {text}: it should be {subnet}");
            return Err(Error::Config(text));
        }
        Ok(subnet)
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

/// Docker's default address pools, in the order they are tried: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16
/// in steps of /20.
#[must_use]
pub fn docker_address_pools() -> Vec<Subnet> {
    let large = (17..=31).map(|second| Subnet::containing(Ipv4Addr::new(172, second, 0, 0), 16));
    let small = (0..16).map(|step| Subnet::containing(Ipv4Addr::new(192, 168, step * 16, 0), 20));
    large.chain(small).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn text_round_trip_and_refusals() {
        for text in ["0.0.0.0/0", "172.17.0.0/16", "10.1.2.3/32", "192.168.16.0/20"] {
            assert_eq!(subnet(text).to_string(), text);
        }
        for text in ["", "172.17.0.0", "172.17.0.1/16", "172.17.0.0/33", "172.17.0.0/+8", "x/8", "10.0.0.0/008"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }

    #[test]
    fn overlap_is_symmetric() {
        let (outer, inner, other) = (subnet("172.16.0.0/12"), subnet("172.17.0.0/16"), subnet("10.0.0.0/8"));
        assert!(outer.overlaps(inner) && inner.overlaps(outer) && !other.overlaps(inner) && !inner.overlaps(other));
    }

    #[test]
    fn edges_are_no_hosts() {
        let subnet = subnet("172.17.0.0/16");
        assert!(!subnet.is_host("172.17.0.0".parse().unwrap()) && !subnet.is_host("172.17.255.255".parse().unwrap()));
        assert!(subnet.is_host(subnet.first_host()) && !subnet.is_host("172.18.0.1".parse().unwrap()));
    }

    #[test]
    fn pools_are_dockers_and_disjoint() {
        let pools = docker_address_pools();
        assert_eq!(pools.len(), 31);
        assert_eq!(
            (pools[0], pools[14], pools[15]),
            (subnet("172.17.0.0/16"), subnet("172.31.0.0/16"), subnet("192.168.0.0/20"))
        );
        for (index, pool) in pools.iter().enumerate() {
            assert!(pools[index + 1..].iter().all(|other| !pool.overlaps(*other)));
        }
    }
}
