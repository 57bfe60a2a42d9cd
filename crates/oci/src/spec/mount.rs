//! The root and what is mounted on it (runtime-spec, config.md "Root" and "Mounts"). Turned into a launch plan by
//! `oci-runtime`.

use serde::Deserialize;

use crate::parse::nil;

/// The root file system.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Root {
    /// Its directory, absolute or relative to the bundle.
    #[serde(deserialize_with = "nil")]
    pub path: String,
    /// Whether the container may not write to it.
    #[serde(deserialize_with = "nil")]
    pub readonly: bool,
}

/// One mount.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Path in the container; a relative one is meant from its root.
    #[serde(deserialize_with = "nil")]
    pub destination: String,
    /// File system, or `bind`; empty for a bind mount that its options ask for.
    #[serde(rename = "type", deserialize_with = "nil")]
    pub kind: String,
    /// Device, or path of what is bound, absolute or relative to the bundle.
    #[serde(deserialize_with = "nil")]
    pub source: String,
    /// Options as in fstab(5).
    #[serde(deserialize_with = "nil")]
    pub options: Vec<String>,
    /// How user ids on it are mapped.
    #[serde(deserialize_with = "nil")]
    pub uid_mappings: Vec<IdMapping>,
    /// How group ids on it are mapped.
    #[serde(deserialize_with = "nil")]
    pub gid_mappings: Vec<IdMapping>,
}

impl Mount {
    /// Whether it shows something that is there already.
    #[must_use]
    pub fn is_bind(&self) -> bool {
        self.kind == "bind" || self.options.iter().any(|word| word == "bind" || word == "rbind")
    }
}

/// A range of ids (user_namespaces(7)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IdMapping {
    /// First id in the container.
    #[serde(rename = "containerID", deserialize_with = "nil")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID", deserialize_with = "nil")]
    pub host_id: u32,
    /// How many.
    #[serde(deserialize_with = "nil")]
    pub size: u32,
}
