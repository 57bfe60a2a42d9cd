//! runc beside ours, for documents and exit codes that callers read. Tests that need it say in one sentence when it is
//! not there.

use std::path::{Path, PathBuf};

use oci_tests::Runtime;
use serde_json::Value;

/// The runc of this host, or None with a word. `DHOW_TEST_RUNC` names another.
pub(crate) fn runc() -> Option<Runtime> {
    let given = std::env::var_os("DHOW_TEST_RUNC").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = given.or_else(|| std::env::split_paths(&path).map(|dir| dir.join("runc")).find(|path| path.is_file()));
    match found.as_deref() {
        Some(path) if Path::is_file(path) => Some(Runtime::with_program(path)),
        _ => {
            eprintln!("left out: there is no runc on PATH to compare with");
            None
        }
    }
}

/// Every key of the document as a path, such as `linux.seccomp.actions`; lists count once.
pub(crate) fn keys(document: &Value) -> Vec<String> {
    fn walk(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                    found.push(path.clone());
                    walk(value, &path, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, at, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(document, "", &mut found);
    found.sort();
    found.dedup();
    found
}
