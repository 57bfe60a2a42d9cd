//! Messages of `GET /events`.

use crate::StringMap;
use crate::go::go_struct;
use crate::version::{ApiVersion, Versioned};
use serde_json::Value;

go_struct! {
    /// One event.
    pub struct EventMessage {
        /// `container`, `image`, `volume`, `network`, `daemon`, …
        "Type" kind: String,
        "Action" action: String,
        "Actor" actor: EventActor,
        "scope" / "crate::go::omit" scope: String,
        /// Seconds since the epoch.
        "time" / "crate::go::omit" time: i64,
        /// Nanoseconds since the epoch.
        "timeNano" / "crate::go::omit" time_nano: i64,
    }
}

go_struct! {
    /// What an event happened to.
    pub struct EventActor {
        "ID" id: String,
        "Attributes" attributes: Option<StringMap>,
    }
}

impl Versioned for EventMessage {
    const SINCE_MINOR: u16 = 52;

    /// Before 1.52 events of containers and images repeat themselves in `status`, `id`, `from`.
    fn adapt(value: &mut Value, _version: ApiVersion) {
        let kind = value["Type"].as_str().unwrap_or_default().to_owned();
        if kind != "container" && kind != "image" {
            return;
        }
        let from = value["Actor"]["Attributes"]["image"].clone();
        let (status, id) = (value["Action"].clone(), value["Actor"]["ID"].clone());
        value["status"] = status;
        value["id"] = id;
        if kind == "container" && from.is_string() {
            value["from"] = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = r#"{"status":"exec_die","id":"45612e","from":"busybox","Type":"container","Action":"exec_die","Actor":{"ID":"45612e","Attributes":{"execID":"4b6b","exitCode":"0","image":"busybox","k":"v","name":"life"}},"scope":"local","time":1795363337,"timeNano":1795363337759400894}"#;

    #[test]
    fn both_versions() {
        let event: EventMessage = serde_json::from_str(RECORDED).unwrap();
        let mut recorded: Value = serde_json::from_str(RECORDED).unwrap();
        let old: Value = serde_json::from_slice(&event.at_version(ApiVersion::new(1, 51)).unwrap()).unwrap();
        assert_eq!(old, recorded);
        for key in ["status", "id", "from"] {
            recorded.as_object_mut().unwrap().remove(key);
        }
        let new: Value = serde_json::from_slice(&event.at_version(ApiVersion::CURRENT).unwrap()).unwrap();
        assert_eq!(new, recorded);
    }
}
