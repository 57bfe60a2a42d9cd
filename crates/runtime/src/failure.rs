//! Why a process did not come to be: the stage, the errno, and a text for the user.
//! Made in the child, carried over the status socket, read by the shim.

use launch::FailureStage;
use sys::Errno;

/// A launch or exec that failed; nothing of it is left running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub stage: FailureStage,
    /// 0 when no system call is behind it.
    pub errno: i32,
    pub detail: String,
}

impl Failure {
    /// A failure with the errno behind it.
    pub fn new(stage: FailureStage, errno: Errno, detail: impl Into<String>) -> Self {
        Self { stage, errno: errno.raw_os_error(), detail: detail.into() }
    }
}

/// Names what was being done when a system call failed.
pub trait At<T> {
    /// `what` reads as "cannot {what}"; the error's own text is appended.
    ///
    /// # Errors
    /// The same, as a [`Failure`].
    fn at(self, stage: FailureStage, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, stage: FailureStage, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|errno| Failure::new(stage, errno, format!("cannot {}: {errno}", what())))
    }
}

/// The stages in the order of their wire numbers on the status socket; both ends are this very binary.
const STAGES: [FailureStage; 24] = [
    FailureStage::Protocol,
    FailureStage::Io,
    FailureStage::Clone,
    FailureStage::Cgroup,
    FailureStage::Namespace,
    FailureStage::Hostname,
    FailureStage::RootFs,
    FailureStage::Mount,
    FailureStage::Device,
    FailureStage::MaskedPath,
    FailureStage::Pivot,
    FailureStage::Sysctl,
    FailureStage::Console,
    FailureStage::Rlimit,
    FailureStage::Capability,
    FailureStage::Credentials,
    FailureStage::Seccomp,
    FailureStage::Cwd,
    FailureStage::Exec,
    FailureStage::NotRunning,
    FailureStage::NoSuchExec,
    FailureStage::Log,
    FailureStage::Hook,
    FailureStage::Scheduling,
];

pub(crate) fn stage_number(stage: FailureStage) -> u8 {
    STAGES.iter().position(|known| *known == stage).and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
}

pub(crate) fn stage_of(number: u8) -> FailureStage {
    STAGES.get(usize::from(number)).copied().unwrap_or(FailureStage::Protocol)
}
