//! Why systemd could not be asked, or what it refused.

use dbus::Error as BusError;

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
