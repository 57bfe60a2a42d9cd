//! A3: a mount whose target is, or becomes while it is looked up, a link out of the root (CVE-2019-19921,
//! CVE-2021-30465, CVE-2023-27561, CVE-2023-28642, CVE-2024-45310, CVE-2026-41579). What is missing is made by the
//! runtime as the host's root: made outside, it is found in the canary.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use oci_tests::{Bundle, Canary, Environment, Runtime};
use security::Swapper;
use serde_json::json;

use crate::{SHOW_MOUNTS, assert_inside};

/// Links out of the root: absolute, and climbing.
fn ways_out(canary: &Canary) -> Vec<String> {
    let path = canary.dir().display();
    vec![format!("{path}"), format!("../../../../../../../../../..{path}"), "../../../../../../../../..".to_owned()]
}

#[test]
fn links_of_the_image_at_mount_points_lead_nowhere_outside() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    let file = tempfile::NamedTempFile::new().expect("a file to bind");
    for target in ["/dev", "/proc", "/sys", "/etc", "/run", "/dev/pts", "/sys/fs", "/mnt/deep/file"] {
        for way_out in ways_out(&canary) {
            let bundle = Bundle::new()
                .bind(file.path(), "/etc/hosts", &["ro"])
                .bind(file.path(), "/run/secrets/deep/file", &[])
                .bind(file.path(), "/mnt/deep/file", &[])
                .mount(json!({ "destination": "/run/lock/new", "type": "tmpfs", "source": "tmpfs" }))
                .link(target, &way_out)
                .shell(SHOW_MOUNTS);
            assert_inside(&runtime.run(&bundle), &canary);
        }
    }
}

/// What shows the kernel must appear where programs look for it, or not at all.
#[test]
fn proc_and_sys_are_not_mounted_through_links() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    for (target, elsewhere) in [("/proc", "/mnt/p"), ("/sys", "/mnt/s")] {
        let bundle = Bundle::new().directory(elsewhere).link(target, elsewhere).args(&["/bin/true"]);
        let _ = runtime.run(&bundle).refused();
        // The same for a part of the way.
        let bundle = Bundle::new()
            .directory("/mnt/real")
            .link("/way", "/mnt/real")
            .mount(json!({ "destination": "/way/x", "type": &target[1..], "source": "x" }));
        let _ = runtime.run(&bundle).refused();
    }
    drop(canary);
}

/// The attack of CVE-2021-30465: the second mount goes below a volume in which the attacker exchanges the target's
/// directory with a link.
#[test]
fn nested_mounts_in_a_volume_in_motion_stay_inside() {
    let Some(environment) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    let volume = volume(&canary.dir().join("d"));
    let source = tempfile::tempdir().expect("a directory to bind");
    fs::write(source.path().join("mark"), "").expect("a file");
    let bundle = Bundle::new()
        .bind(volume.path(), "/vol", &[])
        .mount(json!({ "destination": "/vol/d/tmpfs/new", "type": "tmpfs", "source": "tmpfs" }))
        .bind(source.path(), "/vol/d/bound/new", &[])
        .mount(json!({ "destination": "/vol/d", "type": "tmpfs", "source": "tmpfs" }))
        .set("/linux/maskedPaths", json!(["/vol/d/deep", "/vol/d/file", "/proc/kcore"]))
        .set("/linux/readonlyPaths", json!(["/vol/d/tmpfs", "/proc/sys"]))
        .shell(SHOW_MOUNTS);
    let _swapper = Swapper::start(&volume.path().join("d"), &volume.path().join("l"));
    // Each start looks up three targets and four paths in the volume.
    let (mut started, starts) = (0, environment.attempts(2000) / 2);
    for _ in 0..starts {
        let output = runtime.run(&bundle);
        assert_inside(&output, &canary);
        started += usize::from(output.success());
    }
    eprintln!("{started} of {starts} started");
    assert!(started > 0, "no container started: nothing was raced");
}

/// The same against the root's own directories, which another container may have as a volume (CVE-2026-41579).
#[test]
fn the_roots_own_directories_in_motion_stay_inside() {
    let Some(environment) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    for name in ["dev", "proc", "sys", "etc"] {
        let bundle = Bundle::new()
            .bind(Path::new("/etc/hosts"), "/etc/new/hosts", &["ro"])
            .link("/way-out", canary.dir())
            .shell(SHOW_MOUNTS);
        let _swapper = Swapper::start(&bundle.path(name), &bundle.path("/way-out"));
        // Each start looks the directory up at least twice, to mount and to hide or to mount below.
        let mut started = 0;
        let attempts = environment.attempts(2000) / 8;
        for _ in 0..attempts {
            let output = runtime.run(&bundle);
            assert_inside(&output, &canary);
            started += usize::from(output.success());
        }
        eprintln!("/{name}: {started} of {attempts} started");
        assert!(started > 0, "no container started with /{name} in motion: nothing was raced");
    }
}

/// A volume with a directory `d` and a link `l` out of it.
fn volume(way_out: &Path) -> tempfile::TempDir {
    let volume = tempfile::tempdir().expect("a volume");
    fs::create_dir(volume.path().join("d")).expect("a directory of the volume");
    symlink(way_out, volume.path().join("l")).expect("a link in the volume");
    volume
}
