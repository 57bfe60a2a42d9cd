//! Protocol families of nf_tables: which packets a table sees.

/// The family of a table (`NFPROTO_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6 in one table.
    Inet = 1,
    /// IPv4.
    Ipv4 = 2,
    /// Address resolution.
    Arp = 3,
    /// Frames of one link as they arrive or leave.
    Netdev = 5,
    /// Frames that bridges pass on.
    Bridge = 7,
    /// IPv6.
    Ipv6 = 10,
}

impl Family {
    /// The family of that number, if it has one.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::Inet, Self::Ipv4, Self::Arp, Self::Netdev, Self::Bridge, Self::Ipv6]
            .into_iter()
            .find(|family| *family as u8 == number)
    }

    /// `struct nfgenmsg` for an object of the family.
    pub(super) fn header(self) -> [u8; 4] {
        [self as u8, 0, 0, 0]
    }
}
