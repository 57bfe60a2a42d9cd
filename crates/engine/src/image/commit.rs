//! `docker commit`: a container's changes as a layer on its image.

use std::sync::Arc;

use docker_types::container::{ContainerConfig, HealthConfig};
use docker_types::image::ImageConfig;
use store::image::Commit;
use store::model::Descriptor;
use types::{Platform, Reference};

use super::{Images, changes, convert, made_here, target_name};
use crate::clock;
use crate::container::record::{Phase, Record};
use crate::engine::Inner;
use crate::error::{Result, fail};
use crate::facade::CommitOptions;

/// Commit; gives the new image's id. The container is frozen meanwhile when asked for and running.
///
/// # Errors
/// Not found; invalid for names or changes that make no sense; Exhausted when the disk is full.
pub(crate) async fn commit(inner: &Arc<Inner>, options: CommitOptions) -> Result<String> {
    let container = inner.containers.get(&options.container)?;
    let name = target_name(options.repo.as_deref(), options.tag.as_deref())?;
    let comment = options.comment.unwrap_or_default();
    // Nothing else may start, stop or remove the container while its changes are read.
    let _lifecycle = container.lifecycle.lock().await;
    let record = container.record();
    if matches!(record.state.phase, Phase::Removing | Phase::Dead) {
        return Err(fail!(Conflict, "You cannot commit container {} which is being removed", record.id));
    }
    let own = image_config(record.config.clone());
    let mut config = options.config.map_or_else(|| own.clone(), image_config);
    changes::apply(&mut config, &options.changes)?;
    lay_under(&mut config, &own);
    let commit = Commit {
        config: convert::from_api(&config),
        created: clock::rfc3339(clock::now_ns()),
        author: options.author.unwrap_or_default(),
        comment: comment.clone(),
        created_by: record.config.cmd.as_ref().map(|words| words.0.join(" ")).unwrap_or_default(),
    };
    let frozen = match options.pause && record.state.phase == Phase::Running {
        true => Some(inner.cgroup(&record)?),
        false => None,
    };
    let store = Arc::clone(inner.images.store());
    let ingest = Arc::new(store.ingest());
    let taking = Arc::clone(&ingest);
    let upper = inner.container_dir(&record.id).join("upper");
    let base = base(&record)?;
    let target = inner
        .blocking("commit a container", move || {
            let base = base.map(|base| store::image::resolve(&*store, &base, &Platform::host())).transpose()?;
            let upper = sys::path::Root::open(&upper)
                .map_err(|e| crate::Error::io(format!("cannot open the container's changes {}", upper.display()), e))?;
            if let Some(cgroup) = &frozen {
                cgroup.freeze()?;
            }
            let made = store::image::commit(&taking, base.as_ref(), &upper, &commit);
            if let Some(cgroup) = &frozen {
                cgroup.thaw()?;
            }
            Ok(made?)
        })
        .await?;
    let image = Images::admit(inner, ingest, target, name.iter().cloned().collect(), ("commit", made_here())).await?;
    let id = image.id().to_string();
    let called = name.as_ref().map(Reference::familiar).unwrap_or_default();
    inner.publish_container(
        &container,
        "commit",
        [("comment", comment), ("imageID", id.clone()), ("imageRef", called)],
    );
    Ok(id)
}

/// The manifest the container was made from.
fn base(record: &Record) -> Result<Option<Descriptor>> {
    let Some(manifest) = &record.manifest else { return Ok(None) };
    let digest = manifest
        .digest
        .parse()
        .map_err(|e| fail!(Internal, "the record of container {} names no manifest: {e}", record.id))?;
    let size = u64::try_from(manifest.size).unwrap_or(0);
    Ok(Some(Descriptor::new(manifest.media_type.clone(), digest, size)))
}

/// What of a container's configuration an image keeps.
fn image_config(config: ContainerConfig) -> ImageConfig {
    ImageConfig {
        user: config.user,
        exposed_ports: config.exposed_ports,
        env: config.env,
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        volumes: config.volumes,
        working_dir: config.working_dir,
        labels: config.labels,
        stop_signal: config.stop_signal,
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck,
        on_build: config.on_build,
        shell: config.shell,
    }
}

/// Fill what a given configuration leaves open from the container's own.
fn lay_under(config: &mut ImageConfig, own: &ImageConfig) {
    let fill = |mine: &mut String, theirs: &String| {
        if mine.is_empty() {
            mine.clone_from(theirs);
        }
    };
    fill(&mut config.user, &own.user);
    fill(&mut config.working_dir, &own.working_dir);
    fill(&mut config.stop_signal, &own.stop_signal);
    for port in own.exposed_ports.iter().flatten() {
        config.exposed_ports.get_or_insert_default().insert(port.0.clone(), docker_types::Empty {});
    }
    for volume in own.volumes.iter().flatten() {
        config.volumes.get_or_insert_default().insert(volume.0.clone(), docker_types::Empty {});
    }
    for (key, value) in own.labels.iter().flatten() {
        config.labels.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
    }
    let key = |entry: &str| entry.split('=').next().unwrap_or(entry).to_owned();
    for entry in own.env.iter().flatten() {
        let env = config.env.get_or_insert_default();
        if !env.iter().any(|mine| key(mine) == key(entry)) {
            env.push(entry.clone());
        }
    }
    if config.entrypoint.as_ref().is_none_or(|words| words.is_empty()) {
        if config.cmd.as_ref().is_none_or(|words| words.is_empty()) {
            config.cmd.clone_from(&own.cmd);
        }
        config.entrypoint.clone_from(&own.entrypoint);
    }
    if let Some(theirs) = &own.healthcheck {
        let check = config.healthcheck.get_or_insert_with(HealthConfig::default);
        if check.test.is_empty() {
            check.test.clone_from(&theirs.test);
        }
        for (mine, theirs) in [
            (&mut check.interval, theirs.interval),
            (&mut check.timeout, theirs.timeout),
            (&mut check.start_period, theirs.start_period),
            (&mut check.start_interval, theirs.start_interval),
            (&mut check.retries, theirs.retries),
        ] {
            if *mine == 0 {
                *mine = theirs;
            }
        }
    }
    if config.shell.is_none() {
        config.shell.clone_from(&own.shell);
    }
}
