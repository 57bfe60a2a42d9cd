//! Limits on v2 (Documentation/admin-guide/cgroup-v2.rst), with v1's terms converted as runc converts them.

use std::path::Path;

use crate::apply::{Lack, in_use};
use crate::error::libc_errno::EINVAL;
use crate::file::{self, write, write_hint};
use crate::resources::{DEFAULT_PERIOD, Resources, io_weight, weight_of_shares};
use crate::{Error, devices};

pub(crate) fn apply(dir: &Path, r: &Resources, lack: &mut Lack) -> Result<(), Error> {
    v1_only(r, lack)?;
    if let Some(rules) = &r.devices {
        devices::check(rules)?;
        set_devices(dir, rules)?;
    }
    for (name, value) in [("cpuset.cpus", &r.cpuset_cpus), ("cpuset.mems", &r.cpuset_mems)] {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            set(dir, name, value, "CPU sets", "; the list must be of CPUs or nodes this host has online")?;
        }
    }
    cpu(dir, r)?;
    memory(dir, r)?;
    if let Some(value) = r.pids_max() {
        set(dir, "pids.max", &value, "the number of processes", "")?;
    }
    io(dir, r)
}

/// Writes a file that its controller may not have provided.
fn set(dir: &Path, name: &str, value: &str, control: &'static str, hint: &'static str) -> Result<(), Error> {
    match write_hint(dir, name, value, hint) {
        Err(e) if e.errno() == Some(crate::error::libc_errno::ENOENT) => {
            let controller = name.split('.').next().unwrap_or(name);
            Err(Error::Unsupported {
                control,
                reason: format!(
                    "the cgroup v2 controller '{controller}' is not enabled for {}; the kernel or the user may lack it, or a group above has processes of its own and cannot hand it down",
                    dir.display()
                ),
            })
        }
        other => other,
    }
}

fn v1_only(r: &Resources, lack: &mut Lack) -> Result<(), Error> {
    let some = |n: Option<i64>| n.is_some_and(|n| n != 0);
    let leaf = r.blkio_leaf_weight.is_some_and(|w| w != 0)
        || r.blkio_weight_device.iter().any(|d| d.leaf_weight.is_some_and(|w| w != 0));
    for (asked, control) in [
        (r.memory_swappiness.is_some(), "memory swappiness"),
        (r.oom_kill_disable == Some(true), "the out-of-memory killer"),
        (r.memory_use_hierarchy == Some(false), "accounting of memory without the groups below"),
        (some(r.kernel_memory), "kernel memory"),
        (some(r.kernel_memory_tcp), "kernel memory for TCP"),
        (some(r.cpu_rt_runtime) || r.cpu_rt_period.is_some_and(|p| p != 0), "real-time CPU"),
        (leaf, "block I/O leaf weight"),
        (r.net_class_id.is_some_and(|c| c != 0), "the network class"),
        (!r.net_priorities.is_empty(), "network priorities"),
    ] {
        if asked {
            lack.of(control, "cgroup v2 has no such setting".to_owned())?;
        }
    }
    Ok(())
}

fn set_devices(dir: &Path, rules: &[devices::DeviceRule]) -> Result<(), Error> {
    let io = |action| move |e: sys::Errno| Error::Io { action, path: dir.to_owned(), source: e.into() };
    let program =
        sys::bpf::load_cgroup_device(&crate::device_program(rules)).map_err(io("load the device program of"))?;
    let group = rustix::fs::open(
        dir,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(io("open"))?;
    sys::bpf::replace_cgroup_device(&group, &program).map_err(io("attach the device program to"))
}

fn cpu(dir: &Path, r: &Resources) -> Result<(), Error> {
    if let Some(idle) = r.cpu_idle {
        set(dir, "cpu.idle", &idle.to_string(), "the idle policy", "; it is 0 or 1")?;
    }
    if let Some(shares) = r.cpu_shares.filter(|s| *s != 0) {
        set(dir, "cpu.weight", &weight_of_shares(shares).to_string(), "CPU shares", "")?;
    }
    let (quota, period) = r.quota_and_period();
    let set_burst = |b: u64| set(dir, "cpu.max.burst", &b.to_string(), "CPU burst", "; a burst is at most the quota");
    // A burst must fit the quota in force. Before the quota it may not yet, after it it may no longer.
    let mut later = None;
    if let Some(burst) = r.cpu_burst {
        match set_burst(burst) {
            Err(e) if e.errno() == Some(EINVAL) && quota.is_some() => later = Some(burst),
            other => other?,
        }
    }
    if quota.is_some() || period.is_some() {
        // One file holds both: what is not given stays.
        let now = match (quota, period) {
            (Some(_), Some(_)) => String::new(),
            _ => file::read_optional(&dir.join("cpu.max"))?.unwrap_or_default(),
        };
        let mut fields = now.split_whitespace();
        let (old_quota, old_period) = (fields.next().unwrap_or("max"), fields.next().and_then(|p| p.parse().ok()));
        let quota = match quota {
            Some(q) if q > 0 => q.to_string(),
            Some(_) => "max".to_owned(),
            None => old_quota.to_owned(),
        };
        let period = period.or(old_period).unwrap_or(DEFAULT_PERIOD);
        set(
            dir,
            "cpu.max",
            &format!("{quota} {period}"),
            "CPU quota",
            "; a quota is at least 1000 microseconds, a period 1000 to 1000000",
        )?;
    }
    later.map_or(Ok(()), set_burst)
}

/// `memory.swap.max` for a limit of memory and swap together. `memory` is the memory limit that will be in force,
/// [`u64::MAX`] for none; without one the limit counts for swap as it is, as in runc.
pub(crate) fn swap_alone(both: i64, memory: u64) -> Result<String, Error> {
    let invalid = |reason| Error::Invalid { control: "the limit of memory and swap", value: both.to_string(), reason };
    match u64::try_from(both) {
        Ok(both) if memory == u64::MAX => Ok(both.to_string()),
        Ok(both) => match both.checked_sub(memory) {
            Some(swap) => Ok(swap.to_string()),
            None => Err(invalid("it cannot be less than the memory limit")),
        },
        Err(_) if both == -1 => Ok("max".to_owned()),
        Err(_) => Err(invalid("it is a number of bytes, or -1 for no limit")),
    }
}

fn memory(dir: &Path, r: &Resources) -> Result<(), Error> {
    let limit = |n: i64| if n < 0 { "max".to_owned() } else { n.to_string() };
    let memory = r.memory.filter(|m| *m != 0);
    let swap = match r.memory_swap.filter(|s| *s != 0) {
        None if memory == Some(-1) => Some(limit(-1)),
        None => None,
        Some(both) => {
            let memory = match memory {
                Some(m) => u64::try_from(m).unwrap_or(u64::MAX),
                None if both > 0 => file::read_number(&dir.join("memory.max"))?,
                None => u64::MAX,
            };
            Some(swap_alone(both, memory)?)
        }
    };
    if let Some(value) = swap {
        match set(dir, "memory.swap.max", &value, "swap", "") {
            // Without swap accounting there is no limit, and no swap to speak of.
            Err(Error::Unsupported { .. }) if value == "max" || value == "0" => {}
            other => other?,
        }
    }
    if let Some(value) = memory {
        set(dir, "memory.max", &limit(value), "memory", "").map_err(|e| in_use(e, value, dir, "memory.current"))?;
    }
    if let Some(value) = r.memory_reservation.filter(|m| *m != 0) {
        set(dir, "memory.low", &limit(value), "memory reservation", "")?;
    }
    Ok(())
}

fn io(dir: &Path, r: &Resources) -> Result<(), Error> {
    let weighted = |w: Option<u16>| w.filter(|w| *w != 0);
    let devices: Vec<_> =
        r.blkio_weight_device.iter().filter_map(|d| Some((d.major, d.minor, weighted(d.weight)?))).collect();
    if weighted(r.blkio_weight).is_some() || !devices.is_empty() {
        // BFQ takes 1 to 1000 as given, the kernel's own io.weight 1 to 10000.
        let bfq = file::has(dir, "io.bfq.weight");
        let weigh = |weight: u16| if bfq { u64::from(weight) } else { io_weight(weight) };
        let name = if bfq { "io.bfq.weight" } else { "io.weight" };
        if let Some(weight) = weighted(r.blkio_weight) {
            set(dir, name, &format!("default {}", weigh(weight)), "block I/O weight", "; a weight is 10 to 1000")?;
        }
        for (major, minor, weight) in devices {
            set(dir, name, &format!("{major}:{minor} {}", weigh(weight)), "block I/O weight", "")?;
        }
    }
    for (list, key) in [
        (&r.blkio_read_bps, "rbps"),
        (&r.blkio_write_bps, "wbps"),
        (&r.blkio_read_iops, "riops"),
        (&r.blkio_write_iops, "wiops"),
    ] {
        for d in list {
            let rate = if d.rate == 0 { "max".to_owned() } else { d.rate.to_string() };
            let value = format!("{}:{} {key}={rate}", d.major, d.minor);
            set(dir, "io.max", &value, "block I/O rates", "; the device must be a whole disk")?;
        }
    }
    Ok(())
}

/// Freezes or thaws.
pub(crate) fn set_frozen(dir: &Path, frozen: bool) -> Result<(), Error> {
    write(dir, "cgroup.freeze", if frozen { "1" } else { "0" })
}
