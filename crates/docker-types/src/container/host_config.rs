//! The host's part of a container's configuration, and its update.

use crate::StringMap;
use crate::go::{StrSlice, go_struct};
use crate::network::PortMap;

/// Defines a struct with the resource fields inline between others, as Go embeds them.
macro_rules! with_resources {
    ($(#[$meta:meta])* pub struct $name:ident { $($before:tt)* } { $($after:tt)* }) => {
        go_struct! {
            $(#[$meta])*
            pub struct $name {
                $($before)*
                /// Relative weight, 1024 being usual.
                "CpuShares" cpu_shares: i64,
                /// Bytes; 0 is no limit.
                "Memory" memory: i64,
                /// Billionths of a CPU.
                "NanoCpus" nano_cpus: i64,
                "CgroupParent" cgroup_parent: String,
                "BlkioWeight" blkio_weight: u16,
                "BlkioWeightDevice" blkio_weight_device: Option<Vec<WeightDevice>>,
                "BlkioDeviceReadBps" blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
                "BlkioDeviceWriteBps" blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
                "BlkioDeviceReadIOps" blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
                "BlkioDeviceWriteIOps" blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
                /// Microseconds.
                "CpuPeriod" cpu_period: i64,
                /// Microseconds per period.
                "CpuQuota" cpu_quota: i64,
                "CpuRealtimePeriod" cpu_realtime_period: i64,
                "CpuRealtimeRuntime" cpu_realtime_runtime: i64,
                "CpusetCpus" cpuset_cpus: String,
                "CpusetMems" cpuset_mems: String,
                "Devices" devices: Option<Vec<DeviceMapping>>,
                "DeviceCgroupRules" device_cgroup_rules: Option<Vec<String>>,
                "DeviceRequests" device_requests: Option<Vec<DeviceRequest>>,
                /// Ignored since kernel 5.4.
                "KernelMemory" / "crate::go::omit" kernel_memory: i64,
                "KernelMemoryTCP" / "crate::go::omit" kernel_memory_tcp: i64,
                "MemoryReservation" memory_reservation: i64,
                /// Memory and swap together; -1 is no limit.
                "MemorySwap" memory_swap: i64,
                "MemorySwappiness" memory_swappiness: Option<i64>,
                "OomKillDisable" oom_kill_disable: Option<bool>,
                /// 0 and -1 are no limit; absent leaves it.
                "PidsLimit" pids_limit: Option<i64>,
                "Ulimits" ulimits: Option<Vec<Ulimit>>,
                "CpuCount" cpu_count: i64,
                "CpuPercent" cpu_percent: i64,
                "IOMaximumIOps" io_maximum_iops: u64,
                "IOMaximumBandwidth" io_maximum_bandwidth: u64,
                $($after)*
            }
        }

        impl $name {
            /// The resource fields by themselves.
            pub fn resources(&self) -> Resources {
                Resources {
                    cpu_shares: self.cpu_shares,
                    memory: self.memory,
                    nano_cpus: self.nano_cpus,
                    cgroup_parent: self.cgroup_parent.clone(),
                    blkio_weight: self.blkio_weight,
                    blkio_weight_device: self.blkio_weight_device.clone(),
                    blkio_device_read_bps: self.blkio_device_read_bps.clone(),
                    blkio_device_write_bps: self.blkio_device_write_bps.clone(),
                    blkio_device_read_iops: self.blkio_device_read_iops.clone(),
                    blkio_device_write_iops: self.blkio_device_write_iops.clone(),
                    cpu_period: self.cpu_period,
                    cpu_quota: self.cpu_quota,
                    cpu_realtime_period: self.cpu_realtime_period,
                    cpu_realtime_runtime: self.cpu_realtime_runtime,
                    cpuset_cpus: self.cpuset_cpus.clone(),
                    cpuset_mems: self.cpuset_mems.clone(),
                    devices: self.devices.clone(),
                    device_cgroup_rules: self.device_cgroup_rules.clone(),
                    device_requests: self.device_requests.clone(),
                    kernel_memory: self.kernel_memory,
                    kernel_memory_tcp: self.kernel_memory_tcp,
                    memory_reservation: self.memory_reservation,
                    memory_swap: self.memory_swap,
                    memory_swappiness: self.memory_swappiness,
                    oom_kill_disable: self.oom_kill_disable,
                    pids_limit: self.pids_limit,
                    ulimits: self.ulimits.clone(),
                    cpu_count: self.cpu_count,
                    cpu_percent: self.cpu_percent,
                    io_maximum_iops: self.io_maximum_iops,
                    io_maximum_bandwidth: self.io_maximum_bandwidth,
                }
            }
        }
    };
}

with_resources! {
    /// The resource fields of [`HostConfig`] and [`ContainerUpdateBody`] by themselves.
    pub struct Resources {} {}
}

with_resources! {
    /// How the container meets the host.
    pub struct HostConfig {
        "Binds" binds: Option<Vec<String>>,
        "ContainerIDFile" container_id_file: String,
        "LogConfig" log_config: LogConfig,
        "NetworkMode" network_mode: String,
        "PortBindings" port_bindings: Option<PortMap>,
        "RestartPolicy" restart_policy: RestartPolicy,
        "AutoRemove" auto_remove: bool,
        "VolumeDriver" volume_driver: String,
        "VolumesFrom" volumes_from: Option<Vec<String>>,
        /// Rows and columns.
        "ConsoleSize" console_size: [u64; 2],
        "Annotations" / "crate::go::omit" annotations: StringMap,
        "CapAdd" cap_add: Option<StrSlice>,
        "CapDrop" cap_drop: Option<StrSlice>,
        "CgroupnsMode" cgroupns_mode: String,
        "Dns" dns: Option<Vec<String>>,
        "DnsOptions" dns_options: Option<Vec<String>>,
        "DnsSearch" dns_search: Option<Vec<String>>,
        "ExtraHosts" extra_hosts: Option<Vec<String>>,
        "GroupAdd" group_add: Option<Vec<String>>,
        "IpcMode" ipc_mode: String,
        "Cgroup" cgroup: String,
        "Links" links: Option<Vec<String>>,
        "OomScoreAdj" oom_score_adj: i64,
        "PidMode" pid_mode: String,
        "Privileged" privileged: bool,
        "PublishAllPorts" publish_all_ports: bool,
        "ReadonlyRootfs" readonly_rootfs: bool,
        "SecurityOpt" security_opt: Option<Vec<String>>,
        "StorageOpt" / "crate::go::omit" storage_opt: StringMap,
        "Tmpfs" / "crate::go::omit" tmpfs: StringMap,
        "UTSMode" uts_mode: String,
        "UsernsMode" userns_mode: String,
        /// Bytes.
        "ShmSize" shm_size: i64,
        "Sysctls" / "crate::go::omit" sysctls: StringMap,
        "Runtime" / "crate::go::omit" runtime: String,
        "Isolation" isolation: String,
    } {
        "Mounts" / "crate::go::omit" mounts: Vec<Mount>,
        "MaskedPaths" masked_paths: Option<Vec<String>>,
        "ReadonlyPaths" readonly_paths: Option<Vec<String>>,
        "Init" / "crate::go::omit" init: Option<bool>,
    }
}

with_resources! {
    /// Body of `POST /containers/{id}/update`.
    pub struct ContainerUpdateBody {} {
        "RestartPolicy" restart_policy: RestartPolicy,
        "NetRate" / "Option::is_none" net_rate: Option<NetRate>,
    }
}

go_struct! {
    /// Bandwidth of a container, which Docker's API has no word for. A direction that is absent stays as it is, an empty text
    /// frees it.
    pub struct NetRate {
        "Network" network: String,
        "Ingress" / "Option::is_none" ingress: Option<String>,
        "Egress" / "Option::is_none" egress: Option<String>,
    }
}

go_struct! {
    /// Answer of `POST /containers/{id}/update`.
    pub struct ContainerUpdateResponse {
        "Warnings" warnings: Option<Vec<String>>,
    }
}

go_struct! {
    /// When to start the container again.
    pub struct RestartPolicy {
        /// Empty, `no`, `always`, `on-failure`, `unless-stopped`.
        "Name" name: String,
        "MaximumRetryCount" maximum_retry_count: i64,
    }
}

go_struct! {
    /// Where output is logged.
    pub struct LogConfig {
        "Type" kind: String,
        "Config" config: Option<StringMap>,
    }
}

go_struct! {
    /// A resource limit of processes; -1 is no limit.
    pub struct Ulimit {
        "Name" name: String,
        "Hard" hard: i64,
        "Soft" soft: i64,
    }
}

go_struct! {
    /// Weight of a block device.
    pub struct WeightDevice {
        "Path" path: String,
        "Weight" weight: u16,
    }
}

go_struct! {
    /// Rate of a block device, bytes or operations per second.
    pub struct ThrottleDevice {
        "Path" path: String,
        "Rate" rate: u64,
    }
}

go_struct! {
    /// A device of the host given to the container.
    pub struct DeviceMapping {
        "PathOnHost" path_on_host: String,
        "PathInContainer" path_in_container: String,
        /// Of `r`, `w`, `m`.
        "CgroupPermissions" cgroup_permissions: String,
    }
}

go_struct! {
    /// Devices asked of a driver (GPUs, CDI).
    pub struct DeviceRequest {
        "Driver" driver: String,
        "Count" count: i64,
        "DeviceIDs" device_ids: Option<Vec<String>>,
        "Capabilities" capabilities: Option<Vec<Vec<String>>>,
        "Options" options: Option<StringMap>,
    }
}

go_struct! {
    /// A mount of `--mount`.
    pub struct Mount {
        /// `bind`, `volume`, `tmpfs`, `image`.
        "Type" / "crate::go::omit" kind: String,
        "Source" / "crate::go::omit" source: String,
        "Target" / "crate::go::omit" target: String,
        "ReadOnly" / "crate::go::omit" read_only: bool,
        "Consistency" / "crate::go::omit" consistency: String,
        "BindOptions" / "crate::go::omit" bind_options: Option<BindOptions>,
        "VolumeOptions" / "crate::go::omit" volume_options: Option<VolumeOptions>,
        "ImageOptions" / "crate::go::omit" image_options: Option<ImageOptions>,
        "TmpfsOptions" / "crate::go::omit" tmpfs_options: Option<TmpfsOptions>,
    }
}

go_struct! {
    /// Options of a bind mount.
    pub struct BindOptions {
        "Propagation" / "crate::go::omit" propagation: String,
        "NonRecursive" / "crate::go::omit" non_recursive: bool,
        "CreateMountpoint" / "crate::go::omit" create_mountpoint: bool,
        "ReadOnlyNonRecursive" / "crate::go::omit" read_only_non_recursive: bool,
        "ReadOnlyForceRecursive" / "crate::go::omit" read_only_force_recursive: bool,
    }
}

go_struct! {
    /// Options of a volume mount.
    pub struct VolumeOptions {
        "NoCopy" / "crate::go::omit" no_copy: bool,
        "Labels" / "crate::go::omit" labels: StringMap,
        "Subpath" / "crate::go::omit" subpath: String,
        "DriverConfig" / "crate::go::omit" driver_config: Option<VolumeDriverConfig>,
    }
}

go_struct! {
    /// The driver of a volume made on the fly.
    pub struct VolumeDriverConfig {
        "Name" / "crate::go::omit" name: String,
        "Options" / "crate::go::omit" options: StringMap,
    }
}

go_struct! {
    /// Options of an image mount.
    pub struct ImageOptions {
        "Subpath" / "crate::go::omit" subpath: String,
    }
}

go_struct! {
    /// Options of a tmpfs mount.
    pub struct TmpfsOptions {
        "SizeBytes" / "crate::go::omit" size_bytes: i64,
        /// Permission bits of the root.
        "Mode" / "crate::go::omit" mode: u32,
        "Options" / "crate::go::omit" options: Vec<Vec<String>>,
    }
}
