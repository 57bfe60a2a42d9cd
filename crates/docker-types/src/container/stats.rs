//! `GET /containers/{id}/stats`.

use crate::go::go_struct;
use crate::version::{ApiVersion, Versioned, drop_key};
use serde_json::Value;
use std::collections::BTreeMap;

go_struct! {
    /// One sample of a container's use of resources.
    pub struct ContainerStats {
        "name" / "crate::go::omit" name: String,
        "id" / "crate::go::omit" id: String,
        "os_type" / "crate::go::omit" os_type: String,
        "read" read: String,
        "preread" preread: String,
        "pids_stats" pids_stats: PidsStats,
        "blkio_stats" blkio_stats: BlkioStats,
        "num_procs" num_procs: u32,
        "storage_stats" storage_stats: StorageStats,
        "cpu_stats" cpu_stats: CpuStats,
        /// The sample before.
        "precpu_stats" precpu_stats: CpuStats,
        "memory_stats" memory_stats: MemoryStats,
        "networks" / "crate::go::omit" networks: BTreeMap<String, NetworkStats>,
    }
}

impl Versioned for ContainerStats {
    const SINCE_MINOR: u16 = 52;

    fn adapt(value: &mut Value, _version: ApiVersion) {
        drop_key(value, "os_type");
    }
}

go_struct! {
    /// Number of processes; 0 is no limit.
    pub struct PidsStats {
        "current" / "crate::go::omit" current: u64,
        "limit" / "crate::go::omit" limit: u64,
    }
}

go_struct! {
    /// Use of block devices.
    pub struct BlkioStats {
        "io_service_bytes_recursive" io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
        "io_serviced_recursive" io_serviced_recursive: Option<Vec<BlkioEntry>>,
        "io_queue_recursive" io_queue_recursive: Option<Vec<BlkioEntry>>,
        "io_service_time_recursive" io_service_time_recursive: Option<Vec<BlkioEntry>>,
        "io_wait_time_recursive" io_wait_time_recursive: Option<Vec<BlkioEntry>>,
        "io_merged_recursive" io_merged_recursive: Option<Vec<BlkioEntry>>,
        "io_time_recursive" io_time_recursive: Option<Vec<BlkioEntry>>,
        "sectors_recursive" sectors_recursive: Option<Vec<BlkioEntry>>,
    }
}

go_struct! {
    /// One figure of one device.
    pub struct BlkioEntry {
        "major" major: u64,
        "minor" minor: u64,
        "op" op: String,
        "value" value: u64,
    }
}

go_struct! {
    /// Use of CPUs.
    pub struct CpuStats {
        "cpu_usage" cpu_usage: CpuUsage,
        "system_cpu_usage" / "crate::go::omit" system_cpu_usage: u64,
        "online_cpus" / "crate::go::omit" online_cpus: u32,
        "throttling_data" throttling_data: ThrottlingData,
    }
}

go_struct! {
    /// CPU time in nanoseconds.
    pub struct CpuUsage {
        "total_usage" total_usage: u64,
        "percpu_usage" / "crate::go::omit" percpu_usage: Vec<u64>,
        "usage_in_kernelmode" usage_in_kernelmode: u64,
        "usage_in_usermode" usage_in_usermode: u64,
    }
}

go_struct! {
    /// Throttling by quota, time in nanoseconds.
    pub struct ThrottlingData {
        "periods" periods: u64,
        "throttled_periods" throttled_periods: u64,
        "throttled_time" throttled_time: u64,
    }
}

go_struct! {
    /// Use of memory in bytes.
    pub struct MemoryStats {
        "usage" / "crate::go::omit" usage: u64,
        "max_usage" / "crate::go::omit" max_usage: u64,
        "stats" / "crate::go::omit" stats: BTreeMap<String, u64>,
        "failcnt" / "crate::go::omit" failcnt: u64,
        "limit" / "crate::go::omit" limit: u64,
    }
}

go_struct! {
    /// Only set on other systems; always an empty object here.
    pub struct StorageStats {}
}

go_struct! {
    /// Traffic of one interface.
    pub struct NetworkStats {
        "rx_bytes" rx_bytes: u64,
        "rx_packets" rx_packets: u64,
        "rx_errors" rx_errors: u64,
        "rx_dropped" rx_dropped: u64,
        "tx_bytes" tx_bytes: u64,
        "tx_packets" tx_packets: u64,
        "tx_errors" tx_errors: u64,
        "tx_dropped" tx_dropped: u64,
        /// What may come in, in bits per second; 0 is no limit. Docker's API has no word for it.
        "rx_rate_limit" / "crate::go::omit" rx_rate_limit: u64,
        /// What may go out.
        "tx_rate_limit" / "crate::go::omit" tx_rate_limit: u64,
    }
}
