//! What hostile definitions, repositories and contexts, and ends at the wrong moment, do to builds: nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use e2e::{Daemon, FileServer};

use crate::build::{assert_nothing_stays, build_args, context, with_buildx};
use crate::build_sources::repository;
use crate::eventually;

/// How many processes have a word in their arguments.
fn processes(word: &str) -> usize {
    let has = |file: std::path::PathBuf| {
        let bytes = fs::read(file).unwrap_or_default();
        bytes.windows(word.len()).any(|window| window == word.as_bytes())
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|entry| has(entry.path().join("cmdline")))
        .count()
}

#[test]
fn a_cache_is_locked_once_for_a_step() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    let dir = context(
        "FROM busybox\nRUN --mount=type=cache,id=a,target=/x,sharing=locked --mount=type=cache,id=a,target=/y,sharing=locked \
         touch /x/f && cat /y/f\n",
    );
    crate::build::build(&client, "locked", dir.path());
    assert_nothing_stays(&daemon);
}

#[test]
fn helpers_of_git_end_with_a_build_that_is_given_up() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    // A server that takes requests and never answers.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    let dir = context(&format!("FROM busybox\nADD http://user:geheim@{address}/a.git /x\n"));
    let args = build_args("stalled", dir.path().to_str().unwrap());
    let mut building = client.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (mut connection, _) = server.accept().unwrap();
    let mut request = [0; 1024];
    let count = connection.read(&mut request).unwrap();
    let request = String::from_utf8_lossy(&request[..count]).into_owned();
    // The password goes to the server, and nobody else sees it.
    assert!(request.contains("Authorization: basic dXNlcjpnZWhlaW0=\r\n"), "{request}");
    assert!(processes(&address) > 0);
    assert_eq!(processes("geheim"), 0);
    building.kill().unwrap();
    building.wait().unwrap();
    eventually(20, "the end of git", || processes(&address) == 0);
    drop(connection);
    assert_nothing_stays(&daemon);
}

#[test]
fn passwords_of_repositories_are_told_to_nobody() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    let top = tempfile::tempdir().unwrap();
    let server = FileServer::start(top.path());
    repository(top.path(), &server);
    let url = server.url("app.git").replace("http://", "http://user:hunter2@");
    let url = format!("{url}?keep-git-dir=true");
    let out = tempfile::tempdir().unwrap();
    let dest = format!("type=local,dest={}", out.path().display());
    let args = ["build", "--progress", "plain", "--provenance", "mode=max", "--network", "none", "-o", &dest, &url];
    let built = client.try_run(&args);
    built.expect_code(0);
    assert!(!built.stderr.contains("hunter2"), "{}", built.stderr);
    assert!(out.path().join("app/.git/config").exists());
    assert!(fs::read_to_string(out.path().join("provenance.json")).unwrap().contains("app.git"));
    assert_eq!(files_with(out.path(), "hunter2"), Vec::<String>::new());
    assert_eq!(files_with(&daemon.data_root(), "hunter2"), Vec::<String>::new());
    assert!(!daemon.log().contains("hunter2"));
}

/// Files below a directory that have a word in them.
fn files_with(top: &Path, word: &str) -> Vec<String> {
    let found = std::process::Command::new("grep").args(["-r", "-l", "-a", "-F", word]).arg(top).output().unwrap();
    String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn secrets_of_an_engine_that_died_are_gone_at_the_next_start() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    let dir = context("FROM busybox\nRUN --mount=type=secret,id=key sleep 1000\n");
    fs::write(dir.path().join("key"), "hunter2").unwrap();
    let secret = format!("id=key,src={}", dir.path().join("key").display());
    let mut args = build_args("secret", dir.path().to_str().unwrap());
    args.splice(1..1, ["--secret", &secret]);
    let mut building = client.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let place = daemon.exec_root().join("build");
    eventually(20, "a secret", || !files_with(&place, "hunter2").is_empty());
    daemon.kill();
    building.wait().unwrap();
    daemon.launch();
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    eventually(20, "the end of the step", || fs::read_dir(daemon.exec_root().join("c")).unwrap().count() == 0);
    assert_nothing_stays(&daemon);
}

#[test]
fn every_user_of_a_step_reads_the_context() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let dir = context(
        "FROM busybox\nUSER 1000\nRUN --mount=type=bind,target=/src cat /src/one.txt\n\
         RUN --mount=type=bind,target=/src,rw test $(stat -c %a /src) = 755\n",
    );
    crate::build::build(&with_buildx(daemon.docker()), "user", dir.path());
    crate::build::build(&daemon.dhow(), "user", dir.path());
}

#[test]
fn what_came_of_a_context_goes_with_a_client_that_leaves() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    let dir = context("FROM busybox\nCOPY . /x\n");
    // More than comes over before the client is gone.
    fs::File::create(dir.path().join("huge")).unwrap().set_len(1 << 36).unwrap();
    let args = build_args("left", dir.path().to_str().unwrap());
    let mut building = client.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let work = daemon.data_root().join("build/work");
    let found = || {
        let found = std::process::Command::new("find").arg(&work).args(["-name", "huge"]).output().unwrap();
        !found.stdout.is_empty()
    };
    eventually(20, "a part of the context", found);
    building.kill().unwrap();
    building.wait().unwrap();
    eventually(20, "the removal of what came", || !found());
}

#[test]
fn clients_that_stop_in_the_middle_hold_nobody_up() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let head = "POST /v1.45/build?t=x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nDock\r\n";
    let stopped: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = UnixStream::connect(daemon.socket_path()).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let client = daemon.docker();
    let args = ["run", "--rm", "--network", "none", "busybox", "true"];
    let mut running = client.command(&args).spawn().unwrap();
    eventually(30, "a container", || running.try_wait().unwrap().is_some_and(|status| status.success()));
    drop(stopped);
}
