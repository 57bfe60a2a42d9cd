//! Descriptor flags, standard streams and ranges of descriptors.
//! Called by `shim` and `runtime`.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::OFlags;

use crate::Errno;
use crate::raw::check;

/// Sets or clears `O_NONBLOCK`, which belongs to the open file and all its descriptors.
///
/// # Errors
/// What fcntl(2) says.
pub fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> Result<(), Errno> {
    let mut flags = rustix::fs::fcntl_getfl(fd)?;
    flags.set(OFlags::NONBLOCK, on);
    rustix::fs::fcntl_setfl(fd, flags)
}

/// Takes over an inherited descriptor, made close-on-exec; `None` when it is not open.
/// A descriptor is taken once: later calls with the same number answer `None`.
#[must_use]
pub fn take_inherited(number: RawFd) -> Option<OwnedFd> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    if !(0..64).contains(&number) || TAKEN.fetch_or(1 << number, Ordering::Relaxed) & (1 << number) != 0 {
        return None;
    }
    // SAFETY: F_DUPFD_CLOEXEC only reads the table; a closed number answers EBADF. The copy is new,
    // so nobody else owns it, and the inherited number stays open for whoever borrowed it.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return None;
    }
    // SAFETY: just made above.
    Some(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Makes `fd` the standard stream `number` (0 to 2), inherited over exec.
///
/// # Errors
/// `EINVAL` for another number, else what dup2(2) says.
pub fn set_standard(fd: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
    if !(0..=2).contains(&number) {
        return Err(Errno::INVAL);
    }
    if fd.as_raw_fd() == number {
        return rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty());
    }
    // SAFETY: the standard streams are owned by no OwnedFd, so replacing one frees no live handle.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into()).map(drop)
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2)).
///
/// # Errors
/// What close_range(2) says.
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: only the flag changes; every descriptor stays open.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes what a program about to be executed must not find: every descriptor from 3 + `passed` on, and below that
/// those that are close-on-exec, which were not passed to anybody. Those of `keep` stay open.
///
/// To mark them close-on-exec is not enough: the names of the program, of its interpreter and of its loader are
/// resolved before that takes effect, and `/proc/self/fd/N/..` in one of them would lead wherever N is.
///
/// Only for a cloned child that uses none of its other copies any more.
///
/// # Errors
/// What close_range(2) says.
pub fn close_unpassed(passed: u32, keep: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    /// A new descriptor gets the lowest number that is free, so ours are all below this.
    const LOW: u32 = 1 << 16;
    let keep = sorted(keep);
    let end = passed.saturating_add(3);
    for number in (3..end.min(LOW)).filter(|number| !keep.contains(number)) {
        // SAFETY: F_GETFD only reads the table; a closed number answers EBADF.
        let flags = unsafe { libc::fcntl(number.cast_signed(), libc::F_GETFD) };
        if flags >= 0 && flags & libc::FD_CLOEXEC != 0 {
            close_range(number, number)?;
        }
    }
    close_between(end, &keep)
}

fn sorted(fds: &[BorrowedFd<'_>]) -> Vec<u32> {
    let mut numbers: Vec<u32> = fds.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    numbers.sort_unstable();
    numbers
}

/// Closes every descriptor from `first` on but those of `keep`, which is sorted.
fn close_between(mut first: u32, keep: &[u32]) -> Result<(), Errno> {
    for kept in keep {
        if first < *kept {
            close_range(first, kept - 1)?;
        }
        first = first.max(kept + 1);
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the callers are children that have no live handle to one of these numbers.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Closes every descriptor from `first` on.
///
/// Only for the first lines of `main`, where no handle owns one of them yet, and for a cloned child
/// that uses none of its copies any more.
///
/// # Errors
/// What close_range(2) says.
pub fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: a caller at one of the two places named above has no live handle to one of these numbers.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Closes every descriptor from 3 on but those of `keep`.
///
/// Only for a cloned child that uses none of its other copies any more.
///
/// # Errors
/// What close_range(2) says.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    close_between(3, &sorted(keep))
}
