//! Facts about the engine and its host: `info` and `version`. Called by the façade.

use std::collections::BTreeMap;
use std::sync::Arc;

use docker_types::ApiVersion;
use docker_types::system::{
    Commit, ComponentVersion, IndexInfo, PlatformName, PluginsInfo, RegistryServiceConfig, RuntimeInfo, SwarmInfo,
    SystemInfo, Version,
};
use types::Platform;

use crate::clock;
use crate::container::inspect::DRIVER;
use crate::container::record::Phase;
use crate::container::stats::host_memory;
use crate::engine::Inner;

/// `GET /info`.
pub(crate) fn info(inner: &Arc<Inner>) -> SystemInfo {
    let (mut running, mut paused, mut stopped) = (0, 0, 0);
    let containers = inner.containers.all();
    for container in &containers {
        match container.phase() {
            Phase::Running | Phase::Restarting => running += 1,
            Phase::Paused => paused += 1,
            _ => stopped += 1,
        }
    }
    let uname = rustix::system::uname();
    let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
    let support = &inner.support;
    let own = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
    let mut warnings = Vec::new();
    for (there, warning) in [
        (support.memory, "WARNING: No memory limit support"),
        (support.swap, "WARNING: No swap limit support"),
        (support.cpu_cfs, "WARNING: No cpu cfs quota support"),
        (support.cpu_shares, "WARNING: No cpu shares support"),
        (support.cpuset, "WARNING: No cpuset support"),
        (support.pids, "WARNING: No pids limit support"),
    ] {
        if !there {
            warnings.push(warning.to_owned());
        }
    }
    let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|t| t.trim() == "1");
    if !forwarding {
        warnings.push("WARNING: IPv4 forwarding is disabled".into());
    }
    let indexed = inner.images.store().layers().are_indexed();
    let runtime = RuntimeInfo { path: inner.config.shim.to_string_lossy().into_owned(), ..RuntimeInfo::default() };
    SystemInfo {
        id: inner.engine_id.clone(),
        containers: containers.len() as i64,
        containers_running: running,
        containers_paused: paused,
        containers_stopped: stopped,
        images: inner.images.count() as i64,
        driver: DRIVER.into(),
        driver_status: Some(vec![
            ["driver-type".into(), "dhow.store.overlay".into()],
            ["Layers".into(), if indexed { "indexed archives (erofs)" } else { "directories" }.into()],
        ]),
        plugins: PluginsInfo {
            volume: own(&["local"]),
            network: own(&["bridge", "host", "null"]),
            authorization: None,
            log: own(&["json-file", "none"]),
        },
        memory_limit: support.memory,
        swap_limit: support.swap,
        cpu_cfs_period: support.cpu_cfs,
        cpu_cfs_quota: support.cpu_cfs,
        cpu_shares: support.cpu_shares,
        cpu_set: support.cpuset,
        pids_limit: support.pids,
        ipv4_forwarding: forwarding,
        debug: inner.config.debug,
        n_fd: std::fs::read_dir("/proc/self/fd").map_or(0, |d| d.count() as i64),
        oom_kill_disable: support.oom_kill_disable,
        // Threads are the nearest thing we have.
        n_goroutines: std::fs::read_dir("/proc/self/task").map_or(0, |d| d.count() as i64),
        system_time: clock::rfc3339(clock::now_ns()),
        logging_driver: inner.config.log_driver.clone(),
        cgroup_driver: "cgroupfs".into(),
        cgroup_version: inner.cgroups.version().into(),
        n_events_listener: inner.events.listeners() as i64,
        kernel_version: text(uname.release()),
        operating_system: operating_system(),
        os_version: os_release("VERSION_ID").unwrap_or_default(),
        os_type: "linux".into(),
        architecture: text(uname.machine()),
        index_server_address: "https://index.docker.io/v1/".into(),
        registry_config: Some(registries(inner)),
        ncpu: i64::from(inner.facts.cpus),
        mem_total: i64::try_from(host_memory()).unwrap_or(i64::MAX),
        docker_root_dir: inner.config.data_root.to_string_lossy().into_owned(),
        http_proxy: proxy("HTTP_PROXY"),
        https_proxy: proxy("HTTPS_PROXY"),
        no_proxy: proxy("NO_PROXY"),
        name: text(uname.nodename()),
        labels: inner.config.labels.clone(),
        server_version: inner.config.version.clone(),
        runtimes: BTreeMap::from([("runc".to_owned(), runtime.clone()), ("dhow".to_owned(), runtime)]),
        default_runtime: "runc".into(),
        swarm: SwarmInfo::inactive(),
        live_restore_enabled: true,
        init_binary: "dhow-shim".into(),
        containerd_commit: Commit::default(),
        runc_commit: Commit { id: inner.config.git_commit.clone() },
        init_commit: Commit { id: inner.config.git_commit.clone() },
        security_options: security_options(inner),
        warnings: (!warnings.is_empty()).then_some(warnings),
        ..SystemInfo::default()
    }
}

fn security_options(inner: &Inner) -> Vec<String> {
    let mut list = vec!["name=seccomp,profile=builtin".to_owned()];
    if inner.facts.cgroup_v2 {
        list.push("name=cgroupns".into());
    }
    if inner.config.no_new_privileges {
        list.push("name=no-new-privileges".into());
    }
    list
}

fn registries(inner: &Inner) -> RegistryServiceConfig {
    let index = |name: &str, official: bool, secure: bool, mirrors: Vec<String>| {
        (name.to_owned(), IndexInfo { mirrors, name: name.to_owned(), official, secure })
    };
    let mirrors = inner.config.registry_mirrors.clone();
    let mut configs = BTreeMap::from([index("docker.io", true, true, mirrors.clone())]);
    let mut cidrs = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    for registry in &inner.config.insecure_registries {
        if registry.contains('/') {
            cidrs.push(registry.clone());
        } else {
            configs.extend([index(registry, false, false, Vec::new())]);
        }
    }
    RegistryServiceConfig {
        index_configs: configs,
        insecure_registry_cidrs: cidrs,
        mirrors: (!mirrors.is_empty()).then_some(mirrors),
    }
}

/// A proxy of our environment without the password in it.
fn proxy(name: &str) -> String {
    let value = std::env::var(name).or_else(|_| std::env::var(name.to_lowercase())).unwrap_or_default();
    match (value.find("://"), value.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}xxxxx:xxxxx{}", &value[..scheme + 3], &value[at..]),
        _ => value,
    }
}

fn os_release(key: &str) -> Option<String> {
    let text =
        std::fs::read_to_string("/etc/os-release").or_else(|_| std::fs::read_to_string("/usr/lib/os-release")).ok()?;
    text.lines().find_map(|l| Some(l.strip_prefix(key)?.strip_prefix('=')?.trim_matches('"').to_owned()))
}

fn operating_system() -> String {
    os_release("PRETTY_NAME").unwrap_or_else(|| "Linux".into())
}

/// `GET /version`.
pub(crate) fn version(inner: &Arc<Inner>) -> Version {
    let config = &inner.config;
    let uname = rustix::system::uname();
    let kernel = uname.release().to_string_lossy().into_owned();
    let arch = Platform::host().arch;
    let details = BTreeMap::from(
        [
            ("ApiVersion", ApiVersion::CURRENT.to_string()),
            ("MinAPIVersion", ApiVersion::MINIMUM.to_string()),
            ("Arch", arch.clone()),
            ("Os", "linux".to_owned()),
            ("BuildTime", config.build_time.clone()),
            ("Experimental", "false".to_owned()),
            ("GitCommit", config.git_commit.clone()),
            ("GoVersion", String::new()),
            ("KernelVersion", kernel.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    let component = |name: &str, details: BTreeMap<String, String>| ComponentVersion {
        name: name.to_owned(),
        version: config.version.clone(),
        details,
    };
    let commit = BTreeMap::from([("GitCommit".to_owned(), config.git_commit.clone())]);
    Version {
        platform: Some(PlatformName { name: "dhow".into() }),
        components: vec![component("Engine", details), component("dhow-shim", commit)],
        version: config.version.clone(),
        api_version: ApiVersion::CURRENT.to_string(),
        min_api_version: ApiVersion::MINIMUM.to_string(),
        git_commit: config.git_commit.clone(),
        go_version: String::new(),
        os: "linux".into(),
        arch,
        kernel_version: kernel,
        experimental: false,
        build_time: config.build_time.clone(),
    }
}
