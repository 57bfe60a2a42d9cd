//! Disk use of images: what each occupies, and how much of it others share.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use docker_types::image::ImageSummary;
use docker_types::system::UsageSummary;
use types::Digest;

use super::Images;
use super::content::{Image, signed};
use crate::engine::Inner;
use crate::error::Result;
use crate::facade::ImageListOptions;

/// Every piece of content an image holds, by digest, with its bytes.
fn pieces(image: &Image) -> HashMap<Digest, u64> {
    let mut pieces = HashMap::new();
    for (variant, body) in image.bodies() {
        pieces.insert(variant.descriptor.digest, body.manifest_size);
        pieces.insert(body.manifest.config.digest, body.config_size);
        if body.available {
            let packed = body.manifest.layers.iter().map(|layer| layer.digest).zip(&body.blob_sizes);
            let unpacked = body.config.rootfs.diff_ids.iter().zip(&body.layer_sizes);
            for ((blob, packed), (diff_id, size)) in packed.zip(unpacked) {
                pieces.insert(blob, *packed);
                // An uncompressed blob has its layer's digest and is on disk twice, packed and unpacked.
                if blob == diff_id.0 {
                    pieces.insert(blob, packed.saturating_add(*size));
                } else {
                    pieces.insert(diff_id.0, *size);
                }
            }
        }
    }
    pieces
}

/// Set the bytes each listed image shares with others.
pub(super) fn fill_shared(summaries: &mut [ImageSummary], images: &[Arc<Image>]) {
    let mut counts: HashMap<Digest, usize> = HashMap::new();
    let all: HashMap<String, HashMap<Digest, u64>> =
        images.iter().map(|image| (image.id().to_string(), pieces(image))).collect();
    for digest in all.values().flat_map(HashMap::keys) {
        *counts.entry(*digest).or_default() += 1;
    }
    for summary in summaries {
        let Some(pieces) = all.get(&summary.id) else { continue };
        let shared = pieces.iter().filter(|(digest, _)| counts.get(*digest).is_some_and(|n| *n > 1));
        summary.shared_size = signed(shared.map(|(_, size)| size).sum());
    }
}

impl Images {
    /// Every image with sizes, and the totals: bytes on disk, and those that unused images alone hold.
    ///
    /// # Errors
    /// None that a plain list has not.
    pub(crate) fn usage(&self, inner: &Inner) -> Result<UsageSummary<ImageSummary>> {
        let options = ImageListOptions { all: true, shared_size: true, ..ImageListOptions::default() };
        let items = self.list(inner, &options)?;
        let images = self.index().images();
        let used: HashSet<&str> = items.iter().filter(|i| i.containers > 0).map(|i| i.id.as_str()).collect();
        let (mut all, mut active): (HashMap<Digest, u64>, HashSet<Digest>) = Default::default();
        for image in &images {
            let pieces = pieces(image);
            if used.contains(image.id().to_string().as_str()) {
                active.extend(pieces.keys());
            }
            all.extend(pieces);
        }
        let total: u64 = all.values().sum();
        let kept: u64 = all.iter().filter(|(digest, _)| active.contains(digest)).map(|(_, size)| size).sum();
        Ok(UsageSummary {
            active_count: signed(used.len() as u64),
            total_count: signed(items.len() as u64),
            reclaimable: signed(total - kept),
            total_size: signed(total),
            items,
        })
    }
}
