//! Everything about one container, as `GET /containers/{id}/json` shows it. Reads published state
//! only. Called by the facade.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use docker_types::container::{
    ContainerInspect, ContainerState, HostConfig, NetworkSettings, RootFsSnapshot, RootFsStorage, Storage,
};
use docker_types::network::{EndpointSettings, PortMap};

use super::Container;
use super::record::{Phase, Record};
use crate::clock;
use crate::engine::Inner;
use crate::error::Result;
use crate::plan;

/// Name of the storage driver shown to clients.
pub(crate) const DRIVER: &str = "overlayfs";

/// The document. `size`: measure the writable layer and the root file system, which reads both.
pub(crate) async fn inspect(inner: &Arc<Inner>, container: &Arc<Container>, size: bool) -> Result<ContainerInspect> {
    let record = container.record();
    let (health, execs) = {
        let live = container.live();
        (live.health.clone(), live.execs.iter().cloned().collect::<Vec<_>>())
    };
    let mut line = record.command_line();
    let path = if line.is_empty() { String::new() } else { line.remove(0) };
    let state = &record.state;
    let dir = inner.container_dir(&record.id);
    let started = state.started_ns != 0;
    let file = |name: &str| if started { dir.join(name).to_string_lossy().into_owned() } else { String::new() };
    let log = plan::log::log_path(&record, &dir).filter(|_| started);
    let (size_rw, size_root_fs) = if size {
        let (rw, base) = sizes(inner, &record).await?;
        (Some(rw), Some(rw + base))
    } else {
        (None, None)
    };
    Ok(ContainerInspect {
        id: record.id.clone(),
        created: clock::rfc3339(record.created_ns),
        path,
        args: line,
        state: ContainerState {
            status: state.phase.as_str().into(),
            running: matches!(state.phase, Phase::Running | Phase::Paused | Phase::Restarting),
            paused: state.phase == Phase::Paused,
            restarting: state.phase == Phase::Restarting,
            oom_killed: state.oom_killed,
            dead: state.phase == Phase::Dead,
            pid: i64::from(state.pid),
            exit_code: i64::from(state.exit_code),
            error: state.error.clone(),
            started_at: clock::rfc3339(state.started_ns),
            finished_at: clock::rfc3339(state.finished_ns),
            health,
        },
        image: record.image_id.clone(),
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path: log.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default(),
        name: format!("/{}", record.name),
        restart_count: i64::from(state.restart_count),
        driver: DRIVER.into(),
        platform: "linux".into(),
        exec_ids: (!execs.is_empty()).then_some(execs),
        host_config: HostConfig {
            links: crate::network::legacy_links::shown(inner, &record),
            ..record.host_config.clone()
        },
        storage: Some(Storage {
            root_fs: Some(RootFsStorage { snapshot: Some(RootFsSnapshot { name: DRIVER.into() }) }),
        }),
        size_rw,
        size_root_fs,
        mounts: record.mounts.iter().filter(|m| shown_as_mount(&record, m)).map(|m| m.mount_point()).collect(),
        config: record.config.clone(),
        network_settings: NetworkSettings {
            sandbox_id: if state.phase.is_live() { state.sandbox_id.clone() } else { String::new() },
            sandbox_key: match container.pid() {
                Some(pid) => format!("/proc/{pid}/ns/net"),
                None => String::new(),
            },
            ports: Some(ports(&record)),
            networks: networks(inner, &record),
        },
        image_manifest_descriptor: record.manifest.clone(),
        ..ContainerInspect::default()
    })
}

/// `--tmpfs` is shown in the host configuration only; `--mount type=tmpfs` among the mounts.
fn shown_as_mount(record: &Record, mount: &super::record::MountRecord) -> bool {
    !record.host_config.tmpfs.keys().any(|target| super::mounts::clean(target) == mount.destination)
}

/// Published ports, and while running exposed ones without a binding, if a bridge leads out of the container's networks.
pub(crate) fn ports(record: &Record) -> PortMap {
    let mut map = record.state.ports.clone();
    let leads_out = record.state.endpoints.iter().any(|endpoint| endpoint.bridge.is_some() && !endpoint.internal);
    if record.state.phase.is_live() && leads_out {
        for key in record.config.exposed_ports.iter().flat_map(|p| p.keys()) {
            map.entry(key.clone()).or_insert(None);
        }
    }
    map
}

/// The networks asked for, with addresses while running.
pub(crate) fn networks(inner: &Inner, record: &Record) -> BTreeMap<String, EndpointSettings> {
    if record.host_config.network_mode.starts_with("container:") {
        return BTreeMap::new();
    }
    let mut map = record.endpoints.clone();
    for (name, settings) in &mut map {
        if record.state.started_ns != 0 || record.state.phase.is_live() {
            settings.network_id = inner.networks.id_of(name);
        }
        let Some(endpoint) = record.state.endpoints.iter().find(|endpoint| endpoint.network_name == *name) else {
            continue;
        };
        settings.endpoint_id = endpoint.id.to_string();
        settings.mac_address = endpoint.mac.to_string();
        if let Some(net) = endpoint.ipv4 {
            settings.ip_address = net.addr().to_string();
            settings.ip_prefix_len = i64::from(net.prefix_len());
        }
        if let Some(net) = endpoint.ipv6 {
            settings.global_ipv6_address = net.addr().to_string();
            settings.global_ipv6_prefix_len = i64::from(net.prefix_len());
        }
        settings.gateway = endpoint.gateway4.map(|ip| ip.to_string()).unwrap_or_default();
        settings.ipv6_gateway = endpoint.gateway6.map(|ip| ip.to_string()).unwrap_or_default();
        // The default bridge serves names as well, but clients expect to be shown none there.
        if name != crate::network::BRIDGE {
            settings.dns_names = Some(endpoint.names.clone());
        }
    }
    map
}

/// Bytes of the writable layer, and of the image below it.
pub(crate) async fn sizes(inner: &Arc<Inner>, record: &Arc<Record>) -> Result<(i64, i64)> {
    let (worker, record) = (Arc::clone(inner), Arc::clone(record));
    inner
        .blocking("measure a container", move || {
            let upper = tree_bytes(&worker.container_dir(&record.id).join("upper"));
            let base = worker.images.unpacked_size(&record.layers);
            let clip = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            Ok((clip(upper), clip(base)))
        })
        .await
}

/// Bytes of the files below a directory of ours; hard links count once. What vanishes meanwhile
/// counts nothing.
pub(crate) fn tree_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut seen = std::collections::HashSet::new();
    let mut pending = vec![dir.to_owned()];
    let mut total = 0;
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                pending.push(entry.path());
            } else if meta.nlink() < 2 || seen.insert((meta.dev(), meta.ino())) {
                total += meta.size();
            }
        }
    }
    total
}
