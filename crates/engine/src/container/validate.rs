//! Checks of a create or update request, in Docker's words, before anything is touched; and the
//! defaults that are filled in once the request is known to be good. Pure but for the facts of the
//! host handed in. Called by create and update.

use std::net::IpAddr;

use docker_types::container::{ContainerConfig, HealthConfig, HostConfig, Resources};
use types::{ExposedPort, PortRange, Signal};

use crate::error::{Result, fail};
use crate::network::legacy_links;
use crate::plan::capabilities;

/// What the host offers, read once.
#[derive(Clone, Debug)]
pub(crate) struct HostFacts {
    pub cpus: u32,
    /// Online CPUs as a list, `0-1`.
    pub cpu_list: String,
    /// Memory nodes as a list, `0`.
    pub mem_list: String,
    /// Pure cgroup v2.
    pub cgroup_v2: bool,
    /// Network mode that `default` stands for: `bridge` or `none`.
    pub default_network: &'static str,
}

impl HostFacts {
    pub(crate) fn read(cgroup_v2: bool, bridge: bool) -> Self {
        let list =
            |path: &str| std::fs::read_to_string(path).map_or_else(|_| "0".to_owned(), |text| text.trim().to_owned());
        let cpu_list = list("/sys/devices/system/cpu/online");
        let cpus = parse_list(&cpu_list).map_or(1, |l| l.len() as u32).max(1);
        Self {
            cpus,
            cpu_list,
            mem_list: list("/sys/devices/system/node/online"),
            cgroup_v2,
            default_network: if bridge { "bridge" } else { "none" },
        }
    }
}

const MIN_MEMORY: i64 = 6 << 20;

pub(crate) const MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

pub(crate) const READONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Names of resource limits (getrlimit(2)) and their numbers.
pub(crate) const ULIMITS: &[(&str, u32)] = &[
    ("cpu", 0),
    ("fsize", 1),
    ("data", 2),
    ("stack", 3),
    ("core", 4),
    ("rss", 5),
    ("nproc", 6),
    ("nofile", 7),
    ("memlock", 8),
    ("as", 9),
    ("locks", 10),
    ("sigpending", 11),
    ("msgqueue", 12),
    ("nice", 13),
    ("rtprio", 14),
    ("rttime", 15),
];

/// The portable part.
pub(crate) fn config(config: &ContainerConfig) -> Result<()> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(fail!(
            Invalid,
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        ));
    }
    if !config.stop_signal.is_empty() {
        config.stop_signal.parse::<Signal>().map_err(|e| fail!(Invalid, "{e}"))?;
    }
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') || variable.contains('\0') {
            return Err(fail!(Invalid, "invalid environment variable: {variable}"));
        }
    }
    for word in config.cmd.iter().chain(config.entrypoint.iter()).flat_map(|l| l.iter()) {
        if word.contains('\0') {
            return Err(fail!(Invalid, "invalid argument {word:?}: a NUL byte cannot be passed to a program"));
        }
    }
    if let Some(check) = &config.healthcheck {
        health(check)?;
    }
    for port in config.exposed_ports.iter().flat_map(|p| p.keys()) {
        port_key(port)?;
    }
    Ok(())
}

fn health(check: &HealthConfig) -> Result<()> {
    const MILLISECOND: i64 = 1_000_000;
    for (name, value) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if value != 0 && value < MILLISECOND {
            return Err(fail!(Invalid, "{name} in Healthcheck cannot be less than 1ms"));
        }
    }
    if check.retries < 0 {
        return Err(fail!(Invalid, "Retries in Healthcheck cannot be negative"));
    }
    match check.test.first().map(String::as_str) {
        None | Some("" | "NONE" | "CMD" | "CMD-SHELL") => Ok(()),
        Some(other) => Err(fail!(Invalid, "Unknown Type '{other}' in HEALTHCHECK (try CMD)")),
    }
}

/// `80/tcp`, or a range `80-90/tcp` as exposed ports may be.
fn port_key(text: &str) -> Result<()> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if text.parse::<ExposedPort>().is_ok()
        || (PortRange::parse(port).is_some() && matches!(protocol, "tcp" | "udp" | "sctp"))
    {
        return Ok(());
    }
    Err(fail!(Invalid, "invalid port specification: {text:?}"))
}

/// The host's part. Gives warnings.
pub(crate) fn host_config(host: &HostConfig, config: &ContainerConfig, facts: &HostFacts) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    restart_policy(host)?;
    capabilities::resolve(words(&host.cap_add), words(&host.cap_drop), host.privileged)?;
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(fail!(Invalid, "invalid isolation ({}): linux only supports 'default'", host.isolation));
    }
    if !matches!(host.runtime.as_str(), "" | "runc" | "dhow" | "io.containerd.runc.v2") {
        return Err(fail!(Invalid, "unknown or invalid runtime name: {}", host.runtime));
    }
    ports(host)?;
    for entry in host.extra_hosts.iter().flatten() {
        let Some((name, address)) = entry.split_once(':').or_else(|| entry.split_once('=')) else {
            return Err(fail!(Invalid, "bad format for add-host: {entry:?}"));
        };
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(fail!(Invalid, "bad format for add-host: {entry:?}"));
        }
        if address != "host-gateway" && bare.parse::<IpAddr>().is_err() {
            return Err(fail!(Invalid, "invalid IP address in add-host: {address:?}"));
        }
    }
    for server in host.dns.iter().flatten() {
        if server.parse::<IpAddr>().is_err() {
            return Err(fail!(Invalid, "bad nameserver address {server}: ParseAddr(\"{server}\"): unable to parse IP"));
        }
    }
    for value in host.dns_search.iter().chain(host.dns_options.iter()).flatten() {
        if value.contains(char::is_whitespace) || value.contains('\0') {
            return Err(fail!(Invalid, "invalid DNS setting {value:?}: it must be one word"));
        }
    }
    modes(host, config)?;
    for option in host.security_opt.iter().flatten() {
        security_opt(option)?;
    }
    log_driver(host)?;
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(fail!(Invalid, "Invalid value {}, range for oom score adj is [-1000, 1000]", host.oom_score_adj));
    }
    if host.shm_size < 0 {
        return Err(fail!(Invalid, "SHM size can not be less than 0"));
    }
    for (key, value) in &host.sysctls {
        sysctl(key, value, host)?;
    }
    if let Some(request) = host.device_requests.iter().flatten().next() {
        let what = request.capabilities.iter().flatten().map(|c| c.join("+")).collect::<Vec<_>>().join(",");
        return Err(fail!(
            Internal,
            "could not select device driver \"{}\" with capabilities: [[{what}]]",
            request.driver
        ));
    }
    if !host.storage_opt.is_empty() {
        return Err(fail!(Unsupported, "storage options of a container (--storage-opt) are not supported"));
    }
    if !matches!(host.userns_mode.as_str(), "" | "host") {
        return Err(fail!(Invalid, "invalid userns mode: {}", host.userns_mode));
    }
    warnings.extend(resources(&host.resources(), facts, false)?);
    if host.network_mode == "host" && host.port_bindings.as_ref().is_some_and(|p| p.values().flatten().next().is_some())
    {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(warnings)
}

fn words(list: &Option<docker_types::StrSlice>) -> &[String] {
    list.as_ref().map_or(&[], |l| &l.0)
}

fn restart_policy(host: &HostConfig) -> Result<()> {
    let policy = &host.restart_policy;
    match policy.name.as_str() {
        "always" | "unless-stopped" | "no" if policy.maximum_retry_count > 0 => {
            return Err(fail!(
                Invalid,
                "invalid restart policy: maximum retry count can only be used with 'on-failure'"
            ));
        }
        "always" | "unless-stopped" | "on-failure" if policy.maximum_retry_count < 0 => {
            return Err(fail!(Invalid, "invalid restart policy: maximum retry count cannot be negative"));
        }
        "" | "no" | "always" | "unless-stopped" | "on-failure" => {}
        other => {
            return Err(fail!(
                Invalid,
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    }
    if host.auto_remove && !matches!(policy.name.as_str(), "" | "no") {
        return Err(fail!(Invalid, "can't create 'AutoRemove' container with restart policy"));
    }
    Ok(())
}

fn ports(host: &HostConfig) -> Result<()> {
    for (key, bindings) in host.port_bindings.iter().flatten() {
        if key.parse::<ExposedPort>().is_err() {
            return Err(fail!(Invalid, "invalid port specification: {key:?}"));
        }
        for binding in bindings.iter().flatten() {
            if !binding.host_port.is_empty() && PortRange::parse(&binding.host_port).is_none() {
                return Err(fail!(Invalid, "invalid port specification: {:?}", binding.host_port));
            }
            if !binding.host_ip.is_empty() && binding.host_ip.parse::<IpAddr>().is_err() {
                return Err(fail!(Invalid, "invalid port specification: {:?}", binding.host_ip));
            }
        }
    }
    Ok(())
}

/// Namespace modes and what they exclude.
fn modes(host: &HostConfig, config: &ContainerConfig) -> Result<()> {
    let joins = |mode: &str| mode.strip_prefix("container:").is_some_and(|id| !id.is_empty());
    if !matches!(host.ipc_mode.as_str(), "" | "none" | "private" | "shareable" | "host") && !joins(&host.ipc_mode) {
        return Err(fail!(Invalid, "invalid IPC mode: {}", host.ipc_mode));
    }
    if !matches!(host.pid_mode.as_str(), "" | "host") && !joins(&host.pid_mode) {
        return Err(fail!(Invalid, "invalid PID mode: {}", host.pid_mode));
    }
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return Err(fail!(Invalid, "invalid UTS mode: {}", host.uts_mode));
    }
    if !matches!(host.cgroupns_mode.as_str(), "" | "private" | "host") {
        return Err(fail!(Invalid, "invalid cgroup namespace mode: {}", host.cgroupns_mode));
    }
    let container_net = joins(&host.network_mode);
    if host.uts_mode == "host" && (!config.hostname.is_empty() || !config.domainname.is_empty()) {
        return Err(fail!(Invalid, "conflicting options: hostname and the UTS mode"));
    }
    if container_net && !config.hostname.is_empty() {
        return Err(fail!(Invalid, "conflicting options: hostname and the network mode"));
    }
    let has = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    if container_net && (has(&host.dns) || has(&host.dns_search) || has(&host.dns_options)) {
        return Err(fail!(Invalid, "conflicting options: dns and the network mode"));
    }
    if container_net && has(&host.extra_hosts) {
        return Err(fail!(Invalid, "conflicting options: custom host-to-IP mapping and the network mode"));
    }
    if container_net && (host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|p| !p.is_empty())) {
        return Err(fail!(Invalid, "conflicting options: port publishing and the container type network mode"));
    }
    if container_net && config.exposed_ports.as_ref().is_some_and(|p| !p.is_empty()) {
        return Err(fail!(Invalid, "conflicting options: port exposing and the container type network mode"));
    }
    if has(&host.links) && (container_net || host.network_mode == "host") {
        let kind = if container_net { "container type network" } else { "host type networking" };
        return Err(legacy_links::conflict(kind));
    }
    if config.hostname.len() > 63 || config.hostname.contains(['\0', '/']) {
        return Err(fail!(Invalid, "invalid hostname: {:?}: it must be at most 63 characters", config.hostname));
    }
    Ok(())
}

/// One of `--security-opt`.
pub(crate) fn security_opt(option: &str) -> Result<()> {
    let (key, value) = option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, ""));
    match key {
        "no-new-privileges" => match value {
            "" | "true" | "1" | "false" | "0" => Ok(()),
            _ => Err(fail!(Invalid, "invalid --security-opt 2: {option:?}")),
        },
        "seccomp" | "systempaths" | "apparmor" | "label" | "writable-cgroups" | "disable" => Ok(()),
        _ => Err(fail!(Invalid, "invalid --security-opt 2: {option:?}")),
    }
}

fn log_driver(host: &HostConfig) -> Result<()> {
    let options = host.log_config.config.iter().flatten();
    match host.log_config.kind.as_str() {
        "" | "json-file" => {
            for (key, value) in options {
                match key.as_str() {
                    "max-size" => {
                        types::ram_in_bytes(value).map_err(|e| fail!(Invalid, "invalid max-size {value:?}: {e}"))?;
                    }
                    "max-file" => match value.parse::<u32>() {
                        Ok(n) if n >= 1 => {}
                        _ => return Err(fail!(Invalid, "max-file cannot be less than 1")),
                    },
                    "labels" | "labels-regex" | "env" | "env-regex" | "tag" | "compress" | "mode"
                    | "max-buffer-size" | "cache-disabled" | "cache-max-size" | "cache-max-file" | "cache-compress" => {
                    }
                    other => return Err(fail!(Invalid, "unknown log opt '{other}' for json-file log driver")),
                }
            }
            Ok(())
        }
        "none" => match host.log_config.config.iter().flatten().next() {
            None => Ok(()),
            Some((key, _)) => Err(fail!(Invalid, "unknown log opt '{key}' for none log driver")),
        },
        other => Err(fail!(Invalid, "error looking up logging plugin {other}: plugin \"{other}\" not found")),
    }
}

/// Only what belongs to a namespace of the container may be set.
fn sysctl(key: &str, value: &str, host: &HostConfig) -> Result<()> {
    if key.contains("..") || key.contains('\0') || value.contains('\0') || key.starts_with('/') {
        return Err(fail!(Invalid, "invalid sysctl {key:?}"));
    }
    let key = key.replace('/', ".");
    let refused = |why: &str| Err(fail!(Invalid, "sysctl '{key}' is not allowed {why}"));
    let ipc = matches!(
        key.as_str(),
        "kernel.msgmax"
            | "kernel.msgmnb"
            | "kernel.msgmni"
            | "kernel.sem"
            | "kernel.shmall"
            | "kernel.shmmax"
            | "kernel.shmmni"
            | "kernel.shm_rmid_forced"
    ) || key.starts_with("fs.mqueue.");
    if ipc {
        return if host.ipc_mode == "host" { refused("in the host ipc namespace") } else { Ok(()) };
    }
    if key.starts_with("net.") {
        return if host.network_mode == "host" { refused("in the host network namespace") } else { Ok(()) };
    }
    if key == "kernel.domainname" || key == "kernel.hostname" {
        return if host.uts_mode == "host" { refused("in the host uts namespace") } else { Ok(()) };
    }
    refused("here: it is not separate per container")
}

/// Limits. `update`: zero leaves a value, so fewer rules between them hold.
pub(crate) fn resources(r: &Resources, facts: &HostFacts, update: bool) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    if r.memory != 0 && r.memory < MIN_MEMORY {
        return Err(fail!(Invalid, "Minimum memory limit allowed is 6MB"));
    }
    if r.memory > 0 && r.memory_swap > 0 && r.memory_swap < r.memory {
        return Err(fail!(Invalid, "Minimum memoryswap limit should be larger than memory limit, see usage"));
    }
    if r.memory == 0 && r.memory_swap > 0 && !update {
        return Err(fail!(Invalid, "You should always set the Memory limit when using Memoryswap limit, see usage"));
    }
    if let Some(swappiness) = r.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return Err(fail!(Invalid, "Invalid value: {swappiness}, valid memory swappiness range is 0-100"));
    }
    if r.memory_reservation > 0 && r.memory_reservation < MIN_MEMORY {
        return Err(fail!(Invalid, "Minimum memory reservation allowed is 6MB"));
    }
    if r.memory > 0 && r.memory_reservation > 0 && r.memory < r.memory_reservation {
        return Err(fail!(Invalid, "Minimum memory limit can not be less than memory reservation limit, see usage"));
    }
    if r.kernel_memory > 0 {
        warnings.push("Specifying a kernel memory limit is deprecated and will be removed in a future release.".into());
    }
    if r.oom_kill_disable == Some(true) && r.memory == 0 && !update {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".into());
    }
    if r.nano_cpus > 0 && (r.cpu_period > 0 || r.cpu_quota > 0) {
        return Err(fail!(
            Invalid,
            "Conflicting options: Nano CPUs and CPU {} cannot both be set",
            if r.cpu_period > 0 { "Period" } else { "Quota" }
        ));
    }
    if r.nano_cpus < 0 || (1..10_000_000).contains(&r.nano_cpus) || r.nano_cpus > i64::from(facts.cpus) * 1_000_000_000
    {
        return Err(fail!(
            Invalid,
            "range of CPUs is from 0.01 to {}.00, as there are only {} CPUs available",
            facts.cpus,
            facts.cpus
        ));
    }
    if r.cpu_shares < 0 {
        return Err(fail!(Invalid, "invalid CPU shares ({}): value must be a positive integer", r.cpu_shares));
    }
    if r.cpu_period != 0 && !(1000..=1_000_000).contains(&r.cpu_period) {
        return Err(fail!(
            Invalid,
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        ));
    }
    if r.cpu_quota > 0 && r.cpu_quota < 1000 {
        return Err(fail!(Invalid, "CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    if r.cpu_realtime_period != 0 || r.cpu_realtime_runtime != 0 {
        return Err(fail!(
            Unsupported,
            "real-time scheduling limits (--cpu-rt-period, --cpu-rt-runtime) are not supported"
        ));
    }
    if r.cpu_count != 0 || r.cpu_percent != 0 || r.io_maximum_iops != 0 || r.io_maximum_bandwidth != 0 {
        return Err(fail!(Invalid, "CPUCount, CPUPercent, IOMaximumIOps and IOMaximumBandwidth are Windows settings"));
    }
    for (what, wanted, available, hint) in [
        ("CPUs", &r.cpuset_cpus, &facts.cpu_list, "cpuset cpus"),
        ("memory nodes", &r.cpuset_mems, &facts.mem_list, "cpuset mems"),
    ] {
        let Some(list) = parse_list(wanted) else {
            let beyond =
                wanted.split([',', '-']).filter_map(|n| n.trim().parse::<u64>().ok()).any(|n| n > MAX_CPU_LIST);
            let why = if beyond { format!(": value of out range, maximum is {MAX_CPU_LIST}") } else { String::new() };
            return Err(fail!(Invalid, "Invalid value {wanted} for {hint}{why}"));
        };
        let have = parse_list(available).unwrap_or_default();
        if !list.iter().all(|n| have.contains(n)) {
            return Err(fail!(
                Invalid,
                "Requested {what} are not available - requested {wanted}, available: {available}"
            ));
        }
    }
    if r.blkio_weight > 0 && !(10..=1000).contains(&r.blkio_weight) {
        return Err(fail!(Invalid, "Range of blkio weight is from 10 to 1000"));
    }
    for limit in r.ulimits.iter().flatten() {
        if !ULIMITS.iter().any(|(name, _)| *name == limit.name) {
            return Err(fail!(Invalid, "invalid ulimit type: {}", limit.name));
        }
        if limit.hard != -1 && (limit.soft == -1 || limit.soft > limit.hard) {
            return Err(fail!(
                Invalid,
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft,
                limit.hard
            ));
        }
    }
    for device in r.devices.iter().flatten() {
        if !device.cgroup_permissions.bytes().all(|b| b"rwm".contains(&b)) {
            return Err(fail!(Invalid, "invalid device mode: {}", device.cgroup_permissions));
        }
        if !device.path_in_container.is_empty() && !device.path_in_container.starts_with('/') {
            return Err(fail!(Invalid, "{} is not an absolute path", device.path_in_container));
        }
    }
    Ok(warnings)
}

/// Largest number in a list of CPUs or memory nodes, as Docker has it.
const MAX_CPU_LIST: u64 = 8192;

/// `0-2,5` as numbers; empty is nothing. None: malformed or unreasonable.
fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut out = Vec::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (u32, u32) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        if low > high || u64::from(high) > MAX_CPU_LIST {
            return None;
        }
        out.extend(low..=high);
    }
    Some(out)
}

/// Fill in what the client left to the engine, as inspect then shows it.
pub(crate) fn fill_defaults(
    host: &mut HostConfig,
    config: &mut ContainerConfig,
    id: &str,
    facts: &HostFacts,
    defaults: &crate::EngineConfig,
) {
    if host.network_mode.is_empty() || host.network_mode == "default" {
        host.network_mode = facts.default_network.to_owned();
    }
    if host.shm_size == 0 {
        host.shm_size = defaults.default_shm_size;
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode = "private".to_owned();
    }
    if host.cgroupns_mode.is_empty() {
        let private = facts.cgroup_v2 && !host.privileged;
        host.cgroupns_mode = if private { "private" } else { "host" }.to_owned();
    }
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    if host.memory_swappiness == Some(-1) {
        host.memory_swappiness = None;
    }
    if host.oom_kill_disable.is_none() {
        host.oom_kill_disable = Some(false);
    }
    if host.pids_limit.is_some_and(|n| n <= 0) {
        host.pids_limit = None;
    }
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".to_owned();
    }
    if host.runtime.is_empty() {
        host.runtime = "runc".to_owned();
    }
    if host.log_config.kind.is_empty() {
        host.log_config.kind.clone_from(&defaults.log_driver);
        let given = host.log_config.config.get_or_insert_default();
        for (key, value) in &defaults.log_opts {
            given.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    host.log_config.config.get_or_insert_default();
    for list in [&mut host.cap_add, &mut host.cap_drop].into_iter().flatten() {
        for name in &mut list.0 {
            *name = capabilities::normalise(name);
        }
    }
    let unconfined = host.security_opt.iter().flatten().any(|o| o == "systempaths=unconfined");
    if unconfined {
        host.masked_paths.get_or_insert_default();
        host.readonly_paths.get_or_insert_default();
    }
    if !host.privileged {
        let own = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        host.masked_paths.get_or_insert_with(|| own(MASKED_PATHS));
        host.readonly_paths.get_or_insert_with(|| own(READONLY_PATHS));
    }
    // Labels separate containers from the host and from each other, so sharing with the host turns them off.
    let shares = host.privileged || host.ipc_mode == "host" || host.pid_mode == "host";
    if shares && !host.security_opt.iter().flatten().any(|o| o.starts_with("label")) {
        host.security_opt.get_or_insert_default().push("label=disable".to_owned());
    }
    if config.hostname.is_empty() && !host.network_mode.starts_with("container:") {
        config.hostname = if host.network_mode == "host" || host.uts_mode == "host" {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            id[..12].to_owned()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> HostFacts {
        HostFacts { cpus: 2, cpu_list: "0-1".into(), mem_list: "0".into(), cgroup_v2: false, default_network: "bridge" }
    }

    fn refusal(change: impl FnOnce(&mut HostConfig, &mut ContainerConfig)) -> String {
        let (mut host, mut config) = (HostConfig::default(), ContainerConfig::default());
        change(&mut host, &mut config);
        super::config(&config)
            .and_then(|()| host_config(&host, &config, &facts()).map(drop))
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn refusals_in_dockers_words() {
        assert_eq!(refusal(|h, _| h.memory = 1 << 20), "Minimum memory limit allowed is 6MB");
        assert_eq!(
            refusal(|_, c| c.working_dir = "relative".into()),
            "the working directory 'relative' is invalid, it needs to be an absolute path"
        );
        assert_eq!(
            refusal(|h, _| h.restart_policy.name = "foo".into()),
            "invalid restart policy: unknown policy 'foo'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        );
        assert_eq!(
            refusal(|h, _| h.nano_cpus = 100_000_000_000),
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
        );
        assert_eq!(
            refusal(|h, _| h.cpuset_cpus = "99".into()),
            "Requested CPUs are not available - requested 99, available: 0-1"
        );
        assert_eq!(refusal(|h, _| h.ipc_mode = "foo".into()), "invalid IPC mode: foo");
        assert_eq!(
            refusal(|h, _| h.log_config.kind = "foo".into()),
            "error looking up logging plugin foo: plugin \"foo\" not found"
        );
        assert_eq!(
            refusal(|h, c| {
                h.uts_mode = "host".into();
                c.hostname = "x".into();
            }),
            "conflicting options: hostname and the UTS mode"
        );
        assert_eq!(
            refusal(|h, _| h.oom_score_adj = 5000),
            "Invalid value 5000, range for oom score adj is [-1000, 1000]"
        );
        assert!(
            refusal(|h, _| {
                h.sysctls.insert("kernel.panic".into(), "1".into());
            })
            .starts_with("sysctl 'kernel.panic' is not allowed")
        );
    }

    #[test]
    fn defaults_are_dockers() {
        let (mut host, mut config) =
            (HostConfig { memory: 64 << 20, ..HostConfig::default() }, ContainerConfig::default());
        assert_eq!(host_config(&host, &config, &facts()).unwrap(), Vec::<String>::new());
        fill_defaults(&mut host, &mut config, &"ab".repeat(32), &facts(), &crate::EngineConfig::default());
        assert_eq!((host.memory_swap, host.shm_size), (128 << 20, 64 << 20));
        assert_eq!((host.network_mode.as_str(), host.cgroupns_mode.as_str()), ("bridge", "host"));
        assert_eq!(config.hostname, "abababababab");
    }
}
