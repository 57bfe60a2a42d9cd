//! The process beside every container: starts it through `runtime`, owns its streams, log, execs and
//! exit record, and outlives the daemon. One thread, one epoll loop, no allocation while idle.
//! Once the container runs it lives under a filter of system calls ([`confine`]); execs are born from a
//! second process without one ([`zygote`]).
//! Called by `bin/dhow-shim`.

mod client;
mod clock;
mod confine;
mod connection;
mod filter;
mod jsonline;
mod log;
mod null;
mod poller;
mod requests;
mod server;
mod task;
mod zygote;

use std::convert::Infallible;
use std::os::fd::AsFd;

use rustix::net::SocketType;
use sys::Errno;
use sys::socket::FdSocket;

/// Why a shim could not begin.
#[derive(Debug)]
pub enum StartError {
    /// Descriptor 0 is not a control connection: somebody else than the daemon started us.
    NotASocket,
    /// The system refused something every shim needs.
    System(Errno),
}

impl From<Errno> for StartError {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// Serves the daemon whose connection is standard input, until the container is over and recorded; then the process
/// ends here, as what the language does after `main` is not what the filter allows.
///
/// # Errors
/// [`StartError`]; once a container runs there is none to return to anybody.
pub fn serve() -> Result<Infallible, StartError> {
    // The daemon's descriptors are close-on-exec, but others may start us too.
    sys::fd::close_from(3)?;
    let stdin = sys::fd::take_inherited(0).ok_or(StartError::NotASocket)?;
    if rustix::net::sockopt::socket_type(&stdin) != Ok(SocketType::SEQPACKET) {
        return Err(StartError::NotASocket);
    }
    detach()?;
    let ended = server::Server::new(FdSocket::new(stdin))?.run();
    sys::process::exit_now(if ended.is_ok() { 0 } else { 125 })
}

/// Lives in a new user namespace, which the daemon maps and takes, until the daemon hangs up standard input.
///
/// # Errors
/// [`StartError`]; the daemon sees the end of the connection then.
pub fn hold_user_namespace() -> Result<(), StartError> {
    sys::fd::close_from(3)?;
    let stdin = sys::fd::take_inherited(0).ok_or(StartError::NotASocket)?;
    if rustix::net::sockopt::socket_type(&stdin) != Ok(SocketType::SEQPACKET) {
        return Err(StartError::NotASocket);
    }
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    // Else the copy below would not be the last end of ours.
    sys::fd::set_standard(null.as_fd(), 0)?;
    sys::clone::unshare(sys::clone::flags::NEWUSER)?;
    let daemon = FdSocket::new(stdin);
    daemon.send(&[1], &[])?;
    // The end of the connection, or of the daemon.
    let _ = daemon.recv(&mut [0; 1]);
    Ok(())
}

/// Leaves the daemon's session and surroundings.
fn detach() -> Result<(), Errno> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
    for number in 0..=2 {
        sys::fd::set_standard(null.as_fd(), number)?;
    }
    // Already the leader of a session when the starter saw to it.
    let _ = rustix::process::setsid();
    let _ = sys::process::set_name(c"dhow-shim");
    rustix::process::chdir("/")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // A container an exec of ours enters must not look into us.
    sys::creds::set_dumpable(false)?;
    sys::process::become_subreaper()?;
    sys::memory::prepare_rest();
    // What a terminal or a session end sends is for the daemon; a container ends when it is told to.
    // A limit on the size of files (setrlimit(2)) is to be an error of the log's write, not the end of us.
    sys::process::ignore_signals(&[SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGXFSZ]);
    Ok(())
}

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGPIPE: i32 = 13;
const SIGTERM: i32 = 15;
const SIGXFSZ: i32 = 25;
