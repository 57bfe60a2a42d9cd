//! Why a layer gets no index: refused as unpacking would refuse it, or not to be expressed in the format.
//!
//! The kinds are those of the store for the same archive, so that it does not matter to a caller which of
//! the two ways a layer took.

use std::io;

use thiserror::Error as ThisError;
use types::Kind;

/// Result of indexing.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Failure of indexing a layer.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// A member of an archive that breaks a rule of layers.
    #[error("cannot apply archive member {path:?}: {reason}")]
    Member {
        /// Path in the archive.
        path: String,
        /// The rule it breaks.
        reason: String,
    },
    /// A member that the kernel would refuse to make.
    #[error("cannot write {path:?}: {reason}")]
    Refused {
        /// Path in the archive.
        path: String,
        /// What the kernel would answer.
        reason: Refusal,
    },
    /// A valid layer that an index cannot show as unpacking would: unpack it instead.
    #[error("the layer cannot be indexed: {0}; unpack it")]
    Unsupported(&'static str),
    /// A bound that unpacking has too.
    #[error("archive refused: more than {limit} {what}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The archive is shorter than the places of its members' data say.
    #[error("the archive has {actual} bytes and a member's data up to byte {needed}")]
    Truncated {
        /// End of the last data in bytes.
        needed: u64,
        /// Size of the archive in bytes.
        actual: u64,
    },
    /// The stream of the index failed.
    #[error("cannot write the index: {0}")]
    Io(#[from] io::Error),
}

/// What the kernel would answer to making a member, by errno(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum Refusal {
    /// `ENOENT`: a symlink on the way leads nowhere, or the link's target went away.
    #[error("no such file or directory")]
    NotFound,
    /// `ENOTDIR`: a component on the way is no directory.
    #[error("not a directory")]
    NotDirectory,
    /// `ELOOP`: more than 40 symlinks on the way.
    #[error("too many levels of symbolic links")]
    Loop,
    /// `ENAMETOOLONG`: a component longer than 255 bytes.
    #[error("file name too long")]
    NameTooLong,
    /// `EINVAL`: an attribute whose value the kernel does not take.
    #[error("invalid argument")]
    Invalid,
    /// `E2BIG`: an attribute's value above 65,536 bytes.
    #[error("argument list too long")]
    TooBig,
    /// `ERANGE`: an attribute's name above 255 bytes.
    #[error("numerical result out of range")]
    Range,
    /// `EACCES`: a default access list on something that is no directory.
    #[error("permission denied")]
    Access,
}

impl Error {
    /// The kind the faces map to a status code.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Member { .. } | Self::Limit { .. } | Self::Truncated { .. } => Kind::Invalid,
            Self::Refused { reason, .. } => match reason {
                Refusal::NotFound => Kind::NotFound,
                _ => Kind::Invalid,
            },
            Self::Unsupported(_) => Kind::Unsupported,
            Self::Io(source) => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Exhausted,
                _ => Kind::Internal,
            },
        }
    }
}
