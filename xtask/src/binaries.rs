//! Builds the programs and lays them side by side, as an installation has them: the daemon looks
//! for its shim and `dhow-net` in its own directory.

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

/// Builds and returns the directory that holds `dhow`, `dhowd`, `dhow-shim`, `dhow-net` and `dhow-oci`.
pub fn build(profile: Profile) -> Result<PathBuf> {
    let (flags, built, small): (&[&str], &str, &str) = match profile {
        Profile::Dev => (&[], "debug", "shim-test"),
        Profile::Release => (&["--release"], "release", "shim"),
    };
    let mut args = vec!["build", "--quiet", "-p", "dhow", "-p", "dhowd"];
    args.extend(flags);
    shell::run(&mut shell::command("cargo", args))?;

    let small = small_programs(small)?;

    let dist = shell::target().join("dist").join(built);
    fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    let target = shell::target();
    for (name, source) in [
        ("dhow", target.join(built).join("dhow")),
        ("dhowd", target.join(built).join("dhowd")),
        ("dhow-shim", small.join("dhow-shim")),
        ("dhow-net", small.join("dhow-net")),
        ("dhow-oci", small.join("dhow-oci")),
    ] {
        let temporary = dist.join(format!(".{name}.new"));
        fs::copy(&source, &temporary).with_context(|| format!("cannot copy {}", source.display()))?;
        // A rename, because the old file may be running.
        fs::rename(&temporary, dist.join(name))?;
    }
    Ok(dist)
}

/// Builds the OCI runtime alone, as an installation has it.
pub fn runtime() -> Result<PathBuf> {
    Ok(small_programs("shim")?.join("dhow-oci"))
}

/// The shim, the network process and the runtime are linked statically: one is resident per container, one per engine,
/// the last lives for a millisecond; a static PIE has the least private memory and starts fastest, and runs in a root
/// without libraries.
fn small_programs(profile: &str) -> Result<PathBuf> {
    build_static(&["dhow-shim", "dhow-net", "dhow-oci"], profile, profile)
}

/// Builds programs as static PIEs and returns their directory. `built` is where cargo puts the profile's
/// results.
pub fn build_static(packages: &[&str], profile: &str, built: &str) -> Result<PathBuf> {
    // An explicit target keeps the flag off build scripts.
    let host = host_triple()?;
    let mut cargo = shell::command("cargo", ["build", "--quiet", "--profile", profile, "--target", &host]);
    for package in packages {
        cargo.args(["-p", package]);
    }
    shell::run(cargo.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(shell::target().join(&host).join(built))
}

fn host_triple() -> Result<String> {
    let version = shell::output(&mut shell::command("rustc", ["-vV"]))?;
    let line = version.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("`rustc -vV` names no host")
}
