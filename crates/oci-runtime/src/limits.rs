//! `linux.resources` of the configuration in the terms of the `cgroup` crate.

use cgroup::{DeviceRule, HugepageLimit, NetPriority, RdmaLimit, Resources, ThrottleDevice, WeightDevice};
use oci::Spec;

use crate::error::Result;

/// The limits of a new container. What no rule allows is denied; what every container may use comes last.
///
/// # Errors
/// A device rule that is none.
pub(crate) fn resources(spec: &Spec) -> Result<Resources> {
    let none = oci::Resources::default();
    let given = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref()).unwrap_or(&none);
    Ok(Resources { devices: Some(device_rules(&given.devices)?), ..translate(given)? })
}

/// Changes to the limits of a running container. Devices stay as they are unless rules are given.
///
/// # Errors
/// A device rule that is none.
pub(crate) fn changes(given: &oci::Resources) -> Result<Resources> {
    let devices = if given.devices.is_empty() { None } else { Some(device_rules(&given.devices)?) };
    Ok(Resources { devices, ..translate(given)? })
}

fn translate(given: &oci::Resources) -> Result<Resources> {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let rates = |list: &[oci::ThrottleDevice]| list.iter().map(|d| throttle(d.major, d.minor, d.rate)).collect();
    let (memory, cpu, io) = (&given.memory, &given.cpu, &given.block_io);
    Ok(Resources {
        memory: memory.limit,
        memory_reservation: memory.reservation,
        memory_swap: memory.swap,
        kernel_memory: memory.kernel,
        kernel_memory_tcp: memory.kernel_tcp,
        memory_swappiness: memory.swappiness,
        memory_use_hierarchy: memory.use_hierarchy,
        memory_check_before_update: memory.check_before_update.unwrap_or(false),
        oom_kill_disable: memory.disable_oom_killer,
        cpu_shares: cpu.shares,
        cpu_quota: cpu.quota,
        cpu_period: cpu.period,
        cpu_burst: cpu.burst,
        cpu_idle: cpu.idle,
        cpu_rt_runtime: cpu.realtime_runtime,
        cpu_rt_period: cpu.realtime_period,
        cpuset_cpus: text(&cpu.cpus),
        cpuset_mems: text(&cpu.mems),
        pids_limit: given.pids.limit,
        blkio_weight: io.weight,
        blkio_leaf_weight: io.leaf_weight,
        blkio_weight_device: io
            .weight_device
            .iter()
            .map(|device| WeightDevice {
                major: number(device.major),
                minor: number(device.minor),
                weight: device.weight,
                leaf_weight: device.leaf_weight,
            })
            .collect(),
        blkio_read_bps: rates(&io.throttle_read_bps_device),
        blkio_write_bps: rates(&io.throttle_write_bps_device),
        blkio_read_iops: rates(&io.throttle_read_iops_device),
        blkio_write_iops: rates(&io.throttle_write_iops_device),
        hugepages: given
            .hugepage_limits
            .iter()
            .map(|limit| HugepageLimit { page_size: limit.page_size.clone(), limit: limit.limit })
            .collect(),
        net_class_id: given.network.class_id,
        net_priorities: given
            .network
            .priorities
            .iter()
            .map(|entry| NetPriority { interface: entry.name.clone(), priority: entry.priority })
            .collect(),
        rdma: given
            .rdma
            .iter()
            .map(|(device, limit)| RdmaLimit {
                device: device.clone(),
                hca_handles: limit.hca_handles,
                hca_objects: limit.hca_objects,
            })
            .collect(),
        unified: given.unified.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        ..Resources::default()
    })
}

fn throttle(major: i64, minor: i64, rate: u64) -> ThrottleDevice {
    ThrottleDevice { major: number(major), minor: number(minor), rate }
}

/// Device numbers are validated to be in range.
fn number(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn device_rules(given: &[oci::DeviceRule]) -> Result<Vec<DeviceRule>> {
    let mut rules = Vec::new();
    for rule in given {
        rules.push(DeviceRule::from_spec(
            rule.allow,
            rule.kind.as_deref(),
            rule.major,
            rule.minor,
            rule.access.as_deref(),
        )?);
    }
    rules.extend(DeviceRule::runtime_defaults());
    Ok(rules)
}
