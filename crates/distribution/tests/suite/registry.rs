//! Against Debian's `docker-registry`, a real distribution registry: push by plain requests, pull
//! with the client; and over TLS with a certificate of its own.

#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use crate::support::multiplexed::certificate;
use crate::support::real::Registry;
use crate::support::*;
use distribution::{Client, Config, Error};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

#[tokio::test]
async fn pull_from_a_real_registry() {
    let Some(registry) = Registry::start(Ipv4Addr::LOCALHOST.into(), "").await else { return };
    let image = Image::new(vec![vec![1; 3_000_000], vec![2; 100], b"three".to_vec(), vec![4; 70_000]]);
    registry.push(&image).await;
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
    let registry = Registry::start(ip, &tls).await?;
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
    let config = Config { certs_dirs: vec![tls.dir.path().join("certs.d")], ..Config::default() };
    let host_dir = config.certs_dirs[0].join(&name);
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
    let config = Config { certs_dirs: vec![tls.dir.path().join("certs.d")], ..Config::default() };
    let error = Client::new(config.clone()).resolve(&reference, None).await.unwrap_err();
    assert!(error.to_string().contains("tls: failed to verify certificate"), "{error}");

    let host_dir = config.certs_dirs[0].join(&name);
    std::fs::create_dir_all(&host_dir).unwrap();
    std::fs::copy(&tls.cert, host_dir.join("ca.crt")).unwrap();
    let error = Client::new(config.clone()).resolve(&reference, None).await.unwrap_err();
    assert!(is_answer(&error), "{error}");

    // The same authority does not vouch for another name.
    let Some(wrong) = start_tls(ip, Ipv4Addr::new(192, 0, 2, 1).into()).await else { return };
    let name = format!("{ip}:{}", wrong.registry.port);
    let host_dir = config.certs_dirs[0].join(&name);
    std::fs::create_dir_all(&host_dir).unwrap();
    std::fs::copy(&wrong.cert, host_dir.join("ca.crt")).unwrap();
    let error = Client::new(config).resolve(&format!("{name}/app:1").parse().unwrap(), None).await.unwrap_err();
    assert!(error.to_string().contains("tls: failed to verify certificate"), "{error}");
}
