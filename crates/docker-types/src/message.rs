//! Progress messages: one JSON object per line from pull, push, load, import and build.

use crate::go::go_struct;

go_struct! {
    /// One progress message; an error ends the stream.
    pub struct JsonMessage {
        "stream" / "crate::go::omit" stream: String,
        "status" / "crate::go::omit" status: String,
        "progressDetail" / "crate::go::omit" progress_detail: Option<ProgressDetail>,
        "progress" / "crate::go::omit" progress: String,
        "id" / "crate::go::omit" id: String,
        "errorDetail" / "crate::go::omit" error_detail: Option<ErrorDetail>,
        "error" / "crate::go::omit" error: String,
        "aux" / "crate::go::omit" aux: Option<serde_json::Value>,
    }
}

go_struct! {
    /// Bytes done and to do.
    pub struct ProgressDetail {
        "current" / "crate::go::omit" current: i64,
        "total" / "crate::go::omit" total: i64,
        "start" / "crate::go::omit" start: i64,
        "hidecounts" / "crate::go::omit" hide_counts: bool,
        "units" / "crate::go::omit" units: String,
    }
}

go_struct! {
    /// What went wrong.
    pub struct ErrorDetail {
        "code" / "crate::go::omit" code: i64,
        "message" message: String,
    }
}

impl JsonMessage {
    /// A status line of the whole operation.
    pub fn status(text: impl Into<String>) -> JsonMessage {
        JsonMessage { status: text.into(), ..JsonMessage::default() }
    }

    /// A status line of one part, with an empty progress.
    pub fn part(id: impl Into<String>, status: impl Into<String>) -> JsonMessage {
        JsonMessage {
            id: id.into(),
            status: status.into(),
            progress_detail: Some(ProgressDetail::default()),
            ..JsonMessage::default()
        }
    }

    /// A progress of one part, in bytes.
    pub fn progress(id: impl Into<String>, status: impl Into<String>, current: i64, total: i64) -> JsonMessage {
        JsonMessage {
            progress_detail: Some(ProgressDetail { current, total, ..ProgressDetail::default() }),
            ..JsonMessage::part(id, status)
        }
    }

    /// Output of a build step or a line for people.
    pub fn stream(text: impl Into<String>) -> JsonMessage {
        JsonMessage { stream: text.into(), ..JsonMessage::default() }
    }

    /// A result for programs.
    pub fn aux(value: serde_json::Value) -> JsonMessage {
        JsonMessage { aux: Some(value), ..JsonMessage::default() }
    }

    /// The end by an error.
    pub fn error(message: impl Into<String>) -> JsonMessage {
        let message = message.into();
        JsonMessage {
            error: message.clone(),
            error_detail: Some(ErrorDetail { code: 0, message }),
            ..JsonMessage::default()
        }
    }
}
