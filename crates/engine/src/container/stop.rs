//! Ending and holding a running container: stop, kill, restart, pause, unpause. None of these keeps
//! the lifecycle lock while it waits for the process, so that a second stop or a kill gets through.
//! Called by the facade, removal and shutdown.

use std::sync::Arc;
use std::time::Duration;

use cgroup::Cgroup;
use launch::{Request, Response};
use types::Signal;

use super::record::Phase;
use super::{Container, exit, start};
use crate::engine::Inner;
use crate::error::{Result, fail};

/// Seconds between the stop signal and SIGKILL, where nobody says.
const DEFAULT_TIMEOUT: i64 = 10;
/// How long the kernel may take to end a killed process.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// Instead of the container's stop signal.
    pub signal: Option<String>,
    /// Seconds before SIGKILL; negative: never.
    pub timeout: Option<i64>,
}

/// Send `signal` to the first process.
async fn send(inner: &Arc<Inner>, container: &Arc<Container>, signal: Signal) -> Result<()> {
    // Without a link the end is being recorded at this moment: what was wanted.
    let Ok(link) = container.link() else { return Ok(()) };
    let reply = link.request(Request::Signal { exec_id: String::new(), signal: signal.number() }, &[]).await;
    match reply.map(|r| r.response) {
        Ok(Response::Done) => Ok(()),
        // It ended meanwhile: what was wanted.
        Ok(Response::Failed { stage: launch::FailureStage::NotRunning | launch::FailureStage::NoSuchExec, .. }) => {
            Ok(())
        }
        Ok(Response::Failed { errno, .. }) => {
            Err(fail!(Internal, "cannot send {signal} to the container: {}", std::io::Error::from_raw_os_error(errno)))
        }
        Ok(other) => Err(fail!(Internal, "the container's shim answered {other:?} to a signal")),
        Err(_) if !container.phase().is_live() => Ok(()),
        Err(error) => {
            // No shim to pass it on; ending is still possible.
            if signal == Signal::KILL {
                let group = inner.cgroup(&container.record())?;
                return inner.blocking("kill a container", move || Ok(group.kill()?)).await;
            }
            Err(error)
        }
    }
}

/// A frozen process takes no signal: thaw after one that is to end it.
async fn thaw_after_signal(inner: &Arc<Inner>, container: &Arc<Container>) {
    if container.phase() == Phase::Paused
        && let Err(error) = unpause(inner, container).await
        && container.phase() == Phase::Paused
    {
        tracing::warn!(container = container.id(), %error, "a paused container could not be thawed to be stopped");
    }
}

/// Ask the container to end, and make it when it does not.
///
/// # Errors
/// AlreadyDone when it does not run; Invalid for an unknown signal.
pub(crate) async fn stop(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    options: StopOptions,
    by_user: bool,
) -> Result<()> {
    // A planned start that was faster makes it a running one.
    if container.phase() == Phase::Restarting && cancel_restart(inner, container).await? {
        return Ok(());
    }
    let record = container.record();
    let signal = match options.signal.as_deref().filter(|s| !s.is_empty()) {
        Some(text) => text.parse().map_err(|e| fail!(Invalid, "{e}"))?,
        None => stop_signal(&record.config.stop_signal),
    };
    match record.state.phase {
        Phase::Running | Phase::Paused => {}
        // It has ended once more, meanwhile.
        Phase::Restarting if cancel_restart(inner, container).await? => return Ok(()),
        Phase::Restarting => {}
        _ => return Err(fail!(AlreadyDone, "container {} is already stopped", container.id())),
    }
    let mut outcome = container.outcome.subscribe();
    let seen = outcome.borrow_and_update().exits;
    if by_user {
        container.change(|r| r.state.stopped_by_user = true);
    }
    inner.publish_container(container, "kill", [("signal", signal.number().to_string())]);
    send(inner, container, signal).await?;
    thaw_after_signal(inner, container).await;

    let seconds = options.timeout.or(record.config.stop_timeout).unwrap_or(DEFAULT_TIMEOUT);
    let gone = outcome.wait_for(|o| o.exits > seen || !o.running || o.removed);
    let in_time = match u64::try_from(seconds) {
        Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), gone).await.is_ok(),
        // Negative: wait for as long as it takes.
        Err(_) => gone.await.is_ok(),
    };
    if !in_time {
        kill_and_wait(inner, container, KILL_PATIENCE).await?;
    }
    inner.publish_container(container, "stop", []);
    Ok(())
}

/// The container's own stop signal, or SIGTERM.
fn stop_signal(text: &str) -> Signal {
    text.parse().unwrap_or(Signal::TERM)
}

/// SIGKILL, and wait for the end.
pub(crate) async fn kill_and_wait(inner: &Arc<Inner>, container: &Arc<Container>, patience: Duration) -> Result<()> {
    let mut outcome = container.outcome.subscribe();
    let seen = {
        let now = outcome.borrow_and_update();
        if !now.running {
            return Ok(());
        }
        now.exits
    };
    container.change(|r| r.state.stopped_by_user = true);
    inner.publish_container(container, "kill", [("signal", "9".to_owned())]);
    if let Err(error) = send(inner, container, Signal::KILL).await
        && container.phase().is_live()
    {
        return Err(error);
    }
    thaw_after_signal(inner, container).await;
    match tokio::time::timeout(patience, outcome.wait_for(|o| o.exits > seen || !o.running || o.removed)).await {
        Ok(_) => Ok(()),
        Err(_) => Err(fail!(
            Internal,
            "cannot stop container: {}: tried to kill container, but did not receive an exit event",
            container.id()
        )),
    }
}

/// A restart was planned: forget it, the container has ended. False when it had begun before, and the
/// container runs, or has ended again.
async fn cancel_restart(inner: &Arc<Inner>, container: &Arc<Container>) -> Result<bool> {
    let _lifecycle = container.lifecycle.lock().await;
    if let Some(task) = container.live().restart.take() {
        task.abort();
    }
    match container.phase() {
        Phase::Restarting => {
            container.change(|r| {
                r.state.phase = Phase::Exited;
                r.state.stopped_by_user = true;
            });
            inner.persist(container, state::Durability::Process).await?;
        }
        phase if phase.is_live() => return Ok(false),
        _ => {}
    }
    inner.publish_container(container, "stop", []);
    Ok(true)
}

/// Send any signal.
///
/// # Errors
/// Conflict when the container does not run.
pub(crate) async fn kill(inner: &Arc<Inner>, container: &Arc<Container>, name: &str, signal: Signal) -> Result<()> {
    let prefix = || format!("cannot kill container: {name}");
    match container.phase() {
        Phase::Restarting if cancel_restart(inner, container).await? => return Ok(()),
        phase if phase.is_live() => {}
        _ => return Err(container.not_running().context(prefix())),
    }
    let ends = signal == Signal::KILL || signal == stop_signal(&container.record().config.stop_signal);
    if ends {
        container.change(|r| r.state.stopped_by_user = true);
    }
    let mut outcome = container.outcome.subscribe();
    let seen = outcome.borrow_and_update().exits;
    send(inner, container, signal).await.map_err(|e| e.context(prefix()))?;
    inner.publish_container(container, "kill", [("signal", signal.number().to_string())]);
    if ends {
        thaw_after_signal(inner, container).await;
    }
    if signal == Signal::KILL {
        // As Docker does: when kill returns, the container has ended (or is beyond help).
        let _ = tokio::time::timeout(KILL_PATIENCE, outcome.wait_for(|o| o.exits > seen || o.removed)).await;
    }
    Ok(())
}

/// Stop and start.
///
/// # Errors
/// Those of [`stop`] and [`start::start`].
pub(crate) async fn restart(inner: &Arc<Inner>, container: &Arc<Container>, options: StopOptions) -> Result<()> {
    if container.phase().is_live() {
        match stop(inner, container, options, true).await {
            Err(error) if error.kind() != types::Kind::AlreadyDone => return Err(error),
            _ => {}
        }
    }
    match start::start(inner, container).await {
        // A restart policy was faster.
        Err(error) if error.kind() == types::Kind::AlreadyDone => {}
        other => other?,
    }
    inner.publish_container(container, "restart", []);
    Ok(())
}

/// Freeze every process.
///
/// # Errors
/// Conflict when it is not running or paused already.
pub(crate) async fn pause(inner: &Arc<Inner>, container: &Arc<Container>) -> Result<()> {
    let _lifecycle = container.lifecycle.lock().await;
    match container.phase() {
        Phase::Running => {}
        Phase::Paused => return Err(fail!(Conflict, "Container {} is already paused", container.id())),
        Phase::Restarting => {
            return Err(fail!(
                Conflict,
                "Container {} is restarting, wait until the container is running",
                container.id()
            ));
        }
        _ => return Err(container.not_running()),
    }
    freeze(inner, container, |group| Ok(group.freeze()?)).await?;
    container.change(|r| r.state.phase = Phase::Paused);
    inner.persist_fact(container).await;
    inner.publish_container(container, "pause", []);
    Ok(())
}

/// Let them go on.
///
/// # Errors
/// Internal (as Docker has it) when it is not paused.
pub(crate) async fn unpause(inner: &Arc<Inner>, container: &Arc<Container>) -> Result<()> {
    let _lifecycle = container.lifecycle.lock().await;
    if container.phase() != Phase::Paused {
        return Err(fail!(Internal, "Container {} is not paused", container.id()));
    }
    freeze(inner, container, |group| Ok(group.thaw()?)).await?;
    container.change(|r| r.state.phase = Phase::Running);
    inner.persist_fact(container).await;
    inner.publish_container(container, "unpause", []);
    Ok(())
}

async fn freeze(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    change: impl FnOnce(Cgroup) -> Result<()> + Send + 'static,
) -> Result<()> {
    let group = inner.cgroup(&container.record())?;
    inner.blocking("freeze or thaw a container", move || change(group)).await
}

/// New size of the terminal.
///
/// # Errors
/// Conflict when it is not running.
pub(crate) async fn resize(container: &Arc<Container>, exec_id: &str, tty: bool, rows: u16, cols: u16) -> Result<()> {
    let link = container.link()?;
    if !tty {
        // Nothing to resize, and clients ask for it all the same.
        return Ok(());
    }
    let reply = link.request(Request::Resize { exec_id: exec_id.to_owned(), rows, cols }, &[]).await?;
    match reply.response {
        Response::Done => Ok(()),
        Response::Failed { detail, .. } => Err(fail!(Internal, "{detail}")),
        other => Err(fail!(Internal, "the container's shim answered {other:?} to a resize")),
    }
}

/// Used by recovery: plan the next start of a container found in `Restarting`.
pub(crate) fn resume_restart(inner: &Arc<Inner>, container: &Arc<Container>) {
    exit::plan_restart(inner, container, Duration::from_millis(100));
}
