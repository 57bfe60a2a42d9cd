//! The life of a container through both clients.

use std::io::Read;

use e2e::Daemon;

use crate::eventually;

#[test]
fn a_real_debian_runs() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.debian();
    for client in daemon.clients() {
        let release = client.run(&["run", "--rm", "debian:bookworm", "cat", "/etc/os-release"]);
        assert!(release.contains("VERSION_CODENAME=bookworm"), "{release}");
        let output = client.try_run(&["run", "--rm", "debian:bookworm", "sh", "-c", "echo out; echo err >&2; exit 7"]);
        output.expect_code(7);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    }
    assert_eq!(daemon.docker().run(&["ps", "-aq"]), "", "--rm leaves nothing");
}

#[test]
fn start_stop_kill_wait_remove() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        let id = client.run(&[
            "run",
            "-d",
            "--name",
            "web",
            "busybox",
            "sh",
            "-c",
            "trap 'exit 3' TERM; while :; do sleep 0.1; done",
        ]);
        assert_eq!(id.len(), 64);
        let listed = client.run(&["ps", "--format", "{{.Names}} {{.Image}} {{.State}}"]);
        assert_eq!(listed, "web busybox running");
        assert!(client.run(&["top", "web"]).contains("sleep 0.1"));
        client.run(&["rename", "web", "site"]);
        client.run(&["stop", "site"]);
        let state = &client.inspect("site")["State"];
        assert_eq!(state["ExitCode"], 3, "{state}");
        assert_eq!(state["Status"], "exited");
        assert_eq!(client.run(&["wait", "site"]), "3");
        client.run(&["start", "site"]);
        client.run(&["pause", "site"]);
        assert_eq!(client.inspect("site")["State"]["Status"], "paused");
        client.run(&["unpause", "site"]);
        let waiter = client.spawn(&["wait", "site"]);
        client.run(&["kill", "-s", "KILL", "site"]);
        let waited = waiter.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&waited.stdout).trim(), "137");
        client.run(&["restart", "-t", "0", "site"]);
        assert_eq!(client.inspect("site")["State"]["Running"], true);
        client
            .try_run(&["rm", "site"])
            .expect_error(1, "container is running: stop the container before removing or force remove");
        assert_eq!(client.run(&["rm", "-f", "site"]), "site");
        assert_eq!(client.run(&["ps", "-aq"]), "");
    }
}

#[test]
fn create_then_start_attached_gives_every_byte() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["create", "--name", "c1", "busybox", "sh", "-c", "seq 1 20000; exit 4"]);
        assert_eq!(client.inspect("c1")["State"]["Status"], "created");
        let output = client.try_run(&["start", "-a", "c1"]);
        output.expect_code(4);
        assert_eq!(output.stdout.lines().count(), 20000);
        client.run(&["rm", "c1"]);
    }
}

#[test]
fn events_come_in_dockers_order() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        let since = client.run(&["info", "--format", "{{.SystemTime}}"]);
        client.run(&["run", "--rm", "--name", "ev", "busybox", "true"]);
        eventually(10, "the removal", || client.run(&["ps", "-aq"]).is_empty());
        let until = client.run(&["info", "--format", "{{.SystemTime}}"]);
        let events = client.run(&[
            "events",
            "--since",
            &since,
            "--until",
            &until,
            "--filter",
            "type=container",
            "--format",
            "{{.Action}}",
        ]);
        let actions: Vec<&str> = events.lines().collect();
        assert_eq!(actions, ["create", "attach", "start", "die", "destroy"], "{client:?}");
    }
}

#[test]
fn events_stream_live() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        let mut events =
            client.spawn(&["events", "--filter", "event=die", "--format", "{{.Actor.Attributes.exitCode}}"]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        client.try_run(&["run", "--rm", "busybox", "sh", "-c", "exit 9"]).expect_code(9);
        let mut first = [0; 2];
        events.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        assert_eq!(&first, b"9\n");
        events.kill().unwrap();
        events.wait().unwrap();
    }
}

#[test]
fn exec_runs_beside_the_first_process() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["run", "-d", "--name", "c1", "-e", "COLOR=blue", "busybox", "sleep", "1000"]);
        assert_eq!(client.run(&["exec", "c1", "sh", "-c", "echo $COLOR; hostname"]).lines().next(), Some("blue"));
        client.try_run(&["exec", "c1", "sh", "-c", "exit 42"]).expect_code(42);
        let output = client.try_run_with(&["exec", "-i", "c1", "cat"], b"through\nstdin");
        assert_eq!(output.stdout, "through\nstdin");
        let output = client.try_run(&[
            "exec",
            "-u",
            "65534:65534",
            "-w",
            "/tmp",
            "-e",
            "A=1",
            "c1",
            "sh",
            "-c",
            "id -u; pwd; echo $A",
        ]);
        assert_eq!(output.stdout, "65534\n/tmp\n1\n");
        let missing = client.try_run(&["exec", "c1", "nosuch"]);
        missing.expect_code(127);
        // The reason comes down the stream of the exec, as real dockerd sends it.
        assert!(missing.stdout.contains("executable file not found in $PATH"), "{missing:?}");
        client.run(&["exec", "-d", "c1", "sh", "-c", "echo detached > /tmp/mark"]);
        eventually(5, "the detached exec", || {
            client.try_run(&["exec", "c1", "cat", "/tmp/mark"]).stdout == "detached\n"
        });
        client.run(&["rm", "-f", "c1"]);
        client.try_run(&["exec", "c1", "true"]).expect_error(1, "No such container: c");
    }
}

#[test]
fn stats_top_update_and_inspect_tell_the_truth() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&[
            "run",
            "-d",
            "--name",
            "c1",
            "--memory",
            "64m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "50",
            "busybox",
            "sleep",
            "1000",
        ]);
        let stats = client.run(&["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", "c1"]);
        assert!(stats.starts_with("c1 ") && stats.contains("/ 64MiB") && stats.ends_with(" 1"), "{stats}");
        let host = &client.inspect("c1")["HostConfig"];
        assert_eq!(host["Memory"], 64 << 20);
        assert_eq!(host["NanoCpus"], 500_000_000);
        assert_eq!(
            client.run(&["exec", "c1", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]),
            (64 << 20).to_string()
        );
        client.run(&["update", "--memory", "128m", "--memory-swap", "256m", "c1"]);
        assert_eq!(
            client.run(&["exec", "c1", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]),
            (128 << 20).to_string()
        );
        client.run(&["rm", "-f", "c1"]);
    }
}

#[test]
fn memory_limit_kills_and_says_so() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    let eat = "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let output = docker.try_run(&[
        "run",
        "--name",
        "hungry",
        "--memory",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
        eat,
    ]);
    assert_ne!(output.code, 0, "{output:?}");
    let state = &docker.inspect("hungry")["State"];
    assert_eq!(state["OOMKilled"], true, "{state}");
}

#[test]
fn commit_keeps_changes_and_diff_names_them() {
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
            "echo new > /root/file; rm /etc/group; chmod 700 /tmp",
        ]);
        let mut diff: Vec<String> = client.run(&["diff", "c1"]).lines().map(str::to_owned).collect();
        diff.sort();
        assert_eq!(diff, ["A /root/file", "C /etc", "C /root", "C /tmp", "D /etc/group"]);
        client.run(&["commit", "-m", "why", "-a", "me", "-c", "ENV K=V", "c1", "changed:1"]);
        assert_eq!(
            client.run(&[
                "run",
                "--rm",
                "changed:1",
                "sh",
                "-c",
                "cat /root/file; echo $K; test -e /etc/group || echo gone"
            ]),
            "new\nV\ngone"
        );
        let history = client.run(&["history", "--format", "{{.Comment}}", "changed:1"]);
        assert_eq!(history.lines().next(), Some("why"));
        client.run(&["rm", "c1"]);
        client.run(&["rmi", "changed:1"]);
    }
}

#[test]
fn update_and_rename_survive_a_daemon_restart() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    docker.run(&["create", "--name", "a1", "--label", "k=v", "busybox", "true"]);
    docker.run(&["rename", "a1", "b1"]);
    docker.run(&["volume", "create", "keep"]);
    docker.run(&["tag", "busybox", "other:tag"]);
    daemon.stop();
    daemon.launch();
    assert_eq!(docker.inspect("b1")["Config"]["Labels"]["k"], "v");
    assert_eq!(docker.run(&["volume", "ls", "-q"]), "keep");
    assert_eq!(docker.run(&["images", "-q", "other:tag"]).lines().count(), 1);
    assert_eq!(docker.run(&["start", "-a", "b1"]), "");
}
