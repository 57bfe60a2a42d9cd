//! Keeping layers once: when nobody waits, compressed blobs that can be made again are replaced by how.
//!
//! Compressing takes far longer than inflating, so it is done in a thread that runs when the machine is
//! idle, some time after the last image came in. Nothing depends on it: a blob is a file or a recipe.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use store::{Compacted, Store};
use sys::sched::{SchedAttr, set_io_priority, set_scheduler};
use tokio::sync::oneshot;
use types::{DiffId, Digest};

use super::Images;
use super::content::Image;
use crate::engine::Inner;
use crate::error::{Error, Result};

/// `SCHED_IDLE` of sched(7).
const SCHED_IDLE: u32 = 5;
/// The idle class of ioprio_set(2).
const IO_IDLE: u16 = 3 << 13;

/// How much of the machine the work may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// What it has no other use for.
    Idle,
    /// The disk is filling up, whatever else is going on.
    Now,
}

/// Compact when no image has come in for `quiet`, until the engine closes: what comes is often pushed elsewhere next.
pub(crate) async fn keep_compact(inner: Weak<Inner>, quiet: Duration) {
    let Some(mut arrivals) = inner.upgrade().map(|inner| inner.images.arrivals.subscribe()) else { return };
    loop {
        while let Ok(arrived) = tokio::time::timeout(quiet, arrivals.changed()).await {
            if arrived.is_err() {
                return;
            }
        }
        let Some(engine) = open(&inner) else { return };
        if let Err(error) = Images::compact(&engine, Pace::Idle).await {
            tracing::warn!(%error, "compressed layers are kept");
        }
        drop(engine);
        if arrivals.changed().await.is_err() {
            return;
        }
    }
}

fn open(inner: &Weak<Inner>) -> Option<Arc<Inner>> {
    inner.upgrade().filter(|inner| !inner.is_closing())
}

impl Images {
    /// Replace compressed blobs that can be made again; gives the bytes freed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) async fn compact(inner: &Arc<Inner>, pace: Pace) -> Result<u64> {
        let images = &inner.images;
        let mut freed = 0;
        // The lock ends here.
        let all = images.index().images();
        for image in all {
            let pairs = images.untried(&image);
            if pairs.is_empty() {
                continue;
            }
            let (store, weak) = (Arc::clone(&images.store), Arc::downgrade(inner));
            let outcomes = apart(pace, move || replace(&store, &pairs, &|| open(&weak).is_some())).await?;
            let mut tried = images.tried.lock().unwrap_or_else(PoisonError::into_inner);
            tried.extend(outcomes.iter().map(|(digest, _)| *digest));
            drop(tried);
            let saved: u64 = outcomes.iter().map(|(_, bytes)| bytes).sum();
            if saved > 0 {
                tracing::info!(image = %image.id(), bytes = saved, "compressed layers are made when they are asked for");
                images.read_again(&image)?;
            }
            freed += saved;
        }
        Ok(freed)
    }

    /// Compressed layers of an image that may be replaced, with what they are uncompressed.
    fn untried(&self, image: &Image) -> Vec<(Digest, DiffId)> {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = HashSet::new();
        let bodies = image.bodies().filter(|(_, body)| body.available);
        let pairs = bodies.flat_map(|(_, body)| body.layer_blobs().collect::<Vec<_>>());
        pairs.filter(|(blob, _)| !tried.contains(blob) && seen.insert(*blob)).collect()
    }

    /// Read an image again whose content takes another form on disk.
    pub(super) fn read_again(&self, image: &Image) -> Result<()> {
        let read = Arc::new(Image::read(&self.store, image.target.clone())?);
        self.hold(&read);
        self.index().refresh(&read);
        Ok(())
    }
}

/// Bytes freed of each blob.
fn replace(store: &Store, pairs: &[(Digest, DiffId)], go_on: &dyn Fn() -> bool) -> Vec<(Digest, u64)> {
    let one = |(digest, layer): &(Digest, DiffId)| match store.compact(digest, layer, go_on) {
        Ok(Compacted::Dropped(bytes)) => (*digest, bytes),
        Ok(Compacted::NotKnown | Compacted::NotKept) => (*digest, 0),
        Err(error) => {
            tracing::warn!(blob = %digest, %error, "a compressed layer is kept as it is; `system fsck` tells more");
            (*digest, 0)
        }
    };
    pairs.iter().take_while(|_| go_on()).map(one).collect()
}

/// Run in a thread of its own, as processor time is set for threads.
async fn apart<T: Send + 'static>(pace: Pace, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, waiting) = oneshot::channel();
    let thread = std::thread::Builder::new().name("compact".into());
    let started = thread.spawn(move || {
        if pace == Pace::Idle {
            // Only politeness: neither needs to succeed.
            let _ = set_scheduler(SchedAttr { policy: SCHED_IDLE, ..SchedAttr::default() });
            let _ = set_io_priority(IO_IDLE);
        }
        let _ = done.send(work());
    });
    started.map_err(|e| Error::io("cannot start a thread", e))?;
    waiting.await.map_err(|e| Error::io("compacting was interrupted", e))
}
