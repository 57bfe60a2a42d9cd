//! What can go wrong with the database, in terms a user can act on. Made by this crate, read by `engine`.

use std::path::PathBuf;

use types::Kind;

/// A refused or failed operation on the state database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A unique name is already taken.
    #[error("the {what} is already in use")]
    Conflict { what: &'static str },
    /// SQLite's own check found damage, or the file is no database.
    #[error(
        "the state database {} is damaged ({detail}); move it away and restart to begin with an empty one, or restore a copy",
        path.display()
    )]
    Corrupt { path: PathBuf, detail: String },
    /// Written by a newer engine.
    #[error("the state database {} has schema version {found}, this engine knows up to {known}; use a newer engine", path.display())]
    TooNew { path: PathBuf, found: i64, known: i64 },
    /// No room for the change.
    #[error(
        "the state database cannot be written: the disk is full; free some space, for example by removing containers"
    )]
    Full,
    /// SQLite or the disk refused.
    #[error("cannot {what} the state database: {source}")]
    Database { what: &'static str, source: rusqlite::Error },
    /// The file cannot be made or opened.
    #[error("cannot open the state database {}: {source}", path.display())]
    Access { path: PathBuf, source: std::io::Error },
    /// The writer thread is gone.
    #[error("the state database is closed")]
    Closed,
    /// The writer thread could not be started.
    #[error("cannot start the writer of the state database: {0}")]
    Thread(std::io::Error),
}

impl Error {
    /// The class of the failure.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Conflict { .. } => Kind::Conflict,
            Self::Closed => Kind::Unavailable,
            Self::Full => Kind::Exhausted,
            Self::Corrupt { .. }
            | Self::TooNew { .. }
            | Self::Database { .. }
            | Self::Access { .. }
            | Self::Thread(_) => Kind::Internal,
        }
    }
}
