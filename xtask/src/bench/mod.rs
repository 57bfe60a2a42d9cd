//! Benchmarks beside real peers. Lone times mean little on a shared machine, so both sides run
//! alternately in one go and the ratio of the medians is what counts.

mod disk;
mod list;
mod oci;
mod pull;
mod registry;
mod run;
mod sample;
mod side;
mod update;

use std::path::Path;

use anyhow::{Result, bail};

pub fn run(args: &[String]) -> Result<()> {
    let count = match args.iter().position(|arg| arg == "-n") {
        Some(at) => args.get(at + 1).and_then(|text| text.parse().ok()).unwrap_or(20),
        None => 20,
    };
    let value = |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1));
    match args.first().map(String::as_str) {
        Some("run") => run::run(count),
        Some("pull") => pull::run(count.min(5)),
        Some("registry") => registry::run(value("--programs").map(Path::new), count.min(10)),
        Some("oci") => oci::run(count, value("--runtime").map(Path::new), args.iter().any(|arg| arg == "--record")),
        // The second half of `oci`, in a namespace.
        Some("oci-inside") => oci::inside(&args[1..]),
        _ => bail!(
            "usage: cargo xtask bench run [-n ROUNDS]\n       cargo xtask bench pull [-n ROUNDS, at most 5]\n       cargo xtask bench registry [-n ROUNDS, at most 10] [--programs DIRECTORY]\n       cargo xtask bench oci [-n ROUNDS] [--runtime PROGRAM] [--record]"
        ),
    }
}
