//! A22: settings of the host changed through the configuration: sysctls that no namespace has for itself, names that walk
//! around, values that bring more along, paths of control groups that climb (CVE-2022-0811, CVE-2022-0532,
//! CVE-2024-3154).

use std::fs;
use std::path::{Path, PathBuf};

use oci_tests::{Bundle, Canary, Environment, Runtime};
use serde_json::json;

use crate::started_or_refused;

/// A bundle whose sysctl would be written before its program runs.
fn bundle(key: &str, value: &str) -> Bundle {
    Bundle::new().sysctl(key, value).args(&["/bin/echo", "started"])
}

#[track_caller]
fn refuse(runtime: &Runtime, bundle: &Bundle) {
    let output = runtime.run(bundle).refused();
    assert!(!output.stdout.contains("started"), "{output}");
}

#[test]
fn settings_the_host_has_once_are_refused() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    for key in [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "kernel.modprobe",
        "kernel.panic",
        "kernel.randomize_va_space",
        "vm.overcommit_memory",
        "fs.suid_dumpable",
        "fs.protected_symlinks",
        "debug.exception-trace",
        "dev.cdrom.autoclose",
        "user.max_user_namespaces",
        "kernel.shmmax.",
        "kernel.shm_next_id.x",
    ] {
        refuse(&runtime, &bundle(key, "1"));
    }
}

#[test]
fn names_that_walk_around_are_refused() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    for key in [
        "net/../kernel/core_pattern",
        "net.ipv4/../../../kernel/core_pattern",
        "net/ipv4/../../kernel/core_pattern",
        "net.//.kernel.core_pattern",
        "net/./../kernel/core_pattern",
        "/kernel/core_pattern",
        "net//../kernel/core_pattern",
        "fs.mqueue/../../kernel/core_pattern",
        "fs/mqueue/../suid_dumpable",
        "net/ipv4/ip_forward\0/../../kernel/core_pattern",
        "net",
        "net.",
        "",
        ".",
        "..",
        "net/core/somaxconn/",
        "net/core/../../../self/oom_score_adj",
    ] {
        refuse(&runtime, &bundle(key, "1"));
    }
}

/// With a namespace of the host, what it would have for itself is the host's.
#[test]
fn settings_of_shared_namespaces_are_refused() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    for (namespace, file, keys) in [
        (
            "network",
            "net",
            &["net.core.somaxconn", "net.ipv4.ip_unprivileged_port_start", "net/ipv4/ping_group_range"][..],
        ),
        ("ipc", "ipc", &["kernel.shmmax", "kernel.msgmax", "kernel.sem", "fs.mqueue.msg_max"]),
        ("uts", "uts", &["kernel.hostname", "kernel.domainname"]),
    ] {
        for key in keys {
            let shared = bundle(key, "1").without_namespace(namespace).remove("/hostname");
            refuse(&runtime, &shared);
            // The same by its path.
            let own = format!("/proc/{}/ns/{file}", std::process::id());
            refuse(&runtime, &bundle(key, "1").namespace(namespace, Some(&own)).remove("/hostname"));
        }
    }
    // A host name without a namespace for it.
    refuse(&runtime, &Bundle::new().without_namespace("uts").args(&["/bin/echo", "started"]));
}

#[test]
fn values_bring_nothing_along() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let read = "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/core_pattern";
    for value in [
        "33+kernel.core_pattern=|/x",
        "33\nkernel.core_pattern = |/x",
        "33\0",
        "33 ; 44",
        "",
        " ",
        "33,44",
        "99999999999999999999",
        "-1",
    ] {
        let output = runtime.run(&Bundle::new().sysctl("net.core.somaxconn", value).shell(read));
        if started_or_refused(&output) {
            assert!(!output.stdout.contains("|/x"), "{output}");
        }
    }
    let output = runtime.run(&Bundle::new().sysctl("net.core.somaxconn", "33").shell(read)).ok();
    assert!(output.stdout.starts_with("33\n"), "{output}");
}

/// Every directory of the host's control groups, but those of the tests themselves.
fn groups() -> Vec<PathBuf> {
    fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth > 0 {
                found.push(entry.path());
                walk(&entry.path(), depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), 4, &mut found);
    found
}

#[test]
fn paths_of_control_groups_do_not_climb() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    let own = canary.dir().display().to_string();
    let name = runtime.parent_group().to_owned();
    for path in [
        format!("../../../../../..{own}/{name}"),
        format!("/../../../../../..{own}/{name}"),
        format!("/{name}/../../../../../../..{own}/d/{name}"),
        format!("/{name}/../../{name}"),
        format!("/{name}/./../../../{name}"),
        "..".to_owned(),
        "/..".to_owned(),
        "../..".to_owned(),
        "/".to_owned(),
        ".".to_owned(),
        format!("/{name}\0/../.."),
        format!("/{name}\n/x"),
    ] {
        let bundle = Bundle::new().set("/linux/cgroupsPath", json!(path)).args(&["/bin/cat", "/proc/self/cgroup"]);
        let output = runtime.run(&bundle);
        if started_or_refused(&output) {
            // Somewhere below the root, and not in the groups of whoever called.
            let callers = fs::read_to_string("/proc/self/cgroup").expect("the caller's groups");
            for line in output.stdout.lines() {
                assert!(!line.contains(".."), "{path:?}: {output}");
                assert!(!callers.lines().any(|own| own == line && !own.ends_with(":/")), "{path:?}: {output}");
            }
        }
        assert!(canary.changes().is_empty(), "{path:?}: {:?}", canary.changes());
    }
    let left: Vec<PathBuf> =
        groups().into_iter().filter(|group| group.file_name().is_some_and(|last| *last == *name)).collect();
    for group in &left {
        assert!(fs::read_dir(group).into_iter().flatten().flatten().all(|entry| !entry.path().is_dir()), "{left:?}");
    }
}
