//! Lists and the small answers: `GET /containers/json`, wait, top, changes, prune, archive stat.

use crate::StringMap;
use crate::container::MountPoint;
use crate::go::go_struct;
use crate::network::{EndpointSettings, PortSummary};
use crate::oci::Descriptor;
use crate::version::{ApiVersion, Versioned, drop_key};
use base64::Engine;
use serde_json::Value;
use std::collections::BTreeMap;

go_struct! {
    /// A container in lists.
    pub struct ContainerSummary {
        "Id" id: String,
        /// With leading slashes.
        "Names" names: Vec<String>,
        "Image" image: String,
        "ImageID" image_id: String,
        "ImageManifestDescriptor" / "crate::go::omit" image_manifest_descriptor: Option<Descriptor>,
        "Command" command: String,
        /// Seconds since the epoch.
        "Created" created: i64,
        "Ports" ports: Vec<PortSummary>,
        "SizeRw" / "crate::go::omit" size_rw: i64,
        "SizeRootFs" / "crate::go::omit" size_root_fs: i64,
        "Labels" labels: StringMap,
        "State" state: String,
        "Status" status: String,
        "HostConfig" host_config: SummaryHostConfig,
        "Health" / "crate::go::omit" health: Option<HealthSummary>,
        "NetworkSettings" network_settings: SummaryNetworkSettings,
        "Mounts" mounts: Vec<MountPoint>,
    }
}

go_struct! {
    /// The little of the host's part that lists show.
    pub struct SummaryHostConfig {
        "NetworkMode" / "crate::go::omit" network_mode: String,
        "Annotations" / "crate::go::omit" annotations: StringMap,
    }
}

go_struct! {
    /// Health in lists.
    pub struct HealthSummary {
        /// `none`, `starting`, `healthy`, `unhealthy`.
        "Status" / "crate::go::omit" status: String,
        "FailingStreak" failing_streak: i64,
    }
}

go_struct! {
    /// Networks in lists.
    pub struct SummaryNetworkSettings {
        "Networks" networks: BTreeMap<String, EndpointSettings>,
    }
}

impl Versioned for ContainerSummary {
    const SINCE_MINOR: u16 = 52;

    fn adapt(value: &mut Value, version: ApiVersion) {
        drop_key(value, "Health");
        if !version.at_least(48) {
            drop_key(value, "ImageManifestDescriptor");
        }
    }
}

go_struct! {
    /// Answer of `POST /containers/{id}/wait`.
    pub struct ContainerWaitResponse {
        "Error" / "crate::go::omit" error: Option<WaitExitError>,
        "StatusCode" status_code: i64,
    }
}

go_struct! {
    /// Why waiting failed.
    pub struct WaitExitError {
        "Message" / "crate::go::omit" message: String,
    }
}

go_struct! {
    /// Answer of `GET /containers/{id}/top`.
    pub struct ContainerTop {
        "Processes" processes: Vec<Vec<String>>,
        "Titles" titles: Vec<String>,
    }
}

go_struct! {
    /// One change of a container's file system against its image.
    pub struct FilesystemChange {
        "Path" path: String,
        /// 0 modified, 1 added, 2 deleted.
        "Kind" kind: u8,
    }
}

go_struct! {
    /// Answer of `POST /containers/prune`.
    pub struct ContainerPruneReport {
        "ContainersDeleted" containers_deleted: Option<Vec<String>>,
        "SpaceReclaimed" space_reclaimed: u64,
    }
}

go_struct! {
    /// Facts of a path in a container, in the `X-Docker-Container-Path-Stat` header.
    pub struct PathStat {
        "name" name: String,
        "size" size: i64,
        /// Go's `os.FileMode`: permission bits, and the type in high bits.
        "mode" mode: u32,
        "mtime" mtime: String,
        "linkTarget" link_target: String,
    }
}

/// Directory bit of Go's `os.FileMode`.
pub const GO_MODE_DIR: u32 = 1 << 31;
/// Symbolic link bit.
pub const GO_MODE_SYMLINK: u32 = 1 << 27;
/// Device bit.
pub const GO_MODE_DEVICE: u32 = 1 << 26;
/// FIFO bit.
pub const GO_MODE_NAMED_PIPE: u32 = 1 << 25;
/// Socket bit.
pub const GO_MODE_SOCKET: u32 = 1 << 24;
/// Set-user-id bit.
pub const GO_MODE_SETUID: u32 = 1 << 23;
/// Set-group-id bit.
pub const GO_MODE_SETGID: u32 = 1 << 22;
/// Character device bit, beside the device bit.
pub const GO_MODE_CHAR_DEVICE: u32 = 1 << 21;
/// Sticky bit.
pub const GO_MODE_STICKY: u32 = 1 << 20;

/// Turns a `st_mode` (inode(7)) into Go's `os.FileMode`.
pub fn go_file_mode(st_mode: u32) -> u32 {
    let kind = match st_mode & 0o170_000 {
        0o040_000 => GO_MODE_DIR,
        0o120_000 => GO_MODE_SYMLINK,
        0o060_000 => GO_MODE_DEVICE,
        0o020_000 => GO_MODE_DEVICE | GO_MODE_CHAR_DEVICE,
        0o010_000 => GO_MODE_NAMED_PIPE,
        0o140_000 => GO_MODE_SOCKET,
        _ => 0,
    };
    let bit = |unix: u32, go: u32| if st_mode & unix == 0 { 0 } else { go };
    (st_mode & 0o777) | kind | bit(0o4000, GO_MODE_SETUID) | bit(0o2000, GO_MODE_SETGID) | bit(0o1000, GO_MODE_STICKY)
}

impl PathStat {
    /// The header's value.
    pub fn to_header(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        base64::engine::general_purpose::STANDARD.encode(json)
    }

    /// Reads the header's value; nothing when it is malformed.
    pub fn from_header(text: &str) -> Option<PathStat> {
        let json = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        serde_json::from_slice(&json).ok()
    }
}
