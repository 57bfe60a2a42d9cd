//! Logs, attach and the plumbing of standard streams.

use std::io::{Read, Write};

use e2e::Daemon;
use serde_json::Value;

use crate::eventually;

#[test]
fn logs_tail_since_until_timestamps_and_follow() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&[
            "run",
            "--name",
            "c1",
            "busybox",
            "sh",
            "-c",
            "for i in 1 2 3 4 5; do echo line $i; done; echo problem >&2",
        ]);
        assert_eq!(client.run(&["logs", "c1"]), "line 1\nline 2\nline 3\nline 4\nline 5");
        assert_eq!(client.try_run(&["logs", "c1"]).stderr, "problem\n");
        assert_eq!(client.run(&["logs", "--tail", "3", "c1"]), "line 4\nline 5");
        assert_eq!(client.run(&["logs", "--tail", "0", "c1"]), "");
        let stamped = client.run(&["logs", "-t", "--tail", "2", "c1"]);
        let (stamp, text) = stamped.split_once(' ').unwrap();
        assert!(stamp.ends_with('Z') && stamp.len() >= 20 && text == "line 5", "{stamped}");
        assert_eq!(client.run(&["logs", "--until", "2001-01-01T00:00:00Z", "c1"]), "");
        assert_eq!(client.run(&["logs", "--since", "2001-01-01T00:00:00Z", "c1"]).lines().count(), 5);
        assert_eq!(client.run(&["logs", "--since", stamp, "c1"]), "line 5");
        client.run(&["rm", "c1"]);

        client.run(&[
            "run",
            "-d",
            "--name",
            "f1",
            "busybox",
            "sh",
            "-c",
            "i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo $i; sleep 0.05; done",
        ]);
        let followed = client.run(&["logs", "-f", "f1"]);
        assert_eq!(followed.lines().count(), 20, "follow ends with the container and misses nothing");
        client.run(&["rm", "-f", "f1"]);
    }
}

#[test]
fn the_log_file_is_dockers_json_file() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let script = "printf 'a\\tb\"c\\\\d<&>\\001\\377\\n'; head -c 40000 /dev/zero | tr '\\0' y; echo; printf end";
    let mut lines = Vec::new();
    for client in [daemon.docker(), daemon.twin()] {
        let name = format!("dhow-e2e-log-{}", std::process::id());
        client.run(&["run", "--name", &name, "busybox", "sh", "-c", script]);
        let mut path = client.inspect(&name)["LogPath"].as_str().unwrap().to_owned();
        if client.host == daemon.twin().host {
            // The twin's paths lie below its own root.
            let root = client.host.trim_start_matches("unix://").trim_end_matches("/run/docker.sock").to_owned();
            path = format!("{root}{path}");
        }
        let text = std::fs::read_to_string(&path).unwrap();
        client.run(&["rm", "-f", &name]);
        let parsed: Vec<(Value, Value, String)> = text
            .lines()
            .map(|line| {
                let value: Value = serde_json::from_str(line).unwrap();
                let raw = line.split(",\"stream\"").next().unwrap().to_owned();
                (value["log"].clone(), value["stream"].clone(), raw)
            })
            .collect();
        lines.push(parsed);
    }
    assert_eq!(lines[0], lines[1], "ours, then dockerd's");
}

#[test]
fn standard_input_reaches_the_process_and_its_end_too() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let big: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    for client in daemon.clients() {
        let output = client.try_run_with(&["run", "--rm", "-i", "busybox", "cat"], &big);
        output.expect_code(0);
        assert!(output.stdout_bytes == big, "{} of {} bytes came back", output.stdout_bytes.len(), big.len());
    }
}

#[test]
fn attach_joins_a_running_container() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["run", "-di", "--name", "c1", "busybox", "sh", "-c", "while read x; do echo got $x; done"]);
        let mut attached = client.spawn(&["attach", "--sig-proxy=false", "c1"]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        attached.stdin.as_mut().unwrap().write_all(b"one\ntwo\n").unwrap();
        let mut answer = [0; 16];
        attached.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"got one\ngot two\n");
        drop(attached.stdin.take());
        let _ = attached.kill();
        attached.wait().unwrap();
        eventually(5, "the log", || client.run(&["logs", "c1"]) == "got one\ngot two");
        client.run(&["rm", "-f", "c1"]);
    }
}

#[test]
fn a_client_that_reads_nothing_does_not_stop_the_container() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    let mut stalled = docker.spawn(&[
        "run",
        "--name",
        "loud",
        "busybox",
        "sh",
        "-c",
        "head -c 60000000 /dev/zero | tr '\\0' 'x' | fold -w 99; touch /done",
    ]);
    eventually(60, "the end of a container whose client stalls", || {
        docker.try_run(&["inspect", "-f", "{{.State.Status}}", "loud"]).stdout == "exited\n"
    });
    let _ = stalled.kill();
    let _ = stalled.wait();
}

#[test]
fn rotated_logs_read_as_one() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    docker.run(&[
        "run",
        "--name",
        "c1",
        "--log-opt",
        "max-size=20k",
        "--log-opt",
        "max-file=3",
        "busybox",
        "seq",
        "1",
        "1000",
    ]);
    let lines: Vec<String> = docker.run(&["logs", "c1"]).lines().map(str::to_owned).collect();
    assert_eq!(lines.last().map(String::as_str), Some("1000"));
    let first: usize = lines[0].parse().unwrap();
    assert!(first > 1, "three files of 20 kB cannot hold everything");
    assert_eq!(lines.len(), 1000 - first + 1, "what is kept has no holes");
}

#[test]
fn log_driver_none_keeps_nothing() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    assert_eq!(docker.run(&["run", "--name", "c1", "--log-driver", "none", "busybox", "echo", "hi"]), "hi");
    docker.try_run(&["logs", "c1"]).expect_error(1, "configured logging driver does not support reading");
}
