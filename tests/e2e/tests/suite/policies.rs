//! Restart policies and health checks.

use e2e::Daemon;

use crate::eventually;

#[test]
fn on_failure_restarts_so_often_and_no_more() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    docker.run(&["run", "-d", "--name", "c1", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo try; exit 3"]);
    eventually(15, "the last try", || {
        let state = docker.inspect("c1");
        state["RestartCount"] == 2 && state["State"]["Status"] == "exited"
    });
    assert_eq!(docker.run(&["logs", "c1"]), "try\ntry\ntry");
    assert_eq!(docker.inspect("c1")["State"]["ExitCode"], 3);
    docker.run(&["run", "-d", "--name", "fine", "--restart", "on-failure", "busybox", "true"]);
    eventually(5, "the end", || docker.inspect("fine")["State"]["Status"] == "exited");
    assert_eq!(docker.inspect("fine")["RestartCount"], 0);
}

#[test]
fn always_restarts_until_stopped_by_hand() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    for policy in ["always", "unless-stopped"] {
        docker.run(&["run", "-d", "--name", policy, "--restart", policy, "busybox", "sleep", "1000"]);
        let pid = docker.inspect(policy)["State"]["Pid"].clone();
        docker.run(&["exec", policy, "sh", "-c", "kill -9 -1; true"]);
        let status = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        assert!(status.success() || docker.inspect(policy)["State"]["Pid"] != pid);
        eventually(10, "the restart", || {
            let state = docker.inspect(policy)["State"].clone();
            state["Running"] == true && state["Restarting"] == false && state["Pid"] != pid
        });
        docker.run(&["stop", "-t", "0", policy]);
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(docker.inspect(policy)["State"]["Status"], "exited", "a stop by hand holds");
    }
    daemon.stop();
    daemon.launch();
    eventually(10, "the start with the daemon", || docker.inspect("always")["State"]["Running"] == true);
    assert_eq!(docker.inspect("unless-stopped")["State"]["Running"], false);
}

#[test]
fn a_stop_while_a_restart_is_planned_or_begins_holds() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    // The first restart comes after 100 ms: before, while it begins, and after.
    for delay in [0, 40, 60, 70, 80, 90, 95, 100, 105, 110, 120, 150] {
        let name = format!("c{delay}");
        docker.run(&["run", "-d", "--name", &name, "--restart", "always", "busybox", "sleep", "1000"]);
        let pid = docker.inspect(&name)["State"]["Pid"].to_string();
        assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        std::thread::sleep(std::time::Duration::from_millis(delay));
        daemon.dhow().run(&["stop", "-t", "0", &name]);
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(docker.run(&["ps", "-q"]), "", "a stop by hand holds");
}

#[test]
fn health_goes_from_starting_to_healthy_to_unhealthy() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&[
            "run",
            "-d",
            "--name",
            "c1",
            "--health-cmd",
            "test -e /ok && echo fine",
            "--health-interval",
            "300ms",
            "--health-retries",
            "2",
            "--health-timeout",
            "5s",
            "--health-start-period",
            "1s",
            "--health-start-interval",
            "100ms",
            "busybox",
            "sleep",
            "1000",
        ]);
        let health = || client.inspect("c1")["State"]["Health"].clone();
        assert_eq!(health()["Status"], "starting");
        client.run(&["exec", "c1", "touch", "/ok"]);
        eventually(10, "health", || health()["Status"] == "healthy");
        let log = health()["Log"].clone();
        assert_eq!(log.as_array().unwrap().last().unwrap()["Output"], "fine\n");
        assert!(client.run(&["ps", "--format", "{{.Status}}"]).ends_with("(healthy)"));
        client.run(&["exec", "c1", "rm", "/ok"]);
        eventually(10, "illness", || health()["Status"] == "unhealthy");
        assert!(health()["FailingStreak"].as_u64().unwrap() >= 2);
        assert_eq!(client.run(&["ps", "-q", "--filter", "health=unhealthy"]).lines().count(), 1);
        client.run(&["rm", "-f", "c1"]);
    }
}

#[test]
fn a_probe_that_hangs_is_a_failure() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    docker.run(&[
        "run",
        "-d",
        "--name",
        "c1",
        "--health-cmd",
        "sleep 100",
        "--health-interval",
        "200ms",
        "--health-timeout",
        "300ms",
        "--health-retries",
        "1",
        "busybox",
        "sleep",
        "1000",
    ]);
    eventually(10, "illness", || docker.inspect("c1")["State"]["Health"]["Status"] == "unhealthy");
    let top = docker.run(&["top", "c1"]);
    eventually(5, "the end of hanging probes", || docker.run(&["top", "c1"]).matches("sleep 100\n").count() <= 1);
    assert!(top.contains("sleep 1000"));
}
