//! From a bundle to a container whose first process waits for its start. What has been made is undone when a later
//! step fails; a command killed in between leaves a container that `delete` removes (see [`crate::store`]).

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use jiff::Timestamp;
use launch::NamespaceSource;
use oci::{Spec, State, Status};
use runtime::{Point, Progress, Spawning};
use sys::socket::FdListener;

use crate::bundle::Bundle;
use crate::context::Context;
use crate::criu::{self, Images};
use crate::error::{Doing, Error, Result, other};
use crate::groups::{Group, GroupRecord};
use crate::idmap::Maps;
use crate::plan::{self, Assembled};
use crate::stages::Steps;
use crate::store::{Place, Record};
use crate::{alive, console, filter, foreground, groups, hooks, net_devices, resctrl};

/// What the command line says beside the bundle.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) bundle: Option<String>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pidfd_socket: Option<PathBuf>,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    pub(crate) preserve_fds: u32,
    /// Sockets of the caller's service manager (sd_listen_fds(3)), from 3 on, before those to be preserved.
    pub(crate) listen_fds: u32,
    /// Nobody stays with the container, so its terminal must go somewhere.
    pub(crate) detach: bool,
}

/// A container whose process is held just before its program.
pub(crate) struct Made {
    pub(crate) place: Place,
    pub(crate) record: Record,
    pub(crate) spawning: Spawning,
}

/// Makes the container `id`. With `gate` its process waits for `start` once it is let go on, else for nothing.
///
/// # Errors
/// Why there is none; nothing is left.
pub(crate) fn make(context: &Context, id: &str, wishes: &Wishes, gate: bool) -> Result<Made> {
    let bundle = Bundle::open(wishes.bundle.as_deref())?;
    for warning in &bundle.warnings {
        context.log.hint(warning);
    }
    check_terminal(&bundle.spec, wishes)?;
    context.store.check_free(id)?;
    // Whatever can be refused is refused before there is anything to take away again.
    let Some(process) = &bundle.spec.process else {
        return other("config.json: process: is missing; a container is made for a process to run in it");
    };
    let filter = filter::compile(bundle.spec.seccomp(), process.bounding())?;
    let group = Group::resolve(context, id, &bundle.spec)?;
    let assembled = plan::assemble(id, &bundle, process, filter, wishes)?;
    let place = context.store.create(id)?;
    let mut undo = Undo { place: Some(place), group: None, spawning: None, resctrl: Vec::new() };
    let made = build(context, &bundle, wishes, gate, group, assembled, &mut undo);
    match (made, undo.place.take(), undo.spawning.take()) {
        (Ok(record), Some(mut place), Some(spawning)) => {
            undo.group = None;
            undo.resctrl.clear();
            place.unlock();
            Ok(Made { place, record, spawning })
        }
        (made, place, spawning) => {
            (undo.place, undo.spawning) = (place, spawning);
            match made {
                Err(error) => Err(error),
                Ok(_) => other("the container went away while it was made"),
            }
        }
    }
}

fn check_terminal(spec: &Spec, wishes: &Wishes) -> Result<()> {
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    match (terminal, wishes.detach, &wishes.console_socket) {
        (true, true, None) => other(
            "cannot allocate tty if dhow-oci will detach without setting console socket; give --console-socket or run in the foreground",
        ),
        (false, _, Some(_)) => {
            other("cannot use console socket if dhow-oci will not allocate tty; set process.terminal in config.json")
        }
        (true, false, Some(_)) => {
            other("cannot use console socket if dhow-oci will not detach; give --detach or leave --console-socket out")
        }
        _ => Ok(()),
    }
}

/// What has been made so far.
struct Undo {
    place: Option<Place>,
    group: Option<Group>,
    spawning: Option<Spawning>,
    resctrl: Vec<PathBuf>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(spawning) = &self.spawning {
            let _ = sys::process::pidfd_signal(spawning.pidfd.as_fd(), 9);
            let _ = sys::process::wait_for(spawning.pid);
        }
        resctrl::remove(&self.resctrl);
        if let Some(group) = self.group.take() {
            group.undo();
        }
        if let Some(place) = &self.place {
            let _ = place.remove();
        }
    }
}

fn build(
    context: &Context,
    bundle: &Bundle,
    wishes: &Wishes,
    gate: bool,
    group: Group,
    assembled: Assembled,
    undo: &mut Undo,
) -> Result<Record> {
    let spec = &bundle.spec;
    let Some(place) = &undo.place else { return Err(Error::NoSuchContainer) };
    let Assembled { mut plan, mut fds, limits, network } = assembled;
    let hooks = spec.hooks();
    let mut record = new_record(place, bundle, plan.process.seccomp_flags, group.record(), wishes)?;
    place.save(&record)?;
    if let Some(program) = &plan.process.seccomp {
        place.save_filter(program)?;
    }
    let group = undo.group.insert(group);
    group.make(context)?;
    record.group = group.record();
    place.save(&record)?;
    plan.cgroup = group.handle(&mut fds)?;
    if let Some(network) = network {
        plan.namespaces.net = NamespaceSource::Join(fds.push(network.finish()?));
    }
    let fds = fds.into_inner();
    let state = state(&record, Status::Creating);
    let rdt = spec.linux.as_ref().and_then(|linux| linux.intel_rdt.as_ref());
    let has_net_devices = spec.linux.as_ref().is_some_and(|linux| !linux.net_devices.is_empty());
    let mut steps = Steps {
        hold_born: plan.namespaces.user == NamespaceSource::New
            || group.wants_process()
            || has_net_devices
            || rdt.is_some(),
        hold_rooted: !(hooks.prestart.is_empty() && hooks.create_runtime.is_empty()),
        create_container: &hooks.create_container,
        start_container: &hooks.start_container,
        state: state.clone(),
        gate: if gate { Some(listen(place)?) } else { None },
    };
    let stdio = console::streams(spec.process.as_ref());
    let spawning = undo.spawning.insert(runtime::spawn(&plan, &fds, stdio, &mut steps)?);
    drop(steps);
    drop(fds);
    record.pid = spawning.pid;
    record.start_time = alive::stat(spawning.pid).map_or(0, |(_, start)| start);
    place.save(&record)?;

    loop {
        match spawning.advance() {
            Progress::Waiting => {
                foreground::wait_readable(spawning)?;
                continue;
            }
            Progress::Held(Point::Born) => {
                if plan.namespaces.user == NamespaceSource::New {
                    let linux = spec.linux.as_ref();
                    let maps = |pick: fn(&oci::Linux) -> &[oci::IdMapping]| linux.map(pick).unwrap_or_default();
                    let maps =
                        Maps { uids: maps(|linux| &linux.uid_mappings), gids: maps(|linux| &linux.gid_mappings) };
                    maps.apply(spawning.pid)?;
                    limits.apply(spawning.pid)?;
                }
                net_devices::move_all(spec, spawning.pid)?;
                group.take_process(spawning.pid, context)?;
                record.group = group.record();
                if let Some(rdt) = rdt {
                    record.resctrl = resctrl::join(rdt, &record.id, spawning.pid)?;
                    undo.resctrl.clone_from(&record.resctrl);
                }
                place.save(&record)?;
            }
            Progress::Held(Point::Rooted) => {
                let mut state = state.clone();
                state.pid = Some(spawning.pid);
                hooks::run("prestart", &hooks.prestart, &state).map_err(Error::Other)?;
                hooks::run("createRuntime", &hooks.create_runtime, &state).map_err(Error::Other)?;
            }
            Progress::Held(Point::Ready) => break,
            Progress::Failed(failure) => return Err(failure.into()),
            Progress::Running => return other("the container's process ran before it was to"),
        }
        spawning.go_on().doing(|| "let the container's process go on".to_owned())?;
    }
    for warning in &spawning.status.warnings {
        context.log.warn(warning);
    }
    if let Some(uid) = groups::owner(spec).filter(|_| rustix::process::geteuid().is_root()) {
        group.give_to(uid)?;
    }
    hand_over(spawning, wishes)?;
    Ok(record)
}

/// Makes the container `id` from a checkpoint; its process runs when this returns.
///
/// # Errors
/// Why there is none; nothing is left.
pub(crate) fn restore(context: &Context, id: &str, wishes: &Wishes, images: &Images) -> Result<Made> {
    let bundle = Bundle::open(wishes.bundle.as_deref())?;
    check_terminal(&bundle.spec, wishes)?;
    let mut undo = Undo { place: Some(context.store.create(id)?), group: None, spawning: None, resctrl: Vec::new() };
    let record = rebuild(context, &bundle, wishes, images, &mut undo)?;
    match (undo.place.take(), undo.spawning.take()) {
        (Some(mut place), Some(spawning)) => {
            undo.group = None;
            place.unlock();
            Ok(Made { place, record, spawning })
        }
        _ => other("the container went away while it was restored"),
    }
}

fn rebuild(context: &Context, bundle: &Bundle, wishes: &Wishes, images: &Images, undo: &mut Undo) -> Result<Record> {
    let Some(place) = &undo.place else { return Err(Error::NoSuchContainer) };
    let process = bundle.spec.process.clone().unwrap_or_default();
    let filter = filter::compile(bundle.spec.seccomp(), process.bounding())?;
    let group = Group::resolve(context, &place.id, &bundle.spec)?;
    let mut record = new_record(place, bundle, filter.flags, group.record(), wishes)?;
    place.save(&record)?;
    if let Some(program) = &filter.program {
        place.save_filter(program)?;
    }
    let group = undo.group.insert(group);
    group.make(context)?;
    record.group = group.record();
    place.save(&record)?;
    let mut fds = plan::Fds::default();
    let handle = group.handle(&mut fds)?;
    let fds = fds.into_inner();
    let pid = criu::restore(images, &bundle.spec, &bundle.rootfs, &place.dir().join("root"), &handle, &fds)?;
    let pidfd = sys::process::pidfd_open(pid).doing(|| "hold on to the restored process".to_owned())?;
    let (socket, _) = sys::socket::FdSocket::pair().doing(|| "make a socket".to_owned())?;
    let spawning = undo.spawning.insert(Spawning::new(pid, pidfd, socket));
    record.pid = pid;
    record.start_time = alive::stat(pid).map_or(0, |(_, start)| start);
    group.take_process(pid, context)?;
    record.group = group.record();
    place.save(&record)?;
    hand_over(spawning, wishes)?;
    Ok(record)
}

/// What callers want to have before the container is said to be made.
pub(crate) fn hand_over(spawning: &mut Spawning, wishes: &Wishes) -> Result<()> {
    if let Some(path) = &wishes.console_socket
        && let Some(master) = spawning.status.master.take()
    {
        console::send(path, master.as_fd(), "/dev/ptmx")?;
    }
    if let Some(path) = &wishes.pidfd_socket {
        console::send(path, spawning.pidfd.as_fd(), "pidfd")?;
    }
    match &wishes.pid_file {
        Some(path) => write_pid_file(path, spawning.pid),
        None => Ok(()),
    }
}

/// Whoever watches for the file finds the whole number in it.
fn write_pid_file(path: &std::path::Path, pid: i32) -> Result<()> {
    let what = || format!("write the pid file {}", path.display());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}"));
    // The directory may be others' to write to: a link they have put there is not written through.
    let _ = std::fs::remove_file(&new);
    let mut file = std::fs::File::options().write(true).create_new(true).open(&new).doing(what)?;
    file.write_all(pid.to_string().as_bytes()).doing(what)?;
    std::fs::rename(&new, path).doing(what)
}

fn listen(place: &Place) -> Result<FdListener> {
    FdListener::bind(&place.gate()).doing(|| "make the socket the start is waited for at".to_owned())
}

fn new_record(
    place: &Place,
    bundle: &Bundle,
    seccomp_flags: u32,
    group: GroupRecord,
    wishes: &Wishes,
) -> Result<Record> {
    let spec = &bundle.spec;
    let hooks = spec.hooks();
    let own = |kind: oci::NamespaceKind| spec.namespace(kind).is_some();
    let listener = spec.seccomp().filter(|profile| profile.notifies());
    Ok(Record {
        id: place.id.clone(),
        oci_version: spec.oci_version.clone(),
        bundle: bundle.dir.clone(),
        rootfs: bundle.rootfs.clone(),
        created: Timestamp::now().to_string(),
        owner: rustix::process::geteuid().as_raw(),
        group,
        user_namespace: own(oci::NamespaceKind::User),
        time_namespace: own(oci::NamespaceKind::Time),
        own_pid_namespace: spec.namespace(oci::NamespaceKind::Pid).is_some_and(|namespace| namespace.path.is_none()),
        shared_keyring: wishes.no_new_keyring,
        seccomp_flags,
        listener: listener
            .and_then(|profile| profile.listener_path.as_ref().map(|path| (path, &profile.listener_metadata)))
            .map(|(path, metadata)| (PathBuf::from(path), metadata.clone().unwrap_or_default())),
        personality: spec.personality(),
        memory_policy: plan::process::memory_policy(spec),
        poststart: hooks.poststart.clone(),
        poststop: hooks.poststop.clone(),
        annotations: spec.annotations.clone(),
        ..Record::default()
    })
}

/// The state as hooks, callers and listeners get it.
pub(crate) fn state(record: &Record, status: Status) -> State {
    State {
        oci_version: record.oci_version.clone(),
        id: record.id.clone(),
        status,
        pid: (record.pid != 0).then_some(record.pid),
        bundle: record.bundle.display().to_string(),
        annotations: record.annotations.clone(),
    }
}

/// Sends the listener of a filter to whoever answers for it (runtime-spec, "containerProcessState").
///
/// `pid` is the process the filter is for, the first one or a further one.
pub(crate) fn send_listener(record: &Record, listener: &OwnedFd, pid: i32, status: Status) -> Result<()> {
    let Some((path, metadata)) = &record.listener else { return Ok(()) };
    let state = state(record, status);
    let document = serde_json::json!({
        "ociVersion": record.oci_version,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": metadata,
        "state": state,
    });
    console::send(path, listener.as_fd(), &document.to_string())
}
