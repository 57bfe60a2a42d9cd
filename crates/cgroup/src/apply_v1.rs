//! Limits on v1 (Documentation/admin-guide/cgroup-v1). The order of writes matters where the kernel keeps
//! two limits consistent: memory never above memory and swap, quota never above the parent's share.

use std::path::Path;

use crate::error::libc_errno::{EBUSY, EINVAL};
use crate::file::{self, write, write_hint};
use crate::resources::Resources;
use crate::{Cgroup, Error, devices};

pub(crate) fn apply(group: &Cgroup, r: &Resources) -> Result<(), Error> {
    // Devices first: a group that fails half-way must not be left open.
    if let Some(rules) = &r.devices {
        devices::check(rules)?;
        let dir = need(group, "devices", "device access")?;
        write(dir, "devices.deny", "a")?;
        for rule in rules {
            let name = if rule.allow { "devices.allow" } else { "devices.deny" };
            for line in rule.v1_lines() {
                write(dir, name, &line)?;
            }
        }
    }
    cpuset(group, r)?;
    cpu(group, r)?;
    memory(group, r)?;
    if let Some(limit) = r.pids_limit {
        let value = if limit > 0 { limit.to_string() } else { "max".to_owned() };
        write(need(group, "pids", "the number of processes")?, "pids.max", &value)?;
    }
    blkio(group, r)
}

fn need<'a>(group: &'a Cgroup, controller: &str, control: &'static str) -> Result<&'a Path, Error> {
    group.v1_dir(controller).ok_or_else(|| Error::Unsupported {
        control,
        reason: format!("the cgroup v1 controller '{controller}' is not mounted"),
    })
}

fn cpuset(group: &Cgroup, r: &Resources) -> Result<(), Error> {
    for (name, value) in [("cpuset.cpus", &r.cpuset_cpus), ("cpuset.mems", &r.cpuset_mems)] {
        if let Some(value) = value {
            write_hint(
                need(group, "cpuset", "CPU sets")?,
                name,
                value,
                "; the list must be of CPUs or nodes this host has online",
            )?;
        }
    }
    Ok(())
}

fn cpu(group: &Cgroup, r: &Resources) -> Result<(), Error> {
    if let Some(shares) = r.cpu_shares {
        write(need(group, "cpu", "CPU shares")?, "cpu.shares", &shares.to_string())?;
    }
    if let Some(period) = r.cpu_rt_period {
        write(need(group, "cpu", "real-time CPU")?, "cpu.rt_period_us", &period.to_string())?;
    }
    if let Some(runtime) = r.cpu_rt_runtime {
        write_hint(
            need(group, "cpu", "real-time CPU")?,
            "cpu.rt_runtime_us",
            &runtime.to_string(),
            "; the parent group must have at least as much real-time running time",
        )?;
    }
    let (quota, period) = r.quota_and_period();
    if quota.is_none() && period.is_none() {
        return Ok(());
    }
    let dir = need(group, "cpu", "CPU quota")?;
    let set_period =
        |p: u64| write_hint(dir, "cpu.cfs_period_us", &p.to_string(), "; a period is 1000 to 1000000 microseconds");
    let set_quota = |q: i64| {
        let value = if q > 0 { q } else { -1 };
        write_hint(
            dir,
            "cpu.cfs_quota_us",
            &value.to_string(),
            "; a quota is at least 1000 microseconds and within the parent's",
        )
    };
    match (quota, period) {
        (Some(q), Some(p)) => match set_period(p) {
            Ok(()) => set_quota(q),
            // The old quota over the new period may exceed the parent's share; the new quota first does not.
            Err(e) if e.errno() == Some(EINVAL) => {
                set_quota(q)?;
                set_period(p)
            }
            Err(e) => Err(e),
        },
        (Some(q), None) => set_quota(q),
        (None, Some(p)) => set_period(p),
        (None, None) => Ok(()),
    }
}

fn memory(group: &Cgroup, r: &Resources) -> Result<(), Error> {
    const MEMORY: &str = "memory.limit_in_bytes";
    const BOTH: &str = "memory.memsw.limit_in_bytes";
    // Lifting the memory limit alone lifts the other too, which could not stay below it.
    let both = r.memory_swap.or(if r.memory == Some(-1) { Some(-1) } else { None });
    if r.memory.is_some() || r.memory_swap.is_some() {
        let dir = need(group, "memory", "memory")?;
        let has_both = file::has(dir, BOTH);
        if !has_both && r.memory_swap.is_some_and(|limit| limit != -1) {
            return Err(Error::Unsupported {
                control: "swap",
                reason: "the kernel does not account swap; boot with swapaccount=1".to_owned(),
            });
        }
        let both = both.filter(|_| has_both);
        let raise = match both {
            Some(-1) => true,
            Some(limit) => {
                u64::try_from(limit).is_ok_and(|l| file::read_number(&dir.join(BOTH)).is_ok_and(|now| l > now))
            }
            None => false,
        };
        let set_both = || match both {
            Some(limit) => {
                write_hint(dir, BOTH, &limit.to_string(), "; memory and swap together cannot be less than memory")
            }
            None => Ok(()),
        };
        if raise {
            set_both()?;
        }
        if let Some(limit) = r.memory {
            write_hint(
                dir,
                MEMORY,
                &limit.to_string(),
                "; a memory limit above the limit of memory and swap needs that one raised at the same time",
            )
            .map_err(|e| in_use(e, limit, dir, "memory.usage_in_bytes"))?;
        }
        if !raise {
            set_both()?;
        }
    }
    if let Some(limit) = r.memory_reservation {
        write(need(group, "memory", "memory reservation")?, "memory.soft_limit_in_bytes", &limit.to_string())?;
    }
    if let Some(value) = r.memory_swappiness {
        if value > 100 {
            return Err(Error::Invalid {
                control: "memory swappiness",
                value: value.to_string(),
                reason: "it goes from 0 to 100",
            });
        }
        write(need(group, "memory", "memory swappiness")?, "memory.swappiness", &value.to_string())?;
    }
    if let Some(disable) = r.oom_kill_disable {
        write(
            need(group, "memory", "the out-of-memory killer")?,
            "memory.oom_control",
            if disable { "1" } else { "0" },
        )?;
    }
    Ok(())
}

/// EBUSY from a memory limit means usage that cannot be reclaimed: say how much.
pub(crate) fn in_use(error: Error, limit: i64, dir: &Path, usage: &str) -> Error {
    match error.errno() {
        Some(EBUSY) => match file::read_number(&dir.join(usage)) {
            Ok(usage) => Error::MemoryInUse { limit, usage },
            Err(_) => error,
        },
        _ => error,
    }
}

fn blkio(group: &Cgroup, r: &Resources) -> Result<(), Error> {
    if let Some(weight) = r.blkio_weight {
        let dir = need(group, "blkio", "block I/O weight")?;
        write_hint(dir, weight_file(dir, "weight")?, &weight.to_string(), "; a weight is 10 to 1000")?;
    }
    for device in &r.blkio_weight_device {
        let dir = need(group, "blkio", "block I/O weight")?;
        let value = format!("{}:{} {}", device.major, device.minor, device.weight);
        write_hint(
            dir,
            weight_file(dir, "weight_device")?,
            &value,
            "; a weight is 10 to 1000 and needs the device's BFQ scheduler",
        )?;
    }
    for (list, name) in [
        (&r.blkio_read_bps, "blkio.throttle.read_bps_device"),
        (&r.blkio_write_bps, "blkio.throttle.write_bps_device"),
        (&r.blkio_read_iops, "blkio.throttle.read_iops_device"),
        (&r.blkio_write_iops, "blkio.throttle.write_iops_device"),
    ] {
        for device in list {
            let dir = need(group, "blkio", "block I/O rates")?;
            write_hint(
                dir,
                name,
                &format!("{}:{} {}", device.major, device.minor, device.rate),
                "; the device must be a whole disk",
            )?;
        }
    }
    Ok(())
}

/// CFQ's file until Linux 5.0, BFQ's since.
fn weight_file(dir: &Path, what: &str) -> Result<&'static str, Error> {
    let (old, new) = match what {
        "weight" => ("blkio.weight", "blkio.bfq.weight"),
        _ => ("blkio.weight_device", "blkio.bfq.weight_device"),
    };
    [old, new].into_iter().find(|name| file::has(dir, name)).ok_or_else(|| Error::Unsupported {
        control: "block I/O weight",
        reason: "the kernel has neither CFQ nor BFQ group scheduling".to_owned(),
    })
}
