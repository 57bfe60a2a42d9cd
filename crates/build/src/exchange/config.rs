//! The document of a cache: BuildKit's `cacheconfig`, with ours in a field that it passes over.

use serde::{Deserialize, Serialize};
use store::model::Descriptor;
use types::{DiffId, Digest, Kind};

use crate::error::{Error, Result};
use crate::tree::Stored;

/// The type of the document.
pub(super) const MEDIA_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Largest document, in bytes.
pub(super) const MAX: u64 = 64 << 20;
/// Most layers, results and caches of one document, and most layers of one result.
const LIMITS: (usize, usize) = (100_000, 1000);
/// The version of what is ours.
const VERSION: u32 = 1;

/// What is ours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ours {
    version: u32,
    pub layers: Vec<Layer>,
    pub records: Vec<Record>,
    #[serde(default)]
    pub caches: Vec<Cache>,
}

/// A layer, and the blob that has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Layer {
    pub diff_id: String,
    pub blob: Descriptor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ns: Option<i64>,
}

/// A result: its outputs have layers by their numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub key: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    pub name: String,
    pub outputs: Vec<Option<Vec<usize>>>,
}

/// What is in the directory of a cache mount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cache {
    pub id: String,
    pub layer: usize,
}

impl Ours {
    pub(super) fn new(layers: Vec<Layer>, records: Vec<Record>, caches: Vec<Cache>) -> Self {
        Self { version: VERSION, layers, records, caches }
    }

    /// Layers of an output.
    pub(super) fn stored(&self, numbers: &[usize]) -> Result<Vec<Stored>> {
        numbers.iter().map(|number| self.layer(*number)).collect()
    }

    pub(super) fn layer(&self, number: usize) -> Result<Stored> {
        let layer = self.layers.get(number).ok_or_else(|| damaged("it names a layer that there is not"))?;
        let diff_id: DiffId = layer.diff_id.parse().map_err(|_| damaged("a layer has no digest"))?;
        Ok(Stored { diff_id, blob: layer.blob.clone(), created_ns: layer.created_ns })
    }
}

fn damaged(why: &str) -> Error {
    Error::new(Kind::Invalid, format!("invalid build cache: {why}"))
}

/// The document for what is ours.
pub(super) fn write(ours: &Ours) -> Result<Vec<u8>> {
    // BuildKit's layers are a forest: each is on top of another one.
    let mut layers: Vec<(Digest, Option<usize>)> = Vec::new();
    let mut records = Vec::new();
    for record in &ours.records {
        for output in record.outputs.iter().flatten() {
            let mut below = None;
            for stored in ours.stored(output)? {
                let layer = (stored.blob.digest, below);
                let place = layers.iter().position(|known| *known == layer);
                below = Some(place.unwrap_or_else(|| {
                    layers.push(layer);
                    layers.len() - 1
                }));
            }
            let results: Vec<_> = below.map(|layer| serde_json::json!({ "layer": layer })).into_iter().collect();
            records.push(serde_json::json!({ "digest": format!("sha256:{}", record.key), "layers": results }));
        }
    }
    let blob = |digest: &Digest| ours.layers.iter().find(|layer| layer.blob.digest == *digest);
    let layers = layers.iter().map(|(digest, below)| {
        let annotations = blob(digest).map(|layer| {
            serde_json::json!({ "mediaType": layer.blob.media_type, "diffID": layer.diff_id, "size": layer.blob.size })
        });
        let below = below.map_or(-1, |below| i64::try_from(below).unwrap_or(-1));
        serde_json::json!({ "blob": digest.to_string(), "parent": below, "annotations": annotations })
    });
    let whole = serde_json::json!({ "layers": layers.collect::<Vec<_>>(), "records": records, "dhow": ours });
    serde_json::to_vec(&whole).map_err(|e| Error::io("cannot encode the build cache", e))
}

/// What is ours in a document; none in one of another builder.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Ours>> {
    #[derive(Deserialize)]
    struct Whole {
        dhow: Option<Ours>,
    }
    let whole: Whole = serde_json::from_slice(bytes).map_err(|e| damaged(&e.to_string()))?;
    let Some(ours) = whole.dhow else { return Ok(None) };
    if ours.version != VERSION {
        return Err(damaged(&format!("it has version {}, and {VERSION} is known here", ours.version)));
    }
    let many = ours.layers.len().max(ours.records.len()).max(ours.caches.len()) > LIMITS.0;
    let deep = ours.records.iter().any(|record| {
        let outputs = record.outputs.iter().flatten();
        record.outputs.len() > LIMITS.1
            || record.aliases.len() > LIMITS.1
            || outputs.clone().any(|o| o.len() > LIMITS.1)
    });
    if many || deep {
        return Err(damaged("there is too much in it"));
    }
    for output in ours.records.iter().flat_map(|record| record.outputs.iter().flatten()) {
        ours.stored(output)?;
    }
    for cache in &ours.caches {
        ours.layer(cache.layer)?;
    }
    Ok(Some(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(number: u8) -> Layer {
        let digest = format!("sha256:{}", format!("{number:02x}").repeat(32));
        let blob = Descriptor::new("application/vnd.oci.image.layer.v1.tar", digest.parse().unwrap(), 7);
        Layer { diff_id: digest, blob, created_ns: None }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_not() {
        let record = |key: &str, output: &[usize]| Record {
            key: key.repeat(32),
            aliases: vec!["alias".into()],
            name: "RUN x".into(),
            outputs: vec![Some(output.to_vec()), None],
        };
        let records = vec![record("aa", &[0, 1]), record("bb", &[0, 1, 2]), record("cc", &[2])];
        let caches = vec![Cache { id: "npm".into(), layer: 2 }];
        let ours = Ours::new(vec![layer(1), layer(2), layer(3)], records, caches);
        let bytes = write(&ours).unwrap();
        assert_eq!(read(&bytes).unwrap().unwrap(), ours);
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        // The third layer is there twice: on the second, and on nothing.
        let parents: Vec<i64> =
            json["layers"].as_array().unwrap().iter().map(|layer| layer["parent"].as_i64().unwrap()).collect();
        assert_eq!(parents, [-1, 0, 1, -1]);
        assert_eq!(json["records"][1]["layers"][0]["layer"], 2);
        assert_eq!(read(br#"{"layers":[],"records":[]}"#).unwrap(), None);
        for (from, to) in [("[0,1,2]", "[0,1,9]"), ("\"version\":1", "\"version\":2"), ("\"layer\":2,", "\"layer\":7,")]
        {
            let text = String::from_utf8(bytes.clone()).unwrap();
            if text.contains(from) {
                assert!(read(text.replace(from, to).as_bytes()).is_err() || from.starts_with("\"layer\""), "{from}");
            }
        }
        assert!(read(b"{").is_err());
    }
}
