//! Builds that take files from elsewhere: addresses, repositories, images and directories by name, standard input; and agents
//! of SSH that clients forward.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use e2e::{Client, Daemon, FileServer};

use crate::build::{assert_nothing_stays, build, build_args, context, with_buildx};

fn cat(client: &Client, image: &str, path: &str) -> String {
    client.run(&["run", "--rm", "--network", "none", image, "cat", path])
}

#[test]
fn files_come_from_addresses() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let served = tempfile::tempdir().unwrap();
    fs::write(served.path().join("file.txt"), "first\n").unwrap();
    let server = FileServer::start(served.path());
    let url = server.url("file.txt?x=1");
    let dir = context(&format!("FROM busybox\nADD {url} /got/\nRUN cat /got/file.txt > /read\n"));
    let client = with_buildx(daemon.docker());
    build(&client, "fetched", dir.path());
    assert_eq!(cat(&client, "fetched", "/read"), "first");
    let stat = client.run(&["run", "--rm", "--network", "none", "fetched", "stat", "-c", "%a %u %Y", "/got/file.txt"]);
    assert_eq!(stat, "600 0 784903526");
    assert_eq!(server.asked(), ["/file.txt?x=1 200"]);
    // What did not change is not sent again, and its followers are known.
    let told = build(&client, "fetched", dir.path());
    assert_eq!(server.asked(), ["/file.txt?x=1 304"]);
    assert_eq!(told.lines().filter(|line| line.ends_with(" CACHED")).count(), 4, "{told}");
    fs::write(served.path().join("file.txt"), "second\n").unwrap();
    build(&client, "fetched", dir.path());
    assert_eq!(cat(&client, "fetched", "/read"), "second");

    let sum = "0".repeat(64);
    for (add, words) in [
        (format!("ADD {} /x", server.url("nowhere")), "the answer's status is 404"),
        (format!("ADD --checksum=sha256:{sum} {url} /x"), "digest mismatch"),
        ("ADD http://user:pass@127.0.0.1:1/x /x".to_owned(), "without a password"),
    ] {
        let dir = context(&format!("FROM busybox\n{add}\n"));
        client.try_run(&build_args("failed", dir.path().to_str().unwrap())).expect_error(1, words);
    }
    client.run(&["builder", "prune", "-af"]);
    assert_nothing_stays(&daemon);
}

/// Git in a directory, as somebody.
fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(args).current_dir(dir).envs([
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_AUTHOR_NAME", "a"),
        ("GIT_AUTHOR_EMAIL", "a@b"),
        ("GIT_COMMITTER_NAME", "a"),
        ("GIT_COMMITTER_EMAIL", "a@b"),
    ]);
    let output = command.output().expect("git runs");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A repository served as files, with a branch, a tag and a submodule.
pub(crate) fn repository(top: &Path, server: &FileServer) -> (std::path::PathBuf, String) {
    let served = |name: &str| {
        let bare = top.join(format!("{name}.git"));
        git(top, &["clone", "--quiet", "--bare", name, bare.to_str().unwrap()]);
        git(&bare, &["update-server-info"]);
    };
    let commit = |dir: &Path, message: &str| {
        git(dir, &["add", "-A"]);
        git(dir, &["commit", "--quiet", "-m", message]);
        git(dir, &["rev-parse", "HEAD"])
    };
    for name in ["module", "app"] {
        fs::create_dir(top.join(name)).unwrap();
        git(top, &["init", "--quiet", "-b", "main", name]);
    }
    let (module, app) = (top.join("module"), top.join("app"));
    fs::write(module.join("inner"), "of the module\n").unwrap();
    commit(&module, "module");
    served("module");
    fs::create_dir_all(app.join("sub/dir")).unwrap();
    fs::write(app.join("Dockerfile"), "FROM busybox\nCOPY . /app/\n").unwrap();
    fs::write(app.join("version"), "1\n").unwrap();
    fs::write(app.join("sub/dir/file"), "deep\n").unwrap();
    fs::write(app.join("sub/Dockerfile"), "FROM busybox\nCOPY . /app/\n").unwrap();
    let first = commit(&app, "first");
    git(&app, &["tag", "-a", "-m", "a tag", "v1"]);
    fs::write(app.join("version"), "2\n").unwrap();
    let url = server.url("module.git");
    let gitmodules = format!("[submodule \"m\"]\n\tpath = m\n\turl = {url}\n");
    fs::write(app.join(".gitmodules"), gitmodules).unwrap();
    let head = git(&module, &["rev-parse", "HEAD"]);
    git(&app, &["update-index", "--add", "--cacheinfo", &format!("160000,{head},m")]);
    git(&app, &["add", ".gitmodules", "version"]);
    git(&app, &["commit", "--quiet", "-m", "second"]);
    served("app");
    (top.join("app.git"), first)
}

#[test]
fn files_and_contexts_come_from_repositories() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let top = tempfile::tempdir().unwrap();
    let server = FileServer::start(top.path());
    let (_, first) = repository(top.path(), &server);
    let url = server.url("app.git");
    let client = with_buildx(daemon.docker());
    let dir = context(&format!(
        "FROM busybox\nADD {url}#v1 /tag/\nADD {url} /head/\nADD {url}#{first}:sub /commit/\nADD --keep-git-dir=true {url}#main /kept/\n"
    ));
    build(&client, "cloned", dir.path());
    for (path, text) in [
        ("/tag/version", "1"),
        ("/head/version", "2"),
        ("/head/m/inner", "of the module"),
        ("/commit/dir/file", "deep"),
        ("/kept/version", "2"),
    ] {
        assert_eq!(cat(&client, "cloned", path), text, "{path}");
    }
    let ls = "run --rm --network none cloned ls -d /kept/.git /head/.git /head/m/.git";
    let ls = client.try_run(&ls.split(' ').collect::<Vec<_>>()).stdout;
    assert_eq!(ls.trim(), "/kept/.git");
    let stat = client.run(&["run", "--rm", "--network", "none", "cloned", "stat", "-c", "%a %u", "/head/version"]);
    assert_eq!(stat, "644 0");
    let told = build(&client, "cloned", dir.path());
    assert_eq!(told.lines().filter(|line| line.ends_with(" CACHED")).count(), 9, "{told}");

    // The repository is the context, or a directory of it.
    for (context, path, text) in
        [(url.clone(), "/app/version", "2"), (format!("{url}#v1:sub"), "/app/dir/file", "deep")]
    {
        client.try_run(&build_args("remote", &context)).expect_code(0);
        assert_eq!(cat(&client, "remote", path), text);
    }
    for (address, words) in [
        (format!("{url}#nowhere"), "does not contain ref nowhere"),
        (format!("{url}#main:nowhere"), "subdir not found"),
        (format!("{url}?checksum={}", "0".repeat(40)), "expected checksum to match"),
        (server.url("nothing.git"), "cannot list"),
    ] {
        let dir = context(&format!("FROM busybox\nADD {address} /x\n"));
        client.try_run(&build_args("failed", dir.path().to_str().unwrap())).expect_error(1, words);
    }
    assert_nothing_of_git(&daemon);
}

/// Pruning removes what was fetched too.
#[track_caller]
fn assert_nothing_of_git(daemon: &Daemon) {
    let client = with_buildx(daemon.docker());
    client.run(&["builder", "prune", "-af"]);
    assert_eq!(fs::read_dir(daemon.data_root().join("build/git")).unwrap().count(), 0);
    assert_nothing_stays(daemon);
}

#[test]
fn contexts_come_from_addresses_and_standard_input() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let served = tempfile::tempdir().unwrap();
    let server = FileServer::start(served.path());
    let dir = context("FROM busybox\nCOPY one.txt /x\n");
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all(".", dir.path()).unwrap();
    let bytes = archive.into_inner().unwrap();
    fs::write(served.path().join("context.tar"), &bytes).unwrap();
    fs::write(served.path().join("Other"), "FROM busybox\nRUN echo from afar > /x\n").unwrap();
    let client = with_buildx(daemon.docker());
    for (name, text) in [("context.tar", "one"), ("Other", "from afar")] {
        client.try_run(&build_args("remote", &server.url(name))).expect_code(0);
        assert_eq!(cat(&client, "remote", "/x"), text);
    }
    client.try_run_with(&build_args("stdin", "-"), &bytes).expect_code(0);
    assert_eq!(cat(&client, "stdin", "/x"), "one");
    client.try_run_with(&build_args("stdin", "-"), b"FROM busybox\nRUN echo alone > /x\n").expect_code(0);
    assert_eq!(cat(&client, "stdin", "/x"), "alone");
}

#[test]
fn contexts_have_names() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    let base = context("FROM busybox\nRUN echo based > /base\nENV BASED=yes\n");
    build(&client, "dhow.test/based", base.path());
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("other.txt"), "other\n").unwrap();
    fs::write(other.path().join("left.out"), "x").unwrap();
    fs::write(other.path().join(".dockerignore"), "*.out\n").unwrap();
    let dir = context(
        "FROM alpine\nCOPY --from=files / /files/\nRUN --mount=from=files,target=/m cat /m/other.txt > /bound; echo $BASED > /env\n",
    );
    let files = format!("files={}", other.path().display());
    let mut args = build_args("named", dir.path().to_str().unwrap());
    args.splice(1..1, ["--build-context", "alpine=docker-image://dhow.test/based", "--build-context", &files]);
    client.try_run(&args).expect_code(0);
    for (path, text) in [("/base", "based"), ("/files/other.txt", "other"), ("/bound", "other"), ("/env", "yes")] {
        assert_eq!(cat(&client, "named", path), text, "{path}");
    }
    client.try_run(&["run", "--rm", "--network", "none", "named", "ls", "/files/left.out"]).expect_code(1);
    // An image in the OCI layout, which only the client has.
    let layout = tempfile::tempdir().unwrap();
    let (archive, unpacked) = (layout.path().join("image.tar"), layout.path().join("unpacked"));
    let output = format!("type=oci,dest={}", archive.display());
    let mut args = vec!["buildx", "build", "--network", "none", "--provenance=false", "-o", &output];
    let path = base.path().to_str().unwrap().to_owned();
    args.push(&path);
    client.try_run(&args).expect_code(0);
    fs::create_dir(&unpacked).unwrap();
    tar::Archive::new(fs::File::open(&archive).unwrap()).unpack(&unpacked).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&fs::read(unpacked.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let from = context("FROM laid\nRUN echo $BASED > /env\n");
    let laid = format!("laid=oci-layout://{}@{digest}", unpacked.display());
    let mut args = build_args("laid", from.path().to_str().unwrap());
    args.splice(1..1, ["--build-context", &laid]);
    client.try_run(&args).expect_code(0);
    for (path, text) in [("/base", "based"), ("/env", "yes")] {
        assert_eq!(cat(&client, "laid", path), text, "{path}");
    }
    // A target of another build, as bake has it.
    fs::write(
        dir.path().join("docker-bake.json"),
        r#"{"target": {"one": {"dockerfile-inline": "FROM busybox\nRUN echo made > /made\nENV M=1\n", "network": "none"},
            "two": {"dockerfile-inline": "FROM one\nRUN echo $M >> /made\n", "contexts": {"one": "target:one"},
                    "network": "none", "tags": ["baked"]}}}"#,
    )
    .unwrap();
    let mut command = client.command(&["buildx", "bake", "two"]);
    command.current_dir(dir.path());
    e2e::clients::finish(command, &["buildx", "bake", "two"], None).expect_code(0);
    assert_eq!(cat(&client, "baked", "/made"), "made\n1");
}

#[test]
fn an_agent_of_ssh_is_reached_and_leaves_nothing() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.debian();
    let client = with_buildx(daemon.docker());
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("agent");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 5];
            if stream.read_exact(&mut request).is_ok() {
                // The list of identities, which is empty.
                stream.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 0]).unwrap();
            }
        }
    });
    let script = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ENV{SSH_AUTH_SOCK}) or die; \
                  print $s pack(\"NC\", 1, 11); $s->flush; read($s, my $a, 9); print unpack(\"H*\", $a), \"\\n\"";
    let dir = context(&format!(
        "FROM debian:bookworm\nRUN --mount=type=ssh perl -e '{script}' > /answer && stat -c '%a %u' $SSH_AUTH_SOCK >> /answer\n\
         RUN test -z \"$SSH_AUTH_SOCK\" && test ! -S /run/buildkit/ssh_agent.0\n"
    ));
    let ssh = format!("default={}", socket.display());
    let mut args = build_args("agent", dir.path().to_str().unwrap());
    args.splice(1..1, ["--ssh", &ssh]);
    client.try_run(&args).expect_code(0);
    assert_eq!(cat(&client, "agent", "/answer"), "000000050c00000000\n600 0");
    let needed = context("FROM debian:bookworm\nRUN --mount=type=ssh,required=true true\n");
    let missing = client.try_run(&build_args("agent", needed.path().to_str().unwrap()));
    missing.expect_error(1, "no SSH key \"default\" forwarded from the client");
    assert_nothing_stays(&daemon);
}
