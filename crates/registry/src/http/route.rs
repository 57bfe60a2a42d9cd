//! Paths and queries of the API: from a request's target to what it names.
//!
//! The invariant: what comes out is valid by grammar. A path is cut at `/` before escapes are decoded, so an escaped
//! separator is part of a component and fails there.

use types::Digest;

use crate::error::{Code, Error, Result};
use crate::name::{self, Reference, RepositoryName, UploadId};

/// What a path names (distribution-spec, "Endpoints").
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Base,
    Catalog,
    Tags(RepositoryName),
    Manifest(RepositoryName, Reference),
    Blob(RepositoryName, Digest),
    Uploads(RepositoryName),
    Upload(RepositoryName, UploadId),
    Referrers(RepositoryName, Digest),
}

impl Route {
    /// Reads a path; nothing when no endpoint has its form.
    ///
    /// # Errors
    /// `NAME_INVALID`, `DIGEST_INVALID`, `MANIFEST_INVALID`, `BLOB_UPLOAD_UNKNOWN` for the part that is not valid.
    pub(crate) fn parse(path: &str) -> Result<Option<Self>> {
        let Some(rest) = path.strip_prefix("/v2").filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
            return Ok(None);
        };
        let parts: Vec<String> = match rest.strip_prefix('/').unwrap_or(rest) {
            "" => return Ok(Some(Self::Base)),
            rest => rest.split('/').map(decode).collect::<Option<_>>().ok_or_else(|| {
                Error::new(
                    Code::NameInvalid,
                    "the path has a % that is not followed by two hexadecimal digits of UTF-8",
                )
            })?,
        };
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let repository = |parts: &[&str]| {
            // Joined again: a decoded separator would otherwise become one.
            match parts.iter().any(|part| part.contains('/')) {
                true => RepositoryName::parse("/"),
                false => RepositoryName::parse(&parts.join("/")),
            }
        };
        Ok(Some(match &parts[..] {
            ["_catalog"] => Self::Catalog,
            [name @ .., "tags", "list"] if !name.is_empty() => Self::Tags(repository(name)?),
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] if !name.is_empty() => {
                Self::Uploads(repository(name)?)
            }
            [name @ .., "blobs", "uploads", id] if !name.is_empty() => {
                Self::Upload(repository(name)?, UploadId::parse(id)?)
            }
            [name @ .., "blobs", digest] if !name.is_empty() => Self::Blob(repository(name)?, name::digest(digest)?),
            [name @ .., "manifests", reference] if !name.is_empty() => {
                Self::Manifest(repository(name)?, Reference::parse(reference)?)
            }
            [name @ .., "referrers", digest] if !name.is_empty() => {
                Self::Referrers(repository(name)?, name::digest(digest)?)
            }
            _ => return Ok(None),
        }))
    }
}

/// The value of a query's key, decoded; of several the first. `None` too for a value that is no text.
pub(crate) fn query(query: Option<&str>, key: &str) -> Option<String> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(name, _)| *name == key).and_then(|(_, value)| decode(&value.replace('+', " ")))
}

/// Every value of a query's key, decoded.
pub(crate) fn queries(query: Option<&str>, key: &str) -> Vec<String> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| *name == key).filter_map(|(_, value)| decode(&value.replace('+', " "))).collect()
}

/// Decodes `%xx`; nothing when an escape is malformed or the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
            out.push(u8::try_from(value).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// Escapes a value for a query: everything but unreserved characters (RFC 3986, 2.3).
pub(crate) fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let name = |text| RepositoryName::parse(text).unwrap();
        let digest = format!("sha256:{}", "a".repeat(64));
        let parse = |path: &str| Route::parse(path).unwrap();
        assert_eq!(parse("/v2"), Some(Route::Base));
        assert_eq!(parse("/v2/"), Some(Route::Base));
        assert_eq!(parse("/v2/_catalog"), Some(Route::Catalog));
        assert_eq!(parse("/v2/a/b/tags/list"), Some(Route::Tags(name("a/b"))));
        assert_eq!(parse("/v2/a/blobs/uploads/"), Some(Route::Uploads(name("a"))));
        assert_eq!(parse(&format!("/v2/a/blobs/{digest}")), Some(Route::Blob(name("a"), digest.parse().unwrap())));
        let escaped = digest.replace(':', "%3A");
        assert_eq!(parse(&format!("/v2/a/blobs/{escaped}")), Some(Route::Blob(name("a"), digest.parse().unwrap())));
        assert_eq!(
            parse("/v2/x/blobs/uploads/manifests/v1"),
            Some(Route::Manifest(name("x/blobs/uploads"), Reference::parse("v1").unwrap()))
        );
        for none in ["/", "/v1/", "/v2x", "/v2/a", "/v2/tags/list", "/v2/a/tags", "/metrics"] {
            assert_eq!(parse(none), None, "{none}");
        }
        for (bad, code) in [
            ("/v2/../etc/manifests/x", Code::NameInvalid),
            ("/v2/..%2f..%2fetc/manifests/x", Code::NameInvalid),
            ("/v2/a%2fb/manifests/x", Code::NameInvalid),
            ("/v2/a%00/manifests/x", Code::NameInvalid),
            ("/v2/a%zz/manifests/x", Code::NameInvalid),
            ("/v2/A/tags/list", Code::NameInvalid),
            ("/v2//a/tags/list", Code::NameInvalid),
            ("/v2/a/manifests/..", Code::ManifestInvalid),
            ("/v2/a/manifests/%2e%2e%2fx", Code::ManifestInvalid),
            ("/v2/a/blobs/sha256:abc", Code::DigestInvalid),
            ("/v2/a/blobs/uploads/..", Code::BlobUploadUnknown),
        ] {
            assert_eq!(Route::parse(bad).unwrap_err().code(), code, "{bad}");
        }
    }

    #[test]
    fn queries() {
        assert_eq!(query(Some("a=1&b=x%2Fy&b=z"), "b").unwrap(), "x/y");
        assert_eq!(query(Some("a=1"), "c"), None);
        assert_eq!(query(None, "c"), None);
        assert_eq!(encode("a/b>\r\n"), "a%2Fb%3E%0D%0A");
    }
}
