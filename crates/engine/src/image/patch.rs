//! Pulling an update: a layer made of files that are here and of the parts of its blob that are not.
//!
//! Only files of images from the same registry are used: which parts are asked for tells the registry what is here, and
//! it is to learn nothing of images that came from elsewhere. What comes out is compared with the layer's digest
//! like any archive, so a table of contents that lies costs time and nothing else.

use std::collections::HashSet;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chunked::{Assembly, Place, Plan, Split, Toc};
use distribution::{Descriptor, Parts};
use store::Ingest;
use tokio::sync::mpsc;
use types::{DiffId, Reference};

use super::Images;
use super::sink::{QUEUE, reader};
use crate::error::{Error, Result, fail};

/// Layers whose files are looked at.
const LAYERS: usize = 32;
/// Blobs that are no larger come with one request, which is what is asked for here only to begin with.
const SMALL: u64 = 1 << 20;
/// Requests for parts of a blob that are not too many.
const RANGES: usize = 16_384;
/// A layer is fetched as a whole unless this part of its blob is saved.
const SAVED: (u64, u64) = (1, 4);

impl From<chunked::Error> for Error {
    fn from(source: chunked::Error) -> Self {
        fail!(Invalid, "{source}")
    }
}

impl Images {
    /// Layers whose files an image may be made of: those of images from the same registry, of the same repository
    /// first, then those used last.
    pub(super) fn relatives(&self, reference: &Reference) -> Vec<DiffId> {
        let mut images: Vec<_> = {
            let index = self.index();
            let names = index.names();
            let related = |image: Arc<super::Image>| {
                let references = &names.get(&image.id())?.references;
                let mut near = references.iter().filter(|other| other.domain() == reference.domain()).peekable();
                near.peek()?;
                let same = near.any(|other| other.path() == reference.path());
                Some((same, image))
            };
            index.images().into_iter().filter_map(related).collect()
        };
        images
            .sort_by_cached_key(|(same, image)| (std::cmp::Reverse((*same, self.last_used(&image.id()))), image.id()));
        let mut seen = HashSet::new();
        let layers = images.iter().flat_map(|(_, image)| image.bodies()).flat_map(|(_, body)| body.layer_blobs());
        layers.map(|(_, layer)| layer).filter(|layer| seen.insert(*layer)).take(LAYERS).collect()
    }
}

/// Makes a layer of files of `relatives` and of parts of its blob; false when fetching it as a whole is better.
///
/// # Errors
/// Those of the registry and the disk, and invalid for a table of contents that is of no use.
pub(super) async fn patch(
    ingest: &Arc<Ingest>,
    relatives: &[DiffId],
    (descriptor, diff_id): (&Descriptor, DiffId),
    parts: &Parts,
) -> Result<bool> {
    let annotation = |name: &str| descriptor.annotations.get(name).map(String::as_str);
    let Some(place) = Place::of(annotation, descriptor.size)? else { return Ok(false) };
    if descriptor.size <= SMALL {
        return Ok(false);
    }
    // They stay for as long as the pull lasts.
    let relatives: Vec<DiffId> = relatives.iter().filter(|layer| ingest.has_layer(layer)).copied().collect();
    if relatives.is_empty() {
        return Ok(false);
    }
    let documents = place.range()?;
    let bytes = parts.read(documents.clone()).await?;
    let (holder, fetched) = (Arc::clone(ingest), bytes.len() as u64);
    let waiting = Waiting::default();
    let left = Arc::clone(&waiting.left);
    let planned = tokio::task::spawn_blocking(move || {
        let part = |part: chunked::Part| {
            let at = |place: u64| usize::try_from(place - documents.start).unwrap_or(usize::MAX);
            bytes.get(at(part.offset)..at(part.offset + part.length)).unwrap_or_default()
        };
        let toc = Toc::parse(part(place.toc), &place)?;
        let split = Split::open(part(place.split).to_vec(), &place, &toc)?;
        let files = holder.store().files(&relatives);
        let find = |file: &chunked::File| files.find(&*file.name, file.size, file.digest.as_ref()?);
        let plan = Plan::new(toc, |file| if left.load(Ordering::Relaxed) { None } else { find(file) });
        Ok::<_, chunked::Error>((plan, split, files))
    });
    let (plan, split, files) = planned.await.map_err(interrupted)??;
    let fetched = fetched + plan.bytes();
    if plan.ranges().len() > RANGES || fetched > descriptor.size - descriptor.size / SAVED.1 * SAVED.0 {
        return Ok(false);
    }
    tracing::debug!(layer = %diff_id, bytes = fetched, size = descriptor.size, "making a layer of what is here");
    let (chunks, received) = mpsc::channel(QUEUE);
    let ranges = plan.ranges().to_vec();
    let (holder, blob) = (Arc::clone(ingest), (descriptor.digest, descriptor.size));
    let left = Arc::clone(&waiting.left);
    let made = tokio::task::spawn_blocking(move || {
        let blob_bytes = BufReader::with_capacity(64 << 10, reader(received));
        let open = |layer: usize, file: &chunked::File| files.open(layer, &*file.name);
        let archive = Awaited { inner: Assembly::new(plan, split, open, blob_bytes), left };
        holder.archive(archive, (&blob.0, blob.1), &diff_id)
    });
    let streamed = parts.stream(ranges, chunks).await;
    let made = made.await.map_err(interrupted)?;
    streamed?;
    made?;
    Ok(true)
}

/// Somebody waits for the layer; dropped with the pull. What is here already and zeros take long too, and no break of the
/// stream from the registry ends them.
#[derive(Default)]
struct Waiting {
    left: Arc<AtomicBool>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

/// An archive for as long as somebody waits for it.
struct Awaited<R> {
    inner: R,
    left: Arc<AtomicBool>,
}

impl<R: Read> Read for Awaited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.load(Ordering::Relaxed) {
            return Err(io::Error::other("the pull was abandoned"));
        }
        self.inner.read(buffer)
    }
}

fn interrupted(error: tokio::task::JoinError) -> Error {
    fail!(Internal, "making a layer was interrupted: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_waits_for_ends() {
        let waiting = Waiting::default();
        let mut archive = Awaited { inner: io::repeat(0), left: Arc::clone(&waiting.left) };
        archive.read_exact(&mut [1; 100]).unwrap();
        drop(waiting);
        assert!(archive.read(&mut [1; 100]).is_err());
    }
}
