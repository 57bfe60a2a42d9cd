//! Why systemd could not be asked, or what it refused.

use crate::Error as CgroupError;

/// Failure of a request to systemd.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A `cgroupsPath` or name that makes no unit.
    #[error("'{text}' names no systemd unit: {reason}")]
    Name {
        /// The text given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A property that cannot be passed on.
    #[error("the systemd property {name}={text} is refused: {reason}")]
    Property {
        /// Its name.
        name: String,
        /// The value's text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The environment does not lead to the user's manager.
    #[error(
        "cannot find the user's systemd: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR/bus is there; log in again, or install the user session bus (package dbus-user-session)"
    )]
    NoUserBus,
    /// systemd could not be asked, or refused.
    #[error("cannot {action}: {source}")]
    Bus {
        /// What was asked: `start the unit x.scope`.
        action: String,
        /// Why not.
        source: BusError,
    },
    /// systemd took the job and failed at it.
    #[error("systemd could not {action}: the job ended with '{result}'; see `systemctl status` and the journal")]
    Job {
        /// What was asked.
        action: String,
        /// `failed`, `canceled`, `timeout`, `dependency`, `skipped`.
        result: String,
    },
    /// The rest of the work, in the control group file system.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// Failure on the way to or from the bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// Nobody listens.
    #[error("no D-Bus at {address}{}; is systemd running, and dbus?", source.as_ref().map(|e| format!(" ({e})")).unwrap_or_default())]
    Connect {
        /// The addresses tried.
        address: String,
        /// The kernel's last answer, if an address was one of this machine's.
        source: Option<std::io::Error>,
    },
    /// The bus does not take who we are.
    #[error(
        "the bus does not accept this user ({answer}); a rootless runtime needs the bus of the user it was started by"
    )]
    Identity {
        /// What it said.
        answer: String,
    },
    /// An error came back.
    #[error("{text} ({name})")]
    Refused {
        /// Name of the error.
        name: String,
        /// Its words.
        text: String,
    },
    /// Nothing came back in time.
    #[error("no answer within 30 s")]
    Timeout,
    /// The other side has gone.
    #[error("the connection was closed")]
    Closed,
    /// What came is no D-Bus.
    #[error("the answer is no D-Bus message")]
    Malformed,
    /// The socket failed.
    #[error(transparent)]
    Io(std::io::Error),
}

impl BusError {
    /// Whether it is the error `name`.
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, BusError::Refused { name, .. } if name == wanted)
    }
}
