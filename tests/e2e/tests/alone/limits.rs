//! Limits reach the kernel's files, hold, change on `update`, and statistics tell what the files say.

use serde_json::Value;

use crate::groups::{Group, is_v2};
use crate::{engine, eventually};

const MIB: u64 = 1 << 20;

#[test]
fn limits_are_in_the_files() {
    let Some((_daemon, dhow)) = engine(false) else { return };
    let limits = [
        "--memory=64m",
        "--memory-swap=96m",
        "--memory-reservation=32m",
        "--cpus=0.5",
        "--cpu-shares=512",
        "--pids-limit=50",
        "--cpuset-cpus=0",
        "--cpuset-mems=0",
    ];
    dhow.run(&[&["run", "-d", "--name", "c1"][..], &limits, &["busybox", "sleep", "1000"]].concat());
    let group = Group::of(&dhow, "c1");
    assert_eq!(group.read("memory", "memory.limit_in_bytes", "memory.max"), (64 * MIB).to_string());
    // v1 counts memory and swap together, v2 swap alone.
    let swap = if is_v2() { 32 } else { 96 } * MIB;
    assert_eq!(group.read("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"), swap.to_string());
    assert_eq!(group.read("memory", "memory.soft_limit_in_bytes", "memory.low"), (32 * MIB).to_string());
    assert_eq!(group.read("cpu", "cpu.cfs_quota_us", "cpu.max").split(' ').next(), Some("50000"));
    // The conversion of runc 1.3.2 and crun 1.23 on: 10^((l² + 125·l) / 612 - 7 / 34) with l = log2(shares).
    assert_eq!(group.read("cpu", "cpu.shares", "cpu.weight"), if is_v2() { "59" } else { "512" });
    assert_eq!(group.read("pids", "pids.max", "pids.max"), "50");
    assert_eq!(group.read("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");

    dhow.run(&["update", "--memory", "128m", "--memory-swap", "256m", "--cpus", "0.25", "--pids-limit", "60", "c1"]);
    assert_eq!(group.read("memory", "memory.limit_in_bytes", "memory.max"), (128 * MIB).to_string());
    assert_eq!(group.read("cpu", "cpu.cfs_quota_us", "cpu.max").split(' ').next(), Some("25000"));
    assert_eq!(group.read("pids", "pids.max", "pids.max"), "60");
    dhow.run(&["rm", "-f", "c1"]);
    assert!(!group.exists());
}

#[test]
fn the_container_sees_its_own_group_and_cannot_write_it() {
    let Some((_daemon, dhow)) = engine(false) else { return };
    let limit = if is_v2() { "/sys/fs/cgroup/memory.max" } else { "/sys/fs/cgroup/memory/memory.limit_in_bytes" };
    let script = format!("cat {limit}; echo 1000000000 > {limit}; cat {limit}; tail -n 1 /proc/self/cgroup");
    let output = dhow.try_run(&["run", "--rm", "--memory", "64m", "busybox", "sh", "-c", &script]);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[..2], ["67108864"; 2], "{output:?}");
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
    if is_v2() {
        // A cgroup namespace of its own, as Docker has it on v2.
        assert_eq!(lines[2], "0::/", "{output:?}");
    }
}

#[test]
fn memory_beyond_the_limit_ends_the_container() {
    let Some((_daemon, dhow)) = engine(false) else { return };
    let hungry = "x=$(head -c 100000000 /dev/zero | tr '\\0' a); echo alive";
    let output =
        dhow.try_run(&["run", "--name", "c1", "--memory=16m", "--memory-swap=16m", "busybox", "sh", "-c", hungry]);
    assert!(!output.stdout.contains("alive"), "{output:?}");
    let state = dhow.inspect("c1")["State"].clone();
    assert_eq!(state["OOMKilled"], true, "{state}");
    dhow.run(&["rm", "c1"]);
}

#[test]
fn processes_beyond_the_limit_are_refused() {
    let Some((_daemon, dhow)) = engine(false) else { return };
    let bomb = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done; echo all";
    let output = dhow.try_run(&["run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", bomb]);
    assert!(output.stderr.contains("can't fork"), "{output:?}");
}

#[test]
fn devices_need_permission() {
    let Some((_daemon, dhow)) = engine(false) else { return };
    // CAP_MKNOD lets the node be made; the device rules (an eBPF program on v2) refuse to open it.
    let script =
        "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem > /dev/null; mknod /tmp/z c 1 5 && head -c 1 /tmp/z | wc -c";
    let output = dhow.try_run(&["run", "--rm", "busybox", "sh", "-c", script]);
    assert!(output.stderr.contains("/tmp/mem: Operation not permitted"), "{output:?}");
    assert_eq!(output.stdout, "1\n", "{output:?}");
    // 10:237 is the loop driver's control device, which is in nobody's defaults.
    let script = "mknod /tmp/l c 10 237 && : < /tmp/l && echo read; : > /tmp/l && echo written";
    let rule = ["run", "--rm", "--device-cgroup-rule", "c 10:237 rm", "busybox", "sh", "-c", script];
    let output = dhow.try_run(&rule);
    assert_eq!(output.stdout, "read\n", "{output:?}");
}

#[test]
fn statistics_are_the_kernels() {
    let Some((_daemon, dhow)) = engine(false) else { return };
    let script = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; echo counted; sleep 1000 & wait";
    dhow.run(&["run", "-d", "--name", "c1", "--memory", "64m", "--pids-limit", "50", "busybox", "sh", "-c", script]);
    eventually("some work", || dhow.run(&["logs", "c1"]) == "counted");
    eventually("a second process", || dhow.run(&["top", "c1"]).contains("sleep 1000"));
    let line = dhow.run(&["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", "c1"]);
    assert!(line.starts_with("c1 ") && line.contains("/ 64MiB") && line.ends_with(" 2"), "{line}");
    let json: Value = dhow.json(&["stats", "--no-stream", "--format", "{{json .}}", "c1"]);
    assert_ne!(json["MemUsage"].as_str().and_then(|text| text.split(' ').next()), Some("0B"), "{json}");
    dhow.run(&["rm", "-f", "c1"]);
}
