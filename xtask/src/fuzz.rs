//! `cargo xtask fuzz TARGET [SECONDS]`: libFuzzer on one of the parsers of `fuzz/`, with the address sanitizer.
//!
//! Instrumenting needs flags that a stable compiler knows but does not offer; it is told to. New inputs stay in
//! `target/fuzz/corpus`, and one that fails is named, to be added to `fuzz/seeds`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Coverage by edge with the compared values, as libFuzzer wants it.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Zsanitizer=address --cfg fuzzing";

pub fn run(args: &[String]) -> Result<()> {
    let targets = targets()?;
    let (Some(target), seconds) = (args.first(), args.get(1).map_or("60", String::as_str)) else {
        bail!("say which parser: {}", targets.join(", "));
    };
    if !targets.contains(target) {
        bail!("there is no target `{target}`; there are {}", targets.join(", "));
    }
    seconds.parse::<u32>().with_context(|| format!("`{seconds}` is no number of seconds"))?;
    shell::require_packages(&[("g++", "g++")])?;

    let place = shell::target().join("fuzz");
    let host = host()?;
    let mut build = shell::command("cargo", ["build", "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    build.args(["--features", "libfuzzer", "--target", &host, "--bin", target]);
    shell::run(build.env("CARGO_TARGET_DIR", &place).env("RUSTFLAGS", FLAGS).env("RUSTC_BOOTSTRAP", "1"))?;

    let (corpus, found) = (place.join("corpus").join(target), place.join("found").join(target));
    for dir in [&corpus, &found] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let program = place.join(host).join("release").join(target);
    let mut fuzz = shell::command(&program.display().to_string(), [] as [&str; 0]);
    fuzz.arg(&corpus).arg(seeds().join(target));
    fuzz.args([&format!("-max_total_time={seconds}"), "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
    fuzz.arg(format!("-artifact_prefix={}/", found.display()));
    shell::run(&mut fuzz).context("it found an input that fails: fix the cause and add the input to fuzz/seeds")
}

/// The smoke test: every seed on stable.
pub fn seeds_pass() -> Result<()> {
    let mut test = shell::command("cargo", ["test", "--quiet", "--manifest-path", "fuzz/Cargo.toml"]);
    shell::run(test.env("CARGO_TARGET_DIR", shell::target().join("fuzz")))
}

fn seeds() -> PathBuf {
    shell::root().join("fuzz/seeds")
}

fn targets() -> Result<Vec<String>> {
    let entries = fs::read_dir(seeds()).context("cannot list fuzz/seeds")?;
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn host() -> Result<String> {
    let text = shell::output(&mut shell::command("rustc", ["-vV"]))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}
