//! Every task of the project under one command: `cargo xtask check | test | vm-test | fuzz | demo | bench | tidy | dist |
//! peers`.
//!
//! A task does all of its own set-up, or says in one sentence what it lacks. No shell scripts beside it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task runner talks to its terminal")]

mod bench;
mod binaries;
mod check;
mod demo;
mod fixtures;
mod fuzz;
mod peers;
mod shell;
mod test;
mod three_tier;
mod tidy;
mod vm;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask TASK [OPTIONS]

  check            formatting, clippy with warnings denied, and the workspace's own laws (tidy)
  test [--quick] [FILTER]
                   install what the tests need, then run every test; --quick leaves out the long ones
  vm-test [--kernel old|stable|new|all] [--guest plain|systemd] [--verbose] [--long] [FILTER]
                   boot Debian kernels with pure cgroup v2 in QEMU and run tests inside them
  fuzz TARGET [SECONDS]
                   run libFuzzer on one of the parsers of fuzz/; without a target it lists them
  demo             build release binaries, make two images, run containers, say what to try next
  bench run [-n N] measure beside a real dockerd in the same run and print ratios
  bench net [-n N] networks and Docker Compose beside a real dockerd
  bench oci [-n N] [--runtime PROGRAM] [--record]
                   measure the OCI runtime beside runc, crun and youki; --record keeps its count of system calls
  tidy             dependency directions, file sizes, file headings
  dist             release binaries in target/dist/release
  peers up|down|sock|in
                   set up a private root with real engines, take it down, print its dockerd's socket, run a program in it
";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = dispatch(&args) {
        eprintln!("xtask: {error:#}");
        std::process::exit(1);
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("check") => check::run(),
        Some("test") => test::run(rest),
        Some("demo") => demo::run(),
        Some("bench") => bench::run(rest),
        Some("vm-test") => vm::run(rest),
        Some("fuzz") => fuzz::run(rest),
        Some("tidy") => tidy::run(),
        Some("dist") => binaries::build(binaries::Profile::Release).map(|dir| println!("{}", dir.display())),
        Some("peers") => peers::run(rest),
        Some("help" | "--help" | "-h") | None => {
            print!("{USAGE}");
            Ok(())
        }
        Some(other) => bail!("there is no task `{other}`\n\n{USAGE}"),
    }
}
