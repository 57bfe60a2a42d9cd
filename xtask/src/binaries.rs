//! Builds the programs and lays them side by side, as an installation has them: the daemon looks
//! for its shim in its own directory.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::shell;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build; tests run it.
    Dev,
    /// What users get; demo and benchmarks run it.
    Release,
}

/// Builds and returns the directory that holds `dhow`, `dhowd`, `dhow-shim` and `dhow-oci`.
pub fn build(profile: Profile) -> Result<PathBuf> {
    let (flags, built): (&[&str], &str) = match profile {
        Profile::Dev => (&[], "debug"),
        Profile::Release => (&["--release"], "release"),
    };
    let mut args = vec!["build", "--quiet", "-p", "dhow", "-p", "dhowd"];
    args.extend(flags);
    shell::run(&mut shell::command("cargo", args))?;

    // The shim and the runtime are linked statically: one is resident per container, the other lives for a
    // millisecond; a static PIE has the least private memory and starts fastest, and runs in a root without
    // libraries. An explicit target keeps the flag off build scripts.
    let host = host_triple()?;
    let mut small = shell::command("cargo", ["build", "--quiet", "--profile", "shim", "--target", &host]);
    small.args(["-p", "dhow-shim", "-p", "dhow-oci"]).env("RUSTFLAGS", "-C target-feature=+crt-static");
    shell::run(&mut small)?;

    let dist = shell::target().join("dist").join(built);
    fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    let target = shell::target();
    for (name, source) in [
        ("dhow", target.join(built).join("dhow")),
        ("dhowd", target.join(built).join("dhowd")),
        ("dhow-shim", target.join(&host).join("shim").join("dhow-shim")),
        ("dhow-oci", target.join(&host).join("shim").join("dhow-oci")),
    ] {
        let temporary = dist.join(format!(".{name}.new"));
        fs::copy(&source, &temporary).with_context(|| format!("cannot copy {}", source.display()))?;
        // A rename, because the old file may be running.
        fs::rename(&temporary, dist.join(name))?;
    }
    Ok(dist)
}

fn host_triple() -> Result<String> {
    let version = shell::output(&mut shell::command("rustc", ["-vV"]))?;
    let line = version.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("`rustc -vV` names no host")
}
