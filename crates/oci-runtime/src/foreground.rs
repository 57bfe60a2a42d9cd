//! A process of a container in the foreground: signals are passed on to it, its terminal is shown, its exit code is
//! the command's.

use std::os::fd::{AsFd, OwnedFd};

use runtime::Spawning;
use rustix::event::{PollFd, PollFlags, poll};
use sys::Errno;

use crate::console::Screen;
use crate::error::{Doing, Result};

const SIGCHLD: i32 = 17;
const SIGWINCH: i32 = 28;
/// What the kernel raises for a fault of one's own, and what cannot be caught anyway.
const OWN: [i32; 9] = [4, 5, 7, 8, 9, 11, 19, 31, SIGCHLD];

/// Signals caught for passing on. Made before the process is born, so that none is lost in between.
pub(crate) struct Signals(OwnedFd);

impl Signals {
    /// Blocks what can be passed on.
    pub(crate) fn catch() -> Result<Self> {
        let all: Vec<i32> = (1..=64).filter(|signal| !OWN.contains(signal) && !matches!(signal, 32 | 33)).collect();
        sys::process::signal_fd(&all).map(Self).doing(|| "catch signals".to_owned())
    }
}

/// Waits until the child has said something.
pub(crate) fn wait_readable(spawning: &Spawning) -> Result<()> {
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(spawning.status(), PollFlags::IN)], None) {
            Err(Errno::INTR) => {}
            other => return other.map(drop).doing(|| "wait for the container's process".to_owned()),
        }
    }
}

/// Stays with the running process until it ends; gives its exit code, or 128 + signal.
pub(crate) fn attend(spawning: &mut Spawning, signals: &Signals) -> Result<u8> {
    let mut screen = spawning.status.master.take().map(Screen::new);
    loop {
        let mut fds = vec![PollFd::new(&spawning.pidfd, PollFlags::IN), PollFd::new(&signals.0, PollFlags::IN)];
        if let Some(screen) = &screen {
            fds.extend(screen.watched());
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => other.doing(|| "wait for the container's process".to_owned())?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready[1] {
            for signal in sys::process::read_signal_fd(signals.0.as_fd()) {
                match (&screen, signal) {
                    (Some(screen), SIGWINCH) => screen.resize(),
                    _ => {
                        let _ = sys::process::pidfd_signal(spawning.pidfd.as_fd(), signal);
                    }
                }
            }
        }
        if let Some(open) = &mut screen
            && (ready[2] || ready[3])
            && !open.pass(ready[2], ready[3])
        {
            // Closed by the container: its end is what is left to wait for.
            screen = None;
        }
        if ready[0] {
            if let Some(screen) = &mut screen {
                screen.drain();
            }
            let code = sys::process::wait_for(spawning.pid).doing(|| "take the container's exit code".to_owned())?;
            return Ok(u8::try_from(code).unwrap_or(u8::MAX));
        }
    }
}
