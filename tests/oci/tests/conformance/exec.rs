//! A further process in a container, which is runc's `exec`: its flags, its document, and that it is in everything the
//! first process is in.

use std::fs;

use oci_tests::{Bundle, Container, Environment, Runtime, eventually};
use serde_json::{Value, json};

use crate::{place, refused_for};

#[track_caller]
fn with_document(runtime: &Runtime, bundle: &Bundle, container: &Container<'_>, process: &Value) -> oci_tests::Output {
    let file = bundle.dir().join("process.json");
    fs::write(&file, process.to_string()).expect("a file");
    runtime.call(&["exec", "--process", file.to_str().expect("UTF-8"), container.id()])
}

#[test]
fn it_runs_as_the_first_process_does() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new()
        .directory("/srv")
        .cwd("/srv")
        .env("A=1")
        .user(5, 6, &[7])
        .set("/process/noNewPrivileges", json!(true))
        .set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]))
        .set("/process/oomScoreAdj", json!(55))
        .idle();
    let container = runtime.start(&bundle);
    let script = "pwd; echo $A; id -u; id -g; ulimit -n; cat /proc/self/oom_score_adj; \
                  grep -E '^(CapBnd|CapEff|NoNewPrivs|Groups|Seccomp):' /proc/self/status";
    let output = container.shell(script).ok();
    let first: String = container
        .proc("status")
        .lines()
        .filter(|line| {
            ["CapBnd:", "CapEff:", "NoNewPrivs:", "Groups:", "Seccomp:"].iter().any(|name| line.starts_with(name))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(output.stdout, format!("/srv\n1\n5\n6\n100\n55\n{first}"));
}

#[test]
fn it_is_in_every_namespace_and_group() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().namespace("cgroup", None).namespace("time", None).idle();
    let container = runtime.start(&bundle);
    let script = "for n in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; readlink /proc/self/root";
    let output = container.shell(script).ok();
    let script = script.replace("/self/", "/1/");
    assert_eq!(output.stdout, container.shell(&script).ok().stdout);
    assert!(place::group(container.pid(), "pids").is_some());
}

#[test]
fn flags_change_what_they_name() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().directory("/srv").idle();
    let container = runtime.start(&bundle);
    let say = |flags: &[&str], script: &str| container.exec_with(flags, &["/bin/sh", "-c", script]).ok().stdout;
    assert_eq!(say(&["--cwd", "/srv"], "pwd"), "/srv\n");
    assert_eq!(say(&["--env", "A=1", "-e", "B=x=y"], "echo $A $B"), "1 x=y\n");
    assert_eq!(say(&["--user", "7:8"], "id -u; id -g"), "7\n8\n");
    assert_eq!(say(&["-u", "9"], "id -u; id -g"), "9\n0\n");
    assert_eq!(say(&["-g", "21", "--additional-gids", "22"], "id -G"), "0 21 22\n");
    assert_eq!(say(&["--no-new-privs"], "grep NoNewPrivs /proc/self/status"), "NoNewPrivs:\t1\n");
    let bounding = say(&["--cap", "CAP_SYS_TIME"], "grep CapEff /proc/self/status");
    let set = u64::from_str_radix(bounding.trim().rsplit('\t').next().unwrap_or_default(), 16).expect("a set");
    assert_eq!(set, 0xa804_25fb | 1 << 25);
    refused_for(container.exec_with(&["--user", "root"], &["true"]), &["user"]);
    refused_for(container.exec_with(&["--cwd", "relative"], &["true"]), &["cwd"]);
    refused_for(container.exec_with(&["--frobnicate"], &["true"]), &["frobnicate"]);
}

#[test]
fn a_document_says_it_all() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().env("OF_THE_FIRST=1").directory("/srv").idle();
    let container = runtime.start(&bundle);
    let process = json!({
        "args": ["/bin/sh", "-c", "pwd; env | sort; id -u; id -G; umask; ulimit -n; grep -E '^(CapEff|NoNewPrivs):' /proc/self/status"],
        "cwd": "/srv",
        "env": ["PATH=/bin", "MINE=2", "HOME=/h"],
        "user": { "uid": 11, "gid": 12, "additionalGids": [13], "umask": 0o077 },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 50, "hard": 60 }],
        "capabilities": { "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
                          "effective": ["CAP_KILL"], "ambient": ["CAP_KILL"] },
        "noNewPrivileges": true,
    });
    let output = with_document(&runtime, &bundle, &container, &process).ok();
    let lines: Vec<&str> =
        output.stdout.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("SHLVL=")).collect();
    let expected = [
        "/srv",
        "HOME=/h",
        "MINE=2",
        "PATH=/bin",
        "11",
        "12 13",
        "0077",
        "50",
        "CapEff:\t0000000000000020",
        "NoNewPrivs:\t1",
    ];
    assert_eq!(lines, expected);
    refused_for(with_document(&runtime, &bundle, &container, &json!({ "cwd": "/" })), &["args"]);
    refused_for(with_document(&runtime, &bundle, &container, &json!({ "args": ["true"] })), &["cwd"]);
    refused_for(with_document(&runtime, &bundle, &container, &json!({ "args": "true", "cwd": "/" })), &["args"]);
    refused_for(runtime.call(&["exec", "--process", "/no/such/file", container.id()]), &["/no/such/file"]);
}

#[test]
fn it_ends_as_its_program_does() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    assert_eq!(container.shell("exit 0").code, Some(0));
    assert_eq!(container.shell("exit 42").code, Some(42));
    assert_eq!(container.shell("kill -9 $$").code, Some(137));
    let output = container.exec(&["/no/such/program"]).refused();
    assert!(output.stderr.contains("no such file or directory"), "{output}");
    assert_eq!(output.code, Some(255));
    refused_for(container.exec(&["nosuchprogram"]), &["executable file not found in $PATH"]);
    refused_for(container.exec(&[]), &[]);
}

#[test]
fn it_may_be_left_alone() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let file = bundle.dir().join("pid");
    let flags = ["--detach", "--pid-file", file.to_str().expect("UTF-8")];
    let _ = container.exec_with(&flags, &["/bin/sleep", "1000"]).ok();
    let pid: i32 = fs::read_to_string(&file).expect("the pid file").parse().expect("a number and nothing else");
    eventually(30, "the program", || {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
    });
    let link = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).expect("a namespace");
    assert_eq!(link(pid), link(container.pid()));
}

#[test]
fn it_is_for_containers_that_run_or_wait() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.create(&bundle);
    assert_eq!(container.exec(&["/bin/echo", "before"]).ok().stdout, "before\n");
    container.start();
    let _ = runtime.call(&["pause", container.id()]).ok();
    refused_for(container.exec(&["true"]), &["paused"]);
    let (_, end) = runtime.beside(runtime.command(&["exec", "--ignore-paused", container.id(), "/bin/echo", "after"]));
    let _ = runtime.call(&["resume", container.id()]).ok();
    assert_eq!(end().ok().stdout, "after\n");
    container.kill();
    let _ = container.exec(&["true"]).refused();
}

#[test]
fn it_may_go_into_a_group_below() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let dir = place::group(container.pid(), "pids").expect("a group");
    fs::create_dir(dir.join("below")).expect("a group below");
    if !place::is_v2() {
        for line in fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("groups").lines() {
            let controllers = line.split(':').nth(1).unwrap_or_default().trim_start_matches("name=").to_owned();
            let first = if controllers.is_empty() { "unified".to_owned() } else { controllers };
            let dir = std::path::Path::new("/sys/fs/cgroup").join(first);
            let path = line.splitn(3, ':').nth(2).unwrap_or_default().trim_start_matches('/').to_owned();
            if path.contains(runtime.parent_group()) {
                let group = dir.join(path);
                let _ = fs::create_dir(group.join("below"));
                // A new group of this controller has no CPU to run on.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if let Ok(value) = fs::read_to_string(group.join(file)) {
                        fs::write(group.join("below").join(file), value).expect("CPUs of the group below");
                    }
                }
            }
        }
    }
    let output = container.exec_with(&["--cgroup", "below"], &["/bin/cat", "/proc/self/cgroup"]).ok();
    assert!(output.stdout.lines().any(|line| line.ends_with("/below")), "{output}");
    refused_for(container.exec_with(&["--cgroup", "nosuch"], &["true"]), &["nosuch"]);
    refused_for(container.exec_with(&["--cgroup", "../.."], &["true"]), &[]);
}
