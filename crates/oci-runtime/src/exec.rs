//! A further process in a running container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use launch::ExecPlan;
use oci::{Process, Spec, Status};

use sys::Errno;

use crate::bundle::read_document;
use crate::context::Context;
use crate::create::{Wishes, hand_over, send_listener};
use crate::error::{Error, Result};
use crate::foreground::{self, Signals};
use crate::store::Record;
use crate::{alive, caller, console, plan};

/// What the command line says of the process.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// A file with the whole process.
    pub(crate) document: Option<PathBuf>,
    pub(crate) args: Vec<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) env: Vec<String>,
    pub(crate) tty: bool,
    /// `UID[:GID]`, numbers.
    pub(crate) user: Option<String>,
    pub(crate) groups: Vec<u32>,
    pub(crate) label: Option<String>,
    pub(crate) apparmor: Option<String>,
    pub(crate) no_new_privileges: bool,
    pub(crate) capabilities: Vec<String>,
    /// Below the container's group.
    pub(crate) group: Option<String>,
    pub(crate) ignore_paused: bool,
    pub(crate) wishes: Wishes,
}

/// Runs the process and, unless it is to be left alone, stays with it; gives its exit code.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::State`] for a paused container, [`Error::Start`].
pub(crate) fn exec(context: &Context, id: &str, asked: &Asked) -> Result<u8> {
    let place = context.store.open(id)?;
    let record = place.load()?;
    match alive::status(&place, &record)? {
        Status::Running | Status::Created => {}
        Status::Paused if asked.ignore_paused => {}
        Status::Paused => {
            return Err(Error::State(
                "cannot exec in a paused container; resume it or give --ignore-paused".to_owned(),
            ));
        }
        Status::Stopped | Status::Creating => {
            return Err(Error::State("cannot exec in a container that is not running".to_owned()));
        }
    }
    let process = process(&record, asked)?;
    for warning in process.validate()? {
        context.log.hint(&warning);
    }
    if process.terminal && asked.wishes.detach && asked.wishes.console_socket.is_none() {
        return Err(Error::Other(
            "cannot allocate tty if dhow-oci will detach without setting console socket; give --console-socket"
                .to_owned(),
        ));
    }
    let target = alive::pidfd(&record).map_err(|_| Error::NotRunning)?;
    let filter = place.load_filter()?;
    let signals = if asked.wishes.detach { None } else { Some(Signals::catch()?) };
    let mut spawning = spawn(&record, &process, filter, target, asked)?;
    let started = follow(&record, &mut spawning, asked);
    if let Err(error) = started {
        let _ = sys::process::pidfd_signal(spawning.pidfd.as_fd(), 9);
        let _ = sys::process::wait_for(spawning.pid);
        return Err(error);
    }
    for warning in &spawning.status.warnings {
        context.log.warn(warning);
    }
    match signals {
        Some(signals) => foreground::attend(&mut spawning, &signals),
        None => Ok(0),
    }
}

fn spawn(
    record: &Record,
    process: &Process,
    filter: Option<Vec<u8>>,
    target: OwnedFd,
    asked: &Asked,
) -> Result<runtime::Spawning> {
    let mut fds = plan::Fds::default();
    let mut launch = plan::process::process(process, filter, record.seccomp_flags, &record.rootfs);
    launch.preserve_fds = asked.wishes.preserve_fds;
    launch.personality = record.personality;
    launch.memory_policy.clone_from(&record.memory_policy);
    let mut plan = ExecPlan {
        exec_id: record.id.clone(),
        process: launch,
        cgroup: record.group.handle(asked.group.as_deref(), &mut fds)?,
        user_namespace: record.user_namespace && !is_own(record.pid, "user"),
        time_namespace: record.time_namespace,
        // Those that belong to others cannot be joined, and need not be.
        common_namespaces: if record.user_namespace || caller::is_rootless() {
            common_namespaces(record.pid)
        } else {
            0
        },
        shared_keyring: true,
        ..ExecPlan::default()
    };
    let stdio = console::streams(Some(process));
    let mut fds = fds.into_inner();
    match runtime::exec(&plan, &fds, target.as_fd(), stdio, &mut ()) {
        // The container has groups of its own below its group, which therefore takes no process any more: the new one
        // goes where the first one is.
        Err(failure)
            if failure.errno == Errno::BUSY.raw_os_error() && plan.cgroup.v2_dir.is_some() && asked.group.is_none() =>
        {
            let mut own = plan::Fds::default();
            plan.cgroup = record.group.handle_of(record.pid, &mut own)?;
            fds = own.into_inner();
            Ok(runtime::exec(&plan, &fds, target.as_fd(), stdio, &mut ())?)
        }
        other => Ok(other?),
    }
}

fn follow(record: &Record, spawning: &mut runtime::Spawning, asked: &Asked) -> Result<()> {
    use runtime::Progress;
    loop {
        let progress = spawning.advance();
        if let Some(listener) = spawning.status.listener.take() {
            send_listener(record, &listener, spawning.pid, Status::Running)?;
        }
        match progress {
            Progress::Running => return hand_over(spawning, &asked.wishes),
            Progress::Failed(failure) => return Err(failure.into()),
            Progress::Waiting | Progress::Held(_) => foreground::wait_readable(spawning)?,
        }
    }
}

/// Whether a namespace of the process is also ours: a runtime called from inside a user namespace is in it already.
fn is_own(pid: i32, kind: &str) -> bool {
    let look = |path: String| rustix::fs::stat(path).ok().map(|stat| (stat.st_dev, stat.st_ino));
    let own = look(format!("/proc/self/ns/{kind}"));
    own.is_some() && own == look(format!("/proc/{pid}/ns/{kind}"))
}

/// Namespaces that the container has left the caller's, as `CLONE_NEW*` flags.
fn common_namespaces(pid: i32) -> u64 {
    use sys::clone::flags;
    let kinds = [
        ("pid", flags::NEWPID),
        ("net", flags::NEWNET),
        ("ipc", flags::NEWIPC),
        ("uts", flags::NEWUTS),
        ("cgroup", flags::NEWCGROUP),
        ("time", flags::NEWTIME),
    ];
    kinds.into_iter().filter(|(file, _)| is_own(pid, file)).fold(0, |all, (_, flag)| all | flag)
}

/// The process asked for: a document, or the container's own with other arguments.
fn process(record: &Record, asked: &Asked) -> Result<Process> {
    if let Some(path) = &asked.document {
        return Ok(Process::parse(&read_document(path)?)?);
    }
    if asked.args.is_empty() {
        return Err(Error::Usage("give the command to run, or --process FILE".to_owned()));
    }
    let spec = Spec::parse(&read_document(&record.bundle.join("config.json"))?)?;
    let mut process = spec.process.unwrap_or_default();
    process.args.clone_from(&asked.args);
    process.terminal = asked.tty;
    if let Some(cwd) = &asked.cwd {
        process.cwd.clone_from(cwd);
    }
    process.env.extend(asked.env.iter().cloned());
    if let Some(user) = &asked.user {
        let (uid, gid) = user.split_once(':').map_or((user.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        let number = |text: &str| {
            let parsed = text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
            parsed.ok_or_else(|| Error::Usage(format!("--user takes UID[:GID] as numbers, not {user:?}")))
        };
        process.user.uid = number(uid)?;
        if let Some(gid) = gid {
            process.user.gid = number(gid)?;
        }
    }
    process.user.additional_gids.extend(&asked.groups);
    if let Some(label) = &asked.label {
        process.selinux_label.clone_from(label);
    }
    if let Some(profile) = &asked.apparmor {
        process.apparmor_profile.clone_from(profile);
    }
    process.no_new_privileges |= asked.no_new_privileges;
    if !asked.capabilities.is_empty() {
        process.add_capabilities(&asked.capabilities)?;
    }
    Ok(process)
}
