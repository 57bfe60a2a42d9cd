//! What a group has used, with everything Docker's stats document carries. Reading is a handful of small
//! files; nothing is cached.

use std::path::Path;

use crate::{Cgroup, Error, file};

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Nanoseconds on all CPUs.
    pub total_ns: u64,
    /// Of these in user mode.
    pub user_ns: u64,
    /// Of these in the kernel.
    pub system_ns: u64,
    /// Nanoseconds by CPU; v1 only, else empty.
    pub percpu_ns: Vec<u64>,
    /// Periods in which there was a quota and something to run.
    pub periods: u64,
    /// Of these, periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Nanoseconds held back.
    pub throttled_ns: u64,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Bytes in use, page cache included.
    pub usage: u64,
    /// Most bytes ever in use, where the kernel remembers.
    pub max_usage: Option<u64>,
    /// Bytes allowed; [`u64::MAX`] or v1's near-infinite number without a limit.
    pub limit: u64,
    /// How often the limit was hit; v1 only.
    pub failcnt: Option<u64>,
    /// Bytes of swap in use, where it is accounted.
    pub swap: Option<u64>,
    /// The entries of `memory.stat` that Docker shows, by name.
    pub stats: Vec<(String, u64)>,
}

impl MemoryStats {
    /// Bytes in use without page cache that can go at once: what `docker stats` prints as usage.
    pub fn working_set(&self) -> u64 {
        let of = |key: &str| self.stats.iter().find(|(k, _)| k == key).map(|(_, v)| *v);
        let cache = of("total_inactive_file").or_else(|| of("inactive_file")).unwrap_or(0);
        if cache < self.usage { self.usage - cache } else { self.usage }
    }
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be; `None` without a limit.
    pub limit: Option<u64>,
}

/// One counter of one block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlkioEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total` on v1; `read`, `write` on v2.
    pub op: String,
    /// Bytes or operations.
    pub value: u64,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlkioStats {
    /// Bytes, the groups below included.
    pub service_bytes: Vec<BlkioEntry>,
    /// Operations, the groups below included.
    pub serviced: Vec<BlkioEntry>,
}

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory, where it is controlled.
    pub memory: Option<MemoryStats>,
    /// Processes.
    pub pids: PidsStats,
    /// Block devices.
    pub blkio: BlkioStats,
}

/// Entries of v1's `memory.stat` in Docker's document; each also with `total_` before it, except the limits.
const V1_KEYS: [&str; 14] = [
    "active_anon",
    "active_file",
    "cache",
    "dirty",
    "inactive_anon",
    "inactive_file",
    "mapped_file",
    "pgfault",
    "pgmajfault",
    "pgpgin",
    "pgpgout",
    "rss",
    "rss_huge",
    "unevictable",
];
const V1_MORE: [&str; 3] = ["writeback", "hierarchical_memory_limit", "hierarchical_memsw_limit"];

/// Entries of v2's `memory.stat` in Docker's document.
const V2_KEYS: [&str; 34] = [
    "active_anon",
    "active_file",
    "anon",
    "anon_thp",
    "file",
    "file_dirty",
    "file_mapped",
    "file_writeback",
    "inactive_anon",
    "inactive_file",
    "kernel_stack",
    "pgactivate",
    "pgdeactivate",
    "pgfault",
    "pglazyfree",
    "pglazyfreed",
    "pgmajfault",
    "pgrefill",
    "pgscan",
    "pgsteal",
    "shmem",
    "slab",
    "slab_reclaimable",
    "slab_unreclaimable",
    "sock",
    "thp_collapse_alloc",
    "thp_fault_alloc",
    "unevictable",
    "workingset_activate",
    "workingset_nodereclaim",
    "workingset_refault",
    "workingset_refault_anon",
    "workingset_refault_file",
    "pagetables",
];

impl Cgroup {
    /// What the group has used until now.
    ///
    /// # Errors
    /// [`Error::Io`], with ENOENT when the group is gone; [`Error::Malformed`].
    pub fn stats(&self) -> Result<Stats, Error> {
        match self.unified_dir() {
            Some(dir) => v2(dir),
            None => self.v1_stats(),
        }
    }

    fn v1_stats(&self) -> Result<Stats, Error> {
        let mut stats = Stats::default();
        if let Some(dir) = self.v1_dir("cpuacct") {
            stats.cpu = v1_cpu(dir)?;
        }
        if let Some(dir) = self.v1_dir("cpu") {
            let text = file::read(&dir.join("cpu.stat"))?;
            for (key, value) in file::flat_keyed(&text) {
                match key {
                    "nr_periods" => stats.cpu.periods = value,
                    "nr_throttled" => stats.cpu.throttled_periods = value,
                    "throttled_time" => stats.cpu.throttled_ns = value,
                    _ => {}
                }
            }
        }
        if let Some(dir) = self.v1_dir("memory") {
            stats.memory = Some(v1_memory(dir)?);
        }
        stats.pids = match self.v1_dir("pids") {
            Some(dir) => pids(dir)?,
            None => PidsStats { current: self.pids()?.len() as u64, limit: None },
        };
        if let Some(dir) = self.v1_dir("blkio") {
            stats.blkio = v1_blkio(dir)?;
        }
        Ok(stats)
    }
}

fn v1_cpu(dir: &Path) -> Result<CpuStats, Error> {
    let total_ns = file::read_number(&dir.join("cpuacct.usage"))?;
    let user = file::read_number_optional(&dir.join("cpuacct.usage_user"))?;
    let system = file::read_number_optional(&dir.join("cpuacct.usage_sys"))?;
    let (user, system) = match (user, system) {
        (Some(user), Some(system)) => (user, system),
        _ => {
            // Kernels before 4.8 count in ticks of a hundredth of a second (USER_HZ) only.
            let text = file::read(&dir.join("cpuacct.stat"))?;
            let ticks = |wanted: &str| file::flat_keyed(&text).find(|(key, _)| *key == wanted).map_or(0, |(_, n)| n);
            (ticks("user").saturating_mul(10_000_000), ticks("system").saturating_mul(10_000_000))
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

fn v1_memory(dir: &Path) -> Result<MemoryStats, Error> {
    let usage = file::read_number(&dir.join("memory.usage_in_bytes"))?;
    let both = file::read_number_optional(&dir.join("memory.memsw.usage_in_bytes"))?;
    let text = file::read(&dir.join("memory.stat"))?;
    let shown = |key: &str| {
        let plain = key.strip_prefix("total_").unwrap_or(key);
        V1_KEYS.contains(&plain) || V1_MORE.contains(&plain)
    };
    Ok(MemoryStats {
        usage,
        max_usage: file::read_number_optional(&dir.join("memory.max_usage_in_bytes"))?,
        limit: file::read_number(&dir.join("memory.limit_in_bytes"))?,
        failcnt: file::read_number_optional(&dir.join("memory.failcnt"))?,
        swap: both.map(|both| both.saturating_sub(usage)),
        stats: keep(&text, shown),
    })
}

fn keep(text: &str, shown: impl Fn(&str) -> bool) -> Vec<(String, u64)> {
    let mut stats: Vec<(String, u64)> =
        file::flat_keyed(text).filter(|(key, _)| shown(key)).map(|(key, value)| (key.to_owned(), value)).collect();
    stats.sort_unstable();
    stats
}

fn pids(dir: &Path) -> Result<PidsStats, Error> {
    let limit = file::read_number(&dir.join("pids.max"))?;
    Ok(PidsStats {
        current: file::read_number(&dir.join("pids.current"))?,
        limit: (limit != u64::MAX).then_some(limit),
    })
}

fn v1_blkio(dir: &Path) -> Result<BlkioStats, Error> {
    // The throttling layer counts whatever the scheduler; BFQ's files stay empty for other schedulers.
    let table = |name: &str| -> Result<Vec<BlkioEntry>, Error> {
        Ok(file::read_optional(&dir.join(name))?.map(|text| v1_table(&text)).unwrap_or_default())
    };
    Ok(BlkioStats {
        service_bytes: table("blkio.throttle.io_service_bytes_recursive")?,
        serviced: table("blkio.throttle.io_serviced_recursive")?,
    })
}

/// Lines `major:minor Op value`; the sum over devices at the end has no device and is left out.
fn v1_table(text: &str) -> Vec<BlkioEntry> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (major, minor) = fields.next()?.split_once(':')?;
            let (op, value) = (fields.next()?, fields.next()?);
            Some(BlkioEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                op: op.to_owned(),
                value: value.parse().ok()?,
            })
        })
        .collect()
}

fn v2(dir: &Path) -> Result<Stats, Error> {
    let mut cpu = CpuStats::default();
    let text = file::read(&dir.join("cpu.stat"))?;
    for (key, value) in file::flat_keyed(&text) {
        match key {
            "usage_usec" => cpu.total_ns = value.saturating_mul(1000),
            "user_usec" => cpu.user_ns = value.saturating_mul(1000),
            "system_usec" => cpu.system_ns = value.saturating_mul(1000),
            "nr_periods" => cpu.periods = value,
            "nr_throttled" => cpu.throttled_periods = value,
            "throttled_usec" => cpu.throttled_ns = value.saturating_mul(1000),
            _ => {}
        }
    }
    let memory = match file::read_number_optional(&dir.join("memory.current"))? {
        Some(usage) => Some(MemoryStats {
            usage,
            max_usage: file::read_number_optional(&dir.join("memory.peak"))?,
            limit: file::read_number(&dir.join("memory.max"))?,
            failcnt: None,
            swap: file::read_number_optional(&dir.join("memory.swap.current"))?,
            stats: keep(&file::read(&dir.join("memory.stat"))?, |key| V2_KEYS.contains(&key)),
        }),
        None => None,
    };
    let pids = if file::has(dir, "pids.current") { pids(dir)? } else { PidsStats::default() };
    let blkio = file::read_optional(&dir.join("io.stat"))?.map(|text| v2_io(&text)).unwrap_or_default();
    Ok(Stats { cpu, memory, pids, blkio })
}

/// Lines `major:minor rbytes=N wbytes=N rios=N wios=N dbytes=N dios=N`.
fn v2_io(text: &str) -> BlkioStats {
    let mut out = BlkioStats::default();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let Some((major, minor)) = fields.next().and_then(|d| d.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for field in fields {
            let Some((key, value)) = field.split_once('=') else { continue };
            let Ok(value) = value.parse() else { continue };
            let (list, op) = match key {
                "rbytes" => (&mut out.service_bytes, "read"),
                "wbytes" => (&mut out.service_bytes, "write"),
                "rios" => (&mut out.serviced, "read"),
                "wios" => (&mut out.serviced, "write"),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_tables_leave_out_the_sum() {
        let entries = v1_table("254:0 Read 36200448\n254:0 Total 57184256\nTotal 57184256\nbroken\n");
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0], BlkioEntry { major: 254, minor: 0, op: "Read".into(), value: 36_200_448 });
    }

    #[test]
    fn v2_lines() {
        let io = v2_io("8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n8:0\nx y=z\n");
        assert_eq!(io.service_bytes.len(), 2);
        assert_eq!(io.serviced[1], BlkioEntry { major: 8, minor: 16, op: "write".into(), value: 353 });
    }

    #[test]
    fn working_set_leaves_out_inactive_cache() {
        let stats = vec![("inactive_file".to_owned(), 5), ("total_inactive_file".to_owned(), 30)];
        let memory = MemoryStats { usage: 100, stats, ..MemoryStats::default() };
        assert_eq!(memory.working_set(), 70);
        assert_eq!(MemoryStats { usage: 10, ..memory }.working_set(), 10);
    }
}
