//! Why a control group operation failed: which file, which value, what to do.

use std::io;
use std::path::PathBuf;

use types::Kind;

/// Failure of a control group operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No control group file system is mounted.
    #[error("no control group file system is mounted; mount cgroup2 on /sys/fs/cgroup")]
    NoHierarchy,
    /// A parent path or name that cannot be a group.
    #[error("control group path '{path}' is refused: {reason}")]
    BadPath {
        /// The text given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The group is there and has processes. The first words are runc's: callers look for them.
    #[error(
        "container's cgroup is not empty: {processes} process(es) found in {path}; end them, or choose another control group"
    )]
    Busy {
        /// Its directory.
        path: PathBuf,
        /// How many, the groups below included.
        processes: usize,
    },
    /// The group is there and frozen: what joined it would not run. The first words are runc's.
    #[error("container's cgroup unexpectedly frozen: {path}; thaw it, or choose another control group")]
    Frozen {
        /// Its directory.
        path: PathBuf,
    },
    /// A directory could not be made, listed or removed, or a file not be opened or read.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried: `create`, `read`, `open`, `remove`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a value.
    #[error("failed to write \"{value}\": write {path}: {source}{hint}")]
    Write {
        /// Controller the file belongs to, empty for `cgroup.*` files.
        controller: String,
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
        /// What to do, with its own separator; may be empty.
        hint: &'static str,
    },
    /// A memory limit below what the group holds and cannot give up.
    #[error(
        "cannot set memory limit to {limit} bytes: {usage} bytes are in use and cannot be reclaimed; stop something in the container or choose a higher limit"
    )]
    MemoryInUse {
        /// The limit wanted.
        limit: i64,
        /// What is used now.
        usage: u64,
    },
    /// The host lacks the control.
    #[error("this host cannot limit {control}: {reason}")]
    Unsupported {
        /// The setting.
        control: &'static str,
        /// Why not.
        reason: String,
    },
    /// A value out of its range, found before any write.
    #[error("{control} cannot be {value}: {reason}")]
    Invalid {
        /// The setting.
        control: &'static str,
        /// The value given.
        value: String,
        /// The range.
        reason: &'static str,
    },
    /// The kernel did not get there in time.
    #[error("{path} did not become {wanted} within {seconds} s; a process in it may be stuck in the kernel")]
    Timeout {
        /// The group.
        path: PathBuf,
        /// The state waited for.
        wanted: &'static str,
        /// How long.
        seconds: u64,
    },
    /// A kernel file that does not read as documented.
    #[error("{path} has unexpected content '{text}'")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The beginning of the content.
        text: String,
    },
}

impl Error {
    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NoHierarchy | Error::Unsupported { .. } => Kind::Unsupported,
            Error::BadPath { .. } | Error::Invalid { .. } => Kind::Invalid,
            Error::Busy { .. } | Error::Frozen { .. } | Error::MemoryInUse { .. } => Kind::Conflict,
            Error::Timeout { .. } => Kind::Timeout,
            Error::Io { source, .. } | Error::Write { source, .. } => match source.raw_os_error() {
                Some(libc_errno::ENOENT) => Kind::NotFound,
                Some(libc_errno::ENOSPC | libc_errno::ENOMEM | libc_errno::EMFILE) => Kind::Exhausted,
                Some(libc_errno::EACCES | libc_errno::EPERM | libc_errno::EROFS) => Kind::Forbidden,
                Some(libc_errno::EINVAL | libc_errno::ERANGE) => Kind::Invalid,
                Some(libc_errno::EBUSY) => Kind::Conflict,
                _ => Kind::Internal,
            },
            Error::Malformed { .. } => Kind::Internal,
        }
    }

    /// Errno behind the failure, if the kernel gave one.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Error::Io { source, .. } | Error::Write { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// The errno values this crate tells apart.
pub(crate) mod libc_errno {
    use rustix::io::Errno;

    pub(crate) const EPERM: i32 = Errno::PERM.raw_os_error();
    pub(crate) const EOPNOTSUPP: i32 = Errno::OPNOTSUPP.raw_os_error();
    pub(crate) const ENOENT: i32 = Errno::NOENT.raw_os_error();
    pub(crate) const ENOMEM: i32 = Errno::NOMEM.raw_os_error();
    pub(crate) const EACCES: i32 = Errno::ACCESS.raw_os_error();
    pub(crate) const EBUSY: i32 = Errno::BUSY.raw_os_error();
    pub(crate) const EINVAL: i32 = Errno::INVAL.raw_os_error();
    pub(crate) const EMFILE: i32 = Errno::MFILE.raw_os_error();
    pub(crate) const ENODEV: i32 = Errno::NODEV.raw_os_error();
    pub(crate) const ENOSPC: i32 = Errno::NOSPC.raw_os_error();
    pub(crate) const EROFS: i32 = Errno::ROFS.raw_os_error();
    pub(crate) const ERANGE: i32 = Errno::RANGE.raw_os_error();
}
