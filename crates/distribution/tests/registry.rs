//! Against Debian's `docker-registry`, a real distribution registry: push by plain requests, pull
//! with the client; and over TLS with a certificate of its own.

#![allow(clippy::print_stdout, reason = "a skipped test says why")]

mod support;

use distribution::{Client, Config, Error};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Registry {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a registry; nothing when the program is not installed.
async fn start(ip: IpAddr, extra: &str) -> Option<Registry> {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().port();
    let config = dir.path().join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: {ip}:{port}\n{extra}",
        dir.path().join("data").display()
    );
    std::fs::write(&config, text).unwrap();
    let spawned =
        Command::new("docker-registry").arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(child) = spawned else {
        println!("skipped: docker-registry is not installed");
        return None;
    };
    let registry = Registry { child, port, _dir: dir };
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect((ip, port)).await.is_err() {
        assert!(Instant::now() < deadline, "the registry did not come up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Some(registry)
}

async fn send(port: u16, method: &str, target: &str, content_type: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn push(port: u16, image: &Image) {
    for blob in std::iter::once(&image.config).chain(&image.layers) {
        let answer = send(port, "POST", "/v2/app/blobs/uploads/", "text/plain", b"").await;
        let location = answer.lines().find_map(|l| l.strip_prefix("Location: ")).expect("an upload").trim();
        let target = location.split_once("://").map_or(location, |(_, rest)| &rest[rest.find('/').unwrap()..]);
        let target = format!("{target}&digest={}", sha256(blob));
        let answer = send(port, "PUT", &target, "application/octet-stream", blob).await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
    let answer = send(port, "PUT", "/v2/app/manifests/1", distribution::MEDIA_OCI_MANIFEST, &image.manifest).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[tokio::test]
async fn pull_from_a_real_registry() {
    let Some(registry) = start(Ipv4Addr::LOCALHOST.into(), "").await else { return };
    let image = Image::new(vec![vec![1; 3_000_000], vec![2; 100], b"three".to_vec(), vec![4; 70_000]]);
    push(registry.port, &image).await;
    let client = client();
    let mut request = distribution::PullRequest {
        reference: format!("127.0.0.1:{}/app:1", registry.port).parse().unwrap(),
        platform: None,
        credentials: None,
        current: None,
    };
    let sink = Arc::new(MemorySink::default());
    let pulled = client.pull(&request, sink.clone(), |_| ()).await.unwrap();
    assert_eq!(pulled.target.digest, sha256(&image.manifest));
    for layer in &image.layers {
        assert_eq!(sink.layers.lock().unwrap()[&sha256(layer)], *layer);
    }
    let resolved = client.resolve(&request.reference, None).await.unwrap();
    assert_eq!((resolved.target, resolved.platforms), (pulled.target, vec![types::Platform::host()]));
    request.reference = request.reference.with_tag("2").unwrap();
    let error = client.pull(&request, sink.clone(), |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::ManifestUnknown { .. }), "{error}");
    request.reference = format!("127.0.0.1:{}/other", registry.port).parse().unwrap();
    let error = client.pull(&request, sink, |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("not found"), "{error}");
}

fn certificate(dir: &Path, ip: IpAddr) -> Option<(PathBuf, PathBuf)> {
    let (cert, key) = (dir.join("reg.crt"), dir.join("reg.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=reg.test", "-addext", &format!("subjectAltName=IP:{ip}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stderr(Stdio::null())
        .status();
    made.is_ok_and(|s| s.success()).then_some((cert, key))
}

struct TlsRegistry {
    registry: Registry,
    dir: tempfile::TempDir,
    cert: PathBuf,
}

async fn start_tls(ip: IpAddr, names: IpAddr) -> Option<TlsRegistry> {
    let dir = tempfile::tempdir().unwrap();
    let Some((cert, key)) = certificate(dir.path(), names) else {
        println!("skipped: openssl is not installed");
        return None;
    };
    let tls = format!("  tls: {{certificate: {}, key: {}}}\n", cert.display(), key.display());
    let registry = start(ip, &tls).await?;
    Some(TlsRegistry { registry, dir, cert })
}

fn is_answer(error: &Error) -> bool {
    matches!(error, Error::ManifestUnknown { .. } | Error::NameUnknown { .. })
}

#[tokio::test]
async fn loopback_is_spoken_to_with_unchecked_tls() {
    let ip = Ipv4Addr::LOCALHOST.into();
    let Some(tls) = start_tls(ip, ip).await else { return };
    let name = format!("127.0.0.1:{}", tls.registry.port);
    let reference: types::Reference = format!("{name}/app:1").parse().unwrap();
    let error = client().resolve(&reference, None).await.unwrap_err();
    assert!(is_answer(&error), "{error}");
    // Broken material of ours is named, not hidden by trying without TLS.
    let config = Config { certs_dir: tls.dir.path().join("certs.d"), ..Config::default() };
    let host_dir = config.certs_dir.join(&name);
    std::fs::create_dir_all(&host_dir).unwrap();
    std::fs::write(host_dir.join("client.cert"), "nonsense").unwrap();
    let error = Client::new(config).resolve(&reference, None).await.unwrap_err();
    assert!(matches!(error, Error::Tls(_)), "{error}");
}

#[tokio::test]
async fn other_hosts_need_a_certificate_we_trust() {
    let Some(ip) = own_address() else {
        println!("skipped: this host has no address besides loopback");
        return;
    };
    let Some(tls) = start_tls(ip, ip).await else { return };
    let name = format!("{ip}:{}", tls.registry.port);
    let reference: types::Reference = format!("{name}/app:1").parse().unwrap();
    let config = Config { certs_dir: tls.dir.path().join("certs.d"), ..Config::default() };
    let error = Client::new(config.clone()).resolve(&reference, None).await.unwrap_err();
    assert!(error.to_string().contains("tls: failed to verify certificate"), "{error}");

    let host_dir = config.certs_dir.join(&name);
    std::fs::create_dir_all(&host_dir).unwrap();
    std::fs::copy(&tls.cert, host_dir.join("ca.crt")).unwrap();
    let error = Client::new(config.clone()).resolve(&reference, None).await.unwrap_err();
    assert!(is_answer(&error), "{error}");

    // The same authority does not vouch for another name.
    let Some(wrong) = start_tls(ip, Ipv4Addr::new(192, 0, 2, 1).into()).await else { return };
    let name = format!("{ip}:{}", wrong.registry.port);
    let host_dir = config.certs_dir.join(&name);
    std::fs::create_dir_all(&host_dir).unwrap();
    std::fs::copy(&wrong.cert, host_dir.join("ca.crt")).unwrap();
    let error = Client::new(config).resolve(&format!("{name}/app:1").parse().unwrap(), None).await.unwrap_err();
    assert!(error.to_string().contains("tls: failed to verify certificate"), "{error}");
}
