//! Why a file operation failed, in the words a builder's users know.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Failure of a file operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// What a digest was asked for is not in the tree.
    #[error("\"{0}\": not found")]
    NotFound(String),
    /// A pattern that matches nothing.
    #[error("{0} not found")]
    NoMatch(String),
    /// The kernel refused something.
    #[error("{action} {}: {}", path.display(), words(source))]
    Io {
        /// What was done, by the name of the call where there is one.
        action: &'static str,
        /// Path in the tree.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// A directory is to go where something else is.
    #[error("cannot copy to non-directory: {}", .0.display())]
    NonDirectory(PathBuf),
    /// Something else is to go where a directory is.
    #[error("cannot replace to directory {} with file", .0.display())]
    Directory(PathBuf),
    /// The copy is inside what is being copied.
    #[error("cannot copy a directory into itself: {}", .0.display())]
    Itself(PathBuf),
    /// Patterns that are none.
    #[error("invalid {kind}patterns: [{}]: {reason}", patterns.join(" "))]
    Patterns {
        /// `include` or `exclude`.
        kind: &'static str,
        /// All of them.
        patterns: Vec<String>,
        /// The rule that is broken.
        reason: String,
    },
    /// Words that change no mode.
    #[error("invalid mode {0:?}: invalid syntax; use an octal number, or words such as u+x,go-w")]
    Mode(String),
    /// The path to remove is the tree itself.
    #[error("rmPath: invalid empty path")]
    EmptyPath,
    /// An archive that cannot be unpacked.
    #[error("cannot unpack {}: {source}", path.display())]
    Unpack {
        /// Path of the archive.
        path: PathBuf,
        /// Why.
        source: Box<store::Error>,
    },
    /// A name that is in no file of names.
    #[error("unable to find {kind} {name}: no matching entries in {file} file")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// `passwd` or `group`.
        file: &'static str,
    },
    /// A number that is no user or group.
    #[error("invalid {kind} {text:?}: uids and gids must be in range 0-{max}", max = u32::MAX - 1)]
    Number {
        /// `user` or `group`.
        kind: &'static str,
        /// What was asked for.
        text: String,
    },
}

impl FileError {
    /// Names what was done to which path.
    pub(super) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// The kernel's answer without numbers, as other builders print it.
fn words(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => "no such file or directory".to_owned(),
        Some(Errno::EXIST) => "file exists".to_owned(),
        Some(Errno::NOTDIR) => "not a directory".to_owned(),
        Some(Errno::ISDIR) => "is a directory".to_owned(),
        Some(Errno::LOOP) => "too many levels of symbolic links".to_owned(),
        Some(Errno::NAMETOOLONG) => "file name too long".to_owned(),
        Some(Errno::NOSPC) => "no space left on device".to_owned(),
        Some(Errno::BUSY) => "device or resource busy".to_owned(),
        _ => error.to_string(),
    }
}
