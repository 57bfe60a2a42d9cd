//! Starting to write a growing file to disk before anybody waits for it (sync_file_range(2)).
//! Called by `store` while layers come in: the sync at the end then has little left to do.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::Errno;
use crate::raw::check;

/// Starts writing the dirty pages of `length` bytes from `offset` on, without waiting for them. A promise of
/// nothing: metadata is not written.
///
/// # Errors
/// What sync_file_range(2) says.
pub fn start(fd: BorrowedFd<'_>, offset: u64, length: u64) -> Result<(), Errno> {
    let signed = |value: u64| i64::try_from(value).map_err(|_| Errno::INVAL);
    let (offset, length) = (signed(offset)?, signed(length)?);
    // SAFETY: takes numbers only, and the descriptor is borrowed for the call.
    check(unsafe { libc::sync_file_range(fd.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) }.into())
        .map(drop)
}
