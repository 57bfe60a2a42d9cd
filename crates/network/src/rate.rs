//! Bandwidth of a container's place in a network: two token buckets, one for each direction.
//!
//! What is sent to the container is held back at the host's end of its veth pair; what it sends, at its own end, before
//! the packets leave its namespace, so that its own sockets feel the queue. See `tc-tbf(8)`.

use netlink::route::{RouteRequests, RouteSocket, TokenBucket};
use serde::{Deserialize, Serialize};

use crate::Result;

/// Limits in bits per second; none is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rate {
    /// Towards the container.
    pub ingress: Option<u64>,
    /// From the container.
    pub egress: Option<u64>,
}

impl Rate {
    /// The limits given here, those of `other` where there is none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { ingress: self.ingress.or(other.ingress), egress: self.egress.or(other.egress) }
    }
}

/// The slowest rate that still lets a connection live.
const SLOWEST: u64 = 8_000;
/// The fastest, a terabit per second.
const FASTEST: u64 = 1_000_000_000_000;

/// Reads a rate in the units of `tc`: bits per second with `bit`, `kbit`, `mbit`, `gbit` (decimal) or `kibit`, `mibit`,
/// `gibit` (binary), bytes per second with `bps`, `kbps`, `mbps`, `gbps`; a bare number is bits per second, and a bare
/// `k`, `m` or `g` the decimal multiple of it.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_rate(text: &str) -> std::result::Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let factor: f64 = match unit.trim() {
        "" | "bit" => 1.0,
        "k" | "kbit" => 1e3,
        "m" | "mbit" => 1e6,
        "g" | "gbit" => 1e9,
        "kibit" => 1024.0,
        "mibit" => 1_048_576.0,
        "gibit" => 1_073_741_824.0,
        "bps" => 8.0,
        "kbps" => 8e3,
        "mbps" => 8e6,
        "gbps" => 8e9,
        _ => return Err("use a number with bit, kbit, mbit, gbit, bps, kbps, mbps or gbps".into()),
    };
    let number: f64 = number.parse().map_err(|_| "use a number with a unit such as 10mbit".to_owned())?;
    let bits = number * factor;
    // The bounds are far inside of what both types hold exactly.
    if !(SLOWEST as f64..=FASTEST as f64).contains(&bits) {
        return Err("a rate is 8kbit to 1000gbit".into());
    }
    Ok(bits.round() as u64)
}

/// Size of the bucket in bytes: what passes in a hundredth of a second, but no less than two of the largest packets
/// the kernel makes (GSO), without which a bucket never fills for them.
pub(crate) fn burst(bits_per_second: u64) -> u32 {
    let hundredth = bits_per_second / 8 / 100;
    u32::try_from(hundredth).unwrap_or(u32::MAX).clamp(128 * 1024, 64 * 1024 * 1024)
}

/// Bytes that may wait: a fifth of a second's worth, so that TCP finds the rate without starving.
pub(crate) fn limit(bits_per_second: u64) -> u32 {
    let waiting = bits_per_second / 8 / 5;
    u32::try_from(waiting).unwrap_or(u32::MAX).clamp(256 * 1024, 256 * 1024 * 1024)
}

/// Holds back what leaves by the named link; without a rate, lets it go.
pub(crate) fn limit_link(socket: &mut RouteSocket, name: &str, rate: Option<u64>) -> Result<()> {
    match socket.link(name)? {
        Some(link) => limit_index(socket, link.index, rate),
        None => Ok(()),
    }
}

/// As [`limit_link`], by the link's index.
pub(crate) fn limit_index(socket: &mut RouteSocket, index: u32, rate: Option<u64>) -> Result<()> {
    let mut requests = RouteRequests::new();
    match rate {
        Some(bits) => {
            let bucket = TokenBucket { rate: bits / 8, burst: burst(bits), limit: limit(bits) };
            requests.replace_token_bucket(index, &bucket);
            Ok(socket.apply(requests)?)
        }
        None => {
            let qdiscs = socket.qdiscs(index)?;
            if !qdiscs.iter().any(|qdisc| qdisc.root && qdisc.kind == "tbf") {
                return Ok(());
            }
            requests.delete_qdisc(index);
            Ok(socket.apply(requests)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_tc() {
        for (text, bits) in [
            ("10mbit", 10_000_000),
            ("1.5Gbit", 1_500_000_000),
            ("100k", 100_000),
            ("1mbps", 8_000_000),
            ("64kibit", 65_536),
            ("8000", 8_000),
        ] {
            assert_eq!(parse_rate(text), Ok(bits), "{text}");
        }
        for text in ["", "fast", "10parsec", "-1mbit", "1..2mbit", "0", "1bit", "9999gbit", "nan", "inf"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn buckets_hold_the_largest_packets() {
        assert_eq!(burst(8_000), 128 * 1024);
        assert_eq!(burst(1_000_000_000), 1_250_000);
        assert!(limit(1_000_000_000) > burst(1_000_000_000));
    }
}
