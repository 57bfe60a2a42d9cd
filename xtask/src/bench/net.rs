//! Networks and published ports beside a real dockerd: what the API takes, asked over its socket without a client program
//! in between.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::sample::Sample;
use super::side::{Row, Side, row};
use crate::shell;

/// Container and network of a measurement.
const NAME: &str = "dhow-bench-net";
/// Ports published in turn; the first number is the base of what each port costs.
const PORTS: [u16; 4] = [0, 1, 32, 200];
/// First host port; each side begins elsewhere, as they share the host.
const FIRST_PORT: [u16; 2] = [21_000, 22_000];
/// Rules of somebody else on the host.
const RULES: usize = 5000;

/// Both sides have `busybox:latest`.
pub fn rows(docker: &Side, dhow: &Side, rounds: usize) -> Result<Vec<Row>> {
    let sides = [docker, dhow];
    let mut rows = Vec::new();
    eprintln!("measuring networks");
    rows.push(networks(&sides, rounds)?);
    rows.push(connections(&sides, rounds)?);
    for rules in [0, RULES] {
        let foreign = if rules > 0 { Some(ForeignRules::add(rules)?) } else { None };
        for ports in PORTS {
            eprintln!("measuring {ports} ports beside {rules} rules");
            let few = if ports > 32 { rounds.min(3) } else { rounds.min(10) };
            rows.push(starts(&sides, ports, rules, few)?);
        }
        drop(foreign);
    }
    Ok(rows)
}

fn networks(sides: &[&Side; 2], rounds: usize) -> Result<Row> {
    let mut samples = [Sample::default(), Sample::default()];
    for _ in 0..rounds {
        for (side, sample) in sides.iter().zip(&mut samples) {
            sample.measure(|| {
                ask(side, "POST", "/networks/create", Some(json!({"Name": NAME})))?;
                ask(side, "DELETE", &format!("/networks/{NAME}"), None).map(drop)
            })?;
        }
    }
    Ok(row("network create and remove", 5.0, &samples[0], &samples[1]))
}

fn connections(sides: &[&Side; 2], rounds: usize) -> Result<Row> {
    let mut samples = [Sample::default(), Sample::default()];
    for side in sides {
        ask(side, "POST", "/networks/create", Some(json!({"Name": NAME})))?;
        create(side, &json!({}))?;
        ask(side, "POST", &format!("/containers/{NAME}/start"), None)?;
    }
    for _ in 0..rounds {
        for (side, sample) in sides.iter().zip(&mut samples) {
            sample.measure(|| {
                for verb in ["connect", "disconnect"] {
                    ask(side, "POST", &format!("/networks/{NAME}/{verb}"), Some(json!({"Container": NAME})))?;
                }
                Ok(())
            })?;
        }
    }
    for side in sides {
        remove(side)?;
        ask(side, "DELETE", &format!("/networks/{NAME}"), None)?;
    }
    Ok(row("connect and disconnect of a running container", 5.0, &samples[0], &samples[1]))
}

fn starts(sides: &[&Side; 2], ports: u16, rules: usize, rounds: usize) -> Result<Row> {
    let mut samples = [Sample::default(), Sample::default()];
    for _ in 0..rounds {
        for ((side, sample), first) in sides.iter().zip(&mut samples).zip(FIRST_PORT) {
            let bindings: serde_json::Map<String, Value> = (0..ports)
                .map(|port| (format!("{}/tcp", 1000 + port), json!([{"HostPort": (first + port).to_string()}])))
                .collect();
            create(side, &Value::Object(bindings))?;
            sample.measure(|| ask(side, "POST", &format!("/containers/{NAME}/start"), None).map(drop))?;
            remove(side)?;
        }
    }
    let work = format!("start with {ports} published ports on a host with {rules} rules of others");
    Ok(row(&work, 1.0, &samples[0], &samples[1]))
}

fn create(side: &Side, bindings: &Value) -> Result<()> {
    let exposed: serde_json::Map<String, Value> =
        bindings.as_object().into_iter().flatten().map(|(port, _)| (port.clone(), json!({}))).collect();
    let body = json!({
        "Image": "busybox:latest", "Cmd": ["sleep", "1000"], "ExposedPorts": exposed,
        "HostConfig": {"PortBindings": bindings},
    });
    ask(side, "POST", &format!("/containers/create?name={NAME}"), Some(body)).map(drop)
}

fn remove(side: &Side) -> Result<()> {
    ask(side, "DELETE", &format!("/containers/{NAME}?force=1"), None).map(drop)
}

/// One request on a connection of its own. Anything but success is an error.
fn ask(side: &Side, method: &str, path: &str, body: Option<Value>) -> Result<String> {
    let socket = side.socket.strip_prefix("unix://").context("the daemon's socket is a Unix socket")?;
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let head = format!(
        "{method} /v1.44{path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    ensure!(status.starts_with('2'), "{method} {path}: {}", answer.lines().next_back().unwrap_or_default());
    Ok(answer)
}

/// A table of rules that match nothing, as a host with a large firewall has them.
struct ForeignRules;

impl ForeignRules {
    fn add(count: usize) -> Result<Self> {
        let mut script =
            String::from("table ip dhow-bench {\n chain forward {\n  type filter hook forward priority 10;\n");
        for number in 0..count {
            script.push_str(&format!("  ip saddr 203.0.113.{} tcp dport {} drop\n", number % 256, 1 + number % 65_535));
        }
        script.push_str(" }\n}\n");
        let mut nft = shell::command("nft", ["-f", "-"]);
        let mut child = nft.stdin(Stdio::piped()).spawn().context("cannot run nft")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(script.as_bytes())?;
        }
        if !child.wait()?.success() {
            bail!("nft took no rules");
        }
        Ok(Self)
    }
}

impl Drop for ForeignRules {
    fn drop(&mut self) {
        let _ = shell::command("nft", ["delete", "table", "ip", "dhow-bench"]).status();
    }
}
