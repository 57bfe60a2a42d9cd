//! Statistics on v2 (Documentation/admin-guide/cgroup-v2.rst): one directory for all controllers.

use std::path::Path;

use super::{BlkioEntry, BlkioStats, CpuStats, MemoryCounter, MemoryStats, MiscStats, PidsStats, Stats, parse};
use crate::{Error, file};

pub(super) fn read(dir: &Path) -> Result<Stats, Error> {
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
            "nr_bursts" => cpu.burst_periods = value,
            "burst_usec" => cpu.burst_ns = value.saturating_mul(1000),
            _ => {}
        }
    }
    let memory = match file::read_number_optional(&dir.join("memory.current"))? {
        Some(usage) => Some(MemoryStats {
            usage,
            max_usage: file::read_number_optional(&dir.join("memory.peak"))?,
            limit: file::read_number(&dir.join("memory.max"))?,
            swap: file::read_number_optional(&dir.join("memory.swap.current"))?,
            stats: parse::flat(&file::read(&dir.join("memory.stat"))?),
            use_hierarchy: true,
            ..MemoryStats::default()
        }),
        None => None,
    };
    let pids = if file::has(dir, "pids.current") { parse::pids(dir)? } else { PidsStats::default() };
    let blkio = file::read_optional(&dir.join("io.stat"))?.map(|text| io(&text)).unwrap_or_default();
    Ok(Stats { cpu, memory, pids, blkio, ..Stats::default() })
}

/// What [`read`] leaves out, and runc's names for what block devices did.
pub(super) fn complete(dir: &Path, stats: &mut Stats) -> Result<(), Error> {
    stats.cpu.pressure = parse::pressure(&dir.join("cpu.pressure"))?;
    for (name, list) in
        [("cpuset.cpus.effective", &mut stats.cpuset.cpus), ("cpuset.mems.effective", &mut stats.cpuset.mems)]
    {
        *list = file::read_optional(&dir.join(name))?.map(|t| parse::list(&t)).unwrap_or_default();
    }
    if let Some(m) = &mut stats.memory {
        m.pressure = parse::pressure(&dir.join("memory.pressure"))?;
        if let Some(usage) = m.swap {
            let alone = MemoryCounter {
                usage,
                max_usage: file::read_number_optional(&dir.join("memory.swap.peak"))?.unwrap_or(0),
                failcnt: 0,
                limit: file::read_number_optional(&dir.join("memory.swap.max"))?.unwrap_or(u64::MAX),
            };
            m.swap_alone = Some(alone);
            // v1 counts both together. Peaks at different times have no sum.
            m.with_swap = Some(MemoryCounter {
                usage: usage.saturating_add(m.usage),
                max_usage: 0,
                failcnt: 0,
                limit: alone.limit.saturating_add(m.limit),
            });
        }
    }
    stats.blkio.pressure = parse::pressure(&dir.join("io.pressure"))?;
    for entry in stats.blkio.service_bytes.iter_mut().chain(&mut stats.blkio.serviced) {
        entry.op = if entry.op == "read" { "Read".to_owned() } else { "Write".to_owned() };
    }
    if let Some(text) = file::read_optional(&dir.join("misc.current"))? {
        let events = file::read_optional(&dir.join("misc.events"))?.unwrap_or_default();
        for (name, usage) in file::flat_keyed(&text) {
            let hit = file::flat_keyed(&events).find(|(key, _)| key.strip_suffix(".max") == Some(name));
            stats.misc.push(MiscStats { name: name.to_owned(), usage, events: hit.map_or(0, |(_, n)| n) });
        }
    }
    Ok(())
}

/// Lines `major:minor rbytes=N wbytes=N rios=N wios=N dbytes=N dios=N`.
fn io(text: &str) -> BlkioStats {
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
    fn lines() {
        let io = io("8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n8:0\nx y=z\n");
        assert_eq!(io.service_bytes.len(), 2);
        assert_eq!(io.serviced[1], BlkioEntry { major: 8, minor: 16, op: "write".into(), value: 353 });
    }
}
