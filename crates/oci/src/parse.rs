//! From bytes to a document. Go programs write absent lists and objects as `null`, which is read as absent; unknown
//! fields are passed over, as the specification's "Extensibility" asks. Used by every type of `spec`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::Fault;

/// Name of the document a bundle has.
pub(crate) const CONFIG: &str = "config.json";
/// Name of the document that `exec --process` takes.
pub(crate) const PROCESS: &str = "process";
/// Name of the document that `update --resources` takes.
pub(crate) const RESOURCES: &str = "resources";

/// Largest document read, in bytes.
const MAX_DOCUMENT: usize = 16 * 1024 * 1024;
/// Most characters of the parser's own words that are passed on: it repeats whole strings.
const MAX_REASON: usize = 300;

/// Reads a whole document.
///
/// # Errors
/// The place of the first thing that is not what belongs there.
pub(crate) fn document<T: DeserializeOwned>(document: &'static str, text: &[u8]) -> Result<T, Fault> {
    if text.len() > MAX_DOCUMENT {
        let reason = format!("is larger than {MAX_DOCUMENT} bytes; take out what the container does not need");
        return Err(Fault { document, path: String::new(), reason });
    }
    let first = match serde_json::from_slice(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    // Following the place costs, and so only documents that are wrong pay for it.
    let mut from = serde_json::Deserializer::from_slice(text);
    let (path, error) = match serde_path_to_error::deserialize::<_, T>(&mut from) {
        Ok(_) => (String::new(), first),
        Err(error) => (error.path().to_string(), error.into_inner()),
    };
    // The parser's word for the document itself, and for a place it has not come to.
    let path = path.strip_suffix('?').unwrap_or(&path).trim_end_matches('.').to_owned();
    Err(Fault { document, path, reason: error.to_string().chars().take(MAX_REASON).collect() })
}

/// `null` is absent.
pub(crate) fn nil<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// `null` and the empty text are absent.
pub(crate) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|text| !text.is_empty()))
}
