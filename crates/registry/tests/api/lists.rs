//! Content discovery: tags, the catalog, referrers (distribution-spec, "Content Discovery").

use serde_json::{Value, json};

use crate::http::Answer;
use crate::support::{Api, OCI_INDEX, OCI_MANIFEST, Registry, descriptor, digest_of, image, sha256};

/// The target that a `Link` leads to.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
    Some(target.unwrap_or_else(|| panic!("{link}")).to_owned())
}

#[test]
fn tags_in_order_and_in_pages() {
    let registry = Registry::start();
    registry.get("/v2/a/tags/list").expect_error(404, "NAME_UNKNOWN");
    let tags = ["A", "Z", "a", "a-1", "a.1", "a_1", "latest", "v1", "v10", "v2"];
    for tag in tags.iter().rev() {
        registry.push_image("a", tag, &[]);
    }
    let answer = registry.get("/v2/a/tags/list").expect(200);
    assert_eq!(answer.must("content-type"), "application/json");
    let mut sorted = tags;
    sorted.sort_unstable();
    assert_eq!(answer.json(), json!({"name": "a", "tags": sorted}));
    assert!(next(&answer).is_none());

    let (mut seen, mut target) = (Vec::new(), Some("/v2/a/tags/list?n=3".to_owned()));
    while let Some(page) = target {
        let answer = registry.get(&page).expect(200);
        let tags = answer.json()["tags"].as_array().unwrap().clone();
        assert!((1..=3).contains(&tags.len()), "{page}");
        seen.extend(tags);
        target = next(&answer);
    }
    assert_eq!(seen, sorted.map(Value::from));
    let page = |query: &str| registry.get(&format!("/v2/a/tags/list?{query}")).expect(200).json()["tags"].clone();
    assert_eq!(page("n=2&last=v1"), json!(["v10", "v2"]));
    assert_eq!(page("last=v10"), json!(["v2"]));
    assert_eq!(page("last=v15"), json!(["v2"]), "a last one that is not there");
    assert_eq!(page("last=zzz"), json!([]));
    assert_eq!(page("n=0"), json!([]));
    assert_eq!(page("n=99999999999999999999999"), json!(sorted));
    assert!(next(&registry.get("/v2/a/tags/list?n=10")).is_none(), "the page that is full and the last");
    for bad in ["n=-1", "n=x", "n=", "n=1.5"] {
        registry.get(&format!("/v2/a/tags/list?{bad}")).expect_error(400, "UNSUPPORTED");
    }
}

#[test]
fn the_catalog_has_repositories_with_manifests() {
    let registry = Registry::start();
    assert_eq!(registry.get("/v2/_catalog").expect(200).json(), json!({"repositories": []}));
    for name in ["b", "a/x", "a", "a-b/c", "tags/list", "x/blobs/uploads"] {
        registry.push_image(name, "t", &[]);
    }
    registry.push_blob("only/blobs", b"x");
    registry.begin("only/uploads");
    let sorted = ["a", "a-b/c", "a/x", "b", "tags/list", "x/blobs/uploads"];
    assert_eq!(registry.get("/v2/_catalog").expect(200).json(), json!({"repositories": sorted}));
    let (mut seen, mut target) = (Vec::new(), Some("/v2/_catalog?n=2".to_owned()));
    while let Some(page) = target {
        let answer = registry.get(&page).expect(200);
        seen.extend(answer.json()["repositories"].as_array().unwrap().clone());
        target = next(&answer);
    }
    assert_eq!(seen, sorted.map(Value::from));
    // Names that look like endpoints are names.
    registry.get("/v2/tags/list/tags/list").expect(200);
    registry.get("/v2/x/blobs/uploads/manifests/t").expect(200);
}

fn artifact(kind: &str, subject: &Value, note: &str) -> Value {
    let mut artifact = image(b"{}", &[]);
    artifact["artifactType"] = json!(kind);
    artifact["subject"] = subject.clone();
    artifact["annotations"] = json!({"note": note});
    artifact
}

#[test]
fn referrers_with_and_without_a_filter() {
    let registry = Registry::start();
    registry.push_blob("a", b"{}");
    let subject = image(b"{}", &[]);
    let pointer = descriptor(OCI_MANIFEST, subject.to_string().as_bytes());
    let list = |query: &str| registry.get(&format!("/v2/a/referrers/{}{query}", digest_of(&subject))).expect(200);
    let empty = list("");
    assert_eq!(empty.must("content-type"), OCI_INDEX);
    assert_eq!(empty.json(), json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}));

    // Before its subject and after it.
    let signature = artifact("application/x.signature", &pointer, "first");
    let answer = registry.put_manifest("a", &digest_of(&signature).to_string(), &signature).expect(201);
    assert_eq!(answer.must("oci-subject"), digest_of(&subject).to_string());
    registry.put_manifest("a", "v1", &subject).expect(201);
    let bill = artifact("application/x.bill", &pointer, "second");
    registry.put_manifest("a", "bill", &bill).expect(201);
    // The type of the configuration stands for one that is not given; an index can refer too.
    let mut plain = image(b"{}", &[]);
    plain["subject"] = pointer.clone();
    registry.put_manifest("a", "plain", &plain).expect(201);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": pointer});
    registry.put_manifest("a", "index", &index).expect(201);

    let all = list("").json();
    let digests: Vec<String> =
        all["manifests"].as_array().unwrap().iter().map(|m| m["digest"].as_str().unwrap().to_owned()).collect();
    let mut expected: Vec<String> = [&signature, &bill, &plain, &index].map(|m| digest_of(m).to_string()).to_vec();
    expected.sort_unstable();
    assert_eq!(digests, expected);
    let one =
        |digest: String| all["manifests"].as_array().unwrap().iter().find(|m| m["digest"] == digest).unwrap().clone();
    let shown = one(digest_of(&signature).to_string());
    assert_eq!(shown["artifactType"], "application/x.signature");
    assert_eq!((&shown["mediaType"], &shown["annotations"]["note"]), (&json!(OCI_MANIFEST), &json!("first")));
    assert_eq!(shown["size"], signature.to_string().len());
    let shown = one(digest_of(&plain).to_string());
    assert_eq!(shown["artifactType"], "application/vnd.oci.image.config.v1+json");
    assert!(shown.get("annotations").is_none());
    assert!(one(digest_of(&index).to_string()).get("artifactType").is_none());

    let filtered = list("?artifactType=application/x.bill");
    assert_eq!(filtered.must("oci-filters-applied"), "artifactType");
    assert_eq!(filtered.json()["manifests"], json!([one(digest_of(&bill).to_string())]));
    assert!(list("").header("oci-filters-applied").is_none());
    assert_eq!(list("?artifactType=none").json()["manifests"], json!([]));

    registry.delete(&format!("/v2/a/manifests/{}", digest_of(&bill))).expect(202);
    assert_eq!(list("").json()["manifests"].as_array().unwrap().len(), 3);
    // They outlive their subject, as the specification lets them.
    registry.delete(&format!("/v2/a/manifests/{}", digest_of(&subject))).expect(202);
    assert_eq!(list("").json()["manifests"].as_array().unwrap().len(), 3);
    let other = registry.get(&format!("/v2/other/referrers/{}", digest_of(&subject))).expect(200);
    assert_eq!(other.json()["manifests"], json!([]));
    registry.get("/v2/a/referrers/nonsense").expect_error(400, "DIGEST_INVALID");
    registry.get("/v2/A/referrers/nonsense").expect_error(400, "NAME_INVALID");
}

#[test]
fn many_referrers_come_in_pages() {
    let registry = Registry::start();
    registry.push_blob("a", b"{}");
    let subject = sha256(b"nobody");
    let pointer = json!({"mediaType": OCI_MANIFEST, "digest": subject.to_string(), "size": 6});
    // Large ones: four of them are beyond the size of an answer.
    let note = "n".repeat(600_000);
    let mut pushed: Vec<String> = Vec::new();
    for number in 0..9 {
        let manifest = artifact("x/y", &pointer, &format!("{number}{note}"));
        registry.put_manifest("a", &format!("t{number}"), &manifest).expect(201);
        pushed.push(digest_of(&manifest).to_string());
    }
    pushed.sort_unstable();
    for filter in ["", "?artifactType=x%2Fy"] {
        let (mut seen, mut pages) = (Vec::new(), 0);
        let mut target = Some(format!("/v2/a/referrers/{subject}{filter}"));
        while let Some(page) = target {
            let answer = registry.get(&page).expect(200);
            assert_eq!(answer.header("oci-filters-applied").is_some(), !filter.is_empty());
            assert!(answer.body.len() < 4 << 20);
            for one in answer.json()["manifests"].as_array().unwrap() {
                seen.push(one["digest"].as_str().unwrap().to_owned());
            }
            target = next(&answer);
            pages += 1;
        }
        assert!(pages > 1 && seen == pushed, "{pages} pages: {seen:?}");
    }
}
