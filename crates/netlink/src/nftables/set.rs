//! Sets and maps: what their keys and values are made of, and their elements.
//!
//! The types only matter to programs that list the tables; the kernel compares bytes. Each part of a concatenation
//! takes a multiple of four bytes, which is why [`Element`] parts are added one by one.

use std::net::Ipv4Addr;

/// One part of a key or value, with the type number `nft` knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// An IPv4 address.
    Ipv4Address,
    /// A transport protocol number.
    Protocol,
    /// A port.
    Port,
}

impl DataType {
    const fn number(self) -> u32 {
        match self {
            Self::Ipv4Address => 7,
            Self::Protocol => 12,
            Self::Port => 13,
        }
    }
}

/// Bits each part of a concatenated type number takes.
const TYPE_BITS: u32 = 6;
/// Every part is padded to a register of four bytes; all our parts fit one.
const PART: u32 = 4;

pub(super) fn type_number(parts: &[DataType]) -> u32 {
    parts.iter().fold(0, |number, part| number << TYPE_BITS | part.number())
}

pub(super) fn length(parts: &[DataType]) -> u32 {
    // A value of one part is as long as the part; the kernel wants exactly that for single keys as well.
    match parts {
        [DataType::Protocol] => 1,
        [DataType::Port] => 2,
        parts => parts.len() as u32 * PART,
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

    /// Appends a port to the value.
    #[must_use]
    pub fn value_port(mut self, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        self.value.extend([high, low, 0, 0]);
        self
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
}
