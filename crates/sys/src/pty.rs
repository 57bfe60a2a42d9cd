//! Pseudo terminals. The slave is always taken from the master by ioctl (TIOCGPTPEER), never by its path,
//! which others could have replaced.
//! Called by `runtime` (make) and `shim` (resize).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::Errno;
use crate::raw::check;

/// Magic number of devpts (linux/magic.h).
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// Both ends of a terminal.
#[derive(Debug)]
pub struct Pty {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

/// Opens a new terminal of the devpts mounted at `pts`, a descriptor of that directory.
///
/// # Errors
/// `ENODEV` when the directory is not the root of a devpts, else what open(2) or ioctl_tty(2) says.
pub fn open(pts: BorrowedFd<'_>) -> Result<Pty, Errno> {
    if rustix::fs::fstatfs(pts)?.f_type != DEVPTS_SUPER_MAGIC {
        return Err(Errno::NODEV);
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let master = rustix::fs::openat2(pts, "ptmx", flags, Mode::empty(), resolve)?;
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    Ok(Pty { master, slave })
}

/// Tells the terminal its size in characters; its foreground processes get SIGWINCH when it changed.
///
/// # Errors
/// What ioctl_tty(2) says.
pub fn resize(fd: BorrowedFd<'_>, rows: u16, cols: u16) -> Result<(), Errno> {
    rustix::termios::tcsetwinsize(fd, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 })
}

/// Makes the terminal the controlling one of the calling session leader.
///
/// # Errors
/// What ioctl_tty(2) says.
pub fn make_controlling(slave: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: TIOCSCTTY takes an integer: 0 does not steal the terminal of another session.
    check(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) }.into()).map(drop)
}
