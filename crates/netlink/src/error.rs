//! The one error of this crate: which request failed, with what errno, and what the kernel said about it.
//!
//! Built by `socket` alone, so that every refusal carries the extended acknowledgement if there was one.

use rustix::io::Errno;

/// Result of a netlink request.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a netlink request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket itself failed: opening, sending or receiving.
    #[error("netlink socket: cannot {action}: {errno}")]
    Socket {
        /// What was being done with the socket.
        action: &'static str,
        /// The system's reason.
        errno: Errno,
    },
    /// The kernel refused a request.
    #[error("kernel refused to {request}: {errno}{}", explained(.explanation))]
    Refused {
        /// The request in words, such as `create link dhow0`.
        request: String,
        /// The system's reason.
        errno: Errno,
        /// The kernel's own words (extended acknowledgement), possibly empty.
        explanation: String,
    },
    /// The kernel's answer did not parse, or did not come.
    #[error("unexpected netlink answer: {0}")]
    Protocol(&'static str),
    /// A request does not fit the format, for instance a name that is too long or an attribute above 64 KiB.
    #[error("invalid netlink request: {0}")]
    Invalid(&'static str),
}

impl Error {
    /// The errno behind the failure, where the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Socket { errno, .. } | Self::Refused { errno, .. } => Some(*errno),
            Self::Protocol(_) | Self::Invalid(_) => None,
        }
    }

    /// Whether the thing to be made exists already (`EEXIST`).
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EXIST)
    }

    /// Whether the thing named does not exist (`ENODEV`, `ENOENT`, `ESRCH`, `EADDRNOTAVAIL`).
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.errno(), Some(Errno::NODEV | Errno::NOENT | Errno::SRCH | Errno::ADDRNOTAVAIL))
    }

    pub(crate) fn socket(action: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Socket { action, errno }
    }
}

fn explained(explanation: &str) -> String {
    if explanation.is_empty() { String::new() } else { format!(" ({explanation})") }
}
