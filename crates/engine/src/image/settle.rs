//! Layers on their way to the disk, and back from their blobs when a power cut came first.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Images;
use super::fsck::from_blob;
use crate::engine::Inner;

/// How long further images may come in before layers are written out.
const GATHER: Duration = Duration::from_millis(500);

/// Write layers out after images have come in, until the engine closes.
pub(crate) async fn keep_settled(inner: Weak<Inner>) {
    let Some(mut arrivals) = inner.upgrade().map(|inner| inner.images.arrivals.subscribe()) else { return };
    loop {
        tokio::time::sleep(GATHER).await;
        let Some(engine) = inner.upgrade() else { return };
        Images::settle(&engine).await;
        drop(engine);
        if arrivals.changed().await.is_err() {
            return;
        }
    }
}

impl Images {
    /// Write layers to disk. Nothing is lost when that fails: they can be made again.
    pub(crate) async fn settle(inner: &Arc<Inner>) {
        let store = Arc::clone(&inner.images.store);
        if let Err(error) = inner.blocking("write layers to disk", move || Ok(store.settle()?)).await {
            tracing::warn!(%error, "layers are not on disk: after a power cut they are made again");
        }
    }

    /// Make the layers again that a power cut took.
    pub(crate) async fn restore(inner: &Arc<Inner>) {
        let images = &inner.images;
        let lost = images.store.layers().lost().to_vec();
        if lost.is_empty() {
            return;
        }
        for (layer, blob) in lost.iter().filter(|(layer, _)| !images.store.layers().has(layer)) {
            match from_blob(inner, *layer, *blob).await {
                Ok(true) => tracing::info!(%layer, "a layer that was not on disk when the power went was made again"),
                Ok(false) => tracing::warn!(%layer, "a layer that was not on disk when the power went is gone; \
                    if an image needs it, `system fsck --repair` fetches it"),
                Err(error) => {
                    tracing::error!(%layer, %error, "a layer cannot be made again; try `system fsck --repair`")
                }
            }
        }
        let all = images.index().images();
        for image in all {
            if image
                .bodies()
                .any(|(_, body)| body.layer_blobs().any(|(_, layer)| lost.iter().any(|(gone, _)| *gone == layer)))
                && let Err(error) = images.read_again(&image)
            {
                tracing::error!(image = %image.id(), %error, "an image cannot be read");
            }
        }
    }
}
