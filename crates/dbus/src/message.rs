//! Messages of D-Bus (D-Bus Specification, "Message Protocol"): a header, and a body of values.
//!
//! Invariant: a message that is read has the length it says, and that is bounded.

use crate::value::{Reader, Value, pad};

/// Longest message: 128 MiB allows the specification, systemd's replies to us are small.
const MAX_MESSAGE: usize = 1 << 24;
/// Bytes of the part of the header that has a fixed size.
pub(crate) const FIXED: usize = 16;

const NO_REPLY: u8 = 1;
/// The second byte of a signal.
pub(crate) const SIGNAL: u8 = 4;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of a method.
    Call,
    /// What the method gives.
    Reply,
    /// Why it gives nothing.
    Error,
    /// Said to whoever listens.
    Signal,
}

/// Whom a call goes to and what it asks.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Name on the bus; none on a connection without a bus.
    pub destination: Option<&'a str>,
    /// The object.
    pub path: &'a str,
    /// The interface of it.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// Its arguments.
    pub body: &'a [Value],
    /// Nobody waits for the answer.
    pub no_reply: bool,
}

impl Call<'_> {
    /// The call's bytes.
    pub(crate) fn write(&self, serial: u32) -> Vec<u8> {
        let mut body = Vec::new();
        self.body.iter().for_each(|v| v.write(&mut body));
        let signature: String = self.body.iter().map(Value::signature).collect();
        let field = |code, value| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
        let mut fields = vec![
            field(1, Value::Path(self.path.to_owned())),
            field(2, Value::Str(self.interface.to_owned())),
            field(3, Value::Str(self.member.to_owned())),
        ];
        if let Some(name) = self.destination {
            fields.push(field(6, Value::Str(name.to_owned())));
        }
        if !signature.is_empty() {
            fields.push(field(8, Value::Signature(signature)));
        }
        let flags = if self.no_reply { NO_REPLY } else { 0 };
        let mut out = vec![b'l', 1, flags, 1];
        Value::U32(u32::try_from(body.len()).unwrap_or(u32::MAX)).write(&mut out);
        Value::U32(serial).write(&mut out);
        Value::Array("(yv)".to_owned(), fields).write(&mut out);
        pad(&mut out, 8);
        out.extend_from_slice(&body);
        out
    }
}

/// A message that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Number of the call that a reply or error answers.
    pub answers: Option<u32>,
    /// Who sent it, by the name that the bus gave it; the bus says so, not the sender.
    pub sender: Option<String>,
    /// The interface that a signal is of.
    pub interface: Option<String>,
    /// The signal.
    pub member: Option<String>,
    /// Name of an error.
    pub error: Option<String>,
    /// Arguments, or what a method gives.
    pub body: Vec<Value>,
}

impl Message {
    /// Length of the whole message whose first [`FIXED`] bytes are given, or `None` if they begin no message. Only
    /// little-endian messages are taken, which is what a bus on a little-endian machine sends.
    pub(crate) fn size(start: &[u8; FIXED]) -> Option<usize> {
        if start[0] != b'l' || start[3] != 1 {
            return None;
        }
        let number = |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]) as usize;
        let header = FIXED.checked_add(number(12))?.checked_next_multiple_of(8)?;
        header.checked_add(number(4)).filter(|size| *size <= MAX_MESSAGE)
    }

    /// The message, or `None` if the bytes are none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Message> {
        let kind = match *bytes.get(1)? {
            1 => Kind::Call,
            2 => Kind::Reply,
            3 => Kind::Error,
            SIGNAL => Kind::Signal,
            _ => return None,
        };
        let header = Reader::new(bytes).read("yyyyuua(yv)")?;
        let [.., Value::U32(size), Value::U32(_), Value::Array(_, fields)] = header.as_slice() else { return None };
        let mut message =
            Message { kind, answers: None, sender: None, interface: None, member: None, error: None, body: Vec::new() };
        let mut signature = String::new();
        for field in fields {
            let Value::Struct(pair) = field else { return None };
            let [Value::Byte(code), Value::Variant(value)] = pair.as_slice() else { return None };
            match (code, value.as_ref()) {
                (2, Value::Str(text)) => message.interface = Some(text.clone()),
                (3, Value::Str(text)) => message.member = Some(text.clone()),
                (4, Value::Str(text)) => message.error = Some(text.clone()),
                (5, Value::U32(serial)) => message.answers = Some(*serial),
                (7, Value::Str(text)) => message.sender = Some(text.clone()),
                (8, Value::Signature(text)) => signature.clone_from(text),
                _ => {}
            }
        }
        let start = bytes.len().checked_sub(*size as usize)?;
        message.body = Reader::new(&bytes[start..]).read(&signature)?;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some_call(body: &[Value]) -> Vec<u8> {
        let call = Call {
            destination: Some("org.freedesktop.systemd1"),
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            member: "StopUnit",
            body,
            no_reply: false,
        };
        call.write(7)
    }

    #[test]
    fn a_call_reads_as_one() {
        let body = [Value::Str("a.scope".into()), Value::Str("replace".into())];
        let bytes = some_call(&body);
        let start = bytes[..FIXED].try_into().unwrap();
        assert_eq!(Message::size(start), Some(bytes.len()));
        let message = Message::read(&bytes).unwrap();
        assert_eq!(message.kind, Kind::Call);
        assert_eq!(message.member.as_deref(), Some("StopUnit"));
        assert_eq!(message.body, body);
        assert_eq!(Message::size(b"B\x02\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0"), None, "big-endian");
        assert_eq!(Message::size(b"l\x02\x01\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0"), None, "too long");
    }

    proptest! {
        #[test]
        fn broken_messages_are_refused_or_read(at in 0usize..120, byte in any::<u8>(), cut in 0usize..160) {
            let mut bytes = some_call(&[Value::Str("a.scope".into()), Value::Array("(sv)".into(), vec![])]);
            if let Some(b) = bytes.get_mut(at) {
                *b = byte;
            }
            bytes.truncate(cut);
            let _ = Message::read(&bytes);
        }
    }
}
