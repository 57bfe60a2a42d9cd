//! Processes: signals by pidfd, waiting, execution, and small per-process settings.
//! Called by `shim`, `runtime` and the daemon.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::Errno;
use crate::raw::{check, last_errno};

/// A descriptor for the process, which its number may outlive (pidfd_open(2)).
///
/// # Errors
/// `ESRCH` when there is no such process, `EINVAL` for a number that is none.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(Errno::INVAL)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
}

/// Sends a signal; 0 only asks whether the process exists.
///
/// # Errors
/// What pidfd_send_signal(2) says.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: no siginfo is passed, flags are 0.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    })
    .map(drop)
}

/// Sends a signal to a process by number: for a child not yet waited for, whose number cannot be taken.
///
/// # Errors
/// What kill(2) says.
pub fn kill_child(pid: i32, signal: i32) -> Result<(), Errno> {
    if pid <= 1 {
        return Err(Errno::INVAL);
    }
    // SAFETY: integers only.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// A child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub pid: i32,
    /// Exit status, or 128 + signal.
    pub code: i32,
}

/// What waiting for any child has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    Ended(Ended),
    /// A child that had made the caller its tracer (`PTRACE_TRACEME`) and stopped. It runs on, untraced.
    LetGo,
}

/// Takes one ended child of the caller, adopted orphans included; `None` when none has ended.
///
/// A child can ask to be traced by its parent without the parent's consent, and stops of a traced child
/// are reported whether asked for or not (ptrace(2)). Such a stop is no end: the child is let go of.
///
/// # Errors
/// `ECHILD` when there is no child at all.
pub fn reap_any() -> Result<Option<Reaped>, Errno> {
    rustix::process::wait(rustix::process::WaitOptions::NOHANG).map(taken)
}

/// As [`reap_any`] for the child `pid` alone.
///
/// # Errors
/// `ECHILD` when it is no child of the caller.
pub fn reap(pid: i32) -> Result<Option<Reaped>, Errno> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(Errno::CHILD)?;
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG).map(taken)
}

fn taken(waited: Option<(rustix::process::Pid, rustix::process::WaitStatus)>) -> Option<Reaped> {
    let (pid, status) = waited?;
    let pid = pid.as_raw_nonzero().get();
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => {
            // The signal that stopped it is still to be delivered; a trap is only there for a tracer.
            let signal = status.stopping_signal().filter(|signal| *signal != libc::SIGTRAP).unwrap_or(0);
            // SAFETY: detaching takes integers only and touches no memory of ours.
            unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_DETACH, pid, 0, signal & 0x7f) };
            return Some(Reaped::LetGo);
        }
    };
    Some(Reaped::Ended(Ended { pid, code }))
}

/// Asks for SIGKILL when the parent ends (`PR_SET_PDEATHSIG`), which the caller's own children do not inherit.
/// A parent that is already gone sends nothing: look at getppid(2) afterwards.
///
/// # Errors
/// What prctl(2) says.
pub fn die_with_parent() -> Result<(), Errno> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
}

/// Arguments or environment as execve(2) wants them. Items with a NUL inside are an error.
#[derive(Debug)]
pub struct CArray {
    items: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl CArray {
    /// Copies the items.
    ///
    /// # Errors
    /// `EINVAL` when one contains a NUL byte.
    pub fn new<'a>(items: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Errno> {
        let items: Vec<CString> =
            items.into_iter().map(CString::new).collect::<Result<_, _>>().map_err(|_| Errno::INVAL)?;
        let pointers = items.iter().map(|item| item.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Self { items, pointers })
    }

    /// The items, without the terminating null pointer.
    #[must_use]
    pub fn items(&self) -> &[CString] {
        &self.items
    }
}

/// Becomes the program at `path`. Returns only when that failed, with the reason.
#[must_use]
pub fn execve(path: &CStr, args: &CArray, env: &CArray) -> Errno {
    // SAFETY: the path is NUL-terminated, both arrays end with a null pointer and their strings live in `items`.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    last_errno()
}

/// Ends the process at once: no destructors, no exit handlers. The end of a cloned child.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(code) }
}

/// Sets a resource limit of the calling process. `u64::MAX` is no limit.
///
/// # Errors
/// `EPERM` when raising the hard limit without `CAP_SYS_RESOURCE`, `EINVAL` for an unknown resource.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` outlives the call; no old value is asked for.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, std::ptr::null_mut::<libc::rlimit64>())
    })
    .map(drop)
}

/// Sets a resource limit of another process, by number: for a child not yet waited for, whose number cannot be taken.
///
/// # Errors
/// As [`set_rlimit`]; `ESRCH`.
pub fn set_rlimit_of(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` outlives the call; no old value is asked for.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, std::ptr::null_mut::<libc::rlimit64>())
    })
    .map(drop)
}

/// Waits until the child `pid` has ended, and gives its exit status, or 128 + signal.
///
/// # Errors
/// `ECHILD` when it is no child of the caller.
pub fn wait_for(pid: i32) -> Result<i32, Errno> {
    use rustix::process::{Pid, WaitOptions, waitpid};
    let pid = Pid::from_raw(pid).ok_or(Errno::CHILD)?;
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => {
                if let Some(code) = status.exit_status().or_else(|| status.terminating_signal().map(|n| 128 + n)) {
                    return Ok(code);
                }
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Gives every signal its default action and unblocks all: what a new program should find.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no handler; SIGKILL, SIGSTOP and libc's own two answer EINVAL, which is fine.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero sigset_t is a valid value for sigemptyset to overwrite.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Gives `signals` their default action, whatever the language's start-up code or the starter chose.
pub fn default_signals(signals: &[i32]) {
    for signal in signals {
        // SAFETY: SIG_DFL installs no handler.
        unsafe { libc::signal(*signal, libc::SIG_DFL) };
    }
}

/// Ignores signals for the calling process; programs it executes would inherit that, so reset before.
pub fn ignore_signals(signals: &[i32]) {
    for signal in signals {
        // SAFETY: SIG_IGN installs no handler.
        unsafe { libc::signal(*signal, libc::SIG_IGN) };
    }
}

fn signal_set(signals: Option<&[i32]>) -> libc::sigset_t {
    // SAFETY: sigset_t is plain bits; sigfillset and sigemptyset initialise it, sigaddset checks its number.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        match signals {
            None => {
                libc::sigfillset(&raw mut set);
            }
            Some(signals) => {
                libc::sigemptyset(&raw mut set);
                for signal in signals {
                    libc::sigaddset(&raw mut set, *signal);
                }
            }
        }
        set
    }
}

/// Blocks `signals` and gives a descriptor that becomes readable when one arrives (signalfd(2)),
/// close-on-exec and non-blocking.
///
/// # Errors
/// What sigprocmask(2) or signalfd(2) says.
pub fn signal_fd(signals: &[i32]) -> Result<OwnedFd, Errno> {
    let set = signal_set(Some(signals));
    // SAFETY: `set` is initialised and outlives both calls.
    unsafe {
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()).into())?;
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)))
    }
}

/// Takes everything waiting in a signal descriptor; what arrived is of no interest beyond that.
pub fn drain_signal_fd(fd: BorrowedFd<'_>) {
    let mut buffer = [0u8; 128 * 8];
    while rustix::io::read(fd.as_fd(), &mut buffer).is_ok_and(|len| len > 0) {}
}

/// Takes everything waiting in a signal descriptor and gives the numbers, in order.
#[must_use]
pub fn read_signal_fd(fd: BorrowedFd<'_>) -> Vec<i32> {
    // `struct signalfd_siginfo` has 128 bytes and begins with the number (signalfd(2)).
    let mut buffer = [0u8; 128 * 16];
    let mut signals = Vec::new();
    while let Ok(len) = rustix::io::read(fd, &mut buffer) {
        if len == 0 {
            break;
        }
        let records = buffer[..len].chunks_exact(128);
        signals.extend(records.map(|record| i32::from_ne_bytes([record[0], record[1], record[2], record[3]])));
    }
    signals
}

/// Blocks every signal of the calling thread, for [`wait_signal`].
pub fn block_all_signals() {
    let set = signal_set(None);
    // SAFETY: `set` is initialised and outlives the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
}

/// Waits for any blocked signal and gives its number.
///
/// # Errors
/// `EINTR` when a signal that is not blocked came first.
pub fn wait_signal() -> Result<i32, Errno> {
    let set = signal_set(None);
    // SAFETY: `set` is initialised; no details are asked for.
    let signal = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
    check(signal.into()).map(|signal| i32::try_from(signal).unwrap_or(0))
}

/// A name for process lists, cut to 15 bytes.
///
/// # Errors
/// What prctl(2) says.
pub fn set_name(name: &CStr) -> Result<(), Errno> {
    rustix::thread::set_name(name)
}

/// Adopts orphaned descendants, so that they are reaped here.
///
/// # Errors
/// What prctl(2) says.
pub fn become_subreaper() -> Result<(), Errno> {
    // Any process number means "on" to the wrapper.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
}

/// Sets host and domain name of the calling UTS namespace; an empty one stays as it is.
///
/// # Errors
/// What sethostname(2) or setdomainname(2) says.
pub fn set_names(hostname: &str, domainname: &str) -> Result<(), Errno> {
    if !hostname.is_empty() {
        rustix::system::sethostname(hostname.as_bytes())?;
    }
    if !domainname.is_empty() {
        rustix::system::setdomainname(domainname.as_bytes())?;
    }
    Ok(())
}
