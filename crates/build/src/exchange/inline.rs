//! A cache in an image: its configuration says which results its layers are.

use std::sync::Arc;

use buildkit::wire::control::CacheOptionsEntry;
use serde::{Deserialize, Serialize};
use store::model::{Image, Manifest};
use types::Kind;

use super::config::{self, Ours};
use crate::error::{Error, Result};
use crate::export::CONFIG;
use crate::job::{Job, Solved};

/// The name of the field.
const FIELD: &str = "dhow.cache.v1";
/// The type of an entry.
pub(super) const TYPE: &str = "inline";

/// What the field says.
#[derive(Debug, Serialize, Deserialize)]
struct Inline {
    records: Vec<Record>,
}

/// A result: how many layers of the image each of its outputs has, from the lowest on.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: String,
    #[serde(default)]
    aliases: Vec<String>,
    name: String,
    outputs: Vec<Option<usize>>,
}

/// Writes into the configurations of what a build made which results it has, if that is asked for. What a base image has of
/// this is about the base alone, and goes.
///
/// # Errors
/// The first step that failed; a configuration that cannot be read.
pub(crate) async fn inline(job: &Job, solved: &mut Solved, entries: &[CacheOptionsEntry]) -> Result<()> {
    let wanted = entries.iter().any(|entry| entry.r#type == TYPE);
    let one = solved.reference.clone().map(|reference| (CONFIG.to_owned(), reference));
    let several = solved.by_platform.iter().map(|(name, reference)| (format!("{CONFIG}/{name}"), reference.clone()));
    for (key, reference) in one.into_iter().chain(several).collect::<Vec<_>>() {
        let Some(bytes) = solved.metadata.get(&key) else { continue };
        let has = bytes.windows(FIELD.len()).any(|window| window == FIELD.as_bytes());
        if !wanted && !has {
            continue;
        }
        let fail =
            |e: store::Error| Error::new(Kind::Invalid, format!("the image's configuration cannot be read: {e}"));
        let mut image = Image::parse(bytes).map_err(fail)?;
        image.build_cache = if wanted { Some(said(job, &reference).await?) } else { None };
        solved.metadata.insert(key, image.to_bytes().map_err(fail)?);
    }
    Ok(())
}

async fn said(job: &Job, reference: &crate::job::Reference) -> Result<serde_json::Value> {
    let tree = job.tree(reference).await?;
    job.build.keep().await;
    let ingest = Arc::clone(job.build.ingest());
    let layers = tokio::task::spawn_blocking(move || tree.store(&ingest));
    let layers = layers.await.map_err(|e| Error::io("making layers was interrupted", e))??;
    let mut records = Vec::new();
    for result in job.build.results() {
        let part = |output: &Vec<crate::tree::Stored>| {
            output.len() <= layers.len() && output.iter().zip(&layers).all(|(a, b)| a.diff_id == b.diff_id)
        };
        if result.outputs.iter().flatten().all(part) {
            let outputs = result.outputs.iter().map(|output| output.as_ref().map(Vec::len)).collect();
            records.push(Record { key: result.key, aliases: result.aliases, name: result.name, outputs });
        }
    }
    serde_json::to_value(Inline { records }).map_err(|e| Error::io("cannot encode the build cache", e))
}

/// What an image says of its layers; none where it says nothing.
pub(super) fn read(manifest: &Manifest, image: &[u8]) -> Result<Option<Ours>> {
    let invalid = |why: &str| Error::new(Kind::Invalid, format!("invalid build cache in an image: {why}"));
    let image = Image::parse(image).map_err(|e| invalid(&e.to_string()))?;
    let Some(said) = image.build_cache else { return Ok(None) };
    let said: Inline = serde_json::from_value(said).map_err(|e| invalid(&e.to_string()))?;
    let diff_ids = &image.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        return Err(invalid("configuration and manifest name different layers"));
    }
    let layers = diff_ids.iter().zip(&manifest.layers);
    let layers = layers.map(|(diff_id, blob)| config::Layer {
        diff_id: diff_id.to_string(),
        blob: blob.clone(),
        created_ns: None,
    });
    let records = said.records.into_iter().map(|record| {
        let below = |count: usize| {
            if count <= diff_ids.len() {
                Ok((0..count).collect())
            } else {
                Err(invalid("it names a layer that there is not"))
            }
        };
        let outputs = record.outputs.into_iter().map(|count| count.map(below).transpose());
        Ok(config::Record {
            outputs: outputs.collect::<Result<_>>()?,
            key: record.key,
            aliases: record.aliases,
            name: record.name,
        })
    });
    Ok(Some(Ours::new(layers.collect(), records.collect::<Result<_>>()?, Vec::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_says_is_about_its_layers() {
        let digest = |number: u8| format!("sha256:{}", format!("{number:02x}").repeat(32));
        let layer = |number| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(number), "size": 1 })
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(9), "size": 1 },
            "layers": [layer(1), layer(2)],
        });
        let manifest: Manifest = serde_json::from_value(manifest).unwrap();
        let image = |outputs: serde_json::Value| {
            let image = serde_json::json!({
                "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [digest(3), digest(4)] },
                FIELD: { "records": [{ "key": "k", "name": "RUN x", "outputs": outputs }] },
            });
            read(&manifest, image.to_string().as_bytes())
        };
        let ours = image(serde_json::json!([1, null])).unwrap().unwrap();
        assert_eq!(ours.records[0].outputs, [Some(vec![0]), None]);
        let stored = ours.layer(0).unwrap();
        assert_eq!((stored.diff_id.to_string(), stored.blob.digest.to_string()), (digest(3), digest(1)));
        assert!(image(serde_json::json!([3])).is_err());
        assert!(image(serde_json::json!(["x"])).is_err());
        let plain = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert!(read(&manifest, plain).unwrap().is_none());
    }
}
