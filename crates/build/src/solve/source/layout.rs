//! Images in OCI layouts: directories of a client's, which serves their blobs on its session.

use std::collections::HashMap;
use std::sync::Arc;

use store::model::{Descriptor, Document, Image, MAX_CONFIG, Manifest};
use types::{Digest, Kind, Platform};

use super::{Build, Outcome, Vertex, platform};
use crate::error::{Error, Result};
use crate::exchange::{Fetching, Remote};
use crate::tree::{Stored, Tree};

/// Attributes that are known.
const ATTRS: [&str; 3] = ["oci.session", "oci.store", "oci.limit.layers"];
/// Indexes within indexes that are followed.
const MAX_DEPTH: usize = 4;

/// An image of a layout, without its layers.
pub(crate) struct LayoutImage {
    remote: Remote,
    /// Its configuration.
    pub(crate) image: Image,
    manifest: Manifest,
}

/// Store and digest of `STORE[:TAG]@DIGEST`.
pub(crate) fn parse(text: &str) -> Result<(String, Digest)> {
    let invalid = |why: &dyn std::fmt::Display| {
        let text = text.chars().take(300).collect::<String>();
        Error::new(Kind::Invalid, format!("invalid OCI layout \"{text}\": {why}"))
    };
    let (name, digest) = text.rsplit_once('@').ok_or_else(|| invalid(&"it names no digest"))?;
    let digest = digest.parse().map_err(|e| invalid(&e))?;
    // A tag says nothing that the digest does not; a port is before a path.
    let name = match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    };
    if name.is_empty() {
        return Err(invalid(&"it names no store"));
    }
    Ok((name.to_owned(), digest))
}

impl Build {
    /// What a layout has for a platform.
    ///
    /// # Errors
    /// The client has left, or has no such image; documents that are none.
    pub(crate) async fn layout_image(
        &self,
        session: Option<&str>,
        store: &str,
        digest: &Digest,
        wanted: &Platform,
    ) -> Result<LayoutImage> {
        let remote = Remote::layout(self, session, store).await?;
        let invalid =
            |why: &dyn std::fmt::Display| Error::new(Kind::Invalid, format!("the OCI layout's {digest}: {why}"));
        let mut at = *digest;
        for _ in 0..MAX_DEPTH {
            let bytes = remote.manifest_of(&at).await?;
            match Document::parse(&bytes, "").map_err(|e| invalid(&e))? {
                Document::Manifest(manifest) => {
                    let bytes = remote.document(&manifest.config.digest, MAX_CONFIG).await?;
                    let image = Image::parse(&bytes).map_err(|e| invalid(&e))?;
                    return Ok(LayoutImage { remote, image, manifest });
                }
                Document::Index(index) => {
                    let fits = |part: &&Descriptor| part.platform.as_ref().is_some_and(|found| wanted.matches(found));
                    let any = |part: &&Descriptor| part.platform.is_none();
                    let found = index.manifests.iter().find(fits).or_else(|| index.manifests.iter().find(any));
                    at = found.ok_or_else(|| invalid(&format_args!("no image for {wanted}")))?.digest;
                }
            }
        }
        Err(invalid(&"indexes within indexes without an end"))
    }

    /// The files of an image of a layout.
    pub(super) async fn layout(
        self: &Arc<Self>,
        vertex: &Vertex,
        rest: &str,
        attrs: &HashMap<String, String>,
    ) -> Result<Outcome> {
        if let Some(name) = attrs.keys().find(|name| !ATTRS.contains(&name.as_str())) {
            return Err(Error::new(
                Kind::Unsupported,
                format!("the attribute {name} of oci-layout://{rest} is not supported"),
            ));
        }
        let (name, digest) = parse(rest)?;
        let store = attrs.get("oci.store").filter(|store| !store.is_empty()).unwrap_or(&name);
        let session = attrs.get("oci.session").map(String::as_str).filter(|session| !session.is_empty());
        let wanted = vertex.op.platform.as_ref().map_or_else(Platform::host, platform);
        let found = self.layout_image(session, store, &digest, &wanted).await?;
        let layers = found.layers()?;
        let fetching = Fetching::default();
        for layer in &layers {
            fetching.fetch(&found.remote, layer, &self.ingest).await?;
        }
        let ingest = Arc::clone(&self.ingest);
        let committed = tokio::task::spawn_blocking(move || ingest.commit());
        committed.await.map_err(|e| Error::io("fetching was interrupted", e))??;
        let key = layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>().join(",");
        let outputs = vec![Some(Tree::stored(layers, None))];
        Ok(Outcome { key: format!("image {key}"), stable: true, outputs, cached: false })
    }
}

impl LayoutImage {
    fn layers(&self) -> Result<Vec<Stored>> {
        let (diff_ids, blobs) = (&self.image.rootfs.diff_ids, &self.manifest.layers);
        if diff_ids.len() != blobs.len() {
            let text = "the layout's configuration and manifest name different layers";
            return Err(Error::new(Kind::Invalid, text));
        }
        let pairs = diff_ids.iter().zip(blobs);
        Ok(pairs.map(|(diff_id, blob)| Stored { diff_id: *diff_id, blob: blob.clone(), created_ns: None }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_layouts() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, store) in [("x", "x"), ("x:tag", "x"), ("h:5000/x", "h:5000/x"), ("h:5000/x:1", "h:5000/x")] {
            assert_eq!(parse(&format!("{text}@{digest}")).unwrap().0, store);
        }
        for text in ["x", "x:1", "@sha256:0", "x@sha256:0"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
