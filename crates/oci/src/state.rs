//! The state of a container (runtime-spec, runtime.md "State") and its line in a list. Written by `oci-runtime` for
//! hooks and callers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made.
    Creating,
    /// Made, its program not started.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen; a status of runc's beside the specification's.
    Paused,
    /// Its process has ended.
    Stopped,
}

impl Status {
    /// The word in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification the state follows.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// Where it is in its life.
    pub status: Status,
    /// Its process as the caller sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Absolute path of its bundle.
    pub bundle: String,
    /// Annotations of its configuration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub annotations: BTreeMap<String, String>,
}

/// The state with what `list` and `state` of runc show beside.
#[derive(Debug, Clone, Serialize)]
pub struct Listing {
    /// The state.
    #[serde(flatten)]
    pub state: State,
    /// Absolute path of the root file system.
    pub rootfs: String,
    /// When it was made (RFC 3339).
    pub created: String,
    /// Name of the user who made it.
    pub owner: String,
}
