//! What earlier builds made, by keys: the layers of each result, when it was made and used. In memory; the engine's database
//! has a copy for the next start.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use store::model::Descriptor;
use store::{Ingest, Store};
use types::{DiffId, Digest};

use super::Outcome;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::tree::{self, Stored, Tree};

/// A result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Layers of each output, lowest first.
    outputs: Vec<Option<Vec<Layer>>>,
    /// Keys that stand for it beside its own.
    #[serde(default)]
    aliases: Vec<String>,
    /// What made it, as it was shown.
    pub name: String,
    /// `regular`, or what BuildKit calls it.
    pub kind: String,
    /// In nanoseconds since 1970.
    pub created_ns: i64,
    /// In nanoseconds since 1970.
    pub used_ns: i64,
    /// How often.
    pub uses: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Layer {
    diff_id: String,
    media_type: String,
    blob: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_ns: Option<i64>,
}

/// What a result takes up.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Its key.
    pub id: String,
    /// It.
    pub record: Record,
    /// Bytes of the layers that no image and no other record has.
    pub size: u64,
    /// Whether others have some of its layers.
    pub shared: bool,
}

/// All results.
#[derive(Debug, Default)]
pub struct Records {
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    by_key: HashMap<String, Record>,
    aliases: HashMap<String, String>,
}

impl Layer {
    fn of(stored: &Stored) -> Self {
        Self {
            diff_id: stored.diff_id.to_string(),
            media_type: stored.blob.media_type.clone(),
            blob: stored.blob.digest.to_string(),
            size: stored.blob.size,
            annotations: stored.blob.annotations.clone(),
            created_ns: stored.created_ns,
        }
    }

    fn stored(&self) -> Option<Stored> {
        let mut blob = Descriptor::new(self.media_type.clone(), self.blob.parse().ok()?, self.size);
        blob.annotations.clone_from(&self.annotations);
        Some(Stored { diff_id: self.diff_id.parse().ok()?, blob, created_ns: self.created_ns })
    }
}

/// A result to be kept. Blocking: its layers are made if they are not yet.
pub(super) fn record(
    keys: &[String],
    outcome: &Outcome,
    name: &str,
    kind: &str,
    ingest: &Ingest,
) -> Result<(String, Record)> {
    let layers = |tree: &Option<Tree>| match tree {
        Some(tree) => Ok(Some(tree.store(ingest)?.iter().map(Layer::of).collect())),
        None => Ok(None),
    };
    let now = tree::now_ns();
    let record = Record {
        outputs: outcome.outputs.iter().map(layers).collect::<Result<_>>()?,
        aliases: keys.iter().filter(|key| **key != outcome.key).cloned().collect(),
        name: name.to_owned(),
        kind: kind.to_owned(),
        created_ns: now,
        used_ns: now,
        uses: 1,
    };
    Ok((outcome.key.clone(), record))
}

impl Records {
    /// What the database has. Those that cannot be read are left out.
    #[must_use]
    pub fn read(documents: &BTreeMap<String, String>) -> Self {
        let mut all = All::default();
        for (key, document) in documents {
            match serde_json::from_str::<Record>(document) {
                Ok(record) => all.insert(key.clone(), record),
                Err(error) => tracing::warn!(key, %error, "a result of an earlier build cannot be read"),
            }
        }
        Self { all: Mutex::new(all) }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a result of a step of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.lock().by_key.values().any(|record| record.name == name)
    }

    /// The key that another one stands for.
    pub(super) fn canonical(&self, alias: &str) -> Option<String> {
        self.lock().aliases.get(alias).cloned()
    }

    /// The trees of a result, if all their layers are there. They are kept from collection as long as `ingest` is.
    pub(super) fn find(&self, key: &str, ingest: &Ingest) -> Option<Vec<Option<Tree>>> {
        let mut all = self.lock();
        let key = all.aliases.get(key).cloned().unwrap_or_else(|| key.to_owned());
        let record = all.by_key.get_mut(&key)?;
        let mut outputs = Vec::with_capacity(record.outputs.len());
        for output in &record.outputs {
            let Some(layers) = output else {
                outputs.push(None);
                continue;
            };
            let stored = layers.iter().map(Layer::stored).collect::<Option<Vec<_>>>()?;
            let here = stored.iter().all(|layer| {
                let layer_here = ingest.has_layer(&layer.diff_id);
                ingest.has_blob(&layer.blob.digest) && layer_here
            });
            if !here {
                return None;
            }
            outputs.push(Some(Tree::stored(stored, None)));
        }
        record.used_ns = tree::now_ns();
        record.uses += 1;
        Some(outputs)
    }

    /// Adds results, here and in the database.
    pub(super) async fn put(&self, host: &dyn Host, records: Vec<(String, Record)>) -> Result<()> {
        let document =
            |record: &Record| serde_json::to_string(record).map_err(|e| Error::io("cannot encode a result", e));
        let put = records.iter().map(|(key, record)| Ok((key.clone(), document(record)?))).collect::<Result<_>>()?;
        {
            // Before the database has them: the collector asks here what is needed.
            let mut all = self.lock();
            for (key, record) in records {
                all.insert(key, record);
            }
        }
        host.keep(put, Vec::new()).await
    }

    /// Forgets results, here and in the database.
    ///
    /// # Errors
    /// That of the database; they are forgotten here all the same.
    pub async fn forget(&self, host: &dyn Host, keys: Vec<String>) -> Result<()> {
        {
            let mut all = self.lock();
            for key in &keys {
                all.remove(key);
            }
        }
        host.keep(Vec::new(), keys).await
    }

    /// Blobs and layers that results need.
    #[must_use]
    pub fn referenced(&self) -> (HashSet<Digest>, HashSet<DiffId>) {
        let all = self.lock();
        let layers = all.by_key.values().flat_map(|record| record.outputs.iter().flatten().flatten());
        let mut blobs = HashSet::new();
        let mut diffs = HashSet::new();
        for stored in layers.filter_map(Layer::stored) {
            blobs.insert(stored.blob.digest);
            diffs.insert(stored.diff_id);
        }
        (blobs, diffs)
    }

    /// All results with what they take up: of each layer once, by the result that is older.
    #[must_use]
    pub fn usage(&self, store: &Store, in_images: &HashSet<DiffId>) -> Vec<Usage> {
        let all = self.lock();
        let mut records: Vec<(&String, &Record)> = all.by_key.iter().collect();
        records.sort_by_key(|(key, record)| (record.created_ns, (*key).clone()));
        let mut counted = in_images.clone();
        let usage = records.into_iter().map(|(key, record)| {
            let mut shared = false;
            let mut size = 0;
            let mut own: Vec<DiffId> =
                record.outputs.iter().flatten().flatten().filter_map(|layer| layer.diff_id.parse().ok()).collect();
            own.dedup();
            for layer in own {
                match counted.insert(layer) {
                    true => size += store.layers().size(&layer).unwrap_or(0),
                    false => shared = true,
                }
            }
            Usage { id: key.clone(), record: record.clone(), size, shared }
        });
        usage.collect()
    }
}

impl All {
    fn insert(&mut self, key: String, record: Record) {
        self.remove(&key);
        for alias in &record.aliases {
            self.aliases.insert(alias.clone(), key.clone());
        }
        self.by_key.insert(key, record);
    }

    fn remove(&mut self, key: &str) {
        if let Some(old) = self.by_key.remove(key) {
            for alias in &old.aliases {
                self.aliases.remove(alias);
            }
        }
    }
}
