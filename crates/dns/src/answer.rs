//! Answers made here: addresses and names of containers, and errors.
//!
//! They repeat the question with the client's id, case and extension, never exceed the size the client takes, and say so
//! when they are cut (RFC 2181 9).

use std::net::IpAddr;

use crate::name::Name;
use crate::query::Query;
use crate::{CLASS_IN, HEADER, flag, rcode, rtype};

/// Seconds an answer about a container may be kept, as dockerd says.
pub const TTL: u32 = 600;
/// Largest datagram we take.
pub const OUR_SIZE: u16 = 1232;
/// Bytes of an extension record without options.
const OPT_LEN: usize = 11;

/// Why a message is not answered with more than its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub id: u16,
    /// The header's flags as the client set them.
    pub flags: u16,
    pub rcode: u16,
}

impl Refusal {
    /// The header alone, with an extension where the code needs one.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        let extended = self.rcode > 0xf;
        let flags = flag::RESPONSE
            | flag::RECURSION_AVAILABLE
            | (self.flags & (flag::OPCODE | flag::RECURSION_DESIRED))
            | (self.rcode & 0xf);
        for word in [self.id, flags, 0, 0, 0, u16::from(extended)] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        if extended {
            push_opt(out, OUR_SIZE, self.rcode, false);
        }
    }
}

/// Appends an extension record (RFC 6891 6.1.2) with the upper bits of `rcode`.
pub(crate) fn push_opt(out: &mut Vec<u8>, size: u16, rcode: u16, dnssec: bool) {
    let [size_high, size_low] = size.to_be_bytes();
    let high = u8::try_from(rcode >> 4).unwrap_or(0);
    let dnssec = if dnssec { 0x80 } else { 0 };
    out.extend_from_slice(&[0, 0, 41, size_high, size_low, high, 0, dnssec, 0, 0, 0]);
}

/// Begins an answer: header without counts of records, and the question.
pub(crate) fn begin(query: &Query, extra_flags: u16, rcode: u16, out: &mut Vec<u8>) {
    out.clear();
    let flags = flag::RESPONSE
        | flag::RECURSION_AVAILABLE
        | (query.flags & (flag::RECURSION_DESIRED | flag::CHECKING_DISABLED))
        | extra_flags
        | (rcode & 0xf);
    for word in [query.id, flags, 1, 0, 0, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(query.name.wire());
    out.extend_from_slice(&query.qtype.to_be_bytes());
    out.extend_from_slice(&query.qclass.to_be_bytes());
}

/// Ends an answer: the counts, the truncation flag and the extension.
pub(crate) fn end(query: &Query, counts: [u16; 3], truncated: bool, rcode: u16, out: &mut Vec<u8>) {
    let [answers, authorities, mut additionals] = counts;
    if query.edns.is_some() {
        push_opt(out, OUR_SIZE, rcode, query.dnssec());
        additionals = additionals.saturating_add(1);
    }
    let mut put = |at: usize, value: u16| {
        if let Some(place) = out.get_mut(at..at + 2) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    };
    put(6, answers);
    put(8, authorities);
    put(10, additionals);
    if truncated && let Some(byte) = out.get_mut(2) {
        *byte |= flag::TRUNCATED.to_be_bytes()[0];
    }
}

/// Bytes that records may take up to when the answer may have `limit`.
pub(crate) fn room(query: &Query, limit: usize) -> usize {
    limit.saturating_sub(if query.edns.is_some() { OPT_LEN } else { 0 })
}

/// An answer without records: an error, or a name that has none of the type asked for.
pub fn empty(query: &Query, rcode: u16, out: &mut Vec<u8>) {
    begin(query, 0, rcode, out);
    end(query, [0; 3], false, rcode, out);
}

/// Addresses of the name asked for, of one family. Gives how many were written; fewer than there are when the answer
/// was cut at `limit` bytes.
pub fn addresses(query: &Query, addresses: impl IntoIterator<Item = IpAddr>, limit: usize, out: &mut Vec<u8>) -> usize {
    begin(query, 0, rcode::NOERROR, out);
    let room = room(query, limit);
    let (mut count, mut truncated) = (0u16, false);
    for address in addresses {
        let (rtype, v4, v6);
        let data: &[u8] = match address {
            IpAddr::V4(address) => {
                (rtype, v4) = (rtype::A, address.octets());
                &v4
            }
            IpAddr::V6(address) => {
                (rtype, v6) = (rtype::AAAA, address.octets());
                &v6
            }
        };
        if out.len() + 12 + data.len() > room || count == u16::MAX {
            truncated = true;
            break;
        }
        push_record(out, rtype, data);
        count += 1;
    }
    end(query, [count, 0, 0], truncated, rcode::NOERROR, out);
    usize::from(count)
}

/// The name that belongs to an address.
pub fn pointer(query: &Query, target: &Name, limit: usize, out: &mut Vec<u8>) {
    begin(query, 0, rcode::NOERROR, out);
    let fits = out.len() + 12 + target.wire().len() <= room(query, limit);
    if fits {
        push_record(out, rtype::PTR, target.wire());
    }
    end(query, [u16::from(fits), 0, 0], !fits, rcode::NOERROR, out);
}

/// A record of the name in the question, which is a pointer to it.
fn push_record(out: &mut Vec<u8>, rtype: u16, data: &[u8]) {
    out.extend_from_slice(&[0xc0, HEADER as u8]);
    out.extend_from_slice(&rtype.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out.extend_from_slice(&TTL.to_be_bytes());
    out.extend_from_slice(&u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use domain::base::Message;
    use domain::rdata::{A, Aaaa, Ptr};
    use proptest::prelude::*;

    use super::*;
    use crate::query::tests::ask;

    fn query(name: &str, qtype: u16, edns: Option<(u16, bool)>) -> Query {
        Query::parse(&ask(9, name, qtype, edns)).unwrap()
    }

    #[test]
    fn addresses_in_order_and_in_the_clients_case() {
        let query = query("WeB", rtype::A, Some((1232, false)));
        let mut out = Vec::new();
        let wanted = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        assert_eq!(addresses(&query, wanted, 1232, &mut out), 2);
        let message = Message::from_octets(&out).unwrap();
        let header = message.header();
        assert!(header.qr() && header.ra() && header.rd() && !header.aa() && !header.tc());
        assert_eq!(header.id(), 9);
        assert!(out.windows(5).any(|window| window == b"\x03WeB\x00"));
        let got: Vec<_> = message.answer().unwrap().limit_to::<A>().map(|record| record.unwrap()).collect();
        assert_eq!(
            got.iter().map(|record| record.data().addr()).collect::<Vec<_>>(),
            [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)]
        );
        assert!(got.iter().all(|record| record.ttl().as_secs() == 600));
        assert_eq!(message.opt().unwrap().udp_payload_size(), OUR_SIZE);
    }

    #[test]
    fn sixth_version_names_and_nothing() {
        let mut out = Vec::new();
        addresses(&query("a", rtype::AAAA, None), [IpAddr::V6(Ipv6Addr::LOCALHOST)], 512, &mut out);
        let message = Message::from_octets(&out).unwrap();
        let record = message.answer().unwrap().limit_to::<Aaaa>().next().unwrap().unwrap();
        assert_eq!(record.data().addr(), Ipv6Addr::LOCALHOST);
        assert!(message.opt().is_none());

        let target = Name::from_text("web.net1").unwrap();
        pointer(&query("1.0.0.10.in-addr.arpa", rtype::PTR, None), &target, 512, &mut out);
        let message = Message::from_octets(&out).unwrap();
        let record = message.answer().unwrap().limit_to::<Ptr<_>>().next().unwrap().unwrap();
        assert_eq!(record.data().ptrdname().to_string().trim_end_matches('.'), "web.net1");

        empty(&query("b", rtype::A, None), rcode::SERVFAIL, &mut out);
        let message = Message::from_octets(&out).unwrap();
        assert_eq!((message.header().rcode().to_int(), message.header_counts().ancount()), (2, 0));
    }

    #[test]
    fn refusals_are_headers() {
        let mut out = Vec::new();
        Refusal { id: 3, flags: 0x2900, rcode: rcode::NOTIMP }.write(&mut out);
        assert_eq!(out, [0, 3, 0xa9, 0x84, 0, 0, 0, 0, 0, 0, 0, 0]);
        Refusal { id: 3, flags: 0, rcode: rcode::BADVERS }.write(&mut out);
        let message = Message::from_octets(&out).unwrap();
        assert_eq!(message.opt().unwrap().rcode(message.header()).to_int(), 16);
    }

    proptest! {
        #[test]
        fn answers_fit_and_say_when_they_are_cut(count in 0usize..2000, size in any::<u16>(), edns in any::<bool>()) {
            let query = query("web.example", rtype::A, edns.then_some((size, true)));
            let limit = query.datagram_limit();
            let mut out = Vec::new();
            let all = (0..count).map(|n| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()));
            let written = addresses(&query, all, limit, &mut out);
            prop_assert!(out.len() <= limit);
            let message = Message::from_octets(&out).unwrap();
            prop_assert_eq!(message.header().tc(), written < count);
            prop_assert_eq!(message.answer().unwrap().limit_to::<A>().count(), written);
            prop_assert_eq!(message.opt().is_some(), edns);
            // As many as fit.
            prop_assert!(written == count || out.len() + 16 > limit);
        }
    }
}
