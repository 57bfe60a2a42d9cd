//! The parent's half of a start: the status socket, the namespaces the child is to be born in, and one clone3.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use launch::{CgroupHandle, ExecPlan, FailureStage, FdIndex, LaunchPlan, NamespaceSource};
use sys::Errno;
use sys::clone::{Cloned, flags};
use sys::socket::FdSocket;

use crate::failure::{At, Failure};
use crate::report::{Reporter, Spawning, Status};
use crate::stages::Stages;
use crate::visit::Visit;
use crate::{child, foreign};

/// Where the standard streams of a new process lead.
#[derive(Clone, Copy, Debug)]
pub enum Stdio<'a> {
    /// Three open descriptors.
    Streams { stdin: BorrowedFd<'a>, stdout: BorrowedFd<'a>, stderr: BorrowedFd<'a> },
    /// A new terminal of the container's own devpts; its master arrives in [`Status::master`].
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

    pub(crate) fn joined(self, source: NamespaceSource) -> Result<Option<BorrowedFd<'a>>, Failure> {
        match source {
            NamespaceSource::Join(index) => self.get(index).map(Some),
            NamespaceSource::New | NamespaceSource::Host => Ok(None),
        }
    }
}

/// Starts the container a plan describes. `fds` are the plan's descriptors.
///
/// # Errors
/// [`Failure`] when not even a child came to be; later failures come through [`Spawning::advance`].
pub fn spawn(
    plan: &LaunchPlan,
    fds: &[OwnedFd],
    stdio: Stdio<'_>,
    stages: &mut dyn Stages,
) -> Result<Spawning, Failure> {
    let fds = Fds(fds);
    foreign::refuse_settings(plan, fds)?;
    let namespaces = &plan.namespaces;
    let mut new = 0;
    // The cgroup namespace is rooted where its maker is, so the child makes it after it has joined its group.
    // A time namespace is not entered by whoever makes it.
    for (source, flag) in [
        (namespaces.mount, flags::NEWNS),
        (namespaces.net, flags::NEWNET),
        (namespaces.pid, flags::NEWPID),
        (namespaces.ipc, flags::NEWIPC),
        (namespaces.uts, flags::NEWUTS),
        (namespaces.user, flags::NEWUSER),
    ] {
        if source == NamespaceSource::New {
            new |= flag;
        }
    }
    let mut birth = Birth { new, cgroup: &plan.cgroup, visit: Visit::default(), user: None, pid: None };
    match namespaces.user {
        NamespaceSource::Host => {
            birth.pid = fds.joined(namespaces.pid)?;
            if namespaces.time == NamespaceSource::New {
                birth.visit.new_time(&plan.time_offsets)?;
            }
        }
        // From the new namespace there is no way into one that is not below it: what is joined is joined before.
        NamespaceSource::New => {
            birth.pid = fds.joined(namespaces.pid)?;
            for (source, flag, name) in [
                (namespaces.net, flags::NEWNET, "net"),
                (namespaces.ipc, flags::NEWIPC, "ipc"),
                (namespaces.uts, flags::NEWUTS, "uts"),
                (namespaces.cgroup, flags::NEWCGROUP, "cgroup"),
                (namespaces.time, flags::NEWTIME, "time"),
            ] {
                if let Some(target) = fds.joined(source)? {
                    birth.visit.enter(target, flag, name)?;
                }
            }
        }
        NamespaceSource::Join(index) => {
            birth.user = Some(fds.get(index)?);
            birth.pid = fds.joined(namespaces.pid)?;
        }
    }
    birth.start(fds, |reporter| child::container(plan, fds, stdio, stages, reporter), None)
}

/// Starts a further process in the container whose first process is `target` (a pidfd).
///
/// # Errors
/// As [`spawn`]; `NotRunning` when the container is gone.
pub fn exec(
    plan: &ExecPlan,
    fds: &[OwnedFd],
    target: BorrowedFd<'_>,
    stdio: Stdio<'_>,
    stages: &mut dyn Stages,
) -> Result<Spawning, Failure> {
    Birth::of_exec(0, plan, target).start(
        Fds(fds),
        |reporter| child::exec(plan, Fds(fds), target, stdio, stages, reporter),
        Some(Exec { plan, target, stdio }),
    )
}

/// As [`exec`], with the new process a child of the caller's parent, which hears of its end and reaps it. The parent
/// reaps a process in between, too.
///
/// # Errors
/// As [`exec`].
pub fn exec_as_sibling(
    plan: &ExecPlan,
    fds: &[OwnedFd],
    target: BorrowedFd<'_>,
    stdio: Stdio<'_>,
) -> Result<Spawning, Failure> {
    Birth::of_exec(flags::PARENT, plan, target).start(
        Fds(fds),
        |reporter| child::exec(plan, Fds(fds), target, stdio, &mut (), reporter),
        Some(Exec { plan, target, stdio }),
    )
}

/// A process that is born into a container which has others.
///
/// They may be privileged to look into it, hidden or not (`CAP_SYS_PTRACE` without a user namespace), and so it has
/// nothing of the host's file systems from the moment they can see it: it is born from a process in between, out of
/// their sight, that has entered the container's mounts and closed everything else.
#[derive(Clone, Copy)]
struct Exec<'a> {
    plan: &'a ExecPlan,
    target: BorrowedFd<'a>,
    stdio: Stdio<'a>,
}

impl Exec<'_> {
    /// Prepares the calling process for a child that finds nothing of the host.
    fn leave_host(self, fds: Fds<'_>, sockets: [BorrowedFd<'_>; 2]) -> Result<(), Failure> {
        child::prepare_exec(&self.plan.process)?;
        let mut keep = vec![self.target];
        keep.extend(sockets);
        for index in &self.plan.cgroup.v1_tasks {
            keep.push(fds.get(*index)?);
        }
        if let Stdio::Streams { stdin, stdout, stderr } = self.stdio {
            keep.extend([stdin, stdout, stderr]);
        }
        sys::fd::close_unpassed(self.plan.process.preserve_fds, &keep)
            .at(FailureStage::Exec, || "close descriptors".to_owned())
    }
}

/// Where and how a child comes into the world.
struct Birth<'a> {
    /// Namespaces made for it, and [`flags::PARENT`] when it is to be the child of the caller's parent.
    new: u64,
    cgroup: &'a CgroupHandle,
    /// Namespaces the caller is in for the moment.
    visit: Visit,
    /// The user namespace it is born in, when that is another than the caller's. New namespaces belong to it.
    user: Option<BorrowedFd<'a>>,
    /// The pid namespace it is born in: a namespace file, or the pidfd of a process in it.
    pid: Option<BorrowedFd<'a>>,
}

impl<'a> Birth<'a> {
    /// That of a further process of the container whose first one is `target`.
    fn of_exec(new: u64, plan: &'a ExecPlan, target: BorrowedFd<'a>) -> Self {
        Self {
            new,
            cgroup: &plan.cgroup,
            visit: Visit::default(),
            user: plan.user_namespace.then_some(target),
            pid: (plan.common_namespaces & flags::NEWPID == 0).then_some(target),
        }
    }

    /// Clones, and runs `run` in the child, which never comes back.
    fn start(
        mut self,
        fds: Fds<'_>,
        run: impl FnOnce(&Reporter) -> Failure,
        exec: Option<Exec<'_>>,
    ) -> Result<Spawning, Failure> {
        let (ours, theirs) =
            FdSocket::pair().at(FailureStage::Clone, || "make the status socket of a new process".to_owned())?;
        ours.set_nonblocking(true).at(FailureStage::Clone, || "prepare the status socket".to_owned())?;
        let cgroup = self.cgroup.v2_dir.map(|index| fds.get(index)).transpose()?;
        let _hidden = if self.must_be_shown() { None } else { Some(Hidden::begin()?) };
        if self.user.is_some() || exec.is_some() {
            return self.clone_through(fds, cgroup, ours, theirs, run, exec);
        }
        if let Some(pid) = self.pid {
            self.visit.enter(pid, flags::NEWPID, "pid")?;
        }
        let cloned = sys::clone::clone3(self.new, cgroup);
        if matches!(cloned, Ok(Cloned::Child)) {
            drop(ours);
            become_child(theirs, run);
        }
        drop(self.visit);
        match cloned.at(FailureStage::Clone, || "create the process".to_owned())? {
            Cloned::Parent { pid, pidfd } => Ok(Spawning { pid, pidfd, status: Status::new(ours) }),
            Cloned::Child => sys::process::exit_now(255),
        }
    }

    /// Whether the child must not be born hidden: its files in `/proc`, which map the ids of a new user namespace, are
    /// those of the host's root then, and out of reach for a user who is not.
    fn must_be_shown(&self) -> bool {
        self.new & flags::NEWUSER != 0 && !rustix::process::geteuid().is_root()
    }

    /// Clones from inside another user namespace, or a running container. There is no way back from there, so a
    /// process in between enters it, and the child is its sibling: ours.
    fn clone_through(
        &self,
        fds: Fds<'_>,
        cgroup: Option<BorrowedFd<'_>>,
        ours: FdSocket,
        theirs: FdSocket,
        run: impl FnOnce(&Reporter) -> Failure,
        exec: Option<Exec<'_>>,
    ) -> Result<Spawning, Failure> {
        let stage = FailureStage::Clone;
        let (near, far) = FdSocket::pair().at(stage, || "make the socket of the process in between".to_owned())?;
        // Siblings in their turn, when the child is to be one. And in the group already: who has entered the user namespace
        // may not go there from the caller's.
        let sibling = self.new & flags::PARENT;
        let between =
            match sys::clone::clone3(sibling, cgroup).at(stage, || "create the process in between".to_owned())? {
                Cloned::Child => {
                    drop(near);
                    let _abort = ExitOnUnwind;
                    let sockets = [far.as_fd(), theirs.as_fd()];
                    match self.enter_and_clone(fds, sockets, exec) {
                        Ok(Cloned::Child) => {
                            drop(far);
                            become_child(theirs, run);
                        }
                        Ok(Cloned::Parent { pid, pidfd }) => {
                            let _ = far.send(&pid.to_ne_bytes(), &[pidfd.as_fd()]);
                        }
                        Err(failure) => Reporter::new(theirs).failed(&failure),
                    }
                    sys::process::exit_now(0);
                }
                Cloned::Parent { pid, .. } => pid,
            };
        drop((far, theirs));
        let mut number = [0u8; 4];
        let born = near.recv(&mut number);
        // No child of ours when it is a sibling.
        let _ = sys::process::wait_for(between);
        if let Ok(mut received) = born
            && received.len == number.len()
            && let Some(pidfd) = received.fds.pop()
        {
            return Ok(Spawning { pid: i32::from_ne_bytes(number), pidfd, status: Status::new(ours) });
        }
        match Status::new(ours).advance() {
            crate::Progress::Failed(failure) => Err(failure),
            _ => Err(Failure::new(stage, Errno::CHILD, "the process in between died")),
        }
    }

    fn enter_and_clone(
        &self,
        fds: Fds<'_>,
        sockets: [BorrowedFd<'_>; 2],
        exec: Option<Exec<'_>>,
    ) -> Result<Cloned, Failure> {
        let stage = FailureStage::Namespace;
        let gone = |errno: Errno, name: &str| {
            let stage = if errno == Errno::SRCH { FailureStage::NotRunning } else { stage };
            Failure::new(stage, errno, format!("cannot enter the {name} namespace: {errno}"))
        };
        if let Some(exec) = exec {
            exec.leave_host(fds, sockets)?;
        }
        if let Some(user) = self.user {
            sys::clone::setns(user, flags::NEWUSER).map_err(|errno| gone(errno, "user"))?;
        }
        if let Some(pid) = self.pid {
            sys::clone::setns(pid, flags::NEWPID).map_err(|errno| gone(errno, "pid"))?;
        }
        if let Some(exec) = exec {
            child::enter_container(exec.plan, exec.target)?;
        }
        sys::clone::clone3(self.new | flags::PARENT, None)
            .at(FailureStage::Clone, || "create the process in the container's namespaces".to_owned())
    }
}

/// The caller, and so what it gives birth to, cannot be looked into for the moment. A child that hid itself would be
/// too late: whoever may trace processes of the namespaces it is born in could have got hold of it before, and with it
/// of the caller's mounts and descriptors.
struct Hidden {
    was_shown: bool,
}

impl Hidden {
    fn begin() -> Result<Self, Failure> {
        let what = || "hide from processes of the container".to_owned();
        let was_shown = sys::creds::is_dumpable().at(FailureStage::Clone, what)?;
        sys::creds::set_dumpable(false).at(FailureStage::Clone, what)?;
        Ok(Self { was_shown })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if self.was_shown {
            let _ = sys::creds::set_dumpable(true);
        }
    }
}

fn become_child(status: FdSocket, run: impl FnOnce(&Reporter) -> Failure) -> ! {
    let _abort = ExitOnUnwind;
    let reporter = Reporter::new(status);
    let failure = run(&reporter);
    reporter.failed(&failure);
    sys::process::exit_now(255)
}

/// A panic in the child must not unwind into the parent's code, of which it is a copy.
struct ExitOnUnwind;

impl Drop for ExitOnUnwind {
    fn drop(&mut self) {
        sys::process::exit_now(254);
    }
}
