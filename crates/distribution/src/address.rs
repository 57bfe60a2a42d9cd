//! Classes of network addresses, for the rule that a registry cannot send us where it is not
//! itself: a redirect or token realm may lead to a public address or to the registry's own class.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What sort of network an address is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Reachable by everyone.
    Public,
    /// This host.
    Loopback,
    /// This link; cloud metadata services live here.
    LinkLocal,
    /// A site's own network (RFC 1918, RFC 6598, RFC 4193).
    Private,
    /// Multicast, broadcast and reserved: never a server.
    Never,
}

/// A set of classes, one bit each.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Classes(u8);

impl Class {
    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The class of an address; an IPv6 address that stands for an IPv4 one has the latter's.
    pub(crate) fn of(address: IpAddr) -> Class {
        match address {
            IpAddr::V4(a) => Class::of_v4(a),
            IpAddr::V6(a) => match embedded_v4(a) {
                Some(v4) => Class::of_v4(v4),
                None => Class::of_v6(a),
            },
        }
    }

    fn of_v4(a: Ipv4Addr) -> Class {
        let [first, second, ..] = a.octets();
        match (first, second) {
            (0 | 127, _) => Class::Loopback,
            (169, 254) => Class::LinkLocal,
            (10, _) | (192, 168) | (172, 16..=31) | (100, 64..=127) => Class::Private,
            (224.., _) => Class::Never,
            _ => Class::Public,
        }
    }

    fn of_v6(a: Ipv6Addr) -> Class {
        let first = a.segments()[0];
        match first {
            _ if a.is_loopback() || a.is_unspecified() => Class::Loopback,
            0xfe80..=0xfebf => Class::LinkLocal,
            0xfc00..=0xfdff | 0xfec0..=0xfeff => Class::Private,
            0xff00.. => Class::Never,
            _ => Class::Public,
        }
    }
}

/// IPv4-mapped, IPv4-compatible, NAT64 and 6to4 addresses.
fn embedded_v4(a: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = a.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff, h, l] => Some(pair(h, l)),
        [0, 0, 0, 0, 0, 0, h, l] if h != 0 => Some(pair(h, l)),
        [0x64, 0xff9b, 0, 0, 0, 0, h, l] => Some(pair(h, l)),
        [0x2002, h, l, ..] => Some(pair(h, l)),
        _ => None,
    }
}

impl Classes {
    /// The set with one more class.
    pub(crate) fn with(self, class: Class) -> Classes {
        Classes(self.0 | class.bit())
    }

    /// True when an address of this class may be contacted on the word of a registry whose own
    /// addresses are of the classes in the set.
    pub(crate) fn admits(self, class: Class) -> bool {
        class == Class::Public || (class != Class::Never && self.0 & class.bit() != 0)
    }

    /// The set as bits, to be kept in an atomic.
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// The set of these bits.
    pub(crate) const fn from_bits(bits: u8) -> Classes {
        Classes(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        for (text, class) in [
            ("8.8.8.8", Class::Public),
            ("127.0.0.1", Class::Loopback),
            ("0.0.0.0", Class::Loopback),
            ("169.254.169.254", Class::LinkLocal),
            ("10.0.0.1", Class::Private),
            ("172.31.0.1", Class::Private),
            ("172.32.0.1", Class::Public),
            ("192.168.1.1", Class::Private),
            ("100.64.0.1", Class::Private),
            ("224.0.0.1", Class::Never),
            ("255.255.255.255", Class::Never),
            ("::1", Class::Loopback),
            ("::", Class::Loopback),
            ("::ffff:127.0.0.1", Class::Loopback),
            ("::127.0.0.1", Class::Loopback),
            ("64:ff9b::a9fe:a9fe", Class::LinkLocal),
            ("2002:7f00:1::", Class::Loopback),
            ("fe80::1", Class::LinkLocal),
            ("fd00::1", Class::Private),
            ("ff02::1", Class::Never),
            ("2606:4700::1", Class::Public),
        ] {
            assert_eq!(Class::of(text.parse().unwrap()), class, "{text}");
        }
        let own = Classes::default().with(Class::Private);
        assert!(own.admits(Class::Private) && own.admits(Class::Public));
        assert!(!own.admits(Class::Loopback) && !own.with(Class::Never).admits(Class::Never));
    }
}
