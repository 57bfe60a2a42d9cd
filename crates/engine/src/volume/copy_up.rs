//! Copies what an image has at a mount point into the new, empty volume that will hide it.
//!
//! The image is hostile: sources are resolved inside its tree by descriptor and nothing is followed
//! on the way down. Owners, modes, times and extended attributes come along. Called by container creation.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use sys::path::Root;

use super::patience::LIMIT;
use super::{Volumes, held_to_limits};
use crate::engine::Inner;
use crate::error::{Error, Result};

/// A volume that may get what the image has at a place.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub volume: String,
    /// Path below the volume, or empty.
    pub subpath: String,
    /// Place in the container.
    pub target: String,
}

impl Volumes {
    /// Fill empty volumes with what the image has where they will be mounted. One that holds something
    /// already is left as it is.
    ///
    /// # Errors
    /// When the image's tree cannot be mounted, a volume not be mounted, or the disk refuses.
    pub(crate) async fn copy_up(&self, inner: &Arc<Inner>, layers: &[String], copies: Vec<Copy>) -> Result<()> {
        // Containers that are made at a time share new volumes: each waits for the one that fills it, in one order.
        let mut names: Vec<String> = copies.iter().map(|copy| copy.volume.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let mut filling = Vec::with_capacity(names.len());
        for name in &names {
            filling.push(self.filling(name).lock_owned().await);
        }
        let filled = self.fill(inner, layers, copies).await;
        drop(filling);
        let mut known = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, lock| Arc::strong_count(lock) > 1);
        filled
    }

    /// The lock of whoever fills a volume.
    fn filling(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut known = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(name.to_owned()).or_default())
    }

    async fn fill(&self, inner: &Arc<Inner>, layers: &[String], copies: Vec<Copy>) -> Result<()> {
        let candidates: Vec<(Copy, PathBuf, bool)> = copies
            .into_iter()
            .filter_map(|copy| {
                let record = self.get(&copy.volume)?;
                let data = self.data(&copy.volume);
                Some((copy, data, record.is_mounted()))
            })
            .collect();
        let candidates = inner
            .blocking("look into new volumes", move || {
                // What is not mounted yet can be seen only later.
                Ok(candidates
                    .into_iter()
                    .filter(|(copy, data, mounted)| *mounted || empty(data, copy).is_some())
                    .collect::<Vec<_>>())
            })
            .await?;
        if candidates.is_empty() {
            return Ok(());
        }
        let root = Arc::new(inner.images.tree(inner, layers).await?);
        for (copy, data, mounted) in candidates {
            let Ok(source) = root.sub(&copy.target) else { continue };
            let held = match mounted {
                true => Some(self.hold(inner, &copy.volume).await?),
                false => None,
            };
            let subject = format!("volume {}", copy.volume);
            let doing = format!("copy the image's files into volume {}", copy.volume);
            let work = move || {
                let Some(into) = empty(&data, &copy) else { return Ok(()) };
                held_to_limits(|| store::tree::duplicate(&source, &into)).map(drop).map_err(|e| {
                    let error = Error::from(e);
                    error.context(format!("cannot copy {} of the image into {}", copy.target, data.display()))
                })
            };
            if held.is_some() {
                // It may be large, and the file system slow: much longer than a mount may take.
                self.patience.run(&subject, &doing, LIMIT * 30, work).await?;
            } else {
                inner.blocking("copy the image's files into a new volume", work).await?;
            }
        }
        Ok(())
    }
}

/// The directory to be filled, when it is there and empty.
fn empty(data: &Path, copy: &Copy) -> Option<Root> {
    let root = Root::open(data).ok()?;
    let root = if copy.subpath.is_empty() { root } else { root.sub(&copy.subpath).ok()? };
    let entries = root.dir().and_then(|dir| dir.list()).ok()?;
    entries.is_empty().then_some(root)
}
