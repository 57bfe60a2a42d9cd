//! The daemon dies; containers do not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::{Client, Daemon};

use crate::eventually;

const MANY: usize = 50;

/// Start time of a process in clock ticks: with the pid it names a process for good.
fn started(pid: u64) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(19).map(str::to_owned)
}

#[test]
fn fifty_containers_outlive_a_killed_daemon() {
    let Some(mut daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    let writer = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done";
    for at in 0..MANY {
        let network = if at % 2 == 0 { "bridge" } else { "none" };
        docker.run(&["run", "-d", "--name", &format!("w{at}"), "--network", network, "busybox", "sh", "-c", writer]);
    }
    docker.run(&["run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 2; exit 37"]);
    let pids = |docker: &e2e::Client| -> BTreeMap<String, u64> {
        (0..MANY)
            .map(|at| format!("w{at}"))
            .map(|name| {
                let pid = docker.inspect(&name)["State"]["Pid"].as_u64().unwrap();
                (name, pid)
            })
            .collect()
    };
    let before = pids(&docker);
    let born: BTreeMap<_, _> = before.values().map(|pid| (*pid, started(*pid))).collect();
    daemon.kill();
    std::thread::sleep(Duration::from_secs(4));
    for (pid, start) in &born {
        assert_eq!(&started(*pid), start, "a container died with its daemon");
    }
    let begin = Instant::now();
    daemon.launch();
    eprintln!("restart with {MANY} running took {:?}", begin.elapsed());
    assert_eq!(pids(&docker), before);

    let ended = &docker.inspect("ends")["State"];
    assert_eq!(ended["ExitCode"], 37, "{ended}");
    assert_eq!(ended["Status"], "exited");
    let finished = ended["FinishedAt"].as_str().unwrap();
    let started_at = ended["StartedAt"].as_str().unwrap();
    let seconds = |stamp: &str| -> f64 {
        let clock: Vec<f64> = stamp[11..].trim_end_matches('Z').split(':').map(|part| part.parse().unwrap()).collect();
        clock[0] * 3600.0 + clock[1] * 60.0 + clock[2]
    };
    let lived = (seconds(finished) - seconds(started_at)).rem_euclid(86400.0);
    assert!((1.9..3.5).contains(&lived), "the time of death is its own, not the restart's: {lived}");

    // Not a line is lost or doubled, and writing goes on.
    for name in ["w0", "w1", "w49"] {
        let lines: Vec<String> = docker.run(&["logs", name]).lines().map(str::to_owned).collect();
        for (at, line) in lines.iter().enumerate() {
            assert_eq!(line, &format!("line {}", at + 1), "{name}");
        }
        eventually(5, "further lines", || docker.run(&["logs", name]).lines().count() > lines.len());
    }
    assert_eq!(docker.run(&["exec", "w0", "echo", "still served"]), "still served");
    docker.run(&["stop", "-t", "0", "w0"]);
    assert_eq!(docker.inspect("w0")["State"]["ExitCode"], 137);
    let mut remove = vec!["rm".to_owned(), "-f".to_owned()];
    remove.extend(before.keys().cloned());
    daemon.dhow().run(&remove.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn an_attached_client_loses_its_daemon_but_not_its_container() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    let attached = docker.spawn(&["run", "--name", "c1", "busybox", "sh", "-c", "sleep 1; echo after; sleep 1000"]);
    eventually(10, "the start", || docker.try_run(&["inspect", "-f", "{{.State.Running}}", "c1"]).stdout == "true\n");
    daemon.kill();
    let _ = attached.wait_with_output();
    daemon.launch();
    eventually(10, "the line written without a daemon", || docker.run(&["logs", "c1"]) == "after");
    assert_eq!(docker.inspect("c1")["State"]["Running"], true);
}

#[test]
fn published_ports_work_while_the_daemon_is_dead() {
    let Some(mut daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    docker.run(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "127.0.0.1::80",
        "busybox",
        "sh",
        "-c",
        "echo up > /index.html; exec httpd -f -p 80 -h /",
    ]);
    let at = docker.run(&["port", "web", "80/tcp"]);
    let fetch = || {
        let output =
            std::process::Command::new("curl").args(["-s", "-m", "3", &format!("http://{at}/")]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    eventually(10, "an answer", || fetch() == "up\n");
    daemon.kill();
    assert_eq!(fetch(), "up\n");
    daemon.launch();
    assert_eq!(fetch(), "up\n");
    assert_eq!(docker.run(&["port", "web", "80/tcp"]), at);
    let taken = at.rsplit(':').next().unwrap().to_owned();
    docker
        .try_run(&["run", "--rm", "-p", &format!("127.0.0.1:{taken}:80"), "busybox", "true"])
        .expect_error(125, "port is already allocated");
}

#[test]
fn a_kill_in_the_middle_of_work_leaves_a_sound_state() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    for round in 0..5 {
        let clients: Vec<_> = (0..6)
            .map(|at| docker.spawn(&["run", "-d", "--name", &format!("r{round}x{at}"), "busybox", "sleep", "1000"]))
            .collect();
        std::thread::sleep(Duration::from_millis(25 * round));
        daemon.kill();
        let acknowledged: Vec<String> = clients
            .into_iter()
            .filter_map(|client| {
                let output = client.wait_with_output().unwrap();
                output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            })
            .collect();
        daemon.launch();
        let known = docker.run(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}"]);
        for id in acknowledged {
            assert!(known.contains(&format!("{id} running")), "{id} was acknowledged, now: {known}");
        }
        // Whatever state the rest is in, it can be removed.
        for id in docker.run(&["ps", "-aq"]).lines() {
            docker.run(&["rm", "-f", id]);
        }
    }
}

/// The parent of a process: of a container's first one its shim.
fn parent(pid: u64) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn is_alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}

fn signal(signal: &str, pid: u64) {
    let status = std::process::Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill {signal} {pid}");
}

fn pid_of(client: &Client, name: &str) -> u64 {
    client.inspect(name)["State"]["Pid"].as_u64().unwrap()
}

/// Containers of every kind, and the processes in them: the first of each and one that has left its session.
fn crew(docker: &Client) -> Vec<u64> {
    let script = "setsid sleep 1001 & echo up; sleep 1000";
    for (name, policy) in [("plain", "no"), ("keen", "always"), ("failing", "on-failure:3"), ("paused", "no")] {
        docker.run(&["run", "-d", "--name", name, "--restart", policy, "busybox", "sh", "-c", script]);
    }
    docker.run(&["run", "-d", "--rm", "--name", "passing", "busybox", "sh", "-c", script]);
    let mut pids = Vec::new();
    for name in ["plain", "keen", "failing", "paused", "passing"] {
        eventually(10, "the script", || docker.run(&["logs", name]) == "up");
        let first = pid_of(docker, name);
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
        pids.push(first);
        pids.extend(children.split_whitespace().map(|pid| pid.parse::<u64>().unwrap()));
    }
    assert!(pids.len() >= 10, "{pids:?}");
    docker.run(&["pause", "paused"]);
    pids
}

/// What must be true after all shims of [`crew`] were killed.
fn expect_the_end(docker: &Client, before: &[u64], first_of_keen: u64) {
    for name in ["plain", "paused"] {
        eventually(10, "the end", || docker.inspect(name)["State"]["Status"] == "exited");
        let state = &docker.inspect(name)["State"];
        assert_eq!((&state["ExitCode"], &state["Pid"]), (&137.into(), &0.into()), "{state}");
        assert!(state["Error"].as_str().unwrap().contains("looked after the container died"), "{state}");
        assert!(!state["FinishedAt"].as_str().unwrap().starts_with("0001"), "{state}");
    }
    for name in ["keen", "failing"] {
        eventually(10, "another start", || {
            // A container that waits for its next start counts as running, as with dockerd.
            let found = docker.inspect(name);
            let state = &found["State"];
            state["Running"] == true && state["Restarting"] == false && found["RestartCount"] == 1
        });
        assert_eq!(docker.run(&["exec", name, "echo", "served"]), "served");
    }
    assert_ne!(pid_of(docker, "keen"), first_of_keen);
    eventually(10, "the removal", || !docker.run(&["ps", "-a"]).contains("passing"));
    eventually(10, "the end of every process", || !before.iter().any(|pid| is_alive(*pid)));
    assert!(docker.run(&["logs", "plain"]) == "up", "the log is what was written until then");
    docker.run(&["start", "plain"]);
    assert_eq!(docker.inspect("plain")["State"]["Error"], "");
    for name in ["plain", "keen", "failing", "paused"] {
        docker.run(&["rm", "-f", name]);
    }
}

#[test]
fn a_killed_shim_is_an_end_with_a_reason_and_the_policy_goes_on() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    let before = crew(&docker);
    let attached = docker.spawn(&["exec", "keen", "sleep", "1000"]);
    eventually(10, "the exec", || docker.inspect("keen")["ExecIDs"].as_array().is_some_and(|ids| !ids.is_empty()));
    let waiting = docker.spawn(&["wait", "plain"]);
    let first = pid_of(&docker, "keen");
    let shims: Vec<u64> = before.iter().map(|pid| parent(*pid)).filter(|pid| !before.contains(pid)).collect();
    assert_eq!(shims.len(), 5, "{shims:?}");
    for shim in shims {
        signal("-9", shim);
    }
    expect_the_end(&docker, &before, first);
    assert!(!attached.wait_with_output().unwrap().status.success());
    assert_eq!(String::from_utf8_lossy(&waiting.wait_with_output().unwrap().stdout), "137\n");
}

#[test]
fn shims_killed_with_their_daemon_leave_no_container_that_seems_to_run() {
    let Some(mut daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    let before = crew(&docker);
    let first = pid_of(&docker, "keen");
    let shims: Vec<u64> = before.iter().map(|pid| parent(*pid)).filter(|pid| !before.contains(pid)).collect();
    daemon.kill();
    for shim in shims {
        signal("-9", shim);
    }
    for pid in &before {
        assert!(is_alive(*pid), "the processes themselves were not touched");
    }
    daemon.launch();
    expect_the_end(&docker, &before, first);
}

#[test]
fn without_what_makes_execs_a_container_runs_on_and_says_so() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    docker.run(&["run", "-d", "--name", "c1", "busybox", "sh", "-c", "while :; do echo on; sleep 0.1; done"]);
    assert_eq!(docker.run(&["exec", "c1", "echo", "there"]), "there");
    let first = pid_of(&docker, "c1");
    let shim = parent(first);
    let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
    let zygote = children.split_whitespace().map(|pid| pid.parse::<u64>().unwrap()).find(|pid| *pid != first).unwrap();
    signal("-9", zygote);
    eventually(10, "its end", || !is_alive(zygote));
    let failed = docker.try_run(&["exec", "c1", "true"]);
    assert!(failed.code != 0 && failed.stdout.contains("exec is not available"), "{failed:?}");
    let lines = docker.run(&["logs", "c1"]).lines().count();
    eventually(10, "further lines", || docker.run(&["logs", "c1"]).lines().count() > lines);
    docker.run(&["restart", "-t", "0", "c1"]);
    assert_eq!(docker.run(&["exec", "c1", "echo", "again"]), "again");
}

/// Ten megabytes a second for five seconds, with and without somebody who watches through the daemon.
#[test]
fn a_stopped_daemon_stops_no_writer() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    let line = "x".repeat(93);
    let script = format!(
        "i=0; while [ $i -lt 50 ]; do i=$((i+1)); seq -w 010000 | sed s/$/{line}/; sleep 0.1; done; echo finished"
    );
    let watched = docker.spawn(&["run", "--name", "watched", "busybox", "sh", "-c", &script]);
    docker.run(&["run", "-d", "--name", "alone", "busybox", "sh", "-c", &script]);
    eventually(10, "the start", || {
        docker.try_run(&["inspect", "-f", "{{.State.Running}}", "watched"]).stdout == "true\n"
    });
    let pids = [pid_of(&docker, "watched"), pid_of(&docker, "alone")];
    let pid = u64::from(daemon.pid());
    signal("-STOP", pid);
    let ended = (0..1200).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        !pids.iter().any(|pid| is_alive(*pid))
    });
    signal("-CONT", pid);
    assert!(ended, "a writer waits for a daemon that is stopped");
    let _ = watched.wait_with_output();
    for name in ["watched", "alone"] {
        eventually(10, "the end", || docker.inspect(name)["State"]["Status"] == "exited");
        assert_eq!(docker.inspect(name)["State"]["ExitCode"], 0);
        let log = docker.run(&["logs", name]);
        assert_eq!(log.lines().count(), 500_001, "{name}");
        for (at, line) in log.lines().take(500_000).enumerate() {
            assert!(line.starts_with(&format!("{:06}", at % 10_000 + 1)), "{name}: line {at} is {line}");
        }
    }
}
