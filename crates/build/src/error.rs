//! Why a build failed: the text in BuildKit's words, the step, and the lines of the Dockerfile it came from.
//!
//! Clients of BuildKit show the lines from details of the gRPC status, so they travel with the error from where they are
//! known. Copies are cheap: every step that waits for a failed one fails with it.

use std::sync::Arc;

use buildkit::wire::{errdefs, llb, status};
use prost::Message;
use tonic::{Code, Status};
use types::Kind;

/// Shorthand of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed build, or a request that makes no sense.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: Arc<str>,
    vertex: Option<Arc<str>>,
    lines: Option<Arc<errdefs::Source>>,
}

impl Error {
    /// An error with its text.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into().into(), vertex: None, lines: None }
    }

    /// What failed of the file system.
    #[must_use]
    pub fn io(doing: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::new(Kind::Internal, format!("{doing}: {error}"))
    }

    /// The build was given up, by its client or because the client has left.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "context canceled")
    }

    /// The class of the failure.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether nobody wanted it any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.kind == Kind::Cancelled
    }

    /// Says what was being done before the text, as `doing: text`.
    #[must_use]
    pub fn context(mut self, doing: impl std::fmt::Display) -> Self {
        if !self.is_cancelled() {
            self.message = format!("{doing}: {}", self.message).into();
        }
        self
    }

    /// Names the step, unless an inner one is named.
    #[must_use]
    pub fn of_vertex(mut self, digest: &str) -> Self {
        self.vertex.get_or_insert_with(|| digest.into());
        self
    }

    /// Names the lines, unless there are some.
    #[must_use]
    pub fn at(mut self, source: Option<errdefs::Source>) -> Self {
        if self.lines.is_none() {
            self.lines = source.map(Arc::new);
        }
        self
    }

    /// As gRPC has it, with details as BuildKit's clients read them: JSON in the name of its types.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let code = match self.kind {
            Kind::Cancelled => Code::Cancelled,
            Kind::NotFound => Code::NotFound,
            Kind::Invalid => Code::InvalidArgument,
            Kind::Unavailable => Code::Unavailable,
            Kind::Unsupported => Code::Unimplemented,
            Kind::Exhausted => Code::ResourceExhausted,
            _ => Code::Unknown,
        };
        let mut details = Vec::new();
        if let Some(digest) = &self.vertex {
            details.push(detail("Vertex", &serde_json::json!({ "digest": **digest })));
        }
        if let Some(source) = &self.lines {
            details.push(detail("Source", &lines(source)));
        }
        let whole = status::Status { code: code as i32, message: self.message.to_string(), details };
        Status::with_details(code, self.message.to_string(), whole.encode_to_vec().into())
    }
}

fn detail(name: &str, value: &serde_json::Value) -> prost_types::Any {
    prost_types::Any {
        type_url: format!("github.com/moby/buildkit/errdefs.{name}+json"),
        value: value.to_string().into_bytes(),
    }
}

fn lines(source: &errdefs::Source) -> serde_json::Value {
    use base64::Engine as _;
    let position = |position: &Option<llb::Position>| {
        let position = position.clone().unwrap_or_default();
        serde_json::json!({ "line": position.line, "character": position.character })
    };
    let range =
        |range: &llb::Range| serde_json::json!({ "start": position(&range.start), "end": position(&range.end) });
    let info = source.info.as_ref().map(|info| {
        let data = base64::engine::general_purpose::STANDARD.encode(&info.data);
        serde_json::json!({ "filename": info.filename, "data": data, "language": info.language })
    });
    serde_json::json!({ "info": info, "ranges": source.ranges.iter().map(range).collect::<Vec<_>>() })
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::new(Kind::Internal, error.to_string())
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let kind = match status.code() {
            Code::NotFound => Kind::NotFound,
            Code::InvalidArgument => Kind::Invalid,
            Code::Unavailable => Kind::Unavailable,
            Code::Cancelled => Kind::Cancelled,
            _ => Kind::Internal,
        };
        Self::new(kind, status.message())
    }
}

impl From<crate::file::FileError> for Error {
    fn from(error: crate::file::FileError) -> Self {
        Self::new(Kind::Invalid, error.to_string())
    }
}
