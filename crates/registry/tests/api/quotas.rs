//! Quotas: in all and below prefixes of names.

use std::thread;
use std::time::Duration;

use registry::Quota;

use crate::http::{Answer, Connection};
use crate::support::{Api, OCTETS, Registry, files, image, noise, sha256};

fn registry(quotas: &str) -> Registry {
    Registry::with(|config| {
        config.quotas = Quota::parse_list(quotas).unwrap();
        config.metrics = Some("127.0.0.1:0".parse().unwrap());
    })
}

/// Bytes in use as the metrics have them.
fn used(registry: &Registry, prefix: &str) -> u64 {
    let page = Connection::open(registry.metrics.unwrap()).call("GET", "/metrics", &[], b"").expect(200).text();
    let start = format!("dhow_registry_quota_used_bytes{{prefix=\"{prefix}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&start)).expect("a quota's use").parse().unwrap()
}

fn push(registry: &Registry, repository: &str, bytes: &[u8]) -> Answer {
    let target = format!("/v2/{repository}/blobs/uploads/?digest={}", sha256(bytes));
    registry.call("POST", &target, &[OCTETS], bytes)
}

#[test]
fn what_does_not_fit_is_refused_with_a_reason() {
    let registry = registry("100k,team=50k");
    push(&registry, "team/a", &noise(70, 40_000)).expect(201);
    let answer = push(&registry, "team/b", &noise(71, 20_000)).expect_error(507, "DENIED");
    let text = answer.text();
    assert!(text.contains("team/") && text.contains("51200") && text.contains("40000"), "{text}");
    // The same content again is no more content, for the prefix neither.
    let target = format!("/v2/team/b/blobs/uploads/?mount={}&from=team/a", sha256(&noise(70, 40_000)));
    registry.call("POST", &target, &[], b"").expect(201);
    push(&registry, "teams", &noise(71, 20_000)).expect(201);
    assert_eq!((used(&registry, ""), used(&registry, "team")), (60_000, 40_000));
    // By mounting, too.
    let target = format!("/v2/team/c/blobs/uploads/?mount={}&from=teams", sha256(&noise(71, 20_000)));
    registry.call("POST", &target, &[], b"").expect_error(507, "DENIED");
    push(&registry, "x", &noise(72, 50_000)).expect_error(507, "DENIED");
    assert_eq!((used(&registry, ""), used(&registry, "team")), (60_000, 40_000));
    assert!(files(&registry.root().join("uploads")).is_empty(), "what was refused left nothing");
    // Manifests count.
    push(&registry, "team/a", b"{}").expect(201);
    let mut manifest = image(b"{}", &[]);
    manifest["annotations"] = serde_json::json!({"pad": "p".repeat(15_000)});
    registry.put_manifest("team/a", "t", &manifest).expect_error(507, "DENIED");
    registry.get("/v2/team/a/manifests/t").expect(404);
    registry.put_manifest("team/a", "t", &image(b"{}", &[])).expect(201);
}

#[test]
fn uploads_in_progress_count_and_end_when_there_is_no_room() {
    let registry = registry("100k");
    let first = registry.begin("a");
    registry.call("PATCH", &first, &[], &noise(73, 60_000)).expect(202);
    push(&registry, "b", &noise(74, 50_000)).expect_error(507, "DENIED");
    let second = registry.begin("b");
    registry.call("PATCH", &second, &[], &noise(75, 50_000)).expect_error(507, "DENIED");
    registry.get(&second).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    // A length that is not announced, and larger than any buffer on the way.
    let third = registry.begin("c");
    let mut connection = registry.connect();
    connection.send_head("PATCH", &third, &[("Transfer-Encoding", "chunked")]);
    let piece = noise(76, 1 << 20);
    for _ in 0..8 {
        let _ = connection.send(format!("{:x}\r\n", piece.len()).as_bytes());
        let _ = connection.send(&piece);
        let _ = connection.send(b"\r\n");
    }
    if let Ok(answer) = connection.answer("PATCH") {
        answer.expect_error(507, "DENIED");
    }
    registry.get(&third).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    registry.delete(&first).expect(204);
    push(&registry, "b", &noise(74, 50_000)).expect(201);
    assert_eq!(used(&registry, ""), 50_000);
}

#[test]
fn room_comes_back_and_a_restart_counts_the_same() {
    let registry = registry("200k,team=100k,team/ci=30k");
    let digest = registry.push_image("team/ci/app", "t", &[&noise(77, 20_000)]);
    registry.push_image("team/app", "t", &[&noise(77, 20_000), &noise(78, 30_000)]);
    registry.push_image("other", "t", &[&noise(78, 30_000)]);
    push(&registry, "team/ci/b", &noise(79, 20_000)).expect_error(507, "DENIED");
    let all = |registry: &Registry| ["", "team", "team/ci"].map(|prefix| used(registry, prefix));
    let before = all(&registry);
    let dir = registry.stop();
    let again = |dir| {
        Registry::over(dir, |config| {
            config.quotas = Quota::parse_list("200k,team=100k,team/ci=30k").unwrap();
            config.metrics = Some("127.0.0.1:0".parse().unwrap());
        })
    };
    let registry = again(dir);
    assert_eq!(all(&registry), before);
    registry.delete(&format!("/v2/team/ci/app/manifests/{digest}")).expect(202);
    registry.collect(Duration::ZERO);
    let after = all(&registry);
    assert_eq!(after[2], 0);
    assert!(after[0] < before[0] && before[0] - after[0] < 20_000, "the layer is another's too: {before:?} {after:?}");
    push(&registry, "team/ci/b", &noise(79, 20_000)).expect(201);
    assert_eq!(all(&again(registry.stop()))[2], 20_000);
}

#[test]
fn clients_at_once_do_not_go_beyond_it() {
    let registry = registry("100k");
    let address = registry.address();
    let taken: usize = thread::scope(|scope| {
        let push = |client: u64| {
            let bytes = noise(80 + client, 30_000);
            let mut connection = Connection::open(address);
            let target = format!("/v2/r{client}/blobs/uploads/?digest={}", sha256(&bytes));
            usize::from(connection.call("POST", &target, &[OCTETS], &bytes).status == 201)
        };
        let clients: Vec<_> = (0..12).map(|client| scope.spawn(move || push(client))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!((1..=3).contains(&taken), "{taken}");
    let stored: u64 = files(&registry.root().join("blobs")).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(stored, 30_000 * taken as u64);
    assert_eq!(used(&registry, ""), stored);
}
