//! HTTP/2 over TLS: our own client by negotiation, a plain one that does not read, and names that tokens are asked for by.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use distribution::Chunk;
use h2::client::SendRequest;
use http::Request;
use registry::Config;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::access::{certificate, trusting};
use crate::client::{client, push, request};
use crate::support::{Api, OCI_MANIFEST, Registry, noise, sha256};

const MIB: usize = 1 << 20;

/// A registry with TLS, and its certificate; nothing without openssl.
fn start(change: impl FnOnce(&mut Config)) -> Option<(Registry, PathBuf, tempfile::TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let Some((chain, key)) = certificate(dir.path(), "registry") else {
        println!("left out: openssl is not installed");
        return None;
    };
    let registry = Registry::with(|config| {
        config.tls = Some((chain.clone(), key));
        change(config);
    });
    Some((registry, chain, dir))
}

type Running = JoinHandle<Result<(), h2::Error>>;

async fn connect(registry: &Registry, chain: &Path) -> (SendRequest<bytes::Bytes>, Running) {
    let mut config = rustls::ClientConfig::clone(&trusting(chain));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(registry.address()).await.unwrap();
    let name = ServerName::IpAddress(registry.address().ip().into());
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn get(registry: &Registry, target: &str) -> Request<()> {
    Request::get(format!("https://{}{target}", registry.address())).body(()).unwrap()
}

#[test]
fn our_client_pushes_and_pulls() {
    let Some((registry, chain, _dir)) = start(|_| ()) else { return };
    let layer = noise(70, 5 * MIB);
    let (asked, source, digest) = request(registry.address(), "team/app:1", &layer);
    registry.runtime.block_on(async {
        let client = client();
        push(&client, &asked, &source).await.0.unwrap();
        let reference = asked.reference.clone();
        assert_eq!(client.manifest(&reference, None).await.unwrap().descriptor.digest, digest);
        let blob = client.blob(&reference, sha256(&layer), None).await.unwrap();
        let (chunks, mut received) = mpsc::channel(4);
        let task = tokio::spawn(blob.download(chunks));
        let mut bytes = Vec::new();
        while let Some(Chunk::Data(data)) = received.recv().await {
            bytes.extend_from_slice(&data);
        }
        task.await.unwrap().unwrap();
        assert_eq!(sha256(&bytes), sha256(&layer));

        let signature = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#.to_owned()
            + r#""artifactType":"application/x","config":{"mediaType":"application/vnd.oci.empty.v1+json","#
            + &format!(r#""digest":"{}","size":2}},"layers":[],"#, sha256(b"{}"))
            + &format!(r#""subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":1}}}}"#);
        let (mut sender, _running) = connect(&registry, &chain).await;
        for (method, target, kind, body) in [
            ("POST", format!("/v2/team/app/blobs/uploads/?digest={}", sha256(b"{}")), "application/octet-stream", "{}"),
            ("PUT", format!("/v2/team/app/manifests/{}", sha256(signature.as_bytes())), OCI_MANIFEST, &signature),
        ] {
            let request = Request::builder().method(method).uri(format!("https://{}{target}", registry.address()));
            let request = request.header("content-type", kind).header("content-length", body.len()).body(()).unwrap();
            let (answer, mut sending) = sender.send_request(request, false).unwrap();
            sending.send_data(body.to_owned().into(), true).unwrap();
            assert_eq!(answer.await.unwrap().status(), 201);
        }
        let found = client.referrers(&reference, &digest, Some("application/x"), None).await.unwrap();
        assert_eq!(found.iter().map(|r| r.descriptor.digest).collect::<Vec<_>>(), [sha256(signature.as_bytes())]);
        assert!(client.referrers(&reference, &digest, Some("application/y"), None).await.unwrap().is_empty());
    });
    // Nobody waits for ever for a connection that is idle.
    registry.stop();
}

#[test]
fn answers_that_nobody_reads_end_with_their_connection() {
    let short = Duration::from_millis(300);
    let Some((registry, chain, _dir)) = start(|config| {
        config.limits.head = short;
        config.limits.stall = short;
    }) else {
        return;
    };
    // More than the client has room for, through a connection that is alive.
    let layer = noise(71, 3 * MIB);
    let (asked, source, _) = request(registry.address(), "app:1", &layer);
    registry.runtime.block_on(async {
        push(&client(), &asked, &source).await.0.unwrap();
        let (sender, running) = connect(&registry, &chain).await;
        let target = format!("/v2/app/blobs/{}", sha256(&layer));
        let mut sender = sender.ready().await.unwrap();
        let (answer, _) = sender.send_request(get(&registry, &target), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        // The body stays unread, and the connection ends all the same.
        let _ = tokio::time::timeout(Duration::from_secs(60), running).await.expect("the registry closes it");
        drop(answer);
        // So does an idle one.
        let (sender, running) = connect(&registry, &chain).await;
        let _ = tokio::time::timeout(Duration::from_secs(60), running).await.expect("the registry closes it");
        drop(sender);
    });
}

#[test]
fn a_reader_that_is_slow_and_steady_gets_all() {
    let short = Duration::from_millis(300);
    let Some((registry, chain, _dir)) = start(|config| {
        config.limits.head = short;
        config.limits.stall = short;
    }) else {
        return;
    };
    let layer = noise(72, MIB);
    let (asked, source, _) = request(registry.address(), "app:1", &layer);
    registry.runtime.block_on(async {
        push(&client(), &asked, &source).await.0.unwrap();
        let (sender, _running) = connect(&registry, &chain).await;
        let target = format!("/v2/app/blobs/{}", sha256(&layer));
        let mut sender = sender.ready().await.unwrap();
        let (answer, _) = sender.send_request(get(&registry, &target), true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            bytes.extend_from_slice(&data);
            // Longer in all than the registry waits.
            tokio::time::sleep(Duration::from_millis(15)).await;
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        assert_eq!(sha256(&bytes), sha256(&layer));
    });
}

#[test]
fn tokens_are_asked_for_at_the_name_the_client_uses() {
    let files = tempfile::tempdir().unwrap();
    let (passwords, access) = (files.path().join("htpasswd"), files.path().join("access"));
    std::fs::write(&passwords, format!("ann:{}\n", bcrypt::hash("ann", 4).unwrap())).unwrap();
    std::fs::write(&access, "allow users ** pull\n").unwrap();
    let Some((registry, chain, _dir)) = start(|config| {
        config.passwords = Some(passwords);
        config.access = Some(access);
    }) else {
        return;
    };
    registry.runtime.block_on(async {
        let (sender, _running) = connect(&registry, &chain).await;
        let mut sender = sender.ready().await.unwrap();
        let answer = sender.send_request(get(&registry, "/v2/"), true).unwrap().0.await.unwrap();
        assert_eq!(answer.status(), 401);
        let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
        assert!(challenge.contains(&format!("realm=\"https://{}/token\"", registry.address())), "{challenge}");
    });
}
