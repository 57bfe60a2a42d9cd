//! Forms that the files of several controllers share, and the controllers that are the same on both versions.
//!
//! Invariant: a line of another form than documented is left out, not guessed at.

use std::path::Path;

use super::{HugepageStats, PidsStats, Pressure, PressureLine, RdmaEntry, Stats};
use crate::error::libc_errno::ENOENT;
use crate::{Cgroup, Error, file};

/// Where the kernel lists its sizes of huge pages.
const SIZES: &str = "/sys/kernel/mm/hugepages";

pub(super) fn pids(dir: &Path) -> Result<PidsStats, Error> {
    let limit = file::read_number(&dir.join("pids.max"))?;
    Ok(PidsStats {
        current: file::read_number(&dir.join("pids.current"))?,
        limit: (limit != u64::MAX).then_some(limit),
    })
}

/// All entries, by name.
pub(super) fn flat(text: &str) -> Vec<(String, u64)> {
    let mut stats: Vec<(String, u64)> = file::flat_keyed(text).map(|(key, value)| (key.to_owned(), value)).collect();
    stats.sort_unstable();
    stats
}

/// `0-2,7`: at most as many numbers as there are of 16 bits.
pub(super) fn list(text: &str) -> Vec<u16> {
    let mut out = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            out.extend(first..=last);
        }
    }
    out
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and the same for `full`. `None` where pressure is not
/// measured.
pub(super) fn pressure(path: &Path) -> Result<Option<Pressure>, Error> {
    let Some(text) = file::read_optional(path)? else { return Ok(None) };
    let mut out = Pressure::default();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let place = match fields.next() {
            Some("some") => &mut out.some,
            Some("full") => &mut out.full,
            _ => continue,
        };
        let mut read = PressureLine::default();
        for (key, value) in fields.filter_map(|f| f.split_once('=')) {
            let number = || value.parse().unwrap_or_default();
            match key {
                "avg10" => read.avg10 = number(),
                "avg60" => read.avg60 = number(),
                "avg300" => read.avg300 = number(),
                "total" => read.total = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        *place = read;
    }
    Ok(Some(out))
}

/// `hugepages-2048kB` to `2MB`, as the names of control files have it (`mem_fmt` in mm/hugetlb_cgroup.c).
fn size_of(directory: &str) -> Option<String> {
    let kib: u64 = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kib {
        n if n >= 1 << 20 => format!("{}GB", n >> 20),
        n if n >= 1 << 10 => format!("{}MB", n >> 10),
        n => format!("{n}KB"),
    })
}

pub(super) fn hugepages(group: &Cgroup, stats: &mut Stats) -> Result<(), Error> {
    let v1 = group.v1_dir("hugetlb");
    let Some(dir) = v1.or(group.v2_dir()) else { return Ok(()) };
    let Ok(entries) = std::fs::read_dir(SIZES) else { return Ok(()) };
    let mut sizes: Vec<String> = entries.flatten().filter_map(|e| size_of(&e.file_name().to_string_lossy())).collect();
    sizes.sort_unstable();
    for page_size in sizes {
        let number = |name: &str| file::read_number_optional(&dir.join(format!("hugetlb.{page_size}.{name}")));
        let suffix = if v1.is_some() { "usage_in_bytes" } else { "current" };
        let (reserved, usage) = match number(&format!("rsvd.{suffix}"))? {
            Some(usage) => ("rsvd.", usage),
            None => match number(suffix)? {
                Some(usage) => ("", usage),
                None => continue,
            },
        };
        let mut entry = HugepageStats { usage, ..HugepageStats::default() };
        if v1.is_some() {
            entry.max_usage = number(&format!("{reserved}max_usage_in_bytes"))?.unwrap_or(0);
            entry.failcnt = number(&format!("{reserved}failcnt"))?.unwrap_or(0);
        } else {
            let events = file::read_optional(&dir.join(format!("hugetlb.{page_size}.events")))?.unwrap_or_default();
            entry.failcnt = file::flat_keyed(&events).find(|(key, _)| *key == "max").map_or(0, |(_, n)| n);
        }
        entry.page_size = page_size;
        stats.hugepages.push(entry);
    }
    Ok(())
}

/// `mlx4_0 hca_handle=2 hca_object=max`
fn rdma_lines(text: &str) -> Vec<RdmaEntry> {
    let mut out = Vec::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let Some(device) = fields.next() else { continue };
        let mut entry = RdmaEntry { device: device.to_owned(), ..RdmaEntry::default() };
        for (key, value) in fields.filter_map(|f| f.split_once('=')) {
            let number = if value == "max" { u32::MAX } else { value.parse().unwrap_or_default() };
            match key {
                "hca_handle" => entry.hca_handles = number,
                "hca_object" => entry.hca_objects = number,
                _ => {}
            }
        }
        out.push(entry);
    }
    out
}

pub(super) fn rdma(group: &Cgroup, stats: &mut Stats) -> Result<(), Error> {
    let Some(dir) = group.v1_dir("rdma").or(group.v2_dir()) else { return Ok(()) };
    for (name, list) in [("rdma.max", &mut stats.rdma.limit), ("rdma.current", &mut stats.rdma.current)] {
        match file::read(&dir.join(name)) {
            Ok(text) => *list = rdma_lines(&text),
            Err(e) if e.errno() == Some(ENOENT) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_sizes_and_devices() {
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(list(""), [0u16; 0]);
        assert_eq!(list("3-1,x,70000"), [0u16; 0]);
        assert_eq!(size_of("hugepages-64kB").unwrap(), "64KB");
        assert_eq!(size_of("hugepages-2048kB").unwrap(), "2MB");
        assert_eq!(size_of("hugepages-1048576kB").unwrap(), "1GB");
        assert_eq!(size_of("hugepages-x"), None);
        let rdma = rdma_lines("mlx4_0 hca_handle=2 hca_object=max\n\n");
        assert_eq!(rdma, [RdmaEntry { device: "mlx4_0".into(), hca_handles: 2, hca_objects: u32::MAX }]);
    }
}
