//! Content digests, `sha256:` and 64 lower-case hexadecimal characters (OCI image-spec,
//! "Digests"). No other algorithm is stored, so a digest is 32 bytes and always names a blob file
//! unambiguously: it never carries a path or an upper-case twin.

use crate::id::{decode_hex32, hex_string};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Why a text is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not `algorithm:hex` at all.
    #[error("invalid checksum digest format")]
    Format,
    /// An algorithm other than sha256.
    #[error("unsupported digest algorithm")]
    Algorithm,
    /// A sha256 with other than 64 characters.
    #[error("invalid checksum digest length")]
    Length,
}

/// A sha256 content digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Wraps the output of a SHA-256 computation.
    pub const fn sha256(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// The raw hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The algorithm's name in the text form.
    pub const fn algorithm(&self) -> &'static str {
        "sha256"
    }

    /// The 64 characters after the colon; a safe file name.
    pub fn hex(&self) -> String {
        hex_string(&self.0)
    }

    /// The first 12 characters after the colon, as shown in tables and pull progress.
    pub fn short(&self) -> String {
        hex_string(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex_string(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Format)?;
        let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+._-".contains(&c);
        if algorithm.is_empty() || !algorithm.bytes().all(word) || hex.is_empty() {
            return Err(DigestError::Format);
        }
        if algorithm != "sha256" {
            return Err(DigestError::Algorithm);
        }
        if hex.len() != 64 {
            return Err(DigestError::Length);
        }
        decode_hex32(hex).map(Digest).ok_or(DigestError::Format)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! digest_newtype {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map(Self)
            }
        }
    )+};
}

digest_newtype! {
    /// Digest of a layer's uncompressed tar (`rootfs.diff_ids` of an image configuration).
    DiffId,
    /// Digest of a stack of layers (OCI image-spec, "Layer ChainID").
    ChainId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_text() {
        let good = format!("sha256:{}", "0f".repeat(32));
        let digest: Digest = good.parse().unwrap();
        assert_eq!(digest.to_string(), good);
        assert_eq!(digest.short(), "0f0f0f0f0f0f");
        let cases = [
            ("", DigestError::Format),
            ("sha256", DigestError::Format),
            ("sha256:", DigestError::Format),
            ("SHA256:00", DigestError::Format),
            ("sha512:00", DigestError::Algorithm),
            ("sha256:00", DigestError::Length),
            ("md5:../../etc/passwd", DigestError::Algorithm),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
        assert_eq!(format!("sha256:{}", "0F".repeat(32)).parse::<Digest>(), Err(DigestError::Format));
        assert_eq!(format!("sha256:{}", "/.".repeat(32)).parse::<Digest>(), Err(DigestError::Format));
    }
}
