//! The OCI runtime under real podman and conmon, as root and as a user without privileges.

use std::ffi::OsStr;
use std::fs;

use e2e::{Podman, clients};

use crate::eventually;
use crate::rows::answers;
use crate::terminal::{MUST, expect_of};

/// Ends with 8 when told to, and says so that a log has a line.
const FIRST: &str = "trap 'exit 8' USR1; echo first; while :; do sleep 0.1; done";

/// Runs a row; `run` and `create` get the sandbox's control group parent.
fn try_row(podman: &Podman, args: &[&str]) -> e2e::Output {
    match args {
        [verb @ ("run" | "create"), rest @ ..] => podman.try_run(&podman.with_parent(verb, rest)),
        other => podman.try_run(other),
    }
}

#[track_caller]
fn started(podman: &Podman, name: &str, flags: &[&str], command: &[&str]) -> String {
    let mut args = vec!["-d", "--name", name];
    args.extend(flags);
    args.push("busybox");
    args.extend(command);
    podman.run(&podman.with_parent("run", &args))
}

fn status(podman: &Podman, name: &str) -> String {
    podman.run(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name])
}

#[track_caller]
fn terminals(podman: &Podman) {
    started(podman, "c1", &["--network", "none"], &["sleep", "1000"]);
    let parent = podman.with_parent("run", &[]).join(" ");
    expect_of(
        &clients::line(&podman.command(&[])),
        OsStr::new("/nonexistent"),
        &format!(
            "{MUST}spawn $client {parent} --rm --network none -it busybox sh\nmust \"#\"\nsend \"tty; stty size\\r\"\n\
             must \"/dev/pts/0\"\nmust \"33 99\"\nsend \"exit 5\\r\"\nfinish\nlassign [wait] a b c code\n\
             if {{$code != 5}} {{puts \"code $code\"; exit 1}}\n\
             spawn $client exec -it c1 sh\nmust \"#\"\nsend \"sleep 100\\r\"\nsleep 0.5\nsend \"\\003\"\n\
             send \"echo code=$?\\r\"\nmust \"code=130\"\nsend \"exit 6\\r\"\nfinish\nlassign [wait] a b c code\n\
             exit [expr $code != 6]"
        ),
    );
    podman.run(&["rm", "-f", "-t", "0", "c1"]);
}

#[test]
fn life_streams_and_execs() {
    let Some(podman) = Podman::start() else { return };
    let baseline = podman.baseline();
    started(&podman, "c1", &["-e", "OUTER=o", "-w", "/tmp"], &["sh", "-c", FIRST]);
    answers(
        &[
            ("run --rm busybox echo hi", 0, "hi"),
            ("run --rm busybox sh -c 'echo out; echo err >&2; exit 7'", 7, "out\nerr"),
            ("run --rm --pid host busybox sh -c 'kill -9 $$'", 137, ""),
            ("run --rm busybox nosuch", 127, ""),
            ("run --rm busybox /nosuch/program", 127, ""),
            ("run --rm busybox /etc/passwd", 126, ""),
            ("run --rm -w /nosuch busybox pwd", 126, ""),
            ("exec c1 echo hi", 0, "hi"),
            ("exec c1 sh -c 'exit 9'", 9, ""),
            ("exec -w /etc -e INNER=i c1 sh -c 'echo $INNER$OUTER$PWD'", 0, "io/etc"),
            ("exec -u 5:6 c1 id", 0, "uid=5 gid=6"),
            ("exec --privileged c1 grep Seccomp: /proc/self/status", 0, "2"),
            ("exec c1 nosuch", 127, ""),
            ("exec c1 /etc/passwd", 126, ""),
            ("ps --format {{.Names}}", 0, "c1"),
            ("logs c1", 0, "first"),
            ("top c1 args", 0, "while :"),
            ("pause c1", 0, ""),
            ("ps --filter status=paused --format {{.Names}}", 0, "c1"),
            ("unpause c1", 0, ""),
            ("stats --no-stream --format {{.PIDs}} c1", 0, "2"),
        ],
        |args| try_row(&podman, args),
    );
    let input = vec![b'x'; 400_000];
    let run = podman.with_parent("run", &["--rm", "-i", "busybox", "cat"]);
    assert_eq!(podman.try_run_with(&run, &input).expect_code(0).stdout_bytes.len(), input.len());
    podman.run(&["kill", "-s", "USR1", "c1"]);
    assert_eq!(podman.run(&["wait", "c1"]), "8");

    podman.run(&["restart", "-t", "0", "c1"]);
    assert_eq!(
        podman.try_run_with(&["exec", "-i", "c1", "cat"], b"into an exec").expect_code(0).stdout,
        "into an exec"
    );
    podman.run(&["stop", "-t", "1", "c1"]);
    assert_eq!(status(&podman, "c1"), "exited 137");
    podman.run(&["start", "c1"]);
    podman.run(&["kill", "c1"]);
    eventually(10, "the end", || status(&podman, "c1") == "exited 137");
    podman.run(&["rm", "c1"]);
    terminals(&podman);
    podman.settles(&baseline);
}

#[test]
fn options_and_limits() {
    let Some(podman) = Podman::start() else { return };
    let baseline = podman.baseline();
    let source = podman.sandbox.text("source");
    fs::create_dir(&source).expect("a directory");
    fs::write(format!("{source}/file"), "from outside\n").expect("a file");
    answers(
        &[
            (&format!("run --rm -v {source}:/v busybox cat /v/file"), 0, "from outside"),
            (&format!("run --rm -v {source}:/v:ro busybox touch /v/x"), 1, "Read-only"),
            ("run --rm -v named:/data busybox touch /data/x", 0, ""),
            ("run --rm --read-only busybox touch /x", 1, "Read-only"),
            ("run --rm --read-only busybox touch /tmp/x", 0, ""),
            ("run --rm --tmpfs /t:size=1m busybox touch /t/x", 0, ""),
            ("run --rm --privileged busybox grep Seccomp: /proc/self/status", 0, "0"),
            ("run --rm --cap-drop all busybox grep CapEff /proc/self/status", 0, "0000000000000000"),
            ("run --rm --cap-add sys_time busybox grep CapEff /proc/self/status", 0, "!00000000800405fb"),
            ("run --rm --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status", 0, "1"),
            ("run --rm --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status", 0, "0"),
            ("run --rm busybox grep Seccomp: /proc/self/status", 0, "2"),
            ("run --rm --user 5:6 busybox sh -c 'id -u; id -g'", 0, "5\n6"),
            ("run --rm --ulimit nofile=100:200 busybox sh -c 'ulimit -n'", 0, "100"),
            ("run --rm --device /dev/fuse busybox ls -l /dev/fuse", 0, "10, 229"),
            ("run --rm --sysctl net.ipv4.ip_forward=0 busybox cat /proc/sys/net/ipv4/ip_forward", 0, "0"),
            ("run --rm --pid host busybox ps", 0, "conmon"),
            ("run --rm --ipc host --uts host --network host busybox true", 0, ""),
            ("run --rm --cgroupns host busybox cat /proc/self/cgroup", 0, "dhow-e2e"),
            ("run --rm busybox ip -o link", 0, "eth0"),
            ("run --rm --hostname given busybox hostname", 0, "given"),
            ("run --rm --umask 0077 busybox sh -c umask", 0, "0077"),
            ("run --rm --annotation a.b/c=d busybox true", 0, ""),
            ("run --rm --memory 64m --pids-limit 9 --cpus 0.5 busybox true", 0, ""),
        ],
        |args| try_row(&podman, args),
    );
    let id = started(&podman, "c1", &["--memory", "64m", "--pids-limit", "40", "--cpus", "0.5"], &["sleep", "1000"]);
    let control = |files: &[(&str, &str)]| podman.sandbox.control(&format!("libpod-{id}"), files);
    assert_eq!(control(&[("memory", "memory.limit_in_bytes"), ("", "memory.max")]), (64 << 20).to_string());
    assert_eq!(control(&[("pids", "pids.max"), ("", "pids.max")]), "40");
    assert!(["50000", "50000 100000"].contains(&control(&[("cpu", "cpu.cfs_quota_us"), ("", "cpu.max")]).as_str()));
    podman.run(&["update", "--memory", "96m", "--pids-limit", "50", "c1"]);
    assert_eq!(control(&[("memory", "memory.limit_in_bytes"), ("", "memory.max")]), (96 << 20).to_string());
    assert_eq!(control(&[("pids", "pids.max"), ("", "pids.max")]), "50");
    podman.settles(&baseline);
}

#[test]
fn user_namespaces() {
    let Some(podman) = Podman::start() else { return };
    let baseline = podman.baseline();
    let volume = podman.sandbox.text("volume");
    fs::create_dir(&volume).expect("a directory");
    std::os::unix::fs::chown(&volume, Some(500_000), Some(500_000)).expect("root gives files away");
    answers(
        &[
            ("run --rm --uidmap 0:500000:5000 busybox cat /proc/self/uid_map", 0, "500000       5000"),
            (
                "run --rm --uidmap 0:500000:5000 --gidmap 0:600000:7 busybox cat /proc/self/gid_map",
                0,
                "600000          7",
            ),
            ("run --rm --uidmap 0:500000:5000 --memory 64m busybox sh -c 'touch /x; stat -c %u /x'", 0, "0"),
            ("run --rm --uidmap 0:500000:5000 --user 5:6 busybox sh -c 'id -u; id -g'", 0, "5\n6"),
            ("run --rm --uidmap 0:500000:5000 -t busybox sh -c 'stat -c %u $(tty)'", 0, "0"),
            (&format!("run --rm --uidmap 0:500000:5000 -v {volume}:/v busybox touch /v/x"), 0, ""),
            (
                &format!("run --rm --uidmap 0:500000:5000 -v {source}:/v:idmap busybox stat -c %u /v", source = volume),
                0,
                "",
            ),
            ("run --rm --userns auto busybox cat /proc/self/uid_map", 0, "400000       1024"),
            ("run --rm --userns auto:size=2000 --network none busybox cat /proc/self/uid_map", 0, "400000       2000"),
        ],
        |args| try_row(&podman, args),
    );
    started(&podman, "c1", &["--uidmap", "0:500000:5000"], &["sleep", "1000"]);
    answers(
        &[
            ("exec c1 cat /proc/self/uid_map", 0, "500000       5000"),
            ("exec -u 7 c1 id -u", 0, "7"),
            ("pause c1", 0, ""),
            ("unpause c1", 0, ""),
            ("stop -t 0 c1", 0, ""),
        ],
        |args| try_row(&podman, args),
    );
    podman.settles(&baseline);
}

#[test]
fn pods_share_namespaces() {
    let Some(podman) = Podman::start() else { return };
    let baseline = podman.baseline();
    let parent = podman.sandbox.cgroup_parent.clone();
    let pod = ["pod", "create", "--name", "p", "--cgroup-parent", &parent, "--hostname", "together"];
    let infra = ["--infra-image", "localhost/busybox", "--infra-command", "sleep 1000", "--share", "net,ipc,uts,pid"];
    podman.run(&[&pod[..], &infra].concat());
    podman.run(&["run", "-d", "--pod", "p", "--name", "a", "busybox", "sh", "-c", "nc -l -p 7000 -e echo heard"]);
    answers(
        &[
            ("run --rm --pod p busybox hostname", 0, "together"),
            ("run --rm --pod p busybox ps", 0, "sleep 1000"),
            ("run --rm --pod p busybox sh -c 'sleep 1; nc 127.0.0.1 7000 </dev/null'", 0, "heard"),
            ("run -d --pod p --name b busybox sleep 1000", 0, ""),
            ("pause b", 0, ""),
            ("unpause b", 0, ""),
            ("pod stop -t 0 p", 0, ""),
            ("pod start p", 0, ""),
            ("exec b echo again", 0, "again"),
        ],
        |args| podman.try_run(args),
    );
    podman.settles(&baseline);
}

#[test]
fn a_build_runs_its_steps() {
    let Some(podman) = Podman::start() else { return };
    let baseline = podman.baseline();
    let context = podman.sandbox.path("context");
    fs::create_dir(&context).expect("a directory");
    fs::write(context.join("Containerfile"), "FROM localhost/busybox\nRUN echo made >/made && id -u\n").unwrap();
    // Of its own accord it asks for limits that a host may withhold.
    let build = ["build", "--isolation", "oci", "--network", "none", "--ulimit", "nofile=512:512", "-t", "built"];
    podman.run(&[&build[..], &["--ulimit", "nproc=512:512", context.to_str().expect("a UTF-8 path")]].concat());
    assert_eq!(podman.run(&podman.with_parent("run", &["--rm", "built", "cat", "/made"])), "made");
    podman.settles(&baseline);
}

#[test]
fn without_privileges() {
    let Some(podman) = Podman::rootless() else { return };
    let baseline = podman.baseline();
    let source = podman.sandbox.text("home/source");
    podman.sandbox.run(&["install", "-d", "-o", "4242", "-g", "4242", &source]);
    started(&podman, "c1", &["--network", "none"], &["sleep", "1000"]);
    answers(
        &[
            ("run --rm --network none busybox echo hi", 0, "hi"),
            ("run --rm --network none busybox sh -c 'exit 7'", 7, ""),
            ("run --rm --network none busybox nosuch", 127, ""),
            ("run --rm --network none busybox cat /proc/self/uid_map", 0, "0       4242          1"),
            ("run --rm --network none --user 5:6 busybox sh -c 'id -u; id -g'", 0, "5\n6"),
            ("run --rm --network host busybox true", 0, ""),
            ("run --rm --network none busybox sh -c 'touch /x; stat -c %u /x'", 0, "0"),
            (&format!("run --rm --network none -v {source}:/v busybox sh -c 'touch /v/x; stat -c %u /v/x'"), 0, "0"),
            ("run --rm --network none --read-only --tmpfs /t busybox touch /t/x", 0, ""),
            ("run --rm --network none --privileged busybox true", 0, ""),
            ("run --rm --network none --pid host busybox true", 0, ""),
            ("run --rm --network none -t busybox tty", 0, "/dev/pts/0"),
            ("run --rm --network none --userns keep-id busybox id -u", 0, "4242"),
            ("exec c1 echo hi", 0, "hi"),
            ("exec -u 5:6 c1 id", 0, "uid=5 gid=6"),
            ("exec c1 sh -c 'exit 9'", 9, ""),
            ("ps --format {{.Names}}", 0, "c1"),
            ("kill -s CONT c1", 0, ""),
            ("stop -t 1 c1", 0, ""),
            ("start c1", 0, ""),
            ("rm -f -t 0 c1", 0, ""),
        ],
        |args| podman.try_run(args),
    );
    let owner = fs::metadata(format!("{source}/x")).map(|file| std::os::unix::fs::MetadataExt::uid(&file));
    assert_eq!(owner.ok(), Some(e2e::sandbox::USER), "the container's root is the user outside");
    terminals(&podman);
    podman.settles(&baseline);
}
