//! What a client may name: repositories, tags, digests and upload sessions.
//!
//! The invariant: a value of these types is a safe sequence of file names. Each is made by parsing alone, by the
//! grammar of the OCI distribution specification 1.1 ("Pulling manifests"), before anything touches the disk.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use types::{Digest, valid_path_component, valid_tag};

use crate::error::{Code, Error};

/// Longest repository name in bytes; clients allow no more together with the registry's host name.
const NAME_MAX: usize = 255;

/// A repository's name: path components without upper-case letters, never beginning with `_`, so that the directories
/// a repository keeps (`_tags` and its like) are never another repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(String);

/// A tag of at most 128 characters, never `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(String);

/// What follows `/manifests/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// By tag.
    Tag(Tag),
    /// By content.
    Digest(Digest),
}

/// An upload session: 16 random bytes, which nobody guesses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(String);

impl RepositoryName {
    /// Parses a name.
    ///
    /// # Errors
    /// `NAME_INVALID` (400).
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() <= NAME_MAX && text.split('/').all(valid_path_component) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(
            Code::NameInvalid,
            "the repository's name is not valid: use lower-case letters and digits, joined by '.', '_', '__' or '-', \
             in components separated by '/', 255 characters at most",
        ))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its directory below `repositories`.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        let mut path = PathBuf::from("repositories");
        path.push(&self.0);
        path.push(inside);
        path
    }
}

impl Tag {
    /// Parses a tag.
    ///
    /// # Errors
    /// `MANIFEST_INVALID` (400).
    pub fn parse(text: &str) -> Result<Self, Error> {
        if valid_tag(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(
            Code::ManifestInvalid,
            "the tag is not valid: use letters, digits, '_', '.' and '-', not beginning with '.' or '-', 128 \
             characters at most",
        ))
    }

    /// The tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn file(&self) -> OsString {
        OsString::from(&self.0)
    }
}

impl Reference {
    /// Parses a tag or, where there is a colon, a digest.
    ///
    /// # Errors
    /// `DIGEST_INVALID` or `MANIFEST_INVALID` (400).
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.contains(':') { digest(text).map(Self::Digest) } else { Tag::parse(text).map(Self::Tag) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag.as_str()),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl UploadId {
    /// A new one.
    pub(crate) fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Self(faster_hex::hex_string(&bytes)))
    }

    /// Parses one that was given out.
    ///
    /// # Errors
    /// `BLOB_UPLOAD_UNKNOWN` (404): what was never given out is unknown.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() == 32 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::upload_unknown())
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Parses a digest of the one algorithm that is stored.
///
/// # Errors
/// `DIGEST_INVALID` (400).
pub fn digest(text: &str) -> Result<Digest, Error> {
    text.parse().map_err(|e| {
        Error::new(
            Code::DigestInvalid,
            format!("{e}: a digest is 'sha256:' and 64 lower-case hexadecimal digits; no other algorithm is stored"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        let long = "a/".repeat(127) + "ab";
        assert!(RepositoryName::parse(&long[..255]).is_ok());
        for bad in [
            "", "/", "a/", "/a", "a//b", "..", "a/../b", "a/.", "A", "a/_tags", "_x", "a%2fb", "a\0b", "a b", "é",
            &long,
        ] {
            assert!(RepositoryName::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a/b", "a-b/c__d.e", "library/busybox", "blobs/uploads"] {
            assert_eq!(RepositoryName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "-x", "a/b", "a\n", &"t".repeat(129)] {
            assert!(Tag::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Tag::parse("_Latest.1-2").is_ok());
        assert!(UploadId::parse("../../../../etc/passwd0000000000").is_err());
        let own = UploadId::random().unwrap();
        assert_eq!(UploadId::parse(own.as_str()).unwrap(), own);
        assert!(digest(&format!("sha512:{}", "0".repeat(128))).is_err());
    }
}
