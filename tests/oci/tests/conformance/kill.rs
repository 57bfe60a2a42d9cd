//! runtime.md "Kill": signals by name and number, to the first process or to all.

use oci_tests::{Bundle, Environment, Runtime, eventually};

use crate::{place, refused_for};

/// Writes the name of each signal that arrives.
fn listener() -> Bundle {
    Bundle::new().shell(
        "for s in HUP USR1 USR2 TERM; do trap \"echo $s >> /heard\" $s; done; echo up > /up; while :; do sleep 0.05; done",
    )
}

#[test]
fn signals_go_by_many_names() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = listener();
    let container = runtime.start(&bundle);
    eventually(30, "the program", || bundle.path("/up").exists());
    let heard = || std::fs::read_to_string(bundle.path("/heard")).unwrap_or_default();
    let mut expected = String::new();
    for (signal, name) in [("SIGHUP", "HUP"), ("USR1", "USR1"), ("usr2", "USR2"), ("1", "HUP"), ("sigusr1", "USR1")] {
        let _ = runtime.call(&["kill", container.id(), signal]).ok();
        expected += &format!("{name}\n");
        eventually(30, signal, || heard() == expected);
    }
    let _ = runtime.call(&["kill", container.id()]).ok();
    expected += "TERM\n";
    eventually(30, "the default signal", || heard() == expected);
    for none in ["NOSUCH", "65536", "-1", ""] {
        let _ = runtime.call(&["kill", container.id(), none]).refused();
    }
    assert_eq!(container.status(), "running");
}

#[test]
fn a_signal_is_for_the_first_process_unless_all_are_meant() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().shell(
        "sh -c 'trap \"echo child > /child; exit\" USR1; echo up > /up; while :; do sleep 0.05; done' &
         trap 'echo first > /first' USR1; while :; do sleep 0.05; done",
    );
    let container = runtime.start(&bundle);
    eventually(30, "the child", || bundle.path("/up").exists());
    let _ = runtime.call(&["kill", container.id(), "USR1"]).ok();
    eventually(30, "the signal", || bundle.path("/first").exists());
    assert!(!bundle.path("/child").exists());
    let _ = runtime.call(&["kill", "--all", container.id(), "USR1"]).ok();
    eventually(30, "the signal to all", || bundle.path("/child").exists());
}

/// Without a pid namespace of its own, the others would live on.
#[test]
fn sigkill_ends_a_container_that_shares_its_pid_namespace() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().without_namespace("pid").shell("sleep 100000 & echo up > /up; sleep 100000");
    let container = runtime.start(&bundle);
    eventually(30, "the program", || bundle.path("/up").exists());
    let dir = place::group(container.pid(), "pids").expect("a group");
    container.kill();
    let left = || std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    eventually(30, "the end of the other process", || left().is_empty());
    container.delete();
}

#[test]
fn created_containers_can_be_killed() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().shell("echo ran > /ran");
    let container = runtime.create(&bundle);
    container.kill();
    let _ = runtime.call(&["start", container.id()]).refused();
    assert!(!bundle.path("/ran").exists());
    container.delete();
}

#[test]
fn stopped_containers_cannot_be_killed() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    container.kill();
    refused_for(runtime.call(&["kill", container.id(), "KILL"]), &["container not running"]);
    refused_for(runtime.call(&["kill", container.id(), "0"]), &["container not running"]);
    let _ = runtime.call(&["kill", "--all", container.id(), "KILL"]).ok();
}

/// The first process of a pid namespace ignores what it has no handler for (pid_namespaces(7)), but not SIGKILL.
#[test]
fn the_kernels_rules_for_a_first_process_hold() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let _ = runtime.call(&["kill", container.id(), "TERM"]).ok();
    // 0 only asks (kill(2)).
    let _ = runtime.call(&["kill", container.id(), "0"]).ok();
    assert_eq!(container.status(), "running");
    container.kill();
}
