//! Results of other builders: which there are is read when a build begins, a layer is fetched when a step wants it.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use buildkit::wire::control::CacheOptionsEntry;
use bytes::{Buf, Bytes};
use store::Ingest;
use store::model::{Document, MAX_CONFIG};
use tokio::sync::mpsc;
use types::{DiffId, Kind, Platform};

use super::config::{self, Ours};
use super::remote::Remote;
use super::{inline, options};
use crate::error::{Error, Result};
use crate::export::Step;
use crate::job::Job;
use crate::tree::{Stored, Tree};
use crate::waiting;

/// Most images of an index that are looked into.
const MAX_IMAGES: usize = 4;

/// Results that can be had.
#[derive(Debug, Default)]
pub(crate) struct Imports {
    sources: Vec<Source>,
    /// By key: source and record.
    by_key: HashMap<String, (usize, usize)>,
    fetching: Mutex<HashMap<DiffId, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug)]
struct Source {
    remote: Remote,
    ours: Ours,
}

impl Imports {
    /// Reads what there is. A cache that cannot be read is told, and done without.
    pub(crate) async fn read(job: &Job, entries: &[CacheOptionsEntry]) -> Self {
        let mut imports = Self::default();
        for entry in entries.iter().take(100) {
            let shown = entry.attrs.get("ref").or_else(|| entry.attrs.get("src")).map_or("", String::as_str);
            let step = Step::begin(job, &format!("importing cache manifest from {shown}"));
            let read = read(job, entry).await;
            step.end(read.as_ref().err());
            match read {
                Ok(Some(source)) => imports.add(source),
                Ok(None) => {
                    tracing::debug!(cache = shown, "a build cache of another builder has no keys that are known here")
                }
                Err(error) => tracing::info!(cache = shown, %error, "a build cache is not used"),
            }
        }
        imports
    }

    fn add(&mut self, source: Source) {
        let number = self.sources.len();
        for (index, record) in source.ours.records.iter().enumerate() {
            for key in [&record.key].into_iter().chain(&record.aliases) {
                self.by_key.entry(key.clone()).or_insert((number, index));
            }
        }
        self.sources.push(source);
    }

    /// What came is to be read at once.
    async fn admit(ingest: &Arc<Ingest>) -> Result<()> {
        let ingest = Arc::clone(ingest);
        let committed = tokio::task::spawn_blocking(move || ingest.commit());
        Ok(committed.await.map_err(|e| Error::io("fetching was interrupted", e))??)
    }

    /// A result by one of its keys, fetched. None where there is none, or it does not come.
    pub(crate) async fn find(&self, key: &str, ingest: &Arc<Ingest>) -> Option<Vec<Option<Tree>>> {
        let (source, record) = self.by_key.get(key)?;
        let source = self.sources.get(*source)?;
        let record = source.ours.records.get(*record)?;
        let mut outputs = Vec::with_capacity(record.outputs.len());
        for output in &record.outputs {
            let Some(numbers) = output else {
                outputs.push(None);
                continue;
            };
            let layers = source.ours.stored(numbers).ok()?;
            for layer in &layers {
                if let Err(error) = self.fetch(source, layer, ingest).await {
                    tracing::info!(%error, step = record.name, "a result of another builder does not come");
                    return None;
                }
            }
            outputs.push(Some(Tree::stored(layers, None)));
        }
        if let Err(error) = Self::admit(ingest).await {
            tracing::warn!(%error, step = record.name, "a result of another builder cannot be kept");
            return None;
        }
        Some(outputs)
    }

    /// What the directory of a cache mount begins with.
    pub(crate) async fn mount(&self, id: &str, ingest: &Arc<Ingest>) -> Option<Tree> {
        for source in &self.sources {
            let Some(cache) = source.ours.caches.iter().find(|cache| cache.id == id) else { continue };
            let layer = source.ours.layer(cache.layer).ok()?;
            let fetched = match self.fetch(source, &layer, ingest).await {
                Ok(()) => Self::admit(ingest).await,
                other => other,
            };
            match fetched {
                Ok(()) => return Some(Tree::stored(vec![layer], None)),
                Err(error) => tracing::info!(%error, cache = id, "what was in a cache does not come"),
            }
        }
        None
    }

    async fn fetch(&self, source: &Source, layer: &Stored, ingest: &Arc<Ingest>) -> Result<()> {
        let lock = {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(fetching.entry(layer.diff_id).or_default())
        };
        let _alone = lock.lock().await;
        if ingest.has_layer(&layer.diff_id) && ingest.has_blob(&layer.blob.digest) {
            return Ok(());
        }
        let (chunks, received) = mpsc::channel(8);
        let (taking, taken) = (Arc::clone(ingest), layer.clone());
        let take = move || {
            let reader = Received { chunks: received, rest: Bytes::new() };
            let expected = (&taken.blob.digest, taken.blob.size);
            taking.layer(reader, Some(expected), Some(&taken.diff_id)).map(drop)
        };
        let taken = tokio::spawn(waiting::run("fetching", take));
        let sent = source.remote.read(&layer.blob.digest, chunks).await;
        let taken = taken.await.map_err(|e| Error::io("fetching was interrupted", e))??;
        sent?;
        Ok(taken?)
    }
}

async fn read(job: &Job, entry: &CacheOptionsEntry) -> Result<Option<Source>> {
    let (remote, digest) = options::import(&job.build, entry).await?;
    let bytes = remote.manifest(&digest).await?;
    let ours = ours(&remote, &bytes).await?;
    Ok(ours.map(|ours| Source { remote, ours }))
}

/// What a manifest or an index leads to: a cache, or an image that has one.
async fn ours(remote: &Remote, bytes: &[u8]) -> Result<Option<Ours>> {
    let invalid = |why: String| Error::new(Kind::Invalid, format!("invalid build cache: {why}"));
    let document = Document::parse(bytes, "").map_err(|e| invalid(e.to_string()))?;
    let parts = match &document {
        Document::Manifest(manifest) => std::slice::from_ref(&manifest.config),
        Document::Index(index) => index.manifests.as_slice(),
    };
    if let Some(config) = parts.iter().find(|part| part.media_type == config::MEDIA_TYPE) {
        return config::read(&remote.document(&config.digest, config::MAX).await?);
    }
    match document {
        Document::Manifest(manifest) => {
            inline::read(&manifest, &remote.document(&manifest.config.digest, MAX_CONFIG).await?)
        }
        Document::Index(index) => {
            let host = Platform::host();
            let images = index.manifests.iter().filter(|part| part.platform.as_ref().is_none_or(|it| host.matches(it)));
            for part in images.take(MAX_IMAGES) {
                let bytes = remote.manifest_of(&part.digest).await?;
                if let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, "")
                    && let Some(found) =
                        inline::read(&manifest, &remote.document(&manifest.config.digest, MAX_CONFIG).await?)?
                {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        }
    }
}

/// Pieces as a reader.
struct Received {
    chunks: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.split_to(count).copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
