//! Which files of a directory go to a builder, in which order and described how; and the sending side of the protocol that
//! brings them over.
//!
//! Both ends use it: the client to send, and a daemon on the same host to take the files from the directory itself, so that
//! either way the builder sees the same.

mod filter;
mod follow;
pub mod go;
mod send;
mod stat;
mod walk;

pub use filter::Filter;
pub use follow::follow;
pub use send::send;
pub use stat::{Fingerprint, Links, mode_of};
pub use walk::{Found, walk};

/// Why files cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A pattern that is none.
    #[error("invalid {kind} pattern: {reason}")]
    Pattern {
        /// Of which list.
        kind: &'static str,
        /// Why.
        reason: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Where, from the top of the directory.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A name that the protocol cannot carry.
    #[error("{0}: the name is not UTF-8, which builders need; rename the file or exclude it in .dockerignore")]
    Name(String),
    /// Whoever the files are for has left, or stopped listening.
    #[error("the other side has left")]
    Left,
}

impl Error {
    pub(crate) fn io(path: &str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// Result of everything here.
pub type Result<T> = std::result::Result<T, Error>;
