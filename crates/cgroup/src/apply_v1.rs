//! Limits on v1 (Documentation/admin-guide/cgroup-v1). The order of writes matters where the kernel keeps
//! two limits consistent: memory never above memory and swap, quota never above the parent's share.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::apply::{Lack, in_use};
use crate::device_list::DeviceList;
use crate::error::libc_errno::{EBUSY, EINVAL, ENOENT, EOPNOTSUPP};
use crate::file::{self, write, write_hint};
use crate::resources::Resources;
use crate::{Cgroup, DeviceRule, Error, devices};

pub(crate) fn apply(group: &Cgroup, r: &Resources, lack: &mut Lack) -> Result<(), Error> {
    // Devices first: a group that fails half-way must not be left open.
    if let Some(rules) = &r.devices {
        set_devices(need(group, "devices", "device access")?, rules)?;
    }
    cpuset(group, r)?;
    cpu(group, r)?;
    memory(group, r, lack)?;
    if let Some(value) = r.pids_max() {
        write(need(group, "pids", "the number of processes")?, "pids.max", &value)?;
    }
    blkio(group, r, lack)?;
    network(group, r)
}

fn need<'a>(group: &'a Cgroup, controller: &str, control: &'static str) -> Result<&'a Path, Error> {
    group.v1_dir(controller).ok_or_else(|| Error::Unsupported {
        control,
        reason: format!("the cgroup v1 controller '{controller}' is not mounted"),
    })
}

fn set_devices(dir: &Path, rules: &[DeviceRule]) -> Result<(), Error> {
    devices::check(rules)?;
    let list = DeviceList::of(rules)?;
    let (default, exceptions) =
        if list.allow { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
    // Sets the default and drops every exception there was.
    write(dir, default, "a")?;
    if list.exceptions.is_empty() {
        return Ok(());
    }
    // One rule a write, all to one open file.
    let path = dir.join(exceptions);
    let fd = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| file::refused(&path, "", e, ""))?;
    for rule in &list.exceptions {
        let line = rule.v1_line();
        file::write_fd(&fd, &line).map_err(|e| file::refused(&path, &line, e, ""))?;
    }
    Ok(())
}

fn cpuset(group: &Cgroup, r: &Resources) -> Result<(), Error> {
    for (name, value) in [("cpuset.cpus", &r.cpuset_cpus), ("cpuset.mems", &r.cpuset_mems)] {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
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
    const BURST: &str = "cpu.cfs_burst_us";
    if let Some(shares) = r.cpu_shares.filter(|s| *s != 0) {
        // The kernel would take the nearest in silence.
        if !(2..=262_144).contains(&shares) {
            let reason = if shares < 2 {
                "the minimum allowed cpu-shares is 2"
            } else {
                "the maximum allowed cpu-shares is 262144"
            };
            return Err(Error::Invalid { control: "CPU shares", value: shares.to_string(), reason });
        }
        write(need(group, "cpu", "CPU shares")?, "cpu.shares", &shares.to_string())?;
    }
    if let Some(idle) = r.cpu_idle {
        feature(
            need(group, "cpu", "the idle policy")?,
            "cpu.idle",
            &idle.to_string(),
            "the idle policy",
            "; it is 0 or 1",
        )?;
    }
    if let Some(period) = r.cpu_rt_period.filter(|p| *p != 0) {
        feature(need(group, "cpu", "real-time CPU")?, "cpu.rt_period_us", &period.to_string(), "real-time CPU", "")?;
    }
    if let Some(runtime) = r.cpu_rt_runtime.filter(|r| *r != 0) {
        feature(
            need(group, "cpu", "real-time CPU")?,
            "cpu.rt_runtime_us",
            &runtime.to_string(),
            "real-time CPU",
            "; the parent group must have at least as much real-time running time",
        )?;
    }
    let (quota, period) = r.quota_and_period();
    if quota.is_none() && period.is_none() && r.cpu_burst.is_none() {
        return Ok(());
    }
    let dir = need(group, "cpu", "CPU quota")?;
    let burst = r.cpu_burst.map(|b| b.to_string());
    let set_burst = |value: &str| feature(dir, BURST, value, "CPU burst", "; a burst is at most the quota");
    // A burst must fit the quota in force. Before the quota it may not yet, after it it may no longer.
    let mut later = None;
    if let Some(value) = &burst {
        match set_burst(value) {
            Err(e) if e.errno() == Some(EINVAL) && quota.is_some() => later = Some(value),
            other => other?,
        }
    }
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
    }?;
    later.map_or(Ok(()), |value| set_burst(value))
}

/// Writes a file that not every kernel has.
fn feature(dir: &Path, name: &str, value: &str, control: &'static str, hint: &'static str) -> Result<(), Error> {
    write_hint(dir, name, value, hint).map_err(|e| match e.errno() {
        Some(ENOENT) => Error::Unsupported { control, reason: format!("this kernel has no {name}") },
        _ => e,
    })
}

fn memory(group: &Cgroup, r: &Resources, lack: &mut Lack) -> Result<(), Error> {
    const MEMORY: &str = "memory.limit_in_bytes";
    const BOTH: &str = "memory.memsw.limit_in_bytes";
    let limit = r.memory.filter(|m| *m != 0);
    let swap = r.memory_swap.filter(|s| *s != 0);
    // Lifting the memory limit alone lifts the other too, which could not stay below it.
    let both = swap.or(if limit == Some(-1) { Some(-1) } else { None });
    if limit.is_some() || swap.is_some() {
        let dir = need(group, "memory", "memory")?;
        let set_memory = || match limit {
            Some(limit) => write_hint(
                dir,
                MEMORY,
                &limit.to_string(),
                "; a memory limit above the limit of memory and swap needs that one raised at the same time",
            )
            .map_err(|e| in_use(e, limit, dir, "memory.usage_in_bytes")),
            None => Ok(()),
        };
        let set_both = || match both {
            Some(limit) => {
                match write_hint(dir, BOTH, &limit.to_string(), "; memory and swap together cannot be less than memory")
                {
                    // Without swap accounting there is no limit.
                    Err(e) if e.errno() == Some(ENOENT) && limit == -1 => Ok(()),
                    Err(e) if e.errno() == Some(ENOENT) => Err(Error::Unsupported {
                        control: "swap",
                        reason: "the kernel does not account swap; boot with swapaccount=1".to_owned(),
                    }),
                    other => other.map_err(|e| in_use(e, limit, dir, "memory.memsw.usage_in_bytes")),
                }
            }
            None => Ok(()),
        };
        match set_memory() {
            // Above the limit of both that is in force: that one first. A new group has none yet.
            Err(e) if e.errno() == Some(EINVAL) && both.is_some() => {
                set_both()?;
                set_memory()?;
            }
            first => {
                first?;
                set_both()?;
            }
        }
    }
    if let Some(limit) = r.memory_reservation.filter(|m| *m != 0) {
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
    memory_of_old(group, r, lack)
}

/// Settings that kernels have dropped.
fn memory_of_old(group: &Cgroup, r: &Resources, lack: &mut Lack) -> Result<(), Error> {
    for (value, control, name) in [
        (r.kernel_memory, "kernel memory", "memory.kmem.limit_in_bytes"),
        (r.kernel_memory_tcp, "kernel memory for TCP", "memory.kmem.tcp.limit_in_bytes"),
    ] {
        let Some(value) = value.filter(|v| *v != 0) else { continue };
        let dir = need(group, "memory", control)?;
        match write(dir, name, &value.to_string()) {
            Err(e) if dropped(&e) => lack.of(control, format!("this kernel no longer has {name}"))?,
            other => {
                other?;
                // Some kernels still take the value, and do nothing with it.
                let now = file::read_number(&dir.join(name))?;
                if u64::try_from(value).is_ok_and(|wanted| now > wanted) {
                    lack.of(control, format!("this kernel takes {name} without effect"))?;
                }
            }
        }
    }
    if let Some(wanted) = r.memory_use_hierarchy {
        let control = "hierarchical memory accounting";
        match write(need(group, "memory", control)?, "memory.use_hierarchy", if wanted { "1" } else { "0" }) {
            // What is always on needs no switch. EINVAL also comes below a group that has it on.
            Err(e) if wanted && (dropped(&e) || e.errno() == Some(EINVAL)) => {}
            Err(e) if dropped(&e) || matches!(e.errno(), Some(EINVAL | EBUSY)) => {
                lack.of(control, "this kernel always accounts groups with those below them".to_owned())?;
            }
            other => other?,
        }
    }
    Ok(())
}

/// The file is gone, or there to be refused: ENOTSUPP (524) is the kernel's own number, which no C library knows.
fn dropped(e: &Error) -> bool {
    matches!(e.errno(), Some(ENOENT | EOPNOTSUPP | 524))
}

fn blkio(group: &Cgroup, r: &Resources, lack: &mut Lack) -> Result<(), Error> {
    const HINT: &str = "; a weight is 10 to 1000 and needs the device's BFQ scheduler";
    if let Some(weight) = r.blkio_weight.filter(|w| *w != 0) {
        let dir = need(group, "blkio", "block I/O weight")?;
        write_hint(dir, weight_file(dir, "weight")?, &weight.to_string(), "; a weight is 10 to 1000")?;
    }
    if let Some(weight) = r.blkio_leaf_weight.filter(|w| *w != 0) {
        leaf(need(group, "blkio", "block I/O weight")?, "blkio.leaf_weight", &weight.to_string(), lack)?;
    }
    for d in &r.blkio_weight_device {
        let dir = need(group, "blkio", "block I/O weight")?;
        if let Some(weight) = d.weight.filter(|w| *w != 0) {
            write_hint(dir, weight_file(dir, "weight_device")?, &format!("{}:{} {weight}", d.major, d.minor), HINT)?;
        }
        if let Some(weight) = d.leaf_weight.filter(|w| *w != 0) {
            leaf(dir, "blkio.leaf_weight_device", &format!("{}:{} {weight}", d.major, d.minor), lack)?;
        }
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

/// CFQ's files until Linux 5.0; BFQ has no such thing.
fn leaf(dir: &Path, name: &str, value: &str, lack: &mut Lack) -> Result<(), Error> {
    match write_hint(dir, name, value, "; a weight is 10 to 1000") {
        Err(e) if e.errno() == Some(ENOENT) => {
            lack.of("block I/O leaf weight", format!("this kernel has no {name}, which was the CFQ scheduler's"))
        }
        other => other,
    }
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

fn network(group: &Cgroup, r: &Resources) -> Result<(), Error> {
    if let Some(class) = r.net_class_id.filter(|c| *c != 0) {
        write(need(group, "net_cls", "the network class")?, "net_cls.classid", &class.to_string())?;
    }
    for p in &r.net_priorities {
        if p.interface.is_empty() || p.interface.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
            let reason = "it is no name of a network interface";
            return Err(Error::Invalid { control: "a network priority", value: p.interface.clone(), reason });
        }
        let dir = need(group, "net_prio", "network priorities")?;
        let line = format!("{} {}", p.interface, p.priority);
        write_hint(dir, "net_prio.ifpriomap", &line, "; the interface must be in this network namespace")?;
    }
    Ok(())
}
