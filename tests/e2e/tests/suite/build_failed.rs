//! Steps that fail: what they leave can be looked into, and a program for another machine is told from a broken one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use e2e::Daemon;

use crate::build::{assert_nothing_stays, build_args, context, with_buildx};

#[test]
fn what_a_failed_step_left_is_kept_when_asked_for() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    let dir = context("FROM busybox\nENV A=b\nWORKDIR /w\nRUN echo half > done; false\n");
    let path = dir.path().to_str().unwrap();
    let failed = client.try_run(&build_args("failed", path));
    failed.expect_error(1, "build again with --build-arg DHOW_KEEP_FAILED=1");
    let mut args = build_args("failed", path);
    args.splice(1..1, ["--build-arg", "DHOW_KEEP_FAILED=1"]);
    let failed = client.try_run(&args);
    failed.expect_error(1, "what the step left is an image: docker run -it --rm sha256:");
    let id = failed.stderr.split("docker run -it --rm ").nth(1).unwrap().split(' ').next().unwrap();
    let run = ["run", "--rm", "--network", "none", id, "sh", "-c", "cat done; echo $A; pwd"];
    assert_eq!(client.run(&run), "half\nb\n/w");
    client.run(&["rmi", id]);
    assert_nothing_stays(&daemon);
}

#[test]
fn a_program_for_another_machine_says_how_to_execute_it() {
    let Some(daemon) = Daemon::start() else { return };
    let client = with_buildx(daemon.docker());
    let dir = context("FROM scratch\nCOPY program /bin/sh\nRUN true\n");
    // The head of an executable for arm64.
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(16, 0);
    program.extend([2, 0, 183, 0, 1, 0, 0, 0]);
    program.resize(512, 0);
    fs::write(dir.path().join("program"), program).unwrap();
    fs::set_permissions(dir.path().join("program"), Permissions::from_mode(0o755)).unwrap();
    let mut args = build_args("foreign", dir.path().to_str().unwrap());
    args.splice(1..1, ["--platform", "linux/arm64"]);
    let failed = client.try_run(&args);
    failed
        .expect_error(1, "exec format error: this machine (linux/amd64) has no emulator for linux/arm64: register one");
    assert_nothing_stays(&daemon);
}
