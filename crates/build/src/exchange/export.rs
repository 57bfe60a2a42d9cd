//! Results of a build for other builders.

use std::collections::HashMap;
use std::sync::Arc;

use buildkit::wire::control::CacheOptionsEntry;
use store::Ingest;
use store::model::{Descriptor, media_type};
use sys::path::Root;
use types::DiffId;

use super::config::{self, Ours};
use super::options::{self, Export};
use super::{inline, pack};
use crate::error::{Error, Result};
use crate::export::Step;
use crate::job::{Job, Solved};
use crate::solve::Build;
use crate::tree::Stored;

/// What stays the same as long as nothing else does: the answer's key for the manifest, which clients write into indexes.
const ANSWER: &str = "cache.manifest";

/// Whether what is asked for can be done, as far as that can be said before the build.
///
/// # Errors
/// Options that make no sense.
pub(crate) async fn check(build: &Build, entries: &[CacheOptionsEntry]) -> Result<()> {
    for entry in entries {
        match entry.r#type.as_str() {
            inline::TYPE => options::inline(entry)?,
            _ => drop(Export::read(build, entry).await?),
        }
    }
    Ok(())
}

/// Exports what a build made and found. The answer is for the client.
///
/// # Errors
/// Options that make no sense; what the client or the registry refuses, unless failures are to be passed over.
pub(crate) async fn export(
    job: &Job,
    solved: &Solved,
    entries: &[CacheOptionsEntry],
) -> Result<HashMap<String, String>> {
    let mut answer = HashMap::new();
    // Those in the image are there with it.
    let entries: Vec<_> = entries.iter().filter(|entry| entry.r#type != inline::TYPE).collect();
    if entries.is_empty() {
        return Ok(answer);
    }
    // Layers are made, and results known, from here on.
    job.build.keep().await;
    for entry in entries {
        let options = Export::read(&job.build, entry).await?;
        let step = Step::begin(job, &format!("exporting cache to {}", options.shown));
        let exported = one(job, solved, &options).await;
        step.end(exported.as_ref().err());
        match exported {
            Ok(manifest) => {
                let text = serde_json::to_string(&manifest).map_err(|e| Error::io("cannot encode a descriptor", e))?;
                answer.insert(ANSWER.to_owned(), text);
            }
            Err(error) if options.ignore_error && !error.is_cancelled() => {
                tracing::warn!(%error, "a build cache was not exported");
            }
            Err(error) => {
                return Err(error.context(format_args!("failed to export the build cache to {}", options.shown)));
            }
        }
    }
    // What was compressed for the way is nobody's now.
    let host = Arc::clone(&job.build.shared.host);
    tokio::spawn(async move { host.collect().await });
    Ok(answer)
}

async fn one(job: &Job, solved: &Solved, options: &Export) -> Result<Descriptor> {
    let build = &job.build;
    let mut finals = Vec::new();
    for reference in solved.reference.iter().chain(solved.by_platform.iter().map(|(_, reference)| reference)) {
        finals.push(job.tree(reference).await?);
    }
    let store = Arc::clone(build.shared.host.store());
    // Of its own: what it has on the way goes with it.
    let ingest = Arc::new(store.ingest());
    let caches = build.shared.caches.existing(|id| options.mounts.has(id));
    let (records, made, packing) = (build.results(), Arc::clone(build.ingest()), Arc::clone(&ingest));
    let (all, compression, manifest) = (options.all, options.compression, options.manifest);
    let packed = tokio::task::spawn_blocking(move || {
        let mut layers = Layers { ingest: &packing, compression, all: Vec::new(), by_diff: HashMap::new() };
        let finals = finals.iter().map(|tree| tree.store(&made)).collect::<Result<Vec<_>>>()?;
        let part = |output: &Vec<Stored>| {
            finals.iter().any(|whole| {
                let same = |(a, b): (&Stored, &Stored)| a.diff_id == b.diff_id;
                output.len() <= whole.len() && output.iter().zip(whole).all(same)
            })
        };
        let mut results = Vec::new();
        for result in records {
            if all || result.outputs.iter().flatten().all(part) {
                let outputs =
                    result.outputs.iter().map(|output| output.as_ref().map(|it| layers.add_all(it)).transpose());
                results.push(config::Record {
                    outputs: outputs.collect::<Result<_>>()?,
                    key: result.key,
                    aliases: result.aliases,
                    name: result.name,
                });
            }
        }
        let mut mounts = Vec::new();
        for cache in &caches {
            let root = Root::open(&cache.path).map_err(|e| Error::io("cannot open a cache", e))?;
            let info = store::image::commit_layer(&packing, &root)?;
            // The layer is read back from the store.
            packing.commit()?;
            let stored = Stored { diff_id: info.diff_id, blob: info.descriptor(), created_ns: None };
            mounts.push(config::Cache { id: cache.id.clone(), layer: layers.add(&stored)? });
        }
        let ours = Ours::new(layers.all, results, mounts);
        let written = documents(&packing, &ours, manifest)?;
        packing.commit()?;
        Ok::<_, Error>(written)
    });
    let (blobs, manifest) = packed.await.map_err(|e| Error::io("packing was interrupted", e))??;
    options.remote.write(&store, &blobs, &manifest).await?;
    drop(ingest);
    Ok(manifest)
}

/// Layers that go along, each once.
struct Layers<'a> {
    ingest: &'a Ingest,
    compression: pack::Compression,
    all: Vec<config::Layer>,
    by_diff: HashMap<DiffId, usize>,
}

impl Layers<'_> {
    fn add(&mut self, stored: &Stored) -> Result<usize> {
        if let Some(number) = self.by_diff.get(&stored.diff_id) {
            return Ok(*number);
        }
        let blob = pack::pack(self.ingest, stored, self.compression)?;
        self.all.push(config::Layer { diff_id: stored.diff_id.to_string(), blob, created_ns: stored.created_ns });
        self.by_diff.insert(stored.diff_id, self.all.len() - 1);
        Ok(self.all.len() - 1)
    }

    fn add_all(&mut self, stored: &[Stored]) -> Result<Vec<usize>> {
        stored.iter().map(|layer| self.add(layer)).collect()
    }
}

/// Configuration and manifest: the blobs that go along, and the manifest.
fn documents(ingest: &Ingest, ours: &Ours, manifest: bool) -> Result<(Vec<Descriptor>, Descriptor)> {
    let bytes = config::write(ours)?;
    let config = Descriptor::new(config::MEDIA_TYPE, ingest.document(&bytes, None)?, bytes.len() as u64);
    let mut blobs: Vec<Descriptor> = Vec::new();
    for layer in &ours.layers {
        if !blobs.iter().any(|known| known.digest == layer.blob.digest) {
            blobs.push(Descriptor { annotations: None, ..layer.blob.clone() });
        }
    }
    let (media_type, document) = if manifest {
        let it = media_type::OCI_MANIFEST;
        (it, serde_json::json!({ "schemaVersion": 2, "mediaType": it, "config": config, "layers": blobs }))
    } else {
        let it = media_type::OCI_INDEX;
        let parts: Vec<_> = blobs.iter().chain([&config]).collect();
        (it, serde_json::json!({ "schemaVersion": 2, "mediaType": it, "manifests": parts }))
    };
    let bytes = serde_json::to_vec(&document).map_err(|e| Error::io("cannot encode a manifest", e))?;
    let manifest = Descriptor::new(media_type, ingest.document(&bytes, None)?, bytes.len() as u64);
    blobs.push(config);
    Ok((blobs, manifest))
}
