//! The child's half of a start, in the order the kernel's rules impose. Nothing here returns but failures.
//!
//! The child is single-threaded and not dumpable until its program runs: a container it has entered
//! can neither trace it nor look through its `/proc` entry.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use launch::{ExecPlan, FailureStage, LaunchPlan, NamespaceSource, Process, RootFs};
use sys::Errno;
use sys::clone::flags;
use sys::process::CArray;

use crate::confine::{self, Target};
use crate::failure::{At, Failure};
use crate::labels::{self, Labels};
use crate::procfs::PrivateProc;
use crate::report::Reporter;
use crate::root::Root;
use crate::spawn::{Fds, Stdio};
use crate::stages::{Point, Stages};
use crate::{cgroup, devices, init, masks, mounts, visit};

/// Becomes the container's first process.
pub(crate) fn container(
    plan: &LaunchPlan,
    fds: Fds<'_>,
    stdio: Stdio<'_>,
    stages: &mut dyn Stages,
    reporter: &Reporter,
) -> Failure {
    match try_container(plan, fds, stdio, stages, reporter) {
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
    stages: &mut dyn Stages,
    reporter: &Reporter,
) -> Failure {
    match try_exec(plan, fds, target, stdio, stages, reporter) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn try_container(
    plan: &LaunchPlan,
    fds: Fds<'_>,
    stdio: Stdio<'_>,
    stages: &mut dyn Stages,
    reporter: &Reporter,
) -> Result<std::convert::Infallible, Failure> {
    begin()?;
    if plan.namespaces.user != NamespaceSource::New {
        hide()?;
    }
    pass(Point::Born, stages, reporter)?;
    if plan.namespaces.user != NamespaceSource::Host {
        become_root()?;
        hide()?;
    }
    let labels = prepare(&plan.process)?;
    cgroup::join(&plan.cgroup, fds)?;
    enter_namespaces(plan, fds)?;
    sys::process::set_names(&plan.hostname, &plan.domainname)
        .at(FailureStage::Hostname, || format!("set the host name {:?}", plan.hostname))?;
    if !plan.shared_keyring {
        join_keyring(&plan.container_id, reporter);
    }
    let root = build_root(plan, fds, reporter)?;
    pass(Point::Rooted, stages, reporter)?;
    if !matches!(plan.rootfs, RootFs::Detached(_)) {
        mounts::enter_last(&root, plan.no_pivot)?;
    }
    if let Some(cwd) = non_root_path(&plan.process.cwd) {
        root.ensure_dir(cwd)
            .map_err(|errno| Failure::new(FailureStage::Cwd, errno, format!("mkdir {}: {errno}", plan.process.cwd)))?;
    }
    let slave = connect(stdio, &root, true, reporter)?;
    if plan.readonly_rootfs {
        sys::mount::set_attributes(root.as_fd(), sys::mount::attr::RDONLY, 0, 0, false)
            .at(FailureStage::RootFs, || "make the root read-only".to_owned())?;
    }
    if plan.root_propagation != 0 {
        mounts::propagate_root(plan.root_propagation, &root)?;
    }
    drop(root);
    finish(&plan.process, labels, slave, plan.init, stages, reporter)
}

fn try_exec(
    plan: &ExecPlan,
    fds: Fds<'_>,
    target: BorrowedFd<'_>,
    stdio: Stdio<'_>,
    stages: &mut dyn Stages,
    reporter: &Reporter,
) -> Result<std::convert::Infallible, Failure> {
    begin()?;
    hide()?;
    pass(Point::Born, stages, reporter)?;
    cgroup::join(&plan.cgroup, fds)?;
    // Who is in it may be moved inside of it alone, so it comes after the group.
    if plan.common_namespaces & flags::NEWCGROUP == 0 {
        enter_running(target, flags::NEWCGROUP)?;
    }
    if plan.user_namespace {
        become_root()?;
        hide()?;
    }
    if !plan.shared_keyring {
        join_keyring(&plan.exec_id, reporter);
    }
    let root = Root::open().at(FailureStage::RootFs, || "open the container's root".to_owned())?;
    let slave = connect(stdio, &root, false, reporter)?;
    drop(root);
    finish(&plan.process, Labels::none(), slave, false, stages, reporter)
}

/// What an exec's process inherits from the one it is born from, which still has the host's `/proc` in sight. Labels
/// asked for stay asked for over a fork.
pub(crate) fn prepare_exec(process: &Process) -> Result<(), Failure> {
    prepare(process)?.apply(process)
}

/// Leaves the host for the container whose first process is `target`, but for its groups and process numbers.
pub(crate) fn enter_container(plan: &ExecPlan, target: BorrowedFd<'_>) -> Result<(), Failure> {
    let mut all = flags::NEWNS | flags::NEWNET | flags::NEWIPC | flags::NEWUTS;
    if plan.time_namespace {
        all |= flags::NEWTIME;
    }
    enter_running(target, all & !plan.common_namespaces)
}

fn enter_running(target: BorrowedFd<'_>, namespaces: u64) -> Result<(), Failure> {
    sys::clone::setns(target, namespaces).map_err(|errno| {
        let stage = if errno == Errno::SRCH { FailureStage::NotRunning } else { FailureStage::Namespace };
        Failure::new(stage, errno, format!("cannot enter the container's namespaces: {errno}"))
    })
}

/// What every new process does first.
fn begin() -> Result<(), Failure> {
    sys::process::reset_signals();
    rustix::process::setsid().at(FailureStage::Clone, || "start a session".to_owned())?;
    // Modes below are exact.
    rustix::process::umask(rustix::fs::Mode::empty());
    Ok(())
}

/// Nobody may look into the process from now on. Not before ids are mapped: by then the files in `/proc` that map
/// them must still belong to the user who starts the container.
fn hide() -> Result<(), Failure> {
    sys::creds::set_dumpable(false).at(FailureStage::Clone, || "hide the new process".to_owned())
}

/// The user namespace's own root, with every capability over what belongs to it.
fn become_root() -> Result<(), Failure> {
    sys::creds::become_namespace_root().at(FailureStage::Credentials, || {
        "become root in the user namespace; id 0 must be mapped to users and groups".to_owned()
    })
}

/// What is set while the host's own `/proc` is in sight.
fn prepare(process: &Process) -> Result<Labels, Failure> {
    if let Some(score) = process.oom_score_adj {
        labels::set_oom_score(score)?;
    }
    if let Some(cpus) = &process.initial_cpus {
        sys::sched::set_affinity(cpus)
            .at(FailureStage::Scheduling, || "run on the CPUs of the initial affinity".to_owned())?;
    }
    Labels::open(process)
}

/// Goes through a point: held there when the starter wants that.
fn pass(point: Point, stages: &mut dyn Stages, reporter: &Reporter) -> Result<(), Failure> {
    if stages.holds(point) {
        reporter.hold(point)?;
    }
    if let Some(socket) = stages.pass(point)? {
        reporter.redirect(socket);
    }
    Ok(())
}

fn enter_namespaces(plan: &LaunchPlan, fds: Fds<'_>) -> Result<(), Failure> {
    let stage = FailureStage::Namespace;
    let namespaces = &plan.namespaces;
    // With a user namespace of its own the child was born in what it joins.
    if namespaces.user != NamespaceSource::New {
        for (source, flag, name) in [
            (namespaces.net, flags::NEWNET, "network"),
            (namespaces.ipc, flags::NEWIPC, "ipc"),
            (namespaces.uts, flags::NEWUTS, "uts"),
            (namespaces.cgroup, flags::NEWCGROUP, "cgroup"),
            (namespaces.time, flags::NEWTIME, "time"),
        ] {
            if let NamespaceSource::Join(index) = source {
                sys::clone::setns(fds.get(index)?, flag).at(stage, || format!("enter the {name} namespace"))?;
            }
        }
    }
    if let NamespaceSource::Join(index) = namespaces.mount {
        sys::clone::setns(fds.get(index)?, flags::NEWNS).at(stage, || "enter the mount namespace".to_owned())?;
    }
    if namespaces.cgroup == NamespaceSource::New {
        sys::clone::unshare(flags::NEWCGROUP).at(stage, || "make a cgroup namespace".to_owned())?;
    }
    if namespaces.net == NamespaceSource::New {
        sys::loopback::bring_up().at(stage, || "bring the loopback device up".to_owned())?;
    }
    // Otherwise the child was born in it. The clocks are set through a file of the process, which the namespace's root
    // may open only while the process is not hidden; nobody of the container is there yet to see it.
    if namespaces.time == NamespaceSource::New && namespaces.user != NamespaceSource::Host {
        sys::creds::set_dumpable(true).at(stage, || "show the process to itself".to_owned())?;
        let made = visit::unshare_time(&plan.time_offsets);
        hide()?;
        made?;
    }
    Ok(())
}

fn build_root(plan: &LaunchPlan, fds: Fds<'_>, reporter: &Reporter) -> Result<Root, Failure> {
    // A user namespace gets a procfs only while one without masks is in sight.
    let has_own = plan.mounts.iter().any(mounts::is_writable_proc);
    let proc = if plan.sysctls.is_empty() || has_own { None } else { Some(PrivateProc::open()?) };
    // Everything that needs a path of the host is opened before the root is entered, and binds of the host's paths
    // before their mounts are cut off, so that they can go on following those.
    let sources = mounts::open_sources(plan)?;
    if plan.namespaces.mount == NamespaceSource::New {
        sys::mount::make_all_private().at(FailureStage::RootFs, || "cut mounts off from the host".to_owned())?;
    }
    let masks = masks::Masks::prepare(plan)?;
    let cgroups = cgroup::open_mounts(plan)?;
    let in_user_namespace = plan.bind_devices || plan.namespaces.user != NamespaceSource::Host;
    let host_devices = devices::open_host_nodes(&plan.devices, in_user_namespace)?;
    let root = mounts::open_root(&plan.rootfs, fds)?;
    let made = mounts::make(plan, fds, &root, sources, cgroups)?;
    if let Some(proc) = proc.or(made.proc.map(PrivateProc::of_container)) {
        proc.apply_sysctls(&plan.sysctls, reporter)?;
    }
    devices::make(&plan.devices, host_devices, &root)?;
    if plan.mounts.iter().any(mounts::is_fresh_dev) {
        devices::link_standard(&root)?;
    }
    masks.apply(plan, &root, &made.covered)?;
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

/// Puts the standard streams in place; with a terminal gives the slave.
fn connect(stdio: Stdio<'_>, root: &Root, console: bool, reporter: &Reporter) -> Result<Option<OwnedFd>, Failure> {
    match stdio {
        Stdio::Streams { stdin, stdout, stderr } => {
            for (fd, number) in [(stdin, 0), (stdout, 1), (stderr, 2)] {
                sys::fd::set_standard(fd, number)
                    .at(FailureStage::Io, || format!("connect standard stream {number}"))?;
                replace_null(fd, number, root);
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

/// A null device of the host's gives way to the container's own: nothing of the host's file systems stays open in the
/// container, and it can be checkpointed.
fn replace_null(fd: BorrowedFd<'_>, number: i32, root: &Root) {
    let null = rustix::fs::makedev(1, 3);
    let is_null = |fd: BorrowedFd<'_>| {
        rustix::fs::fstat(fd).is_ok_and(|stat| {
            rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == null
        })
    };
    if !is_null(fd) {
        return;
    }
    // Where the image has put something else, the host's stays.
    if let Ok(own) = root.open_null()
        && is_null(own.as_fd())
    {
        let _ = sys::fd::set_standard(own.as_fd(), number);
    }
}

/// Everything after the surroundings stand: limits, credentials, confinement, the program.
fn finish(
    process: &Process,
    labels: Labels,
    slave: Option<OwnedFd>,
    with_init: bool,
    stages: &mut dyn Stages,
    reporter: &Reporter,
) -> Result<std::convert::Infallible, Failure> {
    confine::set_limits(&process.rlimits)?;
    confine::set_scheduling(process)?;
    confine::own_standard_streams(process.uid);
    let target = Target::new(process)?;
    if stages.holds(Point::Ready) {
        // Held for as long as it takes: with nothing of the host's that whoever gets hold of it could use, nor the
        // program's name lead to.
        let keep: Vec<BorrowedFd<'_>> =
            labels.files().chain(slave.as_ref().map(AsFd::as_fd)).chain(stages.kept()).collect();
        confine::close_descriptors(process.preserve_fds, &keep, reporter)?;
        target.look_up(process)?;
    }
    pass(Point::Ready, stages, reporter)?;
    if with_init {
        init::split(process, slave.as_ref().map(AsFd::as_fd), reporter)?;
    }
    drop(slave);
    labels.apply(process)?;
    drop(labels);
    confine::close_descriptors(process.preserve_fds, &[], reporter)?;
    confine::drop_privileges(process, reporter)?;
    stages.confined()?;
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
