//! Putting a manifest: its blobs come from another repository, mounted or copied.

use crate::support::*;
use distribution::{Error, MEDIA_OCI_INDEX, MEDIA_OCI_MANIFEST, PutRequest};
use types::Reference;

/// The repository `app` as it is, and `list` to be written to; mounts when told to.
async fn registry(image: Image, mounts: bool) -> Server {
    Server::start(move |seen| match (seen.method.as_str(), seen.path()) {
        ("POST", "/v2/list/blobs/uploads/") if mounts && seen.target.contains("from=app") => Reply::status(201),
        ("POST", "/v2/list/blobs/uploads/") => Reply::status(202).header("Location", "/v2/list/blobs/uploads/1"),
        ("PUT", path) if path.starts_with("/v2/list/") => Reply::status(201),
        (_, path) if path.starts_with("/v2/list/") => Reply::status(404),
        ("HEAD", path) if path.starts_with("/v2/app/manifests/") => Reply::status(200),
        _ => image.serve(seen),
    })
    .await
}

fn put(server: &Server, image: &Image, name: &str, from: Option<&str>) -> PutRequest {
    let named = |name: &str| format!("{}/{name}", server.address).parse::<Reference>().unwrap();
    PutRequest {
        reference: named(name),
        credentials: None,
        media_type: MEDIA_OCI_MANIFEST.to_owned(),
        document: image.manifest.clone().into(),
        from: from.map(named),
    }
}

#[tokio::test]
async fn blobs_are_mounted_or_copied() {
    let image = Image::new(vec![b"a layer".to_vec(), b"another one".to_vec()]);
    let digest = sha256(&image.manifest);
    for mounts in [true, false] {
        let server = registry(image.clone(), mounts).await;
        let name = format!("list@{digest}");
        assert_eq!(client().put(put(&server, &image, &name, Some("app"))).await.unwrap(), digest);
        let seen = server.seen();
        let uploaded: Vec<&str> = seen
            .iter()
            .filter(|seen| seen.method == "PUT" && seen.path() == "/v2/list/blobs/uploads/1")
            .map(|seen| seen.body.as_str())
            .collect();
        let config = String::from_utf8(image.config.clone()).unwrap();
        let mut expected = if mounts { Vec::new() } else { vec!["a layer", "another one", config.as_str()] };
        let mut uploaded = uploaded;
        uploaded.sort_unstable();
        expected.sort_unstable();
        assert_eq!(uploaded, expected, "mounts: {mounts}");
        let last = seen.last().unwrap();
        assert_eq!((last.method.as_str(), last.path()), ("PUT", format!("/v2/list/manifests/{digest}").as_str()));
        assert_eq!(last.body.as_bytes(), image.manifest);
        assert_eq!(last.headers["content-type"], MEDIA_OCI_MANIFEST);
    }
}

#[tokio::test]
async fn an_index_is_put_as_it_is_and_wrong_documents_are_not() {
    let image = Image::new(vec![b"a layer".to_vec()]);
    let server = registry(image.clone(), true).await;
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{MEDIA_OCI_INDEX}","manifests":[]}}"#);
    let mut request = put(&server, &image, "list:1", None);
    (request.media_type, request.document) = (MEDIA_OCI_INDEX.to_owned(), index.into());
    client().put(request.clone()).await.unwrap();
    assert_eq!(server.seen().last().unwrap().path(), "/v2/list/manifests/1");
    let before = server.seen().len();
    let mut wrong = vec![request.clone(); 3];
    wrong[0].media_type = MEDIA_OCI_MANIFEST.to_owned();
    wrong[1].document = "{}".into();
    wrong[2].reference = wrong[2].reference.with_digest(sha256(b"another"));
    for request in wrong {
        let error = client().put(request).await.unwrap_err();
        assert!(matches!(error, Error::Document { .. }), "{error}");
    }
    let mut elsewhere = put(&server, &image, "list:1", None);
    elsewhere.from = Some("registry.example/app".parse().unwrap());
    let error = client().put(elsewhere).await.unwrap_err().to_string();
    assert!(error.contains("different registry: registry.example != 127.0.0.1"), "{error}");
    assert_eq!(server.seen().len(), before, "nothing was sent");
}
