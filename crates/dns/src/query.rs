//! What a client asks: one question, read from a message that may hold anything.

use domain::base::Message;

use crate::answer::Refusal;
use crate::name::Name;
use crate::{HEADER, flag, rcode, rtype};

/// Least datagram every client takes (RFC 1035 4.2.1).
pub const MIN_DATAGRAM: usize = 512;
/// Largest answer by datagram, whatever the client says it takes.
pub const MAX_DATAGRAM: usize = 4096;
/// Largest message by TCP.
pub const MAX_STREAM: usize = 65_535;

/// A question that can be answered or passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    pub id: u16,
    /// The header's flags as the client set them.
    pub flags: u16,
    /// The name in the client's own case, which the answer repeats.
    pub name: Name,
    pub qtype: u16,
    pub qclass: u16,
    pub edns: Option<Edns>,
}

/// The client's extension record (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Largest datagram it takes, in bytes.
    pub size: u16,
    /// It wants signatures along.
    pub dnssec: bool,
}

/// What is no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswerable {
    /// Not even a query: whoever sent it gets nothing back.
    Ignore,
    /// A query that is malformed or of an unknown kind.
    Refuse(Refusal),
}

impl Query {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Unanswerable`], with what to answer.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unanswerable> {
        let message = Message::from_slice(bytes).map_err(|_| Unanswerable::Ignore)?;
        let (id, flags) = (number(bytes, 0), number(bytes, 2));
        if flags & flag::RESPONSE != 0 {
            return Err(Unanswerable::Ignore);
        }
        let refuse = |rcode| Unanswerable::Refuse(Refusal { id, flags, rcode });
        if flags & flag::OPCODE != 0 {
            return Err(refuse(rcode::NOTIMP));
        }
        if message.header_counts().qdcount() != 1 {
            return Err(refuse(rcode::FORMERR));
        }
        let malformed = |_| refuse(rcode::FORMERR);
        let mut questions = message.question();
        let question = questions.next().ok_or(refuse(rcode::FORMERR))?.map_err(malformed)?;
        let name = Name::from_parsed(question.qname()).ok_or(refuse(rcode::FORMERR))?;
        let mut query =
            Self { id, flags, name, qtype: question.qtype().to_int(), qclass: question.qclass().to_int(), edns: None };
        let mut section = questions.answer().map_err(malformed)?.next_section().map_err(malformed)?;
        section = match section {
            Some(authority) => authority.next_section().map_err(malformed)?,
            None => None,
        };
        for record in section.into_iter().flatten() {
            let record = record.map_err(malformed)?;
            if record.rtype().to_int() != rtype::OPT {
                continue;
            }
            // One extension record, of the root (RFC 6891 6.1.1).
            if query.edns.is_some() || !record.owner().is_root() {
                return Err(refuse(rcode::FORMERR));
            }
            let [_, version, high, _] = record.ttl().as_secs().to_be_bytes();
            if version != 0 {
                return Err(refuse(rcode::BADVERS));
            }
            query.edns = Some(Edns { size: record.class().to_int(), dnssec: high & 0x80 != 0 });
        }
        Ok(query)
    }

    /// Most bytes of an answer by datagram.
    #[must_use]
    pub fn datagram_limit(&self) -> usize {
        let size = self.edns.map_or(MIN_DATAGRAM, |edns| usize::from(edns.size));
        size.clamp(MIN_DATAGRAM, MAX_DATAGRAM)
    }

    /// Whether it asks for signatures.
    #[must_use]
    pub fn dnssec(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec)
    }

    /// The question as a query of ours to an upstream, with an extension record unless `plain`.
    #[must_use]
    pub fn compose(&self, id: u16, plain: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.name.wire().len() + 4 + 11);
        let kept = flag::RECURSION_DESIRED | flag::AUTHENTIC | flag::CHECKING_DISABLED;
        for word in [id, self.flags & kept, 1, 0, 0, u16::from(!plain)] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(self.name.wire());
        out.extend_from_slice(&self.qtype.to_be_bytes());
        out.extend_from_slice(&self.qclass.to_be_bytes());
        if !plain {
            crate::answer::push_opt(&mut out, UPSTREAM_SIZE, 0, self.dnssec());
        }
        out
    }
}

/// Largest datagram asked of upstreams: what passes every path without fragments (RFC 9715).
pub const UPSTREAM_SIZE: u16 = 1232;

/// The 16 bits at `at`; 0 beyond the end.
pub(crate) fn number(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some([high, low]) => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A query as clients write it.
    pub(crate) fn ask(id: u16, name: &str, qtype: u16, edns: Option<(u16, bool)>) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [id, flag::RECURSION_DESIRED, 1, 0, 0, u16::from(edns.is_some())] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(Name::from_text(name).unwrap_or(Name::ROOT).wire());
        out.extend_from_slice(&qtype.to_be_bytes());
        out.extend_from_slice(&1u16.to_be_bytes());
        if let Some((size, dnssec)) = edns {
            crate::answer::push_opt(&mut out, size, 0, dnssec);
        }
        out
    }

    fn refused(bytes: &[u8]) -> u16 {
        match Query::parse(bytes) {
            Err(Unanswerable::Refuse(refusal)) => refusal.rcode,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_question_with_its_extension() {
        let query = Query::parse(&ask(7, "Web.net", rtype::AAAA, Some((1400, true)))).unwrap();
        assert_eq!((query.id, query.qtype, query.qclass), (7, rtype::AAAA, 1));
        assert_eq!(query.name.to_string(), "Web.net.");
        assert_eq!(query.edns, Some(Edns { size: 1400, dnssec: true }));
        assert_eq!(query.datagram_limit(), 1400);
        let plain = Query::parse(&ask(7, "web", rtype::A, None)).unwrap();
        assert_eq!((plain.edns, plain.datagram_limit()), (None, 512));
        for (size, limit) in [(0, 512), (100, 512), (65_535, 4096)] {
            assert_eq!(Query::parse(&ask(1, "a", 1, Some((size, false)))).unwrap().datagram_limit(), limit);
        }
    }

    #[test]
    fn what_is_no_question_is_refused_or_ignored() {
        let good = ask(1, "web", rtype::A, Some((1232, false)));
        for cut in 0..HEADER {
            assert_eq!(Query::parse(&good[..cut]), Err(Unanswerable::Ignore), "cut at {cut}");
        }
        for cut in HEADER..good.len() {
            assert_eq!(refused(&good[..cut]), rcode::FORMERR, "cut at {cut}");
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(Query::parse(&with(2, 0x80)), Err(Unanswerable::Ignore));
        assert_eq!(refused(&with(2, 5 << 3)), rcode::NOTIMP);
        assert_eq!(refused(&with(5, 2)), rcode::FORMERR);
        assert_eq!(refused(&with(5, 0)), rcode::FORMERR);
        // The version of the extension.
        assert_eq!(refused(&with(good.len() - 5, 1)), rcode::BADVERS);
        // Two extensions.
        let mut two = with(11, 2);
        crate::answer::push_opt(&mut two, 1232, 0, false);
        assert_eq!(refused(&two), rcode::FORMERR);
    }

    #[test]
    fn pointers_that_lead_nowhere_end() {
        let head = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for name in [&b"\xc0\x0c"[..], b"\x01a\xc0\x0c", b"\xc0\x0e\xc0\x0c", b"\xc0\xff", b"\x80a", b"\x40a"] {
            let bytes = [&head[..], name, &[0, 1, 0, 1]].concat();
            assert_eq!(refused(&bytes), rcode::FORMERR, "{name:?}");
        }
        // 64 KiB of labels.
        let long = [&head[..], &b"\x3f".repeat(64 * 1024)].concat();
        assert_eq!(refused(&long), rcode::FORMERR);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(query) = Query::parse(&bytes) {
                prop_assert!(query.name.wire().len() <= 255);
                let again = Query::parse(&query.compose(query.id, false)).unwrap();
                prop_assert_eq!((again.name, again.qtype, again.qclass), (query.name, query.qtype, query.qclass));
                prop_assert_eq!(again.dnssec(), query.dnssec());
            }
        }

        #[test]
        fn questions_survive(id in any::<u16>(), name in "[a-zA-Z0-9_-]{1,63}(\\.[a-zA-Z0-9_-]{1,20}){0,5}",
                             qtype in any::<u16>(), size in any::<u16>(), dnssec in any::<bool>()) {
            let query = Query::parse(&ask(id, &name, qtype, Some((size, dnssec)))).unwrap();
            prop_assert_eq!(query.id, id);
            prop_assert_eq!(query.name.to_string(), format!("{name}."));
            prop_assert_eq!((query.qtype, query.edns), (qtype, Some(Edns { size, dnssec })));
        }
    }
}
