//! Expressions, the instructions a rule is made of, and shorthands for the sequences everyone needs.
//!
//! A rule's expressions run in order; one that does not match ends the rule. Data is kept in four-byte registers,
//! of which there are sixteen. Numbers in registers are in network order where they come from a packet, and in the
//! machine's order where the kernel computes them (connection state, addresses' type).

use std::net::Ipv4Addr;

use super::{DATA_VALUE, LIST_ELEMENT};
use crate::message::Messages;

/// A four-byte register, 0 to 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u8);

impl Register {
    /// Its number on the wire (`NFT_REG32_00` is 8).
    fn number(self) -> u32 {
        8 + u32::from(self.0 & 15)
    }
}

/// Packet metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// Name of the link the packet came in by, 16 bytes.
    InputName,
    /// Name of the link it leaves by, 16 bytes.
    OutputName,
    /// Transport protocol number, one byte.
    TransportProtocol,
}

/// Connection tracking facts, each a native-endian number of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtKey {
    /// State bits: 2 established, 4 related, 8 new.
    State,
    /// Status bits (`IPS_*`): 32 means the destination was translated.
    Status,
}

/// Which header a payload offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The IPv4 header.
    Network,
    /// The TCP, UDP or SCTP header.
    Transport,
}

/// Comparison of a register with constant bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CmpOp {
    /// Goes on when equal.
    Equal,
    /// Goes on when different.
    NotEqual,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Passes this base chain (others at the same hook still see it).
    Accept,
    /// Is discarded.
    Drop,
    /// Visits another chain and comes back.
    Jump(String),
    /// Goes back to the chain it came from.
    Return,
}

/// One instruction of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Loads packet metadata.
    Meta(MetaKey, Register),
    /// Loads `length` bytes of a header at `offset`.
    Payload {
        /// Which header.
        header: Header,
        /// Bytes from its start.
        offset: u32,
        /// How many bytes.
        length: u32,
        /// First register.
        to: Register,
    },
    /// Ends the rule unless the comparison holds.
    Compare(Register, CmpOp, Vec<u8>),
    /// `register = register & mask`, in place.
    Mask(Register, Vec<u8>),
    /// Loads a connection tracking fact.
    Ct(CtKey, Register),
    /// Loads the type of the destination address (`RTN_*`, native-endian) as the routing tables see it.
    DestinationType(Register),
    /// Ends the rule unless the key starting at the first register is in the map; loads its value from there on.
    Map(String, Register),
    /// Translates the destination to the address and port in these registers.
    DestinationNat {
        /// Register of the address.
        address: Register,
        /// Register of the port.
        port: Register,
    },
    /// Translates the source to the address of the link the packet leaves by.
    Masquerade,
    /// Counts packets and bytes.
    Counter,
    /// Decides.
    Verdict(Verdict),
}

const LOCAL: u32 = 2;

impl Expression {
    /// Matches packets that came in by (or not by) the named link.
    #[must_use]
    pub fn input(op: CmpOp, name: &str) -> [Self; 2] {
        [Self::Meta(MetaKey::InputName, Register(0)), Self::Compare(Register(0), op, interface_name(name))]
    }

    /// Matches packets that leave by (or not by) the named link.
    #[must_use]
    pub fn output(op: CmpOp, name: &str) -> [Self; 2] {
        [Self::Meta(MetaKey::OutputName, Register(0)), Self::Compare(Register(0), op, interface_name(name))]
    }

    /// Matches packets from an address inside the network.
    #[must_use]
    pub fn source_in(network: Ipv4Addr, prefix: u8) -> [Self; 3] {
        address_in(12, network, prefix)
    }

    /// Matches packets to an address inside the network.
    #[must_use]
    pub fn destination_in(network: Ipv4Addr, prefix: u8) -> [Self; 3] {
        address_in(16, network, prefix)
    }

    /// Matches packets to (or not to) one address.
    #[must_use]
    pub fn destination(op: CmpOp, address: Ipv4Addr) -> [Self; 2] {
        let load = Self::Payload { header: Header::Network, offset: 16, length: 4, to: Register(0) };
        [load, Self::Compare(Register(0), op, address.octets().to_vec())]
    }

    /// Matches packets whose destination is an address of this host.
    #[must_use]
    pub fn destination_is_local() -> [Self; 2] {
        [Self::DestinationType(Register(0)), Self::Compare(Register(0), CmpOp::Equal, LOCAL.to_ne_bytes().to_vec())]
    }

    /// Matches when any of the bits is set in a connection tracking fact.
    #[must_use]
    pub fn ct_any(key: CtKey, bits: u32) -> [Self; 3] {
        [
            Self::Ct(key, Register(0)),
            Self::Mask(Register(0), bits.to_ne_bytes().to_vec()),
            Self::Compare(Register(0), CmpOp::NotEqual, vec![0; 4]),
        ]
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta(..) => "meta",
            Self::Payload { .. } => "payload",
            Self::Compare(..) => "cmp",
            Self::Mask(..) => "bitwise",
            Self::Ct(..) => "ct",
            Self::DestinationType(_) => "fib",
            Self::Map(..) => "lookup",
            Self::DestinationNat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Counter => "counter",
            Self::Verdict(_) => "immediate",
        }
    }

    pub(super) fn encode(&self, messages: &mut Messages) {
        messages.nest(LIST_ELEMENT, |m| {
            m.text(1, self.name());
            m.nest(2, |m| self.encode_data(m));
        });
    }

    /// The attributes of each kind; numbers are those of `enum nft_*_attributes`.
    fn encode_data(&self, m: &mut Messages) {
        match self {
            Self::Meta(key, to) => {
                m.be32(
                    2,
                    match key {
                        MetaKey::InputName => 6,
                        MetaKey::OutputName => 7,
                        MetaKey::TransportProtocol => 16,
                    },
                );
                m.be32(1, to.number());
            }
            Self::Payload { header, offset, length, to } => {
                m.be32(1, to.number());
                m.be32(
                    2,
                    match header {
                        Header::Network => 1,
                        Header::Transport => 2,
                    },
                );
                m.be32(3, *offset);
                m.be32(4, *length);
            }
            Self::Compare(from, op, data) => {
                m.be32(1, from.number());
                m.be32(
                    2,
                    match op {
                        CmpOp::Equal => 0,
                        CmpOp::NotEqual => 1,
                    },
                );
                m.nest(3, |m| m.bytes(DATA_VALUE, data));
            }
            Self::Mask(register, mask) => {
                m.be32(1, register.number());
                m.be32(2, register.number());
                m.be32(3, mask.len() as u32);
                m.nest(4, |m| m.bytes(DATA_VALUE, mask));
                m.nest(5, |m| m.bytes(DATA_VALUE, &vec![0; mask.len()]));
            }
            Self::Ct(key, to) => {
                m.be32(
                    2,
                    match key {
                        CtKey::State => 0,
                        CtKey::Status => 2,
                    },
                );
                m.be32(1, to.number());
            }
            Self::DestinationType(to) => {
                m.be32(1, to.number());
                m.be32(2, 3);
                m.be32(3, 2);
            }
            Self::Map(name, register) => {
                m.text(1, name);
                m.be32(2, register.number());
                m.be32(3, register.number());
            }
            Self::DestinationNat { address, port } => {
                m.be32(1, 1);
                m.be32(2, u32::from(super::FAMILY_IPV4));
                m.be32(3, address.number());
                m.be32(5, port.number());
            }
            Self::Masquerade | Self::Counter => {}
            Self::Verdict(verdict) => {
                m.be32(1, 0);
                m.nest(2, |m| {
                    m.nest(2, |m| match verdict {
                        Verdict::Accept => m.be32(1, 1),
                        Verdict::Drop => m.be32(1, 0),
                        Verdict::Jump(chain) => {
                            m.be32(1, (-3i32).cast_unsigned());
                            m.text(2, chain);
                        }
                        Verdict::Return => m.be32(1, (-5i32).cast_unsigned()),
                    });
                });
            }
        }
    }
}

fn address_in(offset: u32, network: Ipv4Addr, prefix: u8) -> [Expression; 3] {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    let network = u32::from(network) & mask;
    [
        Expression::Payload { header: Header::Network, offset, length: 4, to: Register(0) },
        Expression::Mask(Register(0), mask.to_be_bytes().to_vec()),
        Expression::Compare(Register(0), CmpOp::Equal, network.to_be_bytes().to_vec()),
    ]
}

/// A name as the kernel loads it: padded with NUL to `IFNAMSIZ`.
fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}
