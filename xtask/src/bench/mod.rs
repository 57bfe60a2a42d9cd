//! Benchmarks beside real peers. Lone times mean little on a shared machine, so both sides run
//! alternately in one go and the ratio of the medians is what counts.

mod run;
mod sample;

use anyhow::{Result, bail};

pub fn run(args: &[String]) -> Result<()> {
    let count = match args.iter().position(|arg| arg == "-n") {
        Some(at) => args.get(at + 1).and_then(|text| text.parse().ok()).unwrap_or(20),
        None => 20,
    };
    match args.first().map(String::as_str) {
        Some("run") => run::run(count),
        _ => bail!("usage: cargo xtask bench run [-n ROUNDS]"),
    }
}
