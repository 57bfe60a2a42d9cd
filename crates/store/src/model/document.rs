//! Image manifests and indexes.
//!
//! A document with both `layers` and `manifests`, or whose own `mediaType` is not the one it was fetched
//! as, is refused (CVE-2021-41190).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Descriptor, MAX_LAYERS, MAX_MANIFEST, media_type, strict};
use crate::error::{Error, Result};

/// Most entries of an index.
const MAX_ENTRIES: usize = 10_000;

/// An image manifest: one configuration and its layers, base first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Own media type; older OCI writers leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of artifact when this is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// Layers, base first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// Notes for readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// An image index or manifest list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Manifests or further indexes.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// Notes for readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "parsed, looked at and dropped; never kept in numbers")]
pub enum Document {
    /// Image manifest.
    Manifest(Manifest),
    /// Image index.
    Index(Index),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// A manifest of an image made here.
    #[must_use]
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let media_type = Some(media_type::OCI_MANIFEST.to_owned());
        Self { schema_version: 2, media_type, artifact_type: None, config, layers, annotations: None }
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// Never for values built from valid parts.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::document("image manifest", error.to_string()))
    }
}

impl Document {
    /// Parses a manifest or index that was named with `declared` as its media type (empty when unknown).
    ///
    /// # Errors
    /// [`Error::Document`] for everything that is not exactly one of the two.
    pub fn parse(bytes: &[u8], declared: &str) -> Result<Self> {
        const WHAT: &str = "image manifest";
        let shape: Shape = strict::parse(WHAT, bytes, MAX_MANIFEST)?;
        if shape.fs_layers.is_some() || shape.schema_version == Some(1) {
            return Err(Error::document(
                WHAT,
                "Docker image format v1 and manifest schema 1 are not supported; push the image again with a newer client",
            ));
        }
        if shape.schema_version != Some(2) {
            return Err(Error::document(WHAT, "schemaVersion is not 2"));
        }
        if let Some(own) = &shape.media_type
            && !declared.is_empty()
            && own != declared
        {
            return Err(Error::document(WHAT, format!("it says its type is {own}, but it was offered as {declared}")));
        }
        let image = shape.layers.is_some() || shape.config.is_some();
        if image && shape.manifests.is_some() {
            return Err(Error::document(WHAT, "it has both layers and manifests"));
        }
        let named = shape.media_type.as_deref().unwrap_or(declared);
        if image && media_type::is_index(named) || shape.manifests.is_some() && media_type::is_manifest(named) {
            return Err(Error::document(WHAT, format!("its content is not of its type {named}")));
        }
        if image {
            let manifest: Manifest = strict::parse(WHAT, bytes, MAX_MANIFEST)?;
            if manifest.layers.len() > MAX_LAYERS {
                return Err(Error::document(WHAT, format!("more than {MAX_LAYERS} layers")));
            }
            return Ok(Self::Manifest(manifest));
        }
        if shape.manifests.is_none() {
            return Err(Error::document(WHAT, "it has neither layers nor manifests"));
        }
        let index: Index = strict::parse(WHAT, bytes, MAX_MANIFEST)?;
        if index.manifests.len() > MAX_ENTRIES {
            return Err(Error::document(WHAT, format!("more than {MAX_ENTRIES} manifests")));
        }
        Ok(Self::Index(index))
    }

    /// The media type to record for the document.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match self {
            Self::Manifest(manifest) => manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST),
            Self::Index(index) => index.media_type.as_deref().unwrap_or(media_type::OCI_INDEX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTOR: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}"#;

    fn parse(text: &str, declared: &str) -> Result<Document> {
        Document::parse(text.as_bytes(), declared)
    }

    #[test]
    fn shapes() {
        let manifest = format!(r#"{{"schemaVersion":2,"config":{DESCRIPTOR},"layers":[{DESCRIPTOR}]}}"#);
        assert!(matches!(parse(&manifest, media_type::OCI_MANIFEST), Ok(Document::Manifest(_))));
        assert!(parse(&manifest, media_type::OCI_INDEX).is_err());
        let index =
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{DESCRIPTOR}]}}"#, media_type::OCI_INDEX);
        assert!(matches!(parse(&index, ""), Ok(Document::Index(_))));
        assert!(parse(&index, media_type::OCI_MANIFEST).is_err(), "declared type differs");
    }
}
