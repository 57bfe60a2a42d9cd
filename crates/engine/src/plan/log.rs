//! The container's log file: where, how large, and what each line carries besides the text.
//! Called by the plan and by whoever reads the log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use launch::LogConfig;

use super::path_text;
use crate::container::record::Record;
use crate::error::{Result, fail};

/// Where the json-file log of `record` is, or none without one.
pub(crate) fn log_path(record: &Record, dir: &Path) -> Option<PathBuf> {
    (record.host_config.log_config.kind == "json-file").then(|| dir.join(format!("{}-json.log", record.id)))
}

/// What the shim is told.
pub(super) fn log_config(record: &Record, dir: &Path) -> Result<LogConfig> {
    let Some(path) = log_path(record, dir) else { return Ok(LogConfig::None) };
    let empty = BTreeMap::new();
    let options = record.host_config.log_config.config.as_ref().unwrap_or(&empty);
    let max_size = match options.get("max-size").map(String::as_str) {
        None | Some("-1") => 0,
        Some(text) => types::ram_in_bytes(text).map_err(|e| fail!(Invalid, "invalid max-size {text:?}: {e}"))?,
    };
    let max_files = options.get("max-file").and_then(|n| n.parse().ok()).unwrap_or(1).max(1);
    Ok(LogConfig::JsonFile {
        path: path_text(path.as_path())?,
        max_size,
        max_files,
        attrs_json: attributes(record, options),
    })
}

/// The labels and variables that `labels` and `env` name, as a JSON object, or nothing.
fn attributes(record: &Record, options: &BTreeMap<String, String>) -> String {
    let names = |key: &str| {
        options.get(key).map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default()
    };
    let mut map = BTreeMap::new();
    for name in names("labels") {
        if let Some(value) = record.label(&name) {
            map.insert(name, value.to_owned());
        }
    }
    for name in names("env") {
        let found = record.config.env.iter().flatten().find_map(|e| e.strip_prefix(&name)?.strip_prefix('='));
        if let Some(value) = found {
            map.insert(name, value.to_owned());
        }
    }
    if map.is_empty() { String::new() } else { serde_json::to_string(&map).unwrap_or_default() }
}
