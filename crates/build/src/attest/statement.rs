//! Statements of in-toto: a predicate about things known by their digests.

use serde_json::{Value, json};
use types::{Platform, Reference};

use crate::error::{Error, Result};

/// The type of a statement, as layers of an attestation's manifest have it.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.in-toto+json";
const TYPE: &str = "https://in-toto.io/Statement/v0.1";

/// A statement that is about nothing yet.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// Its file's name, where it is one.
    pub filename: String,
    /// What kind of predicate it has.
    pub predicate_type: &'static str,
    /// The predicate.
    pub predicate: Value,
}

/// What a statement is about.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// A name.
    pub name: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl Statement {
    /// The statement about these.
    ///
    /// # Errors
    /// Never for values built here.
    pub(crate) fn about(&self, subjects: &[Subject]) -> Result<Vec<u8>> {
        let subjects: Vec<Value> = subjects
            .iter()
            .map(|subject| json!({ "name": subject.name, "digest": { "sha256": subject.sha256 } }))
            .collect();
        let statement = json!({
            "_type": TYPE,
            "predicateType": self.predicate_type,
            "subject": subjects,
            "predicate": self.predicate,
        });
        serde_json::to_vec(&statement).map_err(|e| Error::io("cannot encode a statement", e))
    }
}

/// The address of an image as package URLs have it.
pub(crate) fn purl(reference: &Reference, platform: Option<&Platform>) -> String {
    let version = reference.tag().map(|tag| format!("@{}", escaped(tag))).unwrap_or_default();
    let name = reference.familiar_name();
    let name: Vec<String> = name.split('/').map(escaped).collect();
    let platform = platform.map(|platform| format!("?platform={}", escaped(&platform.to_string()))).unwrap_or_default();
    format!("pkg:docker/{}{version}{platform}", name.join("/"))
}

/// What is no letter, digit or one of a few signs, as addresses encode it.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_addresses() {
        let of = |name: &str| {
            purl(&name.parse::<Reference>().unwrap().with_default_tag(), Some(&Platform::new("linux", "arm64", "")))
        };
        assert_eq!(of("busybox"), "pkg:docker/busybox@latest?platform=linux%2Farm64");
        assert_eq!(of("reg.example:5000/a/b:1.0"), "pkg:docker/reg.example:5000/a/b@1.0?platform=linux%2Farm64");
    }
}
