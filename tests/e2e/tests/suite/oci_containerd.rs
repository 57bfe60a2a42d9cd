//! The OCI runtime under real containerd and its shim, driven by `ctr`.

use std::ffi::OsStr;

use e2e::{Containerd, Output, clients};

use crate::eventually;
use crate::rows::answers;
use crate::terminal::{MUST, expect_of};

#[track_caller]
fn started(containerd: &Containerd, id: &str, flags: &[&str], command: &[&str]) {
    let flags = [&["-d"], flags].concat();
    let words = containerd.container(&flags, id, command);
    containerd.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
}

/// `run FLAGS -- ARGS` with the runtime under test; anything else as it is.
fn try_row(containerd: &Containerd, args: &[&str]) -> Output {
    let Some(at) = args.iter().position(|&arg| arg == "--").filter(|_| args[0] == "run") else {
        return containerd.try_run(args);
    };
    let flags = [&["--rm"], &args[1..at]].concat();
    let words = containerd.container(&flags, "row", &args[at + 1..]);
    containerd.try_run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn status(containerd: &Containerd, id: &str) -> String {
    let tasks = containerd.run(&["task", "ls"]);
    let line = tasks.lines().find(|line| line.split_whitespace().next() == Some(id)).unwrap_or_default();
    line.split_whitespace().last().unwrap_or_default().to_owned()
}

#[track_caller]
fn removed(containerd: &Containerd, id: &str) {
    containerd.run(&["task", "kill", "-s", "KILL", id]);
    eventually(10, "the end", || status(containerd, id) == "STOPPED");
    containerd.run(&["task", "rm", id]);
    containerd.run(&["container", "rm", id]);
}

#[test]
fn runs_and_execs() {
    let Some(containerd) = Containerd::start() else { return };
    let baseline = containerd.baseline();
    started(&containerd, "c1", &["--env", "A=1"], &["/bin/sleep", "1000"]);
    answers(
        &[
            ("run -- /bin/echo hi", 0, "hi"),
            ("run -- /bin/sh -c 'exit 7'", 7, ""),
            ("run -- nosuch", 1, "not found"),
            ("run -- /etc/passwd", 1, "permission denied"),
            ("run --cwd /etc -- /bin/pwd", 0, "/etc"),
            ("run --user 5:6 -- /bin/id", 0, "uid=5 gid=6"),
            ("run --read-only -- /bin/touch /x", 1, "Read-only"),
            ("run --privileged -- /bin/grep CapEff /proc/self/status", 0, "CapEff"),
            ("run --cap-drop CAP_CHOWN -- /bin/grep CapEff /proc/self/status", 0, "00000000a80425fa"),
            ("run --seccomp -- /bin/grep Seccomp: /proc/self/status", 0, "2"),
            ("run -- /bin/grep Seccomp: /proc/self/status", 0, "0"),
            ("run -- /bin/grep NoNewPrivs /proc/self/status", 0, "1"),
            ("run --allow-new-privs -- /bin/grep NoNewPrivs /proc/self/status", 0, "0"),
            ("run --net-host -- /bin/ip -o link", 0, "lo"),
            ("run --hostname given -- /bin/hostname", 0, "given"),
            ("run --mount type=tmpfs,src=tmpfs,dst=/t,options=size=1m -- /bin/touch /t/x", 0, ""),
            ("run --device /dev/fuse -- /bin/ls -l /dev/fuse", 0, "10, 229"),
            ("run --no-pivot -- /bin/echo unpivoted", 0, "unpivoted"),
            ("run --memory-limit 67108864 --cpus 0.5 -- /bin/true", 0, ""),
            ("run --null-io -- /bin/echo unseen", 0, "!unseen"),
            ("task exec --exec-id e1 c1 /bin/sh -c 'echo out; exit 9'", 9, "out"),
            ("task exec --exec-id e2 --cwd /etc --user 5:6 c1 /bin/sh -c 'pwd; id -u'", 0, "/etc\n5"),
            ("task exec --exec-id e3 c1 nosuch", 1, "not found"),
            ("task ps c1", 0, "PID"),
            ("task metrics c1", 0, "memory"),
            ("task ls", 0, "RUNNING"),
            ("container info c1", 0, "dhow-e2e"),
        ],
        |args| try_row(&containerd, args),
    );
    let words = ["task", "exec", "--exec-id", "e4", "c1", "/bin/cat"];
    assert_eq!(containerd.try_run_with(&words, b"through").expect_code(0).stdout, "through");
    removed(&containerd, "c1");
    containerd.settles(&baseline);
}

#[test]
fn terminals() {
    let Some(containerd) = Containerd::start() else { return };
    let baseline = containerd.baseline();
    started(&containerd, "c1", &[], &["/bin/sleep", "1000"]);
    let run = containerd.container(&["--rm", "-t"], "tty", &["/bin/sh"]).join(" ");
    expect_of(
        &clients::line(&containerd.command(&[])),
        OsStr::new("/nonexistent"),
        &format!(
            "{MUST}spawn $client {run}\nmust \"#\"\nsend \"tty; stty size\\r\"\nmust \"/dev/pts/0\"\nmust \"33 99\"\n\
             send \"exit 5\\r\"\nfinish\nlassign [wait] a b c code\nif {{$code != 5}} {{puts \"code $code\"; exit 1}}\n\
             spawn $client task exec -t --exec-id e1 c1 /bin/sh\nmust \"#\"\nsend \"tty; stty size\\r\"\n\
             must \"/dev/pts/\"\nmust \"33 99\"\nsend \"exit 6\\r\"\nfinish\nlassign [wait] a b c code\n\
             exit [expr $code != 6]"
        ),
    );
    removed(&containerd, "c1");
    containerd.settles(&baseline);
}

#[test]
fn life_and_limits() {
    let Some(containerd) = Containerd::start() else { return };
    let baseline = containerd.baseline();
    let flags = ["--memory-limit", "67108864", "--cpus", "0.5", "--cpu-shares", "512"];
    started(&containerd, "c1", &flags, &["/bin/sh", "-c", "trap 'exit 8' USR1; while :; do sleep 0.1; done"]);
    let control = |files: &[(&str, &str)]| containerd.sandbox.control("c1", files);
    assert_eq!(control(&[("memory", "memory.limit_in_bytes"), ("", "memory.max")]), (64 << 20).to_string());
    assert!(["50000", "50000 100000"].contains(&control(&[("cpu", "cpu.cfs_quota_us"), ("", "cpu.max")]).as_str()));
    containerd.run(&["task", "pause", "c1"]);
    assert_eq!(status(&containerd, "c1"), "PAUSED");
    containerd.run(&["task", "resume", "c1"]);
    assert_eq!(status(&containerd, "c1"), "RUNNING");
    containerd.run(&["task", "kill", "-s", "USR1", "c1"]);
    eventually(10, "the end", || status(&containerd, "c1") == "STOPPED");
    containerd.run(&["task", "rm", "c1"]);
    containerd.run(&["container", "rm", "c1"]);

    // A killed shim: containerd has the runtime delete what is left, by force.
    started(&containerd, "c2", &[], &["/bin/sleep", "1000"]);
    containerd.sandbox.run(&["pkill", "-KILL", "-f", "containerd-shim.*-id c2"]);
    eventually(15, "the end of the task", || !containerd.run(&["task", "ls"]).contains("c2"));
    containerd.run(&["container", "rm", "c2"]);
    containerd.settles(&baseline);
}

#[test]
fn a_checkpoint_leaves_images() {
    let Some(containerd) = Containerd::start() else { return };
    if containerd.sandbox.try_run(&["criu", "check"]).code != 0 {
        eprintln!("left out: CRIU finds this kernel unfit");
        return;
    }
    let baseline = containerd.baseline();
    started(&containerd, "c1", &[], &["/bin/sleep", "1000"]);
    let images = containerd.sandbox.text("images");
    let work = containerd.sandbox.text("work");
    containerd.run(&["task", "checkpoint", "--image-path", &images, "--work-path", &work, "c1"]);
    assert!(containerd.sandbox.path("images/inventory.img").exists(), "CRIU wrote its images");
    assert_eq!(status(&containerd, "c1"), "RUNNING");
    removed(&containerd, "c1");
    containerd.settles(&baseline);
}
