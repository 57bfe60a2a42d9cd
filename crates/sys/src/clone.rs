//! Process creation by clone3(2): a copy of the calling process, in new namespaces and, on the
//! unified hierarchy, in its control group from its first instruction.
//!
//! The child is a fork: only the calling thread exists in it. With other threads alive their locks
//! would stay taken for ever in the child, so [`clone3`] refuses a caller that has any.
//! Called by `runtime`; a daemon with threads starts programs through [`crate::spawn`].

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Errno;
use crate::raw::check;

/// Namespace flags of clone(2), unshare(2) and setns(2).
pub mod flags {
    /// `CLONE_NEWNS`: mount namespace.
    pub const NEWNS: u64 = libc::CLONE_NEWNS as u64;
    /// `CLONE_NEWCGROUP`: cgroup namespace.
    pub const NEWCGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// `CLONE_NEWUTS`: host and domain name.
    pub const NEWUTS: u64 = libc::CLONE_NEWUTS as u64;
    /// `CLONE_NEWIPC`: System V and POSIX message queues, shared memory.
    pub const NEWIPC: u64 = libc::CLONE_NEWIPC as u64;
    /// `CLONE_NEWUSER`: user and group ids, capabilities.
    pub const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
    /// `CLONE_NEWPID`: process ids.
    pub const NEWPID: u64 = libc::CLONE_NEWPID as u64;
    /// `CLONE_NEWNET`: network devices, addresses, sockets.
    pub const NEWNET: u64 = libc::CLONE_NEWNET as u64;
    /// `CLONE_NEWTIME`: offsets of the monotonic and boot clocks.
    pub const NEWTIME: u64 = 0x80;
    /// `CLONE_PARENT`: the child is the caller's sibling, so that the caller's parent reaps it.
    pub const PARENT: u64 = libc::CLONE_PARENT as u64;
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of linux/sched.h, as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Which side of the clone we are on.
#[derive(Debug)]
pub enum Cloned {
    Parent {
        /// In the caller's pid namespace.
        pid: i32,
        /// Close-on-exec.
        pidfd: OwnedFd,
    },
    Child,
}

/// Set in every child of [`clone3`], which is single-threaded by construction, also where no `/proc` can tell.
static IS_CLONE: AtomicBool = AtomicBool::new(false);

/// Whether the caller is the process's only thread. `/proc/self/task` has one link per thread beside its own two.
#[must_use]
pub fn is_single_threaded() -> bool {
    IS_CLONE.load(Ordering::Relaxed) || rustix::fs::stat("/proc/self/task").is_ok_and(|stat| stat.st_nlink == 3)
}

/// Forks the calling process with the namespaces in `flags` ([`flags`]) and, when given, straight into
/// the v2 control group whose directory `cgroup` is. The parent (with [`flags::PARENT`] the caller's own) is told by
/// SIGCHLD when the child ends.
///
/// # Errors
/// `EDEADLK` when the caller has other threads; else what clone3(2) says.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned, Errno> {
    if !is_single_threaded() {
        return Err(Errno::DEADLK);
    }
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        // A sibling ends with the signal the caller itself ends with; clone3 wants none named.
        exit_signal: if flags & flags::PARENT == 0 { libc::SIGCHLD as u64 } else { 0 },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: `args` is a valid clone_args of the size passed and `pidfd` outlives the call. Without
    // CLONE_VM the child runs on its own copy of this stack. The caller is the only thread (checked
    // above), so every lock in the child's copy of memory is in a consistent, free state.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match check(ret)? {
        0 => {
            IS_CLONE.store(true, Ordering::Relaxed);
            Ok(Cloned::Child)
        }
        pid => {
            // SAFETY: the kernel stored a fresh descriptor there, owned by nobody else.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: i32::try_from(pid).unwrap_or(i32::MAX), pidfd })
        }
    }
}

/// Moves the calling thread into new namespaces (unshare(2)); with `NEWPID` and `NEWTIME` only where later children
/// are born.
///
/// # Errors
/// What unshare(2) says.
pub fn unshare(flags: u64) -> Result<(), Errno> {
    // SAFETY: only namespace flags are passed on, which change no memory or descriptor table.
    check(unsafe { libc::syscall(libc::SYS_unshare, flags & NAMESPACES) }).map(drop)
}

const NAMESPACES: u64 = flags::NEWNS
    | flags::NEWCGROUP
    | flags::NEWUTS
    | flags::NEWIPC
    | flags::NEWUSER
    | flags::NEWPID
    | flags::NEWNET
    | flags::NEWTIME;

/// Enters the namespace behind `fd` (a namespace file and its one flag, or a pidfd and any set; setns(2)).
/// `NEWPID` changes only where later children are born.
///
/// # Errors
/// What setns(2) says.
pub fn setns(fd: BorrowedFd<'_>, flags: u64) -> Result<(), Errno> {
    // SAFETY: plain integers; the descriptor is borrowed for the call.
    check(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), flags) }).map(drop)
}
