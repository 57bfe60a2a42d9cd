//! The `filters` query parameter: `{"status":["running"]}`, or the older `{"status":{"running":true}}`.

use serde::Deserialize;
use std::collections::BTreeMap;
use types::Filters;

/// Longest text read; a filter is a handful of short words.
const MAX_BYTES: usize = 1 << 20;
/// Most values over all keys.
const MAX_VALUES: usize = 10_000;

/// A text that is no filter set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter")]
pub struct FilterError;

/// Reads the parameter; an empty text filters nothing.
///
/// # Errors
/// [`FilterError`] when it is neither form or unreasonably long.
pub fn parse_filters(text: &str) -> Result<Filters, FilterError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Values {
        List(Vec<String>),
        Set(BTreeMap<String, bool>),
    }
    if text.is_empty() {
        return Ok(Filters::new());
    }
    if text.len() > MAX_BYTES {
        return Err(FilterError);
    }
    let map: Option<BTreeMap<String, Values>> = serde_json::from_str(text).map_err(|_| FilterError)?;
    let mut out = Filters::new();
    let mut count = 0;
    for (key, values) in map.unwrap_or_default() {
        let values = match values {
            Values::List(list) => list,
            Values::Set(set) => set.into_iter().filter(|(_, on)| *on).map(|(v, _)| v).collect(),
        };
        count += values.len();
        if count > MAX_VALUES {
            return Err(FilterError);
        }
        for value in values {
            out.add(&key, &value);
        }
    }
    Ok(out)
}

/// Writes the parameter in the form the docker CLI sends; nothing when there is no filter.
pub fn filters_to_json(filters: &Filters) -> Option<String> {
    if filters.is_empty() {
        return None;
    }
    let map: BTreeMap<&str, BTreeMap<&str, bool>> =
        filters.iter().map(|(k, v)| (k, v.iter().map(|v| (v.as_str(), true)).collect())).collect();
    serde_json::to_string(&map).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let list = parse_filters(r#"{"status":["running","exited"],"label":["a=b"]}"#).unwrap();
        let set =
            parse_filters(r#"{"status":{"running":true,"exited":true,"paused":false},"label":{"a=b":true}}"#).unwrap();
        assert_eq!(list, set);
        assert!(list.exact_match("status", "running"));
        assert_eq!(parse_filters(&filters_to_json(&list).unwrap()).unwrap(), list);
        assert!(parse_filters("").unwrap().is_empty() && parse_filters("{}").unwrap().is_empty());
        for bad in ["{", "[]", r#"{"a":1}"#, r#"{"a":"b"}"#, r#"{"a":[1]}"#] {
            assert_eq!(parse_filters(bad), Err(FilterError), "{bad}");
        }
        let many = format!("{{\"a\":[{}\"x\"]}}", "\"y1\",".repeat(20_000));
        assert!(parse_filters(&many).is_err());
    }
}
