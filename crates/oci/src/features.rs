//! What a runtime can do, whatever the host (runtime-spec, features.md): the document that `features` prints. `None`
//! means "not said". Filled in by `oci-runtime`.

use std::collections::BTreeMap;

use serde::Serialize;

/// The document.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// Oldest version of the specification taken.
    pub oci_version_min: String,
    /// Newest version of the specification taken.
    pub oci_version_max: String,
    /// Names of hooks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<String>,
    /// Options of mounts that are not their file systems'.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mount_options: Vec<String>,
    /// What only Linux has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
    /// Whatever the runtime says beside.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Annotations by which a configuration can ask for more than it seems to; one that ends with a dot stands for
    /// all that begin with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub potentially_unsafe_config_annotations: Vec<String>,
}

/// What only Linux has.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    /// Kinds of namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Names of capabilities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Control groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup>,
    /// Filters of system calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// AppArmor profiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<Enabled>,
    /// SELinux labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux: Option<Enabled>,
    /// Intel RDT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// What mounts can do beyond mount(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_extensions: Option<MountExtensions>,
    /// Network devices moved into containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net_devices: Option<Enabled>,
    /// Memory policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
}

/// Whether something is supported.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Enabled {
    /// Whether it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl From<bool> for Enabled {
    fn from(enabled: bool) -> Self {
        Self { enabled: Some(enabled) }
    }
}

/// Control groups.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cgroup {
    /// Version 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v1: Option<bool>,
    /// Version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v2: Option<bool>,
    /// Groups made by systemd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd: Option<bool>,
    /// Groups made by a user's systemd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd_user: Option<bool>,
    /// The controller `rdma`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma: Option<bool>,
}

/// Filters of system calls.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// Whether there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// `SCMP_ACT_` names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// `SCMP_CMP_` names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<String>,
    /// `SCMP_ARCH_` names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub archs: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_` names that are understood.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known_flags: Vec<String>,
    /// Those of them the running kernel has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supported_flags: Vec<String>,
}

/// Intel RDT.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct IntelRdt {
    /// Whether it is supported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether `schemata` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schemata: Option<bool>,
    /// Whether `enableMonitoring` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<bool>,
}

/// What mounts can do beyond mount(2).
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct MountExtensions {
    /// Ids mapped by the mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idmap: Option<Enabled>,
}

/// Memory policies.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MemoryPolicy {
    /// `MPOL_` names of modes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modes: Vec<String>,
    /// `MPOL_F_` names of flags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}
