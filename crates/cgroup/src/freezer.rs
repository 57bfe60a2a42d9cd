//! Pausing: v1 `freezer.state`, v2 `cgroup.freeze`. On a hybrid host the v1 freezer is used where it is
//! mounted, since v1 membership is what every process of a container is sure to have.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Cgroup, Error, apply_v2, file};

/// Whether a group runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezerState {
    /// It runs.
    Thawed,
    /// It has been told to stop but some process has not yet.
    Freezing,
    /// Every process has stopped.
    Frozen,
}

/// How long [`Cgroup::freeze`] waits for the last process.
const PATIENCE: Duration = Duration::from_secs(10);

enum Freezer<'a> {
    V1(&'a Path),
    V2(&'a Path),
}

impl Cgroup {
    fn freezer(&self) -> Result<Freezer<'_>, Error> {
        match (self.v1_dir("freezer"), self.v2_dir()) {
            (Some(dir), _) => Ok(Freezer::V1(dir)),
            (None, Some(dir)) => Ok(Freezer::V2(dir)),
            (None, None) => Err(Error::Unsupported {
                control: "running (pause)",
                reason: "the cgroup v1 controller 'freezer' is not mounted".to_owned(),
            }),
        }
    }

    /// Stops every process of the group and waits until they have stopped. A group that does not get there is
    /// set running again.
    ///
    /// # Errors
    /// [`Error::Timeout`] after ten seconds, [`Error::Unsupported`], [`Error::Write`].
    pub fn freeze(&self) -> Result<(), Error> {
        let freezer = self.freezer()?;
        let start = Instant::now();
        let mut pause = Duration::from_micros(100);
        let mut round = 0;
        loop {
            // v1 may lose the order to a process that forks or wakes: it is repeated until it sticks.
            freezer.set(true)?;
            if freezer.state()? == FreezerState::Frozen {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                freezer.set(false)?;
                return Err(Error::Timeout {
                    path: PathBuf::from(self.path()),
                    wanted: "frozen",
                    seconds: PATIENCE.as_secs(),
                });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
            round += 1;
            // A v1 group in which processes keep appearing may never get there; running for a moment it may.
            if round % 50 == 0 && matches!(freezer, Freezer::V1(_)) {
                freezer.set(false)?;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Sets the group running.
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::Write`]
    pub fn thaw(&self) -> Result<(), Error> {
        self.freezer()?.set(false)
    }

    /// Whether the group runs.
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::Io`]
    pub fn freezer_state(&self) -> Result<FreezerState, Error> {
        self.freezer()?.state()
    }
}

impl Freezer<'_> {
    fn set(&self, frozen: bool) -> Result<(), Error> {
        match self {
            Freezer::V1(dir) => file::write(dir, "freezer.state", if frozen { "FROZEN" } else { "THAWED" }),
            Freezer::V2(dir) => apply_v2::set_frozen(dir, frozen),
        }
    }

    fn state(&self) -> Result<FreezerState, Error> {
        match self {
            Freezer::V1(dir) => {
                let path = dir.join("freezer.state");
                let text = file::read(&path)?;
                match text.trim() {
                    "THAWED" => Ok(FreezerState::Thawed),
                    "FREEZING" => Ok(FreezerState::Freezing),
                    "FROZEN" => Ok(FreezerState::Frozen),
                    other => Err(file::malformed(&path, other)),
                }
            }
            Freezer::V2(dir) => {
                let wanted = file::read(&dir.join("cgroup.freeze"))?.trim() == "1";
                let events = file::read(&dir.join("cgroup.events"))?;
                let there = file::flat_keyed(&events).any(|(key, value)| key == "frozen" && value == 1);
                Ok(match (wanted, there) {
                    (_, true) => FreezerState::Frozen,
                    (true, false) => FreezerState::Freezing,
                    (false, false) => FreezerState::Thawed,
                })
            }
        }
    }
}
