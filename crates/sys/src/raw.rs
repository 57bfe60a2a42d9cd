//! The one place where a raw system call's return value becomes a `Result`.
//! Called by every other file of this crate.

use crate::Errno;

/// The error the last failing libc call of this thread left behind.
pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// `-1` is an error, everything else the value.
pub(crate) fn check(ret: libc::c_long) -> Result<libc::c_long, Errno> {
    if ret == -1 { Err(last_errno()) } else { Ok(ret) }
}
