//! Why a command failed, as one sentence for its caller. Engines match on some of the texts ("container does not
//! exist", "container not running", "executable file not found"), which are those of the field.

use oci::Fault;
use runtime::Failure;
use sys::Errno;

/// The result of a command.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line cannot be understood.
    #[error("{0}")]
    Usage(String),
    /// The bundle's documents are not what the specification asks for.
    #[error("{0}")]
    Config(#[from] Fault),
    /// The start came to a certain point and not further.
    #[error("{0}")]
    Start(String),
    #[error("container does not exist")]
    NoSuchContainer,
    #[error("container with given ID already exists; choose another or delete it")]
    Exists,
    #[error("container not running")]
    NotRunning,
    /// The container is in a state that does not allow the command.
    #[error("{0}")]
    State(String),
    /// The control groups would not do what was asked.
    #[error("{0}")]
    Cgroup(#[from] cgroup::Error),
    /// systemd would not make the group.
    #[error("{0}")]
    Systemd(#[from] cgroup::systemd::Error),
    /// A seccomp profile that cannot be compiled.
    #[error("config.json: linux.seccomp: {0}")]
    Seccomp(#[from] seccomp::Error),
    /// A system call failed.
    #[error("cannot {what}: {errno}")]
    System { what: String, errno: Errno },
    /// Something else, said in full.
    #[error("{0}")]
    Other(String),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Start(failure.detail)
    }
}

/// Names what was being done when a system call failed.
pub(crate) trait Doing<T> {
    /// `what` reads as "cannot {what}".
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for std::result::Result<T, Errno> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::System { what: what(), errno })
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| match Errno::from_io_error(&error) {
            Some(errno) => Error::System { what: what(), errno },
            None => Error::Other(format!("cannot {}: {error}", what())),
        })
    }
}

/// Shorthand for a sentence of one's own.
pub(crate) fn other<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::Other(text.into()))
}
