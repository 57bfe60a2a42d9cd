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
use crate::kept::Usage;
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

/// A result as other builders want it.
pub(crate) struct Shareable {
    pub key: String,
    pub aliases: Vec<String>,
    pub name: String,
    /// Layers of each output, lowest first.
    pub outputs: Vec<Option<Vec<Stored>>>,
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
    /// How many builds that run have it.
    held: HashMap<String, usize>,
    /// Used since the database was told.
    used: HashSet<String>,
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

    /// The trees of a result, if all their layers are there. They are kept from collection as long as `ingest` is, and the
    /// result until whoever has it gives it back by [`Records::release`]; with the key for that.
    pub(super) fn find(&self, key: &str, ingest: &Ingest) -> Option<(String, Vec<Option<Tree>>)> {
        let mut all = self.lock();
        let all = &mut *all;
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
        all.used.insert(key.clone());
        *all.held.entry(key.clone()).or_default() += 1;
        Some((key, outputs))
    }

    /// What there is of a result for other builders.
    pub(crate) fn shared(&self, key: &str) -> Option<Shareable> {
        let all = self.lock();
        let record = all.by_key.get(key)?;
        let output = |output: &Option<Vec<Layer>>| match output {
            Some(layers) => layers.iter().map(Layer::stored).collect::<Option<Vec<_>>>().map(Some),
            None => Some(None),
        };
        Some(Shareable {
            key: key.to_owned(),
            aliases: record.aliases.clone(),
            name: record.name.clone(),
            outputs: record.outputs.iter().map(output).collect::<Option<_>>()?,
        })
    }

    /// A build does not have these any more.
    pub(super) fn release(&self, keys: &[String]) {
        let mut all = self.lock();
        for key in keys {
            if let Some(count) = all.held.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    all.held.remove(key);
                }
            }
        }
    }

    /// Tells the database what was used since the last time.
    pub(crate) async fn settle(&self, host: &dyn Host) {
        let put: Vec<(String, String)> = {
            let mut all = self.lock();
            let used = std::mem::take(&mut all.used);
            used.into_iter()
                .filter_map(|key| {
                    let document = serde_json::to_string(all.by_key.get(&key)?).ok()?;
                    Some((key, document))
                })
                .collect()
        };
        if put.is_empty() {
            return;
        }
        if let Err(error) = host.keep(put, Vec::new()).await {
            tracing::warn!(%error, "when results were used is not kept");
        }
    }

    /// Adds results, here and in the database. The build that made them has them until it releases them.
    pub(super) async fn put(&self, host: &dyn Host, records: Vec<(String, Record)>) -> Result<()> {
        let document =
            |record: &Record| serde_json::to_string(record).map_err(|e| Error::io("cannot encode a result", e));
        let put = records.iter().map(|(key, record)| Ok((key.clone(), document(record)?))).collect::<Result<_>>()?;
        {
            // Before the database has them: the collector asks here what is needed.
            let mut all = self.lock();
            for (key, record) in records {
                *all.held.entry(key.clone()).or_default() += 1;
                all.insert(key, record);
            }
        }
        host.keep(put, Vec::new()).await
    }

    /// Forgets results, here and in the database, but those that a build has. Gives those that are forgotten.
    ///
    /// # Errors
    /// That of the database; they are forgotten here all the same.
    pub async fn forget(&self, host: &dyn Host, mut keys: Vec<String>) -> Result<Vec<String>> {
        {
            let mut all = self.lock();
            keys.retain(|key| !all.held.contains_key(key));
            for key in &keys {
                all.remove(key);
            }
        }
        host.keep(Vec::new(), keys.clone()).await?;
        Ok(keys)
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

    /// All results with what they take up: of each layer once, by the result that is oldest. And the sizes of layers.
    #[must_use]
    pub fn usage(&self, store: &Store, in_images: &HashSet<DiffId>) -> (Vec<Usage>, HashMap<DiffId, u64>) {
        let all = self.lock();
        let mut records: Vec<(&String, &Record)> = all.by_key.iter().collect();
        records.sort_by_key(|(key, record)| (record.created_ns, (*key).clone()));
        let mut sizes = HashMap::new();
        // Results by their layers: what another is made of has its layers but the last ones.
        let mut by_layers: HashMap<Vec<DiffId>, &String> = HashMap::new();
        let mut usage = Vec::with_capacity(records.len());
        for (key, record) in records {
            let layers: Vec<Vec<DiffId>> = record
                .outputs
                .iter()
                .flatten()
                .map(|output| output.iter().filter_map(|layer| layer.diff_id.parse().ok()).collect())
                .collect();
            let mut size = 0;
            for layer in layers.iter().flatten() {
                if !sizes.contains_key(layer) {
                    let bytes = store.layers().size(layer).unwrap_or(0);
                    sizes.insert(*layer, bytes);
                    size += if in_images.contains(layer) && !is_top(&layers, layer) { 0 } else { bytes };
                }
            }
            for output in &layers {
                by_layers.entry(output.clone()).or_insert(key);
            }
            usage.push(Usage {
                id: key.clone(),
                kind: record.kind.clone(),
                description: record.name.clone(),
                parents: Vec::new(),
                size,
                created_ns: record.created_ns,
                used_ns: record.used_ns,
                uses: record.uses,
                shared: !layers.is_empty() && layers.iter().flatten().all(|layer| in_images.contains(layer)),
                in_use: all.held.contains_key(key),
                mutable: false,
                layers,
            });
        }
        for each in &mut usage {
            let below = |output: &Vec<DiffId>| {
                (1..output.len()).rev().find_map(|end| by_layers.get(output.get(..end)?).map(|key| (*key).clone()))
            };
            let mut parents: Vec<String> = each.layers.iter().filter_map(below).collect();
            parents.dedup();
            each.parents = parents;
        }
        (usage, sizes)
    }
}

/// Whether a layer is the last of an output: the one that the step made, as far as that can be seen.
fn is_top(layers: &[Vec<DiffId>], layer: &DiffId) -> bool {
    layers.iter().any(|output| output.last() == Some(layer))
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
