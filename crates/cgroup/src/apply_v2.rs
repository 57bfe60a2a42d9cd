//! Limits on v2 (Documentation/admin-guide/cgroup-v2.rst), with Docker's v1 terms converted.

use std::path::Path;

use crate::apply_v1::in_use;
use crate::file::{self, write, write_hint};
use crate::resources::{DEFAULT_PERIOD, Resources, io_weight, weight_of_shares};
use crate::{Error, devices};

pub(crate) fn apply(dir: &Path, r: &Resources) -> Result<(), Error> {
    refuse_v1_only(r)?;
    if let Some(rules) = &r.devices {
        devices::check(rules)?;
        set_devices(dir, rules)?;
    }
    for (name, value) in [("cpuset.cpus", &r.cpuset_cpus), ("cpuset.mems", &r.cpuset_mems)] {
        if let Some(value) = value {
            set(dir, name, value, "CPU sets", "; the list must be of CPUs or nodes this host has online")?;
        }
    }
    cpu(dir, r)?;
    memory(dir, r)?;
    if let Some(limit) = r.pids_limit {
        let value = if limit > 0 { limit.to_string() } else { "max".to_owned() };
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
                reason: format!("the cgroup v2 controller '{controller}' is not enabled for {}", dir.display()),
            })
        }
        other => other,
    }
}

fn refuse_v1_only(r: &Resources) -> Result<(), Error> {
    for (asked, control) in [
        (r.memory_swappiness.is_some(), "memory swappiness"),
        (r.oom_kill_disable == Some(true), "the out-of-memory killer"),
        (r.cpu_rt_runtime.is_some() || r.cpu_rt_period.is_some(), "real-time CPU"),
    ] {
        if asked {
            return Err(Error::Unsupported { control, reason: "cgroup v2 has no such setting".to_owned() });
        }
    }
    Ok(())
}

fn set_devices(dir: &Path, rules: &[devices::DeviceRule]) -> Result<(), Error> {
    let io = |action| move |e: sys::Errno| Error::Io { action, path: dir.to_owned(), source: e.into() };
    let program =
        sys::bpf::load_cgroup_device(&devices::device_program(rules)).map_err(io("load the device program of"))?;
    let group = rustix::fs::open(
        dir,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(io("open"))?;
    sys::bpf::replace_cgroup_device(&group, &program).map_err(io("attach the device program to"))
}

fn cpu(dir: &Path, r: &Resources) -> Result<(), Error> {
    if let Some(shares) = r.cpu_shares {
        set(dir, "cpu.weight", &weight_of_shares(shares).to_string(), "CPU shares", "")?;
    }
    let (quota, period) = r.quota_and_period();
    if quota.is_none() && period.is_none() {
        return Ok(());
    }
    // One file holds both: what is not given stays.
    let now = file::read_optional(&dir.join("cpu.max"))?.unwrap_or_default();
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
    )
}

fn memory(dir: &Path, r: &Resources) -> Result<(), Error> {
    let limit = |n: i64| if n < 0 { "max".to_owned() } else { n.to_string() };
    let swap = match r.memory_swap {
        None if r.memory == Some(-1) => Some(limit(-1)),
        None => None,
        Some(both) if both < 0 => Some(limit(-1)),
        Some(both) => {
            let memory = match r.memory {
                Some(m) => u64::try_from(m).unwrap_or(u64::MAX),
                None => file::read_number(&dir.join("memory.max"))?,
            };
            let both = u64::try_from(both).unwrap_or(u64::MAX);
            let swap = both.checked_sub(memory).ok_or_else(|| Error::Invalid {
                control: "the limit of memory and swap",
                value: both.to_string(),
                reason: "it cannot be less than the memory limit",
            })?;
            Some(swap.to_string())
        }
    };
    if let Some(value) = swap {
        match set(dir, "memory.swap.max", &value, "swap", "") {
            // No swap accounting and no limit asked for is what there is anyway.
            Err(Error::Unsupported { .. }) if value == "max" => {}
            other => other?,
        }
    }
    if let Some(value) = r.memory {
        set(dir, "memory.max", &limit(value), "memory", "").map_err(|e| in_use(e, value, dir, "memory.current"))?;
    }
    if let Some(value) = r.memory_reservation {
        set(dir, "memory.low", &limit(value), "memory reservation", "")?;
    }
    Ok(())
}

fn io(dir: &Path, r: &Resources) -> Result<(), Error> {
    // BFQ takes 1 to 1000 as given, the kernel's own io.weight 1 to 10000.
    let bfq = file::has(dir, "io.bfq.weight");
    let weigh = |weight: u16| if bfq { u64::from(weight) } else { io_weight(weight) };
    let name = if bfq { "io.bfq.weight" } else { "io.weight" };
    if let Some(weight) = r.blkio_weight {
        set(dir, name, &format!("default {}", weigh(weight)), "block I/O weight", "; a weight is 10 to 1000")?;
    }
    for d in &r.blkio_weight_device {
        set(dir, name, &format!("{}:{} {}", d.major, d.minor, weigh(d.weight)), "block I/O weight", "")?;
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
