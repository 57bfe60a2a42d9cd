//! `update`: limits and restart policy of containers that exist.

use serde_json::{Map, json};

use super::{container_path, parallel::each};
use crate::{
    Result, create,
    flags::{Arity, Command, Flag, Kind, Parsed},
    format::Value,
    session::Session,
    term::output::warn,
};

pub(super) static UPDATE: Command = Command {
    paths: &["container update", "update"],
    synopsis: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Change limits of containers",
    flags: &[&[
        Flag::text("blkio-weight", "Relative weight of block I/O, 10 to 1000").kind(Kind::Uint16, "uint16"),
        Flag::int("cpu-period", "Length of the CFS period in microseconds"),
        Flag::int("cpu-quota", "CPU time per CFS period in microseconds"),
        Flag::int("cpu-rt-period", "Real-time period in microseconds"),
        Flag::int("cpu-rt-runtime", "Real-time run time per period in microseconds"),
        Flag::int("cpu-shares", "Relative weight of CPU time").short('c'),
        Flag::text("cpus", "CPU time in CPUs, such as 1.5").kind(Kind::Decimal, "decimal"),
        Flag::text("cpuset-cpus", "CPUs to run on (0-3, 0,1)"),
        Flag::text("cpuset-mems", "Memory nodes to use (0-3, 0,1)"),
        Flag::bytes("memory", "Memory limit").short('m'),
        Flag::bytes("memory-reservation", "Memory the container is guaranteed under pressure"),
        Flag::text("memory-swap", "Limit of memory and swap together; -1 for unlimited swap")
            .kind(Kind::SwapBytes, "bytes"),
        Flag::text("net-rate", "Bandwidth, such as ingress=10mbit,egress=unlimited[,network=NAME]"),
        Flag::int("pids-limit", "Limit of processes; -1 for none"),
        Flag::text("restart", "Restart policy"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: update,
};

fn update(parsed: &Parsed, session: &Session) -> Result<u8> {
    let mut body = Map::new();
    for (flag, key) in [
        ("blkio-weight", "BlkioWeight"),
        ("cpu-period", "CpuPeriod"),
        ("cpu-quota", "CpuQuota"),
        ("cpu-rt-period", "CpuRealtimePeriod"),
        ("cpu-rt-runtime", "CpuRealtimeRuntime"),
        ("cpu-shares", "CpuShares"),
        ("pids-limit", "PidsLimit"),
    ] {
        if parsed.given(flag) {
            body.insert(key.into(), json!(parsed.int(flag)));
        }
    }
    for (flag, key) in
        [("memory", "Memory"), ("memory-reservation", "MemoryReservation"), ("memory-swap", "MemorySwap")]
    {
        if parsed.given(flag) {
            body.insert(key.into(), json!(parsed.bytes(flag)));
        }
    }
    for (flag, key) in [("cpuset-cpus", "CpusetCpus"), ("cpuset-mems", "CpusetMems")] {
        if let Some(value) = parsed.opt(flag) {
            body.insert(key.into(), json!(value));
        }
    }
    if let Some(cpus) = parsed.opt("cpus") {
        body.insert("NanoCpus".into(), json!(create::nano_cpus(cpus)?));
    }
    if let Some(policy) = parsed.opt("restart") {
        body.insert("RestartPolicy".into(), create::restart_policy(policy)?);
    }
    if let Some(text) = parsed.opt("net-rate") {
        let rate = create::net_rate(text)?;
        let mut fields = Map::new();
        for (key, value) in [("Network", rate.network), ("Ingress", rate.ingress), ("Egress", rate.egress)] {
            if let Some(value) = value {
                fields.insert(key.into(), json!(value));
            }
        }
        body.insert("NetRate".into(), fields.into());
    }
    if body.is_empty() {
        return Err(crate::Error::new("you must provide one or more flags when using this command"));
    }
    let client = session.client()?;
    each(&parsed.args, |name| {
        let answer: Value = client.post(container_path(name, "/update")).json(&body)?.send()?.json()?;
        for warning in answer.get("Warnings").items() {
            warn(warning.as_str());
        }
        Ok(Some(name.to_owned()))
    })
}
