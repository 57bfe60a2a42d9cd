//! The registry over a bucket: the same API, nothing acknowledged that the bucket has not, and a server's directory that
//! can be lost.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bucket::{Bucket, NAME, Over, Way, stored};
use crate::collection::push_for_a_while;
use crate::crash::{push_until_killed, stands};
use crate::http::Connection;
use crate::support::{Api, OCI_INDEX, OCI_MANIFEST, OCTETS, Registry, descriptor, digest_of, image, noise, sha256};

/// Keys below the registry's prefix.
fn keys(bucket: &Bucket, below: &str) -> Vec<String> {
    bucket.keys(&format!("some/where/{below}"))
}

fn blob_key(bytes: &[u8]) -> String {
    let hex = sha256(bytes).hex();
    format!("some/where/blobs/sha256/{}/{hex}", &hex[..2])
}

#[test]
fn content_goes_into_the_bucket_and_comes_from_there() {
    let Some(bucket) = Bucket::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("registry");
    let registry = Over::bucket(bucket.address).start(&root);

    // In chunks, and large enough for several parts.
    let layer = noise(200, 21 << 20);
    let digest = sha256(&layer);
    let location = registry.begin("a/b");
    for (at, piece) in layer.chunks(5 << 20).enumerate() {
        let start = at * (5 << 20);
        let range = format!("{start}-{}", start + piece.len() - 1);
        registry.call("PATCH", &location, &[("Content-Range", &range)], piece).expect(202);
    }
    assert!(keys(&bucket, "blobs").is_empty(), "what is not finished is not there");
    registry.call("PUT", &format!("{location}?digest={digest}"), &[], b"").expect(201);
    assert_eq!(keys(&bucket, "blobs"), [blob_key(&layer)]);
    assert!(bucket.object(&blob_key(&layer)).unwrap() == layer);
    assert_eq!((bucket.unfinished(), stored(&root)), (0, 0), "the directory has none of its bytes");

    let blob = format!("/v2/a/b/blobs/{digest}");
    let head = registry.head(&blob).expect(200);
    assert_eq!(head.must("content-length"), layer.len().to_string());
    let whole = registry.get(&blob).expect(200);
    assert!(whole.body == layer);
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=9000000-9000009", 9_000_000, 9_000_010),
        ("bytes=20000000-", 20_000_000, layer.len()),
        ("bytes=-7", layer.len() - 7, layer.len()),
    ] {
        let part = registry.call("GET", &blob, &[("Range", range)], b"").expect(206);
        assert!(part.body == layer[start..end], "{range}");
        assert_eq!(part.must("content-range"), format!("bytes {start}-{}/{}", end - 1, layer.len()));
    }
    registry.call("GET", &blob, &[("Range", "bytes=99999999-")], b"").expect(416);
    registry.get(&format!("/v2/other/blobs/{digest}")).expect_error(404, "BLOB_UNKNOWN");
    let empty = registry.push_blob("a/b", b"");
    assert!(registry.get(&format!("/v2/a/b/blobs/{empty}")).expect(200).body.is_empty());
    let wrong = format!("/v2/a/b/blobs/uploads/?digest={}", sha256(b"other"));
    registry.call("POST", &wrong, &[OCTETS], b"bytes").expect_error(400, "DIGEST_INVALID");

    // Manifests, tags, an index, mounts.
    let config = br#"{"os":"linux","architecture":"amd64"}"#;
    registry.push_blob("a/b", config);
    let manifest = image(config, &[&layer]);
    registry.put_manifest("a/b", "v1", &image(config, &[b"nowhere"])).expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    registry.put_manifest("a/b", "v1", &manifest).expect(201);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, manifest.to_string().as_bytes())]});
    registry.put_manifest("a/b", "all", &index).expect(201);
    let got = registry.get("/v2/a/b/manifests/v1").expect(200);
    assert_eq!((got.must("content-type"), got.text()), (OCI_MANIFEST, manifest.to_string()));
    assert_eq!(registry.get("/v2/a/b/tags/list").expect(200).json()["tags"], json!(["all", "v1"]));
    assert_eq!(registry.get("/v2/_catalog").expect(200).json(), json!({"repositories": ["a/b"]}));
    registry.call("POST", &format!("/v2/c/blobs/uploads/?mount={digest}&from=a/b"), &[], b"").expect(201);
    assert!(registry.get(&format!("/v2/c/blobs/{digest}")).expect(200).body == layer);
    registry.call("POST", &format!("/v2/c/blobs/uploads/?mount={digest}&from=nowhere"), &[], b"").expect(202);
    assert_eq!(keys(&bucket, "repositories/c").len(), 1);
}

/// What a registry answers to everything one can ask of these repositories.
fn all_of(registry: &impl Api, repositories: &[&str], blobs: &[&[u8]], subject: &str) -> Vec<(String, u16, Vec<u8>)> {
    let mut asked = vec!["/v2/_catalog".to_owned()];
    for name in repositories {
        asked.push(format!("/v2/{name}/tags/list"));
        asked.push(format!("/v2/{name}/referrers/{subject}"));
        asked.extend(["v1", "v2", "index"].map(|tag| format!("/v2/{name}/manifests/{tag}")));
        asked.extend(blobs.iter().map(|blob| format!("/v2/{name}/blobs/{}", sha256(blob))));
    }
    asked
        .into_iter()
        .map(|target| (target.clone(), registry.get(&target)))
        .map(|(t, a)| (t, a.status, a.body))
        .collect()
}

#[test]
fn a_machine_that_dies_loses_nothing_and_a_stop_leaves_the_mirror() {
    let Some(bucket) = Bucket::start() else { return };
    let way = Way::to(bucket.address);
    let over = Over::bucket(way.address);
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut registry = over.start(&first.path().join("registry"));
    let layer = noise(210, 400_000);
    let image = registry.push_image("a", "v1", &[&layer]);
    registry.push_image("a", "v2", &[b"two"]);
    registry.push_image("a/deep/er", "v1", &[&layer, b"three"]);
    let signature = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x.signature",
        "config": descriptor("application/x.empty", b"{}"), "layers": [],
        "subject": {"mediaType": OCI_MANIFEST, "digest": image.to_string(), "size": 1}});
    registry.push_blob("a", b"{}");
    registry.put_manifest("a", digest_of(&signature).to_string().as_str(), &signature).expect(201);
    // Gone before the machine is.
    registry.delete("/v2/a/manifests/v2").expect(202);
    registry.push_blob("a", b"unlinked");
    registry.delete(&format!("/v2/a/blobs/{}", sha256(b"unlinked"))).expect(202);

    let ask = |registry: &crate::support::Process| {
        all_of(registry, &["a", "a/deep/er"], &[&layer, b"two", b"three", b"unlinked"], &image.to_string())
    };
    let before = ask(&registry);
    assert_eq!(before.iter().filter(|(_, status, _)| *status == 200).count(), 11, "{before:?}");
    registry.kill();
    drop(first);
    let root = second.path().join("registry");
    let registry = over.start(&root);
    assert_eq!(ask(&registry), before, "another machine with nothing but the bucket");
    registry.stop();

    // What was left in good order is believed: nothing is listed.
    assert!(root.join("mirror").exists());
    let made = way.made();
    let mut registry = over.start(&root);
    assert!(way.made() - made <= 2, "{} connections", way.made() - made);
    assert_eq!(ask(&registry), before);
    registry.kill();
    assert!(!root.join("mirror").exists());
    // After a death it is listed, whatever the directory says.
    bucket.lose("some/where/repositories/a/_tags/v1");
    let registry = over.start(&root);
    registry.get("/v2/a/manifests/v1").expect_error(404, "MANIFEST_UNKNOWN");
    registry.get(&format!("/v2/a/manifests/{image}")).expect(200);
}

#[test]
fn what_was_acknowledged_survives_kills_and_the_loss_of_the_directory() {
    let Some(bucket) = Bucket::start() else { return };
    let over = Over::bucket(bucket.address);
    let kept: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::default();
    for life in 0..4_u64 {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("registry");
        let mut process = over.start(&root);
        let address = process.address();
        thread::scope(|scope| {
            for client in 0..3_u64 {
                let kept = &kept;
                scope.spawn(move || push_until_killed(address, 9000 + life * 100 + client, kept));
            }
            thread::sleep(Duration::from_millis(300 + 150 * life));
            process.kill();
        });
        drop(dir);
        let dir = tempfile::tempdir().unwrap();
        let process = over.start(&dir.path().join("registry"));
        let mut connection = process.connect();
        for (target, bytes) in kept.lock().unwrap().iter() {
            let answer = connection.call("GET", target, &[], b"").expect(200);
            assert!(answer.body == *bytes, "{target}");
        }
    }
    assert!(kept.lock().unwrap().len() > 10, "something was acknowledged");
    for key in keys(&bucket, "blobs") {
        assert!(key.ends_with(&sha256(&bucket.object(&key).unwrap()).hex()), "{key}");
    }
}

#[test]
fn an_upload_goes_on_after_a_kill() {
    let Some(bucket) = Bucket::start() else { return };
    let over = Over::bucket(bucket.address);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("registry");
    let bytes = noise(220, 12 << 20);
    let mut process = over.start(&root);
    let location = process.begin("a");
    process.call("PATCH", &location, &[], &bytes[..9 << 20]).expect(202);
    process.kill();
    let process = over.start(&root);
    assert_eq!(stands(&process, &location), 9 << 20);
    process.call("PUT", &format!("{location}?digest={}", sha256(&bytes)), &[], &bytes[9 << 20..]).expect(201);
    assert!(bucket.object(&blob_key(&bytes)).unwrap() == bytes);
    assert!(process.get(&format!("/v2/a/blobs/{}", sha256(&bytes))).expect(200).body == bytes);
}

#[test]
fn what_nothing_refers_to_leaves_the_bucket() {
    let Some(bucket) = Bucket::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let over = Over::bucket(bucket.address);
    let mut registry = over.start(&dir.path().join("registry"));
    let kept = registry.push_image("kept", "t", &[b"layer", b"shared"]);
    let gone = registry.push_image("gone", "t", &[b"alone", b"shared"]);
    registry.push_blob("kept", b"loose");
    registry.delete(&format!("/v2/gone/manifests/{gone}")).expect(202);
    assert_eq!(registry.collect(3600), Some([0, 0, 0]), "all of it is younger");
    let before = keys(&bucket, "");
    // As over a directory: links to `loose`, and of `gone` its configuration and two layers; files `loose`, `alone`, the
    // manifest of `gone`.
    let [links, blobs, _] = registry.collect(0).unwrap();
    assert_eq!((links, blobs), (4, 3));
    assert_eq!(before.len() - keys(&bucket, "").len(), 7);
    assert!(bucket.object(&blob_key(b"loose")).is_none() && bucket.object(&blob_key(b"alone")).is_none());
    assert!(keys(&bucket, "repositories/gone").is_empty());
    registry.get("/v2/gone/tags/list").expect_error(404, "NAME_UNKNOWN");
    registry.get(&format!("/v2/kept/manifests/{kept}")).expect(200);
    registry.get(&format!("/v2/kept/blobs/{}", sha256(b"shared"))).expect(200);
    assert_eq!(registry.collect(0), Some([0, 0, 0]));
    // A server that reads manifests for the first time collects the same.
    registry.kill();
    let other = tempfile::tempdir().unwrap();
    let registry = over.start(&other.path().join("registry"));
    assert_eq!(registry.collect(0), Some([0, 0, 0]));
    registry.push_image("gone", "t", &[b"alone", b"shared"]);
    assert!(registry.get(&format!("/v2/gone/blobs/{}", sha256(b"alone"))).expect(200).body == b"alone");
}

#[test]
fn nothing_acknowledged_is_lost_while_collections_run() {
    let Some(bucket) = Bucket::start() else { return };
    let over = Over::bucket(bucket.address);
    let dir = tempfile::tempdir().unwrap();
    let mut registry = over.start(&dir.path().join("registry"));
    let (address, stop) = (registry.address(), AtomicBool::new(false));
    let shared = noise(240, 100_000);
    let pushed: Vec<BTreeMap<String, Vec<Vec<u8>>>> = thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                assert!(registry.collect(0).is_some());
                count += 1;
                // Without a pause no client would ever be quick enough without a grace period.
                thread::sleep(Duration::from_millis(300));
            }
            count
        });
        let pushers: Vec<_> = (0..3_u64)
            .map(|client| {
                let shared = &shared;
                scope.spawn(move || push_for_a_while(&mut Connection::open(address), client, shared, 12))
            })
            .collect();
        let pushed = pushers.into_iter().map(|pusher| pusher.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(collector.join().unwrap() > 3, "the collections ran beside the pushes");
        pushed
    });
    let check = |registry: &crate::support::Process| {
        let mut connection = registry.connect();
        for (target, blobs) in pushed.iter().flatten() {
            connection.call("GET", target, &[], b"").expect(200);
            let repository = target.split_once("/manifests/").unwrap().0;
            for blob in blobs {
                let target = format!("{repository}/blobs/{}", sha256(blob));
                assert!(connection.call("GET", &target, &[], b"").expect(200).body == *blob);
            }
        }
    };
    check(&registry);
    registry.kill();
    let other = tempfile::tempdir().unwrap();
    check(&over.start(&other.path().join("registry")));
}

#[test]
fn deletions_and_referrers() {
    let Some(bucket) = Bucket::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let registry = Over::bucket(bucket.address).start(&dir.path().join("registry"));
    let image = registry.push_image("a", "one", &[b"layer"]);
    let manifest = registry.get("/v2/a/manifests/one").expect(200).json();
    registry.put_manifest("a", "two", &manifest).expect(201);
    let signature = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x.signature",
        "config": descriptor("application/x.empty", b"{}"), "layers": [],
        "subject": {"mediaType": OCI_MANIFEST, "digest": image.to_string(), "size": 1}});
    registry.push_blob("a", b"{}");
    let answer = registry.put_manifest("a", &digest_of(&signature).to_string(), &signature).expect(201);
    assert_eq!(answer.must("oci-subject"), image.to_string());
    let referrers = || registry.get(&format!("/v2/a/referrers/{image}")).expect(200).json()["manifests"].clone();
    assert_eq!(referrers().as_array().map(Vec::len), Some(1));
    assert_eq!(keys(&bucket, "repositories/a/_referrers").len(), 1);

    registry.delete("/v2/a/manifests/one").expect(202);
    registry.delete("/v2/a/manifests/one").expect_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(keys(&bucket, "repositories/a/_tags"), ["some/where/repositories/a/_tags/two"]);
    registry.delete(&format!("/v2/a/manifests/{}", digest_of(&signature))).expect(202);
    assert_eq!(referrers(), Value::Array(Vec::new()));
    assert!(keys(&bucket, "repositories/a/_referrers").is_empty());
    registry.delete(&format!("/v2/a/manifests/{image}")).expect(202);
    assert!(keys(&bucket, "repositories/a/_tags").is_empty());
    assert!(keys(&bucket, "repositories/a/_manifests").is_empty());
    registry.get("/v2/a/manifests/two").expect_error(404, "MANIFEST_UNKNOWN");
    registry.delete(&format!("/v2/a/blobs/{}", sha256(b"layer"))).expect(202);
    registry.delete(&format!("/v2/a/blobs/{}", sha256(b"layer"))).expect_error(404, "BLOB_UNKNOWN");
    registry.get(&format!("/v2/a/blobs/{}", sha256(b"layer"))).expect_error(404, "BLOB_UNKNOWN");
    assert!(!keys(&bucket, "repositories/a/_blobs").iter().any(|key| key.ends_with(&sha256(b"layer").hex())));
}

#[test]
fn a_bucket_that_cannot_be_reached_is_told_and_comes_back() {
    let Some(bucket) = Bucket::start() else { return };
    let way = Way::to(bucket.address);
    let dir = tempfile::tempdir().unwrap();
    let registry = Over::bucket(way.address).start(&dir.path().join("registry"));
    let image = registry.push_image("a", "t", &[b"layer"]);
    let manifest = registry.get("/v2/a/manifests/t").expect(200).json();
    let location = registry.begin("a");
    registry.call("PATCH", &location, &[], b"pushed later").expect(202);
    let finish = format!("{location}?digest={}", sha256(b"pushed later"));
    let blob = format!("/v2/a/blobs/{}", sha256(b"layer"));
    let away = |answer: crate::http::Answer| {
        assert_eq!(answer.header("retry-after"), Some("5"));
        assert!(answer.text().contains("cannot reach the bucket"), "{}", answer.text());
        answer.expect_error(503, "UNKNOWN");
    };

    way.cut(true);
    away(registry.get(&blob));
    away(registry.call("PUT", &finish, &[], b""));
    away(registry.put_manifest("a", "other", &manifest));
    away(registry.delete("/v2/a/manifests/none"));
    // What the mirror knows is answered.
    registry.head(&blob).expect(200);
    registry.get("/v2/a/manifests/t").expect(200);
    assert_eq!(registry.get("/v2/a/tags/list").expect(200).json()["tags"], json!(["t"]));
    assert_eq!(registry.collect(0), Some([0, 0, 0]), "there is nothing to collect");

    way.cut(false);
    assert!(registry.get(&blob).expect(200).body == b"layer");
    registry.call("PUT", &finish, &[], b"").expect(201);
    assert!(bucket.object(&blob_key(b"pushed later")).unwrap() == b"pushed later");
    registry.put_manifest("a", "other", &manifest).expect(201);
    assert_eq!(registry.head("/v2/a/manifests/other").expect(200).must("docker-content-digest"), image.to_string());

    // A deletion that fails half-way is ended by its repetition.
    way.cut(true);
    away(registry.delete("/v2/a/manifests/other"));
    way.cut(false);
    assert_eq!(registry.delete("/v2/a/manifests/other").status, 404);
    assert_eq!(keys(&bucket, "repositories/a/_tags"), ["some/where/repositories/a/_tags/t"]);
    // A change failed: the next server does not take the mirror's word.
    registry.stop();
    assert!(!dir.path().join("registry/mirror").exists());
}

#[test]
fn a_server_that_cannot_use_its_bucket_does_not_start() {
    let Some(bucket) = Bucket::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("registry");
    let mut over = Over::bucket(bucket.address);
    over.storage = "s3://no-such-bucket".to_owned();
    let said = over.refusal(&root);
    assert!(said.contains("s3://no-such-bucket") && said.contains("must name a bucket that is there"), "{said}");
    // A directory that found no bucket is nobody's; then it is that bucket's.
    over.storage = format!("s3://{NAME}/one");
    over.start(&root).stop();
    over.storage = format!("s3://{NAME}/two");
    let said = over.refusal(&root);
    assert!(said.contains(&format!("start it with --storage s3://{NAME}/one")), "{said}");
    let way = Way::to(bucket.address);
    way.cut(true);
    let said = Over::bucket(way.address).refusal(&dir.path().join("other"));
    assert!(said.contains("cannot read from the bucket"), "{said}");
}

#[test]
fn a_server_whose_bucket_was_taken_over_changes_nothing() {
    let Some(bucket) = Bucket::start() else { return };
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let over = Over::bucket(bucket.address);
    let old = over.start(&first.path().join("registry"));
    old.push_image("a", "t", &[b"layer"]);
    // One that only reads takes nothing over.
    let mut reads = over.clone();
    reads.read_only = true;
    let reader = reads.start(&second.path().join("reader"));
    reader.get("/v2/a/manifests/t").expect(200);
    old.push_image("a", "u", &[b"layer"]);

    let new = over.start(&second.path().join("registry"));
    new.get("/v2/a/manifests/u").expect(200);
    let before = keys(&bucket, "");
    let refused = old.call("POST", &format!("/v2/a/blobs/uploads/?digest={}", sha256(b"x")), &[OCTETS], b"x");
    assert!(refused.text().contains("another registry has taken over"), "{}", refused.text());
    refused.expect_error(503, "UNKNOWN");
    let manifest = new.get("/v2/a/manifests/t").expect(200).json();
    old.put_manifest("a", "late", &manifest).expect_error(503, "UNKNOWN");
    old.delete("/v2/a/manifests/t").expect_error(503, "UNKNOWN");
    assert_eq!(old.collect(0), None);
    new.get("/v2/a/manifests/t").expect(200);
    new.put_manifest("a", "late", &manifest).expect(201);
    assert!(before.iter().all(|key| keys(&bucket, "").contains(key)), "the old one removed nothing");
    old.stop();
    assert!(!first.path().join("registry/mirror").exists());
}

#[test]
fn quotas_bound_the_bucket() {
    let Some(bucket) = Bucket::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut over = Over::bucket(bucket.address);
    over.quotas = "1200k,team=1050k".to_owned();
    let mut registry = over.start(&dir.path().join("registry"));
    let push = |registry: &crate::support::Process, name: &str, bytes: &[u8]| {
        registry.call("POST", &format!("/v2/{name}/blobs/uploads/?digest={}", sha256(bytes)), &[OCTETS], bytes)
    };
    let (one, two) = (noise(250, 500_000), noise(251, 600_000));
    push(&registry, "team/a", &one).expect(201);
    push(&registry, "team/b", &one).expect(201);
    push(&registry, "team/a", &two).expect_error(507, "DENIED");
    assert!(bucket.object(&blob_key(&two)).is_none());
    push(&registry, "x", &two).expect(201);
    let mount = format!("/v2/team/c/blobs/uploads/?mount={}&from=x", sha256(&two));
    registry.call("POST", &mount, &[], b"").expect_error(507, "DENIED");
    push(&registry, "y", &noise(252, 200_000)).expect_error(507, "DENIED");
    registry.kill();
    // A new count says the same.
    let registry = over.start(&dir.path().join("registry"));
    push(&registry, "y", &noise(252, 200_000)).expect_error(507, "DENIED");
    registry.delete(&format!("/v2/x/blobs/{}", sha256(&two))).expect(202);
    assert!(registry.collect(0).is_some());
    push(&registry, "y", &noise(252, 200_000)).expect(201);
}

#[test]
fn an_object_that_the_bucket_lost_is_healed_by_a_push() {
    let Some(bucket) = Bucket::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let registry = Over::bucket(bucket.address).start(&dir.path().join("registry"));
    let digest = registry.push_blob("a", b"content");
    bucket.lose(&blob_key(b"content"));
    let blob = format!("/v2/a/blobs/{digest}");
    registry.get(&blob).expect_error(404, "BLOB_UNKNOWN");
    registry.head(&blob).expect(404);
    registry.push_blob("a", b"content");
    registry.head(&blob).expect(200);
    assert!(registry.get(&blob).expect(200).body == b"content");
}

#[test]
fn copies_of_another_registry_are_kept_in_the_bucket() {
    let Some(bucket) = Bucket::start() else { return };
    let upstream = Registry::start();
    let layer = noise(260, 9 << 20);
    upstream.push_image("team/app", "v1", &[&layer]);
    let dir = tempfile::tempdir().unwrap();
    let mut over = Over::bucket(bucket.address);
    over.upstreams = format!("copy={}", upstream.address());
    let mut registry = over.start(&dir.path().join("registry"));
    registry.get("/v2/copy/team/app/manifests/v1").expect(200);
    let blob = format!("/v2/copy/team/app/blobs/{}", sha256(&layer));
    assert!(registry.get(&blob).expect(200).body == layer, "while it arrives");
    assert!(registry.get(&blob).expect(200).body == layer);
    assert!(bucket.object(&blob_key(&layer)).unwrap() == layer);
    drop(upstream);
    registry.kill();
    let registry = over.start(&dir.path().join("registry"));
    registry.get("/v2/copy/team/app/manifests/v1").expect(200);
    assert!(registry.get(&blob).expect(200).body == layer, "without its upstream");
}

#[test]
fn skopeo_copies_in_and_out_with_the_same_digest() {
    let Some(bucket) = Bucket::start() else { return };
    if Command::new("skopeo").arg("--version").output().is_err() {
        println!("left out: skopeo is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let registry = Over::bucket(bucket.address).start(&dir.path().join("registry"));
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let plain = Registry::start();
    plain.push_image("app", "v1", &[&noise(270, 10 << 20), b"small"]);
    let copy = |from: &str, to: &str| {
        let options = ["copy", "-q", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"];
        let output = Command::new("skopeo")
            .args(options)
            .args(["--preserve-digests", "--digestfile", &path("digest"), from, to])
            .env("TMPDIR", dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{from} to {to}: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::read_to_string(path("digest")).unwrap().trim().to_owned()
    };
    let docker = |api: &dyn Api, name: &str| format!("docker://{}/{name}", api.address());
    let layout = |name: &str| format!("oci:{}:v1", path(name));
    let pushed = plain.head("/v2/app/manifests/v1").expect(200).must("docker-content-digest").to_owned();
    assert_eq!(copy(&docker(&plain, "app:v1"), &docker(&registry, "in:v1")), pushed);
    assert_eq!(copy(&docker(&registry, "in:v1"), &docker(&registry, "mounted:v1")), pushed);
    assert_eq!(copy(&docker(&registry, "mounted:v1"), &layout("out")), pushed);
    assert_eq!(copy(&layout("out"), &docker(&registry, "again:v1")), pushed);
}
