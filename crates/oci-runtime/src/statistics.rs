//! What a container uses, from its control group to the document that `events` prints.

use cgroup::Cgroup;
use oci::stats::{self as document, Event, EventKind};

use crate::error::{Error, Result};

/// One line of statistics.
///
/// # Errors
/// When the group is gone.
pub(crate) fn line(id: &str, group: &Cgroup) -> Result<String> {
    let data = convert(group.full_stats()?);
    text(&Event { kind: EventKind::Stats, id: id.to_owned(), data: Some(Box::new(data)) })
}

/// The line that says that the kernel has killed for memory.
///
/// # Errors
/// Never in practice.
pub(crate) fn memory_kill(id: &str) -> Result<String> {
    text(&Event { kind: EventKind::Oom, id: id.to_owned(), data: None })
}

fn text(event: &Event) -> Result<String> {
    serde_json::to_string(event).map_err(|error| Error::Other(format!("cannot write JSON: {error}")))
}

fn convert(stats: cgroup::Stats) -> document::Stats {
    let rdma = (!stats.rdma.current.is_empty() || !stats.rdma.limit.is_empty()).then(|| document::Rdma {
        limit: stats.rdma.limit.into_iter().map(rdma_entry).collect(),
        current: stats.rdma.current.into_iter().map(rdma_entry).collect(),
    });
    document::Stats {
        cpu: document::Cpu {
            usage: document::CpuUsage {
                total: stats.cpu.total_ns,
                percpu: stats.cpu.percpu_ns,
                percpu_kernel: stats.cpu.percpu_system_ns,
                percpu_user: stats.cpu.percpu_user_ns,
                kernel: stats.cpu.system_ns,
                user: stats.cpu.user_ns,
            },
            throttling: document::Throttling {
                periods: stats.cpu.periods,
                throttled_periods: stats.cpu.throttled_periods,
                throttled_time: stats.cpu.throttled_ns,
            },
            psi: stats.cpu.pressure.map(pressure),
        },
        cpuset: cpuset(stats.cpuset),
        memory: stats.memory.map(memory).unwrap_or_default(),
        pids: document::Pids { current: stats.pids.current, limit: stats.pids.limit.unwrap_or(0) },
        blkio: blkio(stats.blkio),
        hugetlb: stats
            .hugepages
            .into_iter()
            .map(|pages| {
                let entry = document::Hugetlb { usage: pages.usage, max: pages.max_usage, failcnt: pages.failcnt };
                (pages.page_size, entry)
            })
            .collect(),
        rdma,
        ..document::Stats::default()
    }
}

fn cpuset(set: cgroup::CpusetStats) -> document::CpuSet {
    document::CpuSet {
        cpus: set.cpus,
        cpu_exclusive: set.cpu_exclusive,
        mems: set.mems,
        mem_hardwall: set.mem_hardwall,
        mem_exclusive: set.mem_exclusive,
        memory_migrate: set.memory_migrate,
        memory_spread_page: set.memory_spread_page,
        memory_spread_slab: set.memory_spread_slab,
        memory_pressure: set.memory_pressure,
        sched_load_balance: set.sched_load_balance,
        sched_relax_domain_level: set.sched_relax_domain_level,
    }
}

fn memory(memory: cgroup::MemoryStats) -> document::Memory {
    let counter = |counter: cgroup::MemoryCounter| document::MemoryEntry {
        limit: counter.limit,
        usage: counter.usage,
        max: counter.max_usage,
        failcnt: counter.failcnt,
    };
    let named = |name: &str| memory.stats.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    document::Memory {
        // v1 and v2 call the page cache differently.
        cache: named("cache").or_else(|| named("file")).unwrap_or(0),
        usage: document::MemoryEntry {
            limit: memory.limit,
            usage: memory.usage,
            max: memory.max_usage.unwrap_or(0),
            failcnt: memory.failcnt.unwrap_or(0),
        },
        swap: memory.with_swap.map(counter).unwrap_or_default(),
        kernel: memory.kernel.map(counter).unwrap_or_default(),
        kernel_tcp: memory.kernel_tcp.map(counter).unwrap_or_default(),
        psi: memory.pressure.map(pressure),
        raw: memory.stats.into_iter().collect(),
    }
}

fn blkio(io: cgroup::BlkioStats) -> document::Blkio {
    let list = |entries: Vec<cgroup::BlkioEntry>| {
        let entry = |entry: cgroup::BlkioEntry| document::BlkioEntry {
            major: entry.major,
            minor: entry.minor,
            op: entry.op,
            value: entry.value,
        };
        entries.into_iter().map(entry).collect()
    };
    document::Blkio {
        io_service_bytes_recursive: list(io.service_bytes),
        io_serviced_recursive: list(io.serviced),
        io_queue_recursive: list(io.queued),
        io_service_time_recursive: list(io.service_time),
        io_wait_time_recursive: list(io.wait_time),
        io_merged_recursive: list(io.merged),
        io_time_recursive: list(io.time),
        sectors_recursive: list(io.sectors),
        psi: io.pressure.map(pressure),
    }
}

fn rdma_entry(entry: cgroup::RdmaEntry) -> document::RdmaEntry {
    document::RdmaEntry { device: entry.device, hca_handles: entry.hca_handles, hca_objects: entry.hca_objects }
}

fn pressure(pressure: cgroup::Pressure) -> document::Pressure {
    let line = |line: cgroup::PressureLine| document::PressureLine {
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
        total: line.total,
    };
    document::Pressure { some: line(pressure.some), full: line(pressure.full) }
}
