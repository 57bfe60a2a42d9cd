//! Starting a container: namespaces, root file system, control group and shim are prepared in one
//! go on the blocking pool, then the shim executes the plan. Whatever fails is undone.
//!
//! No fsync and no second process of ours is on this path. Called by the facade, by restart
//! policies and at engine start.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;

use cgroup::Cgroup;
use docker_types::network::{PortBinding, PortMap};
use launch::{FailureStage, Request, Response, WIRE_VERSION};
use network::{Endpoint, PortSpec};
use sys::socket::FdSocket;
use tokio::io::Interest;
use types::{ExposedPort, PortRange};

use super::record::{Phase, Record};
use super::{Container, Lifecycle, Outcome, exit, health, names, remove};
use crate::clock;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};
use crate::plan::mount_sources::Sources;
use crate::plan::{self, Assembled};
use crate::shim_link::{self, ShimLink};
use crate::watched;

/// Start a container that is not running.
///
/// # Errors
/// AlreadyDone when it runs; Docker's texts for what cannot be started.
pub(crate) async fn start(inner: &Arc<Inner>, container: &Arc<Container>) -> Result<()> {
    let mut lifecycle = container.lifecycle.lock().await;
    if matches!(container.phase(), Phase::Created | Phase::Exited) {
        // A start by hand begins the count of a restart policy anew.
        container.change(|r| r.state.restart_count = 0);
        lifecycle.backoff = super::restart_policy::Backoff::default();
    }
    start_locked(inner, container, &mut lifecycle).await
}

/// As [`start`], with the lifecycle lock held.
pub(crate) async fn start_locked(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    lifecycle: &mut Lifecycle,
) -> Result<()> {
    match container.phase() {
        Phase::Running => return Err(fail!(AlreadyDone, "container {} is already running", container.id())),
        Phase::Paused => return Err(fail!(Conflict, "cannot start a paused container, try unpause instead")),
        Phase::Removing | Phase::Dead => {
            return Err(fail!(Conflict, "container is marked for removal and cannot be started"));
        }
        Phase::Created | Phase::Exited | Phase::Restarting => {}
    }
    if inner.is_closing() {
        return Err(fail!(Unavailable, "the engine is shutting down"));
    }
    if let Some(task) = container.live().restart.take() {
        task.abort();
    }
    if let Some(cleanup) = lifecycle.cleanup.take() {
        // The last run's control group must be gone before one of the same name is made.
        let _ = cleanup.await;
    }
    inner.images.touch(inner, &container.record().image_id);
    match run(inner, container).await {
        Ok(()) => Ok(()),
        Err(failure) => Err(failed(inner, container, failure).await),
    }
}

/// A start that failed, and the exit code it leaves.
pub(crate) struct Failure {
    pub error: Error,
    pub code: i32,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, code: 128 }
    }
}

async fn failed(inner: &Arc<Inner>, container: &Arc<Container>, failure: Failure) -> Error {
    let Failure { error, code } = failure;
    inner.volumes.leave(inner, &container.record()).await;
    let text = error.to_string();
    let record = container.change(|r| {
        r.state.phase = if r.state.phase == Phase::Created { Phase::Created } else { Phase::Exited };
        r.state.pid = 0;
        r.state.exit_code = code;
        r.state.error.clone_from(&text);
        r.state.endpoints.clear();
        r.state.has_sandbox = false;
        r.state.ports = PortMap::new();
    });
    // Clients that attached before the start learn of its failure by the end of their stream.
    container.live().pending.clear();
    container.outcome.send_modify(|o| {
        o.running = false;
        o.exit_code = code;
    });
    if record.host_config.auto_remove {
        let (inner, container) = (Arc::clone(inner), Arc::clone(container));
        tokio::spawn(async move { remove::after_exit(&inner, &container).await });
    } else {
        inner.persist_fact(container).await;
    }
    error
}

/// What the blocking part hands to the launching part.
pub(crate) struct Ready {
    pub socket: FdSocket,
    pub child: Child,
    pub assembled: Assembled,
    pub network: Option<Joined>,
    pub cgroup: Cgroup,
    pub warnings: Vec<String>,
}

async fn run(inner: &Arc<Inner>, container: &Arc<Container>) -> std::result::Result<(), Failure> {
    let mut record = Record::clone(&container.record());
    record.state.run = names::random_id()[..8].to_owned();
    let record = Arc::new(record);
    let sources = plan::mount_sources::open(inner, &record).await?;
    let ready = {
        let (inner, record) = (Arc::clone(inner), Arc::clone(&record));
        let worker = Arc::clone(&inner);
        worker.blocking("prepare a container", move || prepare(&inner, &record, sources, None)).await?
    };
    let Ready { socket, child, assembled, network, cgroup, warnings } = ready;
    for warning in &warnings {
        tracing::warn!(container = record.id, "{warning}");
    }
    reap(child);
    let launched = launch(container, socket, assembled).await;
    let (link, events, pid, started_ns) = match launched {
        Ok(done) => done,
        Err(failure) => {
            let (inner, record) = (Arc::clone(inner), Arc::clone(&record));
            let undo = Arc::clone(&inner);
            undo.blocking("undo a failed start", move || {
                release(&inner, &record, network.as_ref(), &cgroup);
                Ok(())
            })
            .await?;
            return Err(failure);
        }
    };

    if let (Some(joined), Ok(id)) = (&network, record.id.parse()) {
        inner.networks.fabric().started(id, network::Process { pid, netns: joined.netns });
    }
    container.change(|r| {
        r.state.phase = Phase::Running;
        r.state.pid = pid;
        r.state.exit_code = 0;
        r.state.error.clear();
        r.state.oom_killed = false;
        r.state.started_ns = started_ns;
        r.state.stopped_by_user = false;
        r.state.boot_id.clone_from(&inner.boot_id);
        r.state.run.clone_from(&record.state.run);
        r.state.has_sandbox = network.is_some();
        let joined = network.unwrap_or_default();
        r.state.netns = joined.netns;
        r.state.endpoints = joined.endpoints;
        r.state.ports = published(&r.state.endpoints);
        r.state.sandbox_id = names::random_id();
    });
    container.live().link = Some(Arc::clone(&link));
    container.running.send_replace(true);
    container.outcome.send_modify(|o| *o = Outcome { running: true, exits: o.exits, ..Outcome::default() });
    if let Err(error) = inner.persist(container, state::Durability::Process).await {
        // It runs: saying otherwise would be worse. The next change of state is written again.
        tracing::error!(container = container.id(), %error, "a started container could not be recorded");
    }
    // Also its own: a target may have ended while it was prepared.
    crate::network::legacy_links::follow(inner, container).await;
    inner.volumes.publish_entered(inner, &record);
    for network in networks_told_of(&container.record()) {
        inner.publish_network(container, "connect", &network);
    }
    inner.publish_container(container, "start", []);
    exit::follow(inner, container, link, events);
    health::begin(inner, container);
    Ok(())
}

/// Blocking: everything the plan refers to, and a shim waiting for it. The root file system is that of the record's layers
/// unless another one is given.
pub(crate) fn prepare(inner: &Inner, record: &Record, sources: Sources, rootfs: Option<OwnedFd>) -> Result<Ready> {
    let run_dir = inner.run_dir(record);
    make_run_dir(&run_dir)?;
    let ready = prepare_in(inner, record, sources, rootfs);
    if ready.is_err() {
        plan::mount_sources::drop_shared(&run_dir);
        // Empty or half-filled: what cannot be removed now is swept at the next start of the engine.
        let _ = std::fs::remove_dir_all(&run_dir);
    }
    ready
}

fn prepare_in(inner: &Inner, record: &Record, sources: Sources, rootfs: Option<OwnedFd>) -> Result<Ready> {
    // The shim starts up on the other processor while we prepare the rest.
    let (socket, theirs) = shim_link::socket_pair()?;
    let name = record.id.get(..12).unwrap_or(&record.id);
    let mut child = inner.shim.start(&[name], theirs).map_err(|e| Error::io("cannot start the container's shim", e))?;
    match build(inner, record, sources, rootfs) {
        Ok((assembled, network, cgroup, warnings)) => Ok(Ready { socket, child, assembled, network, cgroup, warnings }),
        Err(error) => {
            drop(socket);
            // Without its socket the shim leaves at once.
            if let Err(e) = child.wait() {
                tracing::warn!(error = %e, "a shim could not be waited for");
            }
            Err(error)
        }
    }
}

/// What a container has on its networks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joined {
    pub endpoints: Vec<Endpoint>,
    pub netns: (u64, u64),
}

type Built = (Assembled, Option<Joined>, Cgroup, Vec<String>);

fn build(inner: &Inner, record: &Record, sources: Sources, rootfs: Option<OwnedFd>) -> Result<Built> {
    let host = &record.host_config;
    let (device_nodes, device_rules) = plan::devices::resolve(host)?;
    let mut resources = plan::cgroup_resources(&host.resources(), Some(device_rules))?;
    let ignored = resources.discard_unsupported(&inner.support);
    let warnings = ignored.into_iter().map(str::to_owned).collect();
    let own = || inner.images.rootfs(&record.layers, &inner.container_dir(&record.id));
    let rootfs = rootfs.map_or_else(own, Ok)?;
    let cgroup = Cgroup::create(&inner.cgroups, inner.cgroup_parent(record), &record.id)?;
    let mut joined = None;
    let result = (|| {
        cgroup.apply(&resources)?;
        let slot = crate::network::join(inner, record)?;
        joined = match &slot {
            Some((netns, endpoints)) => {
                Some(Joined { endpoints: endpoints.clone(), netns: network::Process::new(0, netns)?.netns })
            }
            None => None,
        };
        let prepared = plan::Prepared { record, rootfs, slot, cgroup: &cgroup, device_nodes, sources };
        plan::assemble(inner, prepared)
    })();
    match result {
        Ok(assembled) => Ok((assembled, joined, cgroup, warnings)),
        Err(error) => {
            release(inner, record, joined.as_ref(), &cgroup);
            Err(error)
        }
    }
}

/// Give back what a run held outside the process. Each part is tried; what fails is logged.
pub(crate) fn release(inner: &Inner, record: &Record, joined: Option<&Joined>, cgroup: &Cgroup) {
    if let Some(joined) = joined {
        release_network(inner, &record.id, &joined.endpoints);
    }
    release_rest(&record.id, &inner.run_dir(record), cgroup);
}

pub(crate) fn release_network(inner: &Inner, id: &str, endpoints: &[Endpoint]) {
    let Ok(container) = id.parse() else { return };
    if let Err(error) = inner.networks.fabric().release(container, endpoints) {
        tracing::warn!(container = id, %error, "the network of a container was not released cleanly");
    }
}

/// Networks that events tell of when the container starts and ends.
pub(crate) fn networks_told_of(record: &Record) -> Vec<String> {
    let mode = record.host_config.network_mode.as_str();
    if matches!(mode, "none" | "host") {
        return vec![mode.to_owned()];
    }
    record.state.endpoints.iter().map(|endpoint| endpoint.network_name.clone()).collect()
}

pub(crate) fn release_rest(id: &str, run_dir: &Path, cgroup: &Cgroup) {
    plan::mount_sources::drop_shared(run_dir);
    if let Err(error) = cgroup.kill().and_then(|()| cgroup.remove()) {
        tracing::warn!(container = id, %error, "the control group of a container stays");
    }
    // The shim removes its own files when it leaves; this takes the rest.
    if let Err(error) = std::fs::remove_dir_all(run_dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(container = id, %error, "the run directory of a container stays");
    }
}

/// A fresh directory: what a dead shim left there would be taken for this run's.
fn make_run_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let make = || std::fs::DirBuilder::new().mode(0o700).create(path);
    match make() {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            plan::mount_sources::drop_shared(path);
            std::fs::remove_dir_all(path).and_then(|()| make())
        }
        other => other,
    }
    .map_err(|e| Error::io(format!("cannot make the directory {}", path.display()), e))
}

/// Ports to publish: those bound, and with `-P` those exposed.
pub(crate) fn port_specs(record: &Record) -> Result<Vec<PortSpec>> {
    let host = &record.host_config;
    let mut list = Vec::new();
    for (key, bindings) in host.port_bindings.iter().flatten() {
        let container: ExposedPort = key.parse().map_err(|_| fail!(Invalid, "invalid port specification: {key:?}"))?;
        let default = [PortBinding::default()];
        let bindings = match bindings {
            Some(list) if !list.is_empty() => list.as_slice(),
            _ => &default,
        };
        for binding in bindings {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => Some(text.parse().map_err(|_| fail!(Invalid, "invalid IP address: {text}"))?),
            };
            list.push(PortSpec { container, host_ip, host: PortRange::parse(&binding.host_port) });
        }
    }
    if host.publish_all_ports {
        for key in record.config.exposed_ports.iter().flat_map(|p| p.keys()) {
            let (ports, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
            let range = PortRange::parse(ports).ok_or_else(|| fail!(Invalid, "invalid port specification: {key:?}"))?;
            for port in range.start..=range.end {
                let protocol = protocol.parse().map_err(|e| fail!(Invalid, "{e}"))?;
                let container = ExposedPort { port, protocol };
                if !list.iter().any(|s| s.container == container) {
                    list.push(PortSpec { container, host_ip: None, host: None });
                }
            }
        }
    }
    Ok(list)
}

/// Published ports as inspect shows them.
pub(crate) fn published(endpoints: &[Endpoint]) -> PortMap {
    let mut map = PortMap::new();
    for port in endpoints.iter().flat_map(|endpoint| &endpoint.ports) {
        let key = ExposedPort { port: port.container_port, protocol: port.protocol }.to_string();
        let binding = PortBinding { host_ip: port.host_ip.to_string(), host_port: port.host_port.to_string() };
        map.entry(key).or_default().get_or_insert_default().push(binding);
    }
    map
}

type Launched = (Arc<ShimLink>, tokio::sync::mpsc::UnboundedReceiver<launch::Event>, i32, i64);

/// Hand the plan over, with the clients that attached early connected first.
async fn launch(
    container: &Arc<Container>,
    socket: FdSocket,
    assembled: Assembled,
) -> std::result::Result<Launched, Failure> {
    let (link, events) = ShimLink::start(socket)?;
    connect_pending(container, &link).await?;
    let (pid, started) = execute(&link, container.id(), assembled).await?;
    Ok((link, events, pid, started))
}

/// Have a shim carry a plan out; gives the process and when it began, in nanoseconds since 1970.
pub(crate) async fn execute(
    link: &ShimLink,
    id: &str,
    assembled: Assembled,
) -> std::result::Result<(i32, i64), Failure> {
    let Assembled { plan, fds } = assembled;
    let program = plan.process.args.first().map(|a| String::from_utf8_lossy(a).into_owned()).unwrap_or_default();
    let bytes = plan.encode().map_err(|e| Error::io("cannot encode a launch plan", e))?;
    let memfd =
        sys::memfd::sealed("launch-plan", &bytes).map_err(|e| Error::io("cannot hand over a launch plan", e))?;
    let mut passed = vec![memfd.as_fd()];
    passed.extend(plan::borrow(&fds));
    let reply = link.request(Request::Launch { version: WIRE_VERSION }, &passed).await?;
    match reply.response {
        Response::Started { pid, started_at_ns, warnings } => {
            for warning in warnings {
                tracing::warn!(container = id, "{warning}");
            }
            let started = if started_at_ns == 0 { clock::now_ns() } else { started_at_ns };
            Ok((pid, started))
        }
        Response::Failed { stage, errno, detail } => Err(describe(stage, errno, &detail, &program)),
        other => Err(fail!(Internal, "the container's shim answered {other:?} to a launch").into()),
    }
}

async fn connect_pending(container: &Container, link: &ShimLink) -> Result<()> {
    let pending = std::mem::take(&mut container.live().pending);
    for client in pending {
        // A client that left before the start is not worth a connection.
        if client.connection.is_closed() {
            continue;
        }
        let reply = link.request(Request::Attach { streams: client.streams }, &[]).await?;
        if let (Response::Attached, Some(fd)) = (reply.response, reply.fds.into_iter().next()) {
            let _ = client.connection.send(fd);
        }
    }
    Ok(())
}

/// Docker's words for a launch that failed, and the exit code that goes with them.
fn describe(stage: FailureStage, errno: i32, detail: &str, program: &str) -> Failure {
    let (text, code, known) = launch_error(stage, errno, detail, program);
    if text.starts_with("Cannot mkdir") {
        return Failure { error: fail!(Internal, "{text}"), code };
    }
    let message = format!(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: {text}"
    );
    let kind = if known { types::Kind::Invalid } else { types::Kind::Internal };
    Failure { error: Error::new(kind, message), code }
}

/// What failed, as runc would say it; the exit code; whether the user's command is to blame.
pub(crate) fn launch_error(stage: FailureStage, errno: i32, detail: &str, program: &str) -> (String, i32, bool) {
    let reason = match errno {
        2 => "no such file or directory".to_owned(),
        13 => "permission denied".to_owned(),
        8 => "exec format error".to_owned(),
        20 => "not a directory".to_owned(),
        21 => "is a directory".to_owned(),
        0 => String::new(),
        other => std::io::Error::from_raw_os_error(other).to_string(),
    };
    if stage == FailureStage::Exec {
        return match errno {
            2 if program.contains('/') => {
                (format!("exec: \"{program}\": stat {program}: no such file or directory"), 127, true)
            }
            2 => (format!("exec: \"{program}\": executable file not found in $PATH"), 127, true),
            8 => (format!("exec {program}: exec format error"), 126, true),
            1 | 13 | 20 | 21 => (format!("exec: \"{program}\": {reason}"), 126, true),
            _ => (format!("exec: \"{program}\": {reason}"), 128, false),
        };
    }
    if stage == FailureStage::Cwd && errno == 20 {
        let path = detail.strip_prefix("mkdir ").unwrap_or(detail).split(": ").next().unwrap_or(detail);
        return (format!("Cannot mkdir: {path} is not a directory"), 126, true);
    }
    if stage == FailureStage::Cwd {
        return (format!("chdir to cwd ({detail:?}) set in config.json failed: {reason}"), 126, true);
    }
    // A directory over a file or the other way round: the kernel says either.
    if stage == FailureStage::Mount && matches!(errno, 20 | 22) && detail.starts_with("cannot mount at") {
        let target = detail.trim_start_matches("cannot mount at ").split(": ").next().unwrap_or_default();
        let text = format!(
            "error mounting to rootfs at \"{target}\": not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
        );
        return (text, 127, true);
    }
    let stage = stage_name(stage);
    // The detail may end with the system's reason, in other letters than clients look for.
    let detail = match detail.rfind(" (os error ") {
        Some(at) => detail[..at].rsplit_once(": ").map_or(&detail[..at], |(what, _)| what),
        None => detail,
    };
    let text = if reason.is_empty() { format!("{stage}: {detail}") } else { format!("{stage}: {detail}: {reason}") };
    (text, 128, false)
}

fn stage_name(stage: FailureStage) -> &'static str {
    match stage {
        FailureStage::Protocol => "protocol between engine and shim",
        FailureStage::Io => "standard streams",
        FailureStage::Clone => "clone",
        FailureStage::Cgroup => "control group",
        FailureStage::Namespace => "namespace",
        FailureStage::Hostname => "sethostname",
        FailureStage::RootFs => "root file system",
        FailureStage::Mount => "mount",
        FailureStage::Device => "device",
        FailureStage::MaskedPath => "masked path",
        FailureStage::Pivot => "pivot_root",
        FailureStage::Sysctl => "write sysctl",
        FailureStage::Console => "console",
        FailureStage::Rlimit => "error setting rlimit",
        FailureStage::Capability => "apply caps",
        FailureStage::Credentials => "set user",
        FailureStage::Seccomp => "seccomp",
        FailureStage::Cwd => "working directory",
        FailureStage::Exec => "exec",
        FailureStage::NotRunning => "container is not running",
        FailureStage::NoSuchExec => "no such exec",
        FailureStage::Log => "log",
        FailureStage::Hook => "hook",
        FailureStage::Scheduling => "scheduling",
    }
}

/// Wait for a shim in the background, so that it leaves no zombie.
pub(crate) fn reap(mut child: Child) {
    let watched = sys::process::pidfd_open(child.id().cast_signed())
        .map_err(std::io::Error::from)
        .and_then(|fd| watched::watch(fd, Interest::READABLE));
    tokio::spawn(async move {
        if let Ok(watched) = watched {
            // Readable: it has ended and the wait below returns at once.
            let _ = watched.readable().await;
        }
        let waited = tokio::task::spawn_blocking(move || child.wait()).await;
        if let Ok(Err(error)) = waited {
            tracing::warn!(%error, "a shim could not be waited for");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_clients_match_on() {
        let text = |errno, program: &str| describe(FailureStage::Exec, errno, "", program);
        let failure = text(2, "nosuch");
        assert_eq!((failure.error.kind(), failure.code), (types::Kind::Invalid, 127));
        assert!(failure.error.to_string().ends_with(
            "unable to start container process: error during container init: exec: \"nosuch\": executable file not found in $PATH"
        ));
        assert!(text(13, "/etc/passwd").error.to_string().ends_with("exec: \"/etc/passwd\": permission denied"));
        assert_eq!(text(13, "/etc/passwd").code, 126);
        assert!(text(2, "/no").error.to_string().ends_with("stat /no: no such file or directory"));
        let other = describe(FailureStage::Clone, 11, "clone3", "sh");
        assert_eq!((other.error.kind(), other.code), (types::Kind::Internal, 128));
        let sysctl = describe(FailureStage::Sysctl, 2, "cannot set x: No such file or directory (os error 2)", "sh");
        assert!(sysctl.error.to_string().ends_with("write sysctl: cannot set x: no such file or directory"));
    }
}
