//! Everything that can go wrong with a registry, in the words Docker's clients match on.

use std::time::Duration;
use types::{Digest, Kind};

/// A failed exchange with a registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tag or digest does not exist.
    #[error("manifest for {reference} not found: {cause}")]
    ManifestUnknown {
        /// As people write it.
        reference: String,
        /// The registry's own words.
        cause: String,
    },
    /// The repository does not exist.
    #[error("repository {name} not found: {cause}")]
    NameUnknown {
        /// As people write it.
        name: String,
        /// The registry's own words.
        cause: String,
    },
    /// The repository does not exist or is private.
    #[error("pull access denied for {name}, repository does not exist or may require 'docker login': {cause}")]
    Denied {
        /// As people write it.
        name: String,
        /// The registry's own words.
        cause: String,
    },
    /// The repository may not be written to.
    #[error("push access denied for {name}, repository does not exist or may require 'docker login': {cause}")]
    PushDenied {
        /// As people write it.
        name: String,
        /// The registry's own words.
        cause: String,
    },
    /// The credentials are missing or wrong.
    #[error("{method} {url:?}: {message}")]
    Unauthorized {
        /// HTTP method as Go's client prints it.
        method: &'static str,
        /// What was asked.
        url: String,
        /// Why.
        message: String,
    },
    /// The registry limits the rate.
    #[error("toomanyrequests: {message}")]
    TooManyRequests {
        /// The registry's own words.
        message: String,
        /// When it said to come back.
        retry_after: Option<Duration>,
    },
    /// The registry could not be reached or its TLS is wrong.
    #[error("{method} {url:?}: {detail}")]
    Connect {
        /// HTTP method as Go's client prints it.
        method: &'static str,
        /// What was asked.
        url: String,
        /// What failed, `dial tcp …` or `tls: …`.
        detail: String,
    },
    /// The exchange broke or took too long after the connection stood.
    #[error("{method} {url:?}: {detail}")]
    Broken {
        /// HTTP method as Go's client prints it.
        method: &'static str,
        /// What was asked.
        url: String,
        /// What failed.
        detail: String,
    },
    /// An answer with an unexpected status.
    #[error("received unexpected HTTP status: {status} from {url:?}{message}")]
    Status {
        /// What was asked.
        url: String,
        /// HTTP status.
        status: u16,
        /// The registry's error code (distribution-spec, "Error Codes"), or nothing.
        code: String,
        /// The registry's own words after a colon, or nothing.
        message: String,
        /// When it said to come back.
        retry_after: Option<Duration>,
    },
    /// A redirect or token realm that must not be followed.
    #[error("refused to follow the {what} to {target:?}: {why}")]
    Refused {
        /// `redirect` or `token realm`.
        what: &'static str,
        /// Where it pointed.
        target: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// The token server answered nonsense.
    #[error("token server {realm:?}: {why}")]
    Token {
        /// Its address.
        realm: String,
        /// What was wrong.
        why: String,
    },
    /// An index without the platform.
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoPlatform {
        /// What was asked for.
        platform: String,
    },
    /// An image of another platform than the one asked for by name.
    #[error("image with reference {reference} was found but does not provide the specified platform ({platform})")]
    WrongPlatform {
        /// As people write it.
        reference: String,
        /// What was asked for.
        platform: String,
    },
    /// The retired first image format.
    #[error(
        "{reference} is in the Docker image manifest version 2, schema 1 format, support for which has been removed; \
         ask the author to publish it in the OCI format or as schema 2"
    )]
    Schema1 {
        /// As people write it.
        reference: String,
    },
    /// A manifest, index or configuration that breaks its specification.
    #[error("invalid {what} of {reference}: {why}")]
    Document {
        /// `manifest`, `index`, `image configuration`.
        what: &'static str,
        /// As people write it.
        reference: String,
        /// What was wrong.
        why: String,
    },
    /// A document or answer larger than its cap.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What was read.
        what: String,
        /// The cap in bytes.
        limit: u64,
    },
    /// Content that is not what its digest says.
    #[error("{what} verification failed for digest {expected}: the registry sent content of digest {actual}")]
    Digest {
        /// `filesystem layer`, `manifest`, `image configuration`.
        what: &'static str,
        /// What the manifest promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Content of another length than promised.
    #[error("blob {digest}: the registry sent {actual} bytes where the manifest promises {expected}")]
    Size {
        /// Which blob.
        digest: Digest,
        /// What the manifest promised.
        expected: u64,
        /// What came, or had come when reading stopped.
        actual: u64,
    },
    /// The reference cannot be turned into a request.
    #[error("cannot ask a registry for {0:?}: {1}")]
    Reference(String, String),
    /// A file of rules for a registry cannot be followed.
    #[error("cannot follow {path}{place}: {why}")]
    Hosts {
        /// The file.
        path: String,
        /// `, line 3, key server`, or nothing.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// TLS material of the host is unusable.
    #[error("TLS configuration: {0}")]
    Tls(String),
    /// The registry took something else than what was sent.
    #[error("push of {what} failed: the registry answers with digest {actual} for content of digest {expected}")]
    Stored {
        /// `blob`, `manifest`.
        what: &'static str,
        /// What was sent.
        expected: Digest,
        /// What the registry says.
        actual: Digest,
    },
    /// An answer that breaks the distribution specification.
    #[error("the registry's answer at {url:?} cannot be used: {why}")]
    Protocol {
        /// What was asked.
        url: String,
        /// What was wrong.
        why: &'static str,
    },
    /// The receiver or the source of the content failed.
    #[error("{message}")]
    Sink {
        /// As the receiver classed it.
        kind: Kind,
        /// Its message.
        message: String,
    },
}

impl Error {
    /// The closed kind for status and exit codes.
    pub fn kind(&self) -> Kind {
        match self {
            Error::ManifestUnknown { .. }
            | Error::NameUnknown { .. }
            | Error::Denied { .. }
            | Error::NoPlatform { .. }
            | Error::WrongPlatform { .. } => Kind::NotFound,
            Error::PushDenied { .. } => Kind::Forbidden,
            Error::Unauthorized { .. } => Kind::Unauthorized,
            Error::Refused { .. } => Kind::Forbidden,
            Error::TooManyRequests { .. } => Kind::Unavailable,
            Error::Schema1 { .. } => Kind::Unsupported,
            Error::Reference(..) => Kind::Invalid,
            Error::Sink { kind, .. } => *kind,
            Error::Connect { .. }
            | Error::Broken { .. }
            | Error::Status { .. }
            | Error::Token { .. }
            | Error::Document { .. }
            | Error::TooLarge { .. }
            | Error::Digest { .. }
            | Error::Size { .. }
            | Error::Stored { .. }
            | Error::Protocol { .. }
            | Error::Hosts { .. }
            | Error::Tls(_) => Kind::Internal,
        }
    }

    /// What the user may do next, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Denied { .. } | Error::PushDenied { .. } | Error::Unauthorized { .. } => {
                Some("log in to the registry, or check the name")
            }
            Error::TooManyRequests { .. } => Some("log in for a higher limit, or try again later"),
            Error::Hosts { .. } => Some("correct the file: it is read anew each time"),
            Error::NoPlatform { .. } | Error::WrongPlatform { .. } => {
                Some("name a platform the image has with --platform")
            }
            _ => None,
        }
    }

    /// True when the same request may succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Error::Broken { .. } | Error::TooManyRequests { .. } => true,
            Error::Status { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// As [`Error::is_transient`], of a registry that was reached a moment ago: it may be starting again.
    pub(crate) fn is_interruption(&self) -> bool {
        self.is_transient() || matches!(self, Error::Connect { .. })
    }

    /// How long the registry asked to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::TooManyRequests { retry_after, .. } | Error::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
