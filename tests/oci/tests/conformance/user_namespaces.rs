//! config-linux.md "User namespace mappings", and what a container in one may and may not do.

use std::fs;
use std::os::unix::fs::MetadataExt;

use oci_tests::{Bundle, Environment, Runtime, eventually};
use serde_json::json;

use crate::refused_for;

const FIRST: u32 = 300_000;

#[test]
fn ids_are_mapped() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().user_namespace(FIRST).shell("id -u; id -g; touch /made; exec sleep 100000");
    let container = runtime.start(&bundle);
    let words = |name: &str| container.proc(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words("uid_map"), ["0", "300000", "65536"]);
    assert_eq!(words("gid_map"), ["0", "300000", "65536"]);
    assert!(container.proc("status").contains("Uid:\t300000\t300000\t300000\t300000\n"));
    eventually(30, "the file", || bundle.path("/made").exists());
    assert_eq!(fs::metadata(bundle.path("/made")).expect("the file").uid(), FIRST);
}

#[test]
fn several_ranges_are_mapped() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let maps = json!([
        { "containerID": 0, "hostID": FIRST, "size": 1 },
        { "containerID": 1, "hostID": 400_000, "size": 9 },
        { "containerID": 65534, "hostID": 500_000, "size": 1 },
    ]);
    let bundle =
        Bundle::new().user_namespace(FIRST).set("/linux/uidMappings", maps.clone()).set("/linux/gidMappings", maps);
    let output = runtime.run(&bundle.args(&["/bin/cat", "/proc/self/uid_map"])).ok();
    let words: Vec<Vec<&str>> = output.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words, [["0", "300000", "1"], ["1", "400000", "9"], ["65534", "500000", "1"]]);
}

#[test]
fn the_container_works_as_another() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new()
        .user_namespace(FIRST)
        .set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]))
        .set("/process/oomScoreAdj", json!(77))
        .sysctl("net.ipv4.ip_unprivileged_port_start", "0")
        .shell(
            "ulimit -n; cat /proc/self/oom_score_adj; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; hostname
             echo x > /dev/null && head -c 2 /dev/zero | wc -c; stat -c %a /dev/shm; touch /f && chown 5:6 /f && stat -c %u:%g /f",
        );
    assert_eq!(runtime.run(&bundle).ok().stdout, "100\n77\n0\ncontainer\n2\n1777\n5:6\n");
}

#[test]
fn files_of_the_host_belong_to_nobody() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("secret"), "of root\n").expect("a file");
    fs::set_permissions(dir.path().join("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("a mode");
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let bundle = Bundle::new()
        .user_namespace(FIRST)
        .bind(dir.path(), "/data", &[])
        .shell("stat -c %u /data/secret; cat /data/secret");
    let output = runtime.run(&bundle);
    assert_eq!(output.stdout, "65534\n");
    assert!(!output.success(), "{output}");
}

#[test]
fn a_user_other_than_root_is_mapped_too() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().user_namespace(FIRST).user(1000, 1001, &[7]).idle();
    let container = runtime.start(&bundle);
    assert!(container.proc("status").contains("Uid:\t301000\t"));
    assert!(container.proc("status").contains("Groups:\t300007"));
    assert_eq!(container.exec(&["/bin/id", "-u"]).ok().stdout, "1000\n");
    assert_eq!(container.exec_with(&["--user", "0"], &["/bin/id", "-u"]).ok().stdout, "0\n");
}

#[test]
fn exec_goes_into_the_namespace() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().user_namespace(FIRST).namespace("cgroup", None).idle();
    let container = runtime.start(&bundle);
    let output = container
        .shell("readlink /proc/self/ns/user; readlink /proc/1/ns/user; id -u; grep CapEff /proc/self/status")
        .ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[2..], ["0", "CapEff:\t00000000a80425fb"]);
    // Everything of the namespace is the container's, nothing outside.
    assert!(!container.shell("mount -t tmpfs x /mnt").success());
}

#[test]
fn a_user_namespace_of_another_is_joined() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let first = Bundle::new().user_namespace(FIRST).idle();
    let first = runtime.start(&first);
    let pid = first.pid();
    let mut second = Bundle::new()
        .user_namespace(FIRST)
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings")
        .remove("/hostname");
    for (kind, file) in [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        second = second.namespace(kind, Some(&format!("/proc/{pid}/ns/{file}")));
    }
    let second = second.idle();
    let container = runtime.start(&second);
    let link = |pid| fs::read_link(format!("/proc/{pid}/ns/user")).expect("a namespace");
    assert_eq!(link(container.pid()), link(pid));
    assert!(container.proc("status").contains("Uid:\t300000\t"));
    assert_eq!(container.exec(&["/bin/id", "-u"]).ok().stdout, "0\n");
}

#[test]
fn mappings_that_cannot_be_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let map = |container: u32, host: u32, size: u32| json!({ "containerID": container, "hostID": host, "size": size });
    let with = |maps| Bundle::new().user_namespace(FIRST).set("/linux/uidMappings", maps);
    refused_for(runtime.run(&with(json!([]))), &["linux.uidMappings"]);
    refused_for(runtime.run(&with(json!([map(0, FIRST, 0)]))), &["linux.uidMappings[0].size"]);
    refused_for(runtime.run(&with(json!([map(0, FIRST, 10), map(5, 400_000, 10)]))), &["linux.uidMappings[1]"]);
    refused_for(runtime.run(&with(json!([map(0, u32::MAX - 1, 10)]))), &["linux.uidMappings[0].hostID"]);
    let without = Bundle::new().set("/linux/uidMappings", json!([map(0, FIRST, 1)]));
    refused_for(runtime.run(&without), &["linux.uidMappings", "user namespace"]);
    let outside = Bundle::new().user_namespace(FIRST).user(70_000, 0, &[]);
    let _ = runtime.run(&outside).refused();
}

#[test]
fn create_and_start_work_as_run_does() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().user_namespace(FIRST).shell("echo ran > /ran; exec sleep 100000");
    let container = runtime.create(&bundle);
    assert_eq!(container.status(), "created");
    container.start();
    eventually(30, "the program", || bundle.path("/ran").exists());
    container.kill();
    container.delete();
}
