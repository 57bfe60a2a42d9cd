//! What a new engine does with the containers of the last one: those that live are adopted, those
//! that ended meanwhile get their true exit, those of an earlier boot are over, and restart policies
//! apply to all that are not running. Called once by [`crate::Engine::open`].

use std::collections::BTreeSet;
use std::sync::Arc;

use launch::{Request, Response, Snapshot, WIRE_VERSION};

use super::record::{Phase, Record};
use super::restart_policy::RestartPolicy;
use super::{Container, exit, health, remove, start, stop};
use crate::engine::Inner;
use crate::shim_link::{self, ShimLink};

/// Take over every container; returns when the state of each is known. Starts follow in the background.
pub(crate) async fn recover(inner: &Arc<Inner>, records: Vec<Record>) {
    let mut containers = Vec::new();
    for record in records {
        let container = Container::new(record);
        let record = container.record();
        if let Err(error) = inner.containers.reserve_name(&record.name, container.id()) {
            tracing::error!(container = container.id(), %error, "a container lost its name");
        }
        inner.containers.insert(Arc::clone(&container));
        containers.push(container);
    }
    // Before the end of one of them takes away what another one uses.
    inner.volumes.adopt(&containers).await;
    // One slow shim must not hold up the others.
    futures_util::future::join_all(containers.iter().map(|c| settle(inner, c))).await;
    inner.networks.fabric().reconcile();
    sweep(inner, &containers).await;
    inner.volumes.recover(inner).await;

    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        for container in crate::network::legacy_links::in_order(containers) {
            apply_policy(&inner, &container).await;
        }
    });
}

/// Find out what became of one container.
async fn settle(inner: &Arc<Inner>, container: &Arc<Container>) {
    let record = container.record();
    if !record.state.phase.is_live() {
        return;
    }
    let run_dir = inner.run_dir(&record);
    let (exit, why) = if record.state.boot_id == inner.boot_id {
        let path = run_dir.join("exit");
        let mut seen = exit::read_exit(&path);
        if seen.is_none() && adopt(inner, container, &run_dir).await {
            return;
        }
        // It may have ended between the two looks.
        seen = seen.or_else(|| exit::read_exit(&path));
        match seen {
            Some(exit) => (exit, ""),
            None => exit::abandoned(inner, container).await,
        }
    } else {
        (exit::unseen(), "")
    };
    let mut lifecycle = container.lifecycle.lock().await;
    exit::ended_before(inner, container, &mut lifecycle, exit, why).await;
}

/// Connect to a living shim and take the container over.
async fn adopt(inner: &Arc<Inner>, container: &Arc<Container>, run_dir: &std::path::Path) -> bool {
    let Ok(socket) = shim_link::connect(run_dir) else { return false };
    let Ok((link, events)) = ShimLink::start(socket) else { return false };
    let asked = tokio::time::timeout(std::time::Duration::from_secs(5), link.request(Request::State, &[])).await;
    let Ok(Ok(reply)) = asked else { return false };
    let Response::State(Snapshot { version, container_id, pid, exit, execs, .. }) = reply.response else {
        return false;
    };
    if container_id != container.id() || version != WIRE_VERSION {
        tracing::error!(
            container = container.id(),
            version,
            container_id,
            "a shim of another kind answers; it is left alone"
        );
        return false;
    }
    if exit.is_some() || pid == 0 {
        return false;
    }
    container.live().link = Some(Arc::clone(&link));
    inner.execs.adopt(container, &execs);
    // The freezer is the truth about a pause that may not have been written.
    let group = inner.cgroup(&container.record());
    let frozen = inner
        .blocking("look at a container's freezer", move || {
            Ok(matches!(group?.freezer_state()?, cgroup::FreezerState::Frozen | cgroup::FreezerState::Freezing))
        })
        .await
        .unwrap_or(false);
    container.change(|r| {
        r.state.pid = pid;
        r.state.phase = if frozen { Phase::Paused } else { Phase::Running };
    });
    exit::follow(inner, container, link, events);
    health::begin(inner, container);
    tracing::info!(container = container.id(), pid, "took over a running container");
    true
}

/// Start what should run, remove what should be gone.
async fn apply_policy(inner: &Arc<Inner>, container: &Arc<Container>) {
    let record = container.record();
    let policy = &record.host_config.restart_policy;
    let policy = RestartPolicy::new(&policy.name, policy.maximum_retry_count);
    let state = &record.state;
    match state.phase {
        Phase::Restarting => stop::resume_restart(inner, container),
        Phase::Removing | Phase::Dead => remove::after_exit(inner, container).await,
        Phase::Exited if record.host_config.auto_remove => remove::after_exit(inner, container).await,
        Phase::Exited if policy.starts_with_engine(state.stopped_by_user, state.exit_code, state.restart_count) => {
            if let Err(error) = start::start(inner, container).await {
                tracing::warn!(container = container.id(), %error, "a restart policy could not start the container");
            }
        }
        _ => {}
    }
}

/// Remove what belongs to no container: half-made directories, shims without a record.
async fn sweep(inner: &Arc<Inner>, containers: &[Arc<Container>]) {
    let known: BTreeSet<String> = containers.iter().map(|c| c.id().to_owned()).collect();
    let live: Vec<_> = containers.iter().map(|c| c.record()).filter(|r| r.state.phase.is_live()).collect();
    let run_dirs: BTreeSet<_> = live.iter().map(|r| inner.run_dir(r)).collect();
    let (data, exec) = (inner.config.data_root.join("containers"), inner.config.exec_root.join("c"));
    let worker = Arc::clone(inner);
    let result = inner
        .blocking("sweep what dead containers left", move || {
            for entry in std::fs::read_dir(&data).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !known.contains(&name) {
                    remove::sweep(&entry.path());
                }
            }
            for entry in std::fs::read_dir(&exec).into_iter().flatten().flatten() {
                if run_dirs.contains(&entry.path()) {
                    continue;
                }
                let id = entry.file_name().to_string_lossy().split('-').next().unwrap_or_default().to_owned();
                end_stray(&entry.path());
                if !live.iter().any(|r| r.id.starts_with(&id)) {
                    end_stray_group(&worker, &id);
                }
            }
            Ok(())
        })
        .await;
    if let Err(error) = result {
        tracing::warn!(%error, "left-overs of earlier containers stay");
    }
}

/// A shim whose container has no record: its processes are ended, its directory goes.
fn end_stray(run_dir: &std::path::Path) {
    if let Ok(socket) = shim_link::connect(run_dir) {
        tracing::warn!(path = %run_dir.display(), "ending a container that no record knows");
        let frame = launch::RequestFrame {
            seq: 1,
            request: Request::Signal { exec_id: String::new(), signal: types::Signal::KILL.number() },
        };
        if let Ok(bytes) = frame.encode()
            && let Err(error) = socket.send(&bytes, &[])
        {
            tracing::debug!(%error, "a stray shim does not listen");
        }
    }
    crate::plan::mount_sources::drop_shared(run_dir);
    if let Err(error) = std::fs::remove_dir_all(run_dir) {
        tracing::debug!(path = %run_dir.display(), %error, "a stray run directory stays");
    }
}

/// The control group of a stray run: found by its id, of which the run's directory has the beginning.
fn end_stray_group(inner: &Inner, prefix: &str) {
    for id in cgroup_ids(&inner.config.cgroup_parent, prefix) {
        if let Ok(group) = cgroup::Cgroup::open(&inner.cgroups, &inner.config.cgroup_parent, &id)
            && let Err(error) = group.kill().and_then(|()| group.remove())
        {
            tracing::warn!(id, %error, "a stray control group stays");
        }
    }
}

/// Names of groups below the parent that begin with `prefix`.
fn cgroup_ids(parent: &str, prefix: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    if prefix.len() < 12 {
        return ids;
    }
    for base in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let dirs = [base.path().join(parent.trim_start_matches('/'))];
        for entry in dirs.iter().flat_map(std::fs::read_dir).flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) {
                ids.insert(name);
            }
        }
    }
    ids
}
