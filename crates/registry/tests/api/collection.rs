//! Garbage collection: what goes, what stays, and that nothing is lost while clients push and it runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use registry::Collected;
use serde_json::json;

use crate::http::Connection;
use crate::support::{Api, OCI_INDEX, OCI_MANIFEST, Registry, descriptor, files, image, noise, sha256};

/// Nothing is old enough.
const LONG: Duration = Duration::from_secs(3600);
/// Everything is.
const NOTHING: Duration = Duration::ZERO;

#[test]
fn what_is_referred_to_stays() {
    let registry = Registry::start();
    let kept = registry.push_image("kept", "t", &[b"layer", b"shared"]);
    let inner = image(br#"{"os":"linux","architecture":"amd64","tag":"t"}"#, &[b"layer", b"shared"]);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, inner.to_string().as_bytes())]});
    registry.put_manifest("kept", "index", &index).expect(201);
    let gone = registry.push_image("gone", "t", &[b"alone", b"shared"]);
    let loose = registry.push_blob("kept", b"loose");
    let location = registry.begin("kept");
    registry.call("PATCH", &location, &[], b"in progress").expect(202);
    registry.delete(&format!("/v2/gone/manifests/{gone}")).expect(202);

    assert_eq!(registry.collect(LONG), Collected::default(), "all of it is younger");
    registry.get(&format!("/v2/kept/blobs/{loose}")).expect(200);
    let done = registry.collect(NOTHING);
    // Links: `loose`; of `gone` its configuration and layers. Files: `loose`, `alone`, the manifest of `gone`; its
    // configuration is the same as that of `kept`.
    assert_eq!((done.links, done.blobs, done.repositories), (4, 3, 1), "{done:?}");
    assert_eq!(done.bytes, 5 + 5 + 1 + registry_manifest_size());
    registry.get(&format!("/v2/kept/blobs/{loose}")).expect_error(404, "BLOB_UNKNOWN");
    registry.get("/v2/gone/tags/list").expect_error(404, "NAME_UNKNOWN");
    registry.get(&format!("/v2/kept/manifests/{kept}")).expect(200);
    registry.get("/v2/kept/manifests/index").expect(200);
    for layer in [&b"layer"[..], b"shared"] {
        registry.get(&format!("/v2/kept/blobs/{}", sha256(layer))).expect(200);
    }
    assert!(!registry.root().join("repositories/gone").exists());
    assert_eq!(registry.get(&location).expect(204).must("range"), "0-10");
    assert_eq!(registry.collect(NOTHING), Collected::default());
    registry.push_image("gone", "t", &[b"alone", b"shared"]);
    registry.get("/v2/gone/manifests/t").expect(200);
}

/// Bytes of `loose`, `alone` are counted by the caller; this is the manifest's part, less one.
fn registry_manifest_size() -> u64 {
    let manifest = image(br#"{"os":"linux","architecture":"amd64","tag":"t"}"#, &[b"alone", b"shared"]);
    manifest.to_string().len() as u64 - 1
}

#[test]
fn who_asked_for_a_blob_has_time_to_refer_to_it() {
    let registry = Registry::start();
    let digest = registry.push_blob("a", b"old");
    let other = registry.push_blob("a", b"older");
    let age = |name: String| {
        let old = std::time::SystemTime::now() - Duration::from_secs(7200);
        let path = registry.root().join("repositories/a/_blobs").join(name);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    };
    age(digest.hex());
    age(other.hex());
    registry.head(&format!("/v2/a/blobs/{digest}")).expect(200);
    let done = registry.collect(LONG);
    assert_eq!(done.links, 1, "{done:?}");
    registry.get(&format!("/v2/a/blobs/{digest}")).expect(200);
    registry.get(&format!("/v2/a/blobs/{other}")).expect_error(404, "BLOB_UNKNOWN");
}

#[test]
fn a_repository_below_another_that_goes_stays() {
    let registry = Registry::start();
    let above = registry.push_image("a", "t", &[]);
    registry.push_image("a/b/c", "t", &[]);
    registry.delete(&format!("/v2/a/manifests/{above}")).expect(202);
    assert_eq!(registry.collect(NOTHING).repositories, 1);
    registry.get("/v2/a/b/c/manifests/t").expect(200);
    registry.get("/v2/a/tags/list").expect_error(404, "NAME_UNKNOWN");
}

#[test]
fn a_manifest_that_cannot_be_read_stops_the_removal_of_files() {
    let registry = Registry::start();
    let digest = registry.push_image("a", "t", &[b"layer"]);
    registry.push_blob("z", b"loose");
    let hex = digest.hex();
    let file = registry.root().join("blobs/sha256").join(&hex[..2]).join(&hex);
    let before = files(&registry.root().join("blobs")).len();
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "{damaged").unwrap();
    assert!(registry.runtime.block_on(registry.control.collect(NOTHING)).is_none());
    assert_eq!(files(&registry.root().join("blobs")).len(), before);
    registry.get(&format!("/v2/a/blobs/{}", sha256(b"layer"))).expect(200);
}

#[test]
fn nothing_that_was_acknowledged_is_lost_while_collections_run() {
    let registry = Registry::start();
    let (address, stop) = (registry.address(), AtomicBool::new(false));
    let shared = noise(40, 100_000);
    let pushed = thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                registry.runtime.block_on(registry.control.collect(NOTHING));
                count += 1;
            }
            count
        });
        let pushers: Vec<_> = (0..4_u64)
            .map(|client| {
                let shared = &shared;
                scope.spawn(move || push_for_a_while(&mut Connection::open(address), client, shared, 25))
            })
            .collect();
        let pushed: Vec<BTreeMap<String, Vec<Vec<u8>>>> = pushers.into_iter().map(|p| p.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(collector.join().unwrap() > 3, "the collections ran beside the pushes");
        pushed
    });
    let mut connection = registry.connect();
    for (target, blobs) in pushed.into_iter().flatten() {
        connection.call("GET", &target, &[], b"").expect(200);
        let repository = target.split_once("/manifests/").unwrap().0;
        for blob in blobs {
            let answer = connection.call("GET", &format!("{repository}/blobs/{}", sha256(&blob)), &[], b"").expect(200);
            assert!(answer.body == blob);
        }
    }
}

/// Pushes images as a client does that is in the middle of a collection without a grace period: what it is told is
/// missing it pushes again. Returns what was acknowledged and not deleted since.
pub fn push_for_a_while(
    connection: &mut Connection,
    client: u64,
    shared: &[u8],
    rounds: u64,
) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut kept = BTreeMap::new();
    for round in 0..rounds {
        let repository = format!("/v2/r{}/c{client}", round % 3);
        let own = noise(1000 + client * 100 + round, 10_000);
        let config = format!(r#"{{"client":{client},"round":{round}}}"#).into_bytes();
        let blobs = vec![config.clone(), own.clone(), shared.to_vec()];
        let manifest = image(&config, &[&own, shared]).to_string();
        let target = format!("{repository}/manifests/t{round}");
        let mut tries = 0;
        loop {
            for blob in &blobs {
                let digest = sha256(blob);
                if connection.call("HEAD", &format!("{repository}/blobs/{digest}"), &[], b"").status == 200 {
                    continue;
                }
                let mounted = format!("{repository}/blobs/uploads/?mount={digest}&from=r{}/c{client}", (round + 1) % 3);
                let begun = connection.call("POST", &mounted, &[], b"");
                if begun.status == 202 {
                    let end = format!("{}?digest={digest}", begun.must("location"));
                    connection.call("PUT", &end, &[], blob).expect(201);
                }
            }
            let answer = connection.call("PUT", &target, &[("Content-Type", OCI_MANIFEST)], manifest.as_bytes());
            if answer.status == 201 {
                break;
            }
            answer.expect_error(404, "MANIFEST_BLOB_UNKNOWN");
            tries += 1;
            assert!(tries < 1000, "the collector always comes first");
        }
        if round % 4 == 3 {
            let digest = sha256(manifest.as_bytes());
            connection.call("DELETE", &format!("{repository}/manifests/{digest}"), &[], b"").expect(202);
        } else {
            kept.insert(target, blobs);
        }
    }
    kept
}
