//! Removing containers: by request, after the end of a `--rm` run, and in bulk. The row goes first,
//! then the name is free, then the files go in the background. Called by the facade and the exit path.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use docker_types::container::ContainerPruneReport;
use state::Op;
use types::Filters;

use super::record::Phase;
use super::{Container, list, stop};
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

/// How long a killed container may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// What is removed, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it when it runs.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
    /// A legacy link instead of a container.
    pub link: bool,
}

/// Remove one container.
///
/// # Errors
/// Conflict while it runs (without force) or is being removed already.
pub(crate) async fn remove(inner: &Arc<Inner>, container: &Arc<Container>, options: RemoveOptions) -> Result<()> {
    if options.link {
        return Err(fail!(Conflict, "Conflict, cannot remove the default link name of the container"));
    }
    let name = container.record().name.clone();
    let refuse = |why: &str| Err(fail!(Conflict, "cannot remove container \"{name}\": {why}"));
    if !options.force {
        match container.phase() {
            Phase::Running => {
                return refuse("container is running: stop the container before removing or force remove");
            }
            Phase::Paused => return refuse("container is paused and must be unpaused first"),
            Phase::Restarting => {
                return refuse("container is restarting: stop the container before removing or force remove");
            }
            _ => {}
        }
    }
    {
        let mut live = container.live();
        if live.removing {
            return Err(fail!(Conflict, "removal of container {} is already in progress", container.id()));
        }
        live.removing = true;
        if let Some(task) = live.restart.take() {
            task.abort();
        }
    }
    let result = remove_marked(inner, container, options).await;
    if result.is_err() {
        container.live().removing = false;
    }
    result
}

async fn remove_marked(inner: &Arc<Inner>, container: &Arc<Container>, options: RemoveOptions) -> Result<()> {
    let mut lifecycle = loop {
        if container.phase().is_live() {
            if !options.force {
                let name = &container.record().name;
                return Err(fail!(Conflict, "cannot remove container \"{name}\": it was started meanwhile"));
            }
            stop::kill_and_wait(inner, container, KILL_PATIENCE).await?;
        }
        let lifecycle = container.lifecycle.lock().await;
        // A start in progress holds the lock: what it has started must be ended too.
        if !container.phase().is_live() {
            break lifecycle;
        }
    };
    let record = container.record();
    if let Some(cleanup) = lifecycle.cleanup.take() {
        // Its control group must be gone before the id is.
        let _ = cleanup.await;
    }
    inner.commit_removal(vec![Op::DeleteContainer { id: record.id.clone() }]).await?;
    container.change(|r| r.state.phase = Phase::Dead);
    inner.containers.remove(container.id());
    inner.execs.forget_container(container);
    container.live().pending.clear();

    let dir = inner.container_dir(&record.id);
    let trash = inner.config.data_root.join("containers").join(format!(".trash-{}", record.id));
    let renamed = inner
        .blocking("move a container's directory away", move || match std::fs::rename(&dir, &trash) {
            Ok(()) => Ok(Some(trash)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(format!("cannot remove {}", dir.display()), e)),
        })
        .await;
    match renamed {
        Ok(Some(trash)) => {
            let worker = Arc::clone(inner);
            tokio::task::spawn_blocking(move || {
                sweep(&trash);
                worker.reserve.refill();
            });
        }
        Ok(None) => {}
        // The next start of the engine sweeps directories without a row.
        Err(error) => tracing::warn!(container = record.id, %error, "files of a removed container stay for now"),
    }
    if options.volumes {
        for mount in record.mounts.iter().filter(|m| m.anonymous) {
            match inner.volumes.remove(inner, &mount.name, true).await {
                Ok(()) => {}
                // Another container took it over by --volumes-from.
                Err(error) if error.kind() == types::Kind::Conflict => {}
                Err(error) => tracing::warn!(volume = mount.name, %error, "an anonymous volume stays"),
            }
        }
    }
    inner.publish_container(container, "destroy", []);
    container.outcome.send_modify(|o| {
        o.running = false;
        o.removed = true;
    });
    drop(lifecycle);
    Ok(())
}

/// Delete a directory tree that no path in it can lead out of.
pub(crate) fn sweep(path: &Path) {
    let result = path
        .parent()
        .zip(path.file_name())
        .map_or(Ok(()), |(parent, name)| sys::path::Root::open(parent).and_then(|root| root.remove_tree(name)));
    if let Err(error) = result {
        tracing::warn!(path = %path.display(), %error, "a removed container's files could not all be deleted");
    }
}

/// `--rm`: the container goes with the end of its run, and its anonymous volumes with it.
pub(crate) async fn after_exit(inner: &Arc<Inner>, container: &Arc<Container>) {
    let options = RemoveOptions { force: false, volumes: true, link: false };
    match remove(inner, container, options).await {
        Ok(()) => {}
        // Somebody else removes it.
        Err(error) if error.kind() == types::Kind::Conflict => {}
        Err(error) => tracing::error!(container = container.id(), %error, "a --rm container could not be removed"),
    }
}

/// Remove every stopped container that matches.
///
/// # Errors
/// Invalid for an unknown filter.
pub(crate) async fn prune(inner: &Arc<Inner>, filters: &Filters) -> Result<ContainerPruneReport> {
    if let Some(key) = filters.unknown_key(&["label", "label!", "until"]) {
        return Err(fail!(Invalid, "invalid filter '{key}'"));
    }
    let until = list::until(filters)?;
    let mut report = ContainerPruneReport::default();
    for container in inner.containers.all() {
        let record = container.record();
        let label = |key: &str| record.label(key);
        let chosen = matches!(record.state.phase, Phase::Created | Phase::Exited | Phase::Dead)
            && until.is_none_or(|until| record.created_ns < until)
            && filters.match_labels("label", label)
            && (!filters.contains("label!") || !filters.match_labels("label!", label));
        if !chosen {
            continue;
        }
        let dir = inner.container_dir(container.id()).join("upper");
        let size =
            inner.blocking("measure a container", move || Ok(super::inspect::tree_bytes(&dir))).await.unwrap_or(0);
        match remove(inner, &container, RemoveOptions::default()).await {
            Ok(()) => {
                report.containers_deleted.get_or_insert_default().push(container.id().to_owned());
                report.space_reclaimed += size;
            }
            Err(error) => tracing::warn!(container = container.id(), %error, "a container was not pruned"),
        }
    }
    let attributes = [("reclaimed".to_owned(), report.space_reclaimed.to_string())].into();
    inner.events.publish("container", "prune", "", attributes);
    Ok(report)
}
