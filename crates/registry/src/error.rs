//! What can go wrong with a request, as the client is told: a code of the distribution specification, a status, a
//! sentence that says what to do, and the headers that belong to it. The one place where codes become statuses.

use std::io;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::storage::bucket::failure::Failure as BucketFailure;

/// Error codes of the OCI distribution specification 1.1, "Error Codes".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The repository has no such blob.
    BlobUnknown,
    /// An upload cannot go on.
    BlobUploadInvalid,
    /// There is no such upload.
    BlobUploadUnknown,
    /// A digest is malformed, or is not that of the content.
    DigestInvalid,
    /// A manifest names content that the repository has not.
    ManifestBlobUnknown,
    /// A manifest or its reference is malformed.
    ManifestInvalid,
    /// The repository has no such manifest.
    ManifestUnknown,
    /// A repository's name is malformed.
    NameInvalid,
    /// There is no such repository.
    NameUnknown,
    /// More or fewer bytes than declared or allowed.
    SizeInvalid,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// Whoever asks is known, and may not.
    Denied,
    /// Not offered here.
    Unsupported,
    /// A bound on what is done at once.
    TooManyRequests,
    /// The server's own fault; the specification has no code for it, the field uses `UNKNOWN`.
    Unknown,
}

impl Code {
    /// The code as sent.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestBlobUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown => StatusCode::NOT_FOUND,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::SizeInvalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// One entry of the `errors` list.
#[derive(Debug, Clone)]
struct Entry {
    code: Code,
    message: String,
    detail: Value,
}

/// Why a request is not answered with success.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.0.entries.first().map_or("", |entry| entry.message.as_str()))]
pub struct Error(Box<Failure>);

#[derive(Debug)]
struct Failure {
    status: StatusCode,
    entries: Vec<Entry>,
    headers: HeaderMap,
    /// For the log; the client is not told of the server's files.
    cause: Option<String>,
}

impl Error {
    /// A failure with the status its code has.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self::of(code, vec![Entry { code, message: message.into(), detail: Value::Null }])
    }

    fn of(code: Code, entries: Vec<Entry>) -> Self {
        Self(Box::new(Failure { status: code.status(), entries, headers: HeaderMap::new(), cause: None }))
    }

    /// One entry per missing piece of content.
    pub(crate) fn missing(digests: &[types::Digest]) -> Self {
        let entry = |digest: &types::Digest| Entry {
            code: Code::ManifestBlobUnknown,
            message: format!("the manifest refers to {digest}, which this repository has not: push it first"),
            detail: json!({"digest": digest.to_string()}),
        };
        Self::of(Code::ManifestBlobUnknown, digests.iter().map(entry).collect())
    }

    pub(crate) fn upload_unknown() -> Self {
        let text = "there is no such upload: it was finished, cancelled or expired; start a new one";
        Self::new(Code::BlobUploadUnknown, text)
    }

    /// The server's fault: what was being done and the system's reason, for the log alone.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            let bucket = source.get_ref().and_then(|inner| inner.downcast_ref::<BucketFailure>());
            let (status, text) = match (bucket, full) {
                (Some(failure), _) => failure.told(),
                (None, true) => (
                    StatusCode::INSUFFICIENT_STORAGE,
                    "the registry's disk is full: free space there, then repeat the request",
                ),
                (None, false) => (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the registry could not access its storage: see its log, then repeat the request",
                ),
            };
            let mut error = Self::new(Code::Unknown, text).with_status(status);
            if status == StatusCode::SERVICE_UNAVAILABLE {
                error = error.with_header(http::header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            error.0.cause = Some(format!("cannot {doing}: {source}"));
            error
        }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    pub(crate) fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.0.headers.extend(headers);
        self
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The first code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.entries.first().map_or(Code::Unknown, |entry| entry.code)
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    pub(crate) fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// The body of the answer (distribution-spec, "Error Codes").
    pub(crate) fn body(&self) -> Vec<u8> {
        let one = |entry: &Entry| {
            let mut one = json!({"code": entry.code.text(), "message": entry.message});
            if !entry.detail.is_null() {
                one["detail"] = entry.detail.clone();
            }
            one
        };
        let errors: Vec<Value> = self.0.entries.iter().map(one).collect();
        let mut body = json!({ "errors": errors }).to_string().into_bytes();
        body.push(b'\n');
        body
    }
}

/// Result of answering a request.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the registry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or directory cannot be used.
    #[error("cannot {action} {path}: {source}; {hint}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// Why it failed.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// Another server has the directory.
    #[error("another registry serves {0}: stop it, or choose another directory with --root")]
    InUse(String),
    /// The directory belongs to a registry that keeps its content elsewhere.
    #[error("{path} belongs to a registry whose content is {kept}: start it with {give}, or choose another --root")]
    Elsewhere {
        /// The directory.
        path: String,
        /// Where the content is.
        kept: String,
        /// What to start it with.
        give: String,
    },
    /// The bucket cannot be used.
    #[error(
        "{source}; --storage {address} must name a bucket that is there, and the environment its endpoint and \
         credentials (docs/registry.md)"
    )]
    Bucket {
        /// As given.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The directory was written by a later version.
    #[error(
        "{path} holds layout {found}, and this version knows 1: use the version that wrote it, or another directory"
    )]
    Layout {
        /// The directory.
        path: String,
        /// What its file `version` says.
        found: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Certificate and key do not make a server.
    #[error("cannot use the certificate {path}: {reason}; give a PEM chain with --tls-cert and its key with --tls-key")]
    Tls {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A line of the access file cannot be used.
    #[error("{path}, line {line}: {reason}")]
    Access {
        /// The file.
        path: String,
        /// Counted from one.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A line of the password file cannot be used.
    #[error("{path}, line {line}: {reason}; make the file with `htpasswd -B`")]
    Passwords {
        /// The file.
        path: String,
        /// Counted from one.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
}
