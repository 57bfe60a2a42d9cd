//! The attacker that shares a directory with a container being made, and exchanges names in it without pause.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};

use crate::Attack;

/// Exchanges two names until it is dropped.
#[derive(Debug)]
pub struct Swapper {
    process: Child,
    _program: Attack,
}

impl Swapper {
    /// Starts exchanging. Both names must be there.
    ///
    /// # Panics
    /// When one is not.
    #[must_use]
    pub fn start(a: &Path, b: &Path) -> Self {
        assert!(a.symlink_metadata().is_ok() && b.symlink_metadata().is_ok(), "both names to swap must be there");
        let program = Attack::build("swap");
        let mut command = Command::new(program.path());
        command.arg(a).arg(b).stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.spawn().expect("the program that swaps names");
        Self { process, _program: program }
    }

    /// Leaves the names as they are until [`Swapper::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Goes on after [`Swapper::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.process), signal).expect("to signal the swapper");
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        let still_swapping = matches!(self.process.try_wait(), Ok(None));
        let _ = self.process.kill();
        let _ = self.process.wait();
        // A race without an attacker proves nothing.
        assert!(still_swapping || std::thread::panicking(), "the swapper had stopped by itself");
    }
}
