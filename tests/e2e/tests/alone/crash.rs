//! The daemon dies; containers, their logs, their freezer and their exit codes do not.

use crate::groups::Group;
use crate::{engine, eventually};

#[test]
fn containers_outlive_a_killed_daemon() {
    let Some((mut daemon, dhow)) = engine(false) else { return };
    let writer = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done";
    dhow.run(&["run", "-d", "--name", "writes", "--memory", "64m", "busybox", "sh", "-c", writer]);
    dhow.run(&["run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 1; exit 37"]);
    dhow.run(&["run", "-d", "--name", "frozen", "busybox", "sleep", "1000"]);
    dhow.run(&["pause", "frozen"]);
    let before = dhow.inspect("writes")["State"]["Pid"].clone();
    let group = Group::of(&dhow, "writes");
    daemon.kill();
    std::thread::sleep(std::time::Duration::from_secs(2));
    daemon.launch();
    assert_eq!(dhow.inspect("writes")["State"]["Pid"], before);
    eventually("the end that nobody saw", || dhow.inspect("ends")["State"]["ExitCode"] == 37);
    assert_eq!(dhow.inspect("frozen")["State"]["Status"], "paused");
    for (at, line) in dhow.run(&["logs", "writes"]).lines().enumerate() {
        assert_eq!(line, format!("line {}", at + 1));
    }
    assert_eq!(dhow.run(&["exec", "writes", "echo", "still served"]), "still served");
    dhow.run(&["update", "--memory", "96m", "--memory-swap", "96m", "writes"]);
    assert_eq!(group.read("memory", "memory.limit_in_bytes", "memory.max"), (96 << 20).to_string());
    dhow.run(&["unpause", "frozen"]);
    dhow.run(&["stop", "-t", "0", "writes", "frozen"]);
    assert_eq!(dhow.inspect("writes")["State"]["ExitCode"], 137);
    dhow.run(&["rm", "writes", "frozen", "ends"]);
}

#[test]
fn out_of_memory_without_a_daemon_is_known_afterwards() {
    let Some((mut daemon, dhow)) = engine(false) else { return };
    let hungry = "sleep 2; x=$(head -c 100000000 /dev/zero | tr '\\0' a); echo alive; exit 1";
    dhow.run(&["run", "-d", "--name", "c1", "--memory=16m", "--memory-swap=16m", "busybox", "sh", "-c", hungry]);
    daemon.kill();
    std::thread::sleep(std::time::Duration::from_secs(5));
    daemon.launch();
    eventually("the end", || dhow.inspect("c1")["State"]["Status"] == "exited");
    assert_eq!(dhow.inspect("c1")["State"]["OOMKilled"], true);
    dhow.run(&["rm", "c1"]);
}
