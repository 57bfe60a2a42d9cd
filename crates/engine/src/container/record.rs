//! What is known of a container: its configuration as merged at creation, and its last state. One
//! JSON document in the database; everything a later daemon needs to carry on is in it.

use std::collections::BTreeMap;

use docker_types::container::{ContainerConfig, HostConfig, MountPoint};
use docker_types::network::{EndpointSettings, PortMap};
use docker_types::oci::Descriptor;
use serde::{Deserialize, Serialize};

/// The whole document.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    pub created_ns: i64,
    /// The image's id: digest of what the name pointed at.
    pub image_id: String,
    /// Descriptor of the platform's manifest.
    pub manifest: Option<Descriptor>,
    /// Layers by uncompressed digest, lowest first.
    pub layers: Vec<String>,
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    /// Endpoint settings asked for, by network name.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    pub mounts: Vec<MountRecord>,
    pub state: State,
}

/// A mount the container gets beyond the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MountRecord {
    pub kind: MountType,
    /// Host directory or file of a bind; mount point of a volume; image reference of an image mount.
    pub source: String,
    /// Volume name.
    pub name: String,
    /// Absolute, clean.
    pub destination: String,
    pub driver: String,
    /// As given, for display.
    pub mode: String,
    pub rw: bool,
    /// Of binds: `rprivate`, `rslave` …
    pub propagation: String,
    pub non_recursive: bool,
    pub read_only_non_recursive: bool,
    /// Read-only for what is mounted below too, or not at all.
    pub read_only_force_recursive: bool,
    /// A bind source that is made when it is missing, at each start, as Docker does for the short form.
    pub create_source: bool,
    /// Who the owner of the source is inside.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Path below the volume.
    pub subpath: String,
    pub no_copy: bool,
    /// The volume was made for this container alone and goes with it.
    pub anonymous: bool,
    /// Mount options of a tmpfs, comma separated.
    pub options: String,
    /// Layers of an image mount, lowest first.
    pub layers: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MountType {
    #[default]
    Bind,
    Volume,
    Tmpfs,
    Image,
}

impl MountType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
            Self::Image => "image",
        }
    }
}

impl MountRecord {
    pub(crate) fn mount_point(&self) -> MountPoint {
        MountPoint {
            kind: self.kind.as_str().into(),
            name: self.name.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            driver: self.driver.clone(),
            mode: self.mode.clone(),
            rw: self.rw,
            propagation: self.propagation.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    #[default]
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl Phase {
    /// Docker's word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// A process lives.
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// The changing part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub phase: Phase,
    /// First process, 0 when none lives.
    pub pid: i32,
    pub exit_code: i32,
    pub error: String,
    pub oom_killed: bool,
    pub started_ns: i64,
    pub finished_ns: i64,
    pub restart_count: u32,
    /// The user asked for the last stop: `unless-stopped` respects it.
    pub stopped_by_user: bool,
    /// Boot the process belongs to: after a reboot nothing of it can live.
    pub boot_id: String,
    /// Tells this run's directory on tmpfs from those of earlier runs.
    pub run: String,
    /// Places on networks while running, in the order they were joined.
    pub endpoints: Vec<network::Endpoint>,
    /// Its network namespace is one of ours, with a resolver in it, whether it is on a network or not.
    pub has_sandbox: bool,
    /// Device and inode of that namespace, by which it is known again.
    pub netns: (u64, u64),
    /// Made up anew for each run; clients only compare it.
    pub sandbox_id: String,
    /// Published ports while running.
    pub ports: PortMap,
}

impl State {
    /// The first process, with the network namespace it was started in.
    pub(crate) fn process(&self) -> network::Process {
        network::Process { pid: self.pid, netns: self.netns }
    }
}

impl Record {
    /// The command line: entrypoint, then command.
    pub(crate) fn command_line(&self) -> Vec<String> {
        let words = |list: &Option<docker_types::StrSlice>| list.as_ref().map(|s| s.0.clone()).unwrap_or_default();
        let mut line = words(&self.config.entrypoint);
        line.extend(words(&self.config.cmd));
        line
    }

    /// Labels, or none.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.config.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// What events about this container carry: image, name and every label.
    pub(crate) fn event_attributes(&self) -> BTreeMap<String, String> {
        let mut map = self.config.labels.clone().unwrap_or_default();
        map.insert("image".into(), self.config.image.clone());
        map.insert("name".into(), self.name.clone());
        map
    }
}
