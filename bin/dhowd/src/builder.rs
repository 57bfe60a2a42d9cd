//! The key `builder` of `daemon.json`: what of the build cache goes by itself, and how long builds are remembered.
//!
//! `{"gc": {"enabled": true, "defaultReservedSpace": "20GB", "policy": [{"maxUsedSpace": "50GB", "filter": ["unused-for=48h"]}]},
//! "history": {"maxAge": "48h", "maxEntries": 50}}`, as Docker has it. Names count whichever way they are cased.

use std::time::Duration;

use engine::{BuilderSettings, CacheLimits, CachePolicy, Collect, HistoryLimits};
use serde_json::{Map, Value};

/// Builds that may be remembered: all of them are in memory.
const ENTRIES_MAX: usize = 10_000;

type Object = Map<String, Value>;

/// Reads the value.
///
/// # Errors
/// What is not known or makes no sense, by its name.
pub fn read(text: &str) -> Result<BuilderSettings, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("builder: invalid JSON: {e}"))?;
    let mut settings = BuilderSettings::default();
    for (key, value) in object("builder", &value)? {
        match key.to_ascii_lowercase().as_str() {
            "gc" => settings.collect = collect(value)?,
            "history" => settings.history = history(value)?,
            "entitlements" if value.as_object().is_some_and(Map::is_empty) => {}
            "entitlements" => {
                return Err("builder.entitlements is not supported: who builds allows with --allow".to_owned());
            }
            _ => return Err(unknown("builder", key, "gc, history")),
        }
    }
    Ok(settings)
}

fn collect(value: &Value) -> Result<Collect, String> {
    let (mut enabled, mut limits, mut policies) = (true, CacheLimits::default(), Vec::new());
    for (key, value) in object("builder.gc", value)? {
        let name = format!("builder.gc.{key}");
        match key.to_ascii_lowercase().as_str() {
            "enabled" => enabled = boolean(&name, value)?,
            "defaultreservedspace" => limits.reserved = bytes(&name, value)?,
            "defaultkeepstorage" if limits.reserved == 0 => limits.reserved = bytes(&name, value)?,
            "defaultkeepstorage" => drop(bytes(&name, value)?),
            "defaultmaxusedspace" => limits.max_used = bytes(&name, value)?,
            "defaultminfreespace" => limits.min_free = bytes(&name, value)?,
            "policy" => {
                let list = value.as_array().ok_or_else(|| format!("{name}: {value} is not a list"))?;
                let rules = list.iter().enumerate().map(|(index, rule)| policy(&format!("{name}[{index}]"), rule));
                policies = rules.collect::<Result<_, _>>()?;
            }
            _ => {
                let known = "enabled, defaultReservedSpace, defaultMaxUsedSpace, defaultMinFreeSpace, policy";
                return Err(unknown("builder.gc", key, known));
            }
        }
    }
    Ok(match (enabled, policies.is_empty()) {
        (false, _) => Collect::Off,
        (true, true) => Collect::Usual(limits),
        (true, false) => Collect::By(policies),
    })
}

fn policy(name: &str, value: &Value) -> Result<CachePolicy, String> {
    let (mut all, mut limits, mut filters) = (false, CacheLimits::default(), Vec::new());
    for (key, value) in object(name, value)? {
        let name = format!("{name}.{key}");
        match key.to_ascii_lowercase().as_str() {
            "all" => all = boolean(&name, value)?,
            "reservedspace" => limits.reserved = bytes(&name, value)?,
            "keepstorage" if limits.reserved == 0 => limits.reserved = bytes(&name, value)?,
            "keepstorage" => drop(bytes(&name, value)?),
            "maxusedspace" => limits.max_used = bytes(&name, value)?,
            "minfreespace" => limits.min_free = bytes(&name, value)?,
            "filter" => filters = filter(&name, value)?,
            _ => return Err(unknown(&name, key, "all, reservedSpace, maxUsedSpace, minFreeSpace, filter")),
        }
    }
    let pairs = filters.iter().map(|(key, values)| (key.as_str(), values.iter().map(String::as_str).collect()));
    let policy = CachePolicy::of_docker(pairs).map_err(|e| format!("{name}: {e}"))?;
    Ok(CachePolicy { all, limits, ..policy })
}

/// `["key=value"]`, or `{"key": {"value": true}}`.
fn filter(name: &str, value: &Value) -> Result<Vec<(String, Vec<String>)>, String> {
    let bad = || format!("{name}: {value} is not a list of texts such as \"unused-for=48h\"");
    match value {
        Value::Array(list) => list
            .iter()
            .map(|entry| {
                let (key, value) = entry.as_str().ok_or_else(bad)?.split_once('=').ok_or_else(bad)?;
                Ok((key.trim().to_owned(), vec![value.trim().to_owned()]))
            })
            .collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, values)| Ok((key.clone(), values.as_object().ok_or_else(bad)?.keys().cloned().collect())))
            .collect(),
        _ => Err(bad()),
    }
}

fn history(value: &Value) -> Result<HistoryLimits, String> {
    let mut limits = HistoryLimits::default();
    for (key, value) in object("builder.history", value)? {
        let name = format!("builder.history.{key}");
        match key.to_ascii_lowercase().as_str() {
            "maxage" => {
                // A number is seconds.
                let age = match value {
                    Value::String(text) => crate::registry::parse_duration(text).ok(),
                    value => value.as_u64().map(Duration::from_secs),
                };
                limits.age = age.ok_or_else(|| format!("{name}: {value} is not a time such as \"48h\""))?;
            }
            "maxentries" => {
                let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
                let number = number.filter(|number| *number <= ENTRIES_MAX);
                limits.entries =
                    number.ok_or_else(|| format!("{name}: {value} is not a number up to {ENTRIES_MAX}"))?;
            }
            _ => return Err(unknown("builder.history", key, "maxAge, maxEntries")),
        }
    }
    Ok(limits)
}

fn object<'a>(name: &str, value: &'a Value) -> Result<&'a Object, String> {
    value.as_object().ok_or_else(|| format!("{name}: {value} is not an object"))
}

fn unknown(name: &str, key: &str, known: &str) -> String {
    format!("{name}.{key} is not known: there are {known}")
}

fn boolean(name: &str, value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{name}: {value} is not true or false"))
}

/// A size such as "20GB".
fn bytes(name: &str, value: &Value) -> Result<u64, String> {
    let bad = || format!("{name}: {value} is not a size such as \"20GB\"");
    match value.as_str().ok_or_else(bad)? {
        "" => Ok(0),
        text => types::ram_in_bytes(text).map_err(|_| bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collection_as_docker_has_it() {
        let settings = read(
            r#"{"gc": {"Enabled": true, "defaultKeepStorage": "20GB", "policy": [
                {"keepStorage": "1GB", "filter": ["unused-for=2h", "type=regular"]},
                {"all": true, "maxUsedSpace": "3GB", "minFreeSpace": "4GB", "filter": {"shared": {"true": true}}}]}}"#,
        )
        .unwrap();
        let Collect::By(policies) = settings.collect else { panic!("{settings:?}") };
        assert_eq!((policies[0].limits.reserved, policies[0].keep_ns), (1 << 30, 7_200_000_000_000));
        assert_eq!(policies[0].filters, ["type==regular"]);
        assert!(policies[1].all && policies[1].filters == ["shared==true"]);
        assert_eq!((policies[1].limits.max_used, policies[1].limits.min_free), (3 << 30, 4 << 30));
        assert_eq!(read(r#"{"gc": {"enabled": false}}"#).unwrap().collect, Collect::Off);
        let limits = CacheLimits { reserved: 1 << 30, max_used: 2 << 30, min_free: 0 };
        let text = r#"{"gc": {"defaultReservedSpace": "1g", "defaultMaxUsedSpace": "2GB"}}"#;
        assert_eq!(read(text).unwrap().collect, Collect::Usual(limits));
        let history = |text: &str| read(text).unwrap().history;
        let limits = |age, entries| HistoryLimits { age: Duration::from_secs(age), entries };
        assert_eq!(history(r#"{"history": {"maxAge": "1h", "maxEntries": 3}}"#), limits(3600, 3));
        assert_eq!(history(r#"{"history": {"maxAge": 60}}"#), limits(60, 50));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, words) in [
            ("[]", "builder: [] is not an object"),
            (r#"{"gcc": {}}"#, "builder.gcc is not known"),
            (r#"{"gc": {"enabled": "yes"}}"#, "builder.gc.enabled"),
            (r#"{"gc": {"defaultReservedSpace": "much"}}"#, "builder.gc.defaultReservedSpace: \"much\" is not a size"),
            (r#"{"gc": {"policy": [{"size": 1}]}}"#, "builder.gc.policy[0].size"),
            (r#"{"gc": {"policy": [{"filter": ["x=y"]}]}}"#, "builder.gc.policy[0]: invalid filter 'x'"),
            (r#"{"gc": {"policy": [{"filter": ["x"]}]}}"#, "is not a list of texts"),
            (r#"{"history": {"maxAge": "long"}}"#, "builder.history.maxAge: \"long\" is not a time"),
            (r#"{"history": {"maxEntries": -1}}"#, "builder.history.maxEntries: -1"),
            (r#"{"entitlements": {"network-host": true}}"#, "builder.entitlements is not supported"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
