//! What users get wrong, answered in Docker's words and status codes.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use e2e::Daemon;

/// One raw request; the answer's status and body.
fn raw(daemon: &Daemon, request: &[u8]) -> (u16, String) {
    let mut stream = UnixStream::connect(daemon.socket_path()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    // The daemon may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned());
    (status, body)
}

fn post(daemon: &Daemon, path: &str, body: &str) -> (u16, String) {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    raw(daemon, request.as_bytes())
}

fn get(daemon: &Daemon, path: &str) -> (u16, String) {
    raw(daemon, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
}

#[track_caller]
fn is((status, body): (u16, String), code: u16, text: &str) {
    assert!(status == code && body.contains(text), "expected {code} with {text:?}, got {status}: {body}");
    assert!(body.contains("\"message\""), "an error is a JSON message: {body}");
}

#[test]
fn names_and_references() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.try_run(&["run", "--pull", "never", "nosuch:1", "true"]).expect_error(125, "No such image: nosuch:1");
        client.try_run(&["run", "UPPER", "true"]).expect_error(125, "invalid reference format");
        client.try_run(&["create", "--name", "../x", "busybox"]).expect_error(1, "Invalid container name (../x)");
        client.run(&["create", "--name", "taken", "busybox"]);
        client
            .try_run(&["create", "--name", "taken", "busybox"])
            .expect_error(1, "Conflict. The container name \"/taken\" is already in use by container");
        client.try_run(&["inspect", "nosuch"]).expect_error(1, "nosuch");
        client.try_run(&["start", "nosuch"]).expect_error(1, "No such container: nosuch");
        client.try_run(&["tag", "busybox", "bad name"]).expect_error(1, "invalid reference format");
        client
            .try_run(&["volume", "create", "a/b"])
            .expect_error(1, "includes invalid characters for a local volume name");
        client.run(&["rm", "taken"]);
    }
}

#[test]
fn commands_that_cannot_run() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client
            .try_run(&["run", "--rm", "busybox", "nosuch"])
            .expect_error(127, "exec: \"nosuch\": executable file not found in $PATH");
        client.try_run(&["run", "--rm", "busybox", "/nosuch"]).expect_error(127, "no such file or directory");
        client.try_run(&["run", "--rm", "busybox", "/etc/passwd"]).expect_error(126, "permission denied");
        client.try_run(&["run", "--rm", "-w", "/etc/passwd", "busybox", "true"]).expect_code(125);
        client
            .try_run(&["run", "--rm", "-u", "nosuch", "busybox", "true"])
            .expect_error(125, "unable to find user nosuch: no matching entries in passwd file");
        client
            .try_run(&["run", "--rm", "--memory", "1m", "busybox", "true"])
            .expect_error(125, "Minimum memory limit allowed is 6MB");
        client.try_run(&["run", "--rm", "--cap-add", "NOSUCH", "busybox", "true"]).expect_error(125, "NOSUCH");
        client.try_run(&["run", "--rm", "--sysctl", "kernel.core_pattern=x", "busybox", "true"]).expect_code(125);
    }
    assert_eq!(daemon.docker().run(&["ps", "-aq"]), "", "failed runs with --rm leave nothing");
}

#[test]
fn requests_that_are_not_requests() {
    let Some(daemon) = Daemon::start() else { return };
    is(get(&daemon, "/v1.10/version"), 400, "client version 1.10 is too old");
    is(get(&daemon, "/v1.99/version"), 400, "client version 1.99 is too new");
    is(get(&daemon, "/v1.50/nosuch"), 404, "page not found");
    is(get(&daemon, "/containers/nosuch/json"), 404, "No such container: nosuch");
    is(post(&daemon, "/containers/create", "{"), 400, "");
    is(post(&daemon, "/containers/create", "{\"Image\": 7}"), 400, "");
    is(post(&daemon, "/containers/create", "{\"Image\": \"busybox\"} trailing"), 400, "");
    is(post(&daemon, "/containers/create", "[]"), 400, "");
    is(post(&daemon, "/containers/create", ""), 400, "");
    is(post(&daemon, "/containers/create", &format!("{{\"Image\":{}", "[".repeat(100_000))), 400, "");
    let plain = "POST /containers/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
    is(raw(&daemon, plain.as_bytes()), 400, "Content-Type");
    let huge = format!("{{\"Image\":\"{}\"}}", "x".repeat(64 << 20));
    let (status, _) = post(&daemon, "/containers/create", &huge);
    assert!(status == 413 || status == 400, "oversize body: {status}");
    let both = "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(matches!(raw(&daemon, both.as_bytes()).0, 0 | 400), "two framings are one too many");
    let (status, _) = raw(&daemon, b"\x16\x03\x01\x02\x00garbage\r\n\r\n");
    assert!(matches!(status, 0 | 400));
    is(post(&daemon, "/containers/x/wait?condition=sometimes", ""), 400, "condition");
    assert_eq!(get(&daemon, "/_ping").0, 200, "the daemon lives");
}

#[test]
fn an_image_of_another_platform_is_named() {
    let Some(daemon) = Daemon::start() else { return };
    let archive = daemon.environment.fixtures.join("busybox.tar");
    for client in daemon.clients() {
        client.run(&["import", "--platform", "linux/arm64", archive.to_str().unwrap(), "foreign:1"]);
        let output =
            client.try_run(&["run", "--rm", "--pull", "never", "--platform", "linux/amd64", "foreign:1", "true"]);
        assert_ne!(output.code, 0);
        assert!(output.stderr.contains("platform"), "{output:?}");
        client.run(&["rmi", "foreign:1"]);
    }
}

#[test]
fn a_full_disk_is_an_error_not_a_wreck() {
    let Some(probe) = Daemon::start() else { return };
    let disk = probe.dir.path().join("disk");
    let mount = probe.dir.path().join("mount");
    fs::create_dir(&mount).unwrap();
    fs::File::create(&disk).unwrap().set_len(48 << 20).unwrap();
    let run = |program: &str, args: &[&str]| {
        let status = std::process::Command::new(program).args(args).status().unwrap();
        assert!(status.success(), "{program} {args:?}");
    };
    run("mkfs.ext4", &["-q", disk.to_str().unwrap()]);
    run("mount", &["-o", "loop", disk.to_str().unwrap(), mount.to_str().unwrap()]);
    struct Unmount(std::path::PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let _unmount = Unmount(mount.clone());
    let flags = vec!["--data-root".to_owned(), mount.join("data").to_str().unwrap().to_owned()];
    let daemon = Daemon::start_with(e2e::Options { flags, ..Default::default() }).unwrap();
    let docker = daemon.docker();
    daemon.busybox();
    let big = daemon.environment.fixtures.join("debian.tar");
    let output = docker.try_run(&["import", big.to_str().unwrap(), "big:1"]);
    assert_ne!(output.code, 0);
    assert!(output.stderr.to_lowercase().contains("no space left on device"), "{output:?}");
    assert_eq!(docker.run(&["images", "--format", "{{.Repository}}"]), "busybox", "nothing half-made stays");
    assert_eq!(docker.run(&["run", "--rm", "busybox", "echo", "alive"]), "alive", "and the space is back");
    // A log on a full disk loses lines, never the container.
    let fill = docker.try_run(&[
        "run",
        "--name",
        "filler",
        "busybox",
        "sh",
        "-c",
        "cat /dev/zero > /fill; seq 1 200000 > /dev/stderr; exit 6",
    ]);
    fill.expect_code(6);
    docker.run(&["rm", "filler"]);
    assert_eq!(docker.run(&["run", "--rm", "busybox", "echo", "alive"]), "alive");
}
