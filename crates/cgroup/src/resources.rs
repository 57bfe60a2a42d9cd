//! The limits of a container, in Docker's terms and whatever the host's version.

use crate::DeviceRule;

/// Weight of one block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// 10 to 1000.
    pub weight: u16,
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

/// Limits to set. `None` and empty lists leave what is there; the API's "0 means unset" is turned into
/// `None` by the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes; -1 lifts the limit.
    pub memory: Option<i64>,
    /// Soft limit in bytes; -1 lifts it. On v2 it becomes `memory.low`.
    pub memory_reservation: Option<i64>,
    /// Memory and swap together in bytes; -1 lifts the limit. On v2 the memory limit is subtracted.
    pub memory_swap: Option<i64>,
    /// 0 to 100; v1 only.
    pub memory_swappiness: Option<u64>,
    /// Keep the kernel from killing for memory; v1 only.
    pub oom_kill_disable: Option<bool>,
    /// 2 to 262144, 1024 being ordinary. On v2 it becomes `cpu.weight`: 1 + (shares - 2) * 9999 / 262142.
    pub cpu_shares: Option<u64>,
    /// Microseconds of a period; -1 lifts the limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds, 1000 to 1000000; 100000 when a quota comes without one.
    pub cpu_period: Option<u64>,
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
    /// Most processes; 0 and -1 lift the limit.
    pub pids_limit: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: Option<u16>,
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
            None => (self.cpu_quota, self.cpu_period),
        }
    }
}

/// `cpu.weight` (1 to 10000) for `cpu.shares` (2 to 262144), linear between the ends.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// `io.weight` (1 to 10000) for `blkio.weight` (10 to 1000), linear between the ends.
pub(crate) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_at_their_ends() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(1024), 39);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert_eq!(weight_of_shares(0), 1);
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
    }
}
