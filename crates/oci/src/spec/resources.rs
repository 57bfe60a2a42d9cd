//! Limits of the control group (runtime-spec, config-linux.md "Control groups"), also the document of
//! `update --resources`. `None` leaves what is there. Converted to the `cgroup` crate's by `oci-runtime`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::parse::{self, nil};
use crate::{Fault, validate};

/// Limits.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// Who may use which device, in order.
    #[serde(deserialize_with = "nil")]
    pub devices: Vec<DeviceRule>,
    /// Memory.
    #[serde(deserialize_with = "nil")]
    pub memory: Memory,
    /// CPU time and place.
    #[serde(deserialize_with = "nil")]
    pub cpu: Cpu,
    /// Processes and threads.
    #[serde(deserialize_with = "nil")]
    pub pids: Pids,
    /// Block devices.
    #[serde(rename = "blockIO", deserialize_with = "nil")]
    pub block_io: BlockIo,
    /// Huge pages.
    #[serde(deserialize_with = "nil")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// What is sent.
    #[serde(deserialize_with = "nil")]
    pub network: Network,
    /// RDMA, by device.
    #[serde(deserialize_with = "nil")]
    pub rdma: BTreeMap<String, Rdma>,
    /// Files of the v2 group and what to write.
    #[serde(deserialize_with = "nil")]
    pub unified: BTreeMap<String, String>,
}

impl Resources {
    /// Reads the document of `update --resources`.
    ///
    /// # Errors
    /// The place of what cannot be represented.
    pub fn parse(text: &[u8]) -> Result<Self, Fault> {
        parse::document(parse::RESOURCES, text)
    }

    /// Checks them, as [`crate::Spec::validate`] does.
    ///
    /// # Errors
    /// The first mistake.
    pub fn validate(&self) -> Result<Vec<String>, Fault> {
        validate::resources(self)
    }
}

/// One rule about devices.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct DeviceRule {
    /// Allowed, or denied.
    #[serde(deserialize_with = "nil")]
    pub allow: bool,
    /// `a` for all, `c`, or `b`; none is all.
    #[serde(rename = "type", deserialize_with = "parse::text")]
    pub kind: Option<String>,
    /// Major number; none is any.
    pub major: Option<i64>,
    /// Minor number; none is any.
    pub minor: Option<i64>,
    /// Letters of `rwm`.
    #[serde(deserialize_with = "parse::text")]
    pub access: Option<String>,
}

/// Limits of memory, in bytes; -1 lifts one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// Memory.
    pub limit: Option<i64>,
    /// Soft limit.
    pub reservation: Option<i64>,
    /// Memory and swap together.
    pub swap: Option<i64>,
    /// Kernel memory, old kernels only.
    pub kernel: Option<i64>,
    /// Kernel memory of TCP buffers, v1 only.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Option<i64>,
    /// 0 to 100, v1 only.
    pub swappiness: Option<u64>,
    /// Whether the kernel does not kill for memory, v1 only.
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
    /// Whether groups below share the limits, old kernels of v1 only.
    pub use_hierarchy: Option<bool>,
    /// Whether a limit below what is in use is refused.
    pub check_before_update: Option<bool>,
}

/// CPU time and place.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// Share against other groups, 2 to 262144.
    pub shares: Option<u64>,
    /// Microseconds a period; -1 lifts the limit.
    pub quota: Option<i64>,
    /// Microseconds that may be saved up beyond the quota.
    pub burst: Option<u64>,
    /// Microseconds.
    pub period: Option<u64>,
    /// Microseconds of real-time running a period, v1 only.
    pub realtime_runtime: Option<i64>,
    /// Microseconds, v1 only.
    pub realtime_period: Option<u64>,
    /// CPUs; empty leaves what is there.
    #[serde(deserialize_with = "nil")]
    pub cpus: String,
    /// Memory nodes; empty leaves what is there.
    #[serde(deserialize_with = "nil")]
    pub mems: String,
    /// 1 runs only where nothing else wants to.
    pub idle: Option<i64>,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Pids {
    /// How many; a negative number lifts the limit.
    pub limit: Option<i64>,
}

/// Block devices.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000, against the groups below.
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    #[serde(deserialize_with = "nil")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes a second read.
    #[serde(deserialize_with = "nil")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes a second written.
    #[serde(deserialize_with = "nil")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Reads a second.
    #[serde(rename = "throttleReadIOPSDevice", deserialize_with = "nil")]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Writes a second.
    #[serde(rename = "throttleWriteIOPSDevice", deserialize_with = "nil")]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// Weight of a device.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WeightDevice {
    /// Major number.
    #[serde(deserialize_with = "nil")]
    pub major: i64,
    /// Minor number.
    #[serde(deserialize_with = "nil")]
    pub minor: i64,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000, against the groups below.
    pub leaf_weight: Option<u16>,
}

/// Rate of a device.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ThrottleDevice {
    /// Major number.
    #[serde(deserialize_with = "nil")]
    pub major: i64,
    /// Minor number.
    #[serde(deserialize_with = "nil")]
    pub minor: i64,
    /// Bytes or operations a second; 0 lifts the limit.
    #[serde(deserialize_with = "nil")]
    pub rate: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HugepageLimit {
    /// `64KB`, `2MB`, `1GB`.
    #[serde(deserialize_with = "nil")]
    pub page_size: String,
    /// Bytes.
    #[serde(deserialize_with = "nil")]
    pub limit: u64,
}

/// What is sent, v1 only.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Class for tc(8).
    #[serde(rename = "classID")]
    pub class_id: Option<u32>,
    /// Priorities by interface.
    #[serde(deserialize_with = "nil")]
    pub priorities: Vec<InterfacePriority>,
}

/// Priority at one interface.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct InterfacePriority {
    /// Name of the interface.
    #[serde(deserialize_with = "nil")]
    pub name: String,
    /// Priority.
    #[serde(deserialize_with = "nil")]
    pub priority: u32,
}

/// Limits of one RDMA device; none is no limit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rdma {
    /// Handles.
    pub hca_handles: Option<u32>,
    /// Objects.
    pub hca_objects: Option<u32>,
}
