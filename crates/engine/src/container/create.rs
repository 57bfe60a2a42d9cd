//! Creating a container: merge with the image, validate, make its volumes and directory, and commit
//! it under its name in one transaction. Nothing runs yet. Called by the facade.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use docker_types::container::{
    ContainerConfig, ContainerCreateBody, ContainerCreateResponse, HealthConfig, HostConfig,
};
use docker_types::image::ImageConfig;
use docker_types::volume::VolumeCreateBody;
use state::Durability;
use types::{ContainerName, Kind, Platform};

use super::mounts::{self, Wanted};
use super::record::{MountType, Record};
use super::{Container, names, random_id, validate};
use crate::clock;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};
use crate::image::{Images, Resolved};
use crate::plan;
use crate::volume::Copy;

/// Create and commit; gives the id and warnings.
pub(crate) async fn create(
    inner: &Arc<Inner>,
    name: Option<String>,
    platform: Option<Platform>,
    body: ContainerCreateBody,
) -> Result<ContainerCreateResponse> {
    let ContainerCreateBody { mut config, host_config, networking_config } = body;
    let mut host = host_config.unwrap_or_default();
    validate::config(&config)?;
    let mut warnings = validate::host_config(&host, &config, &inner.facts)?;
    let name = match name.as_deref() {
        None | Some("") => None,
        Some(text) => {
            let parsed = text.parse::<ContainerName>().map_err(|e| fail!(Invalid, "{e}"))?;
            Some(parsed.as_str().to_owned())
        }
    };
    if config.image.is_empty() && config.cmd.is_none() && config.entrypoint.is_none() {
        return Err(fail!(Invalid, "config cannot be empty in order to create a container"));
    }

    let mut limits = plan::cgroup_resources(&host.resources(), None)?;
    warnings.extend(limits.discard_unsupported(&inner.support).into_iter().map(str::to_owned));

    let image = inner.images.resolve(&config.image, platform.as_ref())?;
    warnings.extend(Images::permit(inner, &config.image, &image).await?);
    merge(&mut config, &image.config);
    if config.cmd.as_ref().is_none_or(|c| c.is_empty()) && config.entrypoint.as_ref().is_none_or(|c| c.is_empty()) {
        return Err(fail!(Invalid, "no command specified"));
    }
    let id = random_id();
    validate::fill_defaults(&mut host, &mut config, &id, &inner.facts, &inner.config);
    if host.init.is_none() && inner.config.init {
        host.init = Some(true);
    }
    resolve_container_modes(inner, &mut host)?;
    let mut endpoints =
        endpoints(inner, &host, &config, networking_config.and_then(|n| n.endpoints_config).unwrap_or_default())?;
    let mode = host.network_mode.as_str();
    let own = inner.networks.find(mode).map_or_else(|_| mode.to_owned(), |network| network.record.name.clone());
    crate::network::legacy_links::settle(inner, &mut host, endpoints.get_mut(&own))?;
    let wanted = mounts::collect(&host, &config, &inner.config.data_root, |donor| {
        let container = inner.containers.get(donor).map_err(|e| e.with_kind(types::Kind::Invalid))?;
        Ok(container.record())
    })?;
    mounts::check_sources(inner, &wanted).await?;
    if wanted.iter().any(|wanted| wanted.mount.kind == MountType::Image) {
        warnings.push("Image mount is an experimental feature".to_owned());
    }

    let name = reserve(inner, name, &id)?;
    let record = Record {
        id: id.clone(),
        name: name.clone(),
        created_ns: clock::now_ns(),
        image_id: image.id.clone(),
        manifest: image.manifest.clone(),
        layers: image.layers.clone(),
        config,
        host_config: host,
        endpoints,
        ..Record::default()
    };
    let made = build(inner, record, wanted, &image).await;
    let container = match made {
        Ok(container) => container,
        Err(error) => {
            inner.containers.release_name(&name, &id);
            let dir = inner.container_dir(&id);
            inner
                .blocking("remove the directory of a failed creation", move || {
                    remove_quietly(&dir);
                    Ok(())
                })
                .await?;
            return Err(error);
        }
    };
    inner.publish_container(&container, "create", []);
    warnings.retain(|w| !w.is_empty());
    Ok(ContainerCreateResponse { id, warnings })
}

fn remove_quietly(dir: &Path) {
    // Half-made and unreferenced: what stays is swept at the next start of the engine.
    let _ = std::fs::remove_dir_all(dir);
}

fn reserve(inner: &Inner, name: Option<String>, id: &str) -> Result<String> {
    if let Some(name) = name {
        inner.containers.reserve_name(&name, id)?;
        return Ok(name);
    }
    for attempt in 0..50 {
        let name = names::random(attempt);
        if inner.containers.reserve_name(&name, id).is_ok() {
            return Ok(name);
        }
    }
    // The first twelve digits of a fresh id are as good as unique.
    let name = id[..12].to_owned();
    inner.containers.reserve_name(&name, id)?;
    Ok(name)
}

/// Volumes, directory, database row.
async fn build(
    inner: &Arc<Inner>,
    mut record: Record,
    wanted: Vec<Wanted>,
    image: &Resolved,
) -> Result<Arc<Container>> {
    let (mut made_volumes, mut claimed) = (Vec::new(), Vec::new());
    let id = record.id.clone();
    let result = async {
        let mut copies = Vec::new();
        for wanted in wanted {
            let mut mount = wanted.mount;
            match mount.kind {
                MountType::Volume => {
                    let body = VolumeCreateBody {
                        name: mount.name.clone(),
                        driver: mount.driver.clone(),
                        labels: match (mount.anonymous, wanted.labels.is_empty()) {
                            (true, _) => {
                                let mut labels = wanted.labels;
                                labels.insert("com.docker.volume.anonymous".into(), String::new());
                                Some(labels)
                            }
                            (false, true) => None,
                            (false, false) => Some(wanted.labels),
                        },
                        driver_opts: Some(wanted.driver_options).filter(|options| !options.is_empty()),
                    };
                    let (volume, new) = inner.volumes.create(inner, body).await?;
                    if new {
                        made_volumes.push(volume.name.clone());
                    }
                    // Not removed before the container that refers to it is there.
                    inner.volumes.claim(&mount.name, &record.id).await?;
                    claimed.push(mount.name.clone());
                    mount.source = volume.mountpoint;
                    mount.driver = volume.driver;
                    if !mount.no_copy {
                        copies.push(Copy {
                            volume: mount.name.clone(),
                            subpath: mount.subpath.clone(),
                            target: mount.destination.clone(),
                        });
                    }
                }
                MountType::Image => {
                    let image = inner.images.resolve(&mount.source, None)?;
                    Images::permit(inner, &mount.source, &image).await?;
                    mount.layers = image.layers;
                    mount.name.clone_from(&mount.source);
                }
                MountType::Bind if wanted.create_source => {
                    mounts::make_source(inner, &mount.source).await?;
                    mount.create_source = true;
                }
                _ => {}
            }
            record.mounts.push(mount);
        }
        let dir = inner.container_dir(&record.id);
        inner
            .blocking("make the container's directory", move || {
                use std::os::unix::fs::DirBuilderExt;
                let make = |path: &Path, mode: u32| {
                    std::fs::DirBuilder::new()
                        .mode(mode)
                        .create(path)
                        .map_err(|e| Error::io(format!("cannot make {}", path.display()), e))
                };
                make(&dir, 0o710)?;
                make(&dir.join("upper"), 0o755)?;
                make(&dir.join("work"), 0o700)
            })
            .await?;
        let container = Container::new(record.clone());
        if !copies.is_empty() {
            let copied = inner.volumes.copy_up(inner, &image.layers, copies).await;
            copied.map_err(|e| e.context("failed to populate volume"))?;
        }
        inner.persist(&container, Durability::Process).await?;
        inner.containers.insert(Arc::clone(&container));
        inner.images.touch(inner, &record.image_id);
        Ok(container)
    }
    .await;
    for name in claimed {
        inner.volumes.release(inner, &name, &id).await;
    }
    if result.is_err() {
        for name in made_volumes {
            if let Err(error) = inner.volumes.remove(inner, &name, true).await {
                tracing::warn!(volume = name, %error, "a volume of a failed creation stays");
            }
        }
    }
    result
}

/// `container:NAME` modes name an existing container; keep its full id, as names change.
fn resolve_container_modes(inner: &Inner, host: &mut HostConfig) -> Result<()> {
    for (mode, strict) in [(&mut host.ipc_mode, true), (&mut host.pid_mode, true), (&mut host.network_mode, false)] {
        if let Some(name) = mode.strip_prefix("container:") {
            match inner.containers.get(name) {
                Ok(container) => *mode = format!("container:{}", container.id()),
                // A missing network donor is reported at start, as Docker does.
                // Not "not found": clients would go and pull the image.
                Err(error) if strict => return Err(error.with_kind(types::Kind::Invalid)),
                Err(_) => {}
            }
        }
    }
    Ok(())
}

/// The networks a new container is to be on, by their names. A network that does not exist is a matter of the start.
fn endpoints(
    inner: &Inner,
    host: &HostConfig,
    config: &ContainerConfig,
    given: BTreeMap<String, Option<docker_types::network::EndpointSettings>>,
) -> Result<BTreeMap<String, docker_types::network::EndpointSettings>> {
    let mode = host.network_mode.as_str();
    let private = matches!(mode, "host" | "none") || mode.starts_with("container:");
    let mut map = BTreeMap::new();
    for (name, settings) in given {
        let name = if name == "default" { mode.to_owned() } else { name };
        let settings = settings.unwrap_or_default();
        let network = inner.networks.find(&name).ok();
        crate::network::check_endpoint(network.as_deref(), &settings).map_err(|error| match error.kind() {
            Kind::Invalid if error.to_string().starts_with("invalid endpoint settings") => {
                error.context(format!("invalid config for network {name}"))
            }
            _ => error,
        })?;
        if private && name != mode {
            // dockerd ignores them as well: the namespace is not its own.
            continue;
        }
        let name = network.map_or(name, |network| network.record.name.clone());
        map.insert(name, settings);
    }
    let own = inner.networks.find(mode).map_or_else(|_| mode.to_owned(), |network| network.record.name.clone());
    let own = map.entry(own).or_default();
    if own.mac_address.is_empty() {
        own.mac_address.clone_from(&config.mac_address);
    }
    Ok(map)
}

/// Lay the request over the image's configuration; what the user gave wins.
pub(crate) fn merge(user: &mut ContainerConfig, image: &ImageConfig) {
    if user.user.is_empty() {
        user.user.clone_from(&image.user);
    }
    for port in image.exposed_ports.iter().flat_map(|p| p.keys()) {
        user.exposed_ports.get_or_insert_default().entry(port.clone()).or_default();
    }
    let own: Vec<String> = user.env.clone().unwrap_or_default();
    let key = |entry: &str| entry.split('=').next().unwrap_or(entry).to_owned();
    let mut env = own.clone();
    for entry in image.env.iter().flatten() {
        if !own.iter().any(|e| key(e) == key(entry)) {
            env.push(entry.clone());
        }
    }
    user.env = Some(env);
    if image.labels.is_some() || user.labels.is_none() {
        let labels = user.labels.get_or_insert_default();
        for (name, value) in image.labels.iter().flatten() {
            labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    let no_entrypoint = user.entrypoint.as_ref().is_none_or(|e| e.is_empty());
    if no_entrypoint {
        if user.cmd.as_ref().is_none_or(|c| c.is_empty()) {
            // An emptied entrypoint (`--entrypoint ""`) keeps the image's command all the same.
            user.cmd.clone_from(&image.cmd);
        }
        if user.entrypoint.is_none() {
            user.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if user.entrypoint.as_ref().is_some_and(|e| e.len() == 1 && e[0].is_empty()) {
        user.entrypoint = None;
    }
    if let Some(theirs) = &image.healthcheck {
        let own = user.healthcheck.get_or_insert_with(HealthConfig::default);
        if own.test.is_empty() {
            own.test.clone_from(&theirs.test);
        }
        for (mine, image) in [
            (&mut own.interval, theirs.interval),
            (&mut own.timeout, theirs.timeout),
            (&mut own.start_period, theirs.start_period),
            (&mut own.start_interval, theirs.start_interval),
            (&mut own.retries, theirs.retries),
        ] {
            if *mine == 0 {
                *mine = image;
            }
        }
    }
    if user.working_dir.is_empty() {
        user.working_dir.clone_from(&image.working_dir);
    }
    for volume in image.volumes.iter().flat_map(|v| v.keys()) {
        user.volumes.get_or_insert_default().entry(volume.clone()).or_default();
    }
    if user.volumes.as_ref().is_some_and(BTreeMap::is_empty) {
        user.volumes = None;
    }
    if user.stop_signal.is_empty() {
        user.stop_signal.clone_from(&image.stop_signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Option<docker_types::StrSlice> {
        Some(list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().into())
    }

    fn image() -> ImageConfig {
        ImageConfig {
            entrypoint: words(&["/entry"]),
            cmd: words(&["serve"]),
            env: Some(vec!["PATH=/bin".into(), "A=image".into()]),
            working_dir: "/srv".into(),
            labels: Some([("l".to_owned(), "image".to_owned())].into()),
            ..ImageConfig::default()
        }
    }

    #[test]
    fn what_the_user_gave_wins() {
        let mut user = ContainerConfig { env: Some(vec!["A=user".into()]), ..ContainerConfig::default() };
        merge(&mut user, &image());
        assert_eq!(user.env.as_deref(), Some(&["A=user".to_owned(), "PATH=/bin".into()][..]));
        assert_eq!(
            (user.entrypoint, user.cmd, user.working_dir.as_str()),
            (words(&["/entry"]), words(&["serve"]), "/srv")
        );
    }

    #[test]
    fn entrypoint_and_command_rules() {
        let merged = |entrypoint, cmd| {
            let mut user = ContainerConfig { entrypoint, cmd, ..ContainerConfig::default() };
            merge(&mut user, &image());
            (user.entrypoint, user.cmd)
        };
        assert_eq!(merged(None, words(&["x"])), (words(&["/entry"]), words(&["x"])));
        assert_eq!(merged(words(&["/own"]), None), (words(&["/own"]), None));
        assert_eq!(merged(words(&[""]), words(&["x"])), (None, words(&["x"])));
    }
}
