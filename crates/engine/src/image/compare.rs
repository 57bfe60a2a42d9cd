//! `image diff`: what differs between two images in layers, configuration, packages and files.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use docker_types::image::{DiffItem, ImageDiff};
use serde_json::Value;
use sys::path::Root;
use types::DiffId;

use super::content::{Body, Image};
use super::convert;
use super::{Images, parse_layers};
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

impl Images {
    /// Compare two images, each for this host or else whatever platform is here.
    ///
    /// # Errors
    /// Not found; an image whose layers are not here.
    pub(crate) async fn compare(inner: &Arc<Inner>, from: &str, to: &str) -> Result<ImageDiff> {
        let found = |name: &str| -> Result<Arc<Image>> { Ok(inner.images.index().find(name)?.image) };
        let (from, to) = ((from.to_owned(), found(from)?), (to.to_owned(), found(to)?));
        let shared = Arc::clone(inner);
        inner.blocking("compare two images", move || compare(&shared.images, &from, &to)).await
    }
}

fn compare(images: &Images, from: &(String, Arc<Image>), to: &(String, Arc<Image>)) -> Result<ImageDiff> {
    let body = |(name, image): &(String, Arc<Image>)| -> Result<(Vec<DiffId>, Vec<u64>, Value)> {
        let (_, body) = image
            .choose(None)
            .filter(|(_, body)| body.available)
            .ok_or_else(|| fail!(NotFound, "the layers of {name} are not here; pull or load it again"))?;
        Ok((parse_layers(&body.layers())?, body.layer_sizes.clone(), config(body)?))
    };
    let ((old, old_sizes, old_config), (new, new_sizes, new_config)) = (body(from)?, body(to)?);
    let common = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let layer = |change: &str, id: &DiffId, size: u64| {
        let (from, to) =
            if change == "removed" { (size.to_string(), String::new()) } else { (String::new(), size.to_string()) };
        DiffItem { name: id.to_string(), change: change.to_owned(), from, to }
    };
    let mut layers: Vec<DiffItem> =
        old.iter().zip(&old_sizes).skip(common).map(|(id, size)| layer("removed", id, *size)).collect();
    layers.extend(new.iter().zip(&new_sizes).skip(common).map(|(id, size)| layer("added", id, *size)));

    let mount = |layers: &[DiffId]| -> Result<Root> {
        Ok(Root::from_fd(images.store.mount(&images.store.read_only(layers)?)?))
    };
    let (before, after) = (mount(&old)?, mount(&new)?);
    let mut own: Vec<Root> = Vec::new();
    let mut seen = HashSet::new();
    for id in old.iter().skip(common).chain(new.iter().skip(common)) {
        if seen.insert(*id) {
            own.push(images.store.layers().root(id)?);
        }
    }
    let files = if own.is_empty() { Vec::new() } else { store::tree::compare(&before, &after, &own)? };
    let files = files.into_iter().map(|difference| {
        let text = |bytes: Option<u64>| bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
        let name = String::from_utf8_lossy(&difference.path).into_owned();
        item(name, text(difference.from), text(difference.to))
    });
    Ok(ImageDiff {
        from: from.1.id().to_string(),
        to: to.1.id().to_string(),
        shared_layers: common as i64,
        layers,
        config: fields(&old_config, &new_config),
        packages: texts(&store::tree::packages(&before), &store::tree::packages(&after)),
        files: files.collect(),
    })
}

fn item(name: String, from: String, to: String) -> DiffItem {
    let change = match (from.is_empty(), to.is_empty()) {
        (true, false) => "added",
        (false, true) => "removed",
        _ => "modified",
    };
    DiffItem { name, change: change.to_owned(), from, to }
}

/// The configuration as the API shows it.
fn config(body: &Body) -> Result<Value> {
    serde_json::to_value(convert::to_api(&body.config.config))
        .map_err(|e| Error::io("cannot encode an image's configuration", e))
}

/// Fields that differ; of lists and maps each entry for itself.
fn fields(from: &Value, to: &Value) -> Vec<DiffItem> {
    let flat = |value: &Value| -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        for (name, value) in value.as_object().into_iter().flatten() {
            match value {
                Value::Null => {}
                Value::Object(map) => out.extend(map.iter().map(|(key, value)| (format!("{name}.{key}"), text(value)))),
                // Variables are told apart by name; other lists are one value.
                Value::Array(list) if name == "Env" => out.extend(list.iter().filter_map(|entry| {
                    let (key, value) = entry.as_str()?.split_once('=')?;
                    Some((format!("Env.{key}"), value.to_owned()))
                })),
                other => drop(out.insert(name.clone(), text(other))),
            }
        }
        out
    };
    texts(&flat(from), &flat(to))
}

/// Entries of two maps that differ, in order of their names.
fn texts(from: &BTreeMap<String, String>, to: &BTreeMap<String, String>) -> Vec<DiffItem> {
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let differ = names.into_iter().filter(|name| from.get(*name) != to.get(*name));
    differ
        .map(|name| {
            let change = match (from.get(name), to.get(name)) {
                (None, _) => "added",
                (_, None) => "removed",
                _ => "modified",
            };
            let text = |map: &BTreeMap<String, String>| map.get(name).cloned().unwrap_or_default();
            DiffItem { name: name.clone(), change: change.to_owned(), from: text(from), to: text(to) }
        })
        .collect()
}
