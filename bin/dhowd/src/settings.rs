//! From the command line and `daemon.json` to one set of settings.
//!
//! An option may come from either, never from both: dockerd refuses that, and so do we, in its
//! words. Unknown keys of the file are refused too. Called once at start, and for the file alone on
//! SIGHUP.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;
use engine::EngineConfig;
use serde_json::Value;

use crate::flags::{FLAGS, Fate, Flag, Takes, by_key};

/// Where the configuration file is unless `--config-file` says otherwise.
const DEFAULT_FILE: &str = "/etc/dhow/daemon.json";
/// Keys whose value in the file may be a number.
const NUMBERS: [&str; 9] = [
    "cpu-rt-period",
    "cpu-rt-runtime",
    "default-shm-size",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "mtu",
    "network-control-plane-mtu",
    "shutdown-timeout",
];
/// Largest configuration file read.
const MAX_FILE: u64 = 1 << 20;

/// Everything the daemon needs to start.
#[derive(Debug)]
pub struct Settings {
    /// For the engine.
    pub engine: EngineConfig,
    /// Addresses to listen on, as given; never empty.
    pub hosts: Vec<String>,
    /// Group of Unix sockets.
    pub group: String,
    /// PID file, in the exec root unless given.
    pub pidfile: PathBuf,
    /// `debug`, `info`, `warn` or `error`.
    pub log_level: String,
    /// Whether the log may be coloured.
    pub colours: bool,
    /// Check the configuration and exit.
    pub validate: bool,
    /// The file the settings came from, for SIGHUP.
    pub config_file: PathBuf,
    /// What to tell the user about options that change nothing.
    pub notices: Vec<String>,
}

/// Values by key or, for options of the command line alone, by flag.
#[derive(Debug, Default)]
struct Values(BTreeMap<&'static str, Vec<String>>);

/// Reads the command line (already parsed) and the configuration file.
///
/// # Errors
/// The text for the user: which option, why, and in the file's case which file.
pub fn read(matches: &ArgMatches) -> Result<Settings, String> {
    let mut values = Values::default();
    let mut notices = Vec::new();
    let explicit = |flag: &Flag| matches.value_source(flag.long) == Some(ValueSource::CommandLine);
    let from_flag =
        |flag: &Flag| -> Vec<String> { matches.get_many::<String>(flag.long).into_iter().flatten().cloned().collect() };

    let named = FLAGS.iter().find(|f| f.long == "config-file" && explicit(f)).and_then(|f| from_flag(f).pop());
    let config_file = PathBuf::from(named.as_deref().unwrap_or(DEFAULT_FILE));
    let file = read_file(&config_file, named.is_some())?;
    let wrap =
        |text: String| format!("unable to configure the Docker daemon with file {}: {text}", config_file.display());
    let conflicts: Vec<String> = FLAGS
        .iter()
        .filter(|f| !f.long.is_empty() && !f.key.is_empty() && explicit(f))
        .filter_map(|f| file.get(f.key).map(|value| (f, value)))
        .map(|(f, value)| {
            let given = from_flag(f);
            let given = if f.takes == Takes::Many {
                format!("[{}]", given.join(" "))
            } else {
                given.last().cloned().unwrap_or_default()
            };
            format!("{}: (from flag: {given}, from file: {})", f.key, as_go_prints(value))
        })
        .collect();
    if !conflicts.is_empty() {
        return Err(wrap(format!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            conflicts.join(", ")
        )));
    }

    for flag in FLAGS.iter().filter(|f| !f.long.is_empty() && explicit(f)) {
        let given = from_flag(flag);
        let given = if flag.takes == Takes::Many { given } else { given.into_iter().next_back().into_iter().collect() };
        values.take(flag, &format!("--{}", flag.long), given, &mut notices)?;
    }
    for (key, value) in &file {
        let flag = by_key(key).ok_or_else(|| wrap(format!("no such option: {key}")))?;
        let given = file_values(flag, value).map_err(&wrap)?;
        values.take(flag, key, given, &mut notices).map_err(&wrap)?;
    }
    values.settings(config_file, notices)
}

/// The configuration file as an object; a missing file is empty unless it was asked for.
///
/// # Errors
/// Unreadable, too large, not a JSON object, or with unknown keys.
pub fn read_file(path: &Path, required: bool) -> Result<serde_json::Map<String, Value>, String> {
    let wrap = |text: String| format!("unable to configure the Docker daemon with file {}: {text}", path.display());
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => return Ok(serde_json::Map::new()),
        Err(e) => return Err(wrap(e.to_string())),
        Ok(found) if found.len() > MAX_FILE => return Err(wrap(format!("the file is larger than {MAX_FILE} bytes"))),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(|e| wrap(e.to_string()))?;
    if text.trim().is_empty() {
        return Ok(serde_json::Map::new());
    }
    let object: serde_json::Map<String, Value> =
        serde_json::from_str(&text).map_err(|e| wrap(format!("invalid JSON: {e}")))?;
    let unknown: Vec<&str> = object.keys().map(String::as_str).filter(|k| by_key(k).is_none()).collect();
    if !unknown.is_empty() {
        return Err(wrap(format!(
            "the following directives don't match any configuration option: {}",
            unknown.join(", ")
        )));
    }
    Ok(object)
}

/// A value of the file as the texts a flag would have been given.
fn file_values(flag: &Flag, value: &Value) -> Result<Vec<String>, String> {
    let bad = |wanted: &str| format!("invalid value for {}: {value} is not {wanted}", flag.key);
    let scalar = |v: &Value| match v {
        Value::String(s) => Some(s.clone()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    };
    match (flag.takes, value) {
        (_, Value::Null) => Ok(Vec::new()),
        (Takes::Switch, Value::Bool(b)) => Ok(vec![b.to_string()]),
        (Takes::Switch, _) => Err(bad("true or false")),
        (Takes::One, Value::Number(n)) if NUMBERS.contains(&flag.key) => Ok(vec![n.to_string()]),
        (Takes::One, Value::String(s)) => Ok(vec![s.clone()]),
        (Takes::One, _) => Err(bad(if NUMBERS.contains(&flag.key) { "a number" } else { "a text" })),
        // A document of its own, read by `builder`.
        (Takes::Many, Value::Object(_)) if flag.key == "builder" => Ok(vec![value.to_string()]),
        (Takes::Many, _) if flag.key == "builder" => Err(bad("an object such as {\"gc\": {\"enabled\": true}}")),
        // {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}}
        (Takes::Many, Value::Object(map)) if flag.key == "default-ulimits" => map
            .iter()
            .map(|(name, limit)| {
                let side = |key: &str| limit.get(key).and_then(Value::as_i64);
                match (side("Soft"), side("Hard")) {
                    (Some(soft), Some(hard)) => Ok(format!("{name}={soft}:{hard}")),
                    _ => Err(bad("an object of {\"Soft\": …, \"Hard\": …}")),
                }
            })
            .collect(),
        // {"bridge": {"com.docker.network.driver.mtu": "1400"}} is bridge=com.docker.network.driver.mtu=1400.
        (Takes::Many, Value::Object(map)) if flag.key == "default-network-opts" => map
            .iter()
            .flat_map(|(driver, options)| {
                let options = options.as_object().cloned().unwrap_or_default();
                options.into_iter().map(move |(key, value)| {
                    scalar(&value)
                        .map(|value| format!("{driver}={key}={value}"))
                        .ok_or_else(|| bad("options of each driver, as texts"))
                })
            })
            .collect(),
        (Takes::Many, Value::Object(map)) => {
            Ok(map.iter().map(|(k, v)| format!("{k}={}", scalar(v).unwrap_or_else(|| v.to_string()))).collect())
        }
        (Takes::Many, Value::Array(list)) if flag.key == "default-address-pools" => list
            .iter()
            .map(|pool| match (pool.get("base").and_then(scalar), pool.get("size").and_then(scalar)) {
                (Some(base), Some(size)) => Ok(format!("base={base},size={size}")),
                _ => Err(bad("objects with \"base\" and \"size\"")),
            })
            .collect(),
        (Takes::Many, Value::Array(list)) => {
            list.iter().map(|v| Ok(scalar(v).unwrap_or_else(|| v.to_string()))).collect()
        }
        (Takes::Many, _) => Err(bad("a list")),
    }
}

/// A value as Go's `%v` shows it, for the text of a conflict.
fn as_go_prints(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(s) => s.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(as_go_prints).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            format!(
                "map[{}]",
                map.iter().map(|(k, v)| format!("{k}:{}", as_go_prints(v))).collect::<Vec<_>>().join(" ")
            )
        }
        other => other.to_string(),
    }
}

/// `true`/`false` as Go's flag package reads them.
fn boolean(name: &str, text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("invalid value {other:?} for {name}: use true or false")),
    }
}

impl Values {
    /// Applies an option's fate to what it was given.
    fn take(&mut self, flag: &Flag, name: &str, given: Vec<String>, notices: &mut Vec<String>) -> Result<(), String> {
        let given: Vec<String> = match flag.takes {
            Takes::Switch => given.iter().map(|v| boolean(name, v).map(|b| b.to_string())).collect::<Result<_, _>>()?,
            _ => given,
        };
        match flag.fate {
            // An empty list or map in the file asks for nothing.
            Fate::Refused(_) | Fate::Only(..) if given.is_empty() => {}
            Fate::Refused(why) => return Err(format!("{name} is not supported: {why}")),
            Fate::Only(values, why) => {
                if let Some(other) = given.iter().find(|g| !values.contains(&g.as_str())) {
                    return Err(format!("{name}={other} is not supported: {why}"));
                }
            }
            Fate::NoEffect(why) => notices.push(format!("{name} changes nothing: {why}")),
            Fate::Effect => {
                let slot = if flag.key.is_empty() { flag.long } else { flag.key };
                let known = FLAGS.iter().map(|f| if f.key.is_empty() { f.long } else { f.key }).find(|k| *k == slot);
                if let Some(known) = known {
                    self.0.insert(known, given);
                }
            }
        }
        Ok(())
    }

    fn list(&self, key: &str) -> Vec<String> {
        self.0.get(key).cloned().unwrap_or_default()
    }

    fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).and_then(|v| v.last()).filter(|v| !v.is_empty()).cloned()
    }

    fn switch(&self, key: &str) -> bool {
        self.text(key).is_some_and(|v| v == "true")
    }

    fn switch_or(&self, key: &str, default: bool) -> bool {
        self.text(key).map_or(default, |v| v == "true")
    }

    /// `DRIVER=KEY=VALUE` each.
    fn network_options(&self) -> Result<Vec<(String, String, String)>, String> {
        let read = |text: String| {
            let (driver, rest) = text.split_once('=')?;
            let (key, value) = rest.split_once('=')?;
            Some((driver.to_owned(), key.to_owned(), value.to_owned()))
        };
        let wrong = |text: &str| format!("invalid default-network-opt {text}: write DRIVER=KEY=VALUE");
        self.list("default-network-opts")
            .into_iter()
            .map(|text| read(text.clone()).ok_or_else(|| wrong(&text)))
            .collect()
    }

    fn path(&self, key: &str, default: &str) -> Result<PathBuf, String> {
        let path = PathBuf::from(self.text(key).unwrap_or_else(|| default.to_owned()));
        if path.is_absolute() {
            return Ok(path);
        }
        std::path::absolute(&path).map_err(|e| format!("invalid {key} {}: {e}", path.display()))
    }

    fn settings(&self, config_file: PathBuf, notices: Vec<String>) -> Result<Settings, String> {
        let defaults = EngineConfig::default();
        let mut hosts = self.list("hosts");
        if hosts.is_empty() {
            hosts.push("unix:///run/dhow/dhow.sock".to_owned());
        }
        let debug = self.switch("debug");
        let log_level = match self.text("log-level").as_deref() {
            None if debug => "debug",
            None => "info",
            Some("fatal" | "panic") => "error",
            Some("warning") => "warn",
            Some(known @ ("trace" | "debug" | "info" | "warn" | "error")) => known,
            Some(other) => {
                return Err(format!("invalid logging level: {other}: use debug, info, warn, error or fatal"));
            }
        }
        .to_owned();
        let log_driver = self.text("log-driver").unwrap_or(defaults.log_driver);
        if !matches!(log_driver.as_str(), "json-file" | "none") {
            return Err(format!("log-driver {log_driver} is not supported: use json-file or none"));
        }
        let log_opts =
            self.list("log-opts").into_iter().map(|o| key_value("log-opts", &o)).collect::<Result<_, _>>()?;
        let labels = self.list("labels");
        for label in &labels {
            key_value("label", label)?;
        }
        let default_ulimits = self.list("default-ulimits").iter().map(|u| ulimit(u)).collect::<Result<_, _>>()?;
        let default_shm_size = match self.text("default-shm-size") {
            None => defaults.default_shm_size,
            Some(text) => types::ram_in_bytes(&text)
                .ok()
                .and_then(|n| i64::try_from(n).ok())
                .ok_or_else(|| format!("invalid default-shm-size {text}: use a size such as 64m"))?,
        };
        let mtu = match self.text("mtu") {
            None => None,
            Some(text) => match text.parse::<u32>() {
                Ok(0) => None,
                Ok(mtu @ 68..=65535) => Some(mtu),
                _ => return Err(format!("invalid mtu {text}: use a number of bytes from 68 to 65535")),
            },
        };
        for (key, list) in [("dns", self.list("dns"))] {
            if let Some(bad) = list.iter().find(|d| d.parse::<std::net::IpAddr>().is_err()) {
                return Err(format!("invalid {key} {bad}: name servers are given by IP address"));
            }
        }
        let layers = match self.text("storage-driver").as_deref() {
            None | Some("" | "overlayfs") => engine::LayerFormat::Automatic,
            Some("erofs") => engine::LayerFormat::Indexed,
            Some("overlay2") => engine::LayerFormat::Directories,
            Some(other) => {
                return Err(format!("storage-driver {other} is not supported: use erofs, overlay2, or leave it out"));
            }
        };
        let exec_root = self.path("exec-root", "/run/dhow")?;
        // Beside the rest of the run-time state, so that two daemons with roots of their own agree.
        let pidfile = match self.text("pidfile") {
            Some(_) => self.path("pidfile", "")?,
            None => exec_root.join("dhowd.pid"),
        };
        let mut engine = EngineConfig {
            data_root: self.path("data-root", "/var/lib/dhow")?,
            exec_root,
            shim: self.text("shim").map_or_else(|| find_beside("dhow-shim"), PathBuf::from),
            net: self.text("net").map_or_else(|| find_beside("dhow-net"), PathBuf::from),
            bridge: self.text("bridge").unwrap_or(defaults.bridge),
            bridge_subnet: self.text("bip"),
            mtu,
            fixed_cidr: self.text("fixed-cidr"),
            default_gateway: self.text("default-gateway"),
            ipv6: self.switch("ipv6"),
            bridge_subnet6: self.text("bip6").or_else(|| self.text("fixed-cidr-v6")),
            default_gateway6: self.text("default-gateway-v6"),
            icc: self.switch_or("icc", true),
            ip_masq: self.switch_or("ip-masq", true),
            ip_forward_no_drop: self.switch_or("ip-forward-no-drop", false),
            bindings: match self.text("ip").as_deref() {
                None | Some("" | "0.0.0.0") => Vec::new(),
                Some(text) => {
                    vec![text.parse().map_err(|_| format!("invalid ip {text}: give the address of this host"))?]
                }
            },
            address_pools: self
                .list("default-address-pools")
                .iter()
                .map(|text| engine::parse_address_pool(text))
                .collect::<Result<_, _>>()?,
            network_options: self.network_options()?,
            log_driver,
            log_opts,
            default_ulimits,
            insecure_registries: self.list("insecure-registries"),
            registry_mirrors: self.list("registry-mirrors"),
            registry_config_dirs: match self.text("registry-config-dir") {
                Some(_) => vec![self.path("registry-config-dir", "")?, "/etc/docker/certs.d".into()],
                None => defaults.registry_config_dirs,
            },
            trust_policy: match self.text("trust-policy") {
                Some(_) => self.path("trust-policy", "")?,
                None => defaults.trust_policy,
            },
            trust_policy_named: self.text("trust-policy").is_some(),
            layers,
            default_shm_size,
            init: self.switch("init"),
            no_new_privileges: self.switch("no-new-privileges"),
            cgroup_parent: self.text("cgroup-parent").unwrap_or(defaults.cgroup_parent),
            debug: log_level == "debug",
            hosts: hosts.clone(),
            labels,
            dns: self.list("dns"),
            dns_options: self.list("dns-opts"),
            dns_search: self.list("dns-search"),
            ..EngineConfig::default()
        };
        let options = self.list("storage-opts").into_iter().map(|option| key_value("storage-opt", &option));
        if let Some(text) = self.text("builder") {
            engine.builder = crate::builder::read(&text).map_err(|e| {
                format!("unable to configure the Docker daemon with file {}: {e}", config_file.display())
            })?;
        }
        crate::storage::apply(&options.collect::<Result<Vec<_>, _>>()?, &mut engine)?;
        Ok(Settings {
            engine,
            hosts,
            group: self.text("group").unwrap_or_else(|| "docker".to_owned()),
            pidfile,
            log_level,
            colours: !self.switch("raw-logs"),
            validate: self.switch("validate"),
            config_file,
            notices,
        })
    }
}

/// Our programs belong to the same build as the daemon, so the file beside it comes first.
fn find_beside(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
    let places = ["/usr/libexec/dhow", "/usr/local/bin", "/usr/bin"].map(|place| Path::new(place).join(name));
    match beside {
        Some(path) if path.exists() => path,
        _ => places.into_iter().find(|p| p.exists()).unwrap_or_else(|| name.into()),
    }
}

fn key_value(name: &str, text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("invalid {name} {text:?}: use KEY=VALUE")),
    }
}

/// `NAME=SOFT[:HARD]`, -1 for unlimited; the hard limit is the soft one when left out.
fn ulimit(text: &str) -> Result<(String, i64, i64), String> {
    let bad = || format!("invalid default-ulimit {text:?}: use NAME=SOFT[:HARD] with soft not above hard");
    let (name, limits) = text.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard): (i64, i64) = (soft.parse().map_err(|_| bad())?, hard.parse().map_err(|_| bad())?);
    if name.is_empty() || (hard >= 0 && (soft > hard || soft < 0)) {
        return Err(bad());
    }
    Ok((name.to_owned(), soft, hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(args: &[&str], file: Option<&str>) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        std::fs::write(&path, file.unwrap_or("")).unwrap();
        let mut line = vec!["dhowd", "--config-file", path.to_str().unwrap()];
        line.extend_from_slice(args);
        read(&crate::flags::command().try_get_matches_from(line).map_err(|e| e.to_string())?)
    }

    #[test]
    fn defaults() {
        let s = read_with(&[], None).unwrap();
        assert_eq!(s.hosts, ["unix:///run/dhow/dhow.sock"]);
        assert_eq!(s.engine.data_root, Path::new("/var/lib/dhow"));
        assert_eq!(s.engine.exec_root, Path::new("/run/dhow"));
        assert_eq!(s.pidfile, Path::new("/run/dhow/dhowd.pid"));
        assert_eq!((s.group.as_str(), s.log_level.as_str(), s.engine.debug), ("docker", "info", false));
        assert_eq!(s.engine.default_shm_size, 64 << 20);
        assert!(s.notices.is_empty());
    }

    #[test]
    fn flags_and_file_have_the_same_effect() {
        let flags = read_with(
            &[
                "-D",
                "-H",
                "unix:///a",
                "-H",
                "tcp://127.0.0.1:1",
                "--label",
                "a=b",
                "--default-ulimit",
                "nofile=10:20",
                "--default-shm-size",
                "128m",
                "--log-opt",
                "max-size=10m",
                "--mtu",
                "1400",
                "--init=true",
                "-b",
                "none",
            ],
            None,
        )
        .unwrap();
        let file = read_with(
            &[],
            Some(
                r#"{"debug":true,"hosts":["unix:///a","tcp://127.0.0.1:1"],"labels":["a=b"],"bridge":"none","mtu":1400,"init":true,
                    "default-ulimits":{"nofile":{"Name":"nofile","Hard":20,"Soft":10}},"default-shm-size":"128m","log-opts":{"max-size":"10m"}}"#,
            ),
        )
        .unwrap();
        assert_eq!(format!("{:?}", flags.engine), format!("{:?}", file.engine));
        assert_eq!(flags.engine.default_ulimits, [("nofile".to_owned(), 10, 20)]);
        assert_eq!(flags.engine.default_shm_size, 128 << 20);
        assert_eq!(flags.engine.log_opts, [("max-size".to_owned(), "10m".to_owned())]);
        assert_eq!((flags.hosts.len(), flags.log_level.as_str(), flags.engine.mtu), (2, "debug", Some(1400)));
        assert_eq!(flags.engine.bridge, "none");
    }

    #[test]
    fn conflicts_and_unknown_keys_in_dockers_words() {
        let e = read_with(&["-D", "-H", "unix:///y"], Some(r#"{"debug":true,"hosts":["unix:///x"]}"#)).unwrap_err();
        assert!(
            e.ends_with("the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: true), hosts: (from flag: [unix:///y], from file: [unix:///x])"),
            "{e}"
        );
        let e = read_with(&[], Some(r#"{"debug":true,"foo":1}"#)).unwrap_err();
        assert!(e.ends_with("the following directives don't match any configuration option: foo"), "{e}");
        assert!(read_with(&[], Some("{bad")).unwrap_err().contains("invalid JSON"));
        assert!(read_with(&[], Some(r#"{"debug":"x"}"#)).is_err());
        assert!(read_with(&[], Some(r#"{"data-root":7}"#)).unwrap_err().contains("data-root"));
        assert!(NUMBERS.iter().all(|key| by_key(key).is_some_and(|f| f.takes == Takes::One)));
    }

    #[test]
    fn fates() {
        let s = read_with(
            &["--live-restore", "--containerd=/run/c.sock", "--userns-remap", "", "-s", "overlay2", "--icc=true"],
            None,
        )
        .unwrap();
        assert_eq!(s.notices.len(), 2, "{:?}", s.notices);
        for refused in [
            &["--tlsverify"][..],
            &["--default-address-pool", "10.0.0.0/8"],
            &["--default-network-opt", "bridge"],
            &["--ip", "here"],
            &["--add-runtime", "x=/y"],
            &["-s", "btrfs"],
            &["--log-driver", "syslog"],
            &["--log-level", "loud"],
            &["--mtu", "1"],
            &["--default-ulimit", "nofile=20:10"],
            &["--default-shm-size", "much"],
            &["--dns", "example.org"],
            &["--label", "novalue"],
            &["--debug=maybe"],
        ] {
            assert!(read_with(refused, None).is_err(), "{refused:?}");
        }
        assert!(read_with(&[], Some(r#"{"runtimes":{"nvidia":{"path":"x"}}}"#)).is_err());
        assert!(read_with(&[], Some(r#"{"runtimes":{},"storage-opts":[]}"#)).is_ok());
        let s = read_with(&["--tls=false", "--debug=0"], None).unwrap();
        assert_eq!(s.log_level, "info");
    }
}
