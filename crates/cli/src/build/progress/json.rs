//! The story as JSON, a line for each message, in the form in which BuildKit's own client has it.

use base64::{Engine, engine::general_purpose::STANDARD};
use buildkit::wire::control::StatusResponse;
use buildkit::wire::llb;
use prost_types::Timestamp;
use serde_json::{Map, Value, json};

/// One message.
pub(super) fn line(told: &StatusResponse) -> String {
    let mut all = Map::new();
    let mut list = |key: &str, items: Vec<Value>| {
        if !items.is_empty() {
            all.insert(key.to_owned(), Value::from(items));
        }
    };
    list(
        "vertexes",
        told.vertexes
            .iter()
            .map(|vertex| {
                object([
                    ("digest", json!(vertex.digest)),
                    ("inputs", if vertex.inputs.is_empty() { Value::Null } else { json!(vertex.inputs) }),
                    ("name", json!(vertex.name)),
                    ("started", time(vertex.started.as_ref())),
                    ("completed", time(vertex.completed.as_ref())),
                    ("cached", if vertex.cached { json!(true) } else { Value::Null }),
                    ("error", if vertex.error.is_empty() { Value::Null } else { json!(vertex.error) }),
                    (
                        "progressGroup",
                        vertex.progress_group.as_ref().map_or(
                            Value::Null,
                            |group| json!({ "id": group.id, "name": group.name, "weak": group.weak }),
                        ),
                    ),
                ])
            })
            .collect(),
    );
    list(
        "statuses",
        told.statuses
            .iter()
            .map(|status| {
                object([
                    ("id", json!(status.id)),
                    ("vertex", json!(status.vertex)),
                    ("name", if status.name.is_empty() { Value::Null } else { json!(status.name) }),
                    ("total", if status.total == 0 { Value::Null } else { json!(status.total) }),
                    ("current", json!(status.current)),
                    ("timestamp", time(status.timestamp.as_ref())),
                    ("started", time(status.started.as_ref())),
                    ("completed", time(status.completed.as_ref())),
                ])
            })
            .collect(),
    );
    list(
        "logs",
        told.logs
            .iter()
            .map(|log| {
                object([
                    ("vertex", json!(log.vertex)),
                    ("stream", json!(log.stream)),
                    ("data", json!(STANDARD.encode(&log.msg))),
                    ("timestamp", time(log.timestamp.as_ref())),
                ])
            })
            .collect(),
    );
    list(
        "warnings",
        told.warnings
            .iter()
            .map(|warning| {
                object([
            ("vertex", json!(warning.vertex)),
            ("level", json!(warning.level)),
            ("short", json!(STANDARD.encode(&warning.short))),
            ("detail", json!(warning.detail.iter().map(|line| STANDARD.encode(line)).collect::<Vec<_>>())),
            ("url", if warning.url.is_empty() { Value::Null } else { json!(warning.url) }),
            ("sourceInfo", warning.info.as_ref().map_or(Value::Null, |info| {
                json!({ "filename": info.filename, "data": STANDARD.encode(&info.data), "language": info.language })
            })),
            ("range", Value::from(warning.ranges.iter().map(range).collect::<Vec<_>>())),
        ])
            })
            .collect(),
    );
    format!("{}\n", Value::from(all))
}

/// Without what there is nothing to say of.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::from(
        fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

fn range(range: &llb::Range) -> Value {
    let position = |position: &Option<llb::Position>| {
        let position = position.clone().unwrap_or_default();
        json!({ "line": position.line, "character": position.character })
    };
    json!({ "start": position(&range.start), "end": position(&range.end) })
}

fn time(timestamp: Option<&Timestamp>) -> Value {
    let found = timestamp.and_then(|timestamp| jiff::Timestamp::new(timestamp.seconds, timestamp.nanos).ok());
    found.map_or(Value::Null, |found| json!(found.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::{log, vertex};

    #[test]
    fn messages_are_lines() {
        let line = super::line(&vertex("sha256:a", "FROM \"x\"", (Some(0), None)));
        assert_eq!(
            line,
            "{\"vertexes\":[{\"digest\":\"sha256:a\",\"name\":\"FROM \\\"x\\\"\",\"started\":\"1970-01-01T00:00:00Z\"}]}\n"
        );
        let line = super::line(&log("a", 1, "hi\n"));
        assert_eq!(
            line,
            "{\"logs\":[{\"vertex\":\"a\",\"stream\":1,\"data\":\"aGkK\",\"timestamp\":\"1970-01-01T00:00:01.5Z\"}]}\n"
        );
    }
}
