//! Queueing disciplines: limiting the rate of what leaves by a link, and reading what they did (`RTM_NEWQDISC`).
//!
//! Only the token bucket (`tbf`) is made here. Its parameters name Ethernet as the link layer, for which the kernel
//! (since 3.14) computes transmission times itself; the rate tables of old are for drivers of other layers.
//! See `tc-tbf(8)` and the kernel's `include/uapi/linux/pkt_sched.h`.

use super::requests::RouteRequests;
use super::{RouteSocket, array_at};
use crate::Result;
use crate::attribute::Attributes;
use crate::message::{CREATE, EXCLUSIVE, REPLACE};
use crate::socket::ACKNOWLEDGE;

const NEW_QDISC: u16 = 36;
const DELETE_QDISC: u16 = 37;
const GET_QDISC: u16 = 38;
/// Length of `struct tcmsg`.
const TCMSG: usize = 20;
/// Parent of the discipline at the top (`TC_H_ROOT`).
const ROOT: u32 = u32::MAX;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATISTICS: u16 = 7;
const STATISTICS_BASIC: u16 = 1;
const STATISTICS_QUEUE: u16 = 3;
const TBF_PARAMETERS: u16 = 1;
const TBF_RATE_64: u16 = 4;
const TBF_BURST: u16 = 6;
const TBF: &str = "tbf";
/// `TC_LINKLAYER_ETHERNET`.
const ETHERNET: u8 = 1;
/// Length of `struct tc_tbf_qopt`: two rates of twelve bytes, limit, buffer, largest packet.
const TBF_OPTIONS: usize = 36;

/// A token bucket: packets leave at a rate on average, and a burst at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes per second, at least 1.
    pub rate: u64,
    /// Bytes that may leave at once after a pause; packets beyond it are dropped, so no less than the largest packet.
    pub burst: u32,
    /// Bytes that may wait; what comes beyond is dropped.
    pub limit: u32,
}

/// A queueing discipline in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    /// Index of its link.
    pub link: u32,
    /// Its kind, such as `tbf` or `noqueue`.
    pub kind: String,
    /// Whether it is the one at the top of its link.
    pub root: bool,
    /// Bytes per second of a token bucket.
    pub rate: Option<u64>,
    /// Bytes that may wait in a token bucket.
    pub limit: Option<u32>,
    /// Bytes it has let through.
    pub bytes: u64,
    /// Packets it has let through.
    pub packets: u32,
    /// Packets it has dropped.
    pub drops: u32,
    /// Bytes that wait in it.
    pub backlog: u32,
}

impl RouteRequests {
    /// Puts a token bucket on top of a link. Refused with `EEXIST` when another was put there before.
    pub fn add_token_bucket(&mut self, link: u32, bucket: &TokenBucket) -> &mut Self {
        self.token_bucket(link, bucket, EXCLUSIVE)
    }

    /// Puts a token bucket on top of a link, in place of what is there.
    pub fn replace_token_bucket(&mut self, link: u32, bucket: &TokenBucket) -> &mut Self {
        self.token_bucket(link, bucket, REPLACE)
    }

    fn token_bucket(&mut self, link: u32, bucket: &TokenBucket, flags: u16) -> &mut Self {
        let request = format!("limit the rate of link number {link}");
        self.messages.message(NEW_QDISC, ACKNOWLEDGE | CREATE | flags, request, |m| {
            m.raw(&tcmsg(link));
            m.text(TCA_KIND, TBF);
            m.nest(TCA_OPTIONS, |m| {
                let mut options = [0; TBF_OPTIONS];
                options[1] = ETHERNET;
                options[8..12].copy_from_slice(&u32::try_from(bucket.rate).unwrap_or(u32::MAX).to_ne_bytes());
                options[24..28].copy_from_slice(&bucket.limit.to_ne_bytes());
                m.bytes(TBF_PARAMETERS, &options);
                if bucket.rate > u64::from(u32::MAX) {
                    m.u64(TBF_RATE_64, bucket.rate);
                }
                m.u32(TBF_BURST, bucket.burst);
            });
        });
        self
    }

    /// Takes away what was put on top of a link; the kernel's own choice is back. Refused with `ENOENT` when nothing was.
    pub fn delete_qdisc(&mut self, link: u32) -> &mut Self {
        let request = format!("delete the queueing discipline of link number {link}");
        self.messages.message(DELETE_QDISC, ACKNOWLEDGE, request, |m| m.raw(&tcmsg(link)));
        self
    }
}

impl RouteSocket {
    /// The queueing disciplines of one link.
    ///
    /// # Errors
    /// As any request; what does not parse is left out.
    pub fn qdiscs(&mut self, link: u32) -> Result<Vec<Qdisc>> {
        let found = std::cell::RefCell::new(Vec::new());
        self.socket.dump(
            GET_QDISC,
            &tcmsg(link),
            "list queueing disciplines",
            |kind, body| {
                if kind == NEW_QDISC {
                    // Kernels that ignore the index in the request send those of every link.
                    found.borrow_mut().extend(parse(body).filter(|qdisc| qdisc.link == link));
                }
            },
            || found.borrow_mut().clear(),
        )?;
        Ok(found.into_inner())
    }
}

/// `struct tcmsg` of the discipline at the top of a link.
fn tcmsg(link: u32) -> [u8; TCMSG] {
    let mut bytes = [0; TCMSG];
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes[12..16].copy_from_slice(&ROOT.to_ne_bytes());
    bytes
}

fn parse(body: &[u8]) -> Option<Qdisc> {
    let link = u32::from_ne_bytes(array_at(body, 4)?);
    let parent = u32::from_ne_bytes(array_at(body, 12)?);
    let attributes = Attributes(body.get(TCMSG..)?);
    let kind = attributes.find(TCA_KIND)?.text();
    let statistics = attributes.find(TCA_STATISTICS).map(|statistics| statistics.nested());
    let basic = statistics.and_then(|statistics| statistics.find(STATISTICS_BASIC));
    let queue = statistics.and_then(|statistics| statistics.find(STATISTICS_QUEUE));
    let number = |bytes: Option<&[u8]>, at| bytes.and_then(|bytes| array_at(bytes, at)).map_or(0, u32::from_ne_bytes);
    let options = attributes.find(TCA_OPTIONS).filter(|_| kind == TBF).map(|options| options.nested());
    let parameters = options.and_then(|options| options.find(TBF_PARAMETERS)).map(|parameters| parameters.payload);
    let large = options.and_then(|options| options.find(TBF_RATE_64)).and_then(|rate| rate.leading_u64());
    Some(Qdisc {
        link,
        root: parent == ROOT,
        rate: large.or_else(|| parameters.map(|_| u64::from(number(parameters, 8)))),
        limit: parameters.map(|_| number(parameters, 24)),
        bytes: basic.and_then(|basic| basic.leading_u64()).unwrap_or(0),
        packets: number(basic.map(|basic| basic.payload), 8),
        backlog: number(queue.map(|queue| queue.payload), 4),
        drops: number(queue.map(|queue| queue.payload), 8),
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_wild_bodies_are_harmless() {
        let mut body = tcmsg(7).to_vec();
        body.extend([8, 0, 1, 0, b't', b'b', b'f', 0]);
        body.extend([12, 0, 2, 0, 8, 0, 1, 0, 1, 2, 3, 4]);
        body.extend([12, 0, 7, 0, 8, 0, 1, 0, 1, 2, 3, 4]);
        let qdisc = parse(&body).unwrap();
        assert_eq!((qdisc.link, qdisc.root, qdisc.kind.as_str()), (7, true, "tbf"));
        assert_eq!((qdisc.rate, qdisc.bytes, qdisc.drops), (Some(0), 0, 0));
        for cut in 0..body.len() {
            let _ = parse(&body[..cut]);
        }
    }
}
