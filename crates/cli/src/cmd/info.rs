//! `info`: the engine and its host.

use types::bytes_size;

use super::INSPECT_FORMAT;
use crate::{
    Error, Result,
    flags::{Arity, Command, Parsed},
    format::{Value, template::Template},
    session::Session,
    term::output::{print, warn},
};

pub(super) static INFO: Command = Command {
    paths: &["system info", "info"],
    synopsis: "[OPTIONS]",
    about: "Show the engine and its host",
    flags: &[&[INSPECT_FORMAT]],
    arity: Arity::None,
    interspersed: true,
    run: info,
};

fn info(parsed: &Parsed, session: &Session) -> Result<u8> {
    let context = session.context_name()?;
    let client = Value::Map(vec![
        ("Debug".into(), Value::Bool(session.globals.debug)),
        ("Version".into(), Value::text_of(env!("CARGO_PKG_VERSION"))),
        ("Context".into(), Value::text_of(context.as_str())),
        ("Plugins".into(), Value::List(Vec::new())),
        ("Warnings".into(), Value::Null),
    ]);
    let answer = session.client()?.get("/info").send().and_then(client::Response::json::<Value>);
    match parsed.text("format") {
        "" => {}
        format => {
            let mut all = match answer? {
                Value::Map(entries) => entries,
                _ => Vec::new(),
            };
            all.push(("ClientInfo".into(), client));
            let all = Value::Map(all);
            let text = match format {
                "json" => all.to_json(),
                text => Template::parse(&crate::format::unescape(text))
                    .and_then(|template| template.run(&all))
                    .map_err(|error| Error::with_code(format!("template parsing error: {error}"), 64))?,
            };
            print(&(text + "\n"))?;
            return Ok(0);
        }
    }
    print(&format!(
        "Client:\n Version:    {}\n Context:    {context}\n Debug Mode: {}\n\nServer:\n",
        env!("CARGO_PKG_VERSION"),
        session.globals.debug
    ))?;
    match answer {
        Ok(server) => {
            print(&describe(&server))?;
            for warning in server.get("Warnings").items() {
                warn(warning.as_str());
            }
            Ok(0)
        }
        Err(error) => Err(Error::new(format!("ERROR: {error}\nerrors pretty printing info"))),
    }
}

fn describe(server: &Value) -> String {
    let mut out = String::new();
    let mut line =
        |indent: usize, key: &str, value: String| out.push_str(&format!("{}{key}: {value}\n", " ".repeat(indent)));
    line(1, "Containers", server.int("Containers").to_string());
    line(2, "Running", server.int("ContainersRunning").to_string());
    line(2, "Paused", server.int("ContainersPaused").to_string());
    line(2, "Stopped", server.int("ContainersStopped").to_string());
    line(1, "Images", server.int("Images").to_string());
    line(1, "Server Version", server.str("ServerVersion").into());
    line(1, "Storage Driver", server.str("Driver").into());
    for pair in server.get("DriverStatus").items() {
        if let [key, value] = pair.items() {
            line(2, key.as_str(), value.as_str().into());
        }
    }
    line(1, "Logging Driver", server.str("LoggingDriver").into());
    line(1, "Cgroup Driver", server.str("CgroupDriver").into());
    line(1, "Cgroup Version", server.str("CgroupVersion").into());
    let words = |list: &Value| list.items().iter().map(Value::as_str).collect::<Vec<_>>().join(" ");
    out.push_str(" Plugins:\n");
    for kind in ["Volume", "Network", "Authorization", "Log"] {
        let list = server.at(&["Plugins", kind]);
        if !list.items().is_empty() || matches!(kind, "Volume" | "Network" | "Log") {
            out.push_str(&format!("  {kind}: {}\n", words(list)));
        }
    }
    let block = |out: &mut String, heading: &str, lines: &[String]| {
        if !lines.is_empty() {
            out.push_str(&format!(" {heading}:\n"));
            out.extend(lines.iter().map(|line| format!("  {line}\n")));
        }
    };
    let texts = |list: &Value| list.items().iter().map(|item| item.as_str().to_owned()).collect::<Vec<_>>();
    block(&mut out, "CDI spec directories", &texts(server.get("CDISpecDirs")));
    out.push_str(&format!(" Swarm: {}\n", server.at(&["Swarm", "LocalNodeState"]).as_str()));
    let mut runtimes: Vec<&str> = server.get("Runtimes").entries().iter().map(|(name, _)| name.as_str()).collect();
    runtimes.sort_unstable();
    if !runtimes.is_empty() {
        out.push_str(&format!(
            " Runtimes: {}\n Default Runtime: {}\n",
            runtimes.join(" "),
            server.str("DefaultRuntime")
        ));
    }
    for (key, heading) in [("InitBinary", "Init Binary")] {
        if !server.str(key).is_empty() {
            out.push_str(&format!(" {heading}: {}\n", server.str(key)));
        }
    }
    for (key, heading) in
        [("ContainerdCommit", "containerd version"), ("RuncCommit", "runc version"), ("InitCommit", "init version")]
    {
        let id = server.at(&[key, "ID"]);
        if !id.is_null() {
            out.push_str(&format!(" {heading}: {}\n", id.as_str()));
        }
    }
    let mut security = Vec::new();
    for option in server.get("SecurityOptions").items() {
        // `name=seccomp,profile=builtin`
        for field in option.as_str().split(',') {
            match field.split_once('=') {
                Some(("name", name)) => security.push(name.to_owned()),
                Some((key, value)) => {
                    let key =
                        key.chars().take(1).flat_map(char::to_uppercase).chain(key.chars().skip(1)).collect::<String>();
                    security.push(format!(" {key}: {value}"));
                }
                None => security.push(field.to_owned()),
            }
        }
    }
    block(&mut out, "Security Options", &security);
    for (key, heading) in [
        ("KernelVersion", "Kernel Version"),
        ("OperatingSystem", "Operating System"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    ] {
        if !server.str(key).is_empty() {
            out.push_str(&format!(" {heading}: {}\n", server.str(key)));
        }
    }
    out.push_str(&format!(
        " CPUs: {}\n Total Memory: {}\n Name: {}\n ID: {}\n Docker Root Dir: {}\n Debug Mode: {}\n",
        server.int("NCPU"),
        bytes_size(server.int("MemTotal") as f64),
        server.str("Name"),
        server.str("ID"),
        server.str("DockerRootDir"),
        server.bool("Debug")
    ));
    for (key, heading) in [("HttpProxy", "HTTP Proxy"), ("HttpsProxy", "HTTPS Proxy"), ("NoProxy", "No Proxy")] {
        if !server.str(key).is_empty() {
            out.push_str(&format!(" {heading}: {}\n", server.str(key)));
        }
    }
    block(&mut out, "Labels", &texts(server.get("Labels")));
    out.push_str(&format!(" Experimental: {}\n", server.bool("ExperimentalBuild")));
    let registries = server.get("RegistryConfig");
    let mut insecure: Vec<String> = registries
        .get("IndexConfigs")
        .entries()
        .iter()
        .filter(|(_, config)| matches!(config.get("Secure"), Value::Bool(false)))
        .map(|(name, _)| name.clone())
        .collect();
    insecure.extend(texts(registries.get("InsecureRegistryCIDRs")));
    block(&mut out, "Insecure Registries", &insecure);
    block(&mut out, "Registry Mirrors", &texts(registries.get("Mirrors")));
    out.push_str(&format!(" Live Restore Enabled: {}\n", server.bool("LiveRestoreEnabled")));
    if !server.str("ProductLicense").is_empty() {
        out.push_str(&format!(" Product License: {}\n", server.str("ProductLicense")));
    }
    out.push('\n');
    out
}
