//! Garbage collection: blobs and layers that no name, container or holder of an image needs.
//!
//! Runs with `changing` held, so no image gains its first name meanwhile; what is on its way in is
//! protected by its ingest. A container keeps its layers, and the documents a commit of it needs,
//! even when its image was removed by force.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use store::model::{Document, MAX_MANIFEST};
use tokio::sync::MutexGuard;
use types::{DiffId, Digest};

use super::{Images, parse_layers};
use crate::engine::Inner;
use crate::error::Result;

impl Images {
    /// Remove what nobody needs; gives the bytes freed.
    ///
    /// # Errors
    /// When the disk refuses; what was removed before stays removed.
    pub(super) async fn collect(&self, inner: &Arc<Inner>, _changing: &MutexGuard<'_, ()>) -> Result<u64> {
        if !self.unreadable.is_empty() {
            tracing::warn!("nothing is collected while an image cannot be read; pull or load it again, then restart");
            return Ok(0);
        }
        let shared = Arc::clone(inner);
        inner
            .blocking("collect unused image content", move || {
                let (blobs, layers) = shared.images.referenced(&shared);
                Ok(shared.images.store.remove_unreferenced(&blobs, &layers)?.bytes)
            })
            .await
    }

    /// Collect what a crash or a removed container left behind.
    pub(crate) async fn sweep(&self, inner: &Arc<Inner>) {
        let changing = self.changing.lock().await;
        match self.collect(inner, &changing).await {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "unused image content was removed"),
            Err(error) => tracing::warn!(%error, "unused image content could not be removed"),
        }
    }

    /// Everything that images, whoever holds one, and containers need.
    pub(super) fn referenced(&self, inner: &Inner) -> (HashSet<Digest>, HashSet<DiffId>) {
        let (mut blobs, mut layers) = (HashSet::new(), HashSet::new());
        // Holders before containers: a creation lets go of its image only when its container is there.
        let held: Vec<_> = {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.iter().filter_map(std::sync::Weak::upgrade).collect()
        };
        held.iter().for_each(|image| image.references(&mut blobs, &mut layers));
        self.index().images().iter().for_each(|image| image.references(&mut blobs, &mut layers));
        if let Some(builder) = inner.builder() {
            let (more_blobs, more_layers) = builder.referenced();
            blobs.extend(more_blobs);
            layers.extend(more_layers);
        }
        for container in inner.containers.all() {
            let record = container.record();
            let lists = std::iter::once(&record.layers).chain(record.mounts.iter().map(|mount| &mount.layers));
            for list in lists {
                // A record that names no layers could not have been started from any.
                layers.extend(parse_layers(list).unwrap_or_default());
            }
            if let Some(manifest) = record.manifest.as_ref().and_then(|m| m.digest.parse::<Digest>().ok())
                && !blobs.contains(&manifest)
            {
                self.manifest_references(manifest, &mut blobs);
            }
        }
        (blobs, layers)
    }

    /// Layers of images.
    pub(crate) fn layers(&self) -> HashSet<DiffId> {
        let (mut blobs, mut layers) = (HashSet::new(), HashSet::new());
        self.index().images().iter().for_each(|image| image.references(&mut blobs, &mut layers));
        layers
    }

    fn manifest_references(&self, digest: Digest, blobs: &mut HashSet<Digest>) {
        let Ok(bytes) = self.store.blobs().read(&digest, MAX_MANIFEST) else { return };
        if let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, "") {
            blobs.extend([digest, manifest.config.digest]);
            blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
        }
    }
}
