//! The part of the benchmark that runs where the runtimes run: in a mount namespace on the peers'
//! private root. It is this program again, told what to measure by its arguments, and it answers
//! with one JSON document on standard output.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::bundle::Bundles;
use super::calls::{Runtime, adopt};
use super::syscalls;
use crate::bench::sample::Sample;

/// The measured rows, in the order of the table.
pub const ROWS: [&str; 4] = ["run", "create, start, delete", "exec, detached", "exec, foreground"];

/// `DIR ROUNDS NAME=PROGRAM …`: measures every runtime with the bundles in the directory.
pub fn run(args: &[String]) -> Result<()> {
    let [dir, rounds, named @ ..] = args else { bail!("usage: DIR ROUNDS NAME=PROGRAM …") };
    let rounds: usize = rounds.parse().context("the number of rounds is not a number")?;
    let dir = Path::new(dir);
    adopt()?;
    // State lies where engines have it: on the memory file system of `/run`.
    let state = tempfile::Builder::new().prefix("dhow-bench-").tempdir_in("/run")?;
    let mut runtimes = Vec::new();
    let mut left_out = serde_json::Map::new();
    for name in named {
        let (name, program) = name.split_once('=').context("a runtime is NAME=PROGRAM")?;
        let bundles = Bundles::at(&dir.join("bundles").join(name));
        let runtime = Runtime::new(name, &PathBuf::from(program), state.path())?;
        // Every call a few times, so that a runtime that cannot do the work here is left out and says why.
        match warm(&runtime, &bundles) {
            Ok(()) => runtimes.push((runtime, bundles)),
            Err(error) => {
                runtime.clear();
                left_out.insert(name.to_owned(), json!(format!("{error:#}")));
            }
        }
    }
    let mut times: Vec<Vec<Sample>> = runtimes.iter().map(|_| ROWS.map(|_| Sample::default()).into()).collect();
    for _ in 0..rounds {
        for ((runtime, bundles), samples) in runtimes.iter().zip(&mut times) {
            samples[0].measure(|| runtime.run(bundles))?;
        }
        for ((runtime, bundles), samples) in runtimes.iter().zip(&mut times) {
            samples[1].measure(|| runtime.cycle(bundles))?;
        }
    }
    let running = runtimes.iter().map(|(runtime, bundles)| runtime.stay(bundles)).collect::<Result<Vec<_>>>()?;
    for _ in 0..rounds {
        for ((runtime, bundles), samples) in runtimes.iter().zip(&mut times) {
            samples[2].measure(|| runtime.exec_detached(bundles))?;
        }
        for ((runtime, _), samples) in runtimes.iter().zip(&mut times) {
            samples[3].measure(|| runtime.exec())?;
        }
    }
    let mut answer = serde_json::Map::new();
    for (((runtime, bundles), samples), pid) in runtimes.iter().zip(&times).zip(running) {
        let peaks = (0..5).map(|_| runtime.peak(bundles)).collect::<Result<Vec<u64>>>()?;
        let counts = syscalls::count(runtime, bundles, state.path());
        runtime.leave(pid)?;
        let counts = counts?;
        answer.insert(
            runtime.name.clone(),
            json!({
                "times": samples.iter().map(Sample::nanos).collect::<Vec<_>>(),
                "peak": peaks.iter().min(),
                "run": counts.run,
                "exec": counts.exec,
            }),
        );
    }
    println!("{}", json!({ "runtimes": Value::Object(answer), "left out": Value::Object(left_out) }));
    Ok(())
}

fn warm(runtime: &Runtime, bundles: &Bundles) -> Result<()> {
    let pid = runtime.stay(bundles)?;
    let work = (0..3).try_for_each(|_| {
        runtime.run(bundles)?;
        runtime.cycle(bundles)?;
        runtime.exec()?;
        runtime.exec_detached(bundles)
    });
    runtime.leave(pid)?;
    work
}
