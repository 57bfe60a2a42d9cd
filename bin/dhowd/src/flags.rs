//! The table of dockerd's flags and `daemon.json` keys, and what becomes of each here.
//!
//! Every option dockerd knows has a row: it has an effect, it is accepted because it changes
//! nothing here, it is accepted with some values only, or it is refused with a reason. Nothing a
//! user asks for is dropped silently. Read by `settings` for both the command line and the file.

use clap::{Arg, ArgAction, Command};

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing, or `=true`/`=false`.
    Switch,
    /// One value.
    One,
    /// One value each time it is given.
    Many,
}

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It does what dockerd's does.
    Effect,
    /// Accepted with a notice: whatever its value, nothing here depends on it. The text completes
    /// "--x changes nothing: ".
    NoEffect(&'static str),
    /// Accepted when every value is among these, which is how this engine works anyway; otherwise
    /// refused for the reason.
    Only(&'static [&'static str], &'static str),
    /// Refused for the reason.
    Refused(&'static str),
}

/// One option.
#[derive(Debug)]
pub struct Flag {
    /// Name on the command line; empty for keys of the file alone.
    pub long: &'static str,
    /// One-letter form.
    pub short: Option<char>,
    /// What it takes.
    pub takes: Takes,
    /// Key in `daemon.json`; empty for options of the command line alone.
    pub key: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// Line of `--help`.
    pub help: &'static str,
}

const fn flag(long: &'static str, takes: Takes, key: &'static str, fate: Fate, help: &'static str) -> Flag {
    Flag { long, short: None, takes, key, fate, help }
}

const fn short(letter: char, flag: Flag) -> Flag {
    Flag { short: Some(letter), ..flag }
}

use Fate::{Effect, NoEffect, Only, Refused};
use Takes::{Many, One, Switch};

const NO_SWARM: &str = "there is no swarm mode";
const NO_CONTAINERD: &str = "no containerd runs below dhow";
const NO_TLS: &str =
    "the API is not served over TLS; keep it on a Unix socket and reach it over SSH (docker -H ssh://HOST)";
const NO_PROXY: &str = "registries are reached directly; proxies are not supported yet";

/// Every option, in alphabetical order.
pub const FLAGS: &[Flag] = &[
    flag(
        "add-runtime",
        Many,
        "runtimes",
        Refused("dhow runs containers itself; other OCI runtimes cannot be registered yet"),
        "Register an additional OCI runtime",
    ),
    flag(
        "allow-direct-routing",
        Switch,
        "allow-direct-routing",
        Only(&["false"], "access to container addresses from other hosts is not managed yet"),
        "Allow remote access to container addresses",
    ),
    flag(
        "authorization-plugin",
        Many,
        "authorization-plugins",
        Refused("authorization plugins are not supported"),
        "Authorization plugins to load",
    ),
    flag("bip", One, "bip", Effect, "IPv4 address and subnet of the default bridge, in CIDR form"),
    flag("bip6", One, "bip6", Effect, "IPv6 address of the default bridge"),
    short(
        'b',
        flag("bridge", One, "bridge", Effect, "Name of the default bridge; \"none\" disables bridge networking"),
    ),
    flag(
        "cdi-spec-dir",
        Many,
        "cdi-spec-dirs",
        Refused("CDI devices are not supported yet"),
        "CDI specification directories",
    ),
    flag("cgroup-parent", One, "cgroup-parent", Effect, "Parent control group of all containers"),
    flag("config-file", One, "", Effect, "Daemon configuration file (default /etc/dhow/daemon.json)"),
    flag("containerd", One, "containerd", NoEffect(NO_CONTAINERD), "Address of containerd"),
    flag("containerd-namespace", One, "containerd-namespace", NoEffect(NO_CONTAINERD), "Containerd namespace"),
    flag(
        "containerd-plugins-namespace",
        One,
        "containerd-plugin-namespace",
        NoEffect(NO_CONTAINERD),
        "Containerd namespace for plugins",
    ),
    flag(
        "cpu-rt-period",
        One,
        "cpu-rt-period",
        Refused("real-time scheduling of the parent control group is not supported"),
        "CPU real-time period, microseconds",
    ),
    flag(
        "cpu-rt-runtime",
        One,
        "cpu-rt-runtime",
        Refused("real-time scheduling of the parent control group is not supported"),
        "CPU real-time runtime, microseconds",
    ),
    flag(
        "cri-containerd",
        Switch,
        "cri-containerd",
        Only(&["false"], "no CRI service is offered"),
        "Start containerd with CRI",
    ),
    flag("data-root", One, "data-root", Effect, "Directory of images, containers and volumes (default /var/lib/dhow)"),
    short('D', flag("debug", Switch, "debug", Effect, "Log at debug level")),
    flag("default-address-pool", Many, "default-address-pools", Effect, "Address pools of local networks"),
    flag(
        "default-cgroupns-mode",
        One,
        "default-cgroupns-mode",
        Refused(
            "the default follows the host (private on cgroup v2, host on v1); use --cgroupns for single containers",
        ),
        "Default cgroup namespace mode",
    ),
    flag("default-gateway", One, "default-gateway", Effect, "Gateway of the default bridge"),
    flag("default-gateway-v6", One, "default-gateway-v6", Effect, "IPv6 gateway of the default bridge"),
    flag(
        "default-ipc-mode",
        One,
        "default-ipc-mode",
        Only(&["private"], "use --ipc shareable for single containers"),
        "Default IPC mode",
    ),
    flag("default-network-opt", Many, "default-network-opts", Effect, "Default network options"),
    flag(
        "default-runtime",
        One,
        "default-runtime",
        Only(&["runc", "dhow"], "dhow runs containers itself; other OCI runtimes cannot be used yet"),
        "Default OCI runtime",
    ),
    flag("default-shm-size", One, "default-shm-size", Effect, "Default size of /dev/shm (default 64MiB)"),
    flag("default-ulimit", Many, "default-ulimits", Effect, "Default ulimits of containers, NAME=SOFT[:HARD]"),
    flag("dns", Many, "dns", Effect, "DNS server of containers"),
    flag("dns-opt", Many, "dns-opts", Effect, "DNS options of containers"),
    flag("dns-search", Many, "dns-search", Effect, "DNS search domains of containers"),
    flag(
        "exec-opt",
        Many,
        "exec-opts",
        Only(&["native.cgroupdriver=cgroupfs"], "dhow makes control groups itself, without systemd"),
        "Runtime execution options",
    ),
    flag("exec-root", One, "exec-root", Effect, "Directory of run-time state (default /run/dhow)"),
    flag(
        "experimental",
        Switch,
        "experimental",
        NoEffect("there are no experimental features to enable"),
        "Enable experimental features",
    ),
    flag(
        "feature",
        Many,
        "features",
        NoEffect("there is one image store and no feature to switch"),
        "Enable a feature",
    ),
    flag("fixed-cidr", One, "fixed-cidr", Effect, "Range of container addresses on the default bridge"),
    flag("fixed-cidr-v6", One, "fixed-cidr-v6", Effect, "IPv6 subnet of the default bridge"),
    short('G', flag("group", One, "group", Effect, "Group of the Unix socket (default \"docker\")")),
    short(
        'H',
        flag(
            "host",
            Many,
            "hosts",
            Effect,
            "Address to listen on, unix://PATH or tcp://HOST:PORT (default unix:///run/dhow/dhow.sock)",
        ),
    ),
    flag(
        "host-gateway-ip",
        Many,
        "host-gateway-ips",
        Refused("host-gateway is the address of the default bridge"),
        "Addresses that host-gateway stands for",
    ),
    flag("http-proxy", One, "http-proxy", Refused(NO_PROXY), "HTTP proxy"),
    flag("https-proxy", One, "https-proxy", Refused(NO_PROXY), "HTTPS proxy"),
    flag("icc", Switch, "icc", Effect, "Communication between containers on the default bridge (default true)"),
    flag("init", Switch, "init", Effect, "Run an init as PID 1 of containers"),
    flag("init-path", One, "init-path", NoEffect("the init is built in"), "Path of the init"),
    flag("insecure-registry", Many, "insecure-registries", Effect, "Registry to reach without verified TLS"),
    flag("ip", One, "ip", Effect, "Default host address of published ports"),
    flag(
        "ip-forward",
        Switch,
        "ip-forward",
        Only(&["true"], "containers on the bridge need IP forwarding; use --bridge none to leave it alone"),
        "Enable IP forwarding",
    ),
    flag(
        "ip-forward-no-drop",
        Switch,
        "ip-forward-no-drop",
        Effect,
        "Let other links of the host reach each other where the daemon has enabled IP forwarding",
    ),
    flag(
        "ip-masq",
        Switch,
        "ip-masq",
        Effect,
        "Containers on the default bridge take the host's address elsewhere (default true)",
    ),
    flag(
        "ip6tables",
        Switch,
        "ip6tables",
        NoEffect("packet filter rules live in a table of dhow's own"),
        "Add ip6tables rules",
    ),
    flag(
        "iptables",
        Switch,
        "iptables",
        Only(&["true"], "published ports and masquerading need packet filter rules; use --bridge none to have none"),
        "Add iptables rules",
    ),
    flag("ipv6", Switch, "ipv6", Effect, "Enable IPv6 on the default bridge"),
    flag("label", Many, "labels", Effect, "Label of the daemon, KEY=VALUE"),
    flag(
        "live-restore",
        Switch,
        "live-restore",
        NoEffect("containers always keep running when the daemon stops, and are adopted again"),
        "Keep containers alive while the daemon is down",
    ),
    flag("log-driver", One, "log-driver", Effect, "Default log driver, json-file or none"),
    flag("log-format", One, "log-format", Only(&["text"], "the daemon logs text only"), "Format of the daemon's log"),
    short('l', flag("log-level", One, "log-level", Effect, "debug, info, warn, error or fatal (default info)")),
    flag("log-opt", Many, "log-opts", Effect, "Default log driver options, KEY=VALUE"),
    flag(
        "max-concurrent-downloads",
        One,
        "max-concurrent-downloads",
        NoEffect("layers are fetched three at a time"),
        "Concurrent downloads of a pull",
    ),
    flag(
        "max-concurrent-uploads",
        One,
        "max-concurrent-uploads",
        NoEffect("images cannot be pushed yet"),
        "Concurrent uploads of a push",
    ),
    flag(
        "max-download-attempts",
        One,
        "max-download-attempts",
        NoEffect("broken downloads are resumed a fixed number of times"),
        "Download attempts of a pull",
    ),
    flag(
        "metrics-addr",
        One,
        "metrics-addr",
        Refused("no metrics endpoint is offered yet"),
        "Address to serve metrics on",
    ),
    flag("mtu", One, "mtu", Effect, "MTU of the default bridge"),
    flag(
        "network-control-plane-mtu",
        One,
        "network-control-plane-mtu",
        NoEffect(NO_SWARM),
        "Network control plane MTU",
    ),
    flag("no-new-privileges", Switch, "no-new-privileges", Effect, "Set no-new-privileges on containers by default"),
    flag("no-proxy", One, "no-proxy", NoEffect("no proxy is used"), "Hosts that are reached without a proxy"),
    flag("node-generic-resource", Many, "node-generic-resources", NoEffect(NO_SWARM), "Advertise a resource"),
    short('p', flag("pidfile", One, "pidfile", Effect, "Path of the PID file (default /run/dhow/dhowd.pid)")),
    flag("raw-logs", Switch, "raw-logs", Effect, "Log without colours"),
    flag(
        "registry-config-dir",
        One,
        "registry-config-dir",
        Effect,
        "Directory of certificates and hosts.toml of registries (default /etc/dhow/certs.d)",
    ),
    flag("registry-mirror", Many, "registry-mirrors", Effect, "Mirror of Docker Hub"),
    flag(
        "rootless",
        Switch,
        "rootless",
        Only(&["false"], "rootless operation is not supported yet"),
        "Enable rootless mode",
    ),
    flag(
        "seccomp-profile",
        One,
        "seccomp-profile",
        Only(&["builtin", ""], "give the profile to single containers with --security-opt seccomp=FILE"),
        "Default seccomp profile",
    ),
    flag(
        "selinux-enabled",
        Switch,
        "selinux-enabled",
        Only(&["false"], "SELinux labels are not supported"),
        "Enable SELinux",
    ),
    flag(
        "shutdown-timeout",
        One,
        "shutdown-timeout",
        NoEffect("containers keep running when the daemon stops"),
        "Seconds containers get when the daemon stops",
    ),
    short(
        's',
        flag(
            "storage-driver",
            One,
            "storage-driver",
            Effect,
            "How layers are kept: erofs (indexed archives), overlay2 (directories); by default the best there is",
        ),
    ),
    flag(
        "storage-opt",
        Many,
        "storage-opts",
        Effect,
        "Storage options: compressed=reproduce|keep, compressed-after=10m, gc-high=85%, gc-low=80%, gc-min-age=24h, tag-versions=100",
    ),
    flag(
        "swarm-default-advertise-addr",
        One,
        "swarm-default-advertise-addr",
        NoEffect(NO_SWARM),
        "Advertised swarm address",
    ),
    flag("tls", Switch, "tls", Only(&["false"], NO_TLS), "Use TLS"),
    flag("tlscacert", One, "tlscacert", Refused(NO_TLS), "CA certificate"),
    flag("tlscert", One, "tlscert", Refused(NO_TLS), "TLS certificate"),
    flag("tlskey", One, "tlskey", Refused(NO_TLS), "TLS key"),
    flag("tlsverify", Switch, "tlsverify", Only(&["false"], NO_TLS), "Use TLS and verify the client"),
    flag(
        "userland-proxy",
        Switch,
        "userland-proxy",
        NoEffect("published ports are served by the kernel, and by dhow-net where it cannot"),
        "Use a proxy process for loopback traffic",
    ),
    flag(
        "userland-proxy-path",
        One,
        "userland-proxy-path",
        NoEffect("published ports are served by the kernel, and by dhow-net where it cannot"),
        "Path of the proxy binary",
    ),
    flag(
        "userns-remap",
        One,
        "userns-remap",
        Only(&[""], "remapping of user ids is not supported yet"),
        "User namespaces",
    ),
    flag("validate", Switch, "", Effect, "Check the configuration and exit"),
    short('v', flag("version", Switch, "", Effect, "Print the version and exit")),
    // Ours.
    flag("net", One, "net", Effect, "Path of dhow-net (default: beside dhowd)"),
    flag("shim", One, "shim", Effect, "Path of dhow-shim (default: beside dhowd)"),
    flag(
        "trust-policy",
        One,
        "trust-policy",
        Effect,
        "Policy for signatures of images (default: /etc/dhow/trust.json, if it is there)",
    ),
    // Keys without a flag.
    flag("", Many, "allow-nondistributable-artifacts", NoEffect("images cannot be pushed yet"), ""),
    flag("", Many, "builder", Effect, ""),
    flag("", One, "default-host-ip", Refused("give the host address with each published port"), ""),
    flag("", One, "min-api-version", Only(&["1.24"], "versions from 1.24 on are always accepted"), ""),
    flag("", Many, "proxies", Refused(NO_PROXY), ""),
    flag("", One, "host-gateway-ip", Refused("host-gateway is the address of the default bridge"), ""),
    flag(
        "",
        One,
        "firewall-backend",
        Only(&["nftables", ""], "packet filter rules are nftables rules of dhow's own"),
        "",
    ),
];

/// The row of a `daemon.json` key.
pub fn by_key(key: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|f| !f.key.is_empty() && f.key == key)
}

/// The command line as clap reads it.
pub fn command() -> Command {
    let mut command = Command::new("dhowd")
        .about("A self-sufficient runtime for containers, speaking Docker's API")
        .override_usage("dhowd [OPTIONS]")
        .disable_version_flag(true);
    for flag in FLAGS.iter().filter(|f| !f.long.is_empty()) {
        let help = match flag.fate {
            Effect => flag.help.to_owned(),
            NoEffect(_) => format!("{} (accepted, changes nothing)", flag.help),
            Only(values, _) => {
                format!("{} (only {})", flag.help, values.iter().find(|v| !v.is_empty()).unwrap_or(&"empty"))
            }
            Refused(_) => format!("{} (not supported)", flag.help),
        };
        let mut arg = Arg::new(flag.long).long(flag.long).help(help).action(ArgAction::Append);
        arg = match flag.takes {
            Switch => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("BOOL")
                .hide_possible_values(true),
            One | Many => arg.num_args(1).allow_hyphen_values(true),
        };
        if let Some(letter) = flag.short {
            arg = arg.short(letter);
        }
        command = command.arg(arg);
    }
    command
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn by_long(long: &str) -> Option<&'static Flag> {
        FLAGS.iter().find(|f| !f.long.is_empty() && f.long == long)
    }

    /// What `dockerd --help` of 28.5.2 lists.
    const DOCKERD: &str = "add-runtime allow-direct-routing authorization-plugin bip bip6 bridge cdi-spec-dir cgroup-parent \
        config-file containerd containerd-namespace containerd-plugins-namespace cpu-rt-period cpu-rt-runtime cri-containerd \
        data-root debug default-address-pool default-cgroupns-mode default-gateway default-gateway-v6 default-ipc-mode \
        default-network-opt default-runtime default-shm-size default-ulimit dns dns-opt dns-search exec-opt exec-root \
        experimental feature fixed-cidr fixed-cidr-v6 group host host-gateway-ip http-proxy https-proxy icc init init-path \
        insecure-registry ip ip-forward ip-forward-no-drop ip-masq ip6tables iptables ipv6 label live-restore log-driver \
        log-format log-level log-opt max-concurrent-downloads max-concurrent-uploads max-download-attempts metrics-addr mtu \
        network-control-plane-mtu no-new-privileges no-proxy node-generic-resource pidfile raw-logs registry-mirror rootless \
        seccomp-profile selinux-enabled shutdown-timeout storage-driver storage-opt swarm-default-advertise-addr tls tlscacert \
        tlscert tlskey tlsverify userland-proxy userland-proxy-path userns-remap validate version";

    #[test]
    fn every_dockerd_flag_has_a_row() {
        for name in DOCKERD.split_whitespace() {
            assert!(by_long(name).is_some(), "--{name} has no row");
        }
    }

    #[test]
    fn rows_are_unique_and_explained() {
        let (mut longs, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for flag in FLAGS {
            assert!(flag.long.is_empty() || longs.insert(flag.long), "--{} twice", flag.long);
            assert!(flag.key.is_empty() || keys.insert(flag.key), "{} twice", flag.key);
            assert!(!flag.long.is_empty() || !flag.key.is_empty());
            assert_eq!(flag.long.is_empty(), flag.help.is_empty(), "{}{}", flag.long, flag.key);
            match flag.fate {
                Effect => {}
                NoEffect(why) | Refused(why) | Only(_, why) => assert!(why.len() > 10, "{}", flag.long),
            }
        }
        command().debug_assert();
    }

    #[test]
    fn short_forms_are_dockerds() {
        let shorts: String = FLAGS.iter().filter_map(|f| f.short).collect();
        assert_eq!(shorts, "bDGHlpsv");
    }
}
