//! Room before the disk is full: what costs least goes first, and images last used longest ago.
//!
//! Off unless the user sets a high and a low mark. Above the high one, until the use is below the low one:
//! what broken pulls left; compressed layers that can be made again; compressed layers that only a registry
//! has then; and last unused images, without a name before those with one. Images of containers, pinned
//! ones and those used within the minimum age stay.

use std::sync::{Arc, Weak};
use std::time::Duration;

use types::Digest;

use super::Images;
use super::compact::Pace;
use super::content::Image;
use super::remove::users;
use crate::clock;
use crate::config::Watermark;
use crate::engine::Inner;
use crate::error::{Error, Result};

/// Time between two looks at the disk.
const EVERY: Duration = Duration::from_secs(60);

/// Look at the disk for as long as the engine is there.
pub(crate) async fn watch(inner: Weak<Inner>) {
    loop {
        let Some((engine, mark)) =
            inner.upgrade().and_then(|inner| Some((Arc::clone(&inner), inner.config.watermark?)))
        else {
            return;
        };
        match Images::relieve(&engine, mark).await {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "the disk was filling up: image content was removed"),
            Err(error) => tracing::warn!(%error, "the disk is filling up, and image content could not be removed"),
        }
        let mut arrivals = engine.images.arrivals.subscribe();
        drop(engine);
        let _ = tokio::time::timeout(EVERY, arrivals.changed()).await;
    }
}

impl Images {
    /// Make room if the disk is fuller than the high mark; gives the bytes freed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) async fn relieve(inner: &Arc<Inner>, mark: Watermark) -> Result<u64> {
        let images = &inner.images;
        if images.used_percent()? < f64::from(mark.high) {
            return Ok(0);
        }
        let enough = || images.used_percent().map(|used| used <= f64::from(mark.low));
        let store = Arc::clone(&images.store);
        let mut freed = inner.blocking("remove unfinished blobs", move || Ok(store.remove_partials()?)).await?;
        if !enough()? {
            freed += Self::compact(inner, Pace::Now).await?;
        }
        for image in images.least_used(inner, mark, false) {
            if enough()? {
                return Ok(freed);
            }
            freed += Self::release(inner, image).await?;
        }
        for image in images.least_used(inner, mark, true) {
            if enough()? {
                break;
            }
            let changing = images.changing.lock().await;
            // A container may have come meanwhile.
            if users(inner, &image.id()).is_empty() {
                tracing::info!(image = %image.id(), "the disk is filling up: an unused image is removed");
                images.delete(inner, image).await?;
                freed += images.collect(inner, &changing).await?;
            }
        }
        Ok(freed)
    }

    /// Percent of the data root's file system that is in use, of what anybody but root may use.
    fn used_percent(&self) -> Result<f64> {
        let disk = rustix::fs::statvfs(self.store.path()).map_err(|e| Error::io("cannot look at the disk", e))?;
        let used = disk.f_blocks.saturating_sub(disk.f_bfree) as f64;
        Ok(100.0 * used / (used + disk.f_bavail as f64).max(1.0))
    }

    /// Images that are not pinned, least needed first; for removal only those that nobody uses and that
    /// are old enough.
    fn least_used(&self, inner: &Inner, mark: Watermark, remove: bool) -> Vec<Arc<Image>> {
        let (images, names) = {
            let index = self.index();
            (index.images(), index.names())
        };
        let named = |id: &Digest| names.get(id).is_some_and(|names| !names.references.is_empty());
        let youngest = clock::now_ns().saturating_sub(i64::try_from(mark.min_age.as_nanos()).unwrap_or(i64::MAX));
        let mut chosen: Vec<(bool, i64, Arc<Image>)> = images
            .into_iter()
            .filter(|image| !self.marks.of(&image.id()).pinned)
            .map(|image| (remove && named(&image.id()), self.last_used(&image.id()), image))
            .filter(|(_, used, image)| !remove || (*used <= youngest && users(inner, &image.id()).is_empty()))
            .collect();
        chosen.sort_by_key(|(named, used, image)| (*named, *used, image.id()));
        chosen.into_iter().map(|(.., image)| image).collect()
    }

    /// Give up the compressed layers of an image.
    async fn release(inner: &Arc<Inner>, image: Arc<Image>) -> Result<u64> {
        let shared = Arc::clone(inner);
        inner
            .blocking("give up compressed layers", move || {
                let store = &shared.images.store;
                let mut freed = 0;
                for (_, body) in image.bodies().filter(|(_, body)| body.available) {
                    for (blob, layer) in body.layer_blobs() {
                        match store.release(&blob, &layer) {
                            Ok(store::Compacted::Dropped(bytes)) => freed += bytes,
                            Ok(_) => {}
                            Err(error) => tracing::warn!(%blob, %error, "a compressed layer is kept"),
                        }
                    }
                }
                if freed > 0 {
                    tracing::info!(image = %image.id(), bytes = freed, "the disk is filling up: compressed layers were given up");
                    shared.images.read_again(&image)?;
                }
                Ok(freed)
            })
            .await
    }
}
