//! The one table from error kinds to HTTP statuses, and the error answer itself.
//!
//! Every failing request of the API ends as an [`ApiError`]; nothing else in this crate picks a
//! failure status from a kind. The body is Docker's `{"message": …}`, with an additional `hint`
//! where the engine knows what to do next: clients ignore fields they do not know, and texts they
//! match on stay Docker's own.

use http::StatusCode;
use serde::Serialize;
use types::Kind;

use crate::body::{self, Response};

/// A request that failed: its HTTP status and what the client is told.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {message}")]
pub struct ApiError {
    status: StatusCode,
    message: String,
    hint: Option<String>,
}

/// The status Docker's API gives for a kind of failure.
///
/// `Exhausted`, `Cancelled` and `Timeout` are 500 as in dockerd: 503 or 408 would make HTTP
/// libraries repeat requests that are not safe to repeat.
#[must_use]
pub fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::AlreadyDone => StatusCode::NOT_MODIFIED,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Exhausted | Kind::Cancelled | Kind::Timeout | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl ApiError {
    /// An error of this layer, with its status named directly.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into(), hint: None }
    }

    /// An error of the given kind, for texts this layer words itself.
    pub(crate) fn of(kind: Kind, message: impl Into<String>) -> ApiError {
        ApiError::new(status_of(kind), message)
    }

    /// A malformed request.
    pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::of(Kind::Invalid, message)
    }

    /// An endpoint this engine does not offer, refused by name.
    pub(crate) fn unsupported(message: impl Into<String>) -> ApiError {
        ApiError::of(Kind::Unsupported, message)
    }

    /// The answer to paths no endpoint has, in Docker's words.
    pub(crate) fn page_not_found() -> ApiError {
        ApiError::of(Kind::NotFound, "page not found")
    }

    /// The HTTP status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What the client is told.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The answer itself. 304 carries no body (RFC 9110, 15.4.5).
    pub(crate) fn into_response(self) -> Response {
        if self.status == StatusCode::NOT_MODIFIED {
            return body::empty(self.status);
        }
        body::json(self.status, &ErrorBody { message: &self.message, hint: self.hint.as_deref() })
    }
}

impl From<engine::Error> for ApiError {
    fn from(error: engine::Error) -> ApiError {
        ApiError { status: status_of(error.kind()), message: error.to_string(), hint: error.hint().map(str::to_owned) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_failure_or_not_modified() {
        for kind in Kind::ALL {
            let status = status_of(kind);
            assert!(
                status.is_client_error() || status.is_server_error() || status == StatusCode::NOT_MODIFIED,
                "{kind:?} maps to {status}"
            );
        }
        assert_eq!(status_of(Kind::NotFound), 404);
        assert_eq!(status_of(Kind::AlreadyDone), 304);
        assert_eq!(status_of(Kind::Conflict), 409);
        assert_eq!(status_of(Kind::Unsupported), 501);
    }

    #[test]
    fn hint_is_left_out_when_there_is_none() {
        let text = serde_json::to_string(&ErrorBody { message: "page not found", hint: None }).unwrap();
        assert_eq!(text, r#"{"message":"page not found"}"#);
    }
}
