//! JSON of image documents without room for two readings.
//!
//! Refused: duplicate keys in any object, keys that differ from a known one in case only (Go's decoder
//! would take them), nesting beyond serde_json's bound, bytes after the value.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Result};

/// Where in a document an object is, as far as its keys decide what is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Manifest, index or configuration.
    Top,
    /// Entry of `manifest.json`.
    Item,
    Descriptor,
    /// `config`: a descriptor in a manifest, what to run in a configuration.
    Config,
    RootFs,
    Platform,
    /// Anything else: names there are free, those of labels for one.
    Free,
}

impl Place {
    /// Keys that must be written exactly so.
    fn known(self) -> &'static [&'static str] {
        const DESCRIPTOR: &[&str] = &["mediaType", "digest", "size", "urls", "annotations", "platform", "artifactType"];
        match self {
            Self::Top => &[
                "schemaVersion",
                "mediaType",
                "artifactType",
                "config",
                "layers",
                "manifests",
                "subject",
                "annotations",
                "rootfs",
                "history",
                "architecture",
                "os",
                "variant",
            ],
            Self::Item => &["Config", "RepoTags", "Layers"],
            Self::Descriptor => DESCRIPTOR,
            Self::Config => &[
                "mediaType",
                "digest",
                "size",
                "urls",
                "User",
                "ExposedPorts",
                "Env",
                "Entrypoint",
                "Cmd",
                "Volumes",
                "WorkingDir",
                "Labels",
                "StopSignal",
                "Healthcheck",
                "Shell",
            ],
            Self::RootFs => &["type", "diff_ids"],
            Self::Platform => &["architecture", "os", "variant"],
            Self::Free => &[],
        }
    }

    /// The place of the value of `key`.
    fn below(self, key: &str) -> Self {
        match (self, key) {
            (Self::Top, "config") => Self::Config,
            (Self::Top, "layers" | "manifests" | "subject") => Self::Descriptor,
            (Self::Top, "rootfs") => Self::RootFs,
            (Self::Descriptor, "platform") => Self::Platform,
            _ => Self::Free,
        }
    }
}

/// Parses `bytes` as a `T` after the checks of this file.
pub(crate) fn parse<T: DeserializeOwned>(what: &'static str, bytes: &[u8], limit: u64) -> Result<T> {
    checked(what, bytes, limit, false)
}

/// As [`parse`], for a document that is a list.
pub(crate) fn parse_list<T: DeserializeOwned>(what: &'static str, bytes: &[u8], limit: u64) -> Result<Vec<T>> {
    checked(what, bytes, limit, true)
}

fn checked<T: DeserializeOwned>(what: &'static str, bytes: &[u8], limit: u64, list: bool) -> Result<T> {
    if bytes.len() as u64 > limit {
        return Err(Error::document(what, format!("larger than {limit} bytes")));
    }
    // serde would fill a structure from an array by position.
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') && !list {
        return Err(Error::document(what, "an array where an object is expected"));
    }
    let mut check = serde_json::Deserializer::from_slice(bytes);
    Check { place: if list { Place::Item } else { Place::Top } }
        .deserialize(&mut check)
        .and_then(|()| check.end())
        .map_err(|error| Error::document(what, error.to_string()))?;
    serde_json::from_slice(bytes).map_err(|error| Error::document(what, error.to_string()))
}

#[derive(Clone, Copy)]
struct Check {
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Check {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let twin = |known: &&str| key != **known && key.eq_ignore_ascii_case(known);
            if self.place.known().iter().any(twin) {
                return Err(A::Error::custom(format!("key {key:?} differs from a known one in case only")));
            }
            map.next_value_seed(Check { place: self.place.below(&key) })?;
            if let Some(key) = seen.replace(key) {
                return Err(A::Error::custom(format!("duplicate key {key:?}")));
            }
        }
        Ok(())
    }
}
