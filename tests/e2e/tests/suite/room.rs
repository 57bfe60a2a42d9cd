//! Room on the disk: compressed layers that are made again when they are asked for, images that are removed
//! when the disk fills up, and what is kept whatever happens.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::Daemon;
use e2e::daemon::Options;

use crate::disk::{Disk, run};
use crate::eventually;
use crate::registry::Registry;

/// Files of blobs of more than 100 kB, which are layers.
fn large_blobs(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("content/blobs/sha256")).unwrap().flatten();
    let large = entries.filter(|entry| entry.metadata().is_ok_and(|meta| meta.len() > 100_000));
    large.map(|entry| entry.path()).collect()
}

fn digest_at(registry: &Registry, name: &str) -> String {
    let target = format!("docker://{}/{name}", registry.address);
    run("skopeo", &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &target]).expect("skopeo runs")
}

#[test]
fn a_compressed_layer_is_made_again_for_who_asks() {
    let options = Options { flags: vec!["--storage-opt=compressed-after=5s".into()], ..Options::default() };
    let Some(mut daemon) = Daemon::start_with(options) else { return };
    let registry = Registry::start();
    // Compressed by Go's library, as nearly everything is that people pull.
    let theirs = daemon.twin();
    let pushed = format!("{}/go:1", registry.address);
    theirs.run(&["tag", "busybox", &pushed]);
    theirs.run(&["push", "-q", &pushed]);
    theirs.run(&["rmi", &pushed]);

    daemon.dhow().run(&["pull", "-q", &pushed]);
    let mut layers = fs::read_dir(daemon.data_root().join("layers")).unwrap().flatten();
    if !layers.any(|layer| layer.path().join("index.erofs").exists()) {
        eprintln!("skipped: the kernel mounts no indexed layers");
        return;
    }
    // Nobody waits for it, and the machine has other work.
    eventually(600, "replacing the compressed layer", || large_blobs(&daemon.data_root()).is_empty());
    let before = digest_at(&registry, "go:1");
    let other = Registry::start();
    let again = format!("{}/made:1", other.address);
    daemon.dhow().run(&["tag", &pushed, &again]);
    daemon.docker().run(&["push", &again]);
    assert_eq!(digest_at(&other, "made:1"), before);
    assert_eq!(daemon.dhow().run(&["run", "--rm", &again, "echo", "runs"]), "runs");
    assert_eq!(daemon.dhow().try_run(&["system", "fsck"]).code, 0);
    // Saved and loaded elsewhere it is the same image.
    let archive = daemon.dir.path().join("saved.tar");
    daemon.docker().run(&["save", "-o", archive.to_str().unwrap(), &again]);
    let second = Daemon::start().unwrap();
    second.dhow().run(&["load", "-q", "-i", archive.to_str().unwrap()]);
    let id = |daemon: &Daemon| daemon.dhow().run(&["image", "inspect", "--format", "{{.Id}}", &again]);
    assert_eq!(id(&daemon), id(&second));
    // A daemon that starts again knows, and pulling again fetches nothing.
    daemon.kill();
    daemon.launch();
    let pulled = daemon.dhow().run(&["pull", &pushed]);
    assert!(pulled.contains("up to date"), "{pulled}");
    daemon.dhow().run(&["rmi", "-f", &pushed, &again]);
    assert_eq!(fs::read_dir(daemon.data_root().join("content/recipes")).unwrap().count(), 0);
}

#[test]
fn a_disk_that_fills_up_loses_what_was_used_longest_ago() {
    let dir = tempfile::Builder::new().prefix("dhow-room-").tempdir().unwrap();
    let Some(disk) = Disk::make(dir.path(), "data", 512) else {
        eprintln!("skipped: no loop devices");
        return;
    };
    let flags = ["gc-high=60%", "gc-low=45%", "gc-min-age=0s"].map(|option| format!("--storage-opt={option}"));
    let options = Options { data: Some(disk.mount.clone()), flags: flags.into(), ..Options::default() };
    let Some(daemon) = Daemon::start_with(options) else { return };
    let client = daemon.dhow();
    let here = |name: &str| client.try_run(&["image", "inspect", name]).code == 0;
    let make = |name: &str, megabytes: u32| {
        let file = dir.path().join("layer.tar");
        let script = format!(
            "cd $(mktemp -d) && head -c {megabytes}000000 /dev/urandom >data && tar -cf {} data",
            file.display()
        );
        run("sh", &["-c", &script]).expect("tar runs");
        client.run(&["import", file.to_str().unwrap(), name]);
    };
    make("pinned:1", 60);
    assert_eq!(client.run(&["image", "pin", "pinned:1"]), "pinned:1");
    make("used:1", 60);
    client.run(&["create", "--name", "user", "used:1", "/data"]);
    make("old:1", 60);
    make("recent:1", 50);
    client.run(&["rm", &client.run(&["create", "recent:1", "/data"])]);
    make("old:1", 20);
    assert!(here("old:1") && here("recent:1"));
    // The fourth that is large goes past the mark; who lost its name to another goes first.
    make("last:1", 70);
    eventually(60, "making room", || !here("old:1"));
    assert!(here("pinned:1") && here("used:1"), "what is pinned or used stays");
    assert!(here("last:1"), "what was used last stays");
    assert_eq!(client.run(&["image", "ls", "-q", "--filter", "dangling=true"]), "");
    client.try_run(&["rmi", "pinned:1"]).expect_error(1, "image is pinned");
    client.run(&["image", "prune", "-a", "-f"]);
    assert!(here("pinned:1") && here("used:1") && !here("last:1"));
    client.run(&["image", "unpin", "pinned:1"]);
    client.run(&["rmi", "pinned:1"]);
}
