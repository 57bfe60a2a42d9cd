//! What the daemon tells the engine at start: directories, network, defaults of new containers.
//! A plain value; `dhowd` fills it from flags and `daemon.json`, nobody changes it afterwards.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use build::kept::{Collect, Limits as CacheLimits, Policy as CachePolicy};
pub use build::{HistoryLimits, Settings as BuilderSettings};
pub use network::Pool;
pub use store::Format as LayerFormat;

/// When image content is removed to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Percent of the file system in use at which removing begins.
    pub high: u8,
    /// Percent in use at which it ends; less than `high`.
    pub low: u8,
    /// Images used more recently are not removed.
    pub min_age: std::time::Duration,
}

/// Settings of one engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// What must survive a reboot: database, image content, container and volume directories.
    pub data_root: PathBuf,
    /// tmpfs for what dies with the kernel: shim sockets, exit records.
    pub exec_root: PathBuf,
    /// The `dhow-shim` executable.
    pub shim: PathBuf,
    /// The `dhow-net` executable.
    pub net: PathBuf,
    /// Name of the default bridge; `none` runs without a default bridge.
    pub bridge: String,
    /// IPv4 subnet of the default bridge in CIDR form (gateway address allowed); chosen when absent.
    pub bridge_subnet: Option<String>,
    /// MTU of the default bridge, bytes.
    pub mtu: Option<u32>,
    /// Address range of containers on the default bridge, in CIDR form; its whole subnet if absent.
    pub fixed_cidr: Option<String>,
    /// Gateway of the default bridge, if it is not the bridge itself.
    pub default_gateway: Option<String>,
    /// The default bridge has IPv6.
    pub ipv6: bool,
    /// IPv6 subnet of the default bridge in CIDR form (gateway address allowed); chosen when absent.
    pub bridge_subnet6: Option<String>,
    /// IPv6 gateway of the default bridge.
    pub default_gateway6: Option<String>,
    /// Containers on the default bridge may talk to each other unasked.
    pub icc: bool,
    /// Containers on the default bridge take the host's address elsewhere.
    pub ip_masq: bool,
    /// Other links of the host may reach each other where forwarding was switched on for networks.
    pub ip_forward_no_drop: bool,
    /// Host addresses that ports are published on unless somebody asks for another; every address if empty.
    pub bindings: Vec<IpAddr>,
    /// Where networks get their subnets; Docker's ranges if empty.
    pub address_pools: Vec<Pool>,
    /// Options of new networks, by driver.
    pub network_options: Vec<(String, String, String)>,
    /// Log driver of containers that name none: `json-file` or `none`.
    pub log_driver: String,
    /// Options of that driver, for example `max-size` and `max-file`.
    pub log_opts: Vec<(String, String)>,
    /// Resource limits of containers that set none: name, soft, hard.
    pub default_ulimits: Vec<(String, i64, i64)>,
    /// Registries spoken to without verified TLS: `host[:port]` or CIDR.
    pub insecure_registries: Vec<String>,
    /// Mirrors of Docker Hub, as URLs.
    pub registry_mirrors: Vec<String>,
    /// Directories of certificates and rules for single registries, the first with the most say.
    pub registry_config_dirs: Vec<PathBuf>,
    /// The policy for signatures of images, read whenever it is asked.
    pub trust_policy: PathBuf,
    /// The policy was named by the user: that it is not there is an error, not the absence of a policy.
    pub trust_policy_named: bool,
    /// How new layers are kept.
    pub layers: LayerFormat,
    /// How long no image must have come in until compressed layers that can be made again are replaced by how; never if
    /// absent, and then none is left out of a pull either.
    pub compact: Option<Duration>,
    /// When to make room on the disk; never if absent.
    pub watermark: Option<Watermark>,
    /// What the builder keeps.
    pub builder: BuilderSettings,
    /// Versions kept of what a tag pointed at.
    pub tag_versions: usize,
    /// Size of `/dev/shm` where the user gives none, bytes.
    pub default_shm_size: i64,
    /// Run an init as PID 1 of containers that do not say.
    pub init: bool,
    /// Set `no_new_privs` on containers that do not say.
    pub no_new_privileges: bool,
    /// Parent of all container control groups, absolute within the hierarchy.
    pub cgroup_parent: String,
    /// The daemon logs at debug level; shown by `info`.
    pub debug: bool,
    /// Addresses the daemon listens on; shown by nobody yet, kept for `info`.
    pub hosts: Vec<String>,
    /// Labels of the daemon, `key=value`.
    pub labels: Vec<String>,
    /// Default name servers of containers.
    pub dns: Vec<String>,
    /// Default options of `resolv.conf`.
    pub dns_options: Vec<String>,
    /// Default search domains.
    pub dns_search: Vec<String>,
    /// Version text shown to clients.
    pub version: String,
    /// Commit the daemon was built from, or empty.
    pub git_commit: String,
    /// RFC 3339 build time, or empty.
    pub build_time: String,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            data_root: "/var/lib/dhow".into(),
            exec_root: "/run/dhow".into(),
            shim: "dhow-shim".into(),
            net: "dhow-net".into(),
            bridge: "dhow0".into(),
            bridge_subnet: None,
            mtu: None,
            fixed_cidr: None,
            default_gateway: None,
            ipv6: false,
            bridge_subnet6: None,
            default_gateway6: None,
            icc: true,
            ip_masq: true,
            ip_forward_no_drop: false,
            bindings: Vec::new(),
            address_pools: Vec::new(),
            network_options: Vec::new(),
            log_driver: "json-file".into(),
            log_opts: Vec::new(),
            default_ulimits: Vec::new(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            registry_config_dirs: vec!["/etc/dhow/certs.d".into(), "/etc/docker/certs.d".into()],
            trust_policy: "/etc/dhow/trust.json".into(),
            trust_policy_named: false,
            layers: LayerFormat::Automatic,
            compact: Some(Duration::from_secs(600)),
            watermark: None,
            builder: BuilderSettings::default(),
            tag_versions: 100,
            default_shm_size: 64 << 20,
            init: false,
            no_new_privileges: false,
            cgroup_parent: "/dhow".into(),
            debug: false,
            hosts: Vec::new(),
            labels: Vec::new(),
            dns: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            version: env!("CARGO_PKG_VERSION").into(),
            git_commit: String::new(),
            build_time: String::new(),
        }
    }
}
