//! A6: what the runtime writes through procfs lands in a file of the image, or in another file of procfs
//! (CVE-2019-16884, CVE-2025-52881, CVE-2025-62596).

use std::fs;
use std::path::Path;
use std::process::Command;

use oci_tests::{Bundle, Canary, Container, Environment, Runtime};
use rustix::fs::{FileType, Mode};
use security::Swapper;
use serde_json::json;

use crate::started_or_refused;

#[test]
fn mounts_over_procfs_are_refused() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    let dir = tempfile::tempdir().expect("a directory to bind");
    let file = tempfile::NamedTempFile::new().expect("a file to bind");
    let bundle = || Bundle::new().link("/link", "/proc").link("/deep", "/proc/self");
    let tmpfs = |target: &str| json!({ "destination": target, "type": "tmpfs", "source": "tmpfs" });
    for target in [
        "/proc",
        "/proc/self",
        "/proc/self/attr",
        "/proc/1/attr",
        "/proc/sys",
        "/proc/sys/kernel",
        "/link/sys",
        "/deep/attr",
        "//proc/./sys",
    ] {
        let _ = runtime.run(&bundle().mount(tmpfs(target))).refused();
        let _ = runtime.run(&bundle().bind(dir.path(), target, &[])).refused();
    }
    for target in [
        "/proc/self/attr/exec",
        "/proc/sys/kernel/core_pattern",
        "/proc/self/oom_score_adj",
        "/link/sysrq-trigger",
        "/proc/cmdline",
    ] {
        let _ = runtime.run(&bundle().bind(file.path(), target, &[])).refused();
    }
    // What lxcfs replaces may be replaced.
    let _ = runtime
        .run(&bundle().bind(file.path(), "/proc/meminfo", &["ro"]).shell("! grep -q MemTotal /proc/meminfo"))
        .ok();
    drop(canary);
}

/// A tree that looks like procfs where the runtime would write.
fn fill_proc(proc: &Path) {
    let files = [
        "self/oom_score_adj",
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "self/setgroups",
        "thread-self/attr/exec",
        "sys/net/core/somaxconn",
        "sys/net/ipv4/ip_unprivileged_port_start",
        "sys/kernel/shmmax",
        "sys/kernel/cap_last_cap",
    ];
    for file in files {
        let path = proc.join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, UNTOUCHED).expect("a file");
    }
}

const UNTOUCHED: &str = "untouched\n";

#[track_caller]
fn assert_untouched(proc: &Path) {
    for entry in fs::read_dir(proc).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            assert_untouched(&path);
        } else {
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), Some(UNTOUCHED), "{} was written to", path.display());
        }
    }
}

fn bundle() -> Bundle {
    Bundle::new()
        .sysctl("net.core.somaxconn", "321")
        .sysctl("net.ipv4.ip_unprivileged_port_start", "7")
        .sysctl("kernel.shmmax", "123456789")
        .set("/process/oomScoreAdj", json!(432))
        .idle()
}

/// What was asked for has happened, as the host sees it.
#[track_caller]
fn assert_landed(container: &Container<'_>) {
    assert_eq!(container.proc("oom_score_adj").trim(), "432");
    let pid = container.pid();
    let value = |name: &str| {
        let mut nsenter = Command::new("nsenter");
        nsenter.args([format!("--net=/proc/{pid}/ns/net"), format!("--ipc=/proc/{pid}/ns/ipc")]);
        let output = nsenter.args(["cat", &format!("/proc/sys/{name}")]).output().expect("nsenter");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(value("net/core/somaxconn"), "321");
    assert_eq!(value("net/ipv4/ip_unprivileged_port_start"), "7");
    assert_eq!(value("kernel/shmmax"), "123456789");
}

/// The image brings a `/proc` of its own, and no procfs covers it.
#[test]
fn a_proc_of_the_image_gets_nothing() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    let plain = bundle();
    let container = runtime.start(&plain);
    assert_landed(&container);
    drop(container);

    let fake = bundle().without_mount("/proc").remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
    fill_proc(&fake.path("/proc"));
    let output = runtime.run_with(&fake, &["--detach"]);
    if started_or_refused(&output) {
        let state = runtime.call(&["state", fake.id()]).ok();
        assert!(state.stdout.contains("running"), "{state}");
        assert_landed(&Container::of(&runtime, &fake));
    }
    assert_untouched(&fake.path("/proc"));
    drop(canary);
}

/// Pipes where the runtime would write or read: it does neither, or does not wait.
#[test]
fn pipes_in_a_proc_of_the_image_hold_nobody_up() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    let fake = bundle().without_mount("/proc").remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
    for file in [
        "self/oom_score_adj",
        "self/attr/exec",
        "self/status",
        "sys/net/core/somaxconn",
        "sys/kernel/cap_last_cap",
        "mounts",
        "self/mountinfo",
    ] {
        let path = fake.path("/proc").join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).expect("a pipe");
    }
    let output = runtime.run_with(&fake, &["--detach"]);
    if started_or_refused(&output) {
        assert_landed(&Container::of(&runtime, &fake));
    }
    drop(canary);
}

/// The root's `/proc` is exchanged with a tree that looks like procfs while the container is made.
#[test]
fn writes_land_where_they_should_while_proc_is_in_motion() {
    let Some(environment) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    let bundle = bundle().directory("/fake");
    fill_proc(&bundle.path("/fake"));
    fill_proc(&bundle.path("/proc"));
    let swapper = Swapper::start(&bundle.path("/proc"), &bundle.path("/fake"));
    // Each start writes several files, and looks up many more to hide them.
    let (mut started, attempts) = (0, environment.attempts(2000) / 4);
    for _ in 0..attempts {
        let output = runtime.run_with(&bundle, &["--detach"]);
        if started_or_refused(&output) {
            assert_landed(&Container::of(&runtime, &bundle));
            started += 1;
        }
    }
    drop(swapper);
    eprintln!("{started} of {attempts} started");
    assert!(started > 0, "no container started: nothing was raced");
    assert_untouched(&bundle.path("/proc"));
    assert_untouched(&bundle.path("/fake"));
    drop(canary);
}
