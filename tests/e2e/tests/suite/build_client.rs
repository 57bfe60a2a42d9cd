//! Building with our own client: how files get to the builder, what it shows, what it writes.

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;

use e2e::clients::finish;
use e2e::{Client, Daemon};
use serde_json::Value;

/// Makes the client send its directories instead of sharing them.
const SEND: &str = "DHOW_BUILD_SEND";

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A context with what makes a difference on the way: links of both kinds, modes, patterns with exceptions.
fn context(dockerfile: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    write(dir.path(), "Dockerfile", dockerfile);
    write(dir.path(), ".dockerignore", "**/*.log\n!keep/me.log\nsecret\n");
    write(dir.path(), "src/a.txt", "a\n");
    write(dir.path(), "src/a-b/x", "x\n");
    write(dir.path(), "src/deep/er/b.txt", "b\n");
    write(dir.path(), "src/gone.log", "gone\n");
    write(dir.path(), "keep/me.log", "kept\n");
    write(dir.path(), "keep/not.log", "gone\n");
    write(dir.path(), "secret/key", "key\n");
    fs::hard_link(at("src/a.txt"), at("src/twin")).unwrap();
    symlink("../keep/me.log", at("src/inside")).unwrap();
    symlink("/etc/hostname", at("src/outside")).unwrap();
    symlink("nowhere", at("src/dangling")).unwrap();
    fs::set_permissions(at("src/a-b/x"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(at("src/deep"), fs::Permissions::from_mode(0o1770)).unwrap();
    dir
}

const ALL: &str = "FROM busybox\nCOPY . /all\nCOPY src/inside /followed\nCOPY keep /keep/\n";
const LIST: &str = "find /all /followed /keep -mindepth 1 -exec stat -c '%n %A %u %g %h %Y %N' {} + | sort; \
                    find /all /followed /keep -type f -exec sha256sum {} + | sort";

#[track_caller]
fn build(client: &Client, args: &[&str], send: bool) -> e2e::clients::Output {
    let mut command = client.command(args);
    if send {
        command.env(SEND, "1");
    }
    let output = finish(command, args, None);
    output.expect_code(0);
    output
}

#[test]
fn shared_and_sent_files_make_the_same_image() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = daemon.dhow();
    let dir = context(ALL);
    let path = dir.path().to_str().unwrap();
    let listed = |tag: &str| client.run(&["run", "--rm", "--network", "none", tag, "sh", "-c", LIST]);
    let both = |change: &str| {
        let ways = [("shared", false, "shared with the daemon"), ("sent", true, "sent to the daemon")];
        let ids = ways.map(|(tag, send, said)| {
            let told = build(&client, &["build", "-D", "-q", "-t", tag, path], send);
            assert!(told.stderr.contains(said), "{}", told.stderr);
            told.stdout
        });
        assert_eq!(ids[0], ids[1], "{change}");
        // The same again, each without what the other way left.
        let trees = ways.map(|(tag, send, _)| {
            build(&client, &["build", "-q", "--no-cache", "-t", tag, path], send);
            listed(tag)
        });
        assert_eq!(trees[0], trees[1], "{change}");
        let [tree, _] = trees;
        tree
    };
    let first = both("at first");
    for line in ["/all/keep/me.log", "/all/src/outside' -> '/etc/hostname'", "-rws--x--x", "drwxrwx--T"] {
        assert!(first.contains(line), "{line}:\n{first}");
    }
    assert!(!first.contains("gone.log") && !first.contains("/secret") && !first.contains("not.log"), "{first}");

    // The same size and the same time.
    let file = dir.path().join("src/deep/er/b.txt");
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, "B\n").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    fs::remove_file(dir.path().join("src/dangling")).unwrap();
    fs::create_dir(dir.path().join("src/dangling")).unwrap();
    let second = both("after changes");
    assert_ne!(first, second);
    assert!(second.contains("drwxr-xr-x 0 0") && second.contains("/all/src/dangling"), "{second}");
}

#[test]
fn a_client_gets_what_it_can_read_and_no_more() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = daemon.dhow();
    let dir = context("FROM busybox\nCOPY src /x\n");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.path().join("src/deep"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.path().join("src/a-b/x"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(daemon.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(daemon.socket_path(), fs::Permissions::from_mode(0o666)).unwrap();
    // The program may be in a place that only root can reach.
    let program = daemon.dir.path().join("client");
    fs::copy(&client.program, &program).unwrap();
    let client = Client { program, config: dir.path().join("none"), ..client };
    let nobody = |args: &[&str]| {
        let mut command = client.command(args);
        command.uid(65534).gid(65534);
        finish(command, args, None)
    };
    let path = dir.path().to_str().unwrap();
    let told = nobody(&["build", "-D", "-q", path]);
    told.expect_error(0, "sent to the daemon");
    fs::set_permissions(dir.path().join("src/a.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    nobody(&["build", "-q", path]).expect_error(1, "ermission denied");
    client.run(&["build", "-q", path]);
}

#[test]
fn descriptors_of_anything_else_end_the_session() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let Some(daemon) = Daemon::start() else { return };
    let open = |path: &str, flags| rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap();
    let file = open("/etc/hostname", rustix::fs::OFlags::RDONLY);
    let path_only = open("/", rustix::fs::OFlags::PATH);
    let directory = open("/etc", rustix::fs::OFlags::RDONLY);
    for (fds, goes_on) in [
        (vec![&file], false),
        (vec![&path_only], false),
        (vec![], false),
        (vec![&directory, &directory], false),
        (vec![&directory], true),
    ] {
        let mut socket = UnixStream::connect(daemon.socket_path()).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        let head = "POST /session HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\
                    X-Docker-Expose-Session-Uuid: raw\r\nX-Dhow-Directory: context\r\n\r\n";
        socket.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\nD") {
            socket.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<_> = fds.into_iter().map(AsFd::as_fd).collect();
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        sendmsg(&socket, &[IoSlice::new(b"D")], &mut control, SendFlags::NOSIGNAL).unwrap();
        // Where the session goes on, the daemon begins to speak HTTP/2.
        let read = socket.read(&mut [0; 16]).unwrap_or(0);
        assert_eq!(read > 0, goes_on, "{} descriptors", fds.len());
    }
}

#[test]
fn what_is_shown_of_a_build() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = daemon.dhow();
    let dir = context("FROM busybox\nRUN echo said && echo more\nCOPY src /x\n");
    let path = dir.path().to_str().unwrap();
    let base = ["build", "--network", "none", "-t", "shown"];
    let with = |more: &[&str]| client.try_run(&[&base[..], more, &[path]].concat());
    let told = with(&["--progress", "plain"]);
    told.expect_code(0);
    for line in
        ["[2/3] RUN echo said && echo more\n", " said\n", " more\n", " DONE ", "#1 [internal] load build definition"]
    {
        assert!(told.stderr.contains(line), "{line}: {}", told.stderr);
    }
    assert_eq!(told.stdout, "");
    let again = with(&["--progress", "plain"]);
    assert_eq!(again.stderr.lines().filter(|line| line.ends_with(" CACHED")).count(), 3, "{}", again.stderr);

    let id = client.run(&["image", "inspect", "-f", "{{.Id}}", "shown"]);
    let (file, metadata) = (dir.path().join("src/id.log"), dir.path().join("src/metadata.log"));
    let quiet = with(&["-q", "--iidfile", file.to_str().unwrap(), "--metadata-file", metadata.to_str().unwrap()]);
    quiet.expect_code(0);
    assert_eq!((quiet.stdout.trim(), quiet.stderr.as_str()), (id.as_str(), ""));
    assert_eq!(fs::read_to_string(file).unwrap(), id);
    let metadata: Value = serde_json::from_str(&fs::read_to_string(metadata).unwrap()).unwrap();
    assert_eq!(metadata["image.name"], "docker.io/library/shown:latest");
    assert!(metadata["containerimage.descriptor"]["digest"].is_string(), "{metadata}");

    let raw = with(&["--progress", "rawjson"]);
    raw.expect_code(0);
    let messages: Vec<Value> = raw.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let vertexes = messages.iter().flat_map(|message| message["vertexes"].as_array().cloned().unwrap_or_default());
    assert!(vertexes.clone().any(|vertex| vertex["cached"] == true && vertex["name"] == "[3/3] COPY src /x"));

    for (args, words) in [
        (vec!["--output", "type=foo", path], "type \"foo\" is not known"),
        (vec!["--secret", "src=x", path], "id is required"),
        (vec!["--cache-to", "type=local,dest=x", path], "type=local"),
        (vec!["--builder", "other", path], "--builder is not supported"),
        (vec!["--nonsense", path], "unknown flag: --nonsense"),
        (vec!["/nonexistent"], "path \"/nonexistent\" not found"),
        (vec!["--ssh", "default=/etc/hostname", path], "no socket"),
    ] {
        let refused = client.try_run(&[&["build"], &args[..]].concat());
        assert!(refused.code != 0 && refused.stderr.contains(words), "{args:?}: {}", refused.stderr);
    }
}

#[test]
fn a_failure_is_shown_with_its_lines() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = daemon.dhow();
    let text = b"FROM busybox\nRUN echo before\nRUN echo last words; \\\n    exit 7\n";
    for quiet in [false, true] {
        let args = ["build", "--network=none", "--progress=plain", "-"];
        let args = if quiet { ["build", "--network=none", "-q", "-"] } else { args };
        let failed = client.try_run_with(&args, text);
        failed.expect_error(1, "exit code: 7");
        for line in [
            " > [3/3] RUN echo last words;     exit 7:\n",
            " last words\n",
            "\n------\nDockerfile:3\n",
            "   3 | >>> RUN echo last words; \\\n   4 | >>>     exit 7\n",
            "   2 |     RUN echo before\n",
            "ERROR: failed to build: failed to solve: ",
        ] {
            assert!(failed.stderr.contains(line), "{line}: {}", failed.stderr);
        }
    }
}

#[test]
fn secrets_come_from_files_and_variables() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = daemon.dhow();
    let dir = context(
        "FROM busybox\nRUN --mount=type=secret,id=one --mount=type=secret,id=two,env=TWO \
         cat /run/secrets/one > /out && echo $TWO >> /out && echo $ARG >> /out\n",
    );
    write(dir.path(), "secret/key", "from a file\n");
    let key = format!("id=one,src={}/secret/key", dir.path().display());
    let path = dir.path().to_str().unwrap();
    let args =
        ["build", "-q", "--network=none", "--secret", &key, "--secret", "id=two,env=DHOW_TEST_TWO", "-t", "s", path];
    let mut command = client.command(&args);
    command.env("DHOW_TEST_TWO", "from a variable");
    finish(command, &args, None).expect_code(0);
    let found = client.run(&["run", "--rm", "--network", "none", "s", "cat", "/out"]);
    assert_eq!(found, "from a file\nfrom a variable");
}

#[test]
fn a_build_says_why() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = daemon.dhow();
    let dir = context("FROM busybox\nARG V=1\nRUN test here\nCOPY src /x\nRUN true\n");
    let path = dir.path().to_str().unwrap();
    let why = |more: &[&str]| {
        let told = client.try_run(&[&["build", "-q", "--network=none", "--explain"], more, &[path]].concat());
        told.expect_code(0);
        let lines = told.stderr.lines().filter_map(|line| line.strip_prefix("    "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let known = "known: nothing that it is made of has changed";
    assert_eq!(why(&[]), ["done: not seen before"; 3]);
    assert_eq!(why(&[]), [known; 3]);
    write(dir.path(), "src/a.txt", "A\n");
    write(dir.path(), "src/new", "new\n");
    let changed = why(&[]);
    assert_eq!(changed[0], known);
    assert_eq!(changed[1], "done: src/a.txt changed, and 1 more");
    assert_eq!(changed[2], "done: it is made from what changed: [3/4] COPY src /x");
    assert_eq!(why(&["--build-arg", "V=2"])[0], "done: the variable V changed");
    assert!(why(&["--no-cache"]).iter().all(|line| line.contains("--no-cache")));
    fs::write(dir.path().join("Dockerfile"), "FROM busybox\nARG V=1\nRUN test here\nCOPY src /x\nRUN echo\n").unwrap();
    assert_eq!(why(&[])[2], "done: the instruction changed; it was: RUN true");
    let told = client.try_run(&["build", "--network=none", "--progress=plain", path]);
    assert!(!told.stderr.contains("Why steps"), "{}", told.stderr);
}

#[test]
fn it_builds_with_a_docker_daemon_too() {
    let Some(daemon) = Daemon::start() else { return };
    let theirs = Client { host: daemon.twin().host, ..daemon.dhow() };
    let dir = context(
        "FROM busybox AS base\nCOPY src /x\nRUN --network=none sha256sum /x/a.txt > /sum\nFROM scratch\nCOPY --from=base /sum /x /\n",
    );
    let tag = format!("dhow-test-client-{}", daemon.pid());
    let (path, out) = (dir.path().to_str().unwrap(), tempfile::tempdir().unwrap());
    let id = theirs.run(&["build", "-q", "-t", &tag, path]);
    assert_eq!(theirs.run(&["image", "inspect", "-f", "{{.Id}}", &tag]), id);
    theirs.try_run(&["rmi", &tag]);
    // Results that come back, into a directory and as an archive.
    let tree = out.path().join("tree");
    theirs.run(&["build", "-q", "-o", tree.to_str().unwrap(), path]);
    assert!(fs::read_to_string(tree.join("sum")).unwrap().ends_with("  /x/a.txt\n"));
    assert_eq!(fs::read_link(tree.join("outside")).unwrap(), Path::new("/etc/hostname"));
    assert_eq!(fs::metadata(tree.join("a-b/x")).unwrap().permissions().mode() & 0o7777, 0o4711);
    let archive = out.path().join("out.tar");
    theirs.run(&["build", "-q", "-o", &format!("type=tar,dest={}", archive.display()), path]);
    let mut names = Vec::new();
    for entry in tar::Archive::new(fs::File::open(archive).unwrap()).entries().unwrap() {
        names.push(entry.unwrap().path().unwrap().display().to_string());
    }
    assert!(names.contains(&"sum".to_owned()), "{names:?}");
    // A context from standard input, and questions about a Dockerfile.
    let mut context = tar::Builder::new(Vec::new());
    context.follow_symlinks(false);
    context.append_dir_all(".", dir.path()).unwrap();
    theirs.try_run_with(&["build", "-q", "-"], &context.into_inner().unwrap()).expect_code(0);
    assert!(theirs.run(&["build", "--call=targets", path]).contains("base"));
    theirs.run(&["build", "--check", path]);
}
