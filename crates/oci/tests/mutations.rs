//! Hostile documents: whatever is changed in one that is right, reading and checking end with a verdict of one line.

mod common;

use oci::{Process, Resources, Spec};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Every place of a document.
fn places(value: &Value, at: String, all: &mut Vec<String>) {
    all.push(at.clone());
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                places(field, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), all);
            }
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(n, item)| places(item, format!("{at}/{n}"), all)),
        _ => {}
    }
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::sample::select(vec![-2_i64, -1, 0, 1, 0xffff, 0xffff_ffff, 0x1_0000_0000]).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["", "\0", "/", "..", "/proc/..", "-", ",", "0-8191", "net./x", "\0\u{1F6A2}"])
            .prop_map(str::to_owned)
            .prop_map(Value::from),
        Just(Value::from("\u{1F6A2}".repeat(90))),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null, {}, [], ""])),
        ".{0,6}".prop_map(|key| json!({ key: {} })),
    ]
}

fn verdict(text: &[u8]) {
    let said = match Spec::parse(text) {
        Err(fault) => vec![fault.to_string()],
        Ok(spec) => {
            let _ = (spec.personality(), spec.namespaces(), spec.cgroups_path());
            if let Some(process) = &spec.process {
                let _ = (process.capabilities(), process.unknown_capabilities());
                let _ = process.io_priority.as_ref().map(oci::IoPriority::value);
            }
            spec.validate().unwrap_or_else(|fault| vec![fault.to_string()])
        }
    };
    for line in said {
        assert!(line.starts_with("config.json: ") && !line.chars().any(char::is_control), "{line}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_in_other_places(changes in prop::collection::vec((any::<prop::sample::Index>(), leaf()), 1..4)) {
        let mut document = common::full();
        for (at, value) in changes {
            let mut all = Vec::new();
            places(&document, String::new(), &mut all);
            *document.pointer_mut(at.get::<String>(&all)).unwrap() = value;
        }
        verdict(document.to_string().as_bytes());
        let part = |name: &str| document.get(name).unwrap_or(&Value::Null).clone();
        if let Ok(process) = Process::parse(part("process").to_string().as_bytes()) {
            let _ = process.validate();
        }
        let limits = part("linux").get("resources").unwrap_or(&Value::Null).to_string();
        if let Ok(limits) = Resources::parse(limits.as_bytes()) {
            let _ = limits.validate();
        }
    }

    #[test]
    fn bytes_changed(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: prop::sample::Index) {
        let mut text = common::full().to_string().into_bytes();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        verdict(&text);
        text.truncate(cut.index(text.len()));
        verdict(&text);
        let small = common::small().to_string();
        verdict(&small.as_bytes()[..cut.index(small.len())]);
    }
}
