//! The parent's half of a start: the status socket, the pid namespace, and one clone3.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use launch::{CgroupHandle, ExecPlan, FailureStage, FdIndex, LaunchPlan, NamespaceSource};
use sys::Errno;
use sys::clone::{Cloned, flags};
use sys::socket::FdSocket;

use crate::child;
use crate::failure::{At, Failure};
use crate::report::{Reporter, Spawning};

/// Where the standard streams of a new process lead.
#[derive(Clone, Copy, Debug)]
pub enum Stdio<'a> {
    /// Three open descriptors.
    Streams { stdin: BorrowedFd<'a>, stdout: BorrowedFd<'a>, stderr: BorrowedFd<'a> },
    /// A new terminal of the container's own devpts; its master arrives in [`Spawning::master`].
    Terminal { rows: u16, cols: u16 },
}

/// The descriptors of a plan, looked up by index with a check.
#[derive(Clone, Copy)]
pub(crate) struct Fds<'a>(&'a [OwnedFd]);

impl<'a> Fds<'a> {
    pub(crate) fn get(self, index: FdIndex) -> Result<BorrowedFd<'a>, Failure> {
        self.0.get(usize::from(index)).map(AsFd::as_fd).ok_or_else(|| {
            Failure::new(
                FailureStage::Protocol,
                Errno::BADF,
                format!("the plan names descriptor {index} but only {} came with it", self.0.len()),
            )
        })
    }
}

/// Starts the container a plan describes. `fds` are the plan's descriptors.
///
/// # Errors
/// [`Failure`] when not even a child came to be; later failures come through [`Spawning::advance`].
pub fn spawn(plan: &LaunchPlan, fds: &[OwnedFd], stdio: Stdio<'_>) -> Result<Spawning, Failure> {
    let fds = Fds(fds);
    let namespaces = &plan.namespaces;
    let mut new = flags::NEWNS;
    for (source, flag) in [
        (namespaces.net, flags::NEWNET),
        (namespaces.pid, flags::NEWPID),
        (namespaces.ipc, flags::NEWIPC),
        (namespaces.uts, flags::NEWUTS),
    ] {
        if source == NamespaceSource::New {
            new |= flag;
        }
    }
    // The cgroup namespace is rooted where its maker is, so the child makes it after it has joined its group.
    let pid_ns = match namespaces.pid {
        NamespaceSource::Join(index) => Some(fds.get(index)?),
        NamespaceSource::New | NamespaceSource::Host => None,
    };
    start(new, pid_ns, &plan.cgroup, fds, |reporter| child::container(plan, fds, stdio, reporter))
}

/// Starts a further process in the container whose first process is `target` (a pidfd).
///
/// # Errors
/// As [`spawn`]; `NotRunning` when the container is gone.
pub fn exec(plan: &ExecPlan, fds: &[OwnedFd], target: BorrowedFd<'_>, stdio: Stdio<'_>) -> Result<Spawning, Failure> {
    let fds = Fds(fds);
    start(0, Some(target), &plan.cgroup, fds, |reporter| child::exec(plan, fds, target, stdio, reporter))
}

/// As [`exec`], with the new process a child of the caller's parent, which hears of its end and reaps it.
///
/// # Errors
/// As [`exec`].
pub fn exec_as_sibling(
    plan: &ExecPlan,
    fds: &[OwnedFd],
    target: BorrowedFd<'_>,
    stdio: Stdio<'_>,
) -> Result<Spawning, Failure> {
    let fds = Fds(fds);
    start(flags::PARENT, Some(target), &plan.cgroup, fds, |reporter| child::exec(plan, fds, target, stdio, reporter))
}

/// Clones, with the child born in `pid_ns` when given, and runs `run` in the child, which never comes back.
fn start(
    new: u64,
    pid_ns: Option<BorrowedFd<'_>>,
    cgroup: &CgroupHandle,
    fds: Fds<'_>,
    run: impl FnOnce(&Reporter) -> Failure,
) -> Result<Spawning, Failure> {
    let (ours, theirs) =
        FdSocket::pair().at(FailureStage::Clone, || "make the status socket of a new process".to_owned())?;
    ours.set_nonblocking(true).at(FailureStage::Clone, || "prepare the status socket".to_owned())?;
    let cgroup = cgroup.v2_dir.map(|index| fds.get(index)).transpose()?;
    let guard = pid_ns.map(PidNamespaceGuard::enter).transpose()?;
    let cloned = sys::clone::clone3(new, cgroup);
    if matches!(cloned, Ok(Cloned::Child)) {
        drop(ours);
        let _abort = ExitOnUnwind;
        let reporter = Reporter::new(theirs);
        let failure = run(&reporter);
        reporter.failed(&failure);
        sys::process::exit_now(255);
    }
    drop(guard);
    match cloned.at(FailureStage::Clone, || "create the process".to_owned())? {
        Cloned::Parent { pid, pidfd } => Ok(Spawning::new(pid, pidfd, ours)),
        Cloned::Child => sys::process::exit_now(255),
    }
}

/// A panic in the child must not unwind into the parent's code, of which it is a copy.
struct ExitOnUnwind;

impl Drop for ExitOnUnwind {
    fn drop(&mut self) {
        sys::process::exit_now(254);
    }
}

/// While alive, children are born in another pid namespace. Entering one changes nothing for the
/// caller itself, and its own can always be taken back.
struct PidNamespaceGuard {
    own: OwnedFd,
}

impl PidNamespaceGuard {
    fn enter(target: BorrowedFd<'_>) -> Result<Self, Failure> {
        let stage = FailureStage::Namespace;
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let own = rustix::fs::open("/proc/self/ns/pid", flags, rustix::fs::Mode::empty())
            .at(stage, || "open the engine's own pid namespace".to_owned())?;
        sys::clone::setns(target, flags::NEWPID).map_err(|errno| {
            let stage = if errno == Errno::SRCH { FailureStage::NotRunning } else { stage };
            Failure::new(stage, errno, format!("cannot enter the pid namespace: {errno}"))
        })?;
        Ok(Self { own })
    }
}

impl Drop for PidNamespaceGuard {
    fn drop(&mut self) {
        // Going back to one's own namespace is always allowed (setns(2)).
        let _ = sys::clone::setns(self.own.as_fd(), flags::NEWPID);
    }
}
