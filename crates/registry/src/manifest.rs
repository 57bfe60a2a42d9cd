//! What a registry must know of a manifest: its type, what it refers to, and the descriptor under which it refers to
//! a subject.
//!
//! The invariant: a document that two readers could understand differently is refused, so that the type it was pushed
//! with is the only one it has: both `layers` and `manifests`, a `mediaType` that is not the `Content-Type`, duplicate
//! keys, keys that differ from a known one in case only (OCI image-spec 1.1, "manifest.md" and "image-index.md").

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use types::Digest;

use crate::error::{Code, Error, Result};

/// Longest manifest in bytes (distribution-spec, "Pushing Manifests": registries should take 4 MiB).
pub(crate) const MANIFEST_MAX: u64 = 4 << 20;
/// Most descriptors in one manifest; each costs a look at the disk.
const REFERENCES_MAX: usize = 10_000;
/// Longest media type.
const MEDIA_TYPE_MAX: usize = 255;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Keys whose other spellings some readers take for them.
const KNOWN: [&str; 10] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "digest",
    "size",
];

/// A checked manifest.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    /// What must be there when it is pushed.
    pub(crate) references: Vec<Descriptor>,
    /// Every digest it mentions but its subject's: what a collection keeps.
    pub(crate) mentioned: Vec<Digest>,
    pub(crate) subject: Option<Digest>,
    artifact_type: Option<String>,
    annotations: Map<String, Value>,
}

/// A descriptor as far as it matters here (image-spec, "descriptor.md").
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    media_type: String,
    pub(crate) digest: Digest,
    size: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<Map<String, Value>>,
}

fn invalid(text: impl fmt::Display) -> Error {
    Error::new(Code::ManifestInvalid, format!("the manifest is not valid: {text}"))
}

impl Descriptor {
    /// Layers that licences keep from being distributed; they need not be here.
    fn is_foreign(&self) -> bool {
        self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign.")
    }

    /// # Errors
    /// `MANIFEST_INVALID` when the content has another size.
    pub(crate) fn check_size(&self, actual: u64) -> Result<()> {
        if self.size == actual {
            return Ok(());
        }
        Err(invalid(format_args!("it gives {} a size of {} bytes, and it has {actual}", self.digest, self.size)))
    }
}

impl Manifest {
    /// Parses a manifest pushed with this `Content-Type`; an empty one stands for what the document says.
    ///
    /// # Errors
    /// `MANIFEST_INVALID` with what is wrong; `DIGEST_INVALID` for digests of another form.
    pub(crate) fn parse(content_type: &str, bytes: Bytes) -> Result<Self> {
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        Unambiguous.deserialize(&mut reader).and_then(|()| reader.end()).map_err(invalid)?;
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(invalid("it is not an object"));
        }
        let document: Document = serde_json::from_slice(&bytes).map_err(invalid)?;
        if document.schema_version != 2 {
            return Err(invalid(format_args!("schemaVersion is {}, and 2 is what is stored", document.schema_version)));
        }
        let media_type = match (content_type, &document.media_type) {
            ("", Some(own)) => own.clone(),
            ("", None) => {
                return Err(invalid("neither Content-Type nor mediaType says what it is; send a Content-Type"));
            }
            (sent, Some(own)) if sent != own => {
                return Err(invalid(format_args!(
                    "Content-Type is {sent:?} and mediaType {own:?}; they must be the same"
                )));
            }
            (sent, _) => sent.to_owned(),
        };
        if media_type.len() > MEDIA_TYPE_MAX {
            return Err(invalid("its media type is longer than 255 characters"));
        }
        let artifact = document.artifact_type.filter(|text| !text.is_empty());
        let (mut references, artifact_type) = match media_type.as_str() {
            OCI_MANIFEST | DOCKER_MANIFEST => {
                if document.manifests.is_some() {
                    return Err(invalid("an image manifest has no `manifests`"));
                }
                let config = document.config.ok_or_else(|| invalid("`config` is missing"))?;
                let layers = document.layers.ok_or_else(|| invalid("`layers` is missing"))?;
                // image-spec, "Guidelines for Artifact Usage": the type of the configuration stands for that of the artifact.
                let artifact_type = artifact.unwrap_or_else(|| config.media_type.clone());
                (std::iter::once(config).chain(layers).collect::<Vec<_>>(), Some(artifact_type))
            }
            OCI_INDEX | DOCKER_LIST => {
                if document.layers.is_some() || document.config.is_some() {
                    return Err(invalid("an index has neither `layers` nor `config`"));
                }
                (document.manifests.ok_or_else(|| invalid("`manifests` is missing"))?, artifact)
            }
            other => {
                return Err(invalid(format_args!(
                    "{other:?} is not stored: use one of {OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"
                )));
            }
        };
        if references.len() > REFERENCES_MAX {
            return Err(invalid(format_args!("it has more than {REFERENCES_MAX} descriptors")));
        }
        let mentioned = references.iter().map(|reference| reference.digest).collect();
        references.retain(|reference| !reference.is_foreign());
        Ok(Self {
            digest: Digest::sha256(Sha256::digest(&bytes).into()),
            bytes,
            media_type,
            references,
            mentioned,
            subject: document.subject.map(|subject| subject.digest),
            artifact_type,
            annotations: document.annotations.unwrap_or_default(),
        })
    }

    /// How the referrers list shows it (distribution-spec, "Listing Referrers").
    pub(crate) fn descriptor(&self) -> Value {
        let mut descriptor =
            json!({"mediaType": self.media_type, "digest": self.digest.to_string(), "size": self.bytes.len()});
        if let Some(artifact_type) = &self.artifact_type {
            descriptor["artifactType"] = json!(artifact_type);
        }
        if !self.annotations.is_empty() {
            descriptor["annotations"] = Value::Object(self.annotations.clone());
        }
        descriptor
    }
}

/// Reads any JSON and keeps nothing; fails on duplicate keys and on known keys in another spelling. Free text as the
/// names of annotations is not looked at but for duplicates.
struct Unambiguous;

/// The same below `annotations` and `platform`, whose keys are free.
struct Free;

struct Look {
    free: bool,
}

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> std::result::Result<(), D::Error> {
        reader.deserialize_any(Look { free: false })
    }
}

impl<'de> DeserializeSeed<'de> for Free {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> std::result::Result<(), D::Error> {
        reader.deserialize_any(Look { free: true })
    }
}

impl<'de> Visitor<'de> for Look {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> std::result::Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> std::result::Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> std::result::Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> std::result::Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> std::result::Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        if self.free {
            while list.next_element_seed(Free)?.is_some() {}
        } else {
            while list.next_element_seed(Unambiguous)?.is_some() {}
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let misspelt = |known: &&str| *known != key && known.eq_ignore_ascii_case(&key);
            if !self.free && KNOWN.iter().any(misspelt) {
                return Err(A::Error::custom(format_args!("the key {key:?} differs from a known one in case only")));
            }
            if self.free || matches!(key.as_str(), "annotations" | "platform" | "data") {
                map.next_value_seed(Free)?;
            } else {
                map.next_value_seed(Unambiguous)?;
            }
            if let Some(twice) = seen.replace(key) {
                return Err(A::Error::custom(format_args!("the key {twice:?} is there twice")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(fill: char) -> String {
        format!(r#"{{"mediaType":"x/y","digest":"sha256:{}","size":3}}"#, fill.to_string().repeat(64))
    }

    fn parse(media_type: &str, text: &str) -> Result<Manifest> {
        Manifest::parse(media_type, Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn what_a_manifest_refers_to() {
        let (a, b, c) = (descriptor('a'), descriptor('b'), descriptor('c'));
        let foreign = b.replace("x/y", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        let text = format!(
            r#"{{"schemaVersion":2,"config":{a},"layers":[{foreign}],"subject":{c},"annotations":{{"Size":"free","k":"v"}}}}"#
        );
        let manifest = parse(OCI_MANIFEST, &text).unwrap();
        assert_eq!((manifest.references.len(), manifest.mentioned.len()), (1, 2));
        assert!(manifest.subject.unwrap().to_string().contains("cccc"));
        assert_eq!(manifest.descriptor()["artifactType"], "x/y");
        assert_eq!(manifest.descriptor()["annotations"]["k"], "v");
        assert_eq!(manifest.descriptor()["size"], text.len());
        let index = parse(OCI_INDEX, &format!(r#"{{"schemaVersion":2,"manifests":[{a},{b}]}}"#)).unwrap();
        assert_eq!(index.references.len(), 2);
        assert!(index.descriptor().get("artifactType").is_none());
    }

    #[test]
    fn ambiguous_and_broken_documents_are_refused() {
        let a = descriptor('a');
        let image = |extra: &str| format!(r#"{{"schemaVersion":2,"config":{a},"layers":[]{extra}}}"#);
        assert!(parse(OCI_MANIFEST, &image("")).is_ok());
        for (media_type, text) in [
            (OCI_MANIFEST, image(r#","manifests":[]"#)),
            (OCI_INDEX, image(r#","manifests":[]"#)),
            (OCI_MANIFEST, image(r#","mediaType":"application/vnd.oci.image.index.v1+json""#)),
            (OCI_MANIFEST, image(r#","layers":[]"#)),
            (OCI_MANIFEST, image(r#","Layers":[]"#)),
            (OCI_MANIFEST, image("") + "x"),
            (OCI_MANIFEST, image("").replace("\"schemaVersion\":2", "\"schemaVersion\":1")),
            (OCI_MANIFEST, image("").replace("sha256:", "sha512:")),
            (OCI_MANIFEST, image("").replace("\"size\":3", "\"size\":-3")),
            (OCI_INDEX, image("")),
            ("application/json", image("")),
            ("", image("")),
            (OCI_MANIFEST, "[2]".to_owned()),
            (OCI_MANIFEST, String::new()),
            (OCI_MANIFEST, "[".repeat(100_000)),
        ] {
            let shown: String = text.chars().take(200).collect();
            assert_eq!(parse(media_type, &text).unwrap_err().code(), Code::ManifestInvalid, "{media_type} {shown}");
        }
    }
}
