//! Socket options of `AF_NETLINK` that rustix has no function for.
//!
//! Called by `netlink` once for every socket it opens. Both options only add to what the kernel answers, so a
//! kernel without them is no reason to give up on the socket. See `netlink(7)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Asks the kernel to explain refusals in words (`NETLINK_EXT_ACK`), and not to send the refused request back
/// (`NETLINK_CAP_ACK`), which keeps answers small.
///
/// # Errors
/// `ENOPROTOOPT` on kernels before 4.12, `ENOTSOCK` for other descriptors.
pub fn explain_refusals(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::NETLINK_CAP_ACK, 1)?;
    set(socket, libc::NETLINK_EXT_ACK, 1)
}

fn set(socket: &impl AsFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call, and the value pointer and its length describe one
    // readable `c_int` on our stack.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
