//! Statistics on v1 (Documentation/admin-guide/cgroup-v1): one directory a controller.

use std::path::Path;

use super::{
    BlkioEntry, BlkioStats, CpuStats, CpusetStats, MemoryCounter, MemoryStats, NumaPages, PidsStats, Stats, parse,
};
use crate::{Cgroup, Error, file};

/// USER_HZ: ticks a second of counters that user space sees.
const TICK_NS: u64 = 10_000_000;

pub(super) fn read(group: &Cgroup) -> Result<Stats, Error> {
    let mut stats = Stats::default();
    if let Some(dir) = group.v1_dir("cpuacct") {
        stats.cpu = cpuacct(dir)?;
    }
    if let Some(dir) = group.v1_dir("cpu") {
        let text = file::read(&dir.join("cpu.stat"))?;
        for (key, value) in file::flat_keyed(&text) {
            match key {
                "nr_periods" => stats.cpu.periods = value,
                "nr_throttled" => stats.cpu.throttled_periods = value,
                "throttled_time" => stats.cpu.throttled_ns = value,
                "nr_bursts" => stats.cpu.burst_periods = value,
                "burst_time" => stats.cpu.burst_ns = value,
                _ => {}
            }
        }
    }
    if let Some(dir) = group.v1_dir("memory") {
        stats.memory = Some(memory(dir)?);
    }
    stats.pids = match group.v1_dir("pids") {
        Some(dir) => parse::pids(dir)?,
        None => PidsStats { current: group.pids()?.len() as u64, limit: None },
    };
    if let Some(dir) = group.v1_dir("blkio") {
        // The throttling layer counts whatever the scheduler; BFQ's files stay empty for other schedulers.
        stats.blkio.service_bytes = table(dir, "blkio.throttle.io_service_bytes_recursive")?;
        stats.blkio.serviced = table(dir, "blkio.throttle.io_serviced_recursive")?;
    }
    Ok(stats)
}

/// What [`read`] leaves out.
pub(super) fn complete(group: &Cgroup, stats: &mut Stats) -> Result<(), Error> {
    if let Some(dir) = group.v1_dir("cpuacct")
        && let Some(text) = file::read_optional(&dir.join("cpuacct.usage_all"))?
    {
        for line in text.lines().skip(1) {
            let mut fields = line.split_whitespace().skip(1).map(|n| n.parse().unwrap_or(0));
            stats.cpu.percpu_user_ns.push(fields.next().unwrap_or(0));
            stats.cpu.percpu_system_ns.push(fields.next().unwrap_or(0));
        }
    }
    if let Some(dir) = group.v1_dir("cpuset") {
        stats.cpuset = cpuset(dir)?;
    }
    if let (Some(dir), Some(m)) = (group.v1_dir("memory"), &mut stats.memory) {
        m.with_swap = counter(dir, "memory.memsw")?;
        m.kernel = counter(dir, "memory.kmem")?;
        m.kernel_tcp = counter(dir, "memory.kmem.tcp")?;
        m.use_hierarchy = file::read_number_optional(&dir.join("memory.use_hierarchy"))? == Some(1);
        m.numa = file::read_optional(&dir.join("memory.numa_stat"))?.map(|t| numa(&t)).unwrap_or_default();
    }
    if let Some(dir) = group.v1_dir("blkio") {
        scheduler(dir, &mut stats.blkio)?;
    }
    Ok(())
}

fn cpuacct(dir: &Path) -> Result<CpuStats, Error> {
    let total_ns = file::read_number(&dir.join("cpuacct.usage"))?;
    let user = file::read_number_optional(&dir.join("cpuacct.usage_user"))?;
    let system = file::read_number_optional(&dir.join("cpuacct.usage_sys"))?;
    let (user, system) = match (user, system) {
        (Some(user), Some(system)) => (user, system),
        _ => {
            // Kernels before 4.8 count in ticks only.
            let text = file::read(&dir.join("cpuacct.stat"))?;
            let ticks = |wanted: &str| file::flat_keyed(&text).find(|(key, _)| *key == wanted).map_or(0, |(_, n)| n);
            (ticks("user").saturating_mul(TICK_NS), ticks("system").saturating_mul(TICK_NS))
        }
    };
    let percpu = file::read(&dir.join("cpuacct.usage_percpu"))?;
    Ok(CpuStats {
        total_ns,
        user_ns: user,
        system_ns: system,
        percpu_ns: percpu.split_whitespace().filter_map(|n| n.parse().ok()).collect(),
        ..CpuStats::default()
    })
}

fn cpuset(dir: &Path) -> Result<CpusetStats, Error> {
    let text = |name: &str| Ok(file::read_optional(&dir.join(name))?.unwrap_or_default());
    let number = |name: &str| Ok::<_, Error>(file::read_number_optional(&dir.join(name))?.unwrap_or(0));
    let list = |name: &str| text(name).map(|t: String| parse::list(&t));
    Ok(CpusetStats {
        cpus: list("cpuset.cpus")?,
        mems: list("cpuset.mems")?,
        cpu_exclusive: number("cpuset.cpu_exclusive")?,
        mem_hardwall: number("cpuset.mem_hardwall")?,
        mem_exclusive: number("cpuset.mem_exclusive")?,
        memory_migrate: number("cpuset.memory_migrate")?,
        memory_spread_page: number("cpuset.memory_spread_page")?,
        memory_spread_slab: number("cpuset.memory_spread_slab")?,
        memory_pressure: number("cpuset.memory_pressure")?,
        sched_load_balance: number("cpuset.sched_load_balance")?,
        // -1 is the ordinary value.
        sched_relax_domain_level: text("cpuset.sched_relax_domain_level")?.trim().parse().unwrap_or(0),
    })
}

fn memory(dir: &Path) -> Result<MemoryStats, Error> {
    let usage = file::read_number(&dir.join("memory.usage_in_bytes"))?;
    let both = file::read_number_optional(&dir.join("memory.memsw.usage_in_bytes"))?;
    Ok(MemoryStats {
        usage,
        max_usage: file::read_number_optional(&dir.join("memory.max_usage_in_bytes"))?,
        limit: file::read_number(&dir.join("memory.limit_in_bytes"))?,
        failcnt: file::read_number_optional(&dir.join("memory.failcnt"))?,
        swap: both.map(|both| both.saturating_sub(usage)),
        stats: parse::flat(&file::read(&dir.join("memory.stat"))?),
        ..MemoryStats::default()
    })
}

/// The four files of one counter, or `None` where the kernel does not have it.
fn counter(dir: &Path, name: &str) -> Result<Option<MemoryCounter>, Error> {
    let number = |what: &str| file::read_number_optional(&dir.join(format!("{name}.{what}")));
    let Some(usage) = number("usage_in_bytes")? else { return Ok(None) };
    Ok(Some(MemoryCounter {
        usage,
        max_usage: number("max_usage_in_bytes")?.unwrap_or(0),
        failcnt: number("failcnt")?.unwrap_or(0),
        limit: number("limit_in_bytes")?.unwrap_or(0),
    }))
}

/// Lines `total=44611 N0=32631 N1=7501`. Kernels with patches have lines of other forms, which are left out.
fn numa(text: &str) -> Vec<NumaPages> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace().filter_map(|f| f.split_once('='));
        let (kind, total) = fields.next()?;
        let nodes = fields.filter_map(|(node, n)| Some((node.strip_prefix('N')?.parse().ok()?, n.parse().ok()?)));
        Some(NumaPages { kind: kind.to_owned(), total: total.parse().ok()?, nodes: nodes.collect() })
    };
    text.lines().filter_map(line).collect()
}

/// What the scheduler counts: BFQ (with debugging or without), or CFQ on kernels before 5.0. Where it counts
/// nothing, what the throttling layer counted stays.
fn scheduler(dir: &Path, out: &mut BlkioStats) -> Result<(), Error> {
    for family in ["blkio.bfq", "blkio"] {
        let read = |name: &str| table(dir, &format!("{family}.{name}"));
        let bytes = read("io_service_bytes_recursive")?;
        if bytes.is_empty() {
            continue;
        }
        out.service_bytes = bytes;
        out.serviced = read("io_serviced_recursive")?;
        out.queued = read("io_queued_recursive")?;
        out.service_time = read("io_service_time_recursive")?;
        out.wait_time = read("io_wait_time_recursive")?;
        out.merged = read("io_merged_recursive")?;
        out.time = read("time_recursive")?;
        out.sectors = read("sectors_recursive")?;
        break;
    }
    Ok(())
}

fn table(dir: &Path, name: &str) -> Result<Vec<BlkioEntry>, Error> {
    Ok(file::read_optional(&dir.join(name))?.map(|text| entries(&text)).unwrap_or_default())
}

/// Lines `major:minor Op value` and `major:minor value`; the sum over devices at the end has no device and is left
/// out.
fn entries(text: &str) -> Vec<BlkioEntry> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let (major, minor) = fields.next()?.split_once(':')?;
        let (op, value) = match (fields.next()?, fields.next()) {
            (op, Some(value)) => (op, value),
            (value, None) => ("", value),
        };
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_leave_out_the_sum() {
        let list = entries("254:0 Read 36200448\n254:0 Total 57184256\nTotal 57184256\nbroken\n8:0 6792\n");
        assert_eq!(list.len(), 3);
        assert_eq!(list[0], BlkioEntry { major: 254, minor: 0, op: "Read".into(), value: 36_200_448 });
        assert_eq!(list[2], BlkioEntry { major: 8, minor: 0, op: String::new(), value: 6792 });
    }

    #[test]
    fn pages_by_node() {
        let list = numa("total=7 N0=3 N1=4\nnuma_locality 0 0\nhierarchical_total=9 N0=9\n");
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].total, list[0].nodes.as_slice()), (7, &[(0, 3), (1, 4)][..]));
        assert_eq!(list[1].kind, "hierarchical_total");
    }

    #[test]
    fn the_schedulers_counters_replace_the_throttling_layers() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let mut out = BlkioStats { serviced: entries("8:0 Read 1"), ..BlkioStats::default() };
        put("blkio.bfq.io_service_bytes_recursive", "Total 0\n");
        scheduler(dir.path(), &mut out).unwrap();
        assert_eq!(out.serviced.len(), 1, "a scheduler that counts nothing");
        put("blkio.bfq.io_service_bytes_recursive", "8:0 Read 512\nTotal 512\n");
        put("blkio.bfq.io_serviced_recursive", "8:0 Read 2\n");
        put("blkio.bfq.time_recursive", "8:0 77\n");
        scheduler(dir.path(), &mut out).unwrap();
        assert_eq!((out.service_bytes[0].value, out.serviced[0].value, out.time[0].value), (512, 2, 77));
        assert!(out.sectors.is_empty());
    }
}
