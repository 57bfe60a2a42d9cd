//! `cargo xtask bench oci`: our OCI runtime beside runc and crun from Debian and youki from
//! crates.io. Every runtime gets the same bundle on the same layout of control groups: crun refuses
//! hosts where both versions are in use, so all are measured in a mount namespace that shows
//! version 1 alone, and those that can on the host's own layout too.

mod bundle;
mod calls;
mod inside;
mod syscalls;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::sample::{Sample, ratio};
use crate::{binaries, peers, shell};

/// The crate, its version, and the features that need no service beside it.
const YOUKI: [&str; 7] =
    ["youki", "--version", "0.7.0", "--locked", "--no-default-features", "--features", "v1,v2,seccomp"];

const OURS: &str = "dhow-oci";

/// `bench oci-inside`, which this task starts in the namespace.
pub fn inside(args: &[String]) -> Result<()> {
    inside::run(args)
}

/// `runtime`: measure this program in the place of a build of ours.
pub fn run(rounds: usize, runtime: Option<&Path>, record: bool) -> Result<()> {
    shell::require_root("bench")?;
    shell::require_packages(&[
        ("gcc", "gcc"),
        ("/usr/include/stdio.h", "libc6-dev"),
        ("/usr/include/seccomp.h", "libseccomp-dev"),
        ("mmdebstrap", "mmdebstrap"),
    ])?;
    let ours = match runtime {
        Some(path) => path.to_path_buf(),
        None => binaries::runtime()?,
    };
    let youki = youki();
    let _guest = peers::Guest::arrive()?;
    let peers = peers::up()?;

    // Below the directory for temporary files, which the private root shares with the host.
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path();
    let own = copy(&std::env::current_exe()?, dir)?;
    let mut runtimes =
        vec![(OURS, copy(&ours, dir)?), ("runc", "/usr/sbin/runc".into()), ("crun", "/usr/bin/crun".into())];
    match &youki {
        Ok(program) => runtimes.push(("youki", copy(program, dir)?)),
        Err(error) => println!("youki is left out: {error:#}"),
    }
    let parent = format!("dhow-bench-{}", std::process::id());
    for (name, _) in &runtimes {
        bundle::make(&dir.join("bundles").join(name), &parent, name)?;
    }
    let mut kept = None;
    for (view, hide) in [("cgroup v1 alone", true), ("the host's own layout", false)] {
        eprintln!("measuring on {view}");
        let script = if hide {
            "mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified; exec \"$@\""
        } else {
            "exec \"$@\""
        };
        let mut command = peers.command(&["unshare", "-m", "sh", "-c", script, "sh"]);
        command.arg(&own).args(["bench", "oci-inside"]).arg(dir).arg(rounds.to_string());
        command.args(runtimes.iter().map(|(name, program)| format!("{name}={}", program.display())));
        let answer: Value = serde_json::from_str(&shell::output(&mut command)?).context("no JSON came from inside")?;
        table(view, rounds, &answer)?;
        if !hide {
            kept = counts(&answer["runtimes"][OURS]);
        }
    }
    bundle::forget(&parent);
    if record {
        kept.context("dhow-oci was not measured on the host's own layout")?.write()?;
    }
    Ok(())
}

/// Builds youki once, below the target directory.
fn youki() -> Result<PathBuf> {
    let root = shell::target().join("peers");
    let program = root.join("bin/youki");
    if !program.exists() {
        eprintln!("building youki in {}, which takes minutes", root.display());
        shell::run(shell::command("cargo", ["install", "--quiet", "--root"]).arg(&root).args(YOUKI))?;
    }
    Ok(program)
}

fn copy(program: &Path, dir: &Path) -> Result<PathBuf> {
    let to = dir.join(program.file_name().context("a program has a name")?);
    fs::copy(program, &to).with_context(|| format!("cannot copy {}", program.display()))?;
    Ok(to)
}

fn counts(runtime: &Value) -> Option<syscalls::Counts> {
    let number = |name: &str| runtime[name].as_u64().and_then(|count| usize::try_from(count).ok());
    Some(syscalls::Counts { run: number("run")?, exec: number("exec")? })
}

/// One column per runtime, with how many times longer it takes than ours.
fn table(view: &str, rounds: usize, answer: &Value) -> Result<()> {
    let measured = answer["runtimes"].as_object().context("no runtime was measured")?;
    let names: Vec<&String> = measured.keys().collect();
    println!("\n{view}, {rounds} rounds: median (middle half), times ours\n");
    println!("| work | {} |", names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    let samples: BTreeMap<&String, Vec<Sample>> = measured
        .iter()
        .map(|(name, runtime)| {
            (name, runtime["times"].as_array().into_iter().flatten().map(Sample::from_nanos).collect())
        })
        .collect();
    let ours = samples.iter().find(|(name, _)| name.as_str() == OURS).map(|(_, rows)| rows);
    for (at, work) in inside::ROWS.iter().enumerate() {
        let cells = names.iter().map(|name| {
            let sample = &samples[name][at];
            let times =
                ours.filter(|_| name.as_str() != OURS).map(|ours| format!(", {:.1}×", ratio(sample, &ours[at])));
            format!("{}{}", sample.shown(), times.unwrap_or_default())
        });
        println!("| {work} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    for (work, field, unit) in [
        ("peak memory of `run`", "peak", " KiB"),
        ("system calls of `run`", "run", ""),
        ("system calls of `exec`", "exec", ""),
    ] {
        let number = |name: &str| measured[name][field].as_f64().unwrap_or_default();
        let cells = names.iter().map(|name| {
            let times =
                measured.contains_key(OURS).then(|| number(name) / number(OURS)).filter(|_| name.as_str() != OURS);
            format!("{}{unit}{}", number(name), times.map(|times| format!(", {times:.1}×")).unwrap_or_default())
        });
        println!("| {work} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    for (name, reason) in answer["left out"].as_object().into_iter().flatten() {
        println!("\n{name} is left out: {}", reason.as_str().unwrap_or_default());
    }
    Ok(())
}
