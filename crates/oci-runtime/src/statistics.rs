//! What a container uses, as `events` prints it: the JSON of runc's `events`, which monitoring reads.

use cgroup::{BlkioEntry, Cgroup, MemoryCounter, Pressure, PressureLine, Stats};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// One line of statistics.
///
/// # Errors
/// When the group is gone.
pub(crate) fn line(id: &str, group: &Cgroup) -> Result<String> {
    let stats = group.full_stats()?;
    text(&json!({ "type": "stats", "id": id, "data": data(&stats) }))
}

/// The line that says that the kernel has killed for memory.
///
/// # Errors
/// Never in practice.
pub(crate) fn memory_kill(id: &str) -> Result<String> {
    text(&json!({ "type": "oom", "id": id }))
}

fn text(value: &Value) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Other(format!("cannot write JSON: {error}")))
}

fn data(stats: &Stats) -> Value {
    let mut data = Map::new();
    data.insert("cpu".to_owned(), cpu(stats));
    data.insert("cpuset".to_owned(), cpuset(stats));
    data.insert("memory".to_owned(), memory(stats));
    let mut pids = json!({ "current": stats.pids.current });
    if let Some(limit) = stats.pids.limit {
        pids["limit"] = limit.into();
    }
    data.insert("pids".to_owned(), pids);
    data.insert("blkio".to_owned(), blkio(stats));
    let hugetlb: Map<String, Value> = stats
        .hugepages
        .iter()
        .map(|page| {
            let counter = json!({ "usage": page.usage, "max": page.max_usage, "failcnt": page.failcnt });
            (page.page_size.clone(), counter)
        })
        .collect();
    data.insert("hugetlb".to_owned(), hugetlb.into());
    if !stats.rdma.current.is_empty() {
        let list = |entries: &[cgroup::RdmaEntry]| -> Vec<Value> {
            let entry = |e: &cgroup::RdmaEntry| json!({ "device": e.device, "hcaHandles": e.hca_handles, "hcaObjects": e.hca_objects });
            entries.iter().map(entry).collect()
        };
        let rdma = json!({ "limit": list(&stats.rdma.limit), "current": list(&stats.rdma.current) });
        data.insert("rdma".to_owned(), rdma);
    }
    if !stats.misc.is_empty() {
        let misc = stats.misc.iter().map(|m| (m.name.clone(), json!({ "usage": m.usage, "events": m.events })));
        data.insert("misc".to_owned(), misc.collect::<Map<_, _>>().into());
    }
    data.into()
}

fn cpu(stats: &Stats) -> Value {
    let cpu = &stats.cpu;
    let mut value = json!({
        "usage": {
            "total": cpu.total_ns,
            "percpu": cpu.percpu_ns,
            "percpu_kernel": cpu.percpu_system_ns,
            "percpu_user": cpu.percpu_user_ns,
            "kernel": cpu.system_ns,
            "user": cpu.user_ns,
        },
        "throttling": {
            "periods": cpu.periods,
            "throttledPeriods": cpu.throttled_periods,
            "throttledTime": cpu.throttled_ns,
        },
        "burst": { "periods": cpu.burst_periods, "time": cpu.burst_ns },
    });
    add_pressure(&mut value, cpu.pressure.as_ref());
    value
}

fn cpuset(stats: &Stats) -> Value {
    let set = &stats.cpuset;
    json!({
        "cpus": set.cpus,
        "cpu_exclusive": set.cpu_exclusive,
        "mems": set.mems,
        "mem_hardwall": set.mem_hardwall,
        "mem_exclusive": set.mem_exclusive,
        "memory_migrate": set.memory_migrate,
        "memory_spread_page": set.memory_spread_page,
        "memory_spread_slab": set.memory_spread_slab,
        "memory_pressure": set.memory_pressure,
        "sched_load_balance": set.sched_load_balance,
        "sched_relax_domain_level": set.sched_relax_domain_level,
    })
}

fn memory(stats: &Stats) -> Value {
    let Some(memory) = &stats.memory else { return json!({}) };
    let named = |name: &str| memory.stats.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    let raw: Map<String, Value> = memory.stats.iter().map(|(key, value)| (key.clone(), (*value).into())).collect();
    let usage = MemoryCounter {
        usage: memory.usage,
        max_usage: memory.max_usage.unwrap_or(0),
        failcnt: memory.failcnt.unwrap_or(0),
        limit: memory.limit,
    };
    let mut value = json!({
        // v1 and v2 call the page cache differently.
        "cache": named("cache").or_else(|| named("file")).unwrap_or(0),
        "usage": counter(&usage),
        "swap": memory.with_swap.as_ref().map_or_else(|| json!({}), counter),
        "kernel": memory.kernel.as_ref().map_or_else(|| json!({}), counter),
        "kernelTCP": memory.kernel_tcp.as_ref().map_or_else(|| json!({}), counter),
        "raw": raw,
    });
    add_pressure(&mut value, memory.pressure.as_ref());
    value
}

fn counter(counter: &MemoryCounter) -> Value {
    json!({
        "limit": counter.limit,
        "usage": counter.usage,
        "max": counter.max_usage,
        "failcnt": counter.failcnt,
    })
}

fn blkio(stats: &Stats) -> Value {
    let list = |entries: &[BlkioEntry]| -> Vec<Value> {
        let entry = |e: &BlkioEntry| json!({ "major": e.major, "minor": e.minor, "op": e.op, "value": e.value });
        entries.iter().map(entry).collect()
    };
    let io = &stats.blkio;
    let mut value = json!({
        "ioServiceBytesRecursive": list(&io.service_bytes),
        "ioServicedRecursive": list(&io.serviced),
        "ioQueueRecursive": list(&io.queued),
        "ioServiceTimeRecursive": list(&io.service_time),
        "ioWaitTimeRecursive": list(&io.wait_time),
        "ioMergedRecursive": list(&io.merged),
        "ioTimeRecursive": list(&io.time),
        "sectorsRecursive": list(&io.sectors),
    });
    add_pressure(&mut value, io.pressure.as_ref());
    value
}

fn add_pressure(value: &mut Value, pressure: Option<&Pressure>) {
    let line = |line: &PressureLine| json!({ "avg10": line.avg10, "avg60": line.avg60, "avg300": line.avg300, "total": line.total });
    if let Some(pressure) = pressure {
        value["psi"] = json!({ "some": line(&pressure.some), "full": line(&pressure.full) });
    }
}
