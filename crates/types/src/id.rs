//! 256-bit object ids as 64 lower-case hexadecimal characters.
//!
//! Held as the 32 raw bytes, so an `Id` is `Copy`, compares in four words and cannot hold anything
//! else; one newtype per kind of object keeps a container id out of a network's place.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A text that is not 64 lower-case hexadecimal characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {0:?}: it must be 64 lower-case hexadecimal characters")]
pub struct IdError(pub String);

/// An object id: 32 bytes, shown as 64 lower-case hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; 32]);

impl Id {
    /// Makes an id of 32 random bytes.
    ///
    /// The first twelve characters serve as a host name and must not read as a number (`0123…`
    /// would be taken for an IPv4 address by some programs), so when they are all decimal the
    /// first nibble is turned into a letter.
    pub fn from_random(mut bytes: [u8; 32]) -> Id {
        let decimal = bytes[..6].iter().all(|b| (b >> 4) < 10 && (b & 0xf) < 10);
        if decimal {
            bytes[0] = 0xa0 | (bytes[0] & 0x0f);
        }
        Id(bytes)
    }

    /// Makes an id of exactly these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Id {
        Id(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 characters, as shown in tables and used as default host name.
    pub fn short(&self) -> String {
        hex_string(&self.0[..6])
    }
}

pub(crate) fn hex_string(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        out.push(HEX[usize::from(b >> 4)] as char);
        out.push(HEX[usize::from(b & 0xf)] as char);
    }
    out
}

/// Decodes exactly 64 lower-case hexadecimal characters.
pub(crate) fn decode_hex32(text: &str) -> Option<[u8; 32]> {
    fn nibble(c: u8) -> Option<u8> {
        match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        }
    }
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut out = [0u8; 32];
    for (slot, pair) in out.iter_mut().zip(text.as_chunks::<2>().0) {
        *slot = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(out)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex_string(&self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Id, IdError> {
        decode_hex32(text).map(Id).ok_or_else(|| IdError(text.chars().take(80).collect()))
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Id, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! id_newtype {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Id);

        impl $name {
            /// Makes an id of 32 random bytes; see [`Id::from_random`].
            pub fn from_random(bytes: [u8; 32]) -> Self {
                Self(Id::from_random(bytes))
            }

            /// The id without its role.
            pub const fn id(&self) -> Id {
                self.0
            }

            /// The first 12 characters.
            pub fn short(&self) -> String {
                self.0.short()
            }
        }

        impl From<Id> for $name {
            fn from(id: Id) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.parse().map(Self)
            }
        }
    )+};
}

id_newtype! {
    /// Names a container.
    ContainerId,
    /// Names a network.
    NetworkId,
    /// Names one attachment of a container to a network.
    EndpointId,
    /// Names a network sandbox (the network namespace of a container).
    SandboxId,
    /// Names one `exec` in a container.
    ExecId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        let text = "0a".repeat(31) + "ff";
        let id: ContainerId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.short(), "0a0a0a0a0a0a");
        assert_eq!(id.id().as_bytes()[31], 0xff);
    }

    #[test]
    fn rejects_other_texts() {
        for bad in ["", "ab", &"0A".repeat(32), &"0g".repeat(32), &"00".repeat(33), "é"] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
    }

    #[test]
    fn short_form_never_reads_as_a_number() {
        let id = Id::from_random([0x12; 32]);
        assert!(id.short().bytes().any(|c| c.is_ascii_lowercase()));
        let kept = Id::from_random([0xab; 32]);
        assert_eq!(kept, Id::from_bytes([0xab; 32]));
    }
}
