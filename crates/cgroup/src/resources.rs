//! The limits of a container, in the terms of the OCI runtime specification and of Docker, whatever the
//! host's version; and the conversions of v1's numbers to v2's.

use crate::DeviceRule;

/// Weight of one block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000, against the groups below; v1 with the CFQ scheduler only.
    pub leaf_weight: Option<u16>,
}

/// Rate of one block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes or operations a second; 0 lifts the limit.
    pub rate: u64,
}

/// Limit of huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugepageLimit {
    /// `64KB`, `2MB`, `1GB`: as in the names of the control files.
    pub page_size: String,
    /// Bytes, reserved or in use.
    pub limit: u64,
}

/// Priority of what the group sends through one network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetPriority {
    /// Name of the interface.
    pub interface: String,
    /// Priority.
    pub priority: u32,
}

/// Limits of one RDMA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdmaLimit {
    /// Name of the device, `mlx5_1`.
    pub device: String,
    /// Most handles.
    pub hca_handles: Option<u32>,
    /// Most objects.
    pub hca_objects: Option<u32>,
}

/// Limits to set. `None` and empty lists leave what is there, and so does 0 where 0 is no limit that could be meant:
/// memory, shares, quota, periods and weights (runc has it so, and its callers rely on it).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes; -1 lifts the limit.
    pub memory: Option<i64>,
    /// Soft limit in bytes; -1 lifts it. On v2 it becomes `memory.low`.
    pub memory_reservation: Option<i64>,
    /// Memory and swap together in bytes; -1 lifts the limit. On v2 the memory limit is subtracted.
    pub memory_swap: Option<i64>,
    /// Kernel memory in bytes; v1 of kernels before 5.16 only.
    pub kernel_memory: Option<i64>,
    /// Kernel memory for TCP buffers in bytes; v1 only.
    pub kernel_memory_tcp: Option<i64>,
    /// 0 to 100; v1 only.
    pub memory_swappiness: Option<u64>,
    /// Groups below share this group's limits; v1 of kernels before 5.11 only, the others always do.
    pub memory_use_hierarchy: Option<bool>,
    /// Refuse limits of memory, or of memory and swap, that are not above what is in use. v1 kernels refuse them
    /// by themselves when they cannot reclaim enough; v2 kernels kill.
    pub memory_check_before_update: bool,
    /// Keep the kernel from killing for memory; v1 only.
    pub oom_kill_disable: Option<bool>,
    /// 2 to 262144, 1024 being ordinary. On v2 it becomes `cpu.weight`, see [`weight_of_shares`].
    pub cpu_shares: Option<u64>,
    /// Microseconds of a period; -1 lifts the limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds, 1000 to 1000000; 100000 when a quota comes without one.
    pub cpu_period: Option<u64>,
    /// Microseconds that may be saved up in idle periods and used above the quota; 0 to the quota.
    pub cpu_burst: Option<u64>,
    /// 1 runs the group only where nothing else wants to (SCHED_IDLE), 0 is ordinary.
    pub cpu_idle: Option<i64>,
    /// Billionths of a CPU; instead of quota and period.
    pub nano_cpus: Option<i64>,
    /// Microseconds of real-time running a period; v1 only.
    pub cpu_rt_runtime: Option<i64>,
    /// Microseconds; v1 only.
    pub cpu_rt_period: Option<u64>,
    /// CPU list, for example `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory node list.
    pub cpuset_mems: Option<String>,
    /// Most processes and threads; a negative number lifts the limit. 0 becomes 1, as in runc since 1.4: systemd
    /// takes no 0, and a group with one process may have no second either way.
    pub pids_limit: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// 10 to 1000, against the groups below; v1 with the CFQ scheduler only.
    pub blkio_leaf_weight: Option<u16>,
    /// Per device.
    pub blkio_weight_device: Vec<WeightDevice>,
    /// Bytes a second read.
    pub blkio_read_bps: Vec<ThrottleDevice>,
    /// Bytes a second written.
    pub blkio_write_bps: Vec<ThrottleDevice>,
    /// Reads a second.
    pub blkio_read_iops: Vec<ThrottleDevice>,
    /// Writes a second.
    pub blkio_write_iops: Vec<ThrottleDevice>,
    /// Per page size.
    pub hugepages: Vec<HugepageLimit>,
    /// Class of what the group sends, for tc(8) and nft(8); v1 only.
    pub net_class_id: Option<u32>,
    /// Priority of what the group sends, by interface of the network namespace of who sets it; v1 only.
    pub net_priorities: Vec<NetPriority>,
    /// Per RDMA device.
    pub rdma: Vec<RdmaLimit>,
    /// Files of the v2 group and what to write, in this order, after everything else. Lines are written one by
    /// one.
    pub unified: Vec<(String, String)>,
    /// Devices the group may use: everything is denied first, then the rules apply in order, the last
    /// that matches deciding.
    pub devices: Option<Vec<DeviceRule>>,
}

/// Length of a period when the caller gives none, in microseconds.
pub(crate) const DEFAULT_PERIOD: u64 = 100_000;

impl Resources {
    /// Quota and period of [`Resources::nano_cpus`], or those given.
    pub(crate) fn quota_and_period(&self) -> (Option<i64>, Option<u64>) {
        match self.nano_cpus {
            Some(nano) if nano > 0 => {
                let quota = i128::from(nano) * i128::from(DEFAULT_PERIOD) / 1_000_000_000;
                (Some(i64::try_from(quota).unwrap_or(i64::MAX)), Some(DEFAULT_PERIOD))
            }
            Some(_) => (Some(-1), Some(DEFAULT_PERIOD)),
            None => (self.cpu_quota.filter(|q| *q != 0), self.cpu_period.filter(|p| *p != 0)),
        }
    }

    /// `pids.max` for [`Resources::pids_limit`].
    pub(crate) fn pids_max(&self) -> Option<String> {
        Some(match self.pids_limit? {
            n if n < 0 => "max".to_owned(),
            n => n.max(1).to_string(),
        })
    }
}

/// `cpu.weight` (1 to 10000) for `cpu.shares` (2 to 262144): ten to the power of a quadratic function of the
/// logarithm that takes the least, the ordinary (1024 to 100) and the greatest share to their counterparts. runc
/// since 1.3.2 and crun since 1.23 have it; before, 1024 shares became weight 39.
pub fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            // The value lies between 1 and 10000.
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// `io.weight` (1 to 10000) for `blkio.weight` (10 to 1000), linear between the ends.
pub fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_at_their_ends() {
        // The ends, the ordinary share, and values computed apart with an arithmetic of another make.
        for (shares, weight) in [
            (0, 1),
            (1, 1),
            (2, 1),
            (3, 2),
            (100, 17),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (262_143, 10_000),
            (262_144, 10_000),
        ] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        assert_eq!(weight_of_shares(u64::MAX), 10_000);
        assert_eq!((io_weight(10), io_weight(1000), io_weight(500)), (1, 10_000, 4950));
    }

    #[test]
    fn nano_cpus_stand_for_quota_and_period() {
        let r = Resources { nano_cpus: Some(1_500_000_000), cpu_quota: Some(7), ..Resources::default() };
        assert_eq!(r.quota_and_period(), (Some(150_000), Some(100_000)));
        let r = Resources { nano_cpus: Some(i64::MAX), ..Resources::default() };
        assert_eq!(r.quota_and_period().0, Some(922_337_203_685_477));
        let r = Resources { cpu_quota: Some(5000), ..Resources::default() };
        assert_eq!(r.quota_and_period(), (Some(5000), None));
        let r = Resources { cpu_quota: Some(0), cpu_period: Some(0), ..Resources::default() };
        assert_eq!(r.quota_and_period(), (None, None), "0 leaves what is there");
    }

    #[test]
    fn process_limits() {
        let max = |n| Resources { pids_limit: Some(n), ..Resources::default() }.pids_max().unwrap();
        assert_eq!((max(-1), max(0), max(7)), ("max".into(), "1".into(), "7".into()));
    }
}
