//! Content management: tags, manifests and blobs are removed (distribution-spec, "Content Management").

use serde_json::json;

use crate::support::{Api, Registry, sha256};

#[test]
fn a_tag_goes_and_its_manifest_stays() {
    let registry = Registry::start();
    let digest = registry.push_image("a", "one", &[b"layer"]);
    let config = br#"{"os":"linux","architecture":"amd64","tag":"one"}"#;
    let manifest = crate::support::image(config, &[b"layer"]);
    registry.put_manifest("a", "two", &manifest).expect(201);
    registry.delete("/v2/a/manifests/one").expect(202);
    registry.delete("/v2/a/manifests/one").expect_error(404, "MANIFEST_UNKNOWN");
    registry.get("/v2/a/manifests/one").expect_error(404, "MANIFEST_UNKNOWN");
    registry.get("/v2/a/manifests/two").expect(200);
    registry.get(&format!("/v2/a/manifests/{digest}")).expect(200);
    assert_eq!(registry.get("/v2/a/tags/list").json()["tags"], json!(["two"]));
}

#[test]
fn a_manifest_goes_with_its_tags() {
    let registry = Registry::start();
    let digest = registry.push_image("a", "one", &[b"layer"]);
    let other = registry.push_image("a", "other", &[b"layer"]);
    registry.delete(&format!("/v2/a/manifests/{digest}")).expect(202);
    registry.get(&format!("/v2/a/manifests/{digest}")).expect_error(404, "MANIFEST_UNKNOWN");
    registry.get("/v2/a/manifests/one").expect_error(404, "MANIFEST_UNKNOWN");
    registry.delete(&format!("/v2/a/manifests/{digest}")).expect_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(registry.get("/v2/a/tags/list").expect(200).json()["tags"], json!(["other"]));
    registry.get(&format!("/v2/a/manifests/{other}")).expect(200);
    // The repository is there without a manifest, and can be pushed to again.
    registry.delete(&format!("/v2/a/manifests/{other}")).expect(202);
    assert_eq!(registry.get("/v2/a/tags/list").expect(200).json()["tags"], json!([]));
    assert_eq!(registry.push_image("a", "one", &[b"layer"]), digest);
    registry.get("/v2/a/manifests/one").expect(200);
}

#[test]
fn a_blob_goes_from_one_repository_alone() {
    let registry = Registry::start();
    let digest = registry.push_blob("a", b"content");
    registry.push_blob("b", b"content");
    registry.delete(&format!("/v2/a/blobs/{digest}")).expect(202);
    registry.get(&format!("/v2/a/blobs/{digest}")).expect_error(404, "BLOB_UNKNOWN");
    registry.delete(&format!("/v2/a/blobs/{digest}")).expect_error(404, "BLOB_UNKNOWN");
    assert_eq!(registry.get(&format!("/v2/b/blobs/{digest}")).expect(200).text(), "content");
    registry.delete(&format!("/v2/a/blobs/{}", sha256(b"never"))).expect_error(404, "BLOB_UNKNOWN");
    registry.push_blob("a", b"content");
    registry.get(&format!("/v2/a/blobs/{digest}")).expect(200);
}

#[test]
fn methods_that_are_not_offered() {
    let registry = Registry::start();
    registry.push_image("a", "t", &[]);
    for (method, target) in [
        ("DELETE", "/v2/a/tags/list"),
        ("POST", "/v2/a/manifests/t"),
        ("PATCH", "/v2/a/manifests/t"),
        ("PUT", "/v2/_catalog"),
        ("GET", "/v2/a/blobs/uploads/"),
        ("OPTIONS", "/v2/"),
    ] {
        registry.call(method, target, &[], b"").expect_error(405, "UNSUPPORTED");
    }
    registry.call("PUT", &format!("/v2/a/blobs/{}", sha256(b"x")), &[], b"x").expect_error(405, "UNSUPPORTED");
    registry.get("/v2/a/manifests/t").expect(200);
}
