//! config.md "Scheduler", "I/O priority", `execCPUAffinity`; config-linux.md "Personality" and "Memory policy".

use oci_tests::{Bundle, Container, Environment, Output, Runtime};
use serde_json::{Value, json};

use crate::refused_for;

/// Fields of `/proc/PID/stat` by the numbers of proc_pid_stat(5), from 3 on.
#[track_caller]
fn stat(container: &Container<'_>, field: usize) -> i64 {
    let text = container.proc("stat");
    let fields = text.rsplit(") ").next().expect("fields");
    fields.split(' ').nth(field - 3).and_then(|text| text.trim().parse().ok()).expect("a number")
}

const NICE: usize = 19;
const PRIORITY: usize = 40;
const POLICY: usize = 41;

/// Hosts and containers may not let anybody have real-time scheduling.
fn is_left_out(output: &Output) -> bool {
    let refused =
        !output.success() && (output.stderr.contains("ermission denied") || output.stderr.contains("not permitted"));
    if refused {
        eprintln!("left out: this host grants no such scheduling");
    }
    refused
}

#[test]
fn policies_are_set() {
    let Some(_) = Environment::get() else { return };
    for (scheduler, policy, nice, priority) in [
        (json!({ "policy": "SCHED_OTHER", "nice": 15 }), 0, Some(15), 0),
        (json!({ "policy": "SCHED_BATCH", "nice": 17 }), 3, Some(17), 0),
        // These have no nice value of their own.
        (json!({ "policy": "SCHED_IDLE" }), 5, None, 0),
        (json!({ "policy": "SCHED_FIFO", "priority": 11 }), 1, None, 11),
        (json!({ "policy": "SCHED_RR", "priority": 12, "flags": ["SCHED_FLAG_RESET_ON_FORK"] }), 2, None, 12),
    ] {
        let runtime = Runtime::new();
        let bundle = Bundle::new().idle().set("/process/scheduler", scheduler.clone());
        let output = runtime.run_with(&bundle, &["--detach"]);
        if is_left_out(&output) {
            continue;
        }
        let _ = output.ok();
        let text = runtime.call(&["state", bundle.id()]).ok().stdout;
        let state: Value = serde_json::from_str(&text).expect("JSON");
        let pid = state["pid"].as_i64().expect("a process number");
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process");
        let fields: Vec<&str> = text.rsplit(") ").next().expect("fields").split(' ').collect();
        let field = |number: usize| fields[number - 3].trim().parse::<i64>().expect("a number");
        assert_eq!((field(POLICY), field(PRIORITY)), (policy, priority), "{scheduler}");
        assert!(nice.is_none_or(|nice| nice == field(NICE)), "{scheduler}: {text}");
    }
}

#[test]
fn a_process_of_exec_has_a_policy_of_its_own() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    assert_eq!(stat(&container, POLICY), 0);
    let process = json!({
        "args": ["/bin/cut", "-d", " ", "-f", "19,41", "/proc/self/stat"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
        "scheduler": { "policy": "SCHED_BATCH", "nice": 18 },
    });
    let file = bundle.dir().join("process.json");
    std::fs::write(&file, process.to_string()).expect("a file");
    let output = runtime.call(&["exec", "--process", file.to_str().expect("UTF-8"), container.id()]).ok();
    assert_eq!(output.stdout, "18 3\n");
}

#[test]
fn schedulers_that_cannot_be_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    for (scheduler, word) in [
        (json!({ "policy": "SCHED_WHIM" }), "SCHED_WHIM"),
        (json!({ "policy": "SCHED_OTHER", "nice": 20 }), "process.scheduler.nice"),
        (json!({ "policy": "SCHED_FIFO" }), "process.scheduler.priority"),
        (json!({ "policy": "SCHED_OTHER", "priority": 3 }), "process.scheduler.priority"),
        (json!({ "policy": "SCHED_OTHER", "runtime": 10_000 }), "process.scheduler.runtime"),
        (json!({ "policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_WHIM"] }), "SCHED_FLAG_WHIM"),
        (json!({ "nice": 3 }), "policy"),
    ] {
        refused_for(runtime.run(&Bundle::new().set("/process/scheduler", scheduler)), &[word]);
    }
}

#[test]
fn io_priorities_are_set() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    for (class, priority, expected) in [
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
        ("IOPRIO_CLASS_RT", 2, "realtime: prio 2"),
    ] {
        let bundle = Bundle::new()
            .set("/process/ioPriority", json!({ "class": class, "priority": priority }))
            .shell("ionice -p $$");
        let output = runtime.run(&bundle);
        if is_left_out(&output) {
            continue;
        }
        assert!(output.clone().ok().stdout.trim().ends_with(expected), "{class} {output}");
    }
    let with = |value| Bundle::new().set("/process/ioPriority", value);
    refused_for(runtime.run(&with(json!({ "class": "IOPRIO_CLASS_WHIM", "priority": 1 }))), &["IOPRIO_CLASS_WHIM"]);
    refused_for(
        runtime.run(&with(json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }))),
        &["process.ioPriority.priority"],
    );
}

#[test]
fn personalities_are_taken_on() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    for (domain, expected) in [("LINUX", "00000000"), ("LINUX32", "00000008")] {
        let bundle = Bundle::new().idle().set("/linux/personality", json!({ "domain": domain }));
        let container = runtime.start(&bundle);
        assert_eq!(container.proc("personality").trim(), expected);
        if domain == "LINUX32" && cfg!(target_arch = "x86_64") {
            assert_eq!(container.exec(&["/bin/uname", "-m"]).ok().stdout, "i686\n", "of exec too");
        }
    }
    let with = |value| Bundle::new().set("/linux/personality", value);
    refused_for(runtime.run(&with(json!({ "domain": "PLAN9" }))), &["PLAN9"]);
    // The specification knows of no flags, and runc passes over whatever there is.
    let _ = runtime.run(&with(json!({ "domain": "LINUX", "flags": ["X"] }))).ok();
}

#[test]
fn memory_comes_from_where_the_policy_says() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        eprintln!("left out: this kernel has no memory nodes");
    } else {
        for (policy, expected) in [
            (json!({ "mode": "MPOL_BIND", "nodes": "0" }), "bind"),
            (json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }), "interleave=static"),
            (json!({ "mode": "MPOL_PREFERRED", "nodes": "0" }), "prefer"),
            (json!({ "mode": "MPOL_LOCAL" }), "local"),
            (json!({ "mode": "MPOL_DEFAULT" }), "default"),
        ] {
            let bundle = Bundle::new().idle().set("/linux/memoryPolicy", policy.clone());
            let container = runtime.start(&bundle);
            let maps = container.proc("numa_maps");
            let word = maps.split_whitespace().nth(1).unwrap_or_default();
            assert!(word.starts_with(expected), "{policy}: {word}");
        }
    }
    let with = |value| Bundle::new().set("/linux/memoryPolicy", value);
    refused_for(runtime.run(&with(json!({ "mode": "MPOL_WHIM" }))), &["MPOL_WHIM"]);
    refused_for(runtime.run(&with(json!({ "mode": "MPOL_BIND" }))), &["linux.memoryPolicy.nodes"]);
    refused_for(runtime.run(&with(json!({ "mode": "MPOL_LOCAL", "nodes": "0" }))), &["linux.memoryPolicy.nodes"]);
    refused_for(
        runtime.run(&with(json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_WHIM"] }))),
        &["MPOL_F_WHIM"],
    );
}

/// "This setting is not applicable for the container's init process."
#[test]
fn processes_of_exec_run_on_the_cpus_they_are_to() {
    let Some(_) = Environment::get() else { return };
    let cpus = std::fs::read_to_string("/proc/self/status").expect("one's own status");
    let cpus = cpus.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).expect("a list").to_owned();
    if cpus == "0" {
        eprintln!("left out: this host has one CPU");
        return;
    }
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle().set("/process/execCPUAffinity", json!({ "initial": "0", "final": "0" }));
    let container = runtime.start(&bundle);
    assert!(
        container.proc("status").contains(&format!("Cpus_allowed_list:\t{cpus}\n")),
        "the first process is held too"
    );
    let look = ["/bin/grep", "Cpus_allowed_list", "/proc/self/status"];
    assert_eq!(container.exec(&look).ok().after("Cpus_allowed_list:"), Some("0"));
    let process = json!({
        "args": look, "cwd": "/", "user": { "uid": 0, "gid": 0 }, "execCPUAffinity": { "initial": "0", "final": cpus },
    });
    let file = bundle.dir().join("process.json");
    std::fs::write(&file, process.to_string()).expect("a file");
    let output = runtime.call(&["exec", "--process", file.to_str().expect("UTF-8"), container.id()]).ok();
    assert_eq!(output.after("Cpus_allowed_list:"), Some(cpus.as_str()));
    let bundle = Bundle::new().set("/process/execCPUAffinity", json!({ "final": "some" }));
    refused_for(runtime.run(&bundle), &["process.execCPUAffinity.final"]);
}
