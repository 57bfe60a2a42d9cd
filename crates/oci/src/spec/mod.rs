//! `config.json` (runtime-spec, config.md and config-linux.md) as the runtime uses it: names and numbers are typed, what
//! is absent differs from zero where that matters. Read with [`Spec::parse`], checked by `validate`.

mod capabilities;
mod hooks;
mod linux;
mod list;
mod memory_policy;
mod mount;
mod namespace;
mod process;
mod resources;
mod scheduling;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::parse::{self, nil};
use crate::{Fault, validate};

pub use capabilities::{CAPABILITIES, Capabilities};
pub use hooks::{Hook, Hooks};
pub use linux::{Device, IntelRdt, Linux, NetDevice, Personality, PersonalityDomain, TimeOffset};
pub use list::{CpuList, CpuListError};
pub use memory_policy::{MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode};
pub use mount::{IdMapping, Mount, Root};
pub use namespace::{Namespace, NamespaceKind};
pub use process::{ConsoleSize, Process, Rlimit, RlimitKind, User};
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, Memory, Network, Pids, Rdma, Resources, ThrottleDevice,
    WeightDevice,
};
pub use scheduling::{CpuAffinity, IoClass, IoPriority, Scheduler, SchedulerFlag, SchedulerPolicy};

/// The configuration of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Version of the specification it was written for (SemVer 2.0.0).
    #[serde(deserialize_with = "nil")]
    pub oci_version: String,
    /// What runs in it; none until there is something to start.
    pub process: Option<Process>,
    /// Its root file system.
    pub root: Option<Root>,
    /// Host name in its UTS namespace; empty leaves what is there.
    #[serde(deserialize_with = "nil")]
    pub hostname: String,
    /// NIS domain name, likewise.
    #[serde(deserialize_with = "nil")]
    pub domainname: String,
    /// Mounts beside the root, in order.
    #[serde(deserialize_with = "nil")]
    pub mounts: Vec<Mount>,
    /// Programs run at points of the container's life.
    #[serde(deserialize_with = "nil")]
    pub hooks: Hooks,
    /// Whatever its maker wants to remember; shown in the state.
    #[serde(deserialize_with = "nil")]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    pub linux: Option<Linux>,
}

impl Spec {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// The place of what cannot be represented; values are judged by [`Spec::validate`].
    pub fn parse(text: &[u8]) -> Result<Self, Fault> {
        let spec: Self = parse::document(parse::CONFIG, text)?;
        validate::limits(&spec)?;
        Ok(spec)
    }

    /// Checks everything that can be known to be wrong without looking at the host. Gives warnings: what is passed
    /// over, or is hardly meant.
    ///
    /// # Errors
    /// The first mistake.
    pub fn validate(&self) -> Result<Vec<String>, Fault> {
        validate::spec(self)
    }

    /// Programs run at points of the container's life.
    #[must_use]
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Filter of system calls.
    #[must_use]
    pub fn seccomp(&self) -> Option<&seccomp::Profile> {
        self.linux.as_ref()?.seccomp.as_ref()
    }

    /// Namespaces made or joined; of the others the container has the caller's.
    #[must_use]
    pub fn namespaces(&self) -> &[Namespace] {
        self.linux.as_ref().map(|linux| linux.namespaces.as_slice()).unwrap_or_default()
    }

    /// The entry of one kind.
    #[must_use]
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.namespaces().iter().find(|namespace| namespace.kind == kind)
    }

    /// Where the control group is to be; empty where the runtime chooses.
    #[must_use]
    pub fn cgroups_path(&self) -> &str {
        self.linux.as_ref().map(|linux| linux.cgroups_path.as_str()).unwrap_or_default()
    }

    /// Paths hidden in the container.
    #[must_use]
    pub fn masked_paths(&self) -> &[String] {
        self.linux.as_ref().map(|linux| linux.masked_paths.as_slice()).unwrap_or_default()
    }

    /// Paths made read-only in the container.
    #[must_use]
    pub fn readonly_paths(&self) -> &[String] {
        self.linux.as_ref().map(|linux| linux.readonly_paths.as_slice()).unwrap_or_default()
    }

    /// Propagation of the root's mount; empty where the runtime chooses.
    #[must_use]
    pub fn rootfs_propagation(&self) -> &str {
        self.linux.as_ref().map(|linux| linux.rootfs_propagation.as_str()).unwrap_or_default()
    }

    /// Execution domain as personality(2) takes it.
    #[must_use]
    pub fn personality(&self) -> Option<u32> {
        Some(self.linux.as_ref()?.personality.as_ref()?.domain.number())
    }
}
