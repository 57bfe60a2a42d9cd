//! A registry that means harm: wrong content, endless content, credentials and connections lured
//! elsewhere. Nothing of it may be stored, and no secret may leave its origin.

#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use crate::support::*;
use distribution::{Credentials, Error};
use std::sync::Arc;

async fn pull_error(server: &Server) -> Error {
    let sink = Arc::new(MemorySink::default());
    let mut request = request(server, "app:1");
    request.credentials = Some(Credentials::basic("user", "pass"));
    let result = client().pull(&request, sink.clone(), |_| ()).await;
    assert!(sink.layers.lock().unwrap().is_empty() && sink.documents.lock().unwrap().is_empty());
    result.expect_err("a hostile registry must not succeed")
}

/// Serves an image with one path replaced.
async fn with(path: impl Fn(&Image) -> String, reply: impl Fn(&Image) -> Reply + Send + Sync + 'static) -> Server {
    let image = Image::new(vec![vec![7; 5000]]);
    let path = path(&image);
    Server::start(move |seen| if seen.path() == path { reply(&image) } else { image.serve(seen) }).await
}

fn layer_path(image: &Image) -> String {
    format!("/v2/app/blobs/{}", sha256(&image.layers[0]))
}

fn config_path(image: &Image) -> String {
    format!("/v2/app/blobs/{}", sha256(&image.config))
}

fn manifest_path(_: &Image) -> String {
    "/v2/app/manifests/1".to_owned()
}

#[tokio::test]
async fn content_that_is_not_what_was_promised() {
    let flipped = with(layer_path, |_| Reply::ok(vec![8; 5000])).await;
    assert!(matches!(pull_error(&flipped).await, Error::Digest { .. }));
    let longer = with(layer_path, |_| Reply::ok(vec![7; 5001])).await;
    assert!(matches!(pull_error(&longer).await, Error::Size { .. }));
    let shorter = with(layer_path, |_| Reply::ok(vec![7; 4999])).await;
    assert!(matches!(pull_error(&shorter).await, Error::Broken { .. }));
    let config = with(config_path, |i| Reply::ok(vec![b' '; i.config.len()])).await;
    assert!(matches!(pull_error(&config).await, Error::Digest { .. }));
    let lying_header = with(manifest_path, |i| {
        Reply::ok(i.manifest.clone()).header("Docker-Content-Digest", sha256(b"other").to_string())
    })
    .await;
    assert!(matches!(pull_error(&lying_header).await, Error::Digest { .. }));
    let swapped = with(layer_path, |_| {
        Reply { status: 206, ..Reply::ok(vec![7; 5000]) }.header("Content-Range", "bytes 4000-8999/9000")
    })
    .await;
    assert!(matches!(pull_error(&swapped).await, Error::Size { .. }));
}

#[tokio::test]
async fn by_digest_means_that_digest() {
    let image = Image::new(vec![]);
    let server = Server::start(move |_| Reply::ok(image.manifest.clone())).await;
    let mut request = request(&server, "app");
    request.reference = request.reference.with_digest(sha256(b"something else"));
    let error = client().pull(&request, Arc::new(MemorySink::default()), |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
}

#[tokio::test]
async fn documents_without_end_and_ambiguous_ones() {
    let huge = with(manifest_path, |_| Reply::ok(vec![b' '; 5 << 20])).await;
    assert!(matches!(pull_error(&huge).await, Error::TooLarge { .. }));
    let both = with(manifest_path, |i| {
        let text = String::from_utf8(i.manifest.clone()).unwrap();
        Reply::ok(text.replacen('{', "{\"manifests\":[],", 1))
    })
    .await;
    assert!(matches!(pull_error(&both).await, Error::Document { .. }));
    let type_lie =
        with(manifest_path, |i| Reply::ok(i.manifest.clone()).header("Content-Type", distribution::MEDIA_OCI_INDEX))
            .await;
    assert!(matches!(pull_error(&type_lie).await, Error::Document { .. }));
    let schema1 = with(manifest_path, |_| {
        Reply::ok("{}").header("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
    })
    .await;
    assert!(matches!(pull_error(&schema1).await, Error::Schema1 { .. }));
    let deep = with(manifest_path, |_| Reply::ok("[".repeat(1 << 20))).await;
    assert!(matches!(pull_error(&deep).await, Error::Document { .. }));
}

#[tokio::test]
async fn realms_that_are_no_place_to_go() {
    let huge = format!("Bearer realm=\"http://x/{}\"", "a".repeat(300_000));
    for challenge in ["Bearer realm=\"file:///etc/passwd\"", "Bearer realm=\"/token\"", "Bearer realm=\"ftp://x/\""] {
        let server = Server::start(move |_| Reply::status(401).header("WWW-Authenticate", challenge)).await;
        assert!(matches!(pull_error(&server).await, Error::Refused { .. }), "{challenge}");
    }
    for challenge in [huge.as_str(), "", "Bearer", "\u{1}"] {
        let challenge = challenge.to_owned();
        let server = Server::start(move |_| Reply::status(401).header("WWW-Authenticate", challenge.clone())).await;
        pull_error(&server).await;
    }
}

#[tokio::test]
async fn token_servers_that_flood_or_babble() {
    for (body, what) in [
        (vec![b'a'; 3 << 20], "endless"),
        (b"{}".to_vec(), "empty"),
        (b"not json".to_vec(), "babble"),
        (br#"{"token":"a\nb"}"#.to_vec(), "header injection"),
        (format!(r#"{{"token":"{}"}}"#, "t".repeat(100_000)).into_bytes(), "huge token"),
    ] {
        let tokens = Server::start(move |_| Reply::ok(body.clone())).await;
        let realm = tokens.url("/token");
        let server =
            Server::start(move |_| Reply::status(401).header("WWW-Authenticate", format!("Bearer realm=\"{realm}\"")))
                .await;
        let error = pull_error(&server).await;
        assert!(matches!(error, Error::Token { .. } | Error::TooLarge { .. }), "{what}: {error}");
    }
}

#[tokio::test]
async fn redirects_keep_credentials_at_home_and_end() {
    let image = Image::new(vec![vec![7; 5000]]);
    let (content, bytes) = (image.clone(), image.layers[0].clone());
    let elsewhere = Server::start(move |_| Reply::ok(bytes.clone())).await;
    let (target, layer) = (elsewhere.url("/blob?signature=x"), layer_path(&image));
    let server = Server::start(move |seen| {
        if seen.headers.get("authorization").map(String::as_str) != Some("Basic dXNlcjpwYXNz") {
            return Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        if seen.path() == layer { Reply::redirect(target.clone()) } else { content.serve(seen) }
    })
    .await;
    let mut request = request(&server, "app:1");
    request.credentials = Some(Credentials::basic("user", "pass"));
    client().pull(&request, Arc::new(MemorySink::default()), |_| ()).await.unwrap();
    let seen = elsewhere.seen();
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].headers.contains_key("authorization"));

    let circle = Server::start(|seen| Reply::redirect(seen.target.clone())).await;
    assert!(matches!(pull_error(&circle).await, Error::Refused { .. }));
    assert_eq!(circle.seen().len(), 11);
    for location in ["file:///etc/passwd", "", "gopher://x/", "http://user:pw@127.0.0.1/"] {
        let server = Server::start(move |_| Reply::redirect(location)).await;
        assert!(matches!(pull_error(&server).await, Error::Refused { .. }), "{location}");
    }
    // A challenge after a redirect is not answered: it is not the registry's.
    let challenger = Server::start(|_| Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\"")).await;
    let to = challenger.url("/x");
    let server = Server::start(move |_| Reply::redirect(to.clone())).await;
    pull_error(&server).await;
    assert!(challenger.seen().iter().all(|s| !s.headers.contains_key("authorization")));
}

#[tokio::test]
async fn a_registry_elsewhere_cannot_reach_this_hosts_loopback() {
    let Some(ip) = own_address() else {
        println!("skipped: this host has no address besides loopback");
        return;
    };
    let sentinel = Server::start(|_| Reply::ok("{}")).await;
    let to = sentinel.url("/secret");
    let metadata = "http://169.254.169.254/latest/meta-data".to_owned();
    for target in [to.clone(), metadata] {
        let realm = target.clone();
        let redirecting = Server::start_on(ip, move |_| Reply::redirect(target.clone())).await;
        let challenge = format!("Bearer realm=\"{realm}\"");
        let challenging =
            Server::start_on(ip, move |_| Reply::status(401).header("WWW-Authenticate", challenge.clone())).await;
        for server in [&redirecting, &challenging] {
            let mut request = request(server, "app:1");
            request.credentials = Some(Credentials::basic("user", "pass"));
            let client = client_with(vec![ip.to_string()]);
            let error = client.pull(&request, Arc::new(MemorySink::default()), |_| ()).await.unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{error}");
        }
    }
    assert_eq!(sentinel.connections(), 0);
}

#[tokio::test]
async fn words_of_a_registry_are_safe_to_print() {
    let server = Server::start(|_| Reply {
        body: br#"{"errors":[{"code":"DENIED","message":"\u001b[2Jgone\u0007"}]}"#.to_vec(),
        ..Reply::status(403)
    })
    .await;
    let text = pull_error(&server).await.to_string();
    assert!(text.contains("gone") && !text.chars().any(char::is_control), "{text:?}");
}
