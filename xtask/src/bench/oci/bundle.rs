//! The bundle that every runtime gets: what dockerd writes for a container of the default profile
//! with limits (`bench/oci/config.json`), over a root file system that holds one static program.
//! Made anew for each run of the benchmark, below a directory that the caller removes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::shell;

/// The container's program, as its configuration names it.
pub const PROGRAM: &str = "/program";

/// What `make` put below a directory.
pub struct Bundles {
    /// A container that ends at once.
    pub ends: PathBuf,
    /// A container that waits for a signal.
    pub stays: PathBuf,
    /// A process for `exec --process`: `PROGRAM` with the container's own settings.
    pub process: PathBuf,
    /// `maxrss FILE PROGRAM ARGS`, see its source.
    pub maxrss: PathBuf,
}

impl Bundles {
    pub fn at(dir: &Path) -> Self {
        Self {
            ends: dir.join("ends"),
            stays: dir.join("stays"),
            process: dir.join("process.json"),
            maxrss: dir.join("maxrss"),
        }
    }
}

/// Makes both bundles and the process file; the control groups are `/<parent>/<name>-…`.
pub fn make(dir: &Path, parent: &str, name: &str) -> Result<Bundles> {
    let sources = shell::root().join("bench/oci");
    let text = fs::read_to_string(sources.join("config.json")).context("cannot read bench/oci/config.json")?;
    let template: Value = serde_json::from_str(&text).context("bench/oci/config.json is not JSON")?;
    let bundles = Bundles::at(dir);
    fs::create_dir_all(dir)?;
    let program = dir.join("program");
    compile(&sources.join("program.c"), &program)?;
    compile(&sources.join("maxrss.c"), &bundles.maxrss)?;
    for (bundle, what, args) in
        [(&bundles.ends, "ends", json!([PROGRAM])), (&bundles.stays, "stays", json!([PROGRAM, "stay"]))]
    {
        let rootfs = bundle.join("rootfs");
        for part in ["dev", "etc", "proc", "sys"] {
            fs::create_dir_all(rootfs.join(part))?;
        }
        fs::copy(&program, rootfs.join("program"))?;
        let mut config = template.clone();
        config["process"]["args"] = args;
        config["linux"]["cgroupsPath"] = json!(format!("/{parent}/{name}-{what}"));
        for mount in config["mounts"].as_array_mut().into_iter().flatten() {
            if mount["type"] == "bind" {
                let file = bundle.join(mount["source"].as_str().context("a bind names its source")?);
                fs::write(&file, "")?;
                mount["source"] = json!(file);
            }
        }
        fs::write(bundle.join("config.json"), config.to_string())?;
    }
    fs::write(&bundles.process, template["process"].to_string())?;
    Ok(bundles)
}

/// Removes the parent group, which no runtime made for itself, and what one left in it, from every hierarchy.
pub fn forget(parent: &str) {
    fn remove(group: &Path) {
        for below in fs::read_dir(group).into_iter().flatten().flatten() {
            if below.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&below.path());
            }
        }
        let _ = fs::remove_dir(group);
    }
    let root = Path::new("/sys/fs/cgroup");
    for hierarchy in fs::read_dir(root).into_iter().flatten().flatten() {
        remove(&hierarchy.path().join(parent));
    }
    remove(&root.join(parent));
}

fn compile(source: &Path, program: &Path) -> Result<()> {
    shell::run(shell::command("gcc", ["-O2", "-Wall", "-static", "-s", "-o"]).arg(program).arg(source))
}
