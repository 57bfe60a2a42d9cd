//! The rewriting of ports between a container's programs and its resolver, as rules on what arrives on `lo`.
//!
//! Stateless: requests to the resolver's address have port 53 replaced by the real one, answers the other way round.
//! See `nft(8)`, "payload statement"; chains of the family `netdev` exist since Linux 4.2.

use std::net::Ipv4Addr;

use netlink::nftables::{
    BaseChain, ChainKind, Checksum, CmpOp, Expression, Header, Hook, MetaKey, Policy, Register, Transaction,
};

/// Name of the table inside a container's namespace.
pub(crate) const TABLE: &str = "dhow-resolver";
const CHAIN: &str = "lo";
const DNS: u16 = 53;
/// Offsets in the IPv4 header.
const PROTOCOL: u32 = 9;
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
/// Offsets in the headers of UDP and TCP, which have their ports in one place.
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;
/// Protocol numbers and where each has its checksum.
const PROTOCOLS: [(u8, u32, &str); 2] = [(17, 6, "UDP"), (6, 16, "TCP")];
/// Ethernet type of IPv4, which `netdev` chains have to ask for themselves.
const IPV4: u16 = 0x0800;

/// Puts the rules in force in place of any there were.
pub(crate) fn install(transaction: &mut Transaction, address: Ipv4Addr, port: u16) {
    transaction.replace_table();
    let base = BaseChain { kind: ChainKind::Filter, hook: Hook::Prerouting, priority: 0, policy: Policy::Accept };
    transaction.create_ingress_chain(CHAIN, "lo", &base);
    for (number, checksum, name) in PROTOCOLS {
        let asked = rule(number, DESTINATION, address, DESTINATION_PORT, (DNS, port), checksum);
        transaction.add_rule(CHAIN, &format!("{name} to the resolver"), &asked);
        let answered = rule(number, SOURCE, address, SOURCE_PORT, (port, DNS), checksum);
        transaction.add_rule(CHAIN, &format!("{name} from the resolver"), &answered);
    }
}

fn rule(
    protocol: u8,
    address_offset: u32,
    address: Ipv4Addr,
    port_offset: u32,
    (from, to): (u16, u16),
    checksum: u32,
) -> Vec<Expression> {
    let first = Register(0);
    let load = |header, offset, length| Expression::Payload { header, offset, length, to: first };
    let equal = |bytes: &[u8]| Expression::Compare(first, CmpOp::Equal, bytes.to_vec());
    let mut rule = vec![Expression::Meta(MetaKey::EtherType, first), equal(&IPV4.to_be_bytes())];
    rule.extend([
        load(Header::Network, PROTOCOL, 1),
        equal(&[protocol]),
        load(Header::Network, address_offset, 4),
        equal(&address.octets()),
        load(Header::Transport, port_offset, 2),
        equal(&from.to_be_bytes()),
        Expression::Load(first, to.to_be_bytes().to_vec()),
        Expression::SetPayload {
            header: Header::Transport,
            offset: port_offset,
            length: 2,
            from: first,
            checksum: Checksum::Internet(checksum),
        },
    ]);
    rule
}
