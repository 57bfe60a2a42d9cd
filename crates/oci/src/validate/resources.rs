//! Rules of limits (runtime-spec, config-linux.md "Control groups"), as far as they hold on every host: what the
//! kernel's controllers take is the `cgroup` crate's to know.

use std::collections::BTreeSet;

use super::text::{fault, interface, no_nul, one_line};
use super::{Warnings, devices};
use crate::fault::shown;
use crate::{BlockIo, Cpu, CpuList, Fault, Memory, Resources};

/// Files of a v2 group by which its processes, life and shape are governed.
const OWN_FILES: [&str; 6] =
    ["cgroup.freeze", "cgroup.kill", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "cgroup.type"];

pub(super) fn check(resources: &Resources, warnings: &mut Warnings) -> Result<(), Fault> {
    devices::rules(&resources.devices)?;
    memory(&resources.memory)?;
    cpu(&resources.cpu, warnings)?;
    block_io(&resources.block_io)?;
    let mut sizes = BTreeSet::new();
    for (at, limit) in resources.hugepage_limits.iter().enumerate() {
        if !is_page_size(&limit.page_size) {
            let reason = format!("{} is not a size of pages; write it as 64KB, 2MB or 1GB", shown(&limit.page_size));
            return fault(format_args!("linux.resources.hugepageLimits[{at}].pageSize"), reason);
        }
        if !sizes.insert(&limit.page_size) {
            let reason = format!("{} is limited twice; keep one of the entries", limit.page_size);
            return fault(format_args!("linux.resources.hugepageLimits[{at}].pageSize"), reason);
        }
    }
    for (at, priority) in resources.network.priorities.iter().enumerate() {
        interface(format_args!("linux.resources.network.priorities[{at}].name"), &priority.name)?;
    }
    for (device, limit) in &resources.rdma {
        // The name begins a line of the control file, words follow it.
        if device.is_empty() || device.chars().any(|c| matches!(c, '/' | '\0' | '=') || c.is_whitespace()) {
            let reason = format!("{} is not the name of an RDMA device; write it as mlx5_1", shown(device));
            return fault("linux.resources.rdma", reason);
        }
        if limit.hca_handles.is_none() && limit.hca_objects.is_none() {
            return fault(
                format_args!("linux.resources.rdma.{device}"),
                "limits nothing; give hcaHandles, hcaObjects or both",
            );
        }
    }
    for (file, value) in &resources.unified {
        if file.is_empty() || matches!(file.as_str(), "." | "..") || file.contains(['/', '\0', '\n']) {
            let reason = format!("{} is not the name of a control file; write it as memory.high", shown(file));
            return fault("linux.resources.unified", reason);
        }
        if OWN_FILES.contains(&file.as_str()) {
            let reason = "is what the runtime itself works the group by; take it out";
            return fault(format_args!("linux.resources.unified.{file}"), reason);
        }
        no_nul(format_args!("linux.resources.unified.{file}"), value)?;
    }
    Ok(())
}

fn memory(memory: &Memory) -> Result<(), Fault> {
    for (name, value) in [
        ("limit", memory.limit),
        ("reservation", memory.reservation),
        ("swap", memory.swap),
        ("kernel", memory.kernel),
        ("kernelTCP", memory.kernel_tcp),
    ] {
        if let Some(value) = value.filter(|value| *value < -1) {
            let reason = format!("{value} is negative; write bytes, or -1 for no limit");
            return fault(format_args!("linux.resources.memory.{name}"), reason);
        }
    }
    if let (Some(limit), Some(swap)) = (memory.limit, memory.swap)
        && limit > 0
        && swap > 0
        && swap < limit
    {
        let reason = format!("{swap} is below the limit {limit}, and counts memory and swap together; raise it");
        return fault("linux.resources.memory.swap", reason);
    }
    if let Some(value) = memory.swappiness.filter(|value| *value > 100) {
        return fault("linux.resources.memory.swappiness", format!("{value} is out of range; write 0 to 100"));
    }
    Ok(())
}

fn cpu(cpu: &Cpu, warnings: &mut Warnings) -> Result<(), Fault> {
    // 0 leaves what is there.
    if let Some(shares) = cpu.shares.filter(|shares| *shares == 1 || *shares > 262_144) {
        let reason = format!("{shares} is out of range; the kernel takes the nearest of 2 to 262144");
        warnings.push("linux.resources.cpu.shares", reason);
    }
    if let Some(period) = cpu.period.filter(|period| *period != 0 && !(1000..=1_000_000).contains(period)) {
        let reason = format!("{period} is out of range; write 1000 to 1000000 microseconds");
        return fault("linux.resources.cpu.period", reason);
    }
    if let Some(quota) = cpu.quota.filter(|quota| !matches!(quota, -1 | 0 | 1000..)) {
        let reason = format!("{quota} is out of range; write 1000 microseconds or more, or -1 for no limit");
        return fault("linux.resources.cpu.quota", reason);
    }
    if let (Some(burst), Some(quota)) = (cpu.burst, cpu.quota)
        && u64::try_from(quota).is_ok_and(|quota| quota > 0 && burst > quota)
    {
        let reason = format!("{burst} is above the quota {quota}; lower it");
        return fault("linux.resources.cpu.burst", reason);
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|runtime| *runtime < -1) {
        let reason = format!("{runtime} is negative; write microseconds, or -1 for no limit");
        return fault("linux.resources.cpu.realtimeRuntime", reason);
    }
    if let (Some(runtime @ 1..), Some(period @ 1..)) = (cpu.realtime_runtime, cpu.realtime_period)
        && runtime.unsigned_abs() > period
    {
        let reason = format!("{runtime} is above the period {period}; lower it");
        return fault("linux.resources.cpu.realtimeRuntime", reason);
    }
    if let Some(idle) = cpu.idle.filter(|idle| !matches!(idle, 0 | 1)) {
        return fault("linux.resources.cpu.idle", format!("{idle} is out of range; write 0 or 1"));
    }
    for (name, list) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
        one_line(format_args!("linux.resources.cpu.{name}"), list)?;
        // Strides of the kernel's own notation (0-31:2/8) are left to it.
        if !list.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | '-' | ':' | '/' | ' ')) {
            let reason = format!("{} is not a list of numbers and ranges; write it as 0-3,7", shown(list));
            return fault(format_args!("linux.resources.cpu.{name}"), reason);
        }
        if !list.contains(':') {
            CpuList::parse(list)
                .map_err(|error| Fault::new(format_args!("linux.resources.cpu.{name}"), error.to_string()))?;
        }
    }
    Ok(())
}

fn block_io(io: &BlockIo) -> Result<(), Fault> {
    // 0 leaves what is there.
    let weight = |path: std::fmt::Arguments<'_>, value: Option<u16>| match value {
        Some(value) if value != 0 && !(10..=1000).contains(&value) => {
            fault(path, format!("{value} is out of range; write 10 to 1000"))
        }
        _ => Ok(()),
    };
    weight(format_args!("linux.resources.blockIO.weight"), io.weight)?;
    weight(format_args!("linux.resources.blockIO.leafWeight"), io.leaf_weight)?;
    for (at, device) in io.weight_device.iter().enumerate() {
        let path = format_args!("linux.resources.blockIO.weightDevice[{at}]");
        devices::numbers(path, device.major, device.minor)?;
        if device.weight.is_none() && device.leaf_weight.is_none() {
            return fault(path, "weighs nothing; give weight, leafWeight or both");
        }
        weight(format_args!("{path}.weight"), device.weight)?;
        weight(format_args!("{path}.leafWeight"), device.leaf_weight)?;
    }
    for (name, list) in [
        ("throttleReadBpsDevice", &io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", &io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", &io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", &io.throttle_write_iops_device),
    ] {
        for (at, device) in list.iter().enumerate() {
            devices::numbers(format_args!("linux.resources.blockIO.{name}[{at}]"), device.major, device.minor)?;
        }
    }
    Ok(())
}

/// `^[0-9]+[KMG]B$`, as control files of hugetlb are named.
fn is_page_size(text: &str) -> bool {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}
