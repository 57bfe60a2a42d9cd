//! What an upstream answers: whether it is the answer to our question, how long it may be kept, and the answer that a
//! client gets of it.
//!
//! Records are passed on as they are: the question before them has the same length in every copy, so names that point
//! into the message stay right. Only times to live are changed, and the extension record is our own.

use domain::base::Message;
use domain::base::message::RecordSection;

use crate::query::{Query, number};
use crate::{HEADER, answer, flag, rcode, rtype};

/// Longest time an answer is kept, in seconds.
const MAX_TTL: u32 = 24 * 3600;
/// Longest time it is kept that there is nothing (RFC 2308 5).
const MAX_NEGATIVE_TTL: u32 = 900;

/// An upstream's answer.
#[derive(Debug)]
pub struct Reply {
    /// The message up to its last record that is no extension.
    bytes: Box<[u8]>,
    /// All records that are no extension.
    marks: Box<[Mark]>,
    /// How many of them each section has.
    counts: [usize; 3],
    flags: u16,
    rcode: u16,
    /// How long it may be kept, in seconds. None: not at all.
    ttl: Option<u32>,
}

/// Where a record has its time to live and where it ends.
#[derive(Clone, Copy, Debug)]
struct Mark {
    ttl: u16,
    end: u16,
}

/// Why bytes are no answer of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Not to this question: forged, late or confused. The right one may still come.
    Foreign,
    /// To this question, but broken or empty of sense.
    Broken,
}

impl Reply {
    /// Reads what came for `query`, which was sent with `id`.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn parse(bytes: &[u8], query: &Query, id: u16) -> Result<Self, Unusable> {
        let message = Message::from_slice(bytes).map_err(|_| Unusable::Foreign)?;
        let flags = number(bytes, 2);
        if number(bytes, 0) != id || flags & flag::RESPONSE == 0 || flags & flag::OPCODE != 0 {
            return Err(Unusable::Foreign);
        }
        let low = flags & 0xf;
        let name = query.name.wire();
        let question_end = HEADER + name.len() + 4;
        if message.header_counts().qdcount() == 0 && low != rcode::NOERROR && low != rcode::NXDOMAIN {
            // Servers that could not read the question do not repeat it.
            return Ok(Self::bare(flags));
        }
        let same = message.header_counts().qdcount() == 1
            && bytes.get(HEADER..HEADER + name.len()).is_some_and(|asked| asked.eq_ignore_ascii_case(name))
            && bytes.len() >= question_end
            && number(bytes, question_end - 4) == query.qtype
            && number(bytes, question_end - 2) == query.qclass;
        if !same {
            return Err(Unusable::Foreign);
        }
        let mut reader = Reader { bytes, marks: Vec::new(), ttl: u32::MAX, high: 0, negative: None, broken: false };
        let mut counts = [0; 3];
        let mut section = message.answer().ok();
        for (at, count) in counts.iter_mut().enumerate() {
            let Some(mut records) = section else { break };
            *count = reader.read(&mut records, at == 1);
            section = if reader.broken { None } else { records.next_section().ok().flatten() };
        }
        // A datagram that was cut may end within a record.
        let truncated = flags & flag::TRUNCATED != 0;
        if reader.broken && !truncated {
            return Err(Unusable::Broken);
        }
        let rcode = low | u16::from(reader.high) << 4;
        let Reader { marks, mut ttl, negative, .. } = reader;
        if let Some(minimum) = negative {
            ttl = ttl.min(minimum);
        }
        let known = !truncated
            && match (rcode, counts[0]) {
                (rcode::NOERROR, 1..) => true,
                (rcode::NOERROR | rcode::NXDOMAIN, _) => negative.is_some(),
                _ => false,
            };
        let end = marks.last().map_or(question_end, |mark| usize::from(mark.end));
        Ok(Self {
            bytes: bytes.get(..end).unwrap_or(bytes).into(),
            marks: marks.into(),
            counts,
            flags,
            rcode,
            ttl: (known && ttl > 0).then_some(ttl.min(MAX_TTL)),
        })
    }

    fn bare(flags: u16) -> Self {
        Self { bytes: Box::default(), marks: Box::default(), counts: [0; 3], flags, rcode: flags & 0xf, ttl: None }
    }

    /// The code with its upper bits.
    #[must_use]
    pub fn rcode(&self) -> u16 {
        self.rcode
    }

    /// More was to be said than fitted into the datagram.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.flags & flag::TRUNCATED != 0
    }

    /// Seconds it may be kept.
    #[must_use]
    pub fn ttl(&self) -> Option<u32> {
        self.ttl
    }

    /// Bytes of memory it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + size_of_val::<[Mark]>(&self.marks)
    }

    /// Writes it as the answer to `query`, which asks the same, `age` seconds after it came, in at most `limit` bytes.
    pub fn write(&self, query: &Query, age: u32, limit: usize, out: &mut Vec<u8>) {
        let rcode = if self.rcode > 0xf && query.edns.is_none() { rcode::SERVFAIL } else { self.rcode };
        let mut flags = self.flags & flag::AUTHORITATIVE;
        if query.dnssec() || query.flags & flag::AUTHENTIC != 0 {
            flags |= self.flags & flag::AUTHENTIC;
        }
        answer::begin(query, flags, rcode, out);
        let start = out.len();
        let room = answer::room(query, limit);
        let fitting = self.marks.iter().take_while(|mark| usize::from(mark.end) <= room).count();
        let [answers, authorities, _] = self.counts;
        let needed = answers + authorities;
        let truncated = self.is_truncated() || fitting < needed;
        let kept = self.marks.get(..fitting).unwrap_or_default();
        if let Some(last) = kept.last()
            && let Some(records) = self.bytes.get(start..usize::from(last.end))
        {
            out.extend_from_slice(records);
            for mark in kept {
                let at = usize::from(mark.ttl);
                if let Some(Ok(place)) = out.get_mut(at..at + 4).map(<&mut [u8; 4]>::try_from) {
                    *place = u32::from_be_bytes(*place).saturating_sub(age).to_be_bytes();
                }
            }
        }
        let mut left = fitting;
        let counts = self.counts.map(|count| {
            let here = count.min(left);
            left -= here;
            u16::try_from(here).unwrap_or(u16::MAX)
        });
        answer::end(query, counts, truncated, rcode, out);
    }
}

/// Goes through the records of a message.
struct Reader<'a> {
    bytes: &'a [u8],
    marks: Vec<Mark>,
    /// The least of all records.
    ttl: u32,
    /// Upper bits of the response code.
    high: u8,
    /// How long there is nothing, of the SOA record beside an answer that says so.
    negative: Option<u32>,
    broken: bool,
}

impl Reader<'_> {
    /// The records of a section that are no extension; how many there are.
    fn read(&mut self, records: &mut RecordSection<'_, [u8]>, authority: bool) -> usize {
        let mut count = 0;
        // What follows an extension may point behind it, and cannot be moved up.
        let mut behind = false;
        while let Some(record) = records.next() {
            let (Ok(record), Ok(end)) = (record, u16::try_from(records.pos())) else {
                self.broken = true;
                break;
            };
            if record.rtype().to_int() == rtype::OPT {
                self.high = record.ttl().as_secs().to_be_bytes()[0];
                behind = true;
                continue;
            }
            let at = usize::from(end) - usize::from(record.rdlen()) - 6;
            if behind {
                continue;
            }
            // A time with the first bit set is none (RFC 2181 8).
            let ttl = record.ttl().as_secs();
            let ttl = if ttl > i32::MAX.cast_unsigned() { 0 } else { ttl };
            self.ttl = self.ttl.min(ttl);
            if authority && record.rtype().to_int() == rtype::SOA {
                let minimum = self.bytes.get(usize::from(end) - 4..usize::from(end));
                let minimum = minimum.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
                self.negative = Some(minimum.min(ttl).min(MAX_NEGATIVE_TTL));
            }
            self.marks.push(Mark { ttl: u16::try_from(at).unwrap_or(0), end });
            count += 1;
        }
        count
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use domain::rdata::A;
    use proptest::prelude::*;

    use super::*;
    use crate::query::tests::ask;

    pub(crate) fn question(name: &str, edns: Option<(u16, bool)>) -> Query {
        Query::parse(&ask(77, name, rtype::A, edns)).unwrap()
    }

    /// An answer with addresses as records, and an extension.
    pub(crate) fn upstream(query: &Query, id: u16, ttl: u32, count: usize, rcode: u16) -> Vec<u8> {
        let mut out = query.compose(id, true);
        out[2..4].copy_from_slice(&(flag::RESPONSE | flag::RECURSION_AVAILABLE | rcode).to_be_bytes());
        out[6..8].copy_from_slice(&u16::try_from(count).unwrap().to_be_bytes());
        out[11] = 1;
        for n in 0..count {
            out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
            out.extend_from_slice(&ttl.to_be_bytes());
            out.extend_from_slice(&[0, 4, 192, 0, 2, u8::try_from(n % 256).unwrap()]);
        }
        answer::push_opt(&mut out, 1400, 0, false);
        out
    }

    /// The same without records but an SOA that says for how long there are none.
    pub(crate) fn nothing(query: &Query, id: u16, ttl: u32, minimum: u32, rcode: u16) -> Vec<u8> {
        let mut out = query.compose(id, true);
        out[2..4].copy_from_slice(&(flag::RESPONSE | rcode).to_be_bytes());
        out[9] = 1;
        out.extend_from_slice(&[0, 0, 6, 0, 1]);
        out.extend_from_slice(&ttl.to_be_bytes());
        out.extend_from_slice(&[0, 22, 0, 0]);
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(&minimum.to_be_bytes());
        out
    }

    #[test]
    fn the_clients_case_id_and_age() {
        let asked = question("www.example.com", None);
        let reply = Reply::parse(&upstream(&asked, 5, 300, 3, 0), &asked, 5).unwrap();
        assert_eq!((reply.ttl(), reply.rcode(), reply.is_truncated()), (Some(300), 0, false));
        let client = Query { id: 9, ..question("WWW.example.COM", Some((1232, false))) };
        let mut out = Vec::new();
        reply.write(&client, 100, 1232, &mut out);
        let message = Message::from_octets(&out).unwrap();
        assert_eq!(message.header().id(), 9);
        assert_eq!(&out[12..16], b"\x03WWW");
        let records: Vec<_> = message.answer().unwrap().limit_to::<A>().map(|record| record.unwrap()).collect();
        assert_eq!(records.len(), 3);
        assert_eq!((records[2].data().addr(), records[2].ttl().as_secs()), (Ipv4Addr::new(192, 0, 2, 2), 200));
        assert_eq!(message.opt().unwrap().udp_payload_size(), 1232);
        // A client without the extension gets none.
        reply.write(&question("www.example.com", None), 301, 512, &mut out);
        let message = Message::from_octets(&out).unwrap();
        assert!(message.opt().is_none());
        assert_eq!(message.answer().unwrap().limit_to::<A>().next().unwrap().unwrap().ttl().as_secs(), 0);
    }

    #[test]
    fn others_answers_are_foreign() {
        let asked = question("www.example.com", None);
        let good = upstream(&asked, 5, 300, 1, 0);
        assert_eq!(Reply::parse(&good, &asked, 6).unwrap_err(), Unusable::Foreign);
        assert_eq!(Reply::parse(&good, &question("www.example.org", None), 5).unwrap_err(), Unusable::Foreign);
        let other = Query { qtype: rtype::AAAA, ..asked };
        assert_eq!(Reply::parse(&good, &other, 5).unwrap_err(), Unusable::Foreign);
        assert_eq!(Reply::parse(&asked.compose(5, false), &asked, 5).unwrap_err(), Unusable::Foreign);
        for cut in 0..good.len() {
            assert!(Reply::parse(&good[..cut], &asked, 5).is_err(), "cut at {cut}");
        }
        // Refusals may lack the question.
        let refusal = [0, 5, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Reply::parse(&refusal, &asked, 5).unwrap().rcode(), 1);
        let empty = [0, 5, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Reply::parse(&empty, &asked, 5).unwrap_err(), Unusable::Foreign);
    }

    #[test]
    fn what_may_be_kept_and_for_how_long() {
        let asked = question("www.example.com", None);
        let ttl = |bytes: &[u8]| Reply::parse(bytes, &asked, 5).unwrap().ttl();
        assert_eq!(ttl(&upstream(&asked, 5, 0, 1, 0)), None);
        assert_eq!(ttl(&upstream(&asked, 5, u32::MAX, 1, 0)), None);
        assert_eq!(ttl(&upstream(&asked, 5, 10_000_000, 1, 0)), Some(MAX_TTL));
        assert_eq!(ttl(&upstream(&asked, 5, 60, 1, rcode::SERVFAIL)), None);
        assert_eq!(ttl(&upstream(&asked, 5, 60, 0, rcode::NXDOMAIN)), None);
        assert_eq!(ttl(&nothing(&asked, 5, 300, 60, rcode::NXDOMAIN)), Some(60));
        assert_eq!(ttl(&nothing(&asked, 5, 30, 60, rcode::NOERROR)), Some(30));
        assert_eq!(ttl(&nothing(&asked, 5, 10_000, 10_000, rcode::NXDOMAIN)), Some(MAX_NEGATIVE_TTL));
        let mut cut = upstream(&asked, 5, 60, 3, 0);
        cut[2] |= 2;
        assert_eq!(ttl(&cut), None);
        cut.truncate(cut.len() - 20);
        let reply = Reply::parse(&cut, &asked, 5).unwrap();
        assert!(reply.is_truncated() && reply.counts == [2, 0, 0]);
    }

    #[test]
    fn long_answers_are_cut_between_records() {
        let asked = question("www.example.com", None);
        let reply = Reply::parse(&upstream(&asked, 5, 60, 200, 0), &asked, 5).unwrap();
        let mut out = Vec::new();
        for (edns, limit) in [(None, 512), (Some((1232, false)), 1232), (None, 65_535)] {
            let client = question("www.example.com", edns);
            reply.write(&client, 0, limit, &mut out);
            assert!(out.len() <= limit);
            let message = Message::from_octets(&out).unwrap();
            let count = message.answer().unwrap().limit_to::<A>().filter(Result::is_ok).count();
            assert_eq!(message.header().tc(), count < 200);
            assert!(count == 200 || out.len() + 16 > limit);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end(mut bytes in prop::collection::vec(any::<u8>(), 0..700), limit in 512usize..2000) {
            let asked = question("a.example", Some((1232, true)));
            // With a header and question that fit, so that the records are reached.
            let head = asked.compose(5, true);
            let keep = [bytes.get(4).copied().unwrap_or(0) % 8, bytes.get(5).copied().unwrap_or(0) % 8];
            bytes.splice(0..head.len().min(bytes.len()), head.iter().copied());
            if bytes.len() > head.len() {
                bytes[2] |= 0x80;
                bytes[7] = keep[0];
                bytes[9] = keep[1];
                bytes[11] = 1;
            }
            if let Ok(reply) = Reply::parse(&bytes, &asked, 5) {
                let mut out = Vec::new();
                reply.write(&asked, 3, limit, &mut out);
                prop_assert!(out.len() <= limit);
                prop_assert!(Message::from_octets(&out).is_ok());
            }
        }

        #[test]
        fn changed_answers_end(at in 0usize..200, byte in any::<u8>(), count in 0usize..8) {
            let asked = question("a.example", None);
            let mut bytes = upstream(&asked, 5, 60, count, 0);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(reply) = Reply::parse(&bytes, &asked, 5) {
                let mut out = Vec::new();
                reply.write(&asked, 3, 512, &mut out);
                prop_assert!(out.len() <= 512);
            }
        }
    }
}
