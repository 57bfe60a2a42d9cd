//! Writing of netlink messages: one buffer, any number of messages, attributes nested by closures.
//!
//! The invariant: lengths are filled in when a message or nest ends, so they always match what was written; content
//! that does not fit its 16-bit length marks the whole buffer as invalid, and `socket` refuses to send it.

use crate::attribute::{HEADER as ATTRIBUTE_HEADER, align};

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const DUMP: u16 = 0x300;

const NESTED: u16 = 0x8000;

/// A buffer of netlink messages and what each asks for, in words, for error messages.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    /// Start of each message in `bytes`, and its request in words.
    requests: Vec<(usize, String)>,
    overflow: bool,
}

impl Messages {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::with_capacity(1024), ..Self::default() }
    }

    /// Appends a message: header, then `body` writes the fixed part and the attributes.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, request: impl Into<String>, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.requests.push((start, request.into()));
        self.bytes.extend_from_slice(&[0; HEADER]);
        body(self);
        let length = self.bytes.len() - start;
        let header = &mut self.bytes[start..start + HEADER];
        header[..4].copy_from_slice(&(length as u32).to_ne_bytes());
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.pad();
    }

    /// Gives the messages consecutive sequence numbers from `first` on; returns the bytes to send.
    pub(crate) fn numbered(&mut self, first: u32) -> Option<&[u8]> {
        for (sequence, (start, _)) in (first..).zip(&self.requests) {
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
        (!self.overflow).then_some(&self.bytes)
    }

    /// Sets a flag on the last message.
    pub(crate) fn flag_last(&mut self, flag: u16) {
        if let Some((start, _)) = self.requests.last() {
            let flags = u16::from_ne_bytes([self.bytes[start + 6], self.bytes[start + 7]]) | flag;
            self.bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// The request of the `index`th message, in words.
    pub(crate) fn request(&self, index: usize) -> &str {
        self.requests.get(index).map_or("complete the transaction", |(_, request)| request)
    }

    /// Raw bytes: a fixed struct at the start of a message.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    pub(crate) fn bytes(&mut self, kind: u16, payload: &[u8]) {
        self.attribute(kind, |messages| messages.bytes.extend_from_slice(payload));
    }

    /// Text with its terminating NUL.
    pub(crate) fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, |messages| {
            messages.bytes.extend_from_slice(text.as_bytes());
            messages.bytes.push(0);
        });
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(crate) fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// The four or sixteen bytes of an address.
    pub(crate) fn ip(&mut self, kind: u16, address: std::net::IpAddr) {
        match address {
            std::net::IpAddr::V4(address) => self.bytes(kind, &address.octets()),
            std::net::IpAddr::V6(address) => self.bytes(kind, &address.octets()),
        }
    }

    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, body);
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ATTRIBUTE_HEADER]);
        body(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or_else(|_| {
            self.overflow = true;
            0
        });
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(align(self.bytes.len()), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::Attributes;

    #[test]
    fn lengths_match_what_was_written() {
        let mut messages = Messages::new();
        messages.message(16, ACK, "test", |m| {
            m.raw(&[9, 9]);
            m.text(3, "lo");
            m.nest(18, |m| m.u8(1, 7));
        });
        messages.message(17, 0, "next", |m| m.u32(1, 5));
        let bytes = messages.numbered(40).unwrap().to_vec();
        let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
        assert_eq!(length, HEADER + 4 + 8 + 12);
        assert_eq!(u32::from_ne_bytes(bytes[8..12].try_into().unwrap()), 40);
        assert_eq!(u32::from_ne_bytes(bytes[length + 8..length + 12].try_into().unwrap()), 41);
        let attributes: Vec<_> = Attributes(&bytes[HEADER + 4..length]).collect();
        assert_eq!(attributes[0].text(), "lo");
        assert_eq!(attributes[1].nested().next().map(|a| (a.kind, a.payload)), Some((1, &[7u8][..])));
    }

    #[test]
    fn an_attribute_beyond_64_kib_is_refused() {
        let mut messages = Messages::new();
        messages.message(1, 0, "test", |m| m.bytes(1, &vec![0; 70_000]));
        assert!(messages.numbered(1).is_none());
    }
}
