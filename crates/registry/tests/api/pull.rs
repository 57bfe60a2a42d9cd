//! Pulling: blobs, their ranges, manifests by tag and digest (distribution-spec, "Pull").

use crate::support::{Api, OCI_INDEX, OCI_MANIFEST, Registry, descriptor, digest_of, image, noise, sha256};
use serde_json::json;

#[test]
fn the_base_says_which_api_it_is() {
    let registry = Registry::start();
    for target in ["/v2/", "/v2"] {
        let answer = registry.get(target).expect(200);
        assert_eq!(answer.must("docker-distribution-api-version"), "registry/2.0");
        assert_eq!(answer.json(), json!({}));
        assert!(registry.head(target).expect(200).body.is_empty());
    }
    registry.call("PUT", "/v2/", &[], b"").expect_error(405, "UNSUPPORTED");
    registry.get("/").expect_error(404, "UNSUPPORTED");
    registry.get("/v1/_ping").expect_error(404, "UNSUPPORTED");
}

#[test]
fn a_blob_is_read_whole_and_its_head_tells_the_same() {
    let registry = Registry::start();
    // Several pieces of the file and an odd rest; one byte; nothing.
    for bytes in [noise(1, 1_000_003), b"x".to_vec(), Vec::new()] {
        let digest = registry.push_blob("team/app", &bytes);
        let target = format!("/v2/team/app/blobs/{digest}");
        let answer = registry.get(&target).expect(200);
        assert!(answer.body == bytes, "{} of {} bytes", answer.body.len(), bytes.len());
        let head = registry.head(&target).expect(200);
        for answer in [&answer, &head] {
            assert_eq!(answer.must("content-length"), bytes.len().to_string());
            assert_eq!(answer.must("docker-content-digest"), digest.to_string());
            assert_eq!(answer.must("content-type"), "application/octet-stream");
            assert_eq!(answer.must("accept-ranges"), "bytes");
            assert_eq!(answer.must("etag"), format!("\"{digest}\""));
        }
        let escaped = target.replace("sha256:", "sha256%3A");
        registry.get(&escaped).expect(200);
        registry.call("GET", &target, &[("If-None-Match", head.must("etag"))], b"").expect(304);
    }
    let missing = sha256(b"missing");
    registry.get(&format!("/v2/team/app/blobs/{missing}")).expect_error(404, "BLOB_UNKNOWN");
    let head = registry.head(&format!("/v2/team/app/blobs/{missing}")).expect(404);
    assert_ne!(head.must("content-length"), "0", "what GET would say");
    // Content is reached through the repositories that have it.
    registry.get(&format!("/v2/other/blobs/{}", sha256(b"x"))).expect_error(404, "BLOB_UNKNOWN");
}

#[test]
fn ranges_of_a_blob() {
    let registry = Registry::start();
    let bytes = noise(2, 700_000);
    let digest = registry.push_blob("a", &bytes);
    let target = format!("/v2/a/blobs/{digest}");
    let size = bytes.len();
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=262143-262145", 262_143, 262_146),
        ("bytes=699999-", 699_999, 700_000),
        ("bytes=5-9999999", 5, 700_000),
        ("bytes=-10", 699_990, 700_000),
    ] {
        let answer = registry.call("GET", &target, &[("Range", range)], b"").expect(206);
        assert!(answer.body == bytes[start..end], "{range}");
        assert_eq!(answer.must("content-range"), format!("bytes {start}-{}/{size}", end - 1));
        let head = registry.call("HEAD", &target, &[("Range", range)], b"").expect(206);
        assert_eq!(head.must("content-length"), (end - start).to_string());
    }
    for range in ["bytes=700000-", "bytes=700000-700001", "bytes=-0"] {
        let answer = registry.call("GET", &target, &[("Range", range)], b"");
        assert_eq!(answer.expect_error(416, "SIZE_INVALID").must("content-range"), "bytes */700000");
    }
    // What a server may ignore is ignored; a range of something else is not given.
    for headers in [
        &[("Range", "bytes=0-1,4-5")][..],
        &[("Range", "lines=0-1")],
        &[("Range", "bytes=9-1")],
        &[("Range", "bytes=0-1"), ("If-Range", "\"other\"")],
    ] {
        assert_eq!(registry.call("GET", &target, headers, b"").expect(200).body.len(), size);
    }
    let tag = format!("\"{digest}\"");
    registry.call("GET", &target, &[("Range", "bytes=0-1"), ("If-Range", &tag)], b"").expect(206);
}

#[test]
fn a_manifest_is_sent_as_it_was_pushed() {
    let registry = Registry::start();
    let layer = noise(3, 5000);
    let digest = registry.push_image("a/b/c", "v1", &[&layer]);
    let config = br#"{"os":"linux","architecture":"amd64","tag":"v1"}"#;
    let text = image(config, &[&layer]).to_string();
    for reference in ["v1", &digest.to_string(), &digest.to_string().replace(':', "%3a")] {
        let target = format!("/v2/a/b/c/manifests/{reference}");
        let accept = [("Accept", OCI_MANIFEST)];
        let answer = registry.call("GET", &target, &accept, b"").expect(200);
        assert_eq!(answer.text(), text);
        let head = registry.call("HEAD", &target, &accept, b"").expect(200);
        for answer in [&answer, &head] {
            assert_eq!(answer.must("content-type"), OCI_MANIFEST);
            assert_eq!(answer.must("content-length"), text.len().to_string());
            assert_eq!(answer.must("docker-content-digest"), digest.to_string());
        }
        registry.call("GET", &target, &[("If-None-Match", answer.must("etag"))], b"").expect(304);
    }
    registry.get("/v2/a/b/c/manifests/v2").expect_error(404, "MANIFEST_UNKNOWN");
    registry.head("/v2/a/b/c/manifests/v2").expect(404);
    registry.get("/v2/none/manifests/v1").expect_error(404, "MANIFEST_UNKNOWN");
    registry.get(&format!("/v2/none/manifests/{digest}")).expect_error(404, "MANIFEST_UNKNOWN");
    registry.get(&format!("/v2/a/b/c/manifests/{}", sha256(b"x"))).expect_error(404, "MANIFEST_UNKNOWN");
    // A blob is no manifest and a manifest no blob.
    registry.get(&format!("/v2/a/b/c/manifests/{}", sha256(&layer))).expect_error(404, "MANIFEST_UNKNOWN");
    registry.get(&format!("/v2/a/b/c/blobs/{digest}")).expect_error(404, "BLOB_UNKNOWN");
}

#[test]
fn an_index_leads_to_its_manifests() {
    let registry = Registry::start();
    let one = registry.push_image("multi", "one", &[b"one"]);
    let config = br#"{"os":"linux","architecture":"amd64","tag":"one"}"#;
    let inner = image(config, &[b"one"]);
    assert_eq!(digest_of(&inner), one);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, inner.to_string().as_bytes())]});
    registry.put_manifest("multi", "all", &index).expect(201);
    let answer = registry.get("/v2/multi/manifests/all").expect(200);
    assert_eq!((answer.must("content-type"), answer.text()), (OCI_INDEX, index.to_string()));
    // What it names must be there, in this repository.
    registry.put_manifest("elsewhere", "all", &index).expect_error(404, "MANIFEST_BLOB_UNKNOWN");
}

#[test]
fn one_connection_serves_many_requests() {
    let registry = Registry::start();
    let bytes = noise(4, 300_000);
    let digest = registry.push_blob("a", &bytes);
    let target = format!("/v2/a/blobs/{digest}");
    let mut connection = registry.connect();
    for _ in 0..20 {
        assert!(connection.call("GET", &target, &[], b"").expect(200).body == bytes);
        connection.call("HEAD", &target, &[], b"").expect(200);
        connection.call("GET", "/v2/a/manifests/none", &[], b"").expect(404);
    }
    // Sent at once, answered in order.
    for _ in 0..3 {
        connection.send_head("GET", &target, &[("Range", "bytes=1-2")]);
        connection.send_head("GET", &target, &[("Range", "bytes=77777-277777")]);
        connection.send_head("GET", "/v2/", &[]);
    }
    for _ in 0..3 {
        assert_eq!(connection.answer("GET").unwrap().expect(206).body, &bytes[1..3]);
        assert!(connection.answer("GET").unwrap().expect(206).body == bytes[77_777..277_778]);
        connection.answer("GET").unwrap().expect(200);
    }
}
