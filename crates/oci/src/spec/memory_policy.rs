//! Where the memory of a container's process comes from on a host of several nodes (runtime-spec 1.3, config-linux.md
//! "Memory policy"). Numbers are those of linux/mempolicy.h, for set_mempolicy(2).

use serde::Deserialize;

use super::CpuList;
use crate::parse::nil;
use crate::words::words;

words! {
    /// A mode of set_mempolicy(2).
    MemoryPolicyMode: /// `MPOL_*` number.
    number -> i32 {
        Default = "MPOL_DEFAULT" => 0,
        Preferred = "MPOL_PREFERRED" => 1,
        Bind = "MPOL_BIND" => 2,
        Interleave = "MPOL_INTERLEAVE" => 3,
        Local = "MPOL_LOCAL" => 4,
        PreferredMany = "MPOL_PREFERRED_MANY" => 5,
        WeightedInterleave = "MPOL_WEIGHTED_INTERLEAVE" => 6,
    }
}

words! {
    /// A flag of set_mempolicy(2).
    MemoryPolicyFlag: /// `MPOL_F_*` bit.
    bits -> i32 {
        NumaBalancing = "MPOL_F_NUMA_BALANCING" => 1 << 13,
        RelativeNodes = "MPOL_F_RELATIVE_NODES" => 1 << 14,
        StaticNodes = "MPOL_F_STATIC_NODES" => 1 << 15,
    }
}

/// A memory policy.
#[derive(Debug, Clone, Deserialize)]
pub struct MemoryPolicy {
    /// The mode.
    pub mode: MemoryPolicyMode,
    /// Nodes it is about.
    #[serde(default, deserialize_with = "nil")]
    pub nodes: CpuList,
    /// Flags.
    #[serde(default, deserialize_with = "nil")]
    pub flags: Vec<MemoryPolicyFlag>,
}

impl MemoryPolicy {
    /// Mode and flags together, the first argument of set_mempolicy(2).
    #[must_use]
    pub fn number(&self) -> i32 {
        self.flags.iter().fold(self.mode.number(), |number, flag| number | flag.bits())
    }

    /// The node mask, bit n % 64 of word n / 64.
    #[must_use]
    pub fn node_words(&self) -> Vec<u64> {
        self.nodes.words()
    }
}
