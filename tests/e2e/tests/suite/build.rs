//! Building: the unmodified docker client with its buildx plugin against our daemon, compared with what Docker's own makes
//! of the same Dockerfile.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use e2e::{Client, Daemon, Environment};
use serde_json::Value;

use crate::eventually;

/// Most of the language in one file. The base image has no `adduser`.
const EVERYTHING: &str = r#"ARG BASE=busybox
FROM ${BASE} AS base
ARG VERSION=1
ENV APP=/app VERSION=${VERSION}
LABEL a=b "c d"="e f"
WORKDIR $APP
RUN echo "bob:x:1234:1234::/:/bin/sh" >> /etc/passwd && echo "bob:x:1234:" >> /etc/group && echo $VERSION > version
COPY one.txt dir/ ./
COPY --chown=bob:bob dir /data/
COPY --chmod=640 one.txt /data/mode.txt
ADD arch.tar /unpacked/
COPY *.cfg /patterns/
COPY <<EOF /etc/made.conf
key = ${VERSION}
EOF

FROM base AS build
RUN --mount=type=cache,target=/cache echo cached > /cache/x && cp /cache/x /out.txt
RUN --mount=type=bind,source=dir,target=/mnt cat /mnt/two.txt > /bound.txt
RUN --mount=type=tmpfs,target=/scratch echo x > /scratch/y
RUN --mount=type=bind,from=base,source=/app,target=/other cat /other/version > /from-stage.txt
RUN <<EOF
echo heredoc > /heredoc.txt
ls /scratch 2>/dev/null | wc -l >> /heredoc.txt
EOF

FROM busybox AS unneeded
RUN exit 1

FROM base
COPY --from=build /out.txt /bound.txt /heredoc.txt /from-stage.txt /results/
COPY --link one.txt /linked/
USER bob
EXPOSE 80 443/udp
VOLUME /vol
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-ec"]
RUN id -u > /tmp/who
ONBUILD RUN echo hi
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo hi"]
"#;

/// The client with the plugin that came with Docker's own daemon.
pub fn with_buildx(client: Client) -> Client {
    let peers = Environment::get().and_then(|environment| environment.peers.as_ref()).expect("peers are there");
    let plugins = client.config.join("cli-plugins");
    fs::create_dir_all(&plugins).unwrap();
    // There already when the test has another client.
    let _ = symlink(peers.buildx(), plugins.join("docker-buildx"));
    client
}

/// Files of a build context.
fn context(dockerfile: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| fs::write(dir.path().join(path), text).unwrap();
    fs::create_dir_all(dir.path().join("dir/sub")).unwrap();
    write("Dockerfile", dockerfile);
    write(".dockerignore", "*.log\n!keep.log\n");
    write("skip.log", "ignored");
    write("one.txt", "one\n");
    write("a.cfg", "a\n");
    write("b.cfg", "b\n");
    write("dir/two.txt", "two\n");
    write("dir/sub/three", "three\n");
    symlink("two.txt", dir.path().join("dir/link")).unwrap();
    let mut archive = tar::Builder::new(fs::File::create(dir.path().join("arch.tar")).unwrap());
    archive.append_dir_all("packed", dir.path().join("dir")).unwrap();
    archive.into_inner().unwrap();
    dir
}

fn build_args<'a>(tag: &'a str, dir: &'a str) -> Vec<&'a str> {
    vec!["build", "--network", "none", "--progress", "plain", "-t", tag, dir]
}

/// Build; what was told of it.
#[track_caller]
fn build(client: &Client, tag: &str, dir: &Path) -> String {
    let output = client.try_run(&build_args(tag, dir.to_str().unwrap()));
    output.expect_code(0);
    output.stderr.clone()
}

/// Configuration, history and files, without times and what only this way of keeping layers shows.
#[track_caller]
fn facts(client: &Client, tag: &str) -> (Value, Vec<String>, Vec<String>) {
    let config = client.json(&["image", "inspect", tag])[0]["Config"].clone();
    let history = client.run(&["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", tag]);
    let script = "find / -xdev ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' ! -path '/etc/resolv.conf' \
                  ! -path /etc/hosts -type d -exec stat -c '%n %A %u %g' {} + ; \
                  find / -xdev ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' ! -path '/etc/resolv.conf' \
                  ! -path /etc/hosts ! -type d -exec stat -c '%n %A %u %g %s %N' {} + ; \
                  cat /results/* /tmp/who /etc/made.conf /app/version /patterns/*";
    let args = ["run", "--rm", "--network", "none", "-u", "0", "--entrypoint", "/bin/sh", tag, "-c", script];
    let mut files: Vec<String> = client.run(&args).lines().map(str::to_owned).collect();
    files.sort();
    (config, history.lines().map(str::to_owned).collect(), files)
}

#[test]
fn a_dockerfile_becomes_the_image_that_docker_makes_of_it() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let dir = context(EVERYTHING);
    let ours = with_buildx(daemon.docker());
    let theirs = with_buildx(daemon.twin());
    let tag = format!("dhow-test-build-{}", daemon.pid());
    build(&ours, &tag, dir.path());
    build(&theirs, &tag, dir.path());
    let (found, wanted) = (facts(&ours, &tag), facts(&theirs, &tag));
    theirs.try_run(&["rmi", &tag]);
    assert_eq!(found.0, wanted.0);
    assert_eq!(found.1, wanted.1);
    assert_eq!(found.2, wanted.2);
}

#[test]
fn what_is_known_is_not_done_again() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.busybox();
    let dir = context("FROM busybox\nRUN echo first > /first\nCOPY one.txt /\nRUN echo last >> /one.txt\n");
    let client = with_buildx(daemon.docker());
    let id = |client: &Client| client.run(&["image", "inspect", "-f", "{{.Id}}", "known"]);
    let cached = |told: &str| told.lines().filter(|line| line.ends_with(" CACHED")).count();
    build(&client, "known", dir.path());
    let first = id(&client);
    let told = build(&client, "known", dir.path());
    // The base and the three steps.
    assert_eq!(cached(&told), 4, "{told}");
    assert_eq!(id(&client), first);

    // Results outlive the daemon, and an image of the same name.
    client.run(&["rmi", "known"]);
    daemon.kill();
    daemon.launch();
    let client = with_buildx(daemon.docker());
    let told = build(&client, "known", dir.path());
    assert_eq!(cached(&told), 4, "{told}");
    assert_eq!(id(&client), first);

    // Another content is another step, and so is what follows.
    fs::write(dir.path().join("one.txt"), "changed\n").unwrap();
    let told = build(&client, "known", dir.path());
    assert_eq!(cached(&told), 2, "{told}");
    assert_eq!(client.run(&["run", "--rm", "--network", "none", "known", "cat", "/one.txt"]), "changed\nlast");
    // The time of a file alone is not.
    fs::write(dir.path().join("one.txt"), "changed\n").unwrap();
    assert_eq!(cached(&build(&client, "known", dir.path())), 4);
}

#[test]
fn a_failure_names_the_line_and_leaves_nothing() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    for (dockerfile, words) in [
        ("FROM busybox\nRUN echo said; exit 3\n", "did not complete successfully: exit code: 3"),
        ("FROM busybox\nRUNN x\n", "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)"),
        ("FROM busybox\nCOPY nowhere /x\n", "\"/nowhere\": not found"),
        ("FROM busybox\nRUN --network=host true\n", "network.host is not allowed"),
        ("FROM busybox\nRUN --security=insecure true\n", "security.insecure is not allowed"),
        ("FROM busybox\nADD https://localhost/x /\n", "are not supported yet"),
        ("FROM busybox\nCOPY ../../../../../../etc/shadow /x\n", "not found"),
    ] {
        let dir = context(dockerfile);
        let failed = client.try_run(&build_args("failed", dir.path().to_str().unwrap()));
        failed.expect_error(1, words);
        if words.starts_with("did not") {
            assert!(failed.stderr.contains(">>> RUN echo said; exit 3"), "{}", failed.stderr);
            assert!(failed.stderr.contains("said"), "{}", failed.stderr);
        }
    }
    client.try_run(&["image", "inspect", "failed"]).expect_code(1);
    assert_nothing_stays(&daemon);
}

/// No process, no directory of a step, no work of a build.
#[track_caller]
fn assert_nothing_stays(daemon: &Daemon) {
    let work = daemon.data_root().join("build/work");
    let count = |path: PathBuf| fs::read_dir(path).map_or(0, Iterator::count);
    assert_eq!(count(daemon.data_root().join("containers")), 0);
    assert_eq!(count(daemon.exec_root().join("build")), 0);
    // What clients sent stays for their next build, in one directory.
    eventually(30, "the removal of builds' directories", || count(work.clone()) <= 1);
}

#[test]
fn secrets_stay_out_of_what_is_kept() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let token = format!("dhow-planted-{}", daemon.pid());
    let dir = context(
        "FROM busybox\nRUN --mount=type=secret,id=token wc -c < /run/secrets/token > /size\n\
         RUN --mount=type=secret,id=token,env=TOKEN test -n \"$TOKEN\"\n\
         RUN test ! -e /run/secrets/token && test -z \"$TOKEN\"\n",
    );
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), &token).unwrap();
    let client = with_buildx(daemon.docker());
    let source = format!("id=token,src={}", secret.path().display());
    let mut args = build_args("secret", dir.path().to_str().unwrap());
    args.splice(1..1, ["--secret", source.as_str()]);
    client.try_run(&args).expect_code(0);
    let size = client.run(&["run", "--rm", "--network", "none", "secret", "cat", "/size"]);
    assert_eq!(size, token.len().to_string());
    let found = std::process::Command::new("grep").args(["-rlF", &token]).arg(daemon.data_root()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    assert!(!daemon.log().contains(&token));
    // One that is needed and missing is named.
    let dir = context("FROM busybox\nRUN --mount=type=secret,id=absent,required=true true\n");
    let missing = client.try_run(&build_args("secret", dir.path().to_str().unwrap()));
    missing.expect_error(1, "secret absent: not found");
    assert_nothing_stays(&daemon);
}

#[test]
fn a_client_that_leaves_ends_its_build() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let dir = context("FROM busybox\nRUN touch /begun && sleep 1000\n");
    let client = with_buildx(daemon.docker());
    let mut command = client.command(&build_args("left", dir.path().to_str().unwrap()));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let containers = daemon.data_root().join("containers");
    eventually(30, "the beginning of the step", || fs::read_dir(&containers).unwrap().count() == 1);
    // The plugin is a child of the client's, and ends with it.
    child.kill().unwrap();
    child.wait().unwrap();
    eventually(30, "the end of the step", || fs::read_dir(&containers).unwrap().count() == 0);
    assert_nothing_stays(&daemon);
}

#[test]
fn a_daemon_that_stops_ends_its_builds() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.busybox();
    let dir = context("FROM busybox\nRUN sleep 1000\n");
    let client = with_buildx(daemon.docker());
    let mut command = client.command(&build_args("stopped", dir.path().to_str().unwrap()));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (containers, runs) = (daemon.data_root().join("containers"), daemon.exec_root().join("c"));
    eventually(30, "the beginning of the step", || fs::read_dir(&containers).unwrap().count() == 1);
    daemon.stop();
    assert!(!child.wait().unwrap().success());
    for left in [containers, runs] {
        assert_eq!(fs::read_dir(&left).unwrap().count(), 0, "{}", left.display());
    }
}

#[test]
fn pruning_the_cache_gives_the_disk_back() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let dir = context("FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=8\n");
    let client = with_buildx(daemon.docker());
    build(&client, "big", dir.path());
    let du = client.run(&["buildx", "du"]);
    assert!(du.contains("Total:"), "{du}");
    client.run(&["rmi", "big"]);
    let pruned = client.run(&["builder", "prune", "-af"]);
    assert!(pruned.contains("Total"), "{pruned}");
    client.run(&["rmi", "busybox"]);
    let blobs = daemon.data_root().join("content/blobs/sha256");
    assert_eq!(fs::read_dir(blobs).unwrap().count(), 0);
}
