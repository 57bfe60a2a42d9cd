//! The OCI runtime under a real dockerd: the life of containers, their streams, execs and limits.

use std::io::Write;

use e2e::{Client, Dockerd};
use serde_json::Value;

use crate::eventually;
use crate::rows::answers;
use crate::terminal::{MUST, expect};

fn started(docker: &Client, flags: &[&str], name: &str, command: &[&str]) -> String {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    args.push("busybox");
    args.extend(command);
    docker.run(&args)
}

fn state(docker: &Client, name: &str) -> Value {
    docker.inspect(name)["State"].clone()
}

#[test]
fn streams_and_exit_codes() {
    let Some(dockerd) = Dockerd::start(&["--bridge", "none"]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    answers(
        &[
            ("run --rm --runtime dhow busybox echo hi", 0, "hi"),
            ("run --rm busybox sh -c 'exit 7'", 7, ""),
            ("run --rm busybox sh -c 'echo out; echo err >&2; exit 3'", 3, "out\nerr"),
            ("run --rm --init busybox sh -c 'kill -9 $$'", 137, ""),
            ("run --rm busybox nosuch", 127, "not found"),
            ("run --rm busybox /nosuch/program", 127, "no such file or directory"),
            ("run --rm busybox /etc/passwd", 126, "permission denied"),
            ("run --rm busybox /etc", 126, ""),
            ("run --rm --user nosuch busybox true", 125, "nosuch"),
            // dockerd itself makes a missing working directory.
            ("run --rm -w /nosuch/dir busybox pwd", 0, "/nosuch/dir"),
            ("run --rm -e A=1 -e B busybox sh -c 'echo $A.$B.$HOME.$PWD'", 0, "1../root./"),
        ],
        |args| docker.try_run(args),
    );
    let separate = docker.try_run(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((separate.stdout.as_str(), separate.stderr.as_str()), ("out\n", "err\n"));

    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let echoed = docker.try_run_with(&["run", "--rm", "-i", "busybox", "cat"], &bytes);
    assert!(echoed.expect_code(0).stdout_bytes == bytes, "1.2 MB went through unchanged");
    let much = docker.try_run(&["run", "--rm", "busybox", "sh", "-c", "yes | head -c 5000000"]);
    assert_eq!(much.expect_code(0).stdout_bytes.len(), 5_000_000);
    // A client that goes away while it holds standard input open leaves nothing waiting.
    let mut child = docker.spawn(&["run", "--rm", "-i", "--name", "left", "busybox", "cat"]);
    child.stdin.as_mut().expect("it is piped").write_all(b"x\n").expect("the client reads");
    eventually(10, "the container", || docker.try_run(&["inspect", "left"]).code == 0);
    drop(child.stdin.take());
    assert_eq!(child.wait().expect("the client ends").code(), Some(0));
    dockerd.settles(&baseline);
}

#[test]
fn terminals() {
    let Some(dockerd) = Dockerd::start(&["--bridge", "none"]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    expect(
        &docker,
        &format!(
            "{MUST}spawn $client run --rm -it busybox sh\nmust \"#\"\nsend \"tty; stty size\\r\"\nmust \"/dev/pts/0\"\n\
             must \"33 99\"\nsend \"ls -l /dev/console; echo tty >/dev/tty\\r\"\nmust \"\\ntty\"\nmust \"#\"\n\
             send \"exit 5\\r\"\nfinish\nlassign [wait] a b c code\nexit [expr $code != 5]"
        ),
    );
    started(&docker, &["-it"], "c1", &["sh"]);
    expect(
        &docker,
        &format!(
            "{MUST}spawn $client exec -it c1 sh\nmust \"#\"\nsend \"tty; stty size\\r\"\nmust \"/dev/pts/1\"\n\
             must \"33 99\"\nsend \"sleep 100\\r\"\nsleep 0.5\nsend \"\\003\"\nsend \"echo code=$?\\r\"\n\
             must \"code=130\"\nsend \"exit 6\\r\"\nfinish\nlassign [wait] a b c code\nexit [expr $code != 6]"
        ),
    );
    expect(
        &docker,
        &format!(
            "{MUST}spawn $client attach c1\nsend \"echo back\\r\"\nmust \"back\\r\\n\"\nsend \"exit 4\\r\"\nfinish\n\
             lassign [wait] a b c code\nexit [expr $code != 4]"
        ),
    );
    answers(&[("run --rm -t --user 5:6 busybox sh -c 'tty; echo x >/dev/tty; stat -c %u $(tty)'", 0, "5")], |args| {
        docker.try_run(args)
    });
    dockerd.settles(&baseline);
}

#[test]
fn execs() {
    let Some(dockerd) = Dockerd::start(&["--bridge", "none"]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    let flags = ["--pids-limit", "300", "--memory", "64m", "--tmpfs", "/t", "-e", "OUTER=o", "-w", "/tmp"];
    let id = started(&docker, &flags, "c1", &["sleep", "1000"]);
    answers(
        &[
            ("exec c1 echo hi", 0, "hi"),
            ("exec c1 sh -c 'exit 9'", 9, ""),
            ("exec c1 sh -c 'kill -9 $$'", 137, ""),
            ("exec c1 pwd", 0, "/tmp"),
            ("exec -w /etc c1 pwd", 0, "/etc"),
            ("exec -e INNER=i c1 sh -c 'echo $INNER$OUTER'", 0, "io"),
            ("exec -u 5:6 c1 id", 0, "uid=5 gid=6"),
            ("exec -u 65534 c1 grep CapEff /proc/self/status", 0, "0000000000000000"),
            ("exec c1 grep CapEff /proc/self/status", 0, "00000000a80425fb"),
            ("exec --privileged c1 grep CapEff /proc/self/status", 0, "!00000000a80425fb"),
            ("exec c1 grep Seccomp: /proc/self/status", 0, "2"),
            // dockerd gives a privileged exec capabilities alone.
            ("exec --privileged c1 grep Seccomp: /proc/self/status", 0, "2"),
            ("exec c1 nosuch", 127, "not found"),
            ("exec c1 /etc/passwd", 126, "permission denied"),
            ("exec -w /nosuch c1 true", 127, ""),
            ("exec -u nosuch c1 true", 1, "nosuch"),
            ("exec c1 sh -c 'grep -c . /proc/self/mountinfo >/dev/null && mount | grep -o \"on /t \"'", 0, "on /t"),
            ("exec c1 sh -c 'echo out; echo err >&2; exit 2'", 2, "out\nerr"),
        ],
        |args| docker.try_run(args),
    );
    let groups = docker.run(&["exec", "c1", "cat", "/proc/self/cgroup"]);
    assert!(groups.lines().any(|line| line.ends_with(&id)), "an exec is in its container's group: {groups}");
    let echoed = docker.try_run_with(&["exec", "-i", "c1", "cat"], &[b'z'; 500_000]);
    assert_eq!(echoed.expect_code(0).stdout_bytes.len(), 500_000);
    docker.run(&["exec", "-d", "c1", "sh", "-c", "echo detached >/t/file; sleep 1000"]);
    eventually(10, "the detached exec", || docker.try_run(&["exec", "c1", "cat", "/t/file"]).stdout == "detached\n");
    assert!(docker.run(&["top", "c1", "-o", "pid,args"]).contains("sleep 1000"));

    docker.run(&["pause", "c1"]);
    docker.try_run(&["exec", "c1", "true"]).expect_error(1, "is paused");
    docker.run(&["unpause", "c1"]);
    std::thread::scope(|scope| {
        for number in 0..10 {
            let docker = &docker;
            scope.spawn(move || {
                let said = docker.run(&["exec", "c1", "echo", &number.to_string()]);
                assert_eq!(said, number.to_string());
            });
        }
    });
    docker.run(&["rm", "-f", "c1"]);
    docker.try_run(&["exec", "c1", "true"]).expect_error(1, "No such container");
    dockerd.settles(&baseline);
}

#[test]
fn limits_are_in_the_control_group() {
    let Some(dockerd) = Dockerd::start(&["--bridge", "none"]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    let flags = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "40", "--cpuset-cpus", "0"];
    let flags = [&flags[..], &["--memory-reservation", "32m", "--cpu-shares", "512"]].concat();
    let id = started(&docker, &flags, "c1", &["sleep", "1000"]);
    let memory = [("memory", "memory.limit_in_bytes"), ("", "memory.max")];
    let pids = [("pids", "pids.max"), ("", "pids.max")];
    let control = |files: &[(&str, &str)]| dockerd.sandbox.control(&id, files);
    assert_eq!(control(&memory), (64 << 20).to_string());
    assert_eq!(control(&[("memory", "memory.soft_limit_in_bytes"), ("", "memory.low")]), (32 << 20).to_string());
    assert_eq!(control(&pids), "40");
    assert!(["50000", "50000 100000"].contains(&control(&[("cpu", "cpu.cfs_quota_us"), ("", "cpu.max")]).as_str()));
    assert_eq!(control(&[("cpuset", "cpuset.cpus"), ("", "cpuset.cpus")]), "0");
    assert!(["512", "59", "20"].contains(&control(&[("cpu", "cpu.shares"), ("", "cpu.weight")]).as_str()));
    // What the container may open is in its devices group or in a program, and is enforced.
    answers(
        &[
            ("exec c1 sh -c 'echo x >/dev/null'", 0, ""),
            ("exec --privileged c1 sh -c 'mknod /tmp/disk b 254 0; head -c 1 /tmp/disk'", 1, "not permitted"),
            ("exec c1 sh -c 'for i in $(seq 60); do sleep 5 & done; wait'", 2, "can't fork"),
        ],
        |args| docker.try_run(args),
    );

    docker.run(&["update", "--memory", "96m", "--memory-swap", "-1", "--pids-limit", "50", "--cpus", "1", "c1"]);
    assert_eq!(control(&memory), (96 << 20).to_string());
    assert_eq!(control(&pids), "50");
    assert!(["100000", "100000 100000"].contains(&control(&[("cpu", "cpu.cfs_quota_us"), ("", "cpu.max")]).as_str()));

    let stats = docker.json(&["stats", "--no-stream", "--format", "json", "c1"]);
    assert!(stats["MemUsage"].as_str().is_some_and(|text| text.ends_with("/ 96MiB")), "{stats}");
    assert!(stats["PIDs"].as_str().is_some_and(|count| count != "0"), "{stats}");

    docker.try_run(&["run", "--name", "big", "--memory", "8m", "busybox", "tail", "/dev/zero"]).expect_code(137);
    assert_eq!(state(&docker, "big")["OOMKilled"], true);
    dockerd.settles(&baseline);
}

#[test]
fn life() {
    let Some(dockerd) = Dockerd::start(&["--bridge", "none"]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    started(&docker, &[], "c1", &["sh", "-c", "trap 'echo got; exit 8' USR1; while :; do sleep 0.1; done"]);
    docker.run(&["pause", "c1"]);
    assert_eq!(state(&docker, "c1")["Status"], "paused");
    docker.run(&["unpause", "c1"]);
    assert_eq!(state(&docker, "c1")["Status"], "running");
    docker.run(&["kill", "-s", "USR1", "c1"]);
    assert_eq!(docker.run(&["wait", "c1"]), "8");
    assert_eq!(docker.run(&["logs", "c1"]), "got");
    docker.run(&["start", "c1"]);
    let pid = state(&docker, "c1")["Pid"].clone();
    docker.run(&["restart", "-t", "0", "c1"]);
    assert_ne!(state(&docker, "c1")["Pid"], pid);
    assert!(docker.run(&["top", "c1"]).contains("while :"));
    docker.run(&["kill", "c1"]);
    eventually(10, "the end", || state(&docker, "c1")["ExitCode"] == 137);

    started(&docker, &[], "kind", &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]);
    docker.run(&["stop", "kind"]);
    assert_eq!(state(&docker, "kind")["ExitCode"], 0);
    started(&docker, &[], "deaf", &["sleep", "1000"]);
    docker.run(&["stop", "-t", "1", "deaf"]);
    assert_eq!(state(&docker, "deaf")["ExitCode"], 137);
    started(&docker, &["--init"], "init", &["sleep", "1000"]);
    docker.run(&["stop", "init"]);
    assert_eq!(state(&docker, "init")["ExitCode"], 143);

    // Files go in and out of a running container through its mount namespace.
    started(&docker, &["-v", "/t"], "files", &["sleep", "1000"]);
    let file = dockerd.sandbox.path("note");
    std::fs::write(&file, "carried\n").expect("a file");
    docker.run(&["cp", file.to_str().expect("a UTF-8 path"), "files:/t/note"]);
    assert_eq!(docker.run(&["exec", "files", "cat", "/t/note"]), "carried");
    docker.run(&["cp", "files:/t/note", &dockerd.sandbox.text("back")]);
    assert_eq!(std::fs::read_to_string(dockerd.sandbox.path("back")).expect("it came back"), "carried\n");

    started(&docker, &[], "paused", &["sleep", "1000"]);
    docker.run(&["pause", "paused"]);
    docker.run(&["rm", "-f", "paused"]);
    // A container that was made and never started has a process of the runtime's own in neither engine.
    docker.run(&["create", "--name", "made", "busybox", "true"]);
    docker.run(&["rm", "made"]);
    dockerd.settles(&baseline);
}

#[test]
fn health_is_checked_by_execs() {
    let Some(dockerd) = Dockerd::start(&["--bridge", "none"]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    let flags = ["--health-cmd", "test -e /ok && echo fine", "--health-interval", "300ms", "--health-retries", "1"];
    started(&docker, &flags, "c1", &["sleep", "1000"]);
    eventually(15, "unhealthy", || state(&docker, "c1")["Health"]["Status"] == "unhealthy");
    docker.run(&["exec", "c1", "touch", "/ok"]);
    eventually(15, "healthy", || state(&docker, "c1")["Health"]["Status"] == "healthy");
    dockerd.settles(&baseline);
}

#[test]
fn twenty_at_once_leave_nothing() {
    let Some(dockerd) = Dockerd::start(&[]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    let flags = ["--memory", "32m", "--pids-limit", "20", "--health-cmd", "true"];
    std::thread::scope(|scope| {
        for number in 0..20 {
            let docker = &docker;
            scope.spawn(move || {
                let name = format!("c{number}");
                started(docker, &flags, &name, &["sleep", "1000"]);
                assert_eq!(docker.run(&["exec", &name, "echo", &name]), name);
                if number % 2 == 0 {
                    docker.run(&["stop", "-t", "0", &name]);
                }
            });
        }
    });
    dockerd.settles(&baseline);
}

#[test]
fn a_killed_shim_and_a_killed_daemon_are_cleared_away() {
    let Some(dockerd) = Dockerd::start(&["--bridge", "none", "--live-restore"]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    let id = started(&docker, &[], "c1", &["sleep", "1000"]);
    // containerd finds the shim gone, and has the runtime delete what is left, by force.
    dockerd.sandbox.run(&["pkill", "-KILL", "-f", &format!("containerd-shim.*{id}")]);
    eventually(15, "the end of the container", || state(&docker, "c1")["Running"] == false);
    dockerd.settles(&baseline);

    started(&docker, &[], "c2", &["sh", "-c", "while :; do sleep 0.1; done"]);
    let pid = state(&docker, "c2")["Pid"].clone();
    let daemon = dockerd.pid();
    dockerd.sandbox.run(&["kill", "-KILL", &daemon]);
    eventually(10, "the daemon's end", || !dockerd.sandbox.inside(&format!("/proc/{daemon}")).exists());
    dockerd.launch();
    assert_eq!((&state(&docker, "c2")["Running"], &state(&docker, "c2")["Pid"]), (&Value::Bool(true), &pid));
    assert_eq!(docker.run(&["exec", "c2", "echo", "still"]), "still");
    docker.run(&["pause", "c2"]);
    docker.run(&["unpause", "c2"]);
    docker.run(&["stop", "-t", "0", "c2"]);
    docker.run(&["rm", "c2"]);
    let left = dockerd.sandbox.traces(&[]);
    assert!(!left.iter().any(|trace| trace.contains("sleep") || trace.contains("shim")), "{left:#?}");
}

#[test]
fn the_builder_runs_its_steps() {
    let Some(dockerd) = Dockerd::start(&["--bridge", "none"]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    let context = dockerd.sandbox.path("context");
    std::fs::create_dir(&context).expect("a directory");
    std::fs::write(context.join("Dockerfile"), "FROM busybox\nRUN echo made >/made && id -u\nCMD cat /made\n").unwrap();
    // The classic builder runs each step as a container of the default runtime.
    let mut build = docker.command(&["build", "--network", "none", "-t", "built"]);
    build.arg(&context).env("DOCKER_BUILDKIT", "0");
    e2e::clients::finish(build, &["build"], None).expect_code(0);
    assert_eq!(docker.run(&["run", "--rm", "built"]), "made");
    dockerd.settles(&baseline);
}

#[test]
fn a_checkpoint_is_restored() {
    let Some(dockerd) = Dockerd::start(&["--bridge", "none", "--experimental"]) else { return };
    if dockerd.sandbox.try_run(&["criu", "check"]).code != 0 {
        eprintln!("left out: CRIU finds this kernel unfit");
        return;
    }
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    let count = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";
    let flags = ["--network", "host", "--security-opt", "seccomp=unconfined"];
    started(&docker, &flags, "c1", &["sh", "-c", count]);
    let last = || -> u32 { docker.run(&["logs", "c1"]).lines().last().map_or(0, |line| line.parse().unwrap_or(0)) };
    eventually(10, "a count", || last() > 5);
    docker.run(&["checkpoint", "create", "c1", "one"]);
    eventually(10, "the end", || state(&docker, "c1")["Running"] == false);
    let before = last();
    // dockerd hands the checkpoint to containerd a second time, which fails until the first is collected.
    eventually(20, "the restart", || {
        let output = docker.try_run(&["start", "--checkpoint", "one", "c1"]);
        eprint!("{}", output.stderr);
        output.code == 0
    });
    eventually(10, "counting on", || last() > before + 3);
    let lines = docker.run(&["logs", "c1"]).lines().filter(|&line| line == "1").count();
    assert_eq!(lines, 1, "it went on and did not begin anew");
    dockerd.settles(&baseline);
}
