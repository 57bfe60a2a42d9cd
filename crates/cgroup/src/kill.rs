//! Signals to every process of a group.
//!
//! Invariant: a signal goes to a process only while it is held and seen in the group, so that a number used
//! again is no other process's death. Called to stop and to delete containers.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::group::Cgroup;
use crate::{Error, file};

const SIGKILL: i32 = 9;
/// Rounds of signals before processes that keep appearing win.
const KILL_ROUNDS: usize = 20;

impl Cgroup {
    /// Sends `signal`, a number of signal(7), to every process in the group and the groups below it, once. A process
    /// that starts meanwhile may be missed.
    ///
    /// # Errors
    /// [`Error::Io`] if the group cannot be listed; [`Error::Invalid`] for a number that is no signal.
    pub fn signal_all(&self, signal: i32) -> Result<(), Error> {
        if !(1..=64).contains(&signal) {
            let reason = "it is a number from 1 to 64";
            return Err(Error::Invalid { control: "a signal", value: signal.to_string(), reason });
        }
        self.signal_once(signal).map(drop)
    }

    /// Whether there was a process to signal.
    fn signal_once(&self, signal: i32) -> Result<bool, Error> {
        let before = self.pids()?;
        if before.is_empty() {
            return Ok(false);
        }
        let held: Vec<(i32, OwnedFd)> = before
            .into_iter()
            .filter_map(|raw| Some((raw, pidfd_open(Pid::from_raw(raw)?, PidfdFlags::empty()).ok()?)))
            .collect();
        // A number still listed now that its process is held cannot be a stranger's.
        let after = self.pids()?;
        for (raw, fd) in held {
            if after.binary_search(&raw).is_ok() {
                let _ = sys::process::pidfd_signal(fd.as_fd(), signal);
            }
        }
        Ok(true)
    }

    /// Kills every process in the group, frozen or not. Returns once signals are sent and no process is left to
    /// send one to, which need not mean that the last is reaped.
    ///
    /// # Errors
    /// [`Error::Io`] if the group cannot be listed; [`Error::Timeout`] if processes keep appearing.
    pub fn kill(&self) -> Result<(), Error> {
        // One atomic order since Linux 5.14; only processes that are in the v2 group hear it.
        let atomic = self.v2_dir().is_some_and(|dir| file::write(dir, "cgroup.kill", "1").is_ok());
        if atomic && self.v1.is_empty() {
            return Ok(());
        }
        for round in 0..KILL_ROUNDS {
            if !self.signal_once(SIGKILL)? {
                return Ok(());
            }
            // A frozen v1 group acts on the signal when thawed.
            let _ = self.thaw();
            std::thread::sleep(Duration::from_millis(1 << round.min(5)));
        }
        if self.pids()?.is_empty() {
            return Ok(());
        }
        Err(Error::Timeout { path: PathBuf::from(&self.path), wanted: "empty", seconds: 1 })
    }
}
