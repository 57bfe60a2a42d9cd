//! The life of a container: run, exec, pause, kill, remove, and what is left of its group.

use std::fs;

use crate::groups::Group;
use crate::{engine, eventually};

#[test]
fn run_gives_both_streams_and_the_code() {
    let Some((_daemon, dhow)) = engine(false) else { return };
    let output = dhow.try_run(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    output.expect_code(7);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let output = dhow.try_run_with(&["run", "--rm", "-i", "busybox", "cat"], b"through\nstdin");
    assert_eq!(output.stdout, "through\nstdin");
    eventually("the removal", || dhow.run(&["ps", "-aq"]).is_empty());
}

#[test]
fn exec_joins_the_container_and_its_group() {
    let Some((_daemon, dhow)) = engine(false) else { return };
    dhow.run(&["run", "-d", "--name", "c1", "-e", "COLOR=blue", "busybox", "sleep", "1000"]);
    assert_eq!(dhow.run(&["exec", "c1", "sh", "-c", "echo $COLOR"]), "blue");
    dhow.try_run(&["exec", "c1", "sh", "-c", "exit 42"]).expect_code(42);
    dhow.run(&["exec", "-d", "c1", "sleep", "2000"]);
    eventually("the second process", || dhow.run(&["top", "c1"]).contains("sleep 2000"));
    let group = Group::of(&dhow, "c1");
    assert_eq!(group.read("pids", "cgroup.procs", "cgroup.procs").lines().count(), 2);
    dhow.run(&["rm", "-f", "c1"]);
}

#[test]
fn pause_freezes_and_a_frozen_container_can_be_killed() {
    let Some((_daemon, dhow)) = engine(false) else { return };
    dhow.run(&["run", "-d", "--name", "c1", "busybox", "sh", "-c", "i=0; while :; do i=$((i+1)); done"]);
    let group = Group::of(&dhow, "c1");
    let frozen = || {
        let state = group.read("freezer", "freezer.state", "cgroup.events");
        state == "FROZEN" || state.lines().any(|line| line == "frozen 1")
    };
    assert!(!frozen());
    dhow.run(&["pause", "c1"]);
    assert!(frozen());
    assert_eq!(dhow.inspect("c1")["State"]["Status"], "paused");
    dhow.run(&["unpause", "c1"]);
    assert!(!frozen());
    dhow.run(&["pause", "c1"]);
    dhow.run(&["kill", "c1"]);
    assert_eq!(dhow.run(&["wait", "c1"]), "137");
    dhow.run(&["start", "c1"]);
    dhow.run(&["pause", "c1"]);
    dhow.run(&["rm", "-f", "c1"]);
    assert_eq!(dhow.run(&["ps", "-aq"]), "");
}

#[test]
fn stop_asks_first_and_nothing_is_left() {
    let Some((daemon, dhow)) = engine(false) else { return };
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    dhow.run(&["run", "-d", "--name", "polite", "busybox", "sh", "-c", script]);
    dhow.run(&[
        "run",
        "-d",
        "--name",
        "deaf",
        "busybox",
        "sh",
        "-c",
        "trap '' TERM; echo ready; while :; do sleep 0.1; done",
    ]);
    for name in ["polite", "deaf"] {
        eventually("the trap", || dhow.run(&["logs", name]) == "ready");
    }
    let groups = ["polite", "deaf"].map(|name| Group::of(&dhow, name));
    dhow.run(&["stop", "polite"]);
    dhow.run(&["stop", "-t", "1", "deaf"]);
    assert_eq!(dhow.inspect("polite")["State"]["ExitCode"], 3);
    assert_eq!(dhow.inspect("deaf")["State"]["ExitCode"], 137);
    for group in groups {
        eventually("the group's end", || !group.exists());
    }
    dhow.run(&["rm", "polite", "deaf"]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let data = daemon.data_root();
    assert!(!mounts.lines().any(|line| line.contains(data.to_str().unwrap())), "{mounts}");
}

#[test]
fn layers_are_shared_and_changes_are_the_containers_own() {
    let Some((_daemon, dhow)) = engine(false) else { return };
    dhow.run(&["run", "--name", "c1", "busybox", "sh", "-c", "echo mine > /etc/own; rm /etc/passwd"]);
    assert_eq!(
        dhow.run(&["run", "--rm", "busybox", "sh", "-c", "test ! -e /etc/own && grep -c root /etc/passwd"]),
        "1"
    );
    let changes = dhow.run(&["diff", "c1"]);
    assert_eq!(changes.lines().collect::<Vec<_>>(), ["C /etc", "A /etc/own", "D /etc/passwd"]);
    dhow.run(&["commit", "c1", "changed"]);
    assert_eq!(
        dhow.run(&["run", "--rm", "changed", "sh", "-c", "cat /etc/own; test -e /etc/passwd || echo gone"]),
        "mine\ngone"
    );
    dhow.run(&["run", "--rm", "-v", "data:/v", "busybox", "sh", "-c", "echo kept > /v/file"]);
    assert_eq!(dhow.run(&["run", "--rm", "-v", "data:/v:ro", "busybox", "cat", "/v/file"]), "kept");
}
