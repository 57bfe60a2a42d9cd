//! What the process leaves behind when it begins, and what it gives up before it hears of containers.
//!
//! Whoever takes it over by bytes of a container or a name server has `CAP_NET_ADMIN` in the host's network namespace,
//! which is what the process is for, and otherwise no capability, no new privilege and no program, and can write to no
//! file but the kernel's settings of networks, where Landlock is there to see to that.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::SocketType;
use rustix::process::Resource;
use sys::Errno;
use sys::creds::{CAP_NET_ADMIN, Capabilities};
use sys::landlock;
use sys::socket::FdSocket;

use super::{filter, poller};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGPIPE: i32 = 13;
const SIGTERM: i32 = 15;
const SIGXFSZ: i32 = 25;
/// SIGBUS and SIGSEGV.
const FAULTS: [i32; 2] = [7, 11];
/// `RLIMIT_NOFILE`.
const NOFILE: u32 = 7;
/// `SECCOMP_FILTER_FLAG_LOG`: what is refused shows in the audit log.
const LOG_REFUSALS: u32 = 1 << 1;

/// Leaves the session, directory and descriptors of whoever started us; gives the connection that was standard input.
pub(super) fn detach() -> Result<Option<FdSocket>, Errno> {
    // The daemon's descriptors are close-on-exec, but others may start us too.
    sys::fd::close_from(3)?;
    let stdin = sys::fd::take_inherited(0);
    let first = stdin.filter(|fd| rustix::net::sockopt::socket_type(fd) == Ok(SocketType::SEQPACKET));
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for number in 0..=1 {
        sys::fd::set_standard(null.as_fd(), number)?;
    }
    // Already the leader of a session when the starter saw to it.
    let _ = rustix::process::setsid();
    let _ = sys::process::set_name(c"dhow-net");
    rustix::process::umask(Mode::from_raw_mode(0o077));
    // It ends when it is told to; what a terminal or the end of a session sends is for the daemon.
    sys::process::ignore_signals(&[SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGXFSZ]);
    // A descriptor for every port, connection and question.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = sys::process::set_rlimit(NOFILE, limit.maximum.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    Ok(first.map(FdSocket::new))
}

/// Gives up what is not needed to serve. `directory` is where the socket file is, to be removed at the end. What is
/// returned has to stay open.
pub(super) fn give_up(directory: &Path) -> Result<Option<OwnedFd>, Errno> {
    rustix::process::chdir("/")?;
    sys::creds::set_dumpable(false)?;
    sys::creds::set_ambient(0)?;
    sys::creds::limit_bounding_set(CAP_NET_ADMIN)?;
    let keep = sys::creds::capabilities()?.permitted & CAP_NET_ADMIN;
    sys::creds::set_capabilities(Capabilities { effective: keep, permitted: keep, inheritable: 0 })?;
    // The start-up code of the language wants to explain a stack overflow and could not return from that.
    sys::process::default_signals(&FAULTS);
    sys::creds::set_no_new_privileges()?;
    let settings = close_files(directory)?;
    // The first look at the clock asks the kernel where the clock is.
    let _ = poller::now();
    if let Some(program) = filter::program() {
        sys::seccomp::load(&program, LOG_REFUSALS)?;
    }
    Ok(settings)
}

/// The open directory of settings keeps it the one that the rule is about: the kernel makes it anew when it forgets it.
fn close_files(directory: &Path) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let settings = rustix::fs::open("/proc/sys/net", flags, Mode::empty());
    let mut allowed = vec![(directory.as_fd(), landlock::REMOVE)];
    allowed.extend(settings.iter().map(|settings| (settings.as_fd(), landlock::WRITE)));
    match landlock::allow_changes_only(&allowed) {
        // Older kernels, and those that were not told to.
        Ok(()) | Err(Errno::NOSYS | Errno::OPNOTSUPP) => Ok(settings.ok()),
        Err(errno) => Err(errno),
    }
}
