//! The daemon itself: `/info`, `/version`, `/system/df`.

use crate::StringMap;
use crate::build::BuildCacheRecord;
use crate::container::ContainerSummary;
use crate::go::{IsEmptyInside, go_struct};
use crate::image::ImageSummary;
use crate::version::{ApiVersion, Versioned, backfill, drop_key};
use crate::volume::Volume;
use serde_json::Value;
use std::collections::BTreeMap;

go_struct! {
    /// Answer of `GET /info`.
    pub struct SystemInfo {
        "ID" id: String,
        "Containers" containers: i64,
        "ContainersRunning" containers_running: i64,
        "ContainersPaused" containers_paused: i64,
        "ContainersStopped" containers_stopped: i64,
        "Images" images: i64,
        "Driver" driver: String,
        "DriverStatus" driver_status: Option<Vec<[String; 2]>>,
        "Plugins" plugins: PluginsInfo,
        "MemoryLimit" memory_limit: bool,
        "SwapLimit" swap_limit: bool,
        "CpuCfsPeriod" cpu_cfs_period: bool,
        "CpuCfsQuota" cpu_cfs_quota: bool,
        "CPUShares" cpu_shares: bool,
        "CPUSet" cpu_set: bool,
        "PidsLimit" pids_limit: bool,
        "IPv4Forwarding" ipv4_forwarding: bool,
        "Debug" debug: bool,
        "NFd" n_fd: i64,
        "OomKillDisable" oom_kill_disable: bool,
        "NGoroutines" n_goroutines: i64,
        "SystemTime" system_time: String,
        "LoggingDriver" logging_driver: String,
        "CgroupDriver" cgroup_driver: String,
        "CgroupVersion" / "crate::go::omit" cgroup_version: String,
        "NEventsListener" n_events_listener: i64,
        "KernelVersion" kernel_version: String,
        "OperatingSystem" operating_system: String,
        "OSVersion" os_version: String,
        "OSType" os_type: String,
        "Architecture" architecture: String,
        "IndexServerAddress" index_server_address: String,
        "RegistryConfig" registry_config: Option<RegistryServiceConfig>,
        "NCPU" ncpu: i64,
        "MemTotal" mem_total: i64,
        "GenericResources" generic_resources: Option<Vec<Value>>,
        "DockerRootDir" docker_root_dir: String,
        "HttpProxy" http_proxy: String,
        "HttpsProxy" https_proxy: String,
        "NoProxy" no_proxy: String,
        "Name" name: String,
        "Labels" labels: Vec<String>,
        "ExperimentalBuild" experimental_build: bool,
        "ServerVersion" server_version: String,
        "Runtimes" runtimes: BTreeMap<String, RuntimeInfo>,
        "DefaultRuntime" default_runtime: String,
        "Swarm" swarm: SwarmInfo,
        "LiveRestoreEnabled" live_restore_enabled: bool,
        "Isolation" isolation: String,
        "InitBinary" init_binary: String,
        "ContainerdCommit" containerd_commit: Commit,
        "RuncCommit" runc_commit: Commit,
        "InitCommit" init_commit: Commit,
        "SecurityOptions" security_options: Vec<String>,
        "ProductLicense" / "crate::go::omit" product_license: String,
        "DefaultAddressPools" / "crate::go::omit" default_address_pools: Vec<NetworkAddressPool>,
        "FirewallBackend" / "crate::go::omit" firewall_backend: Option<FirewallInfo>,
        "CDISpecDirs" cdi_spec_dirs: Vec<String>,
        "DiscoveredDevices" / "crate::go::omit" discovered_devices: Vec<DeviceInfo>,
        "Containerd" / "crate::go::omit" containerd: Option<ContainerdInfo>,
        "Warnings" warnings: Option<Vec<String>>,
    }
}

impl Versioned for SystemInfo {
    const SINCE_MINOR: u16 = 52;

    fn adapt(value: &mut Value, version: ApiVersion) {
        if !version.at_least(50) {
            drop_key(value, "DiscoveredDevices");
            backfill(value, "BridgeNfIptables", false);
            backfill(value, "BridgeNfIp6tables", false);
        }
        if !version.at_least(49) {
            drop_key(value, "FirewallBackend");
        }
        if !version.at_least(46) {
            drop_key(value, "Containerd");
        }
        if !version.at_least(44) {
            drop_key(value, "CDISpecDirs");
        }
    }
}

go_struct! {
    /// Kinds of plugins at hand.
    pub struct PluginsInfo {
        "Volume" volume: Option<Vec<String>>,
        "Network" network: Option<Vec<String>>,
        "Authorization" authorization: Option<Vec<String>>,
        "Log" log: Option<Vec<String>>,
    }
}

go_struct! {
    /// How registries are reached.
    pub struct RegistryServiceConfig {
        "IndexConfigs" index_configs: BTreeMap<String, IndexInfo>,
        "InsecureRegistryCIDRs" insecure_registry_cidrs: Vec<String>,
        "Mirrors" mirrors: Option<Vec<String>>,
    }
}

go_struct! {
    /// One registry.
    pub struct IndexInfo {
        "Mirrors" mirrors: Vec<String>,
        "Name" name: String,
        "Official" official: bool,
        "Secure" secure: bool,
    }
}

go_struct! {
    /// An OCI runtime.
    pub struct RuntimeInfo {
        "path" / "crate::go::omit" path: String,
        "runtimeArgs" / "crate::go::omit" runtime_args: Vec<String>,
        "status" / "crate::go::omit" status: StringMap,
    }
}

go_struct! {
    /// Swarm mode; always inactive here.
    pub struct SwarmInfo {
        "NodeID" node_id: String,
        "NodeAddr" node_addr: String,
        "LocalNodeState" local_node_state: String,
        "ControlAvailable" control_available: bool,
        "Error" error: String,
        "RemoteManagers" remote_managers: Option<Vec<Value>>,
    }
}

impl SwarmInfo {
    /// Swarm mode off.
    pub fn inactive() -> SwarmInfo {
        SwarmInfo { local_node_state: "inactive".to_owned(), ..SwarmInfo::default() }
    }
}

go_struct! {
    /// Version of an external tool.
    pub struct Commit {
        "ID" id: String,
    }
}

go_struct! {
    /// A pool new networks take subnets from.
    pub struct NetworkAddressPool {
        "Base" base: String,
        "Size" size: i64,
    }
}

go_struct! {
    /// The firewall used.
    pub struct FirewallInfo {
        "Driver" driver: String,
        "Info" / "crate::go::omit" info: Vec<[String; 2]>,
    }
}

go_struct! {
    /// A device a driver found.
    pub struct DeviceInfo {
        "Source" source: String,
        "ID" id: String,
    }
}

go_struct! {
    /// The containerd in use.
    pub struct ContainerdInfo {
        "Address" / "crate::go::omit" address: String,
        "Namespaces" namespaces: ContainerdNamespaces,
    }
}

go_struct! {
    /// Its namespaces.
    pub struct ContainerdNamespaces {
        "Containers" containers: String,
        "Plugins" plugins: String,
    }
}

go_struct! {
    /// Answer of `GET /version`.
    pub struct Version {
        "Platform" / "crate::go::omit" platform: Option<PlatformName>,
        "Components" / "crate::go::omit" components: Vec<ComponentVersion>,
        "Version" version: String,
        "ApiVersion" api_version: String,
        "MinAPIVersion" / "crate::go::omit" min_api_version: String,
        "GitCommit" git_commit: String,
        "GoVersion" go_version: String,
        "Os" os: String,
        "Arch" arch: String,
        "KernelVersion" / "crate::go::omit" kernel_version: String,
        "Experimental" / "crate::go::omit" experimental: bool,
        "BuildTime" / "crate::go::omit" build_time: String,
    }
}

go_struct! {
    /// Name of the product.
    pub struct PlatformName {
        "Name" name: String,
    }
}

go_struct! {
    /// A part of the engine.
    pub struct ComponentVersion {
        "Name" name: String,
        "Version" version: String,
        "Details" / "crate::go::omit" details: StringMap,
    }
}

/// Disk use of one kind of object, bytes and counts.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, bound(deserialize = "T: serde::Deserialize<'de>"))]
pub struct UsageSummary<T> {
    /// Objects in use.
    #[serde(rename = "ActiveCount", skip_serializing_if = "crate::go::omit")]
    pub active_count: i64,
    /// The objects, only when asked for verbosely.
    #[serde(rename = "Items", skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<T>,
    /// Bytes that pruning would give back.
    #[serde(rename = "Reclaimable", skip_serializing_if = "crate::go::omit")]
    pub reclaimable: i64,
    /// All objects.
    #[serde(rename = "TotalCount", skip_serializing_if = "crate::go::omit")]
    pub total_count: i64,
    /// Bytes in use.
    #[serde(rename = "TotalSize", skip_serializing_if = "crate::go::omit")]
    pub total_size: i64,
}

impl<T> Default for UsageSummary<T> {
    fn default() -> UsageSummary<T> {
        UsageSummary { active_count: 0, items: Vec::new(), reclaimable: 0, total_count: 0, total_size: 0 }
    }
}

impl<T> IsEmptyInside for UsageSummary<T> {}

go_struct! {
    /// Answer of `GET /system/df`. The first five are the form before 1.52, the others the form
    /// since; [`DiskUsage::trim`] leaves what a version shows.
    pub struct DiskUsage {
        "LayersSize" / "Option::is_none" layers_size: Option<i64>,
        "Images" / "Option::is_none" images: Option<Vec<ImageSummary>>,
        "Containers" / "Option::is_none" containers: Option<Vec<ContainerSummary>>,
        "Volumes" / "Option::is_none" volumes: Option<Vec<Volume>>,
        "BuildCache" / "Option::is_none" build_cache: Option<Vec<BuildCacheRecord>>,
        "ImageUsage" / "Option::is_none" image_usage: Option<UsageSummary<ImageSummary>>,
        "ContainerUsage" / "Option::is_none" container_usage: Option<UsageSummary<ContainerSummary>>,
        "VolumeUsage" / "Option::is_none" volume_usage: Option<UsageSummary<Volume>>,
        "BuildCacheUsage" / "Option::is_none" build_cache_usage: Option<UsageSummary<BuildCacheRecord>>,
    }
}

impl DiskUsage {
    /// Leaves what `version` shows: the arrays before 1.53 (not in 1.52 when verbose), the usage
    /// objects since 1.52, their items only when verbose.
    #[must_use]
    pub fn trim(mut self, version: ApiVersion, verbose: bool) -> DiskUsage {
        if version.at_least(53) || (version.at_least(52) && verbose) {
            self.layers_size = None;
            self.images = None;
            self.containers = None;
            self.volumes = None;
            self.build_cache = None;
        }
        if !version.at_least(52) {
            self.image_usage = None;
            self.container_usage = None;
            self.volume_usage = None;
            self.build_cache_usage = None;
        }
        if !verbose {
            self.image_usage.iter_mut().for_each(|u| u.items.clear());
            self.container_usage.iter_mut().for_each(|u| u.items.clear());
            self.volume_usage.iter_mut().for_each(|u| u.items.clear());
            self.build_cache_usage.iter_mut().for_each(|u| u.items.clear());
        }
        self
    }
}
