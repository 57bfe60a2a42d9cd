//! Volumes and mounts: the local driver's options and their life, contents out and in, owners, and what
//! people get wrong, compared with a real dockerd where it has the same.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use e2e::{Client, Daemon};
use serde_json::{Value, json};

use crate::eventually;

/// One request of a daemon's API: the status and the document, or the text.
fn api(client: &Client, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let socket = client.host.strip_prefix("unix://").expect("a socket");
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} /v1.51{path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).unwrap_or_else(|_| json!(body)))
}

fn message(answer: &(u16, Value)) -> String {
    answer.1["message"].as_str().unwrap_or_default().to_owned()
}

/// A name that cannot meet another test's on the shared dockerd.
fn unique(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("dhow-e2e-{what}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// What is mounted at a path or below, from outside.
fn mounted_below(path: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let targets = table.lines().filter_map(|line| line.split(' ').nth(4));
    targets.filter(|target| Path::new(target).starts_with(path)).map(str::to_owned).collect()
}

fn data(daemon: &Daemon, volume: &str) -> PathBuf {
    daemon.data_root().join("volumes").join(volume).join("_data")
}

/// A directory on the host that goes with the test.
fn scratch(daemon: &Daemon, name: &str) -> PathBuf {
    let path = daemon.dir.path().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn options_of_the_driver_are_judged_as_dockerd_does() {
    let Some(daemon) = Daemon::start() else { return };
    let (twin, ours) = (daemon.twin(), daemon.docker());
    let name = unique("opts");
    let bodies = [
        json!({"DriverOpts": {"foo": "x"}}),
        json!({"DriverOpts": {"Type": "tmpfs", "device": "tmpfs"}}),
        json!({"DriverOpts": {"type": "tmpfs"}}),
        json!({"DriverOpts": {"device": "tmpfs"}}),
        json!({"DriverOpts": {"o": "bind", "type": "none"}}),
        json!({"DriverOpts": {"o": "bind", "device": "/tmp"}}),
        json!({"DriverOpts": {"size": "abc"}}),
        json!({"DriverOpts": {"size": "1m"}}),
        json!({"DriverOpts": {"size": "-1"}}),
        json!({"DriverOpts": {"size": ""}}),
        json!({"DriverOpts": {"type": "cifs", "device": "//host:445/share"}}),
        json!({"DriverOpts": {"type": "cifs", "device": "://host/share"}}),
        json!({"DriverOpts": {"type": "cifs", "device": "//host/%zz"}}),
        json!({"Driver": "nosuch"}),
        json!({"Driver": "nosuch:latest"}),
    ];
    for body in bodies {
        let mut named = body.clone();
        named["Name"] = json!(name);
        let theirs = api(&twin, "POST", "/volumes/create", &named);
        let answer = api(&ours, "POST", "/volumes/create", &named);
        assert_eq!((theirs.0, message(&theirs)), (answer.0, message(&answer)), "{body}");
        assert!(theirs.0 >= 400, "{body} was thought to be refused: {theirs:?}");
    }
    for wrong in ["a", "a/b", "..", ".x", "x y", "a:b", "ä", &"x/".repeat(2000)] {
        let body = json!({"Name": wrong});
        let (theirs, answer) =
            (api(&twin, "POST", "/volumes/create", &body), api(&ours, "POST", "/volumes/create", &body));
        assert_eq!(theirs.0, answer.0, "{wrong:?}: {theirs:?} {answer:?}");
        assert_eq!(message(&theirs), message(&answer), "{wrong:?}");
    }
    assert_eq!(ours.run(&["volume", "ls", "-q"]), "", "what was refused leaves nothing");
    assert_eq!(fs::read_dir(daemon.data_root().join("volumes")).unwrap().count(), 0);

    // What is there is given, whatever else is asked for; and shown as it was asked for.
    let sets = [
        json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000"}),
        json!({"type": "tmpfs", "device": "tmpfs", "o": "size=2m"}),
        json!({"nonsense": "1"}),
        json!({}),
    ];
    for client in [&twin, &ours] {
        for options in &sets {
            let body = json!({"Name": name, "DriverOpts": options, "Labels": {"n": options.to_string()}});
            let (status, volume) = api(client, "POST", "/volumes/create", &body);
            assert_eq!((status, &volume["Options"]), (201, &sets[0]));
        }
        let listed = api(client, "GET", &format!("/volumes/{name}"), &Value::Null).1;
        assert_eq!((&listed["Options"], &listed["Scope"]), (&sets[0], &json!("local")));
        // With options a volume is neither counted nor pruned.
        let used = api(client, "GET", "/system/df?type=volume", &Value::Null).1;
        assert!(!used.to_string().contains(&name));
        client.run(&["volume", "rm", &name]);
        for (given, shown) in [(json!(null), json!(null)), (json!({}), json!({}))] {
            let body = json!({"Name": name, "DriverOpts": given, "Labels": given});
            let volume = api(client, "POST", "/volumes/create", &body).1;
            assert_eq!((&volume["Options"], &volume["Labels"]), (&shown, &shown), "{}", client.host);
            client.run(&["volume", "rm", &name]);
        }
    }
}

/// An answer with what differs between two engines taken out.
fn neutral(answer: &(u16, Value), daemon: &Daemon) -> (u16, String) {
    let ours = daemon.data_root().join("volumes");
    let text = message(answer).replace(ours.to_str().unwrap(), "/var/lib/docker/volumes");
    // Which name server was asked is Go's own addition.
    let text = match text.find(" on ").filter(|_| text.contains("no such host")) {
        Some(at) => format!("{}{}", &text[..at], &text[text.rfind(": no such host").unwrap()..]),
        None => text,
    };
    (answer.0, text)
}

#[test]
fn mounts_that_cannot_be_are_told_as_dockerd_tells_them() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let (twin, ours) = (daemon.twin(), daemon.docker());
    let (volume, container) = (unique("mounts"), unique("mounts"));
    for client in [&twin, &ours] {
        for (suffix, options) in [
            ("plain", json!({})),
            ("missing", json!({"type": "none", "device": "/nonexistent", "o": "bind"})),
            ("relative", json!({"type": "none", "device": "relative", "o": "bind"})),
            ("nosuchfs", json!({"type": "nosuchfs", "device": "x"})),
            ("bogus", json!({"type": "tmpfs", "device": "tmpfs", "o": "bogus=1"})),
            ("password", json!({"type": "nosuchfs", "device": "x", "o": "addr=127.0.0.1,password=abc"})),
            ("device", json!({"type": "ext4", "device": "/dev/nosuch"})),
            ("none", json!({"type": "none", "device": "/tmp", "o": "ro"})),
            ("nfs", json!({"type": "nfs", "device": ":/x", "o": "addr=nosuch.invalid,rw"})),
            ("cifs", json!({"type": "cifs", "device": "//nosuch.invalid/share", "o": "username=q"})),
            ("comma", json!({"type": "none", "device": "/tmp,ro,/nonexistent", "o": "bind"})),
        ] {
            let body = json!({"Name": format!("{volume}-{suffix}"), "DriverOpts": options});
            assert_eq!(api(client, "POST", "/volumes/create", &body).0, 201);
        }
    }
    let bind = |suffix: &str| json!({"Binds": [format!("{volume}-{suffix}:/data")]});
    let mount = |mount: Value| json!({"Mounts": [mount]});
    let plain = format!("{volume}-plain");
    let hosts = [
        bind("missing"),
        bind("relative"),
        bind("nosuchfs"),
        bind("bogus"),
        bind("password"),
        bind("device"),
        bind("none"),
        bind("nfs"),
        bind("cifs"),
        bind("comma"),
        // Also where the image has something to be copied into the volume.
        json!({"Binds": [format!("{volume}-missing:/etc")]}),
        json!({"Binds": [format!("{plain}:/data:bad")]}),
        json!({"Binds": ["/tmp:/data:rro"]}),
        json!({"Binds": [format!("{plain}:/data:rshared")]}),
        json!({"Binds": ["/tmp:/data:nocopy"]}),
        json!({"Binds": ["/data:ro"]}),
        json!({"Binds": [":/data"]}),
        json!({"Binds": [format!("{plain}::ro")]}),
        json!({"Binds": ["/a/b:/x:ro,"]}),
        json!({"Binds": ["relative/path:/x"]}),
        json!({"Binds": ["/tmp:relative"]}),
        json!({"Binds": ["/tmp:/"]}),
        json!({"Binds": ["/tmp:/x:ro:z:more"]}),
        json!({"Binds": [format!("{plain}-new:/x")], "VolumeDriver": "nosuch"}),
        json!({"Binds": [format!("{plain}:/x")], "VolumeDriver": "nosuch"}),
        mount(json!({"Type": "volume", "Source": plain, "Target": "/d", "VolumeOptions": {"Subpath": "../x"}})),
        mount(json!({"Type": "volume", "Source": plain, "Target": "/d", "VolumeOptions": {"Subpath": "/x"}})),
        mount(json!({"Type": "volume", "Source": plain, "Target": "/d", "VolumeOptions": {"Subpath": "a/../../b"}})),
        mount(json!({"Type": "volume", "Source": plain, "Target": "/d", "VolumeOptions": {"Subpath": "nope"}})),
        mount(json!({"Type": "volume", "Source": plain, "Target": "/etc", "VolumeOptions": {"Subpath": "nope"}})),
        mount(json!({"Type": "volume", "Target": "/d", "VolumeOptions": {"Subpath": "x"}})),
        mount(json!({"Type": "volume", "Target": "/d", "ReadOnly": true})),
        mount(json!({"Type": "volume", "Source": "b/d", "Target": "/d"})),
        mount(json!({"Type": "volume", "Source": format!("{plain}-new"), "Target": "/d",
                "VolumeOptions": {"DriverConfig": {"Name": "nosuch"}}})),
        mount(json!({"Type": "volume", "Source": format!("{plain}-new"), "Target": "/d",
                "VolumeOptions": {"DriverConfig": {"Options": {"bad": "1"}}}})),
        mount(json!({"Type": "bind", "Source": "/nosuchdir", "Target": "/d"})),
        mount(json!({"Type": "bind", "Source": "rel", "Target": "/d"})),
        mount(json!({"Type": "bind", "Source": "/tmp", "Target": "/d", "BindOptions": {"Propagation": "x"}})),
        mount(
            json!({"Type": "bind", "Source": "/tmp", "Target": "/d", "BindOptions": {"ReadOnlyForceRecursive": true}}),
        ),
        mount(json!({"Type": "bind", "Source": "/tmp", "Target": "/d", "ReadOnly": true,
            "BindOptions": {"ReadOnlyForceRecursive": true, "ReadOnlyNonRecursive": true}})),
        mount(json!({"Type": "bind", "Source": "/tmp", "Target": "/d", "BindOptions": {"ReadOnlyNonRecursive": true}})),
        mount(json!({"Type": "bind", "Source": "/tmp", "Target": "/d", "VolumeOptions": {}})),
        mount(json!({"Type": "bind", "Source": "/tmp", "Target": "/d", "TmpfsOptions": {}})),
        mount(json!({"Type": "bind", "Source": "/tmp", "Target": "/d", "ImageOptions": {}})),
        mount(json!({"Type": "tmpfs", "Target": "/d", "BindOptions": {}})),
        mount(json!({"Type": "volume", "Target": "/d", "TmpfsOptions": {}})),
        mount(json!({"Type": "bind", "Source": "", "Target": "/d"})),
        mount(json!({"Type": "bind", "Source": "/tmp", "Target": ""})),
        mount(json!({"Type": "bind", "Source": "/tmp", "Target": "rel"})),
        mount(json!({"Type": "bind", "Source": "/tmp", "Target": "/"})),
        mount(json!({"Type": "tmpfs", "Source": "/tmp", "Target": "/d"})),
        mount(json!({"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"Options": [["size", "1m"]]}})),
        mount(json!({"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"Options": [["exec", "1", "2"]]}})),
        mount(json!({"Type": "bogus", "Target": "/d"})),
        mount(json!({"Type": "image", "Source": "nosuchimage", "Target": "/d"})),
        mount(json!({"Type": "image", "Source": "busybox", "Target": "/d", "ImageOptions": {"Subpath": "../x"}})),
        mount(json!({"Type": "image", "Source": "", "Target": "/d"})),
        json!({"VolumesFrom": ["nosuch"]}),
        json!({"VolumesFrom": [""]}),
        json!({"VolumesFrom": ["x:bad"]}),
        json!({"VolumesFrom": ["x:nocopy"]}),
        json!({"Binds": [format!("{plain}:/d")], "Mounts": [{"Type": "tmpfs", "Target": "/d"}]}),
        json!({"Tmpfs": {"d": ""}}),
    ];
    let mut differing = Vec::new();
    for host in &hosts {
        let [theirs, answer] = [&twin, &ours].map(|client| {
            let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": host});
            let created = api(client, "POST", &format!("/containers/create?name={container}"), &body);
            let answer = match created.0 {
                201 => api(client, "POST", &format!("/containers/{container}/start"), &Value::Null),
                _ => created,
            };
            let _ = api(client, "DELETE", &format!("/containers/{container}?force=1&v=1"), &Value::Null);
            answer
        });
        assert!(theirs.0 >= 400, "{host} was thought to be refused: {theirs:?}");
        let (theirs, answer) = (neutral(&theirs, &daemon), neutral(&answer, &daemon));
        // A fault of the client is one, where dockerd takes it for its own.
        let status = theirs.0 == answer.0 || (theirs.0, answer.0) == (500, 400);
        if !status || theirs.1 != answer.1 {
            differing.push(format!("{host}\n  dockerd: {theirs:?}\n  dhowd:   {answer:?}"));
        }
    }
    for client in [&twin, &ours] {
        let names = client.run(&["volume", "ls", "-q", "--filter", &format!("name={volume}")]);
        for name in names.lines() {
            client.run(&["volume", "rm", name]);
        }
        assert_eq!(names.lines().count(), 11, "nothing was made for what was refused: {names}");
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert_eq!(mounted_below(&daemon.data_root().join("volumes")), Vec::<String>::new());
}

#[test]
fn the_first_user_mounts_and_the_last_unmounts() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.busybox();
    let source = scratch(&daemon, "source");
    fs::write(source.join("file"), "from the host\n").unwrap();
    for client in daemon.clients() {
        client.run(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=12", "mem"]);
        let device = format!("device={}", source.display());
        client.run(&["volume", "create", "-o", "type=none", "-o", "o=bind,ro", "-o", &device, "dir"]);
        client.run(&["run", "-d", "--name", "one", "-v", "mem:/m", "-v", "dir:/d", "busybox", "sleep", "100"]);
        assert_eq!(client.run(&["exec", "one", "cat", "/d/file"]), "from the host");
        client.try_run(&["exec", "one", "touch", "/d/new"]).expect_error(1, "Read-only file system");
        client.run(&["exec", "one", "sh", "-c", "echo kept > /m/kept"]);
        assert_eq!(client.run(&["exec", "one", "stat", "-c", "%u", "/m"]), "12");
        assert_eq!(client.run(&["exec", "one", "sh", "-c", "df -k /m | tail -1 | awk '{print $2}'"]), "1024");
        // The second one finds what the first one wrote.
        client.run(&["run", "-d", "--name", "two", "-v", "mem:/m", "busybox", "sleep", "100"]);
        assert_eq!(client.run(&["exec", "two", "cat", "/m/kept"]), "kept");
        assert_eq!(mounted_below(&daemon.data_root().join("volumes")).len(), 2);
        client.run(&["rm", "-f", "one"]);
        assert_eq!(mounted_below(&data(&daemon, "mem")).len(), 1, "still used by the second");
        assert_eq!(mounted_below(&data(&daemon, "dir")).len(), 0);
        client.try_run(&["volume", "rm", "mem"]).expect_error(1, "volume is in use");
        client.run(&["rm", "-f", "two"]);
        assert_eq!(mounted_below(&data(&daemon, "mem")).len(), 0);
        client.run(&["volume", "rm", "mem", "dir"]);
        assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "from the host\n", "only ours is deleted");
    }

    // A new daemon takes over what is used, and unmounts what is not.
    let docker = daemon.docker();
    docker.run(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "used"]);
    docker.run(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "stale"]);
    docker.run(&["run", "-d", "--name", "lives", "-v", "used:/m", "busybox", "sleep", "100"]);
    docker.run(&["run", "-d", "--name", "dies", "-v", "stale:/m", "busybox", "sleep", "100"]);
    // One that ends meanwhile does not take away what another one uses.
    docker.run(&["run", "-d", "--name", "shared", "-v", "used:/m", "busybox", "sleep", "100"]);
    docker.run(&["exec", "shared", "sh", "-c", "echo before > /m/before"]);
    let pids = ["dies", "shared"].map(|name| docker.run(&["inspect", "-f", "{{.State.Pid}}", name]));
    daemon.kill();
    let _ = Command::new("kill").arg("-KILL").args(&pids).status();
    daemon.launch();
    eventually(20, "the stale volume's end", || mounted_below(&data(&daemon, "stale")).is_empty());
    assert_eq!(mounted_below(&data(&daemon, "used")).len(), 1);
    eventually(20, "the end of the other", || docker.run(&["ps", "-q", "--filter", "name=shared"]).is_empty());
    assert_eq!(docker.run(&["run", "--rm", "-v", "used:/m", "busybox", "cat", "/m/before"]), "before");
    docker.run(&["exec", "lives", "sh", "-c", "echo x > /m/x"]);
    assert_eq!(docker.run(&["run", "--rm", "-v", "used:/m", "busybox", "cat", "/m/x"]), "x");
    assert_eq!(mounted_below(&data(&daemon, "used")).len(), 1);

    // Somebody unmounts it behind our back: the next one gets it mounted again, not an empty directory.
    let status = Command::new("umount").arg("-l").arg(data(&daemon, "used")).status().unwrap();
    assert!(status.success());
    assert_eq!(docker.run(&["exec", "lives", "cat", "/m/x"]), "x", "who runs is not concerned");
    docker.run(&["run", "--rm", "-v", "used:/m", "busybox", "grep", "-q", " /m tmpfs", "/proc/mounts"]);
    docker.run(&["rm", "-f", "lives", "dies", "shared"]);
    eventually(20, "unmounting", || mounted_below(&daemon.data_root().join("volumes")).is_empty());
    // Copies into and out of a container that does not run see what is mounted.
    let device = format!("device={}", source.display());
    docker.run(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "dir"]);
    docker.run(&["create", "--name", "rests", "-v", "dir:/d", "busybox"]);
    docker.run(&["cp", "rests:/d/file", daemon.dir.path().join("copied").to_str().unwrap()]);
    assert_eq!(fs::read_to_string(daemon.dir.path().join("copied")).unwrap(), "from the host\n");
    docker.run(&["rm", "rests"]);
    eventually(20, "unmounting", || mounted_below(&daemon.data_root().join("volumes")).is_empty());
    // Something of somebody else's in the directory is not deleted with the volume.
    docker.run(&["volume", "create", "foreign"]);
    let place = data(&daemon, "foreign");
    assert!(Command::new("mount").args(["--bind"]).arg(&source).arg(&place).status().unwrap().success());
    let refused = docker.try_run(&["volume", "rm", "foreign"]);
    assert!(Command::new("umount").arg("-l").arg(&place).status().unwrap().success());
    refused.expect_error(1, "volume has active mounts");
    assert!(source.join("file").exists());
    docker.run(&["volume", "rm", "foreign", "dir", "used", "stale"]);
}

#[test]
fn events_come_in_dockers_order() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let (volume, container) = (unique("events"), unique("events"));
    let mut told = Vec::new();
    for client in [daemon.twin(), daemon.docker()] {
        let since = client.run(&["info", "-f", "{{.SystemTime}}"]);
        client.run(&["volume", "create", &volume]);
        let first = format!("{volume}:/b:ro");
        client.run(&["create", "--name", &container, "-v", &first, "-v", "/a", "-v", "/tmp:/c", "busybox", "true"]);
        client.run(&["start", "-a", &container]);
        client.run(&["rm", "-v", &container]);
        client.run(&["volume", "rm", &volume]);
        let until = client.run(&["info", "-f", "{{.SystemTime}}"]);
        let lines = client.run(&[
            "events",
            "--since",
            &since,
            "--until",
            &until,
            "--filter",
            "type=volume",
            "--filter",
            "type=container",
            "--format",
            "{{json .}}",
        ]);
        let mut ids = Vec::new();
        let events: Vec<String> = lines
            .lines()
            .filter_map(|line| {
                let event: Value = serde_json::from_str(line).unwrap();
                let attributes = event["Actor"]["Attributes"].clone();
                let id = event["Actor"]["ID"].as_str().unwrap().to_owned();
                let own = id == volume || attributes["name"] == json!(container) || !attributes["container"].is_null();
                // The anonymous one is known by the event that it was made.
                let anonymous = event["Type"] == "volume" && id.len() == 64;
                if !(own || anonymous) || event["Action"] == "attach" {
                    return None;
                }
                if !ids.contains(&id) {
                    ids.push(id.clone());
                }
                let who = if id == volume { "volume".to_owned() } else { format!("{}", id.len()) };
                let mut facts: Vec<String> = attributes
                    .as_object()
                    .unwrap()
                    .iter()
                    .filter(|(key, _)| !matches!(key.as_str(), "container" | "name" | "image" | "execDuration"))
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                facts.sort();
                Some(format!("{} {} {who} {}", event["Type"], event["Action"], facts.join(" ")))
            })
            .collect();
        told.push(events);
    }
    // Docker mounts and unmounts in the order of a map.
    let sorted = |events: &[String]| {
        let mut events = events.to_vec();
        for action in ["\"mount\"", "\"unmount\""] {
            let of: Vec<usize> = (0..events.len()).filter(|i| events[*i].contains(action)).collect();
            if let (Some(first), Some(last)) = (of.first(), of.last()) {
                events[*first..=*last].sort();
            }
        }
        events
    };
    assert_eq!(sorted(&told[0]), sorted(&told[1]));
}

#[test]
fn contents_go_out_and_come_in_whole() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let dhow = daemon.dhow();
    let fill = "cd /v && mkdir -p d/e && echo one > d/one && ln d/one two && ln -s /etc/passwd link && mkfifo pipe \
        && truncate -s 30M sparse && printf end | dd of=sparse bs=1 seek=20000000 conv=notrunc 2> /dev/null \
        && chown -R 1000:7 d && chmod 4711 d/one && chmod 1777 . && touch -d @1000000000 d/e";
    dhow.run(&["run", "--rm", "-v", "src:/v", "busybox", "sh", "-c", fill]);
    let look = "cd /v && find . | sort | while read f; do stat -c '%n %f %u %g %s %h %Y' $f; done; \
        readlink link; md5sum sparse d/one; du -k sparse | awk '{print ($1 < 1000)}'";
    let looks = |volume: &str| {
        let mount = format!("{volume}:/v:ro");
        dhow.run(&["run", "--rm", "-v", &mount, "busybox", "sh", "-c", look])
    };
    let original = looks("src");
    assert!(original.ends_with("\n1"), "{original}");

    let archive = daemon.dir.path().join("src.tar");
    let path = archive.to_str().unwrap();
    dhow.run(&["volume", "export", "src", "-o", path]);
    assert!(fs::metadata(&archive).unwrap().len() < 1 << 20, "holes are not written");
    assert_eq!(dhow.run(&["volume", "import", "new", path]), "new");
    assert_eq!(looks("new"), original);
    // GNU tar reads it too.
    let listed = Command::new("tar").args(["-tvf", path]).output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.status.success() && text.contains(" 31457280 ") && text.contains("link to"), "{listed:?}");

    assert_eq!(dhow.run(&["volume", "clone", "src", "copy", "--label", "k=v"]), "copy");
    assert_eq!(looks("copy"), original);
    assert_eq!(dhow.run(&["volume", "inspect", "-f", "{{.Labels.k}}", "copy"]), "v");
    dhow.try_run(&["volume", "clone", "src", "copy"]).expect_error(1, "exists already");
    dhow.try_run(&["volume", "clone", "nosuch", "x1"]).expect_error(1, "no such volume");

    // A snapshot of one in use, listed by its label; and back.
    dhow.run(&["run", "-d", "--name", "user", "-v", "src:/v", "busybox", "sleep", "100"]);
    let snapshot = dhow.run(&["volume", "snapshot", "src"]);
    assert!(snapshot.starts_with("src-20"), "{snapshot}");
    assert_eq!(dhow.run(&["volume", "snapshot", "src", "before"]), "before");
    assert_eq!(looks("before"), original);
    let listed = dhow.run(&["volume", "ls", "-q", "--filter", "label=dhow.volume.snapshot-of=src"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    dhow.run(&["exec", "user", "sh", "-c", "rm -rf /v/d && echo changed > /v/two"]);
    dhow.run(&["volume", "export", "src", "-o", path]);
    for refused in [&["volume", "import", "src", path][..], &["volume", "rollback", "src", "before"]] {
        dhow.try_run(refused).expect_error(1, "volume is in use");
    }
    assert_eq!(dhow.run(&["exec", "user", "cat", "/v/two"]), "changed");
    dhow.run(&["stop", "-t", "0", "user"]);
    dhow.try_run(&["volume", "rollback", "src", "copy"]).expect_error(1, "is no snapshot of it");
    dhow.run(&["volume", "rollback", "src", "before"]);
    assert_eq!(looks("src"), original);
    dhow.run(&["start", "user"]);
    assert_eq!(dhow.run(&["exec", "user", "cat", "/v/d/one"]), "one", "the container has what came back");
    dhow.run(&["rm", "-f", "user"]);

    // Another path in and out: through pipes, compressed.
    let zipped = Command::new("gzip").args(["-c", path]).output().unwrap().stdout;
    dhow.try_run_with(&["volume", "import", "zipped", "-"], &zipped).expect_code(0);
    assert_eq!(dhow.run(&["run", "--rm", "-v", "zipped:/v", "busybox", "cat", "/v/two"]), "changed");

    // A volume that is mounted from elsewhere is read, not replaced.
    dhow.run(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "mem"]);
    dhow.try_run(&["volume", "import", "mem", path]).expect_error(1, "mounted from elsewhere");
    dhow.run(&["volume", "clone", "mem", "memcopy"]);
    eventually(20, "unmounting", || mounted_below(&daemon.data_root().join("volumes")).is_empty());

    for volume in dhow.run(&["volume", "ls", "-q"]).lines() {
        dhow.run(&["volume", "rm", volume]);
    }
    assert_eq!(fs::read_dir(daemon.data_root().join("volumes")).unwrap().count(), 0, "nothing stays");
}

#[test]
fn hostile_archives_leave_volumes_as_they_were() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let dhow = daemon.dhow();
    dhow.run(&["run", "--rm", "-v", "keep:/v", "busybox", "sh", "-c", "echo mine > /v/mine"]);
    let secret = scratch(&daemon, "secret");
    fs::write(secret.join("file"), "secret").unwrap();
    let make = r#"
import io, sys, tarfile
out, secret = sys.argv[1], sys.argv[2]
def member(name, kind=tarfile.REGTYPE, link="", data=b"x"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data) if kind == tarfile.REGTYPE else 0
    return info, data
cases = {
    "dotdot": [member("../../../escaped")],
    "absolute": [member(secret + "/escaped")],
    "link": [member("d", tarfile.SYMTYPE, secret), member("d/escaped")],
    "hardlink": [member("h", tarfile.LNKTYPE, secret + "/file"), member("h")],
    "climb": [member("a", tarfile.SYMTYPE, "../../.."), member("a/escaped")],
}
for name, members in cases.items():
    with tarfile.open(out + "/" + name + ".tar", "w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
whole = open(out + "/dotdot.tar", "rb").read()
with tarfile.open(out + "/cut.tar", "w") as archive:
    info, data = member("big", data=b"y" * 100000)
    archive.addfile(info, io.BytesIO(data))
raw = open(out + "/cut.tar", "rb").read()
open(out + "/cut.tar", "wb").write(raw[:50000])
open(out + "/garbage.tar", "wb").write(bytes(range(256)) * 100)
open(out + "/empty.tar", "wb").write(b"")
"#;
    let out = scratch(&daemon, "archives");
    let made = Command::new("python3").args(["-c", make]).arg(&out).arg(&secret).status().unwrap();
    assert!(made.success());
    for name in ["dotdot", "absolute", "link", "hardlink", "climb", "cut", "garbage", "empty"] {
        let path = out.join(format!("{name}.tar"));
        for volume in ["keep", "fresh"] {
            let output = dhow.try_run(&["volume", "import", volume, path.to_str().unwrap()]);
            if output.code == 0 {
                // Taken, but inside: the old content is gone as asked.
                assert!(!matches!(name, "cut" | "garbage" | "empty" | "hardlink"), "{name}: {output:?}");
                dhow.run(&["volume", "rm", volume]);
                dhow.run(&["run", "--rm", "-v", "keep:/v", "busybox", "sh", "-c", "echo mine > /v/mine"]);
            }
            assert_eq!(dhow.run(&["run", "--rm", "-v", "keep:/v", "busybox", "cat", "/v/mine"]), "mine", "{name}");
            assert_eq!(dhow.run(&["volume", "ls", "-q"]), "keep", "{name}: whole or not at all");
        }
        assert_eq!(fs::read_dir(&secret).unwrap().count(), 1, "{name} wrote outside");
        assert_eq!(fs::read_to_string(secret.join("file")).unwrap(), "secret", "{name} wrote outside");
        assert_eq!(fs::read_dir(daemon.data_root().join("volumes/keep")).unwrap().count(), 1, "{name} left something");
    }
    assert!(!daemon.dir.path().join("escaped").exists() && !Path::new("/escaped").exists());
    assert_eq!(fs::read_dir(daemon.data_root().join("volumes")).unwrap().count(), 1);
}

#[test]
fn owners_change_places_where_they_are_mounted() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let source = scratch(&daemon, "owned");
    fs::write(source.join("file"), "x").unwrap();
    let here = |name: &str| {
        let meta = fs::metadata(source.join(name)).unwrap();
        (meta.uid(), meta.gid())
    };
    let bind = format!("{}:/d", source.display());
    for client in daemon.clients() {
        let run = |args: &[&str]| {
            let all = [&["run", "--rm"], args, &["-u", "1000:1000", "busybox", "sh", "-c"]].concat();
            client.run(&[&all[..], &["stat -c %u:%g /d/file; echo y > /d/made && stat -c %u:%g /d/made"]].concat())
        };
        let mapped = format!("{bind}:uid=1000,gid=1000");
        let annotation = ["--annotation", "dhow.mount:/d=uid=1000,gid=1000"];
        let mount = format!("type=bind,src={},dst=/d", source.display());
        for args in [
            &["-v", &mapped][..],
            &[annotation[0], annotation[1], "-v", &bind],
            &[annotation[0], annotation[1], "--mount", &mount],
        ] {
            assert_eq!(run(args), "1000:1000\n1000:1000", "{args:?}");
            assert_eq!(here("made"), (0, 0), "on disk it is the source's owner");
            fs::remove_file(source.join("made")).unwrap();
        }
        if client.is_ours() {
            let mount = format!("{mount},uid=1000,gid=1000");
            assert_eq!(run(&["--mount", &mount]), "1000:1000\n1000:1000");
            fs::remove_file(source.join("made")).unwrap();
        }
        // Volumes, too: what the image's root owns is the user's.
        client.run(&["run", "--rm", "-v", "vol:/d", "busybox", "touch", "/d/file"]);
        assert_eq!(run(&["-v", "vol:/d:uid=1000,gid=1000"]), "1000:1000\n1000:1000");
        client.run(&["volume", "rm", "vol"]);
        // Without it: not allowed to write.
        let refused = client.try_run(&["run", "--rm", "-u", "1000", "-v", &bind, "busybox", "touch", "/d/no"]);
        refused.expect_error(1, "Permission denied");
    }
    let docker = daemon.docker();
    for (args, text) in [
        (["-v", "/proc/sys:/d:uid=1000"], "the file system proc at /proc"),
        (["-v", "/tmp:/d:uid=x"], "invalid mode: uid=x"),
        (["-v", "/tmp:/d:idmap"], "containers have none here"),
        (["--annotation", "dhow.mount:/nothing=uid=1"], "nothing is mounted there"),
    ] {
        let command = [&["run", "--rm"][..], &args, &["busybox", "true"]].concat();
        docker.try_run(&command).expect_error(125, text);
    }
}

/// Takes turns exchanging two names until it is dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapper {
    fn new(a: &Path, b: &Path) -> Self {
        let script = "import ctypes, os, sys\nlibc = ctypes.CDLL(None)\na, b = [os.fsencode(p) for p in sys.argv[1:]]\n\
            while os.getppid() != 1:\n    libc.renameat2(-100, a, -100, b, 2)\n";
        let mut child =
            Command::new("python3").args(["-c", script]).arg(a).arg(b).stdin(Stdio::null()).spawn().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn what_is_looked_at_is_what_is_mounted() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    let place = scratch(&daemon, "swap");
    let (source, other) = (place.join("source"), place.join("other"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("inside"), "directory").unwrap();
    fs::write(&other, "file").unwrap();
    {
        // A file and a directory take turns: a look at one and a mount of the other would fail.
        let _swapper = Swapper::new(&source, &other);
        let bind = format!("{}:/x", source.display());
        for _ in 0..15 {
            let seen = docker.run(&["run", "--rm", "-v", &bind, "busybox", "sh", "-c", "cat /x/inside || cat /x"]);
            assert!(seen.contains("directory") || seen.contains("file"), "{seen}");
        }
    }
    // A subpath and a link out of the volume take turns: what is mounted is in the volume, whichever it is.
    docker.run(&[
        "run",
        "--rm",
        "-v",
        "vol:/v",
        "busybox",
        "sh",
        "-c",
        "mkdir /v/sub /v/etc && echo ours > /v/sub/passwd && echo ours > /v/etc/passwd",
    ]);
    symlink("/etc", data(&daemon, "vol").join("out")).unwrap();
    {
        let _swapper = Swapper::new(&data(&daemon, "vol").join("sub"), &data(&daemon, "vol").join("out"));
        for _ in 0..15 {
            let mount = "type=volume,src=vol,dst=/x,volume-subpath=sub";
            assert_eq!(docker.run(&["run", "--rm", "--mount", mount, "busybox", "cat", "/x/passwd"]), "ours");
        }
    }
    // Links of /proc are another file for each process.
    for path in ["/proc/self/root", "/proc/self/root/etc", "/proc/self/cwd", "/proc/thread-self/fd/3"] {
        let bind = format!("{path}:/x");
        docker.try_run(&["run", "--rm", "-v", &bind, "busybox", "true"]).expect_error(125, "cannot be used");
        let mount = format!("type=bind,src={path},dst=/x");
        docker.try_run(&["run", "--rm", "--mount", &mount, "busybox", "true"]).expect_error(125, "cannot be used");
    }
    docker.run(&["volume", "rm", "vol"]);
}

/// A file system whose server never answers.
struct Hung {
    place: PathBuf,
    server: Child,
}

impl Hung {
    fn new(place: PathBuf) -> Option<Self> {
        fs::create_dir_all(&place).unwrap();
        let script = "import ctypes, os, sys, time\nfd = os.open('/dev/fuse', os.O_RDWR)\nlibc = ctypes.CDLL(None, use_errno=True)\n\
            data = b'fd=%d,rootmode=40000,user_id=0,group_id=0' % fd\n\
            failed = libc.mount(b'hung', os.fsencode(sys.argv[1]), b'fuse', 0, data)\n\
            print('failed' if failed else 'mounted', flush=True)\ntime.sleep(600)\n";
        let mut server = Command::new("python3")
            .args(["-c", script])
            .arg(&place)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = [0; 7];
        let read = server.stdout.as_mut().unwrap().read_exact(&mut said);
        let hung = Self { place, server };
        (read.is_ok() && &said == b"mounted").then_some(hung)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        // With its server every request ends.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}

#[test]
fn a_server_that_is_gone_concerns_its_container_alone() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    let Some(hung) = Hung::new(daemon.dir.path().join("hung")) else {
        eprintln!("left out: no file systems in user space here");
        return;
    };
    let inside = hung.place.join("inside");
    let device = format!("device={}", inside.display());
    docker.run(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "gone"]);
    let bind = format!("{}:/x", inside.display());
    let waiting: Vec<_> = [bind.as_str(), "gone:/x"]
        .iter()
        .map(|volume| {
            let (docker, volume) = (docker.clone(), (*volume).to_owned());
            std::thread::spawn(move || docker.try_run(&["run", "--rm", "-v", &volume, "busybox", "true"]))
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    // Everybody else goes on.
    let begin = Instant::now();
    docker.run(&["ps", "-a"]);
    docker.run(&["volume", "ls"]);
    docker.run(&["volume", "create", "fine"]);
    assert_eq!(docker.run(&["run", "--rm", "-v", "fine:/x", "busybox", "echo", "here"]), "here");
    docker.run(&["volume", "rm", "fine"]);
    docker.run(&["system", "df"]);
    assert!(begin.elapsed() < Duration::from_secs(10), "others had to wait");
    for waiting in waiting {
        waiting.join().unwrap().expect_error(125, "its file system does not answer");
    }
    // Not a thread more for whoever tries again.
    docker.try_run(&["run", "--rm", "-v", &bind, "busybox", "true"]).expect_error(125, "has not answered an earlier");
    drop(hung);
    eventually(20, "an end of waiting", || {
        let output = docker.try_run(&["run", "--rm", "-v", &bind, "busybox", "true"]);
        !output.stderr.contains("has not answered")
    });
    docker.run(&["volume", "rm", "gone"]);
    assert_eq!(docker.run(&["ps", "-aq"]), "");
}

#[test]
fn sources_that_vanish() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let source = scratch(&daemon, "vanishing");
    for client in daemon.clients() {
        fs::create_dir_all(&source).unwrap();
        let mount = format!("type=bind,src={},dst=/x", source.display());
        let bind = format!("{}:/x", source.display());
        client.run(&["create", "--name", "long", "--mount", &mount, "busybox", "true"]);
        client.run(&["create", "--name", "short", "-v", &bind, "busybox", "true"]);
        fs::remove_dir(&source).unwrap();
        client.try_run(&["start", "long"]).expect_error(1, "bind source path does not exist");
        // Docker makes it anew for the short form.
        client.run(&["start", "-a", "short"]);
        assert!(source.is_dir());
        client.run(&["start", "-a", "long"]);
        client.run(&["rm", "long", "short"]);
    }
}

#[test]
fn parts_of_volumes_and_images() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["run", "--rm", "-v", "vol:/v", "busybox", "sh", "-c", "mkdir -p /v/a/b && echo in > /v/a/b/f"]);
        let mount = "type=volume,src=vol,dst=/x,volume-subpath=a/b";
        assert_eq!(client.run(&["run", "--rm", "--mount", mount, "busybox", "cat", "/x/f"]), "in");
        let file = "type=volume,src=vol,dst=/x,volume-subpath=a/b/f";
        assert_eq!(client.run(&["run", "--rm", "--mount", file, "busybox", "cat", "/x"]), "in");
        // Copied up into an empty part, and into nothing else.
        client.run(&["run", "--rm", "-v", "vol:/v", "busybox", "mkdir", "/v/empty"]);
        let mount = "type=volume,src=vol,dst=/etc,volume-subpath=empty";
        client.run(&["run", "--rm", "--mount", mount, "busybox", "grep", "-q", "root", "/etc/passwd"]);
        assert_eq!(client.run(&["run", "--rm", "-v", "vol:/v", "busybox", "ls", "/v"]), "a\nempty");
        let mount = "type=volume,src=bare,dst=/etc,volume-nocopy";
        assert_eq!(
            client.run(&["run", "--rm", "--mount", mount, "busybox", "sh", "-c", "test -e /etc/passwd; echo $?"]),
            "1"
        );
        client.run(&["volume", "rm", "vol", "bare"]);
        let image = "type=image,src=busybox,dst=/i,image-subpath=etc";
        client.run(&["run", "--rm", "--mount", image, "busybox", "grep", "-q", "root", "/i/passwd"]);
        let image = "type=image,src=busybox,dst=/i,image-subpath=nope";
        client
            .try_run(&["run", "--rm", "--mount", image, "busybox", "true"])
            .expect_error(127, "no such file or directory");
        let image = "type=image,src=busybox,dst=/i";
        client
            .try_run(&["run", "--rm", "--mount", image, "busybox", "touch", "/i/x"])
            .expect_error(1, "Read-only file system");
    }
}

#[test]
fn read_only_goes_down_unless_told_otherwise() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let source = scratch(&daemon, "tree");
    let below = source.join("below");
    fs::create_dir_all(&below).unwrap();
    assert!(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&below).status().unwrap().success());
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let _unmount = Unmount(below);
    let source = source.display();
    for client in daemon.clients() {
        for (options, written) in [
            ("", "0 0"),
            (",readonly", "1 1"),
            (",readonly,bind-recursive=enabled", "1 1"),
            (",readonly,bind-recursive=writable", "1 0"),
            (",readonly,bind-recursive=readonly,bind-propagation=rprivate", "1 1"),
        ] {
            let mount = format!("type=bind,src={source},dst=/x{options}");
            let probe = "touch /x/f 2>/dev/null; a=$?; touch /x/below/f 2>/dev/null; echo $a $?";
            assert_eq!(
                client.run(&["run", "--rm", "--mount", &mount, "busybox", "sh", "-c", probe]),
                written,
                "{options}"
            );
        }
        let mount = format!("type=bind,src={source},dst=/x,bind-recursive=disabled");
        let probe = "grep -c ' /x/below ' /proc/mounts";
        assert_eq!(
            client.try_run(&["run", "--rm", "--mount", &mount, "busybox", "sh", "-c", probe]).stdout.trim(),
            "0"
        );
    }
}
