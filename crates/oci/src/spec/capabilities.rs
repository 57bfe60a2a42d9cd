//! Capabilities by name and by bit (capabilities(7), linux/capability.h). Names the kernel's header has not are kept
//! apart: the specification has them passed over with a warning. Read as part of the process.

use serde::Deserialize;

use crate::parse::nil;

/// Names in the order of their bits.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Every capability known, in the order of the bits.
pub const CAPABILITIES: &[&str] = &NAMES;

/// The five sets, bit n = capability n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What the process can ever gain.
    pub bounding: u64,
    /// What the kernel looks at.
    pub effective: u64,
    /// What is kept for programs that have it inheritable.
    pub inheritable: u64,
    /// What the process may make effective.
    pub permitted: u64,
    /// What programs without capabilities of their own keep.
    pub ambient: u64,
}

/// The five sets as they are written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Names {
    #[serde(deserialize_with = "nil")]
    bounding: Vec<String>,
    #[serde(deserialize_with = "nil")]
    effective: Vec<String>,
    #[serde(deserialize_with = "nil")]
    inheritable: Vec<String>,
    #[serde(deserialize_with = "nil")]
    permitted: Vec<String>,
    #[serde(deserialize_with = "nil")]
    ambient: Vec<String>,
}

fn bit(name: &str) -> Option<u64> {
    NAMES.iter().position(|known| *known == name).map(|at| 1 << at)
}

fn bits(names: &[String]) -> u64 {
    names.iter().filter_map(|name| bit(name)).fold(0, |all, one| all | one)
}

impl Names {
    pub(crate) fn bits(&self) -> Capabilities {
        Capabilities {
            bounding: bits(&self.bounding),
            effective: bits(&self.effective),
            inheritable: bits(&self.inheritable),
            permitted: bits(&self.permitted),
            ambient: bits(&self.ambient),
        }
    }

    /// Adds to what programs can have and do have; not to what passes on to others.
    pub(crate) fn add(&mut self, names: &[String]) {
        for set in [&mut self.bounding, &mut self.effective, &mut self.permitted] {
            set.extend(names.iter().cloned());
        }
    }

    /// Set, position and name of those no kernel known here has.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = (&'static str, usize, &str)> {
        [
            ("bounding", &self.bounding),
            ("effective", &self.effective),
            ("inheritable", &self.inheritable),
            ("permitted", &self.permitted),
            ("ambient", &self.ambient),
        ]
        .into_iter()
        .flat_map(|(set, names)| names.iter().enumerate().map(move |(at, name)| (set, at, name.as_str())))
        .filter(|(_, _, name)| bit(name).is_none())
    }
}
