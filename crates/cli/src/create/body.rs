//! Puts the parts of a create request together.

use std::{env, fs, path::Path};

use serde_json::{Map, Value, json};

use super::{environment, mounts, network, pair, resources};
use crate::{Error, Result, flags::Parsed};

/// Largest seccomp profile read, in bytes.
const MAX_PROFILE: u64 = 16 * 1024 * 1024;

/// A create request before it is sent.
#[derive(Clone, Debug)]
pub(crate) struct CreateRequest {
    pub(crate) name: String,
    pub(crate) platform: String,
    pub(crate) image: String,
    pub(crate) body: Value,
    pub(crate) auto_remove: bool,
    pub(crate) tty: bool,
    /// Streams to attach to: input, output, errors.
    pub(crate) attach: (bool, bool, bool),
}

/// Builds the request; `detached` is what `run -d` adds to the flags of `create`.
pub(crate) fn request(parsed: &Parsed, detached: bool) -> Result<CreateRequest> {
    let attach = attach(parsed, detached)?;
    let (tty, open_stdin) = (parsed.on("tty"), parsed.on("interactive"));
    let image = parsed.first().to_owned();
    let mut config = Map::new();
    let mut host = Map::new();
    let set = |map: &mut Map<String, Value>, key: &str, value: Value| drop(map.insert(key.into(), value));

    set(&mut config, "Image", json!(image));
    for (key, on) in [
        ("AttachStdin", attach.0),
        ("AttachStdout", attach.1),
        ("AttachStderr", attach.2),
        ("Tty", tty),
        ("OpenStdin", open_stdin),
        // The container's input ends with the first client that gave it some.
        ("StdinOnce", open_stdin && attach.0),
    ] {
        if on {
            set(&mut config, key, json!(true));
        }
    }
    for (flag, key) in [
        ("hostname", "Hostname"),
        ("domainname", "Domainname"),
        ("user", "User"),
        ("workdir", "WorkingDir"),
        ("stop-signal", "StopSignal"),
    ] {
        if let Some(value) = parsed.opt(flag) {
            set(&mut config, key, json!(value));
        }
    }
    if parsed.given("stop-timeout") {
        set(&mut config, "StopTimeout", json!(parsed.int("stop-timeout")));
    }
    if parsed.args.len() > 1 {
        set(&mut config, "Cmd", json!(parsed.args[1..]));
    }
    if let Some(entrypoint) = parsed.opt("entrypoint") {
        set(&mut config, "Entrypoint", json!([entrypoint]));
    }
    let variables = environment(parsed.list("env-file"), parsed.list("env"), |name| env::var(name).ok())?;
    put_list(&mut config, "Env", variables);
    let labels = environment::labels(parsed.list("label-file"), parsed.list("label"))?;
    put_map(&mut config, "Labels", labels.iter().map(String::as_str));
    if let Some(check) = health(parsed)? {
        set(&mut config, "Healthcheck", check);
    }
    let cwd = env::current_dir().unwrap_or_else(|_| Path::new("/").to_owned());
    let volumes = mounts::volumes(parsed.list("volume"), &cwd)?;
    if !volumes.anonymous.is_empty() {
        let map = volumes.anonymous.into_iter().map(|target| (target, json!({}))).collect();
        set(&mut config, "Volumes", Value::Object(map));
    }
    let (exposed, bindings) = network::ports(parsed)?;
    if !exposed.is_empty() {
        set(&mut config, "ExposedPorts", Value::Object(exposed));
    }

    put_list(&mut host, "Binds", volumes.binds);
    let mut mounts = parsed.list("mount").map(mounts::mount).collect::<Result<Vec<_>>>()?;
    let owners = mounts.iter_mut().filter_map(mounts::take_owner).collect::<Vec<_>>();
    if !mounts.is_empty() {
        set(&mut host, "Mounts", json!(mounts));
    }
    let tmpfs: Map<String, Value> = parsed
        .list("tmpfs")
        .map(|text| {
            let (path, options) = text.split_once(':').unwrap_or((text, ""));
            (path.to_owned(), json!(options))
        })
        .collect();
    if !tmpfs.is_empty() {
        set(&mut host, "Tmpfs", Value::Object(tmpfs));
    }
    if !bindings.is_empty() {
        set(&mut host, "PortBindings", Value::Object(bindings));
    }
    let (mode, endpoints) = network::networks(parsed)?;
    put_list(&mut host, "Links", parsed.list("link").map(str::to_owned).collect());
    set(&mut host, "NetworkMode", json!(mode));
    for (flag, key) in [
        ("privileged", "Privileged"),
        ("publish-all", "PublishAllPorts"),
        ("read-only", "ReadonlyRootfs"),
        ("rm", "AutoRemove"),
    ] {
        if parsed.on(flag) {
            set(&mut host, key, json!(true));
        }
    }
    if parsed.given("init") {
        set(&mut host, "Init", json!(parsed.on("init")));
    }
    let restart = resources::restart_policy(parsed.text("restart"))?;
    if parsed.on("rm") && !matches!(restart["Name"].as_str(), Some("" | "no")) {
        return Err(Error::invalid("conflicting options: cannot specify both --restart and --rm"));
    }
    set(&mut host, "RestartPolicy", restart);
    for (flag, key, label, allowed) in [
        ("pid", "PidMode", "PID", &["", "host", "container:", "private"][..]),
        ("uts", "UTSMode", "UTS", &["", "host", "private"]),
        ("userns", "UsernsMode", "USER", &["", "host", "private"]),
        ("cgroupns", "CgroupnsMode", "CGROUP", &["", "host", "private"]),
    ] {
        let Some(value) = parsed.opt(flag) else { continue };
        if !allowed
            .iter()
            .any(|one| *one == value || (one.ends_with(':') && value.starts_with(one) && value.len() > one.len()))
        {
            return Err(Error::invalid(format!("--{flag}: invalid {label} mode")));
        }
        set(&mut host, key, json!(value));
    }
    for (flag, key) in
        [("ipc", "IpcMode"), ("runtime", "Runtime"), ("volume-driver", "VolumeDriver"), ("cidfile", "ContainerIDFile")]
    {
        if let Some(value) = parsed.opt(flag) {
            set(&mut host, key, json!(value));
        }
    }
    for (flag, key) in
        [("dns", "Dns"), ("dns-search", "DnsSearch"), ("group-add", "GroupAdd"), ("volumes-from", "VolumesFrom")]
    {
        put_list(&mut host, key, parsed.list(flag).map(str::to_owned).collect());
    }
    for (flag, key) in [("cap-add", "CapAdd"), ("cap-drop", "CapDrop")] {
        let mut names: Vec<String> = parsed.list(flag).map(capability).collect();
        names.sort();
        names.dedup();
        put_list(&mut host, key, names);
    }
    if let Some(bad) = parsed.list("dns").find(|text| text.parse::<std::net::IpAddr>().is_err()) {
        return Err(Error::invalid(format!(
            "invalid argument {bad:?} for \"--dns\" flag: IP address is not correctly formatted: {bad}"
        )));
    }
    put_list(
        &mut host,
        "DnsOptions",
        parsed.list("dns-option").chain(parsed.list("dns-opt")).map(str::to_owned).collect(),
    );
    put_list(&mut host, "ExtraHosts", parsed.list("add-host").map(extra_host).collect::<Result<_>>()?);
    if let Some(bad) = parsed.list("sysctl").find(|text| !is_sysctl(text)) {
        return Err(Error::invalid(format!(
            "invalid argument {bad:?} for \"--sysctl\" flag: sysctl '{bad}' is not allowed"
        )));
    }
    if parsed.list("storage-opt").any(|text| !text.contains('=')) {
        return Err(Error::invalid("invalid storage option"));
    }
    if !matches!(parsed.text("isolation"), "" | "default") {
        return Err(Error::invalid(format!(
            "invalid isolation: {}: it concerns Windows containers only",
            parsed.text("isolation")
        )));
    }
    put_map(&mut host, "Sysctls", parsed.list("sysctl"));
    put_map(&mut host, "Annotations", parsed.list("annotation"));
    for (key, value) in owners {
        host.entry("Annotations").or_insert_with(|| json!({}))[key] = json!(value);
    }
    put_map(&mut host, "StorageOpt", parsed.list("storage-opt"));
    let options: Vec<&str> = parsed.list("log-opt").collect();
    let driver = parsed.text("log-driver");
    if driver == "none" && !options.is_empty() {
        return Err(Error::invalid("invalid logging opts for driver none"));
    }
    let mut log = Map::new();
    if !driver.is_empty() {
        set(&mut log, "Type", json!(driver));
    }
    put_map(&mut log, "Config", options.into_iter());
    if !log.is_empty() {
        set(&mut host, "LogConfig", Value::Object(log));
    }
    security(parsed, &mut host)?;
    resources::resources(parsed, &mut host)?;

    set(&mut config, "HostConfig", Value::Object(host));
    set(&mut config, "NetworkingConfig", json!({"EndpointsConfig": endpoints}));
    Ok(CreateRequest {
        name: parsed.text("name").to_owned(),
        platform: parsed.text("platform").to_owned(),
        image,
        body: Value::Object(config),
        auto_remove: parsed.on("rm"),
        tty,

        attach,
    })
}

/// `net_admin` → `CAP_NET_ADMIN`; `ALL` stays.
fn capability(name: &str) -> String {
    let name = name.to_uppercase();
    if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
}

/// Whether a kernel parameter belongs to a namespace, so that a container may have its own.
fn is_sysctl(text: &str) -> bool {
    const NAMES: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    text.split_once('=')
        .is_some_and(|(name, _)| NAMES.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue."))
}

fn put_list(map: &mut Map<String, Value>, key: &str, list: Vec<String>) {
    if !list.is_empty() {
        map.insert(key.into(), json!(list));
    }
}

fn put_map<'a>(map: &mut Map<String, Value>, key: &str, pairs: impl Iterator<Item = &'a str>) {
    let pairs: Map<String, Value> = pairs
        .map(|text| {
            let (key, value) = pair(text);
            (key, json!(value))
        })
        .collect();
    if !pairs.is_empty() {
        map.insert(key.into(), Value::Object(pairs));
    }
}

fn attach(parsed: &Parsed, detached: bool) -> Result<(bool, bool, bool)> {
    let mut out = (false, false, false);
    let mut named = false;
    for stream in parsed.list("attach") {
        named = true;
        match stream.to_ascii_lowercase().as_str() {
            "stdin" => out.0 = true,
            "stdout" => out.1 = true,
            "stderr" => out.2 = true,
            _ => {
                return Err(Error::invalid(format!(
                    "invalid argument {stream:?} for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
                )));
            }
        }
    }
    if named && detached {
        return Err(Error::new("conflicting options: cannot specify both --attach and --detach"));
    }
    if !named && !detached {
        out = (parsed.on("interactive"), true, true);
    }
    Ok(out)
}

fn health(parsed: &Parsed) -> Result<Option<Value>> {
    const DURATIONS: [(&str, &str); 4] = [
        ("health-interval", "Interval"),
        ("health-timeout", "Timeout"),
        ("health-start-period", "StartPeriod"),
        ("health-start-interval", "StartInterval"),
    ];
    let any = parsed.given("health-cmd")
        || parsed.given("health-retries")
        || DURATIONS.iter().any(|(flag, _)| parsed.nanos(flag) != 0);
    if parsed.on("no-healthcheck") {
        if any {
            return Err(Error::invalid("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(Some(json!({"Test": ["NONE"]})));
    }
    if !any {
        return Ok(None);
    }
    let mut out = Map::new();
    if let Some(command) = parsed.opt("health-cmd").filter(|text| !text.is_empty()) {
        out.insert("Test".into(), json!(["CMD-SHELL", command]));
    }
    for (flag, key) in DURATIONS {
        let nanos = parsed.nanos(flag);
        if nanos < 0 {
            return Err(Error::invalid(format!("--{flag} cannot be negative")));
        }
        if nanos > 0 {
            out.insert(key.into(), json!(nanos));
        }
    }
    let retries = parsed.int("health-retries");
    if retries < 0 {
        return Err(Error::invalid("--health-retries cannot be negative"));
    }
    if retries > 0 {
        out.insert("Retries".into(), json!(retries));
    }
    Ok(Some(Value::Object(out)))
}

/// `host:ip` or `host=ip` in the form with a colon; `host-gateway` stands for the host.
fn extra_host(text: &str) -> Result<String> {
    let wrong = |why: String| Error::invalid(format!("invalid argument {text:?} for \"--add-host\" flag: {why}"));
    let split = text.split_once('=').or_else(|| text.split_once(':'));
    let (name, address) = match split {
        Some((name, address)) if !name.is_empty() && !address.is_empty() => (name, address),
        _ => return Err(wrong(format!("bad format for add-host: {text:?}"))),
    };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(wrong(format!("invalid IP address in add-host: {address:?}")));
    }
    Ok(format!("{name}:{bare}"))
}

fn security(parsed: &Parsed, host: &mut Map<String, Value>) -> Result<()> {
    let mut out = Vec::new();
    for text in parsed.list("security-opt") {
        if text == "no-new-privileges" {
            out.push(text.to_owned());
            continue;
        }
        let split = text.split_once('=').or_else(|| text.split_once(':'));
        let Some((key, value)) = split else { return Err(Error::invalid(format!("Invalid --security-opt: {text:?}"))) };
        match (key, value) {
            ("systempaths", "unconfined") => {
                host.insert("MaskedPaths".into(), json!([]));
                host.insert("ReadonlyPaths".into(), json!([]));
            }
            ("seccomp", "unconfined" | "builtin") => out.push(text.to_owned()),
            ("seccomp", path) => {
                let wrong = |why: String| Error::invalid(format!("opening seccomp profile ({path}) failed: {why}"));
                let size = fs::metadata(path)
                    .map_err(|error| wrong(format!("open {path}: {}", crate::error::os_text(&error))))?
                    .len();
                if size > MAX_PROFILE {
                    return Err(wrong("the file is too large".into()));
                }
                let bytes =
                    fs::read(path).map_err(|error| wrong(format!("open {path}: {}", crate::error::os_text(&error))))?;
                let profile: Value = serde_json::from_slice(&bytes).map_err(|error| {
                    Error::invalid(format!("compacting json for seccomp profile ({path}) failed: {error}"))
                })?;
                out.push(format!("seccomp={profile}"));
            }
            _ => out.push(text.to_owned()),
        }
    }
    put_list(host, "SecurityOpt", out);
    Ok(())
}

#[cfg(test)]
mod tests;
