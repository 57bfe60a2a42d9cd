//! What only Linux has (runtime-spec, config-linux.md), but for namespaces and limits, which have files of their own.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{IdMapping, MemoryPolicy, Namespace, Resources};
use crate::parse::nil;
use crate::words::words;

/// The section `linux`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// User ids of a new user namespace.
    #[serde(deserialize_with = "nil")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of a new user namespace.
    #[serde(deserialize_with = "nil")]
    pub gid_mappings: Vec<IdMapping>,
    /// Kernel parameters of the container's namespaces.
    #[serde(deserialize_with = "nil")]
    pub sysctl: BTreeMap<String, String>,
    /// Limits of the control group.
    pub resources: Option<Resources>,
    /// Where the control group is to be; empty where the runtime chooses.
    #[serde(deserialize_with = "nil")]
    pub cgroups_path: String,
    /// Namespaces made or joined.
    #[serde(deserialize_with = "nil")]
    pub namespaces: Vec<Namespace>,
    /// Device nodes beside the default ones.
    #[serde(deserialize_with = "nil")]
    pub devices: Vec<Device>,
    /// Network devices moved in, by their name outside.
    #[serde(deserialize_with = "nil")]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// Filter of system calls.
    pub seccomp: Option<seccomp::Profile>,
    /// Propagation of the root's mount; empty where the runtime chooses.
    #[serde(deserialize_with = "nil")]
    pub rootfs_propagation: String,
    /// Paths hidden in the container.
    #[serde(deserialize_with = "nil")]
    pub masked_paths: Vec<String>,
    /// Paths made read-only in the container.
    #[serde(deserialize_with = "nil")]
    pub readonly_paths: Vec<String>,
    /// SELinux label of mounts; empty for none.
    #[serde(deserialize_with = "nil")]
    pub mount_label: String,
    /// Cache and memory bandwidth of Intel RDT.
    pub intel_rdt: Option<IntelRdt>,
    /// Where memory comes from.
    pub memory_policy: Option<MemoryPolicy>,
    /// Execution domain.
    pub personality: Option<Personality>,
    /// Offsets of a new time namespace, by clock.
    #[serde(deserialize_with = "nil")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
}

/// Offset of a clock (time_namespaces(7)).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TimeOffset {
    /// Seconds.
    #[serde(deserialize_with = "nil")]
    pub secs: i64,
    /// Nanoseconds beside them.
    #[serde(deserialize_with = "nil")]
    pub nanosecs: u32,
}

/// A device node (mknod(2)).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    /// `c` or `u` for character, `b` for block, `p` for a pipe.
    #[serde(rename = "type", deserialize_with = "nil")]
    pub kind: String,
    /// Absolute path in the container.
    #[serde(deserialize_with = "nil")]
    pub path: String,
    /// Major number; none for a pipe.
    #[serde(deserialize_with = "nil")]
    pub major: i64,
    /// Minor number; none for a pipe.
    #[serde(deserialize_with = "nil")]
    pub minor: i64,
    /// Permission bits; none leaves the choice to the runtime.
    pub file_mode: Option<u32>,
    /// Owner in the container.
    pub uid: Option<u32>,
    /// Group in the container.
    pub gid: Option<u32>,
}

/// A network device moved into the container's network namespace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NetDevice {
    /// Its name there; empty keeps the one it has.
    #[serde(deserialize_with = "nil")]
    pub name: String,
}

/// Intel Resource Director Technology (resctrl of the kernel's documentation).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IntelRdt {
    /// Name of the class of service; empty for one named after the container.
    #[serde(rename = "closID", deserialize_with = "nil")]
    pub clos_id: String,
    /// Line of the L3 cache for `schemata`.
    #[serde(deserialize_with = "nil")]
    pub l3_cache_schema: String,
    /// Line of the memory bandwidth for `schemata`.
    #[serde(deserialize_with = "nil")]
    pub mem_bw_schema: String,
    /// Further lines.
    #[serde(deserialize_with = "nil")]
    pub schemata: Vec<String>,
    /// Cache monitoring, up to version 1.2.
    #[serde(rename = "enableCMT", deserialize_with = "nil")]
    pub enable_cmt: bool,
    /// Memory bandwidth monitoring, up to version 1.2.
    #[serde(rename = "enableMBM", deserialize_with = "nil")]
    pub enable_mbm: bool,
    /// A monitoring group of its own.
    #[serde(deserialize_with = "nil")]
    pub enable_monitoring: bool,
}

words! {
    /// An execution domain.
    PersonalityDomain: /// `PER_*` number (personality(2)).
    number -> u32 {
        Linux = "LINUX" => 0,
        Linux32 = "LINUX32" => 8,
    }
}

/// Execution domain of the container.
#[derive(Debug, Clone, Deserialize)]
pub struct Personality {
    /// The domain.
    pub domain: PersonalityDomain,
    /// Flags, of which the specification has none yet.
    #[serde(default, deserialize_with = "nil")]
    pub flags: Vec<String>,
}
