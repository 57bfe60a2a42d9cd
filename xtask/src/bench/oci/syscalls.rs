//! System calls that a runtime makes before the user's program runs: a measure without noise. The
//! figures of our own runtime are kept in `bench/oci-syscalls.txt`, and a test fails when they grow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::bundle::{Bundles, PROGRAM};
use super::calls::Runtime;
use crate::shell;

/// Calls of all processes of the runtime from its own start to the user's `execve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub run: usize,
    pub exec: usize,
}

/// Counts for a container that ends, and for an exec into the one that stays, which must be running.
pub fn count(runtime: &Runtime, bundles: &Bundles, scratch: &Path) -> Result<Counts> {
    let trace = scratch.join(format!("{}.strace", runtime.name));
    Ok(Counts { run: traced(&runtime.run_words(bundles), &trace)?, exec: traced(&runtime.exec_words(), &trace)? })
}

fn traced(words: &[String], trace: &Path) -> Result<usize> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "signal=none", "-o"]).arg(trace).args(words);
    let status = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.context("cannot run strace")?;
    ensure!(status.success(), "`{}` failed under strace: {status}", words.join(" "));
    let text = fs::read(trace).context("cannot read the trace")?;
    until_program(&String::from_utf8_lossy(&text))
}

/// Lines that begin a call, up to the one that executes the user's program.
fn until_program(trace: &str) -> Result<usize> {
    let program = format!("[\"{PROGRAM}\"");
    let begins = |line: &&str| !line.contains(" resumed>") && !line.contains(" +++ ") && !line.contains(" --- ");
    let calls: Vec<&str> = trace.lines().filter(begins).collect();
    let at = calls.iter().position(|line| line.contains("execve") && line.contains(&program));
    at.context("the trace does not show the user's program")
}

pub fn record() -> PathBuf {
    shell::root().join("bench/oci-syscalls.txt")
}

impl Counts {
    pub fn write(self) -> Result<()> {
        // One wait more or less is chance.
        let text = format!(
            "# System calls of dhow-oci before the user's program runs, on a hybrid host; the larger of what a\n\
             # release and a test build need, up to the next ten. Written by `cargo xtask bench oci --record`.\n\
             run {}\nexec {}\n",
            self.run.next_multiple_of(10),
            self.exec.next_multiple_of(10)
        );
        fs::write(record(), text).context("cannot write bench/oci-syscalls.txt")
    }

    #[cfg(test)]
    fn read() -> Result<Self> {
        let text = fs::read_to_string(record()).context("cannot read bench/oci-syscalls.txt")?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|number| number.parse().ok()).with_context(|| format!("no figure for {name}"))
        };
        Ok(Self { run: value("run")?, exec: value("exec")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::oci::{bundle, calls};

    #[test]
    fn a_call_counts_once() {
        let trace = "1 execve(\"/rt\", [\"/rt\"], 0x1) = 0\n1 brk(NULL) = 0\n2 read(3 <unfinished ...>\n1 close(3) = 0\n\
                     2 <... read resumed>\"\", 1) = 1\n9 +++ exited with 0 +++\n\
                     2 execve(\"/program\", [\"/program\"], 0x2) = 0\n2 brk(NULL) = 0\n";
        assert_eq!(until_program(trace).unwrap(), 4);
        assert!(until_program("1 brk(NULL) = 0\n").is_err());
    }

    /// A twentieth more is tolerated: libraries and kernels differ a little between hosts.
    #[test]
    fn dhow_oci_makes_no_more_calls_than_it_did() {
        let Some(programs) = std::env::var_os("DHOW_TEST_PROGRAMS").map(PathBuf::from) else {
            eprintln!("left out: `cargo xtask test` prepares what this test needs");
            return;
        };
        let kept = Counts::read().unwrap();
        let dir = tempfile::tempdir().unwrap();
        calls::adopt().unwrap();
        let parent = format!("dhow-syscalls-{}", std::process::id());
        let bundles = bundle::make(dir.path(), &parent, "dhow-oci").unwrap();
        let runtime = Runtime::new("dhow-oci", &programs.join("dhow-oci"), dir.path()).unwrap();
        let pid = runtime.stay(&bundles).unwrap();
        let counts = count(&runtime, &bundles, dir.path());
        runtime.leave(pid).unwrap();
        bundle::forget(&parent);
        let counts = counts.unwrap();
        assert!(
            counts.run <= kept.run + kept.run / 20 && counts.exec <= kept.exec + kept.exec / 20,
            "{counts:?} are more than {kept:?}"
        );
    }
}
