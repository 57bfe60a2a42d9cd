//! Manifests, indexes and image configurations (OCI image-spec 1.1, Docker manifest v2 schema 2),
//! as far as pulling needs them.
//!
//! What parses here is unambiguous: a document is an index or a manifest but never both, its media
//! type is the same inside and out, digests are strict and sizes non-negative.

use serde::Deserialize;
use std::collections::BTreeMap;
use types::{DiffId, Digest, Platform};

/// OCI image index.
pub const MEDIA_OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const MEDIA_OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image configuration.
pub const MEDIA_OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Docker manifest list.
pub const MEDIA_DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker manifest, version 2 schema 2.
pub const MEDIA_DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker image configuration.
pub const MEDIA_DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Prefix of both retired Docker manifest types.
const MEDIA_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+";

/// `Accept` of manifest requests.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Most layers of an image.
const LAYERS_MAX: usize = 1024;
/// Most entries of an index.
const ENTRIES_MAX: usize = 4096;

/// A content descriptor with a checked digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// What the content is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What it is for, in an index.
    pub platform: Option<Platform>,
    /// What is said of it besides.
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Content of which nothing more is said.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Descriptor {
        let (media_type, annotations) = (media_type.into(), BTreeMap::new());
        Descriptor { media_type, digest, size, platform: None, annotations }
    }
}

/// A parsed top-level document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    /// Manifests to choose from.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest { config: Descriptor, layers: Vec<Descriptor> },
}

/// Why a document was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The retired schema 1.
    Schema1,
    /// Anything else.
    Invalid(String),
}

impl From<String> for Rejection {
    fn from(why: String) -> Rejection {
        Rejection::Invalid(why)
    }
}

#[derive(Deserialize)]
struct RawDocument {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u64>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct RawDescriptor {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<RawPlatform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl RawDescriptor {
    fn checked(self) -> Result<Descriptor, Rejection> {
        let digest = self.digest.parse().map_err(|e| format!("digest {:?}: {e}", clip(&self.digest)))?;
        if self.size > i64::MAX as u64 {
            return Err(format!("descriptor {digest} has an impossible size").into());
        }
        let platform = self
            .platform
            .filter(|p| !p.architecture.is_empty())
            .map(|p| Platform::new(&p.os, &p.architecture, &p.variant));
        let annotations = self.annotations.unwrap_or_default();
        Ok(Descriptor { media_type: self.media_type, digest, size: self.size, platform, annotations })
    }
}

fn clip(text: &str) -> String {
    text.chars().take(100).collect()
}

fn is_index_type(media_type: &str) -> bool {
    media_type == MEDIA_OCI_INDEX || media_type == MEDIA_DOCKER_LIST
}

fn is_manifest_type(media_type: &str) -> bool {
    media_type == MEDIA_OCI_MANIFEST || media_type == MEDIA_DOCKER_MANIFEST
}

impl Document {
    /// Parses a manifest of an image, or an index. `content_type` is what the registry said it is, or what
    /// the index entry that led here said. Gives the media type it really has beside it.
    pub(crate) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<(Document, String), Rejection> {
        let (document, media_type) = Document::parse_any(bytes, content_type)?;
        let layers = match &document {
            Document::Manifest { layers, .. } => layers.as_slice(),
            Document::Index(_) => &[],
        };
        if let Some(other) = layers.iter().find(|l| !is_layer_type(&l.media_type)) {
            return Err(format!("{:?} is no layer of a container image", clip(&other.media_type)).into());
        }
        Ok((document, media_type))
    }

    /// As [`Document::parse`], for manifests of other artifacts too.
    pub(crate) fn parse_any(bytes: &[u8], content_type: Option<&str>) -> Result<(Document, String), Rejection> {
        let content_type = content_type.map(|c| c.split(';').next().unwrap_or_default().trim());
        if content_type.is_some_and(|c| c.starts_with(MEDIA_SCHEMA1)) {
            return Err(Rejection::Schema1);
        }
        let raw: RawDocument = serde_json::from_slice(bytes).map_err(|e| format!("not the expected JSON: {e}"))?;
        if raw.fs_layers.is_some() || raw.schema_version == Some(1) {
            return Err(Rejection::Schema1);
        }
        if raw.schema_version != Some(2) {
            return Err("schemaVersion is not 2".to_owned().into());
        }
        let known = |t: &&str| is_index_type(t) || is_manifest_type(t);
        let outer = content_type.filter(known);
        let inner = raw.media_type.as_deref();
        if let (Some(outer), Some(inner)) = (outer, inner)
            && outer != inner
        {
            return Err(format!("it is served as {outer} but calls itself {:?}", clip(inner)).into());
        }
        let is_index = match (&raw.manifests, raw.config.is_some() || raw.layers.is_some()) {
            (Some(_), false) => true,
            (None, true) => false,
            (Some(_), true) => return Err("it has both manifests and layers".to_owned().into()),
            (None, false) => return Err("it has neither manifests nor layers".to_owned().into()),
        };
        let fallback = if is_index { MEDIA_OCI_INDEX } else { MEDIA_OCI_MANIFEST };
        let media_type = inner.or(outer).unwrap_or(fallback).to_owned();
        if is_index != is_index_type(&media_type) || is_index == is_manifest_type(&media_type) {
            return Err(format!("its content does not fit its media type {:?}", clip(&media_type)).into());
        }
        let list = |raw: Option<Vec<RawDescriptor>>, max: usize| -> Result<Vec<Descriptor>, Rejection> {
            let raw = raw.unwrap_or_default();
            if raw.len() > max {
                return Err(format!("it has {} entries where {max} are allowed", raw.len()).into());
            }
            raw.into_iter().map(RawDescriptor::checked).collect()
        };
        if is_index {
            return Ok((Document::Index(list(raw.manifests, ENTRIES_MAX)?), media_type));
        }
        let config = raw.config.ok_or_else(|| "it has no config".to_owned())?.checked()?;
        let layers = list(raw.layers, LAYERS_MAX)?;
        Ok((Document::Manifest { config, layers }, media_type))
    }
}

/// Layers we can unpack; "nondistributable" ones are fetched from the registry like any other,
/// their `urls` are never followed.
fn is_layer_type(media_type: &str) -> bool {
    let bare = media_type.strip_suffix("+gzip").or_else(|| media_type.strip_suffix("+zstd")).unwrap_or(media_type);
    matches!(
        bare,
        "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    )
}

/// Chooses the manifest for a platform: the first that fits; or the only one, when none of the
/// entries says what it is for.
pub(crate) fn choose<'a>(entries: &'a [Descriptor], wanted: &Platform) -> Option<&'a Descriptor> {
    let images = || entries.iter().filter(|e| is_manifest_type(&e.media_type));
    if let Some(found) = images().find(|e| e.platform.as_ref().is_some_and(|p| wanted.matches(p))) {
        return Some(found);
    }
    let mut unlabelled = images().filter(|e| e.platform.is_none());
    match (unlabelled.next(), unlabelled.next()) {
        (Some(only), None) if images().count() == 1 => Some(only),
        _ => None,
    }
}

/// What of an image configuration a pull needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageFacts {
    pub(crate) platform: Platform,
    pub(crate) diff_ids: Vec<DiffId>,
}

impl ImageFacts {
    /// Parses a configuration; its layers must be as many as the manifest's.
    pub(crate) fn parse(bytes: &[u8], layers: usize) -> Result<ImageFacts, String> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            os: String,
            #[serde(default)]
            architecture: String,
            #[serde(default)]
            variant: String,
            rootfs: RawRootFs,
        }
        #[derive(Deserialize)]
        struct RawRootFs {
            #[serde(default)]
            diff_ids: Option<Vec<String>>,
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| format!("not the expected JSON: {e}"))?;
        let diff_ids: Vec<DiffId> = raw
            .rootfs
            .diff_ids
            .unwrap_or_default()
            .iter()
            .map(|d| d.parse().map_err(|e| format!("diff_id {:?}: {e}", clip(d))))
            .collect::<Result<_, _>>()?;
        if diff_ids.len() != layers {
            return Err(format!("it names {} layers where the manifest has {layers}", diff_ids.len()));
        }
        Ok(ImageFacts { platform: Platform::new(&raw.os, &raw.architecture, &raw.variant), diff_ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> String {
        Digest::sha256([byte; 32]).to_string()
    }

    fn manifest(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,{extra}"config":{{"mediaType":"{MEDIA_OCI_CONFIG}","digest":"{}","size":2}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":3,"urls":["file:///x"]}}]}}"#,
            digest(1),
            digest(2)
        )
    }

    #[test]
    fn takes_manifests_and_indexes() {
        let (document, media_type) = Document::parse(manifest("").as_bytes(), Some(MEDIA_OCI_MANIFEST)).unwrap();
        assert_eq!(media_type, MEDIA_OCI_MANIFEST);
        assert!(matches!(document, Document::Manifest { layers, .. } if layers.len() == 1));
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MEDIA_DOCKER_LIST}","manifests":[
            {{"mediaType":"{MEDIA_DOCKER_MANIFEST}","digest":"{}","size":1,"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}},
            {{"mediaType":"{MEDIA_DOCKER_MANIFEST}","digest":"{}","size":1,"platform":{{"os":"linux","architecture":"amd64"}}}},
            {{"mediaType":"{MEDIA_OCI_MANIFEST}","digest":"{}","size":1,"platform":{{"os":"unknown","architecture":"unknown"}}}}]}}"#,
            digest(1),
            digest(2),
            digest(3)
        );
        let (Document::Index(entries), _) = Document::parse(index.as_bytes(), Some(MEDIA_DOCKER_LIST)).unwrap() else {
            panic!("an index")
        };
        let pick = |p: &str| choose(&entries, &p.parse().unwrap()).map(|d| d.digest.to_string());
        assert_eq!(pick("linux/amd64"), Some(digest(2)));
        assert_eq!(pick("linux/arm64"), Some(digest(1)));
        assert_eq!(pick("linux/s390x"), None);
        assert_eq!(choose(&[], &Platform::host()), None);
    }

    #[test]
    fn refuses_ambiguity() {
        let both = manifest(r#""manifests":[],"#);
        let lie = manifest(&format!(r#""mediaType":"{MEDIA_OCI_INDEX}","#));
        let cases = [
            (both.as_str(), None),
            (lie.as_str(), None),
            (&manifest(&format!(r#""mediaType":"{MEDIA_DOCKER_MANIFEST}","#)), Some(MEDIA_OCI_MANIFEST)),
            (&manifest(""), Some(MEDIA_OCI_INDEX)),
            (&manifest(r#""schemaVersion":2,"#), None),
            (&manifest("").replace(":3,", ":-1,"), None),
            (&manifest("").replace(":3,", ":9223372036854775808,"), None),
            (&manifest("").replace("sha256:02", "sha256:0A"), None),
            (&manifest("").replace("sha256:", "sha512:"), None),
            (&manifest("").replace("layer.v1.tar+gzip", "layer.v1.exe"), None),
            (&format!("{}x", manifest("")), None),
            (&format!("\u{feff}{}", manifest("")), None),
            (&"[".repeat(100_000), None),
            (r#"{"schemaVersion":2}"#, None),
            (r#"{"schemaVersion":3,"manifests":[]}"#, None),
        ];
        for (text, content_type) in cases {
            let result = Document::parse(text.as_bytes(), content_type);
            assert!(matches!(result, Err(Rejection::Invalid(_))), "{}", clip(text));
        }
        let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert_eq!(Document::parse(old.as_bytes(), None), Err(Rejection::Schema1));
        let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert_eq!(Document::parse(b"{}", Some(signed)), Err(Rejection::Schema1));
    }

    #[test]
    fn configuration() {
        let text = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            digest(7)
        );
        assert_eq!(ImageFacts::parse(text.as_bytes(), 1).unwrap().platform.to_string(), "linux/amd64");
        assert!(ImageFacts::parse(text.as_bytes(), 2).is_err());
        assert!(ImageFacts::parse(b"{}", 0).is_err());
    }
}
