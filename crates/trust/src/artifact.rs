//! The manifests that signatures are kept in.

use std::collections::BTreeMap;

use serde::Deserialize;
use types::Digest;

use crate::{MANIFEST_MAX, SIGNATURES_MAX, json};

/// Where cosign keeps the signature of a layer's payload.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE_ANNOTATION: &str = "dev.sigstore.cosign/certificate";

/// A manifest of an artifact, as far as signatures need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// `artifactType`, or the type of the configuration where that says what it is.
    pub kind: String,
    /// The manifest it is about.
    pub subject: Option<Digest>,
    /// Its content.
    pub layers: Vec<Layer>,
}

/// One piece of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it is.
    pub media_type: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Number of its bytes.
    pub size: u64,
    /// cosign's signature of it, base64.
    pub signature: Option<String>,
    /// A certificate is beside the signature.
    pub certificate: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u64,
    #[serde(default)]
    artifact_type: Option<String>,
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    subject: Option<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Artifact {
    /// Reads a manifest.
    ///
    /// # Errors
    /// Why it is none of a signature: malformed, or of more pieces than signatures are looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let raw: Raw = json::parse(bytes, MANIFEST_MAX).map_err(|e| format!("the manifest of the signature: {e}"))?;
        if raw.schema_version != 2 {
            return Err("the manifest of the signature: schemaVersion is not 2".to_owned());
        }
        if raw.layers.len() > SIGNATURES_MAX {
            return Err(format!(
                "the manifest has {} signatures where {SIGNATURES_MAX} are looked at",
                raw.layers.len()
            ));
        }
        let layer = |descriptor: Descriptor| {
            let mut annotations = descriptor.annotations.unwrap_or_default();
            Layer {
                media_type: descriptor.media_type,
                digest: descriptor.digest,
                size: descriptor.size,
                signature: annotations.remove(SIGNATURE_ANNOTATION),
                certificate: annotations.contains_key(CERTIFICATE_ANNOTATION),
            }
        };
        Ok(Self {
            kind: raw.artifact_type.filter(|kind| !kind.is_empty()).unwrap_or(raw.config.media_type),
            subject: raw.subject.map(|subject| subject.digest),
            layers: raw.layers.into_iter().map(layer).collect(),
        })
    }
}
