//! config-linux.md "Namespaces": new ones, those of others by path, and the caller's.

use std::fs;

use oci_tests::{Bundle, Environment, Runtime};
use serde_json::json;

use crate::refused_for;

/// Types of the specification and the names of their files.
const KINDS: [(&str, &str); 7] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn namespace(pid: &str, file: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{file}")).map(|link| link.display().to_string()).unwrap_or_default()
}

#[test]
fn each_namespace_named_is_new() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle().namespace("cgroup", None).namespace("time", None);
    let container = runtime.start(&bundle);
    let pid = container.pid().to_string();
    for (kind, file) in KINDS {
        let own = namespace(&pid, file);
        assert!(!own.is_empty() && own != namespace("self", file), "{kind} is not new: {own}");
    }
    assert_eq!(namespace(&pid, "user"), namespace("self", "user"));
}

/// "If a namespace type is not specified in the namespaces array, the container MUST inherit the runtime namespace".
#[test]
fn each_namespace_left_out_is_the_callers() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    for (kind, file) in KINDS {
        if kind == "mount" {
            continue;
        }
        let bundle = Bundle::new().idle().without_namespace(kind);
        let bundle = if kind == "uts" { bundle.remove("/hostname") } else { bundle };
        let container = runtime.start(&bundle);
        assert_eq!(namespace(&container.pid().to_string(), file), namespace("self", file), "{kind}");
    }
}

#[test]
fn namespaces_of_others_are_joined() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let first = Bundle::new().idle().namespace("cgroup", None).namespace("time", None);
    let first = runtime.start(&first);
    let pid = first.pid().to_string();
    let mut second = Bundle::new().idle().remove("/hostname");
    for (kind, file) in KINDS {
        if kind != "mount" {
            second = second.namespace(kind, Some(&format!("/proc/{pid}/ns/{file}")));
        }
    }
    let container = runtime.start(&second);
    let own = container.pid().to_string();
    for (kind, file) in KINDS {
        assert_eq!(namespace(&own, file) == namespace(&pid, file), kind != "mount", "{kind}");
    }
    // In a pid namespace of another's, it is not the first.
    assert_eq!(container.shell("test -d /proc/1 && readlink /proc/1/exe").ok().stdout.trim(), "/bin/busybox");
}

#[test]
fn names_are_set_in_a_namespace_of_its_own() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let before = fs::read_to_string("/proc/sys/kernel/hostname").expect("the host's name");
    let bundle = Bundle::new()
        .set("/hostname", json!("web-1"))
        .set("/domainname", json!("example.test"))
        .shell("hostname; cat /proc/sys/kernel/domainname");
    assert_eq!(runtime.run(&bundle).ok().stdout, "web-1\nexample.test\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").expect("the host's name"), before);
    // Without one of its own, it would be the host's.
    refused_for(runtime.run(&Bundle::new().without_namespace("uts")), &["hostname", "uts"]);
}

#[test]
fn what_is_no_namespace_of_the_kind_is_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let cases = [
        Bundle::new().namespace("network", Some("/proc/self/ns/ipc")),
        Bundle::new().namespace("network", Some("/etc/passwd")),
        Bundle::new().namespace("network", Some("/no/such/path")),
        Bundle::new().namespace("network", Some("proc/self/ns/net")),
        Bundle::new().push("/linux/namespaces", json!({ "type": "network" })),
        Bundle::new().push("/linux/namespaces", json!({ "type": "flavour" })),
    ];
    for bundle in &cases {
        refused_for(runtime.run(bundle), &["linux.namespaces["]);
    }
}

#[test]
fn a_container_without_a_mount_namespace_is_refused_by_name() {
    let Some(environment) = Environment::get() else { return };
    if !environment.is_ours() {
        return;
    }
    let runtime = Runtime::new();
    let bundle = Bundle::new().remove("/linux/maskedPaths").remove("/linux/readonlyPaths").without_namespace("mount");
    refused_for(runtime.run(&bundle), &["linux.namespaces", "mount namespace"]);
}

/// The container's view of its group begins at its group.
#[test]
fn a_cgroup_namespace_hides_what_is_above() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().namespace("cgroup", None).args(&["/bin/cat", "/proc/self/cgroup"]);
    let output = runtime.run(&bundle).ok();
    assert!(!output.stdout.contains(runtime.parent_group()), "{output}");
}

#[test]
fn the_first_process_of_a_pid_namespace_is_number_one() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    assert_eq!(runtime.run(&Bundle::new().shell("echo $$")).ok().stdout, "1\n");
    let output = runtime.run(&Bundle::new().without_namespace("pid").shell("echo $$")).ok();
    assert_ne!(output.stdout, "1\n");
}

#[test]
fn a_new_network_has_its_loopback_up() {
    let Some(_) = Environment::get() else { return };
    let output = Runtime::new().run(&Bundle::new().shell("cat /sys/class/net/lo/flags; ls /sys/class/net")).ok();
    assert_eq!(output.stdout, "0x9\nlo\n");
}
