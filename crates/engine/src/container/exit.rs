//! The end of a run: told by the shim, found in its exit record, or inferred from its death. The
//! record is written before anybody is told; network and control group are given back; then the
//! restart policy decides. Called by the event task of each running container and by recovery.

use std::sync::Arc;
use std::time::Duration;

use launch::{Event, ExitRecord};
use tokio::sync::mpsc;

use super::record::Phase;
use super::restart_policy::RestartPolicy;
use super::{Container, Lifecycle, remove, start};
use crate::clock;
use crate::engine::Inner;
use crate::shim_link::ShimLink;

/// Exit code of a container whose end nobody saw.
const UNSEEN: i32 = 255;

/// Listen to a running container's shim until it leaves.
pub(crate) fn follow(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    link: Arc<ShimLink>,
    mut events: mpsc::UnboundedReceiver<Event>,
) {
    let (inner, listened) = (Arc::clone(inner), Arc::clone(container));
    let task = tokio::spawn(async move {
        let container = listened;
        while let Some(event) = events.recv().await {
            match event {
                // With this the link is dropped: the shim leaves when its clients have read everything.
                Event::Exited(exit) => return finish(&inner, &container, &link, exit, "").await,
                Event::ExecExited { exec_id, code } => inner.execs.ended(&inner, &exec_id, code),
            }
        }
        lost(&inner, &container, &link).await;
    });
    container.live().follow_task = Some(task.abort_handle());
}

/// The shim is gone without a word: its record may still tell, else the processes are ended.
async fn lost(inner: &Arc<Inner>, container: &Arc<Container>, link: &Arc<ShimLink>) {
    let record = container.record();
    let path = inner.run_dir(&record).join("exit");
    let seen = read_exit(&path);
    let (exit, why) = match seen {
        Some(exit) => (exit, ""),
        None => abandoned(inner, container).await,
    };
    finish(inner, container, link, exit, why).await;
}

/// The end of a container whose shim died without a record. Nobody writes its log, takes its exit code or serves its
/// clients any more, so its processes are ended; by their control group, as nothing else knows them all.
pub(crate) async fn abandoned(inner: &Arc<Inner>, container: &Arc<Container>) -> (ExitRecord, &'static str) {
    let why = "the process that looked after the container died; its processes were ended";
    tracing::error!(container = container.id(), "{why}");
    if let Ok(cgroup) = inner.cgroup(&container.record()) {
        let killed = inner.blocking("end a container's processes", move || Ok(cgroup.kill()?)).await;
        if let Err(error) = killed {
            tracing::error!(container = container.id(), %error, "processes of a lost container may live on");
        }
    }
    (ExitRecord { code: 137, finished_at_ns: clock::now_ns(), oom_killed: false }, why)
}

/// The shim's exit record, if it is there and whole.
pub(crate) fn read_exit(path: &std::path::Path) -> Option<ExitRecord> {
    let bytes = std::fs::read(path).ok().filter(|b| b.len() < 4096)?;
    ExitRecord::decode(&bytes).ok()
}

/// Record an end told by `link`, unless a later run has taken its place.
async fn finish(inner: &Arc<Inner>, container: &Arc<Container>, link: &Arc<ShimLink>, exit: ExitRecord, why: &str) {
    let mut lifecycle = container.lifecycle.lock().await;
    let ours = container.live().link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link));
    if ours {
        ended(inner, container, &mut lifecycle, exit, why).await;
    }
}

/// As [`finish`], with the lifecycle lock held and no shim to talk to.
pub(crate) async fn ended(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    lifecycle: &mut Lifecycle,
    exit: ExitRecord,
    why: &str,
) {
    let before = container.record();
    if let Some(task) = {
        let mut live = container.live();
        live.link = None;
        live.health_task.take()
    } {
        task.abort();
    }
    inner.execs.container_ended(inner, container);

    let policy = &before.host_config.restart_policy;
    let policy = RestartPolicy::new(&policy.name, policy.maximum_retry_count);
    let again = !before.state.stopped_by_user
        && !container.live().removing
        && !inner.is_closing()
        && policy.restarts(exit.code, before.state.restart_count);
    let ran = Duration::from_nanos(u64::try_from(exit.finished_at_ns - before.state.started_ns).unwrap_or(0));

    // The address and the ports are free before anybody hears of the end.
    let networks = start::networks_told_of(&before);
    if before.state.has_sandbox {
        let (worker, id, endpoints) = (Arc::clone(inner), container.id().to_owned(), before.state.endpoints.clone());
        let released = inner
            .blocking("release a container's network", move || {
                start::release_network(&worker, &id, &endpoints);
                Ok(())
            })
            .await;
        if let Err(error) = released {
            tracing::error!(container = container.id(), %error, "the network of a container was not released");
        }
    }

    let mut again = again;
    container.change(|r| {
        // Somebody may have asked for the end while this was found out.
        again = again && !r.state.stopped_by_user;
        r.state.phase = if again { Phase::Restarting } else { Phase::Exited };
        r.state.pid = 0;
        r.state.exit_code = exit.code;
        r.state.oom_killed = exit.oom_killed;
        r.state.finished_ns = exit.finished_at_ns;
        r.state.error = why.to_owned();
        r.state.endpoints.clear();
        r.state.has_sandbox = false;
        r.state.ports.clear();
        if again {
            r.state.restart_count += 1;
        }
    });
    crate::network::legacy_links::follow(inner, container).await;
    inner.persist_fact(container).await;

    let run_dir = inner.run_dir(&before);
    let id = container.id().to_owned();
    let group = inner.cgroup(&before);
    lifecycle.cleanup = Some(tokio::task::spawn_blocking(move || match group {
        Ok(group) => start::release_rest(&id, &run_dir, &group),
        Err(error) => tracing::warn!(container = id, %error, "the control group of a container stays"),
    }));

    if exit.oom_killed {
        inner.publish_container(container, "oom", []);
    }
    for network in &networks {
        inner.publish_network(container, "disconnect", network);
    }
    // Not before: who waits for the end tells of it next.
    container.running.send_replace(false);
    container.outcome.send_modify(|o| {
        o.running = false;
        o.exits += 1;
        o.exit_code = exit.code;
        o.error.clear();
    });
    inner.volumes.leave(inner, &before).await;
    let more = [("execDuration", ran.as_secs().to_string()), ("exitCode", exit.code.to_string())];
    inner.publish_container(container, "die", more);

    if again {
        plan_restart(inner, container, lifecycle.backoff.next(ran));
    } else if before.host_config.auto_remove && !container.live().removing && !inner.is_closing() {
        let (inner, container) = (Arc::clone(inner), Arc::clone(container));
        tokio::spawn(async move { remove::after_exit(&inner, &container).await });
    }
}

/// Start again after `delay`, unless somebody decides otherwise until then.
pub(crate) fn plan_restart(inner: &Arc<Inner>, container: &Arc<Container>, delay: Duration) {
    let task = {
        let (inner, container) = (Arc::clone(inner), Arc::clone(container));
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let mut lifecycle = container.lifecycle.lock().await;
            // From here on nobody may abort us halfway through a start.
            container.live().restart = None;
            if container.phase() != Phase::Restarting || inner.is_closing() {
                return;
            }
            if let Err(error) = start::start_locked(&inner, &container, &mut lifecycle).await {
                tracing::warn!(container = container.id(), %error, "a restart policy could not start the container");
            }
        })
    };
    container.live().restart = Some(task.abort_handle());
}

/// An end found when the engine starts: the restart policy is applied later, to all at once.
pub(crate) async fn ended_before(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    lifecycle: &mut Lifecycle,
    exit: ExitRecord,
    why: &str,
) {
    ended(inner, container, lifecycle, exit, why).await;
}

/// The end of a container nobody saw, as the host was restarted since.
pub(crate) fn unseen() -> ExitRecord {
    ExitRecord { code: UNSEEN, finished_at_ns: clock::now_ns(), oom_killed: false }
}
