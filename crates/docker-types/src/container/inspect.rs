//! `GET /containers/{id}/json`.

use crate::StringMap;
use crate::container::{ContainerConfig, HostConfig};
use crate::go::go_struct;
use crate::network::{EndpointSettings, PortMap};
use crate::oci::Descriptor;
use crate::version::{ApiVersion, Versioned, backfill, drop_key};
use serde_json::{Value, json};
use std::collections::BTreeMap;

go_struct! {
    /// Everything about a container.
    pub struct ContainerInspect {
        "Id" id: String,
        "Created" created: String,
        "Path" path: String,
        "Args" args: Vec<String>,
        "State" state: ContainerState,
        "Image" image: String,
        "ResolvConfPath" resolv_conf_path: String,
        "HostnamePath" hostname_path: String,
        "HostsPath" hosts_path: String,
        "LogPath" log_path: String,
        /// With a leading slash.
        "Name" name: String,
        "RestartCount" restart_count: i64,
        "Driver" driver: String,
        "Platform" platform: String,
        "MountLabel" mount_label: String,
        "ProcessLabel" process_label: String,
        "AppArmorProfile" app_armor_profile: String,
        "ExecIDs" exec_ids: Option<Vec<String>>,
        "HostConfig" host_config: HostConfig,
        "GraphDriver" / "crate::go::omit" graph_driver: Option<GraphDriver>,
        "Storage" / "crate::go::omit" storage: Option<Storage>,
        "SizeRw" / "crate::go::omit" size_rw: Option<i64>,
        "SizeRootFs" / "crate::go::omit" size_root_fs: Option<i64>,
        "Mounts" mounts: Vec<MountPoint>,
        "Config" config: ContainerConfig,
        "NetworkSettings" network_settings: NetworkSettings,
        "ImageManifestDescriptor" / "crate::go::omit" image_manifest_descriptor: Option<Descriptor>,
    }
}

go_struct! {
    /// What the container does now and did last.
    pub struct ContainerState {
        /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
        "Status" status: String,
        "Running" running: bool,
        "Paused" paused: bool,
        "Restarting" restarting: bool,
        "OOMKilled" oom_killed: bool,
        "Dead" dead: bool,
        "Pid" pid: i64,
        "ExitCode" exit_code: i64,
        "Error" error: String,
        "StartedAt" started_at: String,
        "FinishedAt" finished_at: String,
        "Health" / "crate::go::omit" health: Option<Health>,
    }
}

go_struct! {
    /// State of the health check.
    pub struct Health {
        /// `starting`, `healthy`, `unhealthy`.
        "Status" status: String,
        "FailingStreak" failing_streak: i64,
        "Log" log: Option<Vec<HealthLogEntry>>,
    }
}

go_struct! {
    /// One run of the check.
    pub struct HealthLogEntry {
        "Start" start: String,
        "End" end: String,
        "ExitCode" exit_code: i64,
        "Output" output: String,
    }
}

go_struct! {
    /// The storage driver's own facts.
    pub struct GraphDriver {
        "Data" data: Option<StringMap>,
        "Name" name: String,
    }
}

go_struct! {
    /// Where the root file system comes from, with an image store of snapshots.
    pub struct Storage {
        "RootFS" / "crate::go::omit" root_fs: Option<RootFsStorage>,
    }
}

go_struct! {
    /// The root file system's storage.
    pub struct RootFsStorage {
        "Snapshot" / "crate::go::omit" snapshot: Option<RootFsSnapshot>,
    }
}

go_struct! {
    /// The snapshotter's name.
    pub struct RootFsSnapshot {
        "Name" / "crate::go::omit" name: String,
    }
}

go_struct! {
    /// A mount of the container.
    pub struct MountPoint {
        "Type" / "crate::go::omit" kind: String,
        "Name" / "crate::go::omit" name: String,
        "Source" source: String,
        "Destination" destination: String,
        "Driver" / "crate::go::omit" driver: String,
        "Mode" mode: String,
        "RW" rw: bool,
        "Propagation" propagation: String,
    }
}

go_struct! {
    /// Networks and published ports.
    pub struct NetworkSettings {
        "SandboxID" sandbox_id: String,
        "SandboxKey" sandbox_key: String,
        "Ports" ports: Option<PortMap>,
        "Networks" networks: BTreeMap<String, EndpointSettings>,
    }
}

impl Versioned for ContainerInspect {
    const SINCE_MINOR: u16 = 52;

    /// Before 1.52 the facts of the default bridge are repeated one level up, `OnBuild` and
    /// `GraphDriver` are always there and the snapshotter is not shown.
    fn adapt(value: &mut Value, version: ApiVersion) {
        drop_key(value, "Storage");
        backfill(value, "GraphDriver", json!({"Data": null, "Name": value["Driver"]}));
        if let Some(config) = value.get_mut("Config") {
            backfill(config, "OnBuild", Value::Null);
        }
        if !version.at_least(48) {
            drop_key(value, "ImageManifestDescriptor");
        }
        let Some(settings) = value.get_mut("NetworkSettings") else { return };
        let bridge = settings["Networks"]["bridge"].clone();
        for (key, default) in [
            ("EndpointID", json!("")),
            ("Gateway", json!("")),
            ("GlobalIPv6Address", json!("")),
            ("GlobalIPv6PrefixLen", json!(0)),
            ("IPAddress", json!("")),
            ("IPPrefixLen", json!(0)),
            ("IPv6Gateway", json!("")),
            ("MacAddress", json!("")),
        ] {
            let fact = bridge.get(key).cloned().unwrap_or(default);
            backfill(settings, key, fact);
        }
        for (key, default) in [
            ("Bridge", json!("")),
            ("HairpinMode", json!(false)),
            ("LinkLocalIPv6Address", json!("")),
            ("LinkLocalIPv6PrefixLen", json!(0)),
            ("SecondaryIPAddresses", Value::Null),
            ("SecondaryIPv6Addresses", Value::Null),
        ] {
            backfill(settings, key, default);
        }
    }
}
