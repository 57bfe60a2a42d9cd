//! Pushing blobs in one or two requests, mounting them, and pushing manifests (distribution-spec, "Push").

use std::fs;
use std::sync::Barrier;
use std::thread;

use serde_json::json;

use crate::http::Connection;
use crate::support::{
    Api, OCI_INDEX, OCI_MANIFEST, OCTETS, Registry, assert_blobs_are_sound, descriptor, digest_of, files, image, noise,
    sha256,
};

#[test]
fn one_post_with_a_digest() {
    let registry = Registry::start();
    let bytes = noise(10, 600_000);
    let digest = sha256(&bytes);
    let target = format!("/v2/a/b/blobs/uploads/?digest={digest}");
    let answer = registry.call("POST", &target, &[OCTETS], &bytes).expect(201);
    assert_eq!(answer.must("location"), format!("/v2/a/b/blobs/{digest}"));
    assert_eq!(answer.must("docker-content-digest"), digest.to_string());
    assert!(registry.get(answer.must("location")).expect(200).body == bytes);
    registry.call("POST", &target, &[OCTETS], b"other").expect_error(400, "DIGEST_INVALID");
    registry
        .call("POST", "/v2/a/blobs/uploads/?digest=sha256:abc", &[OCTETS], b"x")
        .expect_error(400, "DIGEST_INVALID");
    let md5 = "/v2/a/blobs/uploads/?digest=md5:d41d8cd98f00b204e9800998ecf8427e";
    registry.call("POST", md5, &[OCTETS], b"").expect_error(400, "DIGEST_INVALID");
    assert_eq!(fs::read_dir(registry.root().join("uploads")).unwrap().count(), 0, "no upload stays");
}

#[test]
fn post_then_put() {
    let registry = Registry::start();
    let bytes = noise(11, 300_000);
    let digest = sha256(&bytes);
    let location = registry.begin("a");
    let answer = registry.call("PUT", &format!("{location}?digest={digest}"), &[OCTETS], &bytes).expect(201);
    assert_eq!(answer.must("location"), format!("/v2/a/blobs/{digest}"));
    assert!(registry.get(answer.must("location")).expect(200).body == bytes);
    // It ended, whoever asks.
    registry.get(&location).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    registry.call("PUT", &format!("{location}?digest={digest}"), &[], b"").expect_error(404, "BLOB_UPLOAD_UNKNOWN");

    let location = registry.begin("a");
    registry.call("PUT", &location, &[], &bytes).expect_error(400, "DIGEST_INVALID");
    registry.call("PUT", &format!("{location}?digest=nonsense"), &[], &bytes).expect_error(400, "DIGEST_INVALID");
    let text = registry.call("PUT", &format!("{location}?digest={}", sha256(b"x")), &[], &bytes);
    let text = text.expect_error(400, "DIGEST_INVALID").text();
    assert!(text.contains(&digest.to_string()), "it says what arrived: {text}");
    registry.get(&location).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    registry.get(&format!("/v2/a/blobs/{}", sha256(b"x"))).expect_error(404, "BLOB_UNKNOWN");
    assert_blobs_are_sound(&registry.root());
}

#[test]
fn a_client_that_asks_before_it_sends_is_told_to_go_on() {
    let registry = Registry::start();
    let location = registry.begin("a");
    let mut connection = registry.connect();
    let target = format!("{location}?digest={}", sha256(b"body"));
    connection.send_head("PUT", &target, &[("Content-Length", "4"), ("Expect", "100-continue")]);
    assert_eq!(connection.head().unwrap().status, 100);
    connection.send(b"body").unwrap();
    connection.answer("PUT").unwrap().expect(201);
    // And is not, when there is nothing to send it to.
    connection.send_head("PUT", &target, &[("Content-Length", "4"), ("Expect", "100-continue")]);
    assert_eq!(connection.head().unwrap().status, 404);
}

#[test]
fn a_blob_is_mounted_from_a_repository_that_has_it() {
    let registry = Registry::start();
    let digest = registry.push_blob("from/here", b"content");
    let target = format!("/v2/to/blobs/uploads/?mount={digest}&from=from%2Fhere");
    let answer = registry.call("POST", &target, &[], b"").expect(201);
    assert_eq!(answer.must("location"), format!("/v2/to/blobs/{digest}"));
    assert_eq!(answer.must("docker-content-digest"), digest.to_string());
    assert_eq!(registry.get(&format!("/v2/to/blobs/{digest}")).expect(200).text(), "content");
    // Otherwise an upload begins: unknown there, no such repository, no source, nonsense.
    let missing = sha256(b"missing");
    for query in [
        format!("mount={missing}&from=from/here"),
        format!("mount={digest}&from=nowhere"),
        format!("mount={digest}"),
        format!("mount={digest}&from=../from"),
        "mount=nonsense&from=from/here".to_owned(),
    ] {
        let answer = registry.call("POST", &format!("/v2/other/blobs/uploads/?{query}"), &[], b"").expect(202);
        assert!(answer.must("location").starts_with("/v2/other/blobs/uploads/"), "{query}");
    }
    registry.get(&format!("/v2/other/blobs/{digest}")).expect_error(404, "BLOB_UNKNOWN");
    // One file, whoever links to it.
    assert_eq!(files(&registry.root().join("blobs")).len(), 1);
}

#[test]
fn many_clients_push_one_blob_at_once() {
    let registry = Registry::start();
    let bytes = noise(12, 900_000);
    let digest = sha256(&bytes);
    let address = registry.address();
    let start = Barrier::new(12);
    thread::scope(|scope| {
        for client in 0..12 {
            let (bytes, start) = (&bytes, &start);
            scope.spawn(move || {
                let repository = format!("r{}", client % 3);
                let mut connection = Connection::open(address);
                let begun = connection.call("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"").expect(202);
                start.wait();
                let target = format!("{}?digest={digest}", begun.must("location"));
                connection.call("PUT", &target, &[], bytes).expect(201);
                let read = connection.call("GET", &format!("/v2/{repository}/blobs/{digest}"), &[], b"").expect(200);
                assert!(read.body == *bytes);
            });
        }
    });
    assert_eq!(files(&registry.root().join("blobs")).len(), 1);
    assert_blobs_are_sound(&registry.root());
    assert_eq!(fs::read_dir(registry.root().join("uploads")).unwrap().count(), 0);
}

#[test]
fn a_manifest_needs_what_it_names() {
    let registry = Registry::start();
    let (config, layer) = (&b"{}"[..], &b"layer"[..]);
    let manifest = image(config, &[layer]);
    let answer = registry.put_manifest("a", "v1", &manifest).expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    let details: Vec<String> =
        answer.json()["errors"].as_array().unwrap().iter().map(|e| e["detail"].to_string()).collect();
    assert!(details.len() == 2 && details[0].contains(&sha256(config).to_string()), "{details:?}");
    registry.get("/v2/a/manifests/v1").expect_error(404, "MANIFEST_UNKNOWN");
    registry.push_blob("a", config);
    // Another repository's blob does not count.
    registry.push_blob("b", layer);
    let answer = registry.put_manifest("a", "v1", &manifest).expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    assert!(answer.text().contains(&sha256(layer).to_string()) && !answer.text().contains(&sha256(config).to_string()));
    registry.push_blob("a", layer);
    let answer = registry.put_manifest("a", "v1", &manifest).expect(201);
    assert_eq!(answer.must("location"), format!("/v2/a/manifests/{}", digest_of(&manifest)));
    assert_eq!(answer.must("docker-content-digest"), digest_of(&manifest).to_string());
    assert!(answer.header("oci-subject").is_none());

    let mut lying = manifest.clone();
    lying["layers"][0]["size"] = json!(6);
    registry.put_manifest("a", "v2", &lying).expect_error(400, "MANIFEST_INVALID");
    // Layers that are fetched from elsewhere need not be here.
    let mut foreign = image(config, &[b"not here"]);
    foreign["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    registry.put_manifest("a", "foreign", &foreign).expect(201);
    // An artifact without layers.
    registry.put_manifest("a", "none", &image(config, &[])).expect(201);
}

#[test]
fn a_manifest_is_stored_under_its_own_digest_and_type_alone() {
    let registry = Registry::start();
    registry.push_blob("a", b"{}");
    let manifest = image(b"{}", &[]);
    let digest = digest_of(&manifest).to_string();
    registry.put_manifest("a", &sha256(b"x").to_string(), &manifest).expect_error(400, "DIGEST_INVALID");
    registry.put_manifest("a", &digest, &manifest).expect(201);
    registry.get(&format!("/v2/a/manifests/{digest}")).expect(200);
    assert_eq!(registry.get("/v2/a/tags/list").expect(200).json()["tags"], json!([]), "by digest makes no tag");

    let put = |kind: &[(&str, &str)], body: &[u8]| registry.call("PUT", "/v2/a/manifests/t", kind, body);
    let text = manifest.to_string();
    put(&[("Content-Type", OCI_INDEX)], text.as_bytes()).expect_error(400, "MANIFEST_INVALID");
    put(&[("Content-Type", "application/json")], text.as_bytes()).expect_error(400, "MANIFEST_INVALID");
    put(&[("Content-Type", OCI_MANIFEST)], b"").expect_error(400, "MANIFEST_INVALID");
    put(&[("Content-Type", OCI_MANIFEST)], b"{}").expect_error(400, "MANIFEST_INVALID");
    put(&[("Content-Type", OCI_MANIFEST)], &text.as_bytes()[1..]).expect_error(400, "MANIFEST_INVALID");
    let twice = text.replacen("\"layers\"", "\"layers\":[],\"layers\"", 1);
    put(&[("Content-Type", OCI_MANIFEST)], twice.as_bytes()).expect_error(400, "MANIFEST_INVALID");
    registry.get("/v2/a/manifests/t").expect_error(404, "MANIFEST_UNKNOWN");
    // Parameters of the type, and none at all where the document has one.
    put(&[("Content-Type", &format!("{OCI_MANIFEST}; charset=utf-8"))], text.as_bytes()).expect(201);
    put(&[], text.as_bytes()).expect(201);
    assert_eq!(registry.get("/v2/a/manifests/t").expect(200).must("content-type"), OCI_MANIFEST);
}

#[test]
fn a_tag_moves_and_the_old_manifest_stays() {
    let registry = Registry::start();
    let first = registry.push_image("a", "latest", &[b"one"]);
    let second = registry.push_image("a", "latest", &[b"two"]);
    assert_eq!(registry.head("/v2/a/manifests/latest").must("docker-content-digest"), second.to_string());
    registry.get(&format!("/v2/a/manifests/{first}")).expect(200);
}

#[test]
fn an_index_and_a_manifest_of_docker() {
    let registry = Registry::start();
    registry.push_blob("d", b"{}");
    let inner = json!({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": descriptor("application/vnd.docker.container.image.v1+json", b"{}"), "layers": []});
    registry.put_manifest("d", "v2", &inner).expect(201);
    let kind = "application/vnd.docker.distribution.manifest.list.v2+json";
    let list = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [
        descriptor(inner["mediaType"].as_str().unwrap(), inner.to_string().as_bytes())]});
    registry.put_manifest("d", "list", &list).expect(201);
    assert_eq!(registry.get("/v2/d/manifests/list").expect(200).must("content-type"), kind);
    // The first schema carries signatures that nobody checks.
    let old = json!({"schemaVersion": 1, "mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"});
    registry.put_manifest("d", "v1", &old).expect_error(400, "MANIFEST_INVALID");
}
