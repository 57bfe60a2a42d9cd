//! Lists of referrers: by the API, by the tag, and from servers that have neither or mean harm.

use crate::support::*;
use distribution::{Error, MEDIA_OCI_INDEX, MEDIA_OCI_MANIFEST, Referrer};
use std::sync::atomic::{AtomicUsize, Ordering};
use types::Digest;

const SIGNATURE: &str = "application/vnd.example.signature.v1+json";
const SBOM: &str = "application/vnd.example.sbom+json";

fn subject() -> Digest {
    sha256(b"subject")
}

fn entry(of: &str, artifact_type: &str) -> String {
    format!(
        r#"{{"mediaType":"{MEDIA_OCI_MANIFEST}","digest":"{}","size":{},"artifactType":"{artifact_type}","annotations":{{"for":"{of}"}}}}"#,
        sha256(of.as_bytes()),
        of.len()
    )
}

fn index(entries: &[String]) -> Reply {
    let text = format!(r#"{{"schemaVersion":2,"mediaType":"{MEDIA_OCI_INDEX}","manifests":[{}]}}"#, entries.join(","));
    Reply::ok(text).header("Content-Type", MEDIA_OCI_INDEX)
}

async fn list(server: &Server, artifact_type: Option<&str>) -> Result<Vec<Referrer>, Error> {
    let reference = format!("{}/app:1", server.address).parse().unwrap();
    client().referrers(&reference, &subject(), artifact_type, None).await
}

fn names(found: &[Referrer]) -> Vec<&str> {
    found.iter().map(|referrer| referrer.annotations["for"].as_str()).collect()
}

fn api() -> String {
    format!("/v2/app/referrers/{}", subject())
}

fn tag() -> String {
    format!("/v2/app/manifests/sha256-{}", subject().hex())
}

#[tokio::test]
async fn page_after_page_and_filtered_here_when_not_there() {
    let server = Server::start(|seen| match seen.target.split_once('?').map_or("", |(_, query)| query) {
        query if query.contains("last=b") => index(&[entry("c", SIGNATURE)]),
        // A link leads to the same list, wherever it points.
        _ => index(&[entry("a", SIGNATURE), entry("b", SBOM)])
            .header("Link", "<http://192.0.2.1/v2/other/referrers/x?last=b>; rel=\"next\""),
    })
    .await;
    let all = list(&server, None).await.unwrap();
    assert_eq!(names(&all), ["a", "b", "c"]);
    assert_eq!(all[1].descriptor.digest, sha256(b"b"));
    assert_eq!((all[1].descriptor.size, all[1].artifact_type.as_deref()), (1, Some(SBOM)));
    assert_eq!(names(&list(&server, Some(SIGNATURE)).await.unwrap()), ["a", "c"]);
    assert!(list(&server, Some("other")).await.unwrap().is_empty());
    assert!(server.seen().iter().all(|seen| seen.path() == api()));
    let escaped = "application/vnd.example.signature.v1%2Bjson";
    assert!(server.seen()[2].target.ends_with(&format!("?artifactType={escaped}")), "{}", server.seen()[2].target);
}

#[tokio::test]
async fn the_tag_stands_in_where_there_is_no_api() {
    let missing: [fn() -> Reply; 5] = [
        || Reply::status(404),
        || Reply { body: b"404 page not found".to_vec(), ..Reply::status(404) },
        || Reply::status(405),
        || Reply { body: br#"{"errors":[{"code":"NAME_UNKNOWN","message":"?"}]}"#.to_vec(), ..Reply::status(404) },
        || Reply::ok("<html>").header("Content-Type", "text/html; charset=utf-8"),
    ];
    for answer in missing {
        let server = Server::start(move |seen| match seen.path() {
            path if path == tag() => index(&[entry("a", SIGNATURE), entry("b", SBOM)]),
            _ => answer(),
        })
        .await;
        assert_eq!(names(&list(&server, Some(SBOM)).await.unwrap()), ["b"]);
        let neither = Server::start(move |seen| if seen.path() == tag() { Reply::status(404) } else { answer() }).await;
        assert!(list(&neither, None).await.unwrap().is_empty());
    }
    let denied = Server::start(|_| Reply::status(403)).await;
    assert!(matches!(list(&denied, None).await, Err(Error::Denied { .. })));
}

#[tokio::test]
async fn lists_that_mean_harm() {
    let count = AtomicUsize::new(0);
    let endless = Server::start(move |_| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        let padding = " ".repeat(1 << 20);
        Reply::ok(format!("{padding}{{\"manifests\":[]}}"))
            .header("Content-Type", MEDIA_OCI_INDEX)
            .header("Link", format!("</v2/app/referrers/x?last={n}>; rel=\"next\""))
    })
    .await;
    assert!(matches!(list(&endless, None).await, Err(Error::TooLarge { .. })));
    assert!(endless.seen().len() < 40);
    let huge = Server::start(|_| Reply::ok(vec![b' '; 5 << 20]).header("Content-Type", MEDIA_OCI_INDEX)).await;
    assert!(matches!(list(&huge, None).await, Err(Error::TooLarge { .. })));
    let babble = Server::start(|_| Reply::ok("nonsense").header("Content-Type", MEDIA_OCI_INDEX)).await;
    assert!(matches!(list(&babble, None).await, Err(Error::Protocol { .. })));
    // What cannot be addressed is left out, and does not hide the rest.
    let odd = r#"{"mediaType":"x","digest":"sha512:00","size":1}"#.to_owned();
    let mixed = Server::start(move |_| index(&[odd.clone(), entry("a", SBOM)])).await;
    assert_eq!(names(&list(&mixed, None).await.unwrap()), ["a"]);
}

#[tokio::test]
async fn an_artifact_is_what_its_digest_says() {
    let document = r#"{"schemaVersion":2,"artifactType":"x","layers":[{"mediaType":"application/x"}]}"#;
    let server = Server::start(move |_| Reply::ok(document).header("Content-Type", MEDIA_OCI_MANIFEST)).await;
    let reference = format!("{}/app:1", server.address).parse().unwrap();
    let digest = sha256(document.as_bytes());
    let fetched = client().artifact(&reference, &digest, None).await.unwrap();
    assert_eq!((fetched.descriptor.digest, &fetched.bytes[..]), (digest, document.as_bytes()));
    assert_eq!(fetched.descriptor.media_type, MEDIA_OCI_MANIFEST);
    let error = client().artifact(&reference, &subject(), None).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
}
