//! How a process is scheduled: CPU (sched_setattr(2)), block devices (ioprio_set(2)) and the CPUs it runs on
//! (sched_setaffinity(2)). Numbers are those of linux/sched.h and linux/ioprio.h.

use serde::Deserialize;

use super::CpuList;
use super::list::given;
use crate::parse::nil;
use crate::words::words;

words! {
    /// A scheduling policy.
    SchedulerPolicy: /// `SCHED_*` number.
    number -> u32 {
        Other = "SCHED_OTHER" => 0,
        Fifo = "SCHED_FIFO" => 1,
        RoundRobin = "SCHED_RR" => 2,
        Batch = "SCHED_BATCH" => 3,
        Iso = "SCHED_ISO" => 4,
        Idle = "SCHED_IDLE" => 5,
        Deadline = "SCHED_DEADLINE" => 6,
    }
}

words! {
    /// A flag of sched_setattr(2).
    SchedulerFlag: /// `SCHED_FLAG_*` bit.
    bits -> u64 {
        ResetOnFork = "SCHED_FLAG_RESET_ON_FORK" => 0x01,
        Reclaim = "SCHED_FLAG_RECLAIM" => 0x02,
        DeadlineOverrun = "SCHED_FLAG_DL_OVERRUN" => 0x04,
        KeepPolicy = "SCHED_FLAG_KEEP_POLICY" => 0x08,
        KeepParams = "SCHED_FLAG_KEEP_PARAMS" => 0x10,
        UtilClampMin = "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
        UtilClampMax = "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
    }
}

/// CPU scheduling.
#[derive(Debug, Clone, Deserialize)]
pub struct Scheduler {
    /// The policy.
    pub policy: SchedulerPolicy,
    /// -20 to 19.
    #[serde(default, deserialize_with = "nil")]
    pub nice: i32,
    /// Static priority, 1 to 99, of the real-time policies; 0 with others.
    #[serde(default, deserialize_with = "nil")]
    pub priority: i32,
    /// Flags.
    #[serde(default, deserialize_with = "nil")]
    pub flags: Vec<SchedulerFlag>,
    /// Nanoseconds of running a period, for [`SchedulerPolicy::Deadline`].
    #[serde(default, deserialize_with = "nil")]
    pub runtime: u64,
    /// Nanoseconds from the beginning of a period to when they must be over, likewise.
    #[serde(default, deserialize_with = "nil")]
    pub deadline: u64,
    /// Nanoseconds of a period, likewise.
    #[serde(default, deserialize_with = "nil")]
    pub period: u64,
}

impl Scheduler {
    /// The flag word.
    #[must_use]
    pub fn flag_bits(&self) -> u64 {
        self.flags.iter().fold(0, |bits, flag| bits | flag.bits())
    }
}

words! {
    /// A class of I/O scheduling.
    IoClass: /// `IOPRIO_CLASS_*` number.
    number -> u16 {
        RealTime = "IOPRIO_CLASS_RT" => 1,
        BestEffort = "IOPRIO_CLASS_BE" => 2,
        Idle = "IOPRIO_CLASS_IDLE" => 3,
    }
}

/// I/O scheduling.
#[derive(Debug, Clone, Deserialize)]
pub struct IoPriority {
    /// The class.
    pub class: IoClass,
    /// 0 to 7, 0 being first.
    #[serde(default, deserialize_with = "nil")]
    pub priority: i64,
}

impl IoPriority {
    /// As ioprio_set(2) takes it: the class in the upper three bits.
    #[must_use]
    pub fn value(&self) -> u16 {
        self.class.number() << 13 | u16::try_from(self.priority.clamp(0, 7)).unwrap_or(0)
    }
}

/// CPUs of a process that joins a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CpuAffinity {
    /// From when it joins the control group on.
    #[serde(deserialize_with = "given")]
    pub initial: Option<CpuList>,
    /// From the program on.
    #[serde(rename = "final", deserialize_with = "given")]
    pub final_: Option<CpuList>,
}
