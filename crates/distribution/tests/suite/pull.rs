//! Pulls from an honest but unreliable registry: progress, retries, resumption, platforms, tokens.

use crate::support::*;
use distribution::{Credentials, Error};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use types::Kind;

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(len)
    .collect()
}

#[tokio::test]
async fn whole_image_then_up_to_date() {
    let image = Image::new(vec![noise(300_000, 1), noise(10, 2), noise(0, 3), noise(10, 2)]);
    let script = image.clone();
    let server = Server::start(move |seen| script.serve(seen)).await;
    let (client, sink, log) = (client(), Arc::new(MemorySink::default()), Log::default());
    let pulled = client.pull(&request(&server, "app:1"), sink.clone(), log.teller()).await.unwrap();
    assert!(pulled.updated);
    assert_eq!(pulled.target.digest, sha256(&image.manifest));
    assert_eq!(pulled.layers.len(), 4);
    for layer in &image.layers {
        assert_eq!(sink.layers.lock().unwrap()[&sha256(layer)], *layer);
    }
    assert_eq!(sink.documents.lock().unwrap().len(), 2);
    let words = log.words();
    let id = sha256(&image.layers[0]).short();
    assert_eq!(words[0], "1: Pulling from app");
    for expected in ["Pulling fs layer", "Verifying Checksum", "Download complete", "Extracting", "Pull complete"] {
        assert!(words.contains(&format!("{id}: {expected}")), "{expected} in {words:?}");
    }
    let name = format!("{}/app:1", server.address);
    assert_eq!(words.last().unwrap(), &format!("Status: Downloaded newer image for {name}"));

    let blobs = server.seen().len();
    let mut again = request(&server, "app:1");
    again.current = Some(pulled.target.digest);
    let log = Log::default();
    let same = client.pull(&again, sink, log.teller()).await.unwrap();
    assert!(!same.updated);
    assert_eq!(log.words().last().unwrap(), &format!("Status: Image is up to date for {name}"));
    // Manifest and configuration only, over the connection that stood.
    assert_eq!(server.seen().len() - blobs, 2);
}

#[tokio::test]
async fn missing_things_in_dockers_words() {
    let image = Image::new(vec![]);
    let server = Server::start(move |seen| match seen.path() {
        "/v2/secret/manifests/1" => Reply {
            body: br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#.to_vec(),
            ..Reply::status(403)
        },
        _ => image.serve(seen),
    })
    .await;
    let at = server.address;
    let error = |name: &'static str| {
        let request = request(&server, name);
        async move { client().pull(&request, Arc::new(MemorySink::default()), |_| ()).await.unwrap_err() }
    };
    let missing = error("app:nope").await;
    assert_eq!(
        missing.to_string(),
        format!("manifest for {at}/app:nope not found: manifest unknown: manifest unknown")
    );
    assert_eq!(missing.kind(), Kind::NotFound);
    let denied = error("secret:1").await.to_string();
    let rest =
        "repository does not exist or may require 'docker login': denied: requested access to the resource is denied";
    assert_eq!(denied, format!("pull access denied for {at}/secret, {rest}"));

    let closed = { Server::start(|_| Reply::status(500)).await.address };
    let refused = client()
        .pull(
            &distribution::PullRequest {
                reference: format!("{closed}/app").parse().unwrap(),
                platform: None,
                credentials: None,
                current: None,
            },
            Arc::new(MemorySink::default()),
            |_| (),
        )
        .await;
    if let Err(error) = refused {
        assert_eq!(
            error.to_string(),
            format!("Get \"http://{closed}/v2/\": dial tcp {closed}: connect: connection refused")
        );
    } else {
        panic!("a closed port answered");
    }
}

#[tokio::test]
async fn a_broken_blob_is_resumed_where_it_broke() {
    let image = Image::new(vec![noise(500_000, 7)]);
    let layer = image.layers[0].clone();
    let path = format!("/v2/app/blobs/{}", sha256(&layer));
    let (script, blob_path, served) = (image.clone(), path.clone(), AtomicUsize::new(0));
    let server = Server::start(move |seen| {
        if seen.path() != blob_path {
            return script.serve(seen);
        }
        let start: usize = seen.headers.get("range").map_or(0, |r| r[6..r.len() - 1].parse().unwrap());
        match served.fetch_add(1, Ordering::SeqCst) {
            0 => Reply { cut: Some(123_456), ..Reply::ok(layer.clone()) },
            1 => Reply::status(503).header("Retry-After", "0"),
            // This one ignores the range.
            2 => Reply { cut: Some(200_000), ..Reply::ok(layer.clone()) },
            _ => Reply { status: 206, ..Reply::ok(layer[start..].to_vec()) }
                .header("Content-Range", format!("bytes {start}-{}/{}", layer.len() - 1, layer.len())),
        }
    })
    .await;
    let (sink, log) = (Arc::new(MemorySink::default()), Log::default());
    client().pull(&request(&server, "app:1"), sink.clone(), log.teller()).await.unwrap();
    assert_eq!(sink.layers.lock().unwrap()[&sha256(&image.layers[0])], image.layers[0]);
    let ranges: Vec<Option<String>> = server.seen_path(&path).iter().map(|s| s.headers.get("range").cloned()).collect();
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[1].as_deref(), Some("bytes=123456-"));
    assert_eq!(ranges.last().unwrap().as_deref(), Some("bytes=200000-"));
    assert!(log.words().iter().any(|w| w.contains("Retrying in 1 second")));
}

#[tokio::test]
async fn a_registry_that_stays_broken_ends_the_pull() {
    let image = Image::new(vec![noise(1000, 1)]);
    let server = Server::start(move |seen| {
        if seen.path().contains(&sha256(&noise(1000, 1)).to_string()) {
            return Reply { stall: true, cut: Some(10), ..Reply::ok(noise(1000, 1)) };
        }
        image.serve(seen)
    })
    .await;
    let sink = Arc::new(MemorySink::default());
    let error = client().pull(&request(&server, "app:1"), sink.clone(), |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    assert!(sink.layers.lock().unwrap().is_empty() && sink.documents.lock().unwrap().is_empty());

    let down = Server::start(|_| Reply::status(502)).await;
    let error = client().pull(&request(&down, "app:1"), sink, |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 502, .. }), "{error}");
    assert_eq!(down.seen().len(), 3);
}

#[tokio::test]
async fn platforms_of_an_index() {
    let host = types::Platform::host();
    let (ours, other) = (Image::new(vec![noise(10, 1)]), Image::for_arch("s390x", vec![noise(10, 2)]));
    let entry = |image: &Image, arch: &str| {
        format!(
            r#"{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"{arch}"}}}}"#,
            distribution::MEDIA_OCI_MANIFEST,
            sha256(&image.manifest),
            image.manifest.len()
        )
    };
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{},{}]}}"#,
        distribution::MEDIA_OCI_INDEX,
        entry(&other, "s390x"),
        entry(&ours, &host.arch)
    )
    .into_bytes();
    let (a, b, top) = (ours.clone(), other.clone(), index.clone());
    let server = Server::start(move |seen| {
        if seen.path() == "/v2/app/manifests/multi" {
            return Reply::ok(top.clone()).header("Content-Type", distribution::MEDIA_OCI_INDEX);
        }
        let reply = a.serve(seen);
        if reply.status == 200 { reply } else { b.serve(seen) }
    })
    .await;
    let sink = Arc::new(MemorySink::default());
    let mut request = request(&server, "app:multi");
    let pulled = client().pull(&request, sink.clone(), |_| ()).await.unwrap();
    assert_eq!(pulled.target.digest, sha256(&index));
    assert_eq!(pulled.manifest.digest, sha256(&ours.manifest));
    assert_eq!(sink.documents.lock().unwrap().len(), 3);
    request.platform = Some("linux/s390x".parse().unwrap());
    let pulled = client().pull(&request, sink.clone(), |_| ()).await.unwrap();
    assert_eq!(pulled.manifest.digest, sha256(&other.manifest));
    request.platform = Some("linux/riscv64".parse().unwrap());
    let error = client().pull(&request, sink.clone(), |_| ()).await.unwrap_err();
    assert_eq!(error.to_string(), "no matching manifest for linux/riscv64 in the manifest list entries");
    request.reference = format!("{}/app:1", server.address).parse().unwrap();
    let error = client().pull(&request, sink, |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::WrongPlatform { .. }), "{error}");
}

#[tokio::test]
async fn bearer_token_with_credentials_and_its_renewal() {
    let image = Image::new(vec![noise(10, 1), noise(10, 2)]);
    let issued = Arc::new(AtomicUsize::new(0));
    let count = issued.clone();
    let tokens = Server::start(move |seen| {
        let basic = seen.headers.get("authorization").map(String::as_str);
        if basic != Some("Basic dXNlcjpwYXNz") {
            return Reply::status(401);
        }
        let n = count.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::ok(format!(r#"{{"access_token":"token{n}","expires_in":300}}"#))
    })
    .await;
    let realm = tokens.url("/token");
    let blobs_with_first = AtomicUsize::new(0);
    let server = Server::start(move |seen| {
        let challenge = format!(r#"Bearer realm="{realm}",service="reg""#);
        let denied = Reply::status(401).header("WWW-Authenticate", challenge);
        match seen.headers.get("authorization").map(String::as_str) {
            // The first token runs out in the middle of the pull.
            Some("Bearer token1")
                if seen.path().contains("blobs") && blobs_with_first.fetch_add(1, Ordering::SeqCst) > 0 =>
            {
                denied
            }
            Some(token) if token.starts_with("Bearer token") => image.serve(seen),
            _ => denied,
        }
    })
    .await;
    let mut request = request(&server, "app:1");
    request.credentials = Some(Credentials::basic("user", "pass"));
    client().pull(&request, Arc::new(MemorySink::default()), |_| ()).await.unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 2);
    let asked = &tokens.seen()[0];
    assert!(
        asked.target.contains("scope=repository:app:pull") && asked.target.contains("service=reg"),
        "{}",
        asked.target
    );

    request.credentials = Some(Credentials::basic("user", "wrong"));
    let error = client().pull(&request, Arc::new(MemorySink::default()), |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    assert!(error.to_string().ends_with("unauthorized: incorrect username or password"), "{error}");
}

#[tokio::test]
async fn login_by_basic_and_by_token() {
    let server = Server::start(|seen| match seen.headers.get("authorization").map(String::as_str) {
        Some("Basic dXNlcjpwYXNz") => Reply::ok("{}"),
        _ => Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await;
    let host = server.address.to_string();
    assert_eq!(client().login(&host, &Credentials::basic("user", "pass")).await.unwrap().identity_token, None);
    let with_scheme = format!("http://{host}/v1/");
    assert!(client().login(&with_scheme, &Credentials::basic("user", "pass")).await.is_ok());
    let error = client().login(&host, &Credentials::basic("user", "no")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);

    let tokens = Server::start(|seen| {
        if seen.method == "POST" {
            assert!(seen.body.contains("grant_type=refresh_token") && seen.body.contains("refresh_token=keep"));
            return Reply::ok(r#"{"access_token":"t"}"#);
        }
        assert!(seen.target.contains("offline_token=true") && seen.target.contains("account=user"));
        Reply::ok(r#"{"token":"t","refresh_token":"keep"}"#)
    })
    .await;
    let realm = tokens.url("/token");
    let server = Server::start(move |seen| match seen.headers.get("authorization").map(String::as_str) {
        Some("Bearer t") => Reply::ok("{}"),
        _ => Reply::status(401).header("WWW-Authenticate", format!("Bearer realm=\"{realm}\"")),
    })
    .await;
    let host = server.address.to_string();
    let login = client().login(&host, &Credentials::basic("user", "pass")).await.unwrap();
    assert_eq!(login.identity_token.as_deref(), Some("keep"));
    let again = Credentials { identity_token: "keep".into(), ..Credentials::default() };
    assert!(client().login(&host, &again).await.is_ok());
}

#[tokio::test]
async fn a_failing_store_names_its_own_reason() {
    let image = Image::new(vec![noise(2_000_000, 1)]);
    let server = Server::start(move |seen| image.serve(seen)).await;
    let sink = Arc::new(MemorySink { fail_after: Some(1), ..MemorySink::default() });
    let error = client().pull(&request(&server, "app:1"), sink, |_| ()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Exhausted, "no space left on device"));
}
