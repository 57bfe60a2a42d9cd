//! `kill -9` at any moment: what was acknowledged is there, what was not leaves nothing that could be taken for it, and
//! uploads go on where they stood.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::http::Connection;
use crate::support::{Api, OCI_MANIFEST, Process, Registry, assert_blobs_are_sound, files, image, noise, sha256};

/// Where an upload stands: bytes received.
pub fn stands(registry: &impl Api, location: &str) -> usize {
    let answer = registry.get(location).expect(204);
    let last: usize = answer.must("range").strip_prefix("0-").unwrap().parse().unwrap();
    if last == 0 { 0 } else { last + 1 }
}

#[test]
fn an_upload_goes_on_after_its_server_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("registry");
    let bytes = noise(50, 30 << 20);
    let digest = sha256(&bytes);
    let mut process = Process::start(&root);
    let location = process.begin("a");
    process.call("PATCH", &location, &[], &bytes[..1_000_000]).expect(202);
    // Killed while it receives: from the middle of a request at least the last checkpoint is kept.
    let mut connection = process.connect();
    connection.send_head("PATCH", &location, &[("Content-Length", &(bytes.len() - 1_000_000).to_string())]);
    connection.send(&bytes[1_000_000..25 << 20]).unwrap();
    for _ in 0..3000 {
        if stands(&process, &location) > 20 << 20 {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    process.kill();
    let process = Process::start(&root);
    let offset = stands(&process, &location);
    assert!((9_000_000..=25 << 20).contains(&offset), "{offset}");
    assert!(files(&root.join("blobs")).is_empty(), "an unfinished blob is not visible");
    process.get(&format!("/v2/a/blobs/{digest}")).expect_error(404, "BLOB_UNKNOWN");
    let range = format!("{offset}-{}", bytes.len() - 1);
    let target = format!("{location}?digest={digest}");
    process.call("PUT", &target, &[("Content-Range", &range)], &bytes[offset..]).expect(201);
    assert!(process.get(&format!("/v2/a/blobs/{digest}")).expect(200).body == bytes);
    assert_blobs_are_sound(&root);
}

#[test]
fn what_was_acknowledged_survives_kills_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("registry");
    // Targets of acknowledged manifests and blobs, and their bytes.
    let kept: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::default();
    for life in 0..8_u64 {
        let mut process = Process::start(&root);
        let address = process.address();
        thread::scope(|scope| {
            for client in 0..3_u64 {
                let kept = &kept;
                scope.spawn(move || push_until_killed(address, life * 100 + client, kept));
            }
            thread::sleep(Duration::from_millis(40 + 35 * life));
            process.kill();
        });
        // As the disk is now, before anybody cleans up.
        assert_blobs_are_sound(&root);
        let process = Process::start(&root);
        let mut connection = process.connect();
        for (target, bytes) in kept.lock().unwrap().iter() {
            let answer = connection.call("GET", target, &[], b"").expect(200);
            assert!(answer.body == *bytes, "{target}");
        }
        let left: Vec<_> = fs::read_dir(root.join("uploads")).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(left.iter().all(|name| name.len() == 32), "only uploads that can go on: {left:?}");
    }
    assert!(kept.lock().unwrap().len() > 8, "something was pushed");
}

pub fn push_until_killed(address: std::net::SocketAddr, seed: u64, kept: &Mutex<BTreeMap<String, Vec<u8>>>) {
    let try_call = |connection: &mut Connection, method: &str, target: &str, kind: &str, body: &[u8]| {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        connection.send(head.as_bytes()).ok()?;
        connection.send(body).ok()?;
        let answer = connection.answer(method).ok()?;
        assert_eq!(answer.status, 201, "{}", answer.text());
        Some(())
    };
    let mut connection = Connection::open(address);
    for round in 0.. {
        let repository = format!("/v2/r{}/s{seed}", round % 2);
        let bytes = noise(seed * 1000 + round, 50_000 + 30_000 * (usize::try_from(round).unwrap() % 5));
        let blob = |bytes: &[u8]| format!("{repository}/blobs/uploads/?digest={}", sha256(bytes));
        let Some(()) = try_call(&mut connection, "POST", &blob(&bytes), "application/octet-stream", &bytes) else {
            return;
        };
        kept.lock().unwrap().insert(format!("{repository}/blobs/{}", sha256(&bytes)), bytes.clone());
        let Some(()) = try_call(&mut connection, "POST", &blob(b"{}"), "application/octet-stream", b"{}") else {
            return;
        };
        let manifest = image(b"{}", &[&bytes]).to_string();
        let target = format!("{repository}/manifests/t{round}");
        let Some(()) = try_call(&mut connection, "PUT", &target, OCI_MANIFEST, manifest.as_bytes()) else { return };
        kept.lock().unwrap().insert(target, manifest.into_bytes());
    }
}

#[test]
fn a_stop_lets_requests_finish_and_uploads_go_on() {
    let registry = Registry::start();
    let bytes = noise(51, 400_000);
    let location = registry.begin("a");
    registry.call("PATCH", &location, &[], &bytes[..150_000]).expect(202);
    let mut connection = registry.connect();
    let other = registry.begin("b");
    let headers = [("Content-Length", "4"), ("Expect", "100-continue")];
    connection.send_head("PUT", &format!("{other}?digest={}", sha256(b"slow")), &headers);
    assert_eq!(connection.head().unwrap().status, 100, "the request is in progress");
    connection.send(b"sl").unwrap();
    let dir = thread::scope(|scope| {
        let stopping = scope.spawn(|| registry.stop());
        thread::sleep(Duration::from_millis(200));
        connection.send(b"ow").unwrap();
        let answer = connection.answer("PUT").unwrap().expect(201);
        assert_eq!(answer.header("connection"), Some("close"));
        stopping.join().unwrap()
    });
    let registry = Registry::over(dir, |_| ());
    assert_eq!(stands(&registry, &location), 150_000);
    registry.call("PUT", &format!("{location}?digest={}", sha256(&bytes)), &[], &bytes[150_000..]).expect(201);
    assert_eq!(registry.get(&format!("/v2/b/blobs/{}", sha256(b"slow"))).expect(200).text(), "slow");
}

/// The calls of the server, in order, as strace shows them: before a success is written, the file was synced, then
/// renamed, then its directory synced, and the same for the link.
#[test]
fn an_acknowledgement_comes_after_the_disk_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let (root, log) = (dir.path().join("registry"), dir.path().join("calls"));
    if Command::new("strace").arg("-V").output().is_err() {
        println!("left out: strace is not installed");
        return;
    }
    let strace = ["strace", "-f", "-y", "-s", "64", "-o", log.to_str().unwrap()];
    let filter = ["-e", "trace=fsync,fdatasync,rename,renameat,renameat2,openat2,openat,write,writev,sendto"];
    let command: Vec<&str> = strace.into_iter().chain(filter).collect();
    let mut process = Process::under(&root, &command);
    let digest = process.push_blob("a/b", b"{}");
    let manifest = image(b"{}", &[]);
    process.put_manifest("a/b", "t", &manifest).expect(201);
    process.kill();
    let mut text = String::new();
    fs::File::open(&log).unwrap().read_to_string(&mut text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let answers: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].contains("HTTP/1.1 201 Created")).collect();
    let [first, second] = answers[..] else { panic!("two answers: {answers:?}") };
    let find = |from: usize, to: usize, call: &str, words: &[&str]| {
        let found = (from..to).find(|at| {
            let line = lines[*at];
            line.contains(call) && words.iter().all(|word| line.contains(word)) && !line.contains(" = -1")
        });
        found.unwrap_or_else(|| {
            panic!("no {call} of {words:?} between {from} and {to}:\n{}", lines[from..to].join("\n"))
        })
    };
    let hex = digest.hex();
    let at = find(0, first, "fsync(", &["uploads/", "/data>"]);
    let at = find(at, first, "rename", &["\"data\"", &hex]);
    let at = find(at, first, "fsync(", &[&format!("blobs/sha256/{}>", &hex[..2])]);
    let link = find(at, first, "open", &["_blobs>", &hex]);
    find(link, first, "fsync(", &["a/b/_blobs>"]);
    find(0, link, "fsync(", &["repositories/a>"]);
    find(0, link, "fsync(", &["repositories/a/b>"]);

    let hex = crate::support::digest_of(&manifest).hex();
    let at = find(first, second, "fsync(", &["uploads/tmp-"]);
    let at = find(at, second, "rename", &["tmp-", &hex]);
    let at = find(at, second, "fsync(", &[&format!("blobs/sha256/{}>", &hex[..2])]);
    let at = find(at, second, "rename", &["_manifests>", &hex]);
    let at = find(at, second, "fsync(", &["a/b/_manifests>"]);
    let at = find(at, second, "fsync(", &["uploads/tmp-"]);
    let at = find(at, second, "rename", &["_tags>", "\"t\""]);
    find(at, second, "fsync(", &["a/b/_tags>"]);
}

#[test]
fn leftovers_of_a_crash_go_at_the_next_start() {
    let registry = Registry::start();
    let location = registry.begin("a");
    registry.call("PATCH", &location, &[], b"some").expect(202);
    let dir = registry.stop();
    let uploads = dir.path().join("registry/uploads");
    fs::write(uploads.join("tmp-0123"), "half a manifest").unwrap();
    let odd = uploads.join("f".repeat(32));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("data"), "bytes without a state").unwrap();
    let registry = Registry::over(dir, |_| ());
    assert_eq!(fs::read_dir(registry.root().join("uploads")).unwrap().count(), 1);
    assert_eq!(stands(&registry, &location), 4);
}
