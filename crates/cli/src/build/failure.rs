//! Why a build failed: the step with its last words, the lines of the Dockerfile, the reason.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use buildkit::wire::status;
use prost::Message;
use serde_json::Value;
use tonic::{Code, Status};

use super::progress::{Story, printable};
use crate::Error;

/// Lines of the Dockerfile that are shown around those that failed.
const AROUND: usize = 4;
/// Most lines that are shown of it.
const MAX_LINES: usize = 60;

/// What the daemon said beside the message.
#[derive(Debug, Default)]
pub(super) struct Details {
    /// Digest of the step.
    pub(super) vertex: Option<String>,
    /// Excerpts of sources.
    sources: Vec<Value>,
}

impl Details {
    pub(super) fn of(status: &Status) -> Self {
        let mut details = Self::default();
        let Ok(whole) = status::Status::decode(status.details()) else { return details };
        for detail in whole.details {
            let Ok(value) = serde_json::from_slice::<Value>(&detail.value) else { continue };
            match detail.type_url.rsplit("errdefs.").next() {
                Some("Vertex+json") => details.vertex = value["digest"].as_str().map(str::to_owned),
                Some("Source+json") => details.sources.push(value),
                _ => {}
            }
        }
        details
    }

    /// The excerpts as text.
    fn excerpts(&self) -> String {
        let mut text = String::new();
        for source in &self.sources {
            let file = source["info"]["filename"].as_str().unwrap_or("Dockerfile");
            let data = source["info"]["data"].as_str().and_then(|data| STANDARD.decode(data).ok()).unwrap_or_default();
            let line = |place: &Value| place["line"].as_u64().and_then(|line| usize::try_from(line).ok()).unwrap_or(0);
            let ranges = source["ranges"].as_array().map(Vec::as_slice).unwrap_or_default();
            let ranges: Vec<(usize, usize)> =
                ranges.iter().map(|range| (line(&range["start"]), line(&range["end"]))).collect();
            excerpt(&mut text, file, &String::from_utf8_lossy(&data), &ranges);
        }
        text
    }
}

fn excerpt(text: &mut String, file: &str, data: &str, ranges: &[(usize, usize)]) {
    let (Some(first), Some(last)) =
        (ranges.iter().map(|range| range.0).min(), ranges.iter().map(|range| range.1).max())
    else {
        return;
    };
    let last = last.max(first);
    let (from, to) = (first.saturating_sub(AROUND).max(1), last.saturating_add(AROUND));
    let _ = writeln!(text, "{}:{first}\n--------------------", printable(file));
    for (line, content) in (1..).zip(data.lines()).skip(from - 1).take((to - from + 1).min(MAX_LINES)) {
        let within = ranges.iter().any(|(start, end)| (*start..=(*end).max(*start)).contains(&line));
        let mark = if within { ">>>" } else { "   " };
        let _ = writeln!(text, "{line:>4} | {mark} {}", printable(content));
    }
    text.push_str("--------------------\n");
}

/// The error of a build that failed. `story` has what its steps printed.
pub(super) fn error(status: &Status, story: &Story) -> Error {
    if status.code() == Code::Unavailable && std::error::Error::source(status).is_some() {
        return Error::new("the daemon ended the build: its connection closed");
    }
    let details = Details::of(status);
    let mut text = String::new();
    if let Some((name, lines)) = story.failed(details.vertex.as_deref()).filter(|(name, _)| !name.is_empty()) {
        let _ = writeln!(text, "------\n > {}:", printable(name));
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
        text.push_str("------\n");
    }
    text.push_str(&details.excerpts());
    let message = printable(&status.message().replace('\n', "\u{2028}")).replace('\u{2028}', "\n");
    let _ = write!(text, "ERROR: failed to build: failed to solve: {message}");
    Error::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_marked() {
        let source = serde_json::json!({
            "info": { "filename": "Dockerfile", "data": STANDARD.encode("FROM x\nRUN a \\\n  && b\nRUN c\n") },
            "ranges": [{ "start": { "line": 2 }, "end": { "line": 3 } }],
        });
        let any = |name: &str, value: &Value| prost_types::Any {
            type_url: format!("github.com/moby/buildkit/errdefs.{name}+json"),
            value: value.to_string().into_bytes(),
        };
        let details = vec![any("Vertex", &serde_json::json!({ "digest": "sha256:a" })), any("Source", &source)];
        let whole = status::Status { code: 2, message: "it failed".to_owned(), details };
        let status = Status::with_details(Code::Unknown, "it failed", whole.encode_to_vec().into());
        let text = error(&status, &Story::default()).to_string();
        let wanted = "Dockerfile:2\n--------------------\n   1 |     FROM x\n   2 | >>> RUN a \\\n   3 | >>>   && b\n   4 |     RUN c\n\
                      --------------------\nERROR: failed to build: failed to solve: it failed";
        assert_eq!(text, wanted);
        assert_eq!(Details::of(&status).vertex.as_deref(), Some("sha256:a"));
        assert!(error(&Status::unknown("plain"), &Story::default()).to_string().ends_with("failed to solve: plain"));
    }
}
