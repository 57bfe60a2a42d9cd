//! The daemon dies; containers do not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::Daemon;

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
