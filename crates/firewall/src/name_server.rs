//! Leading a container's questions for names to a server at a port of its own choice, inside the container's namespace.
//!
//! Programs in a container ask port 53 of the server's loopback address. The server listens at another port there, so that
//! port 53 stays free for the container's own programs, and packets are rewritten as they come out of `lo`: in a table of
//! family `netdev`, which sees them before sockets do and tracks no connections. One port is exchanged for the other in
//! both directions, which is all the state there is.
//!
//! Called by whoever makes the namespace, on a thread inside.

use std::net::Ipv4Addr;

use netlink::nftables::{
    BaseChain, ChainKind, Checksum, CmpOp, Expression, Family, Header, Hook, MetaKey, Policy, Register, Transaction,
    priority,
};

use crate::ruleset::protocol_number;
use types::Protocol;

/// The table in the container's namespace.
const TABLE: &str = "dhow-names";
const LOOPBACK_LINK: &str = "lo";
/// Where everybody looks for a name server.
const DNS: u16 = 53;
const ETHERTYPE_IPV4: u16 = 0x0800;
/// Offsets of the addresses in an IPv4 header, and of the ports in those of UDP and TCP.
const SOURCE: (u32, u32) = (12, 0);
const DESTINATION: (u32, u32) = (16, 2);
/// Offsets of the checksums of UDP and TCP.
const CHECKSUMS: [(Protocol, u32); 2] = [(Protocol::Udp, 6), (Protocol::Tcp, 16)];

/// The transaction that leads port 53 of `server`, UDP and TCP, to `port` of the same address, in place of what an earlier
/// one led to.
#[must_use]
pub fn lead_to_name_server(server: Ipv4Addr, port: u16) -> Transaction {
    let mut t = Transaction::of(Family::Netdev, TABLE);
    t.replace_table();
    let base = BaseChain {
        kind: ChainKind::Filter,
        hook: Hook::Prerouting,
        priority: priority::FILTER,
        policy: Policy::Accept,
    };
    t.create_ingress_chain(LOOPBACK_LINK, LOOPBACK_LINK, &base);
    for (protocol, checksum) in CHECKSUMS {
        let mut rewrite = |(address, at): (u32, u32), from: u16, to: u16, comment: &str| {
            let load = |header, offset, length| Expression::Payload { header, offset, length, to: Register(0) };
            let equal = |bytes: Vec<u8>| Expression::Compare(Register(0), CmpOp::Equal, bytes);
            let rule = [
                Expression::Meta(MetaKey::EtherType, Register(0)),
                equal(ETHERTYPE_IPV4.to_be_bytes().to_vec()),
                load(Header::Network, address, 4),
                equal(server.octets().to_vec()),
                Expression::Meta(MetaKey::TransportProtocol, Register(0)),
                equal(vec![protocol_number(protocol)]),
                load(Header::Transport, at, 2),
                equal(from.to_be_bytes().to_vec()),
                Expression::Load(Register(0), to.to_be_bytes().to_vec()),
                Expression::SetPayload {
                    header: Header::Transport,
                    offset: at,
                    length: 2,
                    from: Register(0),
                    checksum: Checksum::Internet(checksum),
                },
            ];
            t.add_rule(LOOPBACK_LINK, comment, &rule);
        };
        rewrite(DESTINATION, DNS, port, "to the name server");
        rewrite(SOURCE, port, DNS, "from the name server");
    }
    t
}
