//! What this host can limit, for `docker info` and for the warnings a client gets when a setting has to
//! be dropped. The sentences are Docker's: clients match on them.

use crate::file;
use crate::hierarchy::{Hierarchy, Mode};
use crate::resources::Resources;

/// Controls the host has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Support {
    /// Memory limit.
    pub memory: bool,
    /// Memory soft limit.
    pub memory_reservation: bool,
    /// Limit of memory and swap together.
    pub swap: bool,
    /// Per-group swappiness.
    pub swappiness: bool,
    /// Switching the out-of-memory killer off.
    pub oom_kill_disable: bool,
    /// CPU shares or weight.
    pub cpu_shares: bool,
    /// CPU quota and period.
    pub cpu_cfs: bool,
    /// Real-time quota and period.
    pub cpu_realtime: bool,
    /// CPU and memory node sets.
    pub cpuset: bool,
    /// Process limit.
    pub pids: bool,
    /// Block device weight.
    pub blkio_weight: bool,
    /// Weight per block device.
    pub blkio_weight_device: bool,
    /// Rates per block device, all four.
    pub blkio_throttle: bool,
    /// Device access rules.
    pub devices: bool,
    /// Pausing.
    pub freezer: bool,
}

impl Hierarchy {
    /// What this host can limit.
    pub fn support(&self) -> Support {
        if self.mode() == Mode::V2 { self.support_v2() } else { self.support_v1() }
    }

    fn support_v1(&self) -> Support {
        let has = |controller: &str, name: &str| self.v1_point(controller).is_some_and(|p| file::has(p, name));
        // Weight files exist below the root only, if at all; any group of the hierarchy shows it.
        let below = |controller: &str, names: [&str; 2]| {
            self.v1_point(controller).is_some_and(|point| {
                std::fs::read_dir(point).is_ok_and(|entries| {
                    entries
                        .flatten()
                        .find(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                        .is_some_and(|e| names.iter().any(|n| file::has(&e.path(), n)))
                }) || names.iter().any(|n| file::has(point, n))
            })
        };
        Support {
            memory: has("memory", "memory.limit_in_bytes"),
            memory_reservation: has("memory", "memory.soft_limit_in_bytes"),
            swap: has("memory", "memory.memsw.limit_in_bytes"),
            swappiness: has("memory", "memory.swappiness"),
            oom_kill_disable: has("memory", "memory.oom_control"),
            cpu_shares: has("cpu", "cpu.shares"),
            cpu_cfs: has("cpu", "cpu.cfs_quota_us"),
            cpu_realtime: has("cpu", "cpu.rt_runtime_us"),
            cpuset: self.v1_point("cpuset").is_some(),
            pids: self.v1_point("pids").is_some(),
            blkio_weight: below("blkio", ["blkio.weight", "blkio.bfq.weight"]),
            blkio_weight_device: below("blkio", ["blkio.weight_device", "blkio.bfq.weight_device"]),
            blkio_throttle: has("blkio", "blkio.throttle.read_bps_device"),
            devices: self.v1_point("devices").is_some(),
            freezer: self.v1_point("freezer").is_some() || self.v2.is_some(),
        }
    }

    fn support_v2(&self) -> Support {
        let controllers = self.v2_controllers();
        let has = |name: &str| controllers.iter().any(|c| c == name);
        // The root group has no limit files; the daemon's own group shows whether swap is accounted.
        let swap = match (&self.v2, self.own_v2.as_deref()) {
            (Some(root), Some(own)) if !own.is_empty() => file::has(&root.join(own), "memory.swap.max"),
            _ => true,
        };
        Support {
            memory: has("memory"),
            memory_reservation: has("memory"),
            swap: has("memory") && swap,
            swappiness: false,
            oom_kill_disable: false,
            cpu_shares: has("cpu"),
            cpu_cfs: has("cpu"),
            cpu_realtime: false,
            cpuset: has("cpuset"),
            pids: has("pids"),
            blkio_weight: has("io"),
            blkio_weight_device: has("io"),
            blkio_throttle: has("io"),
            devices: true,
            freezer: true,
        }
    }
}

impl Resources {
    /// Takes out what the host cannot limit and says so, one sentence a setting, in Docker's words.
    pub fn discard_unsupported(&mut self, support: &Support) -> Vec<&'static str> {
        fn clear<T>(field: &mut Option<T>) -> bool {
            field.take().is_some()
        }
        fn empty<T>(list: &mut Vec<T>) -> bool {
            let had = !list.is_empty();
            list.clear();
            had
        }
        let mut said = Vec::new();
        let mut say = |dropped: bool, sentence: &'static str| {
            if dropped {
                said.push(sentence);
            }
        };
        if !support.memory {
            say(
                clear(&mut self.memory) | clear(&mut self.memory_swap),
                "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
            );
        }
        if !support.swap {
            let asked = self.memory_swap.take().is_some_and(|limit| limit > 0);
            say(
                asked && self.memory.is_some(),
                "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
            );
        }
        if !support.swappiness {
            say(
                clear(&mut self.memory_swappiness),
                "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
            );
        }
        if !support.memory_reservation {
            say(
                clear(&mut self.memory_reservation),
                "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
            );
        }
        if !support.oom_kill_disable {
            say(
                self.oom_kill_disable.take() == Some(true),
                "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
            );
        }
        if !support.pids {
            let asked = self.pids_limit.take().is_some_and(|limit| limit > 0);
            say(
                asked,
                "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
            );
        }
        if !support.cpu_shares {
            say(
                clear(&mut self.cpu_shares),
                "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
            );
        }
        if !support.cpu_cfs {
            say(
                clear(&mut self.cpu_period) | clear(&mut self.cpu_quota) | clear(&mut self.nano_cpus),
                "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
            );
        }
        if !support.cpuset {
            say(
                clear(&mut self.cpuset_cpus) | clear(&mut self.cpuset_mems),
                "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.",
            );
        }
        if !support.blkio_weight {
            say(
                clear(&mut self.blkio_weight),
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
            );
        }
        if !support.blkio_weight_device {
            say(
                empty(&mut self.blkio_weight_device),
                "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
            );
        }
        if !support.blkio_throttle {
            say(
                empty(&mut self.blkio_read_bps),
                "Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.",
            );
            say(
                empty(&mut self.blkio_write_bps),
                "Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.",
            );
            say(
                empty(&mut self.blkio_read_iops),
                "Your kernel does not support IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded.",
            );
            say(
                empty(&mut self.blkio_write_iops),
                "Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.",
            );
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_about_what_was_not_asked() {
        let mut none = Resources::default();
        assert!(none.discard_unsupported(&Support::default()).is_empty());
        let mut all = Resources {
            memory: Some(1 << 30),
            memory_swap: Some(-1),
            cpu_shares: Some(5),
            pids_limit: Some(-1),
            blkio_weight: Some(300),
            oom_kill_disable: Some(false),
            ..Resources::default()
        };
        let support = Support { memory: true, ..Support::default() };
        let said = all.discard_unsupported(&support);
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(all, Resources { memory: Some(1 << 30), ..Resources::default() });
    }
}
