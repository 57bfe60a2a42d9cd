//! Why an archive was refused.
//!
//! Every message names the rule that was broken and, where known, the member.

use thiserror::Error as ThisError;

/// Failure of reading or writing a tar archive.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// A header block whose checksum or fields cannot be a tar header.
    #[error("archive/tar: invalid tar header: {0}")]
    Header(&'static str),
    /// A pax extended header that breaks its grammar or contradicts itself.
    #[error("archive/tar: invalid tar header: pax record: {0}")]
    Pax(&'static str),
    /// A sparse map that overlaps, goes backwards or disagrees with the size.
    #[error("archive/tar: invalid tar header: sparse map: {0}")]
    Sparse(&'static str),
    /// A member of a type no reader agrees on.
    #[error("archive/tar: invalid tar header: unsupported member type {0:?}")]
    MemberType(char),
    /// The archive ends inside a member or a header.
    #[error("unexpected EOF")]
    UnexpectedEof,
    /// A bound of [`super::Limits`] was passed.
    #[error("tar archive refused: more than {limit} {what}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A path that leads out of the archive, or cannot be a path.
    #[error("archive/tar: invalid tar header: path {path:?}: {reason}")]
    Path {
        /// The path, with undecodable bytes replaced.
        path: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A member cannot be expressed in the format.
    #[error("cannot write tar member {path:?}: {reason}")]
    Unwritable {
        /// The path, with undecodable bytes replaced.
        path: String,
        /// What is in the way.
        reason: &'static str,
    },
    /// The underlying stream failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error,
            Error::UnexpectedEof => Self::new(std::io::ErrorKind::UnexpectedEof, "unexpected EOF"),
            other => Self::new(std::io::ErrorKind::InvalidData, other.to_string()),
        }
    }
}
