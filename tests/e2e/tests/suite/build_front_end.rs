//! Front ends: Docker's is built in whatever its version, others are images that run in containers.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use e2e::Daemon;

use crate::build::{assert_nothing_stays, build, build_args, context, with_buildx};

#[test]
fn docker_s_own_is_built_in_and_says_so() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    let dir = context("# syntax=docker/dockerfile:1.7-labs\nFROM busybox\nCOPY --parents dir/sub/three /x/\n");
    let told = build(&client, "labs", dir.path());
    assert!(told.contains("[internal] docker/dockerfile:1.7-labs is built in"), "{told}");
    assert_eq!(client.run(&["run", "--rm", "--network", "none", "labs", "cat", "/x/dir/sub/three"]), "three");
}

#[test]
fn others_run_in_containers() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    daemon.debian();
    let client = with_buildx(daemon.docker());
    let image = context("FROM debian:bookworm\nCOPY front-end /bin/front-end\nENTRYPOINT [\"/bin/front-end\"]\n");
    let program = image.path().join("front-end");
    fs::copy(env!("CARGO_BIN_EXE_front-end"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    build(&client, "dhow.test/front:1", image.path());

    let dir = context("# syntax=dhow.test/front:1\nnot a Dockerfile at all {{{\n");
    fs::write(dir.path().join("recipe"), "FROM busybox\nhello \n").unwrap();
    let mut args = build_args("cooked", dir.path().to_str().unwrap());
    args.splice(1..1, ["--build-arg", "SAID=there"]);
    let cooked = client.try_run(&args);
    cooked.expect_code(0);
    assert!(cooked.stderr.contains("made by the front end"), "{}", cooked.stderr);
    assert_eq!(client.run(&["run", "--rm", "--network", "none", "cooked", "cat", "/made"]), "hello there");

    // What it says of a failure is what the client sees; one that just ends is told of too.
    fs::write(dir.path().join("recipe"), "FROM nothing\n").unwrap();
    client.try_run(&args).expect_error(1, "this recipe is made of nothing");
    build(&client, "dhow.test/silent", context("FROM busybox\nCMD [\"false\"]\n").path());
    let dir = context("# syntax=dhow.test/silent\n");
    let silent = client.try_run(&build_args("silent", dir.path().to_str().unwrap()));
    silent.expect_error(1, "it ended without an answer: exit code: 1");
    assert_nothing_stays(&daemon);
}
