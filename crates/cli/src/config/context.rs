//! Docker contexts: named engine addresses in `contexts/meta/<sha256 of the name>/meta.json`. Read only; creating
//! them stays with Docker's client.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{Error, Result};

/// The context that stands for "no context".
pub(crate) const DEFAULT: &str = "default";

/// One context.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) host: String,
    pub(crate) meta: Value,
}

/// Reads the context of this name.
pub(crate) fn load(config_dir: &Path, name: &str) -> Result<Context> {
    list(config_dir)?.into_iter().find(|context| context.name == name).ok_or_else(|| {
        Error::new(format!(
            "context {name:?}: context not found: no context of that name in {}",
            config_dir.join("contexts").display()
        ))
        .hint("`dhow context ls` lists those there are.")
    })
}

/// Every context, sorted by name.
pub(crate) fn list(config_dir: &Path) -> Result<Vec<Context>> {
    let dir = config_dir.join("contexts/meta");
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(&dir) else { return Ok(found) };
    for entry in entries.flatten() {
        let path = entry.path().join("meta.json");
        // One unreadable context must not take the others away.
        let Ok(text) = fs::read(&path) else { continue };
        let Ok(meta) = serde_json::from_slice::<Value>(&text) else { continue };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        found.push(Context {
            name: text(&meta["Name"]),
            description: text(&meta["Metadata"]["Description"]),
            host: text(&meta["Endpoints"]["docker"]["Host"]),
            meta,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_found_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("contexts/meta/abc");
        fs::create_dir_all(&place).unwrap();
        let meta = r#"{"Name":"lab","Metadata":{"Description":"d"},"Endpoints":{"docker":{"Host":"tcp://lab:2375","SkipTLSVerify":false}}}"#;
        fs::write(place.join("meta.json"), meta).unwrap();
        fs::create_dir_all(dir.path().join("contexts/meta/broken")).unwrap();
        fs::write(dir.path().join("contexts/meta/broken/meta.json"), "{").unwrap();
        assert_eq!(load(dir.path(), "lab").unwrap().host, "tcp://lab:2375");
        assert!(load(dir.path(), "other").unwrap_err().to_string().contains("context not found"));
        assert_eq!(list(dir.path()).unwrap().len(), 1);
    }
}
