//! What kind of namespace a descriptor stands for (ioctl_ns(2)).
//! Called by `oci-runtime` before a namespace is entered.

use std::os::fd::{AsFd, AsRawFd};

use crate::Errno;
use crate::raw::check;

/// `NS_GET_NSTYPE` of linux/nsfs.h.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// The `CLONE_NEW*` flag of the namespace behind `fd`.
///
/// # Errors
/// `ENOTTY` when it is none.
pub fn kind(fd: impl AsFd) -> Result<u64, Errno> {
    // SAFETY: the request takes no argument.
    let kind = check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_NSTYPE) }.into())?;
    u64::try_from(kind).map_err(|_| Errno::INVAL)
}
