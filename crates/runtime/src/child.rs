//! The child's half of a start, in the order the kernel's rules impose. Nothing here returns but failures.
//!
//! The child is single-threaded and not dumpable until its program runs: a container it has entered
//! can neither trace it nor look through its `/proc` entry.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use launch::{ExecPlan, FailureStage, LaunchPlan, NamespaceSource, Process};
use sys::Errno;
use sys::clone::flags;
use sys::process::CArray;

use crate::confine::{self, Target};
use crate::failure::{At, Failure};
use crate::procfs::{PrivateProc, sysctl_namespace};
use crate::report::Reporter;
use crate::root::Root;
use crate::spawn::{Fds, Stdio};
use crate::{cgroup, devices, init, masks, mounts, procfs};

/// Becomes the container's first process.
pub(crate) fn container(plan: &LaunchPlan, fds: Fds<'_>, stdio: Stdio<'_>, reporter: &Reporter) -> Failure {
    match try_container(plan, fds, stdio, reporter) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

/// Becomes a further process of a running container.
pub(crate) fn exec(
    plan: &ExecPlan,
    fds: Fds<'_>,
    target: BorrowedFd<'_>,
    stdio: Stdio<'_>,
    reporter: &Reporter,
) -> Failure {
    match try_exec(plan, fds, target, stdio, reporter) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn try_container(
    plan: &LaunchPlan,
    fds: Fds<'_>,
    stdio: Stdio<'_>,
    reporter: &Reporter,
) -> Result<std::convert::Infallible, Failure> {
    let oom_score = begin(&plan.process)?;
    refuse_foreign_settings(plan, fds)?;
    cgroup::join(&plan.cgroup, fds)?;
    enter_namespaces(plan, fds)?;
    sys::process::set_names(&plan.hostname, &plan.domainname)
        .at(FailureStage::Hostname, || format!("set the host name {:?}", plan.hostname))?;
    join_keyring(&plan.container_id, reporter);

    let root = build_root(plan, fds)?;
    if let Some(cwd) = non_root_path(&plan.process.cwd) {
        root.ensure_dir(cwd)
            .map_err(|errno| Failure::new(FailureStage::Cwd, errno, format!("mkdir {}: {errno}", plan.process.cwd)))?;
    }
    let proc = private_proc(&plan.process, oom_score, !plan.sysctls.is_empty())?;
    if let Some(proc) = &proc {
        proc.apply_sysctls(&plan.sysctls, reporter)?;
    }
    let slave = connect(stdio, &root, true, reporter)?;
    if plan.readonly_rootfs {
        sys::mount::set_attributes(root.as_fd(), sys::mount::attr::RDONLY, 0, 0, false)
            .at(FailureStage::RootFs, || "make the root read-only".to_owned())?;
    }
    drop(root);
    finish(&plan.process, oom_score, proc, slave, plan.init, reporter)
}

fn try_exec(
    plan: &ExecPlan,
    fds: Fds<'_>,
    target: BorrowedFd<'_>,
    stdio: Stdio<'_>,
    reporter: &Reporter,
) -> Result<std::convert::Infallible, Failure> {
    let oom_score = begin(&plan.process)?;
    cgroup::join(&plan.cgroup, fds)?;
    let all = flags::NEWNS | flags::NEWNET | flags::NEWIPC | flags::NEWUTS | flags::NEWCGROUP;
    sys::clone::setns(target, all).map_err(|errno| {
        let stage = if errno == Errno::SRCH { FailureStage::NotRunning } else { FailureStage::Namespace };
        Failure::new(stage, errno, format!("cannot enter the container's namespaces: {errno}"))
    })?;
    join_keyring(&plan.exec_id, reporter);
    let root = Root::open().at(FailureStage::RootFs, || "open the container's root".to_owned())?;
    let proc = private_proc(&plan.process, oom_score, false)?;
    let slave = connect(stdio, &root, false, reporter)?;
    drop(root);
    finish(&plan.process, oom_score, proc, slave, false, reporter)
}

/// What every new process does first. Gives the score for when memory runs out, where it has to change:
/// the engine may be protected, which is not for what it runs.
fn begin(process: &Process) -> Result<Option<i32>, Failure> {
    sys::creds::set_dumpable(false).at(FailureStage::Clone, || "hide the new process".to_owned())?;
    sys::process::reset_signals();
    rustix::process::setsid().at(FailureStage::Clone, || "start a session".to_owned())?;
    // Modes below are exact.
    rustix::process::umask(rustix::fs::Mode::empty());
    // The host's /proc is still there. Where the score cannot be read it is set.
    Ok(process.oom_score_adj.or_else(|| (procfs::inherited_oom_score() != Some(0)).then_some(0)))
}

/// Names and sysctls may only be set where they belong to the container alone: whatever the plan says,
/// nothing of the host changes.
fn refuse_foreign_settings(plan: &LaunchPlan, fds: Fds<'_>) -> Result<(), Failure> {
    let named = !(plan.hostname.is_empty() && plan.domainname.is_empty());
    if named && plan.namespaces.uts != NamespaceSource::New {
        let text = "cannot set the host name: its namespace is not the container's own";
        return Err(Failure::new(FailureStage::Hostname, Errno::PERM, text));
    }
    let is_hosts = |source: NamespaceSource, kind: &str| match source {
        NamespaceSource::New => Ok(false),
        NamespaceSource::Host => Ok(true),
        NamespaceSource::Join(index) => {
            let what = || format!("look at the {kind} namespace");
            let joined = rustix::fs::fstat(fds.get(index)?).at(FailureStage::Sysctl, what)?;
            let own = rustix::fs::stat(format!("/proc/self/ns/{kind}")).at(FailureStage::Sysctl, what)?;
            Ok((joined.st_dev, joined.st_ino) == (own.st_dev, own.st_ino))
        }
    };
    for sysctl in &plan.sysctls {
        let refused = match sysctl_namespace(&sysctl.key) {
            Some("net") => is_hosts(plan.namespaces.net, "net")?,
            Some("ipc") => is_hosts(plan.namespaces.ipc, "ipc")?,
            Some("uts") => is_hosts(plan.namespaces.uts, "uts")?,
            _ => true,
        };
        if refused {
            let text = format!("cannot set sysctl {}: it is the host's, not separate per container", sysctl.key);
            return Err(Failure::new(FailureStage::Sysctl, Errno::PERM, text));
        }
    }
    Ok(())
}

fn enter_namespaces(plan: &LaunchPlan, fds: Fds<'_>) -> Result<(), Failure> {
    let stage = FailureStage::Namespace;
    let namespaces = &plan.namespaces;
    for (source, flag, name) in [
        (namespaces.net, flags::NEWNET, "network"),
        (namespaces.ipc, flags::NEWIPC, "ipc"),
        (namespaces.uts, flags::NEWUTS, "uts"),
        (namespaces.cgroup, flags::NEWCGROUP, "cgroup"),
    ] {
        if let NamespaceSource::Join(index) = source {
            sys::clone::setns(fds.get(index)?, flag).at(stage, || format!("enter the {name} namespace"))?;
        }
    }
    if namespaces.cgroup == NamespaceSource::New {
        sys::clone::unshare(flags::NEWCGROUP).at(stage, || "make a cgroup namespace".to_owned())?;
    }
    if namespaces.net == NamespaceSource::New {
        sys::loopback::bring_up().at(stage, || "bring the loopback device up".to_owned())?;
    }
    Ok(())
}

fn build_root(plan: &LaunchPlan, fds: Fds<'_>) -> Result<Root, Failure> {
    sys::mount::make_all_private().at(FailureStage::RootFs, || "cut mounts off from the host".to_owned())?;
    // Everything that needs a path of the host is opened before the pivot.
    let masks = masks::Masks::prepare(plan)?;
    let cgroups = cgroup::open_mounts(plan)?;
    let host_devices = devices::open_host_nodes(&plan.devices)?;
    let root = mounts::enter_root(&plan.rootfs, fds)?;
    mounts::make(plan, fds, &root, cgroups)?;
    devices::make(&plan.devices, host_devices, &root)?;
    if plan.mounts.iter().any(mounts::is_fresh_dev) {
        devices::link_standard(&root)?;
    }
    masks.apply(plan, &root)?;
    Ok(root)
}

/// Keys of the engine's session are not the container's.
fn join_keyring(id: &str, reporter: &Reporter) {
    let name: String = id.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    let Ok(name) = std::ffi::CString::new(format!("_ses.{name}")) else { return };
    match sys::keyring::join_session(&name) {
        Ok(()) | Err(Errno::NOSYS) => {}
        Err(errno) => reporter.warn(&format!("no session keyring of its own: {errno}; the engine's is visible")),
    }
}

fn private_proc(process: &Process, oom_score: Option<i32>, sysctls: bool) -> Result<Option<PrivateProc>, Failure> {
    if sysctls || oom_score.is_some() || process.apparmor.is_some() { PrivateProc::open().map(Some) } else { Ok(None) }
}

/// Puts the standard streams in place; with a terminal gives the slave.
fn connect(stdio: Stdio<'_>, root: &Root, console: bool, reporter: &Reporter) -> Result<Option<OwnedFd>, Failure> {
    match stdio {
        Stdio::Streams { stdin, stdout, stderr } => {
            for (fd, number) in [(stdin, 0), (stdout, 1), (stderr, 2)] {
                sys::fd::set_standard(fd, number)
                    .at(FailureStage::Io, || format!("connect standard stream {number}"))?;
            }
            Ok(None)
        }
        Stdio::Terminal { rows, cols } => {
            let stage = FailureStage::Console;
            let pts = root.open_dir("/dev/pts").at(stage, || "open /dev/pts of the container".to_owned())?;
            let pty =
                sys::pty::open(pts.as_fd()).at(stage, || "open a terminal of the container's /dev/pts".to_owned())?;
            if rows > 0 && cols > 0 {
                sys::pty::resize(pty.master.as_fd(), rows, cols).at(stage, || "set the terminal's size".to_owned())?;
            }
            if console {
                mounts::bind_console(pty.slave.as_fd(), root)?;
            }
            reporter.master(pty.master.as_fd()).at(stage, || "hand over the terminal".to_owned())?;
            for number in 0..=2 {
                sys::fd::set_standard(pty.slave.as_fd(), number)
                    .at(stage, || format!("connect standard stream {number}"))?;
            }
            sys::pty::make_controlling(pty.slave.as_fd())
                .at(stage, || "make the terminal the controlling one".to_owned())?;
            Ok(Some(pty.slave))
        }
    }
}

/// Everything after the surroundings stand: limits, credentials, confinement, the program.
fn finish(
    process: &Process,
    oom_score: Option<i32>,
    proc: Option<PrivateProc>,
    slave: Option<OwnedFd>,
    with_init: bool,
    reporter: &Reporter,
) -> Result<std::convert::Infallible, Failure> {
    if let (Some(proc), Some(score)) = (&proc, oom_score) {
        proc.set_oom_score(score, reporter);
    }
    confine::set_limits(&process.rlimits)?;
    confine::own_standard_streams(process.uid);
    let target = Target::new(process)?;
    if with_init {
        init::split(process, slave.as_ref().map(AsFd::as_fd), reporter)?;
    }
    let profile = match (&process.apparmor, &proc) {
        (Some(name), Some(proc)) => Some((proc.open_apparmor()?, name)),
        _ => None,
    };
    drop(proc);
    drop(slave);
    if let Some((file, name)) = profile {
        rustix::io::write(&file, format!("exec {name}").as_bytes())
            .at(FailureStage::Credentials, || format!("ask for the AppArmor profile {name:?}"))?;
    }
    confine::drop_privileges(process, reporter)?;
    Err(target.execute(reporter))
}

/// The root itself needs no making.
fn non_root_path(path: &str) -> Option<&str> {
    (!path.trim_matches('/').is_empty()).then_some(path)
}

/// Arguments as execve wants them.
pub(crate) fn c_array(items: &[Vec<u8>]) -> Result<CArray, Errno> {
    CArray::new(items.iter().map(Vec::as_slice))
}
