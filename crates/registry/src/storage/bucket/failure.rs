//! What went wrong with the bucket: for the client a status and a sentence, for the log the whole story.

use std::io;

use http::StatusCode;

use super::address::BucketAddress;

/// Carried through [`io::Error`] to [`crate::error::Error::io`].
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} the bucket {address}: {text}")]
pub(crate) struct Failure {
    kind: Kind,
    doing: &'static str,
    address: String,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// There is no answer, or none that is one.
    #[cfg_attr(not(feature = "buckets"), expect(dead_code, reason = "there is nobody who could be silent"))]
    Unreachable,
    /// The bucket said no, or is not what it should be.
    Refused,
    /// Another server serves it now.
    TakenOver,
    /// The fault is on this side.
    Local,
    /// The server ends.
    Stopping,
}

impl Failure {
    pub(super) fn new(
        kind: Kind,
        address: &BucketAddress,
        doing: &'static str,
        why: &(impl std::fmt::Display + ?Sized),
    ) -> Self {
        // Answers of the bucket may be documents of several lines.
        let text: String = why.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { kind, doing, address: address.to_string(), text: text.chars().take(1000).collect() }
    }

    /// Of an error of the bucket's client.
    #[cfg(feature = "buckets")]
    pub(super) fn of(address: &BucketAddress, doing: &'static str, error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let text = error.to_string();
        let refused = matches!(error, E::PermissionDenied { .. } | E::Unauthenticated { .. } | E::NotSupported { .. })
            || Self::names_the_bucket(&text);
        Self::new(if refused { Kind::Refused } else { Kind::Unreachable }, address, doing, &text)
    }

    /// Whether an answer says that there is no such bucket.
    #[cfg(feature = "buckets")]
    pub(super) fn names_the_bucket(text: &str) -> bool {
        ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"]
            .iter()
            .any(|sign| text.contains(sign))
    }

    /// What the client is told, which does not name the bucket.
    pub(crate) fn told(&self) -> (StatusCode, &'static str) {
        match self.kind {
            Kind::Unreachable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the registry cannot reach the bucket it keeps content in: repeat the request in a while",
            ),
            Kind::TakenOver => (
                StatusCode::SERVICE_UNAVAILABLE,
                "another registry has taken over the bucket of this one: push there, or stop the other and start this \
                 one again",
            ),
            Kind::Stopping => {
                (StatusCode::SERVICE_UNAVAILABLE, "the registry is stopping: repeat the request in a while")
            }
            Kind::Refused => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the bucket that the registry keeps content in refused a request: see the registry's log, then repeat \
                 the request",
            ),
            Kind::Local => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the registry could not access its storage: see its log, then repeat the request",
            ),
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::other(failure)
    }
}
