//! The closed set of error kinds. Every error enum at a crate boundary maps each of its variants to
//! one of these, and the faces (HTTP, CLI) turn the kind — never the text — into a status or an
//! exit code.

use std::fmt;

/// What sort of failure an error is, independent of where it arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The named object does not exist.
    NotFound,
    /// The request itself is malformed or asks for something that makes no sense.
    Invalid,
    /// The request collides with the present state (name taken, object in use).
    Conflict,
    /// The state asked for already holds; HTTP calls this "not modified".
    AlreadyDone,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The request is understood and refused.
    Forbidden,
    /// The host or this engine cannot do it at all.
    Unsupported,
    /// A resource ran out: disk, addresses, descriptors.
    Exhausted,
    /// A peer or service could not be reached for now.
    Unavailable,
    /// The caller withdrew the request.
    Cancelled,
    /// A deadline passed.
    Timeout,
    /// A fault of the engine or of its host.
    Internal,
}

impl Kind {
    /// Every kind, for tables that must be total.
    pub const ALL: [Kind; 12] = [
        Kind::NotFound,
        Kind::Invalid,
        Kind::Conflict,
        Kind::AlreadyDone,
        Kind::Unauthorized,
        Kind::Forbidden,
        Kind::Unsupported,
        Kind::Exhausted,
        Kind::Unavailable,
        Kind::Cancelled,
        Kind::Timeout,
        Kind::Internal,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::NotFound => "not found",
            Kind::Invalid => "invalid",
            Kind::Conflict => "conflict",
            Kind::AlreadyDone => "already done",
            Kind::Unauthorized => "unauthorized",
            Kind::Forbidden => "forbidden",
            Kind::Unsupported => "unsupported",
            Kind::Exhausted => "exhausted",
            Kind::Unavailable => "unavailable",
            Kind::Cancelled => "cancelled",
            Kind::Timeout => "timeout",
            Kind::Internal => "internal",
        })
    }
}
