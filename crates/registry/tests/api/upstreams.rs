//! Pulling through: one registry of ours in front of another.

use std::fs;
use std::thread;
use std::time::Duration;

use registry::Upstream;
use serde_json::json;

use crate::http::Connection;
use crate::support::{
    Api, OCI_INDEX, OCI_MANIFEST, Registry, assert_blobs_are_sound, descriptor, files, image, noise, sha256,
};

/// A registry in front of another.
fn cache(upstream: &Registry) -> Registry {
    Registry::with(|config| {
        config.upstreams = Upstream::parse_list(&format!("copy={}", upstream.address())).unwrap();
    })
}

fn sent(registry: &Registry) -> u64 {
    let page = Connection::open(registry.metrics.unwrap()).call("GET", "/metrics", &[], b"").expect(200).text();
    page.lines().find_map(|line| line.strip_prefix("dhow_registry_sent_bytes_total ")).unwrap().parse().unwrap()
}

#[test]
fn content_comes_when_it_is_asked_for_and_stays() {
    let upstream = Registry::start();
    let layer = noise(90, 3_000_001);
    let inner = upstream.push_image("team/app", "one", &[&layer, b""]);
    let manifest = image(br#"{"os":"linux","architecture":"amd64","tag":"one"}"#, &[&layer, b""]);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, manifest.to_string().as_bytes())]});
    upstream.put_manifest("team/app", "v1", &index).expect(201);
    let cache = cache(&upstream);
    let top = cache.get("/v2/copy/team/app/manifests/v1").expect(200);
    assert_eq!((top.must("content-type"), top.text()), (OCI_INDEX, index.to_string()));
    assert!(files(&cache.root().join("blobs")).len() == 1, "nothing comes that was not asked for");
    cache.get(&format!("/v2/copy/team/app/manifests/{inner}")).expect(200);
    let blob = format!("/v2/copy/team/app/blobs/{}", sha256(&layer));
    // A part of it first, while it arrives.
    let part = cache.call("GET", &blob, &[("Range", "bytes=2000000-2000009")], b"").expect(206);
    assert_eq!(part.body, &layer[2_000_000..2_000_010]);
    for _ in 0..2 {
        assert!(cache.get(&blob).expect(200).body == layer);
    }
    let empty = cache.get(&format!("/v2/copy/team/app/blobs/{}", sha256(b""))).expect(200);
    assert!(empty.body.is_empty());
    cache.get(&format!("/v2/copy/team/app/blobs/{}", sha256(b"none"))).expect_error(404, "BLOB_UNKNOWN");
    cache.get("/v2/copy/team/app/manifests/none").expect_error(404, "MANIFEST_UNKNOWN");
    cache.get("/v2/copy/nowhere/manifests/v1").expect_error(404, "MANIFEST_UNKNOWN");
    assert_blobs_are_sound(&cache.root());

    // A tag that moves is followed.
    let second = upstream.push_image("team/app", "v1", &[b"two"]);
    assert_eq!(
        cache.head("/v2/copy/team/app/manifests/v1").expect(200).must("docker-content-digest"),
        second.to_string()
    );
    // Without the upstream, what is here is served, also after a restart and a collection.
    upstream.stop();
    cache.collect(Duration::ZERO);
    let tag = cache.get("/v2/copy/team/app/manifests/v1").expect(200);
    assert_eq!(tag.must("docker-content-digest"), second.to_string());
    assert!(cache.get(&blob).expect(200).body == layer);
    cache.get(&format!("/v2/copy/team/app/blobs/{}", sha256(b"two"))).expect_error(502, "UNKNOWN");
    cache.get("/v2/copy/team/app/manifests/v2").expect_error(502, "UNKNOWN");
    assert!(files(&cache.root().join("uploads")).is_empty());
}

#[test]
fn copies_are_not_pushed_to_and_others_are() {
    let upstream = Registry::start();
    let cache = cache(&upstream);
    cache.call("POST", "/v2/copy/a/blobs/uploads/", &[], b"").expect_error(405, "UNSUPPORTED");
    cache.put_manifest("copy/a", "t", &image(b"{}", &[])).expect_error(405, "UNSUPPORTED");
    cache.push_image("own", "t", &[b"layer"]);
    cache.push_image("copy", "t", &[b"layer"]);
    cache.push_image("copying/a", "t", &[b"layer"]);
    // Removed here it comes again.
    let digest = upstream.push_image("a", "t", &[b"layer"]);
    for _ in 0..2 {
        cache.get("/v2/copy/a/manifests/t").expect(200);
        cache.delete(&format!("/v2/copy/a/manifests/{digest}")).expect(202);
    }
}

#[test]
fn many_clients_at_once_are_one_download() {
    let upstream = Registry::with(|config| config.metrics = Some("127.0.0.1:0".parse().unwrap()));
    let layer = noise(91, 20_000_000);
    let digest = upstream.push_blob("a", &layer);
    let cache = cache(&upstream);
    let address = cache.address();
    thread::scope(|scope| {
        for client in 0..10_usize {
            let layer = &layer;
            scope.spawn(move || {
                let mut connection = Connection::open(address);
                let target = format!("/v2/copy/a/blobs/{digest}");
                if client == 3 {
                    // One that goes away in the middle harms nobody.
                    connection.send_head("GET", &target, &[]);
                    connection.head().unwrap();
                    return;
                }
                assert!(connection.call("GET", &target, &[], b"").expect(200).body == *layer);
            });
        }
    });
    // The blob, and the first byte by which its size was asked.
    assert_eq!(sent(&upstream), 20_000_001);
}

#[test]
fn content_that_is_not_what_its_digest_says_is_not_given_whole_and_does_not_stay() {
    let upstream = Registry::start();
    let layer = noise(92, 1_000_000);
    let digest = upstream.push_blob("a", &layer);
    let hex = digest.hex();
    let file = upstream.root().join("blobs/sha256").join(&hex[..2]).join(&hex);
    let mut damaged = layer.clone();
    damaged[500_000] ^= 1;
    fs::remove_file(&file).unwrap();
    fs::write(&file, &damaged).unwrap();
    let cache = cache(&upstream);
    let target = format!("/v2/copy/a/blobs/{digest}");
    for _ in 0..2 {
        let mut connection = cache.connect();
        connection.send_head("GET", &target, &[]);
        assert!(connection.answer("GET").is_err(), "the answer breaks off");
    }
    // The end of the upload follows that of the answer.
    for _ in 0..500 {
        if files(&cache.root().join("uploads")).is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert!(files(&cache.root().join("uploads")).is_empty() && files(&cache.root().join("blobs")).is_empty());
    fs::write(&file, &layer).unwrap();
    assert!(cache.get(&target).expect(200).body == layer);
}

#[test]
fn upstreams_that_want_a_login_get_theirs_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (users, access) = (dir.path().join("users"), dir.path().join("access"));
    fs::write(&users, format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    fs::write(&access, "allow user:ann ** pull push\n").unwrap();
    let upstream = Registry::with(|config| {
        config.passwords = Some(users);
        config.access = Some(access);
    });
    let login = ("Authorization", "Basic YW5uOnNlY3JldA==");
    let target = format!("/v2/a/blobs/uploads/?digest={}", sha256(b"{}"));
    upstream.call("POST", &target, &[login], b"{}").expect(201);
    let manifest = image(b"{}", &[]).to_string();
    upstream.call("PUT", "/v2/a/manifests/t", &[login], manifest.as_bytes()).expect(201);
    let without = cache(&upstream);
    without.get("/v2/copy/a/manifests/t").expect_error(403, "DENIED");
    let logins = dir.path().join("config.json");
    fs::write(&logins, format!(r#"{{"auths":{{"{}":{{"auth":"YW5uOnNlY3JldA=="}}}}}}"#, upstream.address())).unwrap();
    let with = Registry::with(|config| {
        config.upstreams = Upstream::parse_list(&upstream.address().to_string()).unwrap();
        Upstream::read_logins(&mut config.upstreams, &logins).unwrap();
    });
    with.get("/v2/a/manifests/t").expect(200);
    assert_eq!(with.get(&format!("/v2/a/blobs/{}", sha256(b"{}"))).expect(200).text(), "{}");
}
