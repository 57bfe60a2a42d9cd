//! Running other programs: one way to do it, with the command line in every error.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_path_buf()
}

/// Where cargo builds; respects `CARGO_TARGET_DIR`.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

pub fn command<I, S>(program: &str, args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// Run to its end with our own output; a status other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// Run `cargo test` to its end with our own output, and return what its failed tests said: in a long log they are far
/// from the end, where a reader begins.
pub fn run_tests(command: &mut Command) -> Result<Verdict> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let stderr = child.stderr.take().expect("piped");
    // A test program that was killed names no test: what cargo says of it is all there is.
    let complaints = std::thread::spawn(move || {
        let mut kept = String::new();
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line);
            eprintln!("{text}");
            let telling = ["error", "Caused by", "    `-p"].iter().any(|words| text.starts_with(words));
            if telling || text.contains("process didn't exit") {
                kept.push_str(&text);
                kept.push('\n');
            }
        }
        kept
    });
    let mut failures = String::new();
    let mut failing = false;
    for line in BufReader::new(child.stdout.take().expect("piped")).split(b'\n') {
        let line = line?;
        let text = String::from_utf8_lossy(&line);
        println!("{text}");
        failing = (failing || text == "failures:") && !text.starts_with("test result:");
        if failing {
            failures.push_str(&text);
            failures.push('\n');
        }
    }
    let status = child.wait()?;
    failures.push_str(&complaints.join().unwrap_or_default());
    let verdict = if status.success() { Ok(()) } else { Err(anyhow!("{command:?} failed: {status}")) };
    Ok(Verdict { verdict, failures })
}

/// How a run of tests ended.
pub struct Verdict {
    pub verdict: Result<()>,
    /// What the failed tests printed, empty without one.
    pub failures: String,
}

/// Standard output of a command that must succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Does a quiet run succeed?
pub fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Is the program on `PATH`?
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}

/// Fails in one sentence unless we are root.
pub fn require_root(task: &str) -> Result<()> {
    let uid = output(&mut command("id", ["-u"]))?;
    if uid.trim() != "0" {
        bail!("`cargo xtask {task}` runs real containers and needs root: run it again with sudo");
    }
    Ok(())
}

/// Debian packages, installed when one of the given files or programs is missing.
pub fn require_packages(needs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|(probe, _)| if probe.starts_with('/') { !Path::new(probe).exists() } else { on_path(probe).is_none() })
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if on_path("apt-get").is_none() {
        bail!("this task needs the packages {} and there is no apt-get to install them with", missing.join(", "));
    }
    eprintln!("installing {}", missing.join(" "));
    let quiet = |args: &[&str]| {
        let mut apt = command("apt-get", args);
        apt.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        apt
    };
    run(&mut quiet(&["update", "-qq"]))?;
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(&missing);
    run(&mut quiet(&args)).with_context(|| format!("the packages {} could not be installed", missing.join(", ")))
}
