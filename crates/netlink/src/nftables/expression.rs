//! Expressions, the instructions a rule is made of, and shorthands for the sequences everyone needs.
//!
//! A rule's expressions run in order; one that does not match ends the rule. Data is kept in four-byte registers,
//! of which there are sixteen. Numbers in registers are in network order where they come from a packet, and in the
//! machine's order where the kernel computes them (connection state, addresses' type).

use std::net::{IpAddr, Ipv4Addr};

use super::{DATA_VALUE, DATA_VERDICT, Family, LIST_ELEMENT};
use crate::attribute::Attributes;
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
    /// The protocol the link layer names (`ETH_P_*`), two bytes in network order.
    EtherType,
    /// `NFPROTO_*` of the packet, one byte: 2 is IPv4, 10 is IPv6.
    Family,
    /// Name of the link the packet came in by, 16 bytes.
    InputName,
    /// Name of the link it leaves by, 16 bytes.
    OutputName,
    /// Kind of the link the packet came in by, as `bridge`, 16 bytes; since Linux 5.6.
    InputKind,
    /// Kind of the link it leaves by, 16 bytes.
    OutputKind,
    /// Transport protocol number, one byte.
    TransportProtocol,
    /// The packet's mark, a native-endian number of four bytes.
    Mark,
}

impl MetaKey {
    /// `enum nft_meta_keys`.
    fn number(self) -> u32 {
        match self {
            Self::EtherType => 1,
            Self::Mark => 3,
            Self::InputName => 6,
            Self::OutputName => 7,
            Self::Family => 15,
            Self::TransportProtocol => 16,
            Self::InputKind => 26,
            Self::OutputKind => 27,
        }
    }
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
    /// The IPv4 or IPv6 header.
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

/// How a checksum follows a change of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Not at all.
    None,
    /// An Internet checksum at this offset from the header's start is brought up to date.
    Internet(u32),
}

/// Which end of a connection is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// Where it comes from.
    Source = 0,
    /// Where it goes to.
    Destination = 1,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Passes this base chain (others at the same hook still see it).
    Accept,
    /// Is discarded.
    Drop,
    /// Visits another chain and comes back.
    Jump(String),
    /// Goes on in another chain for good.
    Goto(String),
    /// Goes back to the chain it came from.
    Return,
}

const VERDICT_DROP: i32 = 0;
const VERDICT_ACCEPT: i32 = 1;
const VERDICT_JUMP: i32 = -3;
const VERDICT_GOTO: i32 = -4;
const VERDICT_RETURN: i32 = -5;
/// The register that a verdict is put in (`NFT_REG_VERDICT`).
const VERDICT_REGISTER: u32 = 0;
/// `NFT_LOOKUP_F_INV`.
const INVERTED: u32 = 1;

impl Verdict {
    /// The attributes of a verdict, inside its `NFTA_DATA_VERDICT`.
    pub(super) fn encode(&self, m: &mut Messages) {
        let (code, chain) = match self {
            Self::Accept => (VERDICT_ACCEPT, None),
            Self::Drop => (VERDICT_DROP, None),
            Self::Jump(chain) => (VERDICT_JUMP, Some(chain)),
            Self::Goto(chain) => (VERDICT_GOTO, Some(chain)),
            Self::Return => (VERDICT_RETURN, None),
        };
        m.be32(1, code.cast_unsigned());
        if let Some(chain) = chain {
            m.text(2, chain);
        }
    }

    /// Reads what [`Self::encode`] writes.
    pub(super) fn parse(attributes: Attributes<'_>) -> Option<Self> {
        let chain = || attributes.find(2).map(|chain| chain.text());
        match attributes.find(1)?.be32()?.cast_signed() {
            VERDICT_ACCEPT => Some(Self::Accept),
            VERDICT_DROP => Some(Self::Drop),
            VERDICT_JUMP => Some(Self::Jump(chain()?)),
            VERDICT_GOTO => Some(Self::Goto(chain()?)),
            VERDICT_RETURN => Some(Self::Return),
            _ => None,
        }
    }
}

/// One instruction of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Loads packet metadata.
    Meta(MetaKey, Register),
    /// Sets packet metadata to a register's; of those that can be set, the mark.
    SetMeta(MetaKey, Register),
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
    /// Overwrites `length` bytes of a header at `offset` with a register's.
    SetPayload {
        /// Which header.
        header: Header,
        /// Bytes from its start.
        offset: u32,
        /// How many bytes.
        length: u32,
        /// First register.
        from: Register,
        /// What keeps the packet valid.
        checksum: Checksum,
    },
    /// Loads constant bytes.
    Load(Register, Vec<u8>),
    /// Ends the rule unless the comparison holds.
    Compare(Register, CmpOp, Vec<u8>),
    /// `register = register & mask`, in place.
    Mask(Register, Vec<u8>),
    /// `register = register | bits`, in place.
    SetBits(Register, u32),
    /// Loads a connection tracking fact.
    Ct(CtKey, Register),
    /// Loads the type of the destination address (`RTN_*`, native-endian) as the routing tables see it.
    DestinationType(Register),
    /// The same, of an address of the link the packet came in by: others of the host count as of another type.
    DestinationTypeOnInput(Register),
    /// Ends the rule unless the key starting at the register is in the set.
    InSet(String, Register),
    /// Ends the rule if the key starting at the register is in the set.
    NotInSet(String, Register),
    /// Ends the rule unless the key starting at the first register is in the map; loads its value from there on.
    Map(String, Register),
    /// Carries out the verdict that the map has for the key starting at the register; ends the rule if it has none.
    VerdictMap(String, Register),
    /// Translates one end of connections of a family; packets of the other pass unchanged.
    Nat {
        /// Which end.
        kind: NatKind,
        /// [`Family::Ipv4`] or [`Family::Ipv6`].
        family: Family,
        /// First register of the address.
        address: Register,
        /// Register of the port, if that is translated as well.
        port: Option<Register>,
    },
    /// Translates the IPv4 destination to the address and port in these registers.
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

    /// Matches packets that came in by a bridge.
    #[must_use]
    pub fn input_bridge() -> [Self; 2] {
        [
            Self::Meta(MetaKey::InputKind, Register(0)),
            Self::Compare(Register(0), CmpOp::Equal, interface_name("bridge")),
        ]
    }

    /// Matches packets that leave by a bridge.
    #[must_use]
    pub fn output_bridge() -> [Self; 2] {
        [
            Self::Meta(MetaKey::OutputKind, Register(0)),
            Self::Compare(Register(0), CmpOp::Equal, interface_name("bridge")),
        ]
    }

    /// Matches packets from an address inside the network.
    #[must_use]
    pub fn source_in(network: Ipv4Addr, prefix: u8) -> [Self; 3] {
        Self::source_within(network.into(), prefix)
    }

    /// Matches packets to an address inside the network.
    #[must_use]
    pub fn destination_in(network: Ipv4Addr, prefix: u8) -> [Self; 3] {
        Self::destination_within(network.into(), prefix)
    }

    /// Matches packets to (or not to) one address.
    #[must_use]
    pub fn destination(op: CmpOp, address: Ipv4Addr) -> [Self; 2] {
        Self::destination_address(op, address.into())
    }

    /// Matches packets of a family, [`Family::Ipv4`] or [`Family::Ipv6`], in a table that sees both.
    #[must_use]
    pub fn family(family: Family) -> [Self; 2] {
        [Self::Meta(MetaKey::Family, Register(0)), Self::Compare(Register(0), CmpOp::Equal, vec![family as u8])]
    }

    /// Matches packets of a transport protocol.
    #[must_use]
    pub fn protocol(number: u8) -> [Self; 2] {
        [Self::Meta(MetaKey::TransportProtocol, Register(0)), Self::Compare(Register(0), CmpOp::Equal, vec![number])]
    }

    /// Loads the source address of a packet of the family.
    #[must_use]
    pub fn load_source(family: Family, to: Register) -> Self {
        let (offset, length) = if family == Family::Ipv6 { (8, 16) } else { (12, 4) };
        Self::Payload { header: Header::Network, offset, length, to }
    }

    /// Loads the destination address of a packet of the family.
    #[must_use]
    pub fn load_destination(family: Family, to: Register) -> Self {
        let (offset, length) = if family == Family::Ipv6 { (24, 16) } else { (16, 4) };
        Self::Payload { header: Header::Network, offset, length, to }
    }

    /// Loads the destination port.
    #[must_use]
    pub const fn load_destination_port(to: Register) -> Self {
        Self::Payload { header: Header::Transport, offset: 2, length: 2, to }
    }

    /// Matches packets from an address inside the network. Its family is not checked.
    #[must_use]
    pub fn source_within(network: IpAddr, prefix: u8) -> [Self; 3] {
        within(Self::load_source(family_of(network), Register(0)), network, prefix)
    }

    /// Matches packets to an address inside the network. Its family is not checked.
    #[must_use]
    pub fn destination_within(network: IpAddr, prefix: u8) -> [Self; 3] {
        within(Self::load_destination(family_of(network), Register(0)), network, prefix)
    }

    /// Matches packets to (or not to) one address. Its family is not checked.
    #[must_use]
    pub fn destination_address(op: CmpOp, address: IpAddr) -> [Self; 2] {
        [
            Self::load_destination(family_of(address), Register(0)),
            Self::Compare(Register(0), op, super::set::octets(address)),
        ]
    }

    /// Matches packets whose destination is an address of the link they came in by.
    #[must_use]
    pub fn destination_is_of_input() -> [Self; 2] {
        let load = Self::DestinationTypeOnInput(Register(0));
        [load, Self::Compare(Register(0), CmpOp::Equal, LOCAL.to_ne_bytes().to_vec())]
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

    /// Ends the rule unless any of these bits of the packet's mark is set.
    #[must_use]
    pub fn marked(bits: u32) -> [Self; 3] {
        [
            Self::Meta(MetaKey::Mark, Register(0)),
            Self::Mask(Register(0), bits.to_ne_bytes().to_vec()),
            Self::Compare(Register(0), CmpOp::NotEqual, vec![0; 4]),
        ]
    }

    /// Sets these bits of the packet's mark, and leaves the others.
    #[must_use]
    pub fn mark(bits: u32) -> [Self; 3] {
        [
            Self::Meta(MetaKey::Mark, Register(0)),
            Self::SetBits(Register(0), bits),
            Self::SetMeta(MetaKey::Mark, Register(0)),
        ]
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta(..) | Self::SetMeta(..) => "meta",
            Self::Payload { .. } | Self::SetPayload { .. } => "payload",
            Self::Compare(..) => "cmp",
            Self::Mask(..) | Self::SetBits(..) => "bitwise",
            Self::Ct(..) => "ct",
            Self::DestinationType(_) | Self::DestinationTypeOnInput(_) => "fib",
            Self::InSet(..) | Self::NotInSet(..) | Self::Map(..) | Self::VerdictMap(..) => "lookup",
            Self::Nat { .. } | Self::DestinationNat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Counter => "counter",
            Self::Verdict(_) | Self::Load(..) => "immediate",
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
                m.be32(2, key.number());
                m.be32(1, to.number());
            }
            Self::SetMeta(key, from) => {
                m.be32(2, key.number());
                m.be32(3, from.number());
            }
            Self::Payload { header, offset, length, to } => {
                m.be32(1, to.number());
                m.be32(2, header.number());
                m.be32(3, *offset);
                m.be32(4, *length);
            }
            Self::SetPayload { header, offset, length, from, checksum } => {
                m.be32(5, from.number());
                m.be32(2, header.number());
                m.be32(3, *offset);
                m.be32(4, *length);
                if let Checksum::Internet(offset) = checksum {
                    m.be32(6, 1);
                    m.be32(7, *offset);
                }
            }
            Self::Load(to, data) => {
                m.be32(1, to.number());
                m.nest(2, |m| m.bytes(DATA_VALUE, data));
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
            Self::SetBits(register, bits) => {
                // `(register & mask) ^ xor` is what the kernel has for it.
                m.be32(1, register.number());
                m.be32(2, register.number());
                m.be32(3, 4);
                m.nest(4, |m| m.bytes(DATA_VALUE, &(!bits).to_ne_bytes()));
                m.nest(5, |m| m.bytes(DATA_VALUE, &bits.to_ne_bytes()));
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
            Self::DestinationType(to) => fib_type(m, *to, FIB_DESTINATION),
            Self::DestinationTypeOnInput(to) => fib_type(m, *to, FIB_DESTINATION | FIB_INPUT),
            Self::InSet(name, register) => {
                m.text(1, name);
                m.be32(2, register.number());
            }
            Self::NotInSet(name, register) => {
                m.text(1, name);
                m.be32(2, register.number());
                m.be32(5, INVERTED);
            }
            Self::Map(name, register) => {
                m.text(1, name);
                m.be32(2, register.number());
                m.be32(3, register.number());
            }
            Self::VerdictMap(name, register) => {
                m.text(1, name);
                m.be32(2, register.number());
                m.be32(3, VERDICT_REGISTER);
            }
            Self::Nat { kind, family, address, port } => nat(m, *kind, *family, *address, *port),
            Self::DestinationNat { address, port } => {
                nat(m, NatKind::Destination, Family::Ipv4, *address, Some(*port));
            }
            Self::Masquerade | Self::Counter => {}
            Self::Verdict(verdict) => {
                m.be32(1, VERDICT_REGISTER);
                m.nest(2, |m| m.nest(DATA_VERDICT, |m| verdict.encode(m)));
            }
        }
    }
}

impl Header {
    fn number(self) -> u32 {
        match self {
            Self::Network => 1,
            Self::Transport => 2,
        }
    }
}

/// Flags and result of a `fib` expression.
const FIB_DESTINATION: u32 = 2;
const FIB_INPUT: u32 = 8;
const FIB_RESULT_TYPE: u32 = 3;

fn fib_type(m: &mut Messages, to: Register, flags: u32) {
    m.be32(1, to.number());
    m.be32(2, FIB_RESULT_TYPE);
    m.be32(3, flags);
}

fn nat(m: &mut Messages, kind: NatKind, family: Family, address: Register, port: Option<Register>) {
    m.be32(1, kind as u32);
    m.be32(2, u32::from(family as u8));
    m.be32(3, address.number());
    if let Some(port) = port {
        m.be32(5, port.number());
    }
}

fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

fn within(load: Expression, network: IpAddr, prefix: u8) -> [Expression; 3] {
    let mask = super::set::mask(network, prefix);
    let network = super::set::octets(network).iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
    [load, Expression::Mask(Register(0), mask), Expression::Compare(Register(0), CmpOp::Equal, network)]
}

/// A name as the kernel loads it: padded with NUL to `IFNAMSIZ`.
pub(super) fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}
