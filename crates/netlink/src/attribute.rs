//! Reading of netlink attributes (`struct nlattr`): an iterator that never leaves its slice.
//!
//! Malformed input ends the iteration; it can neither panic nor loop, because every step consumes at least the
//! four bytes of a header. Used for dumps and extended acknowledgements.

/// Length of `struct nlattr`.
pub(crate) const HEADER: usize = 4;
/// The type field without the nested and byte-order flags.
const TYPE_MASK: u16 = 0x3fff;

/// Rounds up to netlink's alignment of four bytes.
pub(crate) const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// One attribute: its type without flags, and its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// A native-endian `u32`, if the payload is one.
    pub(crate) fn u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.payload.try_into().ok()?))
    }

    /// A big-endian `u32`, as nf_tables writes numbers.
    pub(crate) fn be32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.try_into().ok()?))
    }

    /// Four bytes as an IPv4 address.
    pub(crate) fn ipv4(&self) -> Option<std::net::Ipv4Addr> {
        Some(<[u8; 4]>::try_from(self.payload).ok()?.into())
    }

    /// Four or sixteen bytes as an address.
    pub(crate) fn ip(&self) -> Option<std::net::IpAddr> {
        self.ipv4()
            .map(Into::into)
            .or_else(|| <[u8; 16]>::try_from(self.payload).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).into()))
    }

    /// A native-endian `u64`, if the payload begins with one.
    pub(crate) fn leading_u64(&self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.payload.get(..8)?.try_into().ok()?))
    }

    /// Text up to the first NUL; bytes that are no UTF-8 are replaced.
    pub(crate) fn text(&self) -> String {
        let end = self.payload.iter().position(|byte| *byte == 0).unwrap_or(self.payload.len());
        String::from_utf8_lossy(&self.payload[..end]).into_owned()
    }

    /// The attributes nested in this one.
    pub(crate) fn nested(&self) -> Attributes<'a> {
        Attributes(self.payload)
    }
}

/// Iterator over the attributes in a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first attribute of a type.
    pub(crate) fn find(mut self, kind: u16) -> Option<Attribute<'a>> {
        Iterator::find(&mut self, |attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let header = self.0.get(..HEADER)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let Some(payload) = self.0.get(HEADER..length) else {
            self.0 = &[];
            return None;
        };
        self.0 = self.0.get(align(length)..).unwrap_or(&[]);
        Some(Attribute { kind, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_padded_attributes() {
        let bytes = [7, 0, 3, 0, b'l', b'o', 0, 0, 8, 0, 4, 0x80, 1, 0, 0, 0];
        let read: Vec<_> = Attributes(&bytes).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].text(), "lo");
        assert_eq!((read[1].kind, read[1].u32()), (4, Some(u32::from_ne_bytes([1, 0, 0, 0]))));
    }

    #[test]
    fn malformed_lengths_end_the_iteration() {
        for bytes in [&[0u8, 0, 1, 0][..], &[3, 0, 1, 0], &[200, 0, 1, 0, 1], &[4, 0, 1], &[]] {
            assert_eq!(Attributes(bytes).next(), None, "{bytes:?}");
        }
        // An unpadded last attribute is complete all the same.
        assert_eq!(Attributes(&[5, 0, 1, 0, 9]).count(), 1);
    }
}
