//! Sets and maps: what their keys and values are made of, and their elements.
//!
//! The types only matter to programs that list the tables; the kernel compares bytes. Each part of a concatenation
//! takes a multiple of four bytes, which is why [`Element`] parts are added one by one.

use std::net::{IpAddr, Ipv4Addr};

use super::expression::{Verdict, interface_name};

/// One part of a key or value, with the type number `nft` knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// An IPv4 address.
    Ipv4Address,
    /// An IPv6 address.
    Ipv6Address,
    /// A transport protocol number.
    Protocol,
    /// A port.
    Port,
    /// The name of a link.
    InterfaceName,
    /// What becomes of a packet: alone, as the value of a map.
    Verdict,
}

impl DataType {
    const fn number(self) -> u32 {
        match self {
            Self::Ipv4Address => 7,
            Self::Ipv6Address => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::InterfaceName => 41,
            Self::Verdict => VERDICT,
        }
    }

    /// Bytes it takes by itself.
    const fn length(self) -> u32 {
        match self {
            Self::Protocol => 1,
            Self::Port => 2,
            Self::Ipv4Address => 4,
            Self::Ipv6Address | Self::InterfaceName => 16,
            Self::Verdict => 0,
        }
    }
}

/// `NFT_DATA_VERDICT`, which the kernel itself knows.
const VERDICT: u32 = 0xffff_ff00;
/// Bits each part of a concatenated type number takes.
const TYPE_BITS: u32 = 6;
/// Every part of a concatenation is padded to registers of four bytes.
const PART: u32 = 4;

pub(super) fn type_number(parts: &[DataType]) -> u32 {
    parts.iter().fold(0, |number, part| number << TYPE_BITS | part.number())
}

pub(super) fn length(parts: &[DataType]) -> u32 {
    match parts {
        // Of one part the kernel wants exactly its length.
        [part] => part.length(),
        parts => parts.iter().map(|part| part.length().next_multiple_of(PART)).sum(),
    }
}

/// A set, or a map when it has a value type.
#[derive(Debug, Clone, Copy)]
pub struct SetSpec<'a> {
    /// Name, unique in its table.
    pub name: &'a str,
    /// Parts of the key.
    pub key: &'a [DataType],
    /// Parts of the value; empty for a set.
    pub value: &'a [DataType],
}

/// An element: key, and value if its set is a map.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// The key's bytes, each part padded to four.
    pub key: Vec<u8>,
    /// The value's bytes, likewise; empty in a set.
    pub value: Vec<u8>,
    /// The value in a map of verdicts.
    pub verdict: Option<Verdict>,
    /// In a set of intervals: the key is the first one behind an interval, which therefore ends there.
    pub interval_end: bool,
}

impl Element {
    /// An element whose parts are still to be added.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a protocol number to the key.
    #[must_use]
    pub fn key_protocol(mut self, protocol: u8) -> Self {
        self.key.extend([protocol, 0, 0, 0]);
        self
    }

    /// Appends an address to the key.
    #[must_use]
    pub fn key_address(mut self, address: Ipv4Addr) -> Self {
        self.key.extend(address.octets());
        self
    }

    /// Appends an address of either family to the key.
    #[must_use]
    pub fn key_ip(mut self, address: IpAddr) -> Self {
        self.key.extend(octets(address));
        self
    }

    /// Appends the name of a link to the key.
    #[must_use]
    pub fn key_interface(mut self, name: &str) -> Self {
        self.key.extend(interface_name(name));
        self
    }

    /// Appends a port to the key.
    #[must_use]
    pub fn key_port(mut self, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        self.key.extend([high, low, 0, 0]);
        self
    }

    /// Appends an address to the value.
    #[must_use]
    pub fn value_address(mut self, address: Ipv4Addr) -> Self {
        self.value.extend(address.octets());
        self
    }

    /// Appends an address of either family to the value.
    #[must_use]
    pub fn value_ip(mut self, address: IpAddr) -> Self {
        self.value.extend(octets(address));
        self
    }

    /// Makes a verdict the value.
    #[must_use]
    pub fn value_verdict(mut self, verdict: Verdict) -> Self {
        self.verdict = Some(verdict);
        self
    }

    /// The elements that stand for the addresses of a network in a set of intervals: the first one, with the verdict in a
    /// map, and the end unless the network reaches to the last address there is.
    #[must_use]
    pub fn network(address: IpAddr, prefix: u8, verdict: Option<Verdict>) -> Vec<Self> {
        let mask = mask(address, prefix);
        let first: Vec<u8> = octets(address).iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
        let mut past: Vec<u8> = first.iter().zip(&mask).map(|(byte, mask)| byte | !mask).collect();
        let mut carry = true;
        for byte in past.iter_mut().rev() {
            if carry {
                (*byte, carry) = byte.overflowing_add(1);
            }
        }
        let mut elements = vec![Self { key: first, verdict, ..Self::default() }];
        if !carry {
            elements.push(Self { key: past, interval_end: true, ..Self::default() });
        }
        elements
    }

    /// Appends a port to the value.
    #[must_use]
    pub fn value_port(mut self, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        self.value.extend([high, low, 0, 0]);
        self
    }
}

/// The bytes of an address.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The mask of a prefix of that address's family.
pub(super) fn mask(address: IpAddr, prefix: u8) -> Vec<u8> {
    match address {
        IpAddr::V4(_) => {
            u32::MAX.checked_shl(32u32.saturating_sub(u32::from(prefix))).unwrap_or(0).to_be_bytes().to_vec()
        }
        IpAddr::V6(_) => {
            u128::MAX.checked_shl(128u32.saturating_sub(u32::from(prefix))).unwrap_or(0).to_be_bytes().to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concatenations_are_numbered_and_padded_as_nft_does() {
        let key = [DataType::Protocol, DataType::Ipv4Address, DataType::Port];
        assert_eq!(type_number(&key), (12 << 12) | (7 << 6) | 13);
        assert_eq!(length(&key), 12);
        let element = Element::new().key_protocol(6).key_address(Ipv4Addr::LOCALHOST).key_port(8080);
        assert_eq!(element.key, [6, 0, 0, 0, 127, 0, 0, 1, 0x1f, 0x90, 0, 0]);
        assert_eq!(element.key.len() as u32, length(&key));
    }
    #[test]
    fn lengths_are_padded_in_concatenations_only() {
        assert_eq!(length(&[DataType::Port]), 2);
        assert_eq!(length(&[DataType::Protocol, DataType::Ipv6Address, DataType::Port]), 24);
        assert_eq!(length(&[DataType::InterfaceName]), 16);
        assert_eq!(type_number(&[DataType::Verdict]), 0xffff_ff00);
    }

    #[test]
    fn networks_become_intervals() {
        let keys = |text: &str, prefix| -> Vec<Vec<u8>> {
            Element::network(text.parse().unwrap(), prefix, None).into_iter().map(|element| element.key).collect()
        };
        assert_eq!(keys("172.17.3.4", 16), [[172, 17, 0, 0], [172, 18, 0, 0]]);
        assert_eq!(keys("10.255.255.255", 32), [[10, 255, 255, 255], [11, 0, 0, 0]]);
        assert_eq!(keys("0.0.0.0", 0), [[0; 4]]);
        assert_eq!(keys("255.0.0.0", 8), [[255, 0, 0, 0]]);
        let v6 = keys("fd00:0:0:ffff::1", 64);
        assert_eq!((v6[0].len(), v6.len()), (16, 2));
        assert_eq!(&v6[1][..8], [0xfd, 0, 0, 0, 0, 1, 0, 0]);
        let elements = Element::network("10.0.0.0".parse().unwrap(), 8, Some(Verdict::Drop));
        assert!(elements[0].verdict.is_some() && !elements[0].interval_end);
        assert!(elements[1].verdict.is_none() && elements[1].interval_end);
    }
}
