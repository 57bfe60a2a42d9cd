//! What runc's command line has beyond the specification and every engine uses: pause, resume, update, events, ps.

use std::fs;
use std::process::Stdio;

use oci_tests::{Bundle, Environment, Runtime, eventually};
use serde_json::{Value, json};

use crate::{place, refused_for, twin};

#[test]
fn paused_containers_stand_still() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().shell("i=0; while :; do i=$((i + 1)); echo $i > /count; sleep 0.01; done");
    let container = runtime.start(&bundle);
    let count = || fs::read_to_string(bundle.path("/count")).unwrap_or_default();
    eventually(30, "a count", || !count().is_empty());
    let _ = runtime.call(&["pause", container.id()]).ok();
    assert_eq!(container.status(), "paused");
    let before = count();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(count(), before, "a paused container goes on");
    let _ = runtime.call(&["pause", container.id()]).refused();
    let _ = runtime.call(&["delete", container.id()]).refused();
    let _ = runtime.call(&["resume", container.id()]).ok();
    assert_eq!(container.status(), "running");
    eventually(30, "another count", || !count().is_empty() && count() != before);
    let _ = runtime.call(&["resume", container.id()]).refused();
}

#[test]
fn paused_containers_can_be_killed_and_deleted() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let _ = runtime.call(&["pause", container.id()]).ok();
    container.kill();
    container.delete();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let _ = runtime.call(&["pause", container.id()]).ok();
    let _ = runtime.call(&["delete", "--force", container.id()]).ok();
    refused_for(runtime.call(&["state", container.id()]), &["does not exist"]);
}

/// It could not answer, and its one chance to be started would be gone.
#[test]
fn paused_containers_are_not_started() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.create(&bundle);
    let _ = runtime.call(&["pause", container.id()]).ok();
    refused_for(runtime.call(&["start", container.id()]), &["paused"]);
    let _ = runtime.call(&["resume", container.id()]).ok();
    container.start();
    assert_eq!(container.status(), "running");
}

#[test]
fn limits_of_a_running_container_are_changed() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle().set("/linux/resources/memory", json!({ "limit": 67_108_864 }));
    let container = runtime.start(&bundle);
    let (id, pid) = (container.id(), container.pid());
    let memory = || place::control(pid, "memory", "memory.limit_in_bytes", "memory.max");
    let pids = || place::control(pid, "pids", "pids.max", "pids.max");
    let _ = runtime.call(&["update", "--pids-limit", "44", id]).ok();
    assert_eq!(pids().as_deref(), Some("44"));
    let _ = runtime.call(&["update", "--memory", "32m", id]).ok();
    assert_eq!(memory().as_deref(), Some("33554432"));
    assert_eq!(pids().as_deref(), Some("44"), "what is not named stays");
    let _ = runtime.call(&["update", "--cpu-quota", "20000", "--cpu-period", "50000", "--cpu-share", "2048", id]).ok();
    let quota = place::control(pid, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(matches!(quota.as_deref(), Some("20000" | "20000 50000")), "{quota:?}");
    // As a document, from a file and from standard input.
    let file = bundle.dir().join("resources.json");
    fs::write(&file, json!({ "pids": { "limit": 55 } }).to_string()).expect("a file");
    let _ = runtime.call(&["update", "--resources", file.to_str().expect("UTF-8"), id]).ok();
    assert_eq!(pids().as_deref(), Some("55"));
    fs::write(&file, json!({ "pids": { "limit": 66 }, "memory": { "limit": 50_331_648 } }).to_string())
        .expect("a file");
    let mut command = runtime.command(&["update", "--resources", "-", id]);
    command.stdin(Stdio::from(fs::File::open(&file).expect("the file")));
    let _ = runtime.finish(command).ok();
    assert_eq!((pids().as_deref(), memory().as_deref()), (Some("66"), Some("50331648")));
    let _ = runtime.call(&["update", "--pids-limit", "-1", id]).ok();
    assert_eq!(pids().as_deref(), Some("max"));
    // Devices are as they were.
    let _ = container.shell("head -c 1 /dev/zero > /dev/null").ok();
}

#[test]
fn limits_that_are_none_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let id = container.id();
    for (flag, value) in [("--memory", "much"), ("--pids-limit", "x"), ("--cpu-quota", "1"), ("--cpuset-cpus", "a")] {
        let _ = runtime.call(&["update", flag, value, id]).refused();
    }
    refused_for(runtime.call(&["update", "--resources", "/no/such/file", id]), &["/no/such/file"]);
    container.kill();
    let _ = runtime.call(&["update", "--pids-limit", "5", id]).refused();
}

#[test]
fn statistics_have_runcs_keys() {
    let Some(_) = Environment::get() else { return };
    let Some(runc) = twin::runc() else { return };
    let ours = Runtime::new();
    let look = |runtime: &Runtime| {
        let bundle = Bundle::new().idle().set("/linux/resources/pids/limit", json!(50));
        let container = runtime.start(&bundle);
        let line = runtime.call(&["events", "--stats", container.id()]).ok().stdout;
        let event: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(event["type"], "stats");
        assert_eq!(event["id"], container.id());
        assert_eq!(event["data"]["pids"]["limit"], 50);
        assert_eq!(event["data"]["pids"]["current"], 1);
        twin::keys(&event)
    };
    let (ours, runc) = (look(&ours), look(&runc));
    // Counters of nothing are left out, and which are nothing differs from start to start; those of blkio too.
    let changing = |key: &&String| {
        !key.contains("raw") && !key.contains("blkio") && !key.contains("psi") && !key.contains("failcnt")
    };
    let missing: Vec<_> = runc.iter().filter(changing).filter(|key| !ours.contains(key)).collect();
    assert!(missing.is_empty(), "keys of runc's that ours lacks: {missing:?}");
}

#[test]
fn events_tell_of_memory_kills_and_end_with_the_container() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new()
        .set("/linux/resources/memory", json!({ "limit": 16_777_216, "swap": 16_777_216 }))
        .shell("read line < /go; (exec tail /dev/zero); read line < /go")
        .shell("while ! test -e /go; do sleep 0.1; done; sh -c 'exec tail /dev/zero'; while ! test -e /end; do sleep 0.1; done");
    let container = runtime.start(&bundle);
    let (_, end) = runtime.beside(runtime.command(&["events", "--interval", "100ms", container.id()]));
    std::thread::sleep(std::time::Duration::from_millis(500));
    fs::write(bundle.path("/go"), "").expect("a file");
    let events = place::group(container.pid(), "memory");
    let Some(dir) = events else {
        eprintln!("left out: this host has no controller memory");
        fs::write(bundle.path("/end"), "").expect("a file");
        return;
    };
    let killed = || {
        ["memory.events", "memory.oom_control"].iter().any(|name| {
            fs::read_to_string(dir.join(name)).is_ok_and(|text| text.lines().any(|line| line == "oom_kill 1"))
        })
    };
    eventually(60, "a memory kill", killed);
    std::thread::sleep(std::time::Duration::from_millis(500));
    fs::write(bundle.path("/end"), "").expect("a file");
    let output = end().ok();
    let kinds: Vec<String> = output
        .stdout
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("a line of JSON")["type"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    assert!(kinds.iter().any(|kind| kind == "stats") && kinds.iter().any(|kind| kind == "oom"), "{output}");
}

#[test]
fn processes_are_listed() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().shell("sleep 1000 & sleep 1000 & wait");
    let container = runtime.start(&bundle);
    let pids = || -> Vec<i64> {
        let text = runtime.call(&["ps", "--format", "json", container.id()]).ok().stdout;
        serde_json::from_str(&text).expect("a list of numbers")
    };
    eventually(30, "three processes", || pids().len() == 3);
    assert!(pids().contains(&i64::from(container.pid())));
    let _ = runtime.call(&["ps", "--format", "xml", container.id()]).refused();
    if std::process::Command::new("ps").arg("-ef").output().is_ok_and(|output| output.status.success()) {
        let table = runtime.call(&["ps", container.id()]).ok().stdout;
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.lines().next().is_some_and(|line| line.contains("PID")), "{table}");
    }
}

#[test]
fn lists_of_processes_are_runcs() {
    let Some(_) = Environment::get() else { return };
    let Some(runc) = twin::runc() else { return };
    let ours = Runtime::new();
    let look = |runtime: &Runtime| {
        let bundle = Bundle::new().idle();
        let container = runtime.start(&bundle);
        let json = runtime.call(&["ps", "--format", "json", container.id()]).ok().stdout;
        let table = runtime.call(&["ps", container.id(), "-o", "pid,comm"]).ok().stdout;
        let pid = container.pid().to_string();
        (json.replace(&pid, "PID"), table.split_whitespace().map(|word| word.replace(&pid, "N")).collect::<Vec<_>>())
    };
    assert_eq!(look(&ours), look(&runc));
}
