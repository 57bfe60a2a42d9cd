//! A session keyring of its own for a container (keyrings(7)), so that keys of the engine's session stay out of reach.
//! Called by `runtime`.

use std::ffi::CStr;

use crate::Errno;
use crate::raw::check;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;

/// Joins the session keyring `name`, made when there is none.
///
/// # Errors
/// What keyctl(2) says: `ENOSYS` without support, `EDQUOT` when the user has too many keys, `EPERM` or
/// `EACCES` when a filter or the existing keyring forbids.
pub fn join_session(name: &CStr) -> Result<(), Errno> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) }).map(drop)
}
