//! The container's log file: where, how large, and what each line carries besides the text.
//! Called by the plan and by whoever reads the log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use launch::LogConfig;

use super::path_text;
use crate::container::record::Record;
use crate::error::{Result, fail};

/// Size of a log file that names no `max-size`. Docker has no limit, and logs fill disks; `max-size=-1` asks for that.
const DEFAULT_MAX_SIZE: u64 = 512 << 20;

/// Files kept where neither option is given: at most 1 GiB a container.
const DEFAULT_MAX_FILES: u32 = 2;

/// Where the json-file log of `record` is, or none without one.
pub(crate) fn log_path(record: &Record, dir: &Path) -> Option<PathBuf> {
    (record.host_config.log_config.kind == "json-file").then(|| dir.join(format!("{}-json.log", record.id)))
}

/// What the shim is told.
pub(super) fn log_config(record: &Record, dir: &Path) -> Result<LogConfig> {
    let Some(path) = log_path(record, dir) else { return Ok(LogConfig::None) };
    let empty = BTreeMap::new();
    let options = record.host_config.log_config.config.as_ref().unwrap_or(&empty);
    let (max_size, files) = match options.get("max-size").map(String::as_str) {
        None => (DEFAULT_MAX_SIZE, DEFAULT_MAX_FILES),
        Some("-1") => (0, 1),
        Some(text) => (types::ram_in_bytes(text).map_err(|e| fail!(Invalid, "invalid max-size {text:?}: {e}"))?, 1),
    };
    let max_files = options.get("max-file").and_then(|n| n.parse().ok()).unwrap_or(files).max(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(options: &[(&str, &str)]) -> (u64, u32) {
        let mut record = Record { id: "0".repeat(64), ..Record::default() };
        record.host_config.log_config.kind = "json-file".into();
        record.host_config.log_config.config =
            Some(options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        match log_config(&record, Path::new("/c")).unwrap() {
            LogConfig::JsonFile { max_size, max_files, .. } => (max_size, max_files),
            LogConfig::None => panic!("a json-file log was asked for"),
        }
    }

    #[test]
    fn logs_are_capped_unless_told_otherwise() {
        assert_eq!(limits(&[]), (DEFAULT_MAX_SIZE, DEFAULT_MAX_FILES));
        assert_eq!(limits(&[("max-file", "5")]), (DEFAULT_MAX_SIZE, 5));
        assert_eq!(limits(&[("max-size", "10m")]), (10 << 20, 1));
        assert_eq!(limits(&[("max-size", "-1")]), (0, 1));
    }
}
