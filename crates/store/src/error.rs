//! What can go wrong in the store, in words that say which object, why, and what to do.

use std::io;
use std::path::PathBuf;

use thiserror::Error as ThisError;
use types::{Digest, Kind};

/// Result of the store's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Failure of a store operation.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// A blob that is not in the store.
    #[error("content {0}: not found")]
    NoBlob(Digest),
    /// A blob that was given up for room, or that never came because the layer was made of an older one.
    #[error(
        "content {0} is not here as a whole: it was fetched in part, or given up for room; pull the image again, and \
         repeat this"
    )]
    Released(Digest),
    /// A layer that is not unpacked.
    #[error("layer {0}: not found; pull or load the image again")]
    NoLayer(Digest),
    /// A path that is not in the tree.
    #[error("Could not find the file {0} in container")]
    NoPath(String),
    /// Bytes that are not the ones named.
    #[error("{what}: digest mismatch: expected {expected}, got {actual}")]
    Digest {
        /// The object.
        what: &'static str,
        /// Digest it was asked for by.
        expected: Digest,
        /// Digest of the bytes.
        actual: Digest,
    },
    /// More or fewer bytes than declared.
    #[error("{what}: size mismatch: expected {expected} bytes, got {actual}")]
    Size {
        /// The object.
        what: &'static str,
        /// Declared size in bytes.
        expected: u64,
        /// Size found; a reader stops at the first byte too many.
        actual: u64,
    },
    /// A manifest, index or configuration that breaks its specification.
    #[error("invalid {what}: {reason}")]
    Document {
        /// Kind of document.
        what: &'static str,
        /// The rule it breaks.
        reason: String,
    },
    /// No manifest of an index is for the platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(String),
    /// An archive's image is for none of the platforms asked for.
    #[error("requested platform ({0}) not found: the archive has no image for it")]
    NotLoaded(String),
    /// An archive that cannot be read.
    #[error(transparent)]
    Tar(layer::tar::Error),
    /// A member of an archive that cannot be applied.
    #[error("cannot apply archive member {path:?}: {reason}")]
    Member {
        /// Path in the archive.
        path: String,
        /// The rule it breaks.
        reason: String,
    },
    /// An archive that cannot be indexed, and could not be unpacked either.
    #[error(transparent)]
    Index(erofs::Error),
    /// A member that the kernel refused to make.
    #[error("cannot write {path:?}: {source}")]
    Write {
        /// Path in the archive.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An image archive without the parts it needs.
    #[error("invalid archive: {0}")]
    Archive(String),
    /// `PUT archive` onto something that is no directory.
    #[error("extraction point is not a directory")]
    NotADirectory,
    /// A directory in the place of a file, or the other way round, and the request forbids that.
    #[error("cannot overwrite {0}")]
    Overwrite(String),
    /// Another engine has the data directory open.
    #[error("{} is in use by another engine; stop it or choose another --data-root", .0.display())]
    InUse(PathBuf),
    /// A mount that the kernel refused.
    #[error("cannot mount the container's root file system: {step}: {source}")]
    Mount {
        /// Step of mounting.
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file system answered with an error.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// A document that was given up is one that never was here.
    pub(crate) fn or_absent(self) -> Self {
        if let Self::Released(digest) = self { Self::NoBlob(digest) } else { self }
    }

    /// The kind the faces map to a status code.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoBlob(_)
            | Self::Released(_)
            | Self::NoLayer(_)
            | Self::NoPath(_)
            | Self::NoPlatform(_)
            | Self::NotLoaded(_) => Kind::NotFound,
            Self::Digest { .. }
            | Self::Size { .. }
            | Self::Document { .. }
            | Self::Member { .. }
            | Self::Archive(_)
            | Self::NotADirectory
            | Self::Overwrite(_) => Kind::Invalid,
            Self::Index(source) => source.kind(),
            Self::Tar(layer::tar::Error::Io(source)) => stream_kind(source),
            Self::Tar(_) => Kind::Invalid,
            Self::InUse(_) => Kind::Conflict,
            Self::Write { source, .. } if is_content(source) => Kind::Invalid,
            Self::Write { source, .. } | Self::Mount { source, .. } | Self::Io { source, .. } => io_kind(source),
        }
    }

    /// An [`Error::Io`] with the action named.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    pub(crate) fn document(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Document { what, reason: reason.into() }
    }
}

impl From<layer::tar::Error> for Error {
    fn from(error: layer::tar::Error) -> Self {
        Self::Tar(error)
    }
}

/// Whether a member could not be made for what the archive says, not for the state of the disk.
fn is_content(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.kind() == io::ErrorKind::InvalidData
        || matches!(
            Errno::from_io_error(error),
            // EACCES: what root is refused is a default access list on something that is no directory.
            Some(
                Errno::LOOP
                    | Errno::NOTDIR
                    | Errno::NAMETOOLONG
                    | Errno::INVAL
                    | Errno::TOOBIG
                    | Errno::MLINK
                    | Errno::RANGE
                    | Errno::ACCESS
            )
        )
}

impl From<erofs::Error> for Error {
    fn from(source: erofs::Error) -> Self {
        match source {
            erofs::Error::Member { path, reason } => Self::Member { path, reason },
            other => Self::Index(other),
        }
    }
}

fn io_kind(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Exhausted,
        io::ErrorKind::NotFound => Kind::NotFound,
        _ => Kind::Internal,
    }
}

fn stream_kind(error: &io::Error) -> Kind {
    match error.kind() {
        // What decompressors say of bytes they cannot read.
        io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::Other => Kind::Invalid,
        _ => io_kind(error),
    }
}
