//! Benchmarks beside real peers. Lone times mean little on a shared machine, so both sides run
//! alternately in one go and the ratio of the medians is what counts.

mod build;
mod compose;
mod disk;
mod list;
mod net;
mod oci;
mod pull;
mod registry;
mod run;
mod sample;
mod side;
mod traffic;
mod update;

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::binaries::{self, Profile};
use crate::{fixtures, peers, shell};

pub fn run(args: &[String]) -> Result<()> {
    let count = match args.iter().position(|arg| arg == "-n") {
        Some(at) => args.get(at + 1).and_then(|text| text.parse().ok()).unwrap_or(20),
        None => 20,
    };
    let value = |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1));
    match args.first().map(String::as_str) {
        Some("run") => run::run(count),
        Some("net") => net(count, value("--programs").map(Path::new), value("--only").map(String::as_str)),
        Some("build") => {
            let programs = value("--programs").map(Path::new);
            let programs =
                programs.map_or_else(|| binaries::build(Profile::Release), |given| Ok(given.to_path_buf()))?;
            build::begin(count, &programs, value("--only").map(String::as_str))
        }
        Some("pull") => pull::run(count.min(5)),
        Some("registry") => registry::run(value("--programs").map(Path::new), count.min(10)),
        Some("oci") => oci::run(count, value("--runtime").map(Path::new), args.iter().any(|arg| arg == "--record")),
        // The second half of `oci`, in a namespace.
        Some("oci-inside") => oci::inside(&args[1..]),
        _ => bail!(
            "usage: cargo xtask bench run [-n ROUNDS]\n       cargo xtask bench net [-n ROUNDS] [--only changes|compose|traffic] [--programs DIRECTORY]\n       cargo xtask bench build [-n ROUNDS] [--only WORDS] [--programs DIRECTORY]\n       cargo xtask bench pull [-n ROUNDS, at most 5]\n       cargo xtask bench registry [-n ROUNDS, at most 10] [--programs DIRECTORY]\n       cargo xtask bench oci [-n ROUNDS] [--runtime PROGRAM] [--record]"
        ),
    }
}

/// Networks: the rows of each file that measures them, beside one dockerd and on one daemon of ours.
fn net(rounds: usize, programs: Option<&Path>, only: Option<&str>) -> Result<()> {
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    if !["changes", "compose", "traffic"].into_iter().any(wanted) {
        bail!("there are no such measurements of networks: {}", only.unwrap_or_default());
    }
    shell::require_root("bench")?;
    let programs = programs.map_or_else(|| binaries::build(Profile::Release), |given| Ok(given.to_path_buf()))?;
    let _guest = peers::Guest::arrive()?;
    let peers = peers::up()?;
    let daemon = side::Dhowd::start(&programs, &["--bridge", "dhowbench0"])?;
    let docker = side::Side { client: peers.docker.clone(), socket: peers.socket.clone() };
    let busybox = fixtures::make()?.join("busybox.tar");
    let busybox = busybox.to_str().context("the target directory's name is not UTF-8")?;
    daemon.side.run(&["import", busybox, "busybox:latest"])?;
    let mut rows = Vec::new();
    if wanted("changes") {
        rows.extend(net::rows(&docker, &daemon.side, rounds)?);
    }
    if wanted("compose") {
        rows.extend(compose::rows(&peers, &docker, &daemon.side, rounds)?);
    }
    if !rows.is_empty() {
        side::table("dockerd", &rows);
    }
    if wanted("traffic") {
        let load = binaries::build_static(&["load"], "release", "release")?.join("load");
        traffic::run(&docker, &daemon.side, &load, rounds)?;
    }
    Ok(())
}
