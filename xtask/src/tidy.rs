//! The workspace's own laws, checked from `cargo metadata` and the sources: dependencies point
//! downwards only, the shim stays lean, files stay small and say what they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// What each crate may depend on within the workspace. A missing crate is an error: a new crate is
/// a decision, and this table is where it is written down.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("docker-types", &["types"]),
    ("deflate", &[]),
    ("buildkit", &[]),
    ("dockerfile", &["types"]),
    ("chunked", &["types"]),
    ("layer", &[]),
    ("erofs", &["layer", "types"]),
    ("launch", &[]),
    ("seccomp", &[]),
    ("sys", &[]),
    ("netlink", &["sys"]),
    ("dbus", &[]),
    ("cgroup", &["dbus", "sys", "types"]),
    ("runtime", &["cgroup", "launch", "seccomp", "sys"]),
    ("shim", &["launch", "runtime", "sys"]),
    ("trust", &["types"]),
    ("oci", &["seccomp", "types"]),
    ("oci-runtime", &["cgroup", "launch", "netlink", "oci", "runtime", "seccomp", "sys", "types"]),
    ("store", &["deflate", "erofs", "layer", "sys", "types"]),
    ("state", &["types"]),
    ("distribution", &["types"]),
    ("registry", &["distribution", "sys", "types"]),
    ("firewall", &["netlink", "types"]),
    ("dns", &["types"]),
    ("dataplane", &["dns", "firewall", "sys", "types"]),
    ("network", &["dataplane", "dbus", "firewall", "netlink", "sys", "types"]),
    ("transfer", &["buildkit", "dockerfile", "sys"]),
    ("build", &["buildkit", "dockerfile", "layer", "store", "sys", "transfer", "types"]),
    (
        "engine",
        &[
            "build",
            "cgroup",
            "chunked",
            "distribution",
            "docker-types",
            "launch",
            "layer",
            "network",
            "seccomp",
            "state",
            "store",
            "sys",
            "trust",
            "types",
        ],
    ),
    ("api", &["build", "docker-types", "engine", "sys", "types"]),
    ("client", &["docker-types", "types"]),
    ("cli", &["buildkit", "client", "docker-types", "sys", "transfer", "types"]),
    ("dhow", &["cli"]),
    ("dhowd", &["api", "docker-types", "engine", "registry", "sys", "types"]),
    ("dhow-shim", &["shim"]),
    ("dhow-net", &["dataplane"]),
    ("dhow-oci", &["oci-runtime"]),
    ("e2e", &["buildkit", "dataplane", "sys"]),
    ("oci-tests", &["seccomp"]),
    ("security", &["oci-tests"]),
    ("vm-guest", &[]),
    ("load", &[]),
    ("xtask", &["vm-guest"]),
];

/// Crates that must not reach these packages, directly or through others. The shim is resident per
/// container; the pure crates promise that they do no I/O.
const FORBIDDEN: &[(&[&str], &[&str])] = &[
    (
        &[
            "dhow-shim",
            "shim",
            "dhow-net",
            "dataplane",
            "dns",
            "runtime",
            "sys",
            "netlink",
            "firewall",
            "cgroup",
            "seccomp",
            "layer",
            "launch",
            "erofs",
            "deflate",
        ],
        &["tokio", "anyhow", "serde_json", "clap", "regex"],
    ),
    (
        &["types", "docker-types", "dockerfile", "layer", "launch", "erofs", "deflate", "chunked", "trust", "dns"],
        &["rustix", "tokio"],
    ),
    (&["engine"], &["axum", "api"]),
];

const HARD_LIMIT: usize = 1000;

pub fn run() -> Result<()> {
    let mut faults = Vec::new();
    dependencies(&mut faults)?;
    sources(&mut faults)?;
    if faults.is_empty() {
        return Ok(());
    }
    bail!("{} tidy faults:\n{}", faults.len(), faults.join("\n"));
}

fn dependencies(faults: &mut Vec<String>) -> Result<()> {
    let text = shell::output(&mut shell::command("cargo", ["metadata", "--format-version", "1", "--offline"]))
        .or_else(|_| shell::output(&mut shell::command("cargo", ["metadata", "--format-version", "1"])))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
    let members: BTreeSet<&str> = strings(&metadata["workspace_members"]).collect();
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let names: BTreeMap<&str, &str> =
        packages.iter().filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?))).collect();
    let ours: BTreeSet<&str> = members.iter().filter_map(|id| names.get(id).copied()).collect();

    for package in packages.iter().filter(|package| package["id"].as_str().is_some_and(|id| members.contains(id))) {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = LAYERS.iter().find(|(known, _)| *known == name) else {
            faults.push(format!("crate `{name}` is not in the table of layers (xtask/src/tidy.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            let normal = dependency["kind"].is_null();
            if normal && ours.contains(target) && !allowed.contains(&target) {
                faults.push(format!("`{name}` may not depend on `{target}`"));
            }
        }
    }

    let edges = normal_edges(&metadata, &names);
    for (crates, banned) in FORBIDDEN {
        for start in *crates {
            let reached = reach(start, &edges);
            for ban in *banned {
                if reached.contains(*ban) {
                    faults.push(format!("`{start}` reaches `{ban}`, which its layer forbids"));
                }
            }
        }
    }
    Ok(())
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Normal (not build, not dev) dependencies by package name.
fn normal_edges<'a>(metadata: &'a Value, names: &BTreeMap<&'a str, &'a str>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().into_iter().flatten() {
        let Some(from) = node["id"].as_str().and_then(|id| names.get(id)) else { continue };
        for dependency in node["deps"].as_array().into_iter().flatten() {
            let normal = dependency["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].is_null());
            if let (true, Some(to)) = (normal, dependency["pkg"].as_str().and_then(|id| names.get(id))) {
                edges.entry(from).or_default().insert(to);
            }
        }
    }
    edges
}

fn reach<'a>(start: &str, edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut queue: Vec<&str> = edges.get(start).into_iter().flatten().copied().collect();
    while let Some(next) = queue.pop() {
        if seen.insert(next) {
            queue.extend(edges.get(next).into_iter().flatten().copied());
        }
    }
    seen
}

fn sources(faults: &mut Vec<String>) -> Result<()> {
    let root = shell::root();
    let mut files = Vec::new();
    for top in ["bin", "crates", "fuzz", "tests", "xtask"] {
        rust_files(&root.join(top), &mut files)?;
    }
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let shown = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        if !text.starts_with("//!") {
            faults.push(format!("{shown}: the file does not open with a `//!` paragraph that says what it is"));
        }
        let lines = text.lines().count();
        let exempt = ["tests", "table"].iter().any(|word| shown.contains(word));
        if lines > HARD_LIMIT && !exempt {
            faults
                .push(format!("{shown}: {lines} lines, more than {HARD_LIMIT}: cut it where a second subject begins"));
        }
    }
    Ok(())
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
