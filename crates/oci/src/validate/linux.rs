//! Rules of the section `linux` (runtime-spec, config-linux.md) that are not in files of their own.

use super::text::{absolute, fault, interface, no_nul, one_line};
use super::{Warnings, devices, namespaces, resources, seccomp, sysctl};
use crate::fault::shown;
use crate::{Fault, IntelRdt, Linux, MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode, NamespaceKind, Spec};

/// Values of `rootfsPropagation`.
const PROPAGATIONS: [&str; 8] =
    ["shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"];
/// Most memory nodes a kernel has (`MAX_NUMNODES`).
const MAX_NODES: u32 = 1024;
/// Most bytes of the name of a file (`NAME_MAX` of linux/limits.h).
const MAX_FILE_NAME: usize = 255;

pub(super) fn check(spec: &Spec, linux: &Linux, warnings: &mut Warnings) -> Result<(), Fault> {
    namespaces::check(spec, linux)?;
    sysctl::check(spec, linux)?;
    devices::nodes(&linux.devices)?;
    net_devices(spec, linux)?;
    cgroups_path(&linux.cgroups_path)?;
    if let Some(given) = &linux.resources {
        resources::check(given, warnings)?;
    }
    if let Some(profile) = &linux.seccomp {
        seccomp::check(profile)?;
    }
    let propagation = &linux.rootfs_propagation;
    if !propagation.is_empty() && !PROPAGATIONS.contains(&propagation.as_str()) {
        let reason = format!("{} is not known; use one of {}", shown(propagation), PROPAGATIONS.join(", "));
        return fault("linux.rootfsPropagation", reason);
    }
    for (list, paths) in [("maskedPaths", &linux.masked_paths), ("readonlyPaths", &linux.readonly_paths)] {
        if !paths.is_empty() && spec.namespace(NamespaceKind::Mount).is_none() {
            let reason = "would change the host; add {\"type\": \"mount\"} to linux.namespaces or take it out";
            return fault(format_args!("linux.{list}"), reason);
        }
        for (at, path) in paths.iter().enumerate() {
            absolute(format_args!("linux.{list}[{at}]"), path)?;
        }
    }
    no_nul("linux.mountLabel", &linux.mount_label)?;
    if let Some(rdt) = &linux.intel_rdt {
        intel_rdt(rdt)?;
    }
    if let Some(policy) = &linux.memory_policy {
        memory_policy(policy)?;
    }
    if let Some(personality) = &linux.personality
        && !personality.flags.is_empty()
    {
        // runc passes them over, too.
        warnings.push("linux.personality.flags", "has entries, and the specification knows none; they are passed over");
    }
    Ok(())
}

fn cgroups_path(path: &str) -> Result<(), Fault> {
    one_line("linux.cgroupsPath", path)?;
    if path.split('/').any(|part| part == "..") {
        let reason = format!("{} goes up with ..; write the path without", shown(path));
        return fault("linux.cgroupsPath", reason);
    }
    Ok(())
}

fn net_devices(spec: &Spec, linux: &Linux) -> Result<(), Fault> {
    if linux.net_devices.is_empty() {
        return Ok(());
    }
    if spec.namespace(NamespaceKind::Network).is_none() {
        return fault(
            "linux.netDevices",
            "needs a network namespace to move into; add {\"type\": \"network\"} to linux.namespaces",
        );
    }
    let mut names = std::collections::BTreeMap::new();
    for (host, device) in &linux.net_devices {
        interface("linux.netDevices", host)?;
        let name = if device.name.is_empty() { host } else { &device.name };
        interface(format_args!("linux.netDevices.{host}.name"), name)?;
        if let Some(other) = names.insert(name, host) {
            let reason = format!("{} is the name of linux.netDevices.{other} already; choose another", shown(name));
            return fault(format_args!("linux.netDevices.{host}.name"), reason);
        }
    }
    Ok(())
}

fn intel_rdt(rdt: &IntelRdt) -> Result<(), Fault> {
    let id = &rdt.clos_id;
    one_line("linux.intelRdt.closID", id)?;
    // `/` is the default class, the root of resctrl.
    if id != "/" && (matches!(id.as_str(), "." | "..") || id.contains('/') || id.len() > MAX_FILE_NAME) {
        let reason = format!("{} is not the name of one directory; write it without /, or / alone", shown(id));
        return fault("linux.intelRdt.closID", reason);
    }
    no_nul("linux.intelRdt.l3CacheSchema", &rdt.l3_cache_schema)?;
    one_line("linux.intelRdt.memBwSchema", &rdt.mem_bw_schema)?;
    if !rdt.mem_bw_schema.is_empty() && !rdt.mem_bw_schema.starts_with("MB:") {
        let reason = format!("{} is not about memory bandwidth; begin it with MB:", shown(&rdt.mem_bw_schema));
        return fault("linux.intelRdt.memBwSchema", reason);
    }
    rdt.schemata
        .iter()
        .enumerate()
        .try_for_each(|(at, line)| one_line(format_args!("linux.intelRdt.schemata[{at}]"), line))
}

/// Rules of set_mempolicy(2).
fn memory_policy(policy: &MemoryPolicy) -> Result<(), Fault> {
    use MemoryPolicyMode as Mode;
    const NODES: &str = "linux.memoryPolicy.nodes";
    const FLAGS: &str = "linux.memoryPolicy.flags";
    let mode = policy.mode.name();
    let without = matches!(policy.mode, Mode::Default | Mode::Local);
    if without && !policy.nodes.is_empty() {
        return fault(NODES, format!("{mode} takes none; take them out"));
    }
    // MPOL_PREFERRED without nodes is MPOL_LOCAL.
    if !without && policy.mode != Mode::Preferred && policy.nodes.is_empty() {
        return fault(NODES, format!("is missing, and {mode} needs nodes; write them as 0-1,3"));
    }
    if policy.nodes.highest().is_some_and(|highest| highest >= MAX_NODES) {
        return fault(NODES, format!("goes beyond {}, the last node a kernel can have", MAX_NODES - 1));
    }
    let has = |flag| policy.flags.contains(&flag);
    if has(MemoryPolicyFlag::StaticNodes) && has(MemoryPolicyFlag::RelativeNodes) {
        return fault(FLAGS, "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other; keep one of them");
    }
    if policy.nodes.is_empty() && !policy.flags.is_empty() {
        return fault(FLAGS, format!("{mode} without nodes takes none; take them out"));
    }
    if has(MemoryPolicyFlag::NumaBalancing) && !matches!(policy.mode, Mode::Bind | Mode::PreferredMany) {
        return fault(FLAGS, format!("MPOL_F_NUMA_BALANCING goes with MPOL_BIND, not with {mode}; take it out"));
    }
    Ok(())
}
