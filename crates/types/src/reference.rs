//! Image references, `[domain/]path[:tag][@digest]`, in the grammar of the distribution project
//! and with Docker's normalisation (`x` means `docker.io/library/x`).
//!
//! A `Reference` is always normalised: domain and path are set and valid, so two references to the
//! same repository compare equal. Error texts are those Docker's clients print.

use crate::digest::{Digest, DigestError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The domain meant when none is given.
const DEFAULT_DOMAIN: &str = "docker.io";
/// The old name of the default domain, still accepted.
const LEGACY_DOMAIN: &str = "index.docker.io";
/// Path prefix of one-component repositories of the default domain.
const OFFICIAL_PREFIX: &str = "library/";
/// Longest path, in bytes.
const NAME_MAX: usize = 255;
/// Longest tag, in bytes.
const TAG_MAX: usize = 128;

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The repository has upper-case letters; the field is its path.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// The path is longer than 255 bytes.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// 64 hexadecimal characters would be taken for an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// The digest part is wrong.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// A normalised image reference.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses a familiar or full reference and normalises it. No tag is supplied: see
    /// [`Reference::with_default_tag`].
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        if crate::id::decode_hex32(text).is_some() {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let path_guess = remainder.split(':').next().unwrap_or_default();
        if path_guess.bytes().any(|c| c.is_ascii_uppercase()) && path_guess.is_ascii() {
            return Err(ReferenceError::Uppercase(path_guess.to_owned()));
        }
        if !valid_domain(&domain) {
            return Err(ReferenceError::Format);
        }
        let (named, digest) = match remainder.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (remainder.as_str(), None),
        };
        let (path, tag) = match named.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (named, None),
        };
        if !path.split('/').all(valid_path_component) || !tag.is_none_or(valid_tag) {
            return Err(ReferenceError::Format);
        }
        if path.len() > NAME_MAX {
            return Err(ReferenceError::TooLong);
        }
        let digest = match digest {
            Some(text) if digest_grammar(text) => Some(text.parse::<Digest>()?),
            Some(_) => return Err(ReferenceError::Format),
            None => None,
        };
        Ok(Reference { domain, path: path.to_owned(), tag: tag.map(str::to_owned), digest })
    }

    /// Registry host with optional port, e.g. `docker.io` or `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Repository below the domain, e.g. `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// True when neither tag nor digest is given.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// `domain/path`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name as people write it: `busybox`, `user/app`, `localhost:5000/app`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        let short = match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest,
            _ => &self.path,
        };
        // A path that begins like a host, or looks like an id, would be read as that.
        let (domain, path) = split_domain(short);
        let same = domain == DEFAULT_DOMAIN && path == self.path && crate::id::decode_hex32(short).is_none();
        if same { short.to_owned() } else { self.name() }
    }

    /// The whole reference as people write it: `busybox:latest`, `user/app@sha256:…`.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    /// Adds `:latest` when neither tag nor digest is given.
    #[must_use]
    pub fn with_default_tag(mut self) -> Reference {
        if self.is_name_only() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The same repository with this tag and no digest.
    ///
    /// # Errors
    /// [`ReferenceError::Format`] when the tag does not follow the grammar.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        if !valid_tag(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository by digest, without tag.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// What a registry is asked for: the digest when there is one, else the tag, else `latest`.
    pub fn manifest_name(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    fn suffixed(&self, mut out: String) -> String {
        if let Some(tag) = &self.tag {
            out.push(':');
            out.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            out.push('@');
            out.push_str(&digest.to_string());
        }
        out
    }
}

fn split_domain(text: &str) -> (String, String) {
    let (domain, remainder) = match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    };
    let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        return (domain.to_owned(), format!("{OFFICIAL_PREFIX}{remainder}"));
    }
    (domain.to_owned(), remainder.to_owned())
}

fn valid_domain(domain: &str) -> bool {
    if let Some(rest) = domain.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let hex = !address.is_empty() && address.bytes().all(|c| c.is_ascii_hexdigit() || c == b':');
        return hex && (port.is_empty() || port.strip_prefix(':').is_some_and(digits));
    }
    let host = match domain.split_once(':') {
        Some((host, port)) if digits(port) => host,
        Some(_) => return false,
        None => domain,
    };
    host.split('.').all(|part| {
        !part.is_empty()
            && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    })
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

/// Whether a text is one component of a repository's path: `[a-z0-9]+` runs joined by one `.`, one or two `_`, or any
/// number of `-` (OCI distribution-spec, "Pulling manifests"). No component is longer than a path of 255 bytes.
pub fn valid_path_component(part: &str) -> bool {
    let alnum = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alnum(*first) || !alnum(*last) {
        return false;
    }
    bytes.split(|c| alnum(*c)).all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|c| *c == b'-'))
}

/// Whether a text is a tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (OCI distribution-spec, "Pulling manifests").
pub fn valid_tag(tag: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let mut bytes = tag.bytes();
    tag.len() <= TAG_MAX && bytes.next().is_some_and(word) && bytes.all(|c| word(c) || c == b'.' || c == b'-')
}

/// The looser digest grammar of references: what fails here is a format error, what passes is then
/// judged by the strict digest parser with its own wording.
fn digest_grammar(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let part =
        |p: &str| p.starts_with(|c: char| c.is_ascii_alphabetic()) && p.bytes().all(|c| c.is_ascii_alphanumeric());
    algorithm.split(['-', '_', '+', '.']).all(part) && hex.len() >= 32 && hex.bytes().all(|c| c.is_ascii_hexdigit())
}

impl fmt::Display for Reference {
    /// The full form, `docker.io/library/busybox:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.suffixed(self.name()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Reference, D::Error> {
        let text = String::deserialize(d)?;
        Reference::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let by_digest = format!("busybox@{digest}");
        let cases = [
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("user/app", "docker.io/user/app", "user/app"),
            ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("index.docker.io/user/app:x", "docker.io/user/app:x", "user/app:x"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            ("ghcr.io/Owner".to_lowercase().leak(), "ghcr.io/owner", "ghcr.io/owner"),
            ("a__b/c---d.e:T_1", "docker.io/a__b/c---d.e:T_1", "a__b/c---d.e:T_1"),
            // Shorter, it would name another registry.
            ("docker.io/host.example/app:x", "docker.io/host.example/app:x", "docker.io/host.example/app:x"),
            ("docker.io/localhost/app", "docker.io/localhost/app", "docker.io/localhost/app"),
            (by_digest.as_str(), &format!("docker.io/library/busybox@{digest}"), &by_digest),
        ];
        for (text, full, familiar) in cases {
            let reference = Reference::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(Reference::parse(full).unwrap(), reference);
            assert_eq!(Reference::parse(familiar).unwrap(), reference);
        }
        assert_eq!(Reference::parse("x").unwrap().with_default_tag().to_string(), "docker.io/library/x:latest");
        assert_eq!(Reference::parse("x:1").unwrap().manifest_name(), "1");
    }

    #[test]
    fn refuses() {
        let long = "a".repeat(256);
        let long_tag = format!("a:{}", "t".repeat(129));
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a:",
            ":a",
            "a@",
            "a:b:c",
            "a b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "a@sha256:00",
            "a\n",
            "é",
            "a:é",
            "host-.io/a",
            "a:-x",
            "a/../b",
            "../a",
            "x.io:port/a",
            &long_tag,
            "[::1/a",
            "a.b/",
        ] {
            assert_eq!(Reference::parse(bad), Err(ReferenceError::Format), "{bad:?}");
        }
        assert_eq!(Reference::parse(&long), Err(ReferenceError::TooLong));
        assert_eq!(
            Reference::parse("Foo").unwrap_err().to_string(),
            "invalid reference format: repository name (library/Foo) must be lowercase"
        );
        assert!(matches!(Reference::parse(&"ab".repeat(32)), Err(ReferenceError::LooksLikeId(_))));
        let other = format!("a@sha512:{}", "ab".repeat(64));
        assert_eq!(Reference::parse(&other), Err(ReferenceError::Digest(DigestError::Algorithm)));
    }
}
