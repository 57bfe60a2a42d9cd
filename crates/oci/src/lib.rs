//! Provisional documents of the OCI runtime specification.
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

pub const VERSION: &str = "1.3.0";

fn nil<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Fault {
    pub path: String,
    pub reason: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub oci_version: String,
    pub process: Option<Process>,
    pub root: Option<Root>,
    #[serde(deserialize_with = "nil")]
    pub hostname: String,
    #[serde(deserialize_with = "nil")]
    pub domainname: String,
    #[serde(deserialize_with = "nil")]
    pub mounts: Vec<Mount>,
    #[serde(deserialize_with = "nil")]
    pub hooks: Hooks,
    #[serde(deserialize_with = "nil")]
    pub annotations: BTreeMap<String, String>,
    pub linux: Option<Linux>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Root {
    pub path: String,
    pub readonly: bool,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    pub destination: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub source: String,
    #[serde(deserialize_with = "nil")]
    pub options: Vec<String>,
    #[serde(deserialize_with = "nil")]
    pub uid_mappings: Vec<IdMapping>,
    #[serde(deserialize_with = "nil")]
    pub gid_mappings: Vec<IdMapping>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct IdMapping {
    #[serde(rename = "containerID")]
    pub container_id: u32,
    #[serde(rename = "hostID")]
    pub host_id: u32,
    pub size: u32,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    #[serde(deserialize_with = "nil")]
    pub prestart: Vec<Hook>,
    #[serde(deserialize_with = "nil")]
    pub create_runtime: Vec<Hook>,
    #[serde(deserialize_with = "nil")]
    pub create_container: Vec<Hook>,
    #[serde(deserialize_with = "nil")]
    pub start_container: Vec<Hook>,
    #[serde(deserialize_with = "nil")]
    pub poststart: Vec<Hook>,
    #[serde(deserialize_with = "nil")]
    pub poststop: Vec<Hook>,
}
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Hook {
    pub path: String,
    #[serde(deserialize_with = "nil")]
    pub args: Vec<String>,
    #[serde(deserialize_with = "nil")]
    pub env: Vec<String>,
    pub timeout: Option<i64>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    pub terminal: bool,
    pub console_size: Option<ConsoleSize>,
    pub user: User,
    #[serde(deserialize_with = "nil")]
    pub args: Vec<String>,
    #[serde(deserialize_with = "nil")]
    pub env: Vec<String>,
    pub cwd: String,
    capabilities: Option<Caps>,
    #[serde(deserialize_with = "nil")]
    pub rlimits: Vec<Rlimit>,
    pub no_new_privileges: bool,
    pub apparmor_profile: String,
    pub oom_score_adj: Option<i32>,
    pub selinux_label: String,
}
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct ConsoleSize {
    pub height: u64,
    pub width: u64,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub umask: Option<u32>,
    #[serde(deserialize_with = "nil")]
    pub additional_gids: Vec<u32>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Caps {
    bounding: Vec<String>,
    effective: Vec<String>,
    inheritable: Vec<String>,
    permitted: Vec<String>,
    ambient: Vec<String>,
}
#[derive(Debug, Clone, Copy, Default)]
pub struct Capabilities {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}
#[derive(Debug, Clone, Deserialize)]
pub struct Rlimit {
    #[serde(rename = "type")]
    pub kind: RlimitKind,
    pub hard: u64,
    pub soft: u64,
}
#[derive(Debug, Clone, Deserialize)]
pub struct RlimitKind(String);
impl RlimitKind {
    pub fn number(&self) -> u32 {
        [
            "CPU",
            "FSIZE",
            "DATA",
            "STACK",
            "CORE",
            "RSS",
            "NPROC",
            "NOFILE",
            "MEMLOCK",
            "AS",
            "LOCKS",
            "SIGPENDING",
            "MSGQUEUE",
            "NICE",
            "RTPRIO",
            "RTTIME",
        ]
        .iter()
        .position(|n| self.0.strip_prefix("RLIMIT_") == Some(n))
        .map_or(99, |n| n as u32)
    }
}
const CAPS: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
fn bits(l: &[String]) -> u64 {
    l.iter().filter_map(|n| CAPS.iter().position(|c| n.strip_prefix("CAP_") == Some(c))).fold(0, |a, n| a | 1 << n)
}
impl Process {
    pub fn parse(b: &[u8]) -> Result<Process, Fault> {
        serde_json::from_slice(b).map_err(|e| Fault { path: "process".into(), reason: e.to_string() })
    }
    pub fn validate(&self) -> Result<Vec<String>, Fault> {
        Ok(Vec::new())
    }
    pub fn capabilities(&self) -> Capabilities {
        let c = self.capabilities.clone().unwrap_or_default();
        Capabilities {
            bounding: bits(&c.bounding),
            effective: bits(&c.effective),
            inheritable: bits(&c.inheritable),
            permitted: bits(&c.permitted),
            ambient: bits(&c.ambient),
        }
    }
    pub fn bounding(&self) -> u64 {
        self.capabilities().bounding
    }
    pub fn add_capabilities(&mut self, n: &[String]) -> Result<(), Fault> {
        let c = self.capabilities.get_or_insert_default();
        for l in [&mut c.bounding, &mut c.effective, &mut c.permitted] {
            l.extend(n.iter().cloned());
        }
        Ok(())
    }
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    #[serde(deserialize_with = "nil")]
    pub uid_mappings: Vec<IdMapping>,
    #[serde(deserialize_with = "nil")]
    pub gid_mappings: Vec<IdMapping>,
    #[serde(deserialize_with = "nil")]
    pub sysctl: BTreeMap<String, String>,
    pub resources: Option<Resources>,
    pub cgroups_path: String,
    #[serde(deserialize_with = "nil")]
    pub namespaces: Vec<Namespace>,
    #[serde(deserialize_with = "nil")]
    pub devices: Vec<Device>,
    pub seccomp: Option<seccomp::Profile>,
    pub rootfs_propagation: String,
    #[serde(deserialize_with = "nil")]
    pub masked_paths: Vec<String>,
    #[serde(deserialize_with = "nil")]
    pub readonly_paths: Vec<String>,
    pub mount_label: String,
    #[serde(deserialize_with = "nil")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
}
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TimeOffset {
    #[serde(default)]
    pub secs: i64,
    #[serde(default)]
    pub nanosecs: u32,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    #[serde(rename = "type")]
    pub kind: String,
    pub path: String,
    pub major: i64,
    pub minor: i64,
    pub file_mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    #[serde(deserialize_with = "nil")]
    pub devices: Vec<DeviceRule>,
    #[serde(deserialize_with = "nil")]
    pub memory: Memory,
    #[serde(deserialize_with = "nil")]
    pub cpu: Cpu,
    #[serde(deserialize_with = "nil")]
    pub pids: Pids,
    #[serde(rename = "blockIO", deserialize_with = "nil")]
    pub block_io: BlockIo,
    #[serde(deserialize_with = "nil")]
    pub hugepage_limits: Vec<HugepageLimit>,
    #[serde(deserialize_with = "nil")]
    pub network: Network,
    #[serde(deserialize_with = "nil")]
    pub rdma: BTreeMap<String, Rdma>,
    #[serde(deserialize_with = "nil")]
    pub unified: BTreeMap<String, String>,
}
impl Resources {
    pub fn parse(b: &[u8]) -> Result<Resources, Fault> {
        serde_json::from_slice(b).map_err(|e| Fault { path: "resources".into(), reason: e.to_string() })
    }
    pub fn validate(&self) -> Result<Vec<String>, Fault> {
        Ok(Vec::new())
    }
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockIo {
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
    #[serde(deserialize_with = "nil")]
    pub weight_device: Vec<WeightDevice>,
    #[serde(deserialize_with = "nil")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    #[serde(deserialize_with = "nil")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    #[serde(rename = "throttleReadIOPSDevice", deserialize_with = "nil")]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    #[serde(rename = "throttleWriteIOPSDevice", deserialize_with = "nil")]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WeightDevice {
    pub major: i64,
    pub minor: i64,
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ThrottleDevice {
    pub major: i64,
    pub minor: i64,
    pub rate: u64,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HugepageLimit {
    pub page_size: String,
    pub limit: u64,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Network {
    #[serde(rename = "classID")]
    pub class_id: Option<u32>,
    #[serde(deserialize_with = "nil")]
    pub priorities: Vec<NetPriority>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NetPriority {
    pub name: String,
    pub priority: u32,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rdma {
    pub hca_handles: Option<u32>,
    pub hca_objects: Option<u32>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct DeviceRule {
    pub allow: bool,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub access: Option<String>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    pub limit: Option<i64>,
    pub reservation: Option<i64>,
    pub swap: Option<i64>,
    pub kernel: Option<i64>,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Option<i64>,
    pub swappiness: Option<u64>,
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
    pub use_hierarchy: Option<bool>,
    pub check_before_update: Option<bool>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    pub shares: Option<u64>,
    pub quota: Option<i64>,
    pub burst: Option<u64>,
    pub period: Option<u64>,
    pub realtime_runtime: Option<i64>,
    pub realtime_period: Option<u64>,
    pub cpus: String,
    pub mems: String,
    pub idle: Option<i64>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Pids {
    pub limit: Option<i64>,
}
#[derive(Debug, Clone, Deserialize)]
pub struct Namespace {
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    #[serde(default)]
    pub path: Option<String>,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    Mount,
    Network,
    Pid,
    Ipc,
    Uts,
    Cgroup,
    User,
    Time,
}
impl NamespaceKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Network => "network",
            Self::Pid => "pid",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::User => "user",
            Self::Time => "time",
        }
    }
    pub fn file(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            Self::Network => "net",
            other => other.name(),
        }
    }
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}
impl Status {
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
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub oci_version: String,
    pub id: String,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    pub bundle: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub annotations: BTreeMap<String, String>,
}
#[derive(Debug, Clone, Serialize)]
pub struct Listing {
    #[serde(flatten)]
    pub state: State,
    pub rootfs: String,
    pub created: String,
    pub owner: String,
}
impl Spec {
    pub fn parse(b: &[u8]) -> Result<Spec, Fault> {
        serde_json::from_slice(b).map_err(|e| Fault { path: "config.json".into(), reason: e.to_string() })
    }
    pub fn validate(&self) -> Result<Vec<String>, Fault> {
        Ok(Vec::new())
    }
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }
    pub fn seccomp(&self) -> Option<&seccomp::Profile> {
        self.linux.as_ref()?.seccomp.as_ref()
    }
    pub fn namespaces(&self) -> &[Namespace] {
        self.linux.as_ref().map(|l| l.namespaces.as_slice()).unwrap_or_default()
    }
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.namespaces().iter().find(|n| n.kind == kind)
    }
    pub fn cgroups_path(&self) -> &str {
        self.linux.as_ref().map(|l| l.cgroups_path.as_str()).unwrap_or_default()
    }
    pub fn masked_paths(&self) -> &[String] {
        self.linux.as_ref().map(|l| l.masked_paths.as_slice()).unwrap_or_default()
    }
    pub fn readonly_paths(&self) -> &[String] {
        self.linux.as_ref().map(|l| l.readonly_paths.as_slice()).unwrap_or_default()
    }
    pub fn rootfs_propagation(&self) -> &str {
        self.linux.as_ref().map(|l| l.rootfs_propagation.as_str()).unwrap_or_default()
    }
}
