//! Limits: the control group's resources and the process's rlimits from the container's
//! configuration. Called by the plan and by update.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use cgroup::{DeviceRule, Resources, ThrottleDevice, WeightDevice};
use docker_types::container::{HostConfig, Resources as Wanted, ThrottleDevice as WantedThrottle};
use launch::Rlimit;

use crate::container::validate::ULIMITS;
use crate::error::{Result, fail};

/// What is set in `wanted`, as the control group takes it; zero and empty leave a control alone.
pub(crate) fn cgroup_resources(wanted: &Wanted, devices: Option<Vec<DeviceRule>>) -> Result<Resources> {
    let some = |n: i64| (n != 0).then_some(n);
    let unsigned = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
    let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
    Ok(Resources {
        memory: some(wanted.memory),
        memory_reservation: some(wanted.memory_reservation),
        memory_swap: some(wanted.memory_swap),
        memory_swappiness: wanted.memory_swappiness.and_then(|n| u64::try_from(n).ok()),
        oom_kill_disable: wanted.oom_kill_disable.filter(|on| *on),
        cpu_shares: unsigned(wanted.cpu_shares),
        cpu_quota: some(wanted.cpu_quota),
        cpu_period: unsigned(wanted.cpu_period),
        nano_cpus: some(wanted.nano_cpus),
        cpuset_cpus: text(&wanted.cpuset_cpus),
        cpuset_mems: text(&wanted.cpuset_mems),
        pids_limit: wanted.pids_limit.filter(|n| *n != 0),
        blkio_weight: (wanted.blkio_weight != 0).then_some(wanted.blkio_weight),
        blkio_weight_device: wanted
            .blkio_weight_device
            .iter()
            .flatten()
            .map(|d| {
                block_device(&d.path).map(|(major, minor)| WeightDevice {
                    major,
                    minor,
                    weight: Some(d.weight),
                    leaf_weight: None,
                })
            })
            .collect::<Result<_>>()?,
        blkio_read_bps: throttles(&wanted.blkio_device_read_bps)?,
        blkio_write_bps: throttles(&wanted.blkio_device_write_bps)?,
        blkio_read_iops: throttles(&wanted.blkio_device_read_iops)?,
        blkio_write_iops: throttles(&wanted.blkio_device_write_iops)?,
        devices,
        ..Resources::default()
    })
}

fn throttles(list: &Option<Vec<WantedThrottle>>) -> Result<Vec<ThrottleDevice>> {
    list.iter()
        .flatten()
        .map(|d| block_device(&d.path).map(|(major, minor)| ThrottleDevice { major, minor, rate: d.rate }))
        .collect()
}

fn block_device(path: &str) -> Result<(u32, u32)> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.file_type().is_block_device() => {
            Ok((rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())))
        }
        Ok(_) => Err(fail!(Invalid, "{path} is not a block device")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(fail!(Invalid, "no such file or directory: {path}")),
        Err(e) => Err(fail!(Invalid, "cannot look at the device {path}: {e}")),
    }
}

/// The user's limits, then the engine's defaults for those not set.
pub(crate) fn rlimits(host: &HostConfig, defaults: &[(String, i64, i64)]) -> Vec<Rlimit> {
    let number = |name: &str| ULIMITS.iter().find(|(n, _)| *n == name).map(|(_, number)| *number);
    let value = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    let mut list: Vec<Rlimit> = host
        .ulimits
        .iter()
        .flatten()
        .filter_map(|limit| {
            let resource = number(&limit.name)?;
            Some(Rlimit { resource, soft: value(limit.soft), hard: value(limit.hard), optional: false })
        })
        .collect();
    for (name, soft, hard) in defaults {
        if let Some(resource) = number(name)
            && !list.iter().any(|l| l.resource == resource)
        {
            list.push(Rlimit { resource, soft: value(*soft), hard: value(*hard), optional: true });
        }
    }
    list
}
