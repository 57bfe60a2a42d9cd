//! What a group has used: the types, and the two ways to read them. [`Cgroup::stats`] reads the handful of
//! files that Docker's stats document needs, once a second and container; [`Cgroup::full_stats`] reads every
//! controller, for what `runc events --stats` prints. Nothing is cached.

mod docker;
mod parse;
mod v1;
mod v2;

use crate::{Cgroup, Error};

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuStats {
    /// Nanoseconds on all CPUs.
    pub total_ns: u64,
    /// Of these in user mode.
    pub user_ns: u64,
    /// Of these in the kernel.
    pub system_ns: u64,
    /// Nanoseconds by CPU; v1 only, else empty.
    pub percpu_ns: Vec<u64>,
    /// Of these in user mode; [`Cgroup::full_stats`] on v1 only.
    pub percpu_user_ns: Vec<u64>,
    /// Of these in the kernel; [`Cgroup::full_stats`] on v1 only.
    pub percpu_system_ns: Vec<u64>,
    /// Periods in which there was a quota and something to run.
    pub periods: u64,
    /// Of these, periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Nanoseconds held back.
    pub throttled_ns: u64,
    /// Periods in which more than the quota was used out of what had been saved up.
    pub burst_periods: u64,
    /// Nanoseconds used in this way.
    pub burst_ns: u64,
    /// Waiting for a CPU; [`Cgroup::full_stats`] on v2 only.
    pub pressure: Option<Pressure>,
}

/// CPUs and memory nodes; [`Cgroup::full_stats`] only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpusetStats {
    /// Numbers of the CPUs that may be used.
    pub cpus: Vec<u16>,
    /// Numbers of the memory nodes that may be used.
    pub mems: Vec<u16>,
    /// v1 only, as are all that follow: `cpuset.cpu_exclusive`.
    pub cpu_exclusive: u64,
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

/// One counter of memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryCounter {
    /// In use.
    pub usage: u64,
    /// Most ever in use; 0 where the kernel does not remember.
    pub max_usage: u64,
    /// How often the limit was hit; v1 only.
    pub failcnt: u64,
    /// Allowed; [`u64::MAX`] or v1's near-infinite number without a limit.
    pub limit: u64,
}

/// Pages on the memory nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumaPages {
    /// `total`, `file`, `anon`, `unevictable`, and each with `hierarchical_` before it.
    pub kind: String,
    /// On all nodes.
    pub total: u64,
    /// Node and pages on it.
    pub nodes: Vec<(u16, u64)>,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// All of `memory.stat`, by name.
    pub stats: Vec<(String, u64)>,
    /// Memory and swap together; like all that follows from [`Cgroup::full_stats`] only.
    pub with_swap: Option<MemoryCounter>,
    /// Swap alone; v2 only.
    pub swap_alone: Option<MemoryCounter>,
    /// Kernel memory; v1 only.
    pub kernel: Option<MemoryCounter>,
    /// Kernel memory for TCP buffers; v1 only.
    pub kernel_tcp: Option<MemoryCounter>,
    /// The groups below are counted too.
    pub use_hierarchy: bool,
    /// v1 only.
    pub numa: Vec<NumaPages>,
    /// Waiting for memory; v2 only.
    pub pressure: Option<Pressure>,
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
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`, or empty for counters of one kind; on v2 `read` and
    /// `write` from [`Cgroup::stats`], as Docker has them, `Read` and `Write` from [`Cgroup::full_stats`], as runc.
    pub op: String,
    /// Bytes, operations, nanoseconds, milliseconds or sectors.
    pub value: u64,
}

/// Block devices, the groups below included.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BlkioStats {
    /// Bytes.
    pub service_bytes: Vec<BlkioEntry>,
    /// Operations.
    pub serviced: Vec<BlkioEntry>,
    /// Operations waiting; like all that follow from [`Cgroup::full_stats`], on v1 where the scheduler counts them.
    pub queued: Vec<BlkioEntry>,
    /// Nanoseconds from dispatch to completion.
    pub service_time: Vec<BlkioEntry>,
    /// Nanoseconds waiting for dispatch.
    pub wait_time: Vec<BlkioEntry>,
    /// Operations merged into others.
    pub merged: Vec<BlkioEntry>,
    /// Milliseconds of the device.
    pub time: Vec<BlkioEntry>,
    /// Sectors.
    pub sectors: Vec<BlkioEntry>,
    /// Waiting for a device; v2 only.
    pub pressure: Option<Pressure>,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HugepageStats {
    /// `2MB`
    pub page_size: String,
    /// Bytes reserved, or in use on kernels that do not count reservations.
    pub usage: u64,
    /// Most bytes ever; v1 only.
    pub max_usage: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// One RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    /// Name of the device.
    pub device: String,
    /// Handles; [`u32::MAX`] for no limit.
    pub hca_handles: u32,
    /// Objects; [`u32::MAX`] for no limit.
    pub hca_objects: u32,
}

/// RDMA devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaStats {
    /// Allowed.
    pub limit: Vec<RdmaEntry>,
    /// In use.
    pub current: Vec<RdmaEntry>,
}

/// One resource of the misc controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MiscStats {
    /// Its name.
    pub name: String,
    /// In use.
    pub usage: u64,
    /// How often the limit was hit.
    pub events: u64,
}

/// Share of time that tasks waited for a resource (Documentation/accounting/psi.rst), in percent over the last 10,
/// 60 and 300 seconds, and in microseconds altogether.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PressureLine {
    /// Over 10 seconds.
    pub avg10: f64,
    /// Over 60 seconds.
    pub avg60: f64,
    /// Over 300 seconds.
    pub avg300: f64,
    /// Microseconds since the group was made.
    pub total: u64,
}

/// Waiting for one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: PressureLine,
    /// All tasks that were not idle waited.
    pub full: PressureLine,
}

/// Everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// CPUs and nodes; like those without a word below from [`Cgroup::full_stats`] only.
    pub cpuset: CpusetStats,
    /// Memory, where it is controlled; from both.
    pub memory: Option<MemoryStats>,
    /// Processes; from both.
    pub pids: PidsStats,
    /// Block devices; from both.
    pub blkio: BlkioStats,
    /// Huge pages, by size.
    pub hugepages: Vec<HugepageStats>,
    /// RDMA devices.
    pub rdma: RdmaStats,
    /// Resources of the misc controller; v2 only.
    pub misc: Vec<MiscStats>,
}

impl Cgroup {
    /// What the group has used until now: what Docker's stats document needs.
    ///
    /// # Errors
    /// [`Error::Io`], with ENOENT when the group is gone; [`Error::Malformed`].
    pub fn stats(&self) -> Result<Stats, Error> {
        match self.unified_dir() {
            Some(dir) => v2::read(dir),
            None => v1::read(self),
        }
    }

    /// What the group has used until now, of every controller that the group is in.
    ///
    /// # Errors
    /// As [`Cgroup::stats`].
    pub fn full_stats(&self) -> Result<Stats, Error> {
        let mut stats = self.stats()?;
        match self.unified_dir() {
            Some(dir) => v2::complete(dir, &mut stats)?,
            None => v1::complete(self, &mut stats)?,
        }
        parse::hugepages(self, &mut stats)?;
        parse::rdma(self, &mut stats)?;
        Ok(stats)
    }
}
