//! What a container uses, one line of JSON a time: the document of runc's `events`, which monitoring reads. Fields are
//! left out where runc leaves them out. Filled in and printed by `oci-runtime`.

use std::collections::BTreeMap;

use serde::Serialize;

/// One line.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// What it tells.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The container's name.
    pub id: String,
    /// What is used, with [`EventKind::Stats`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<Stats>>,
}

/// What a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// What is used.
    Stats,
    /// That the kernel killed for memory.
    Oom,
}

/// What is used.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: Cpu,
    /// CPUs and memory nodes.
    pub cpuset: CpuSet,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages by size.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// RDMA devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma: Option<Rdma>,
    /// Intel RDT.
    pub intel_rdt: IntelRdt,
    /// Network interfaces of containers whose runtime made them: none.
    pub network_interfaces: Vec<NetworkInterface>,
}

fn zero(value: &u64) -> bool {
    *value == 0
}

/// CPU time.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Cpu {
    /// Time used.
    pub usage: CpuUsage,
    /// Time held back.
    pub throttling: Throttling,
    /// Waiting for a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Time used, in nanoseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CpuUsage {
    /// On all CPUs.
    #[serde(skip_serializing_if = "zero")]
    pub total: u64,
    /// By CPU.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// By CPU in the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// By CPU in user mode.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user mode.
    pub user: u64,
}

/// Time held back.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods with something to run.
    #[serde(skip_serializing_if = "zero")]
    pub periods: u64,
    /// Periods in which the quota ran out.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_periods: u64,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_time: u64,
}

/// CPUs and memory nodes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CpuSet {
    /// CPUs that may be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// `cpuset.cpu_exclusive`, v1 only as all that have a file's name here.
    pub cpu_exclusive: u64,
    /// Memory nodes that may be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// `cpuset.mem_hardwall`
    pub mem_hardwall: u64,
    /// `cpuset.mem_exclusive`
    pub mem_exclusive: u64,
    /// `cpuset.memory_migrate`
    pub memory_migrate: u64,
    /// `cpuset.memory_spread_page`
    pub memory_spread_page: u64,
    /// `cpuset.memory_spread_slab`
    pub memory_spread_slab: u64,
    /// `cpuset.memory_pressure`
    pub memory_pressure: u64,
    /// `cpuset.sched_load_balance`
    pub sched_load_balance: u64,
    /// `cpuset.sched_relax_domain_level`
    pub sched_relax_domain_level: i64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Memory {
    /// Page cache.
    #[serde(skip_serializing_if = "zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap, or on v2 swap.
    pub swap: MemoryEntry,
    /// Kernel memory.
    pub kernel: MemoryEntry,
    /// Kernel memory of TCP buffers.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// All of `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Waiting for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One counter, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct MemoryEntry {
    /// Allowed.
    pub limit: u64,
    /// In use.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// Most ever in use.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Pids {
    /// How many there are.
    #[serde(skip_serializing_if = "zero")]
    pub current: u64,
    /// How many there may be; 0 without a limit.
    #[serde(skip_serializing_if = "zero")]
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Operations waiting.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_queue_recursive: Vec<BlkioEntry>,
    /// Nanoseconds of service.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    /// Nanoseconds of waiting.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    /// Operations joined.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    /// Milliseconds of the device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
    /// Waiting for devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One counter of one device.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BlkioEntry {
    /// Major number.
    #[serde(skip_serializing_if = "zero")]
    pub major: u64,
    /// Minor number.
    #[serde(skip_serializing_if = "zero")]
    pub minor: u64,
    /// `Read`, `Write`, `Total`...
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// How many.
    #[serde(skip_serializing_if = "zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Hugetlb {
    /// In use.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// Most ever in use.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// RDMA devices.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rdma {
    /// What is allowed.
    pub limit: Vec<RdmaEntry>,
    /// What is in use.
    pub current: Vec<RdmaEntry>,
}

/// Counters of one RDMA device.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RdmaEntry {
    /// Its name.
    pub device: String,
    /// Handles.
    pub hca_handles: u32,
    /// Objects.
    pub hca_objects: u32,
}

/// Waiting for something (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: PressureLine,
    /// All tasks waited.
    pub full: PressureLine,
}

/// Percent of the time, and all of it.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct PressureLine {
    /// Over ten seconds.
    pub avg10: f64,
    /// Over a minute.
    pub avg60: f64,
    /// Over five minutes.
    pub avg300: f64,
    /// Microseconds since the beginning.
    pub total: u64,
}

/// Intel RDT.
#[derive(Debug, Clone, Default, Serialize)]
pub struct IntelRdt {
    /// The host's L3 cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<L3CacheInfo>,
    /// The L3 cache of the root group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    /// The container's share of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// The host's memory bandwidth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<MemBwInfo>,
    /// The memory bandwidth of the root group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    /// The container's share of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// Bandwidth used, by memory node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<MbmStats>>,
    /// Cache used, by memory node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<CmtStats>>,
}

/// Files of `info/L3` of resctrl.
#[derive(Debug, Clone, Default, Serialize)]
pub struct L3CacheInfo {
    /// Mask of all that there is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cbm_mask: String,
    /// Fewest bits of a mask.
    #[serde(skip_serializing_if = "zero")]
    pub min_cbm_bits: u64,
    /// How many classes there can be.
    #[serde(skip_serializing_if = "zero")]
    pub num_closids: u64,
}

/// Files of `info/MB` of resctrl.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct MemBwInfo {
    /// Step, in percent.
    #[serde(skip_serializing_if = "zero")]
    pub bandwidth_gran: u64,
    /// Whether delays are linear.
    #[serde(skip_serializing_if = "zero")]
    pub delay_linear: u64,
    /// Least, in percent.
    #[serde(skip_serializing_if = "zero")]
    pub min_bandwidth: u64,
    /// How many classes there can be.
    #[serde(skip_serializing_if = "zero")]
    pub num_closids: u64,
}

/// Memory bandwidth used on one node, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct MbmStats {
    /// To all memory.
    pub mbm_total_bytes: u64,
    /// To the node's own.
    pub mbm_local_bytes: u64,
}

/// Cache used on one node, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct CmtStats {
    /// Bytes.
    pub llc_occupancy: u64,
}

/// Counters of one network interface.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkInterface {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors of receiving.
    pub rx_errors: u64,
    /// Packets received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors of sending.
    pub tx_errors: u64,
    /// Packets to send and dropped.
    pub tx_dropped: u64,
}
