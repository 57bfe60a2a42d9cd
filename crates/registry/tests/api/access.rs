//! Who may do what: passwords, TLS, read-only mode; and the metrics.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::http::Connection;
use crate::support::{Api, Registry, sha256};

fn basic(text: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

fn password_file(dir: &Path, users: &[(&str, &str)]) -> PathBuf {
    let path = dir.join("htpasswd");
    let lines = users.iter().map(|(name, password)| format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap()));
    fs::write(&path, lines.collect::<String>()).unwrap();
    path
}

#[test]
fn passwords_let_in_those_of_the_file_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = password_file(dir.path(), &[("ann", "secret"), ("bob", "p:ä")]);
    let registry = Registry::with(|config| config.passwords = Some(file.clone()));
    let digest = sha256(b"x");
    for (method, target) in [
        ("GET", "/v2/".to_owned()),
        ("GET", "/v2/_catalog".to_owned()),
        ("GET", format!("/v2/a/blobs/{digest}")),
        ("POST", format!("/v2/a/blobs/uploads/?digest={digest}")),
        ("PUT", "/v2/a/manifests/t".to_owned()),
        ("DELETE", "/v2/a/manifests/t".to_owned()),
    ] {
        let answer = registry.call(method, &target, &[], b"").expect_error(401, "UNAUTHORIZED");
        assert!(answer.must("www-authenticate").starts_with("Basic realm="));
        for wrong in [basic("ann:wrong"), basic("carl:secret"), basic("ann"), "Bearer x".into(), "Basic !".into()] {
            registry.call(method, &target, &[("Authorization", &wrong)], b"").expect_error(401, "UNAUTHORIZED");
        }
    }
    assert!(registry.root().join("repositories").read_dir().unwrap().next().is_none(), "nothing was changed");
    for right in ["ann:secret", "bob:p:ä"] {
        let right = basic(right);
        let headers = [("Authorization", right.as_str())];
        registry.call("GET", "/v2/", &headers, b"").expect(200);
        registry.call("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &headers, b"x").expect(201);
    }
    // A reload takes them in and out.
    password_file(dir.path(), &[("carl", "new")]);
    registry.runtime.block_on(registry.control.reload()).unwrap();
    registry.call("GET", "/v2/", &[("Authorization", &basic("ann:secret"))], b"").expect(401);
    registry.call("GET", "/v2/", &[("Authorization", &basic("carl:new"))], b"").expect(200);
    fs::write(&file, "carl:plain").unwrap();
    registry.runtime.block_on(registry.control.reload()).unwrap_err();
    registry.call("GET", "/v2/", &[("Authorization", &basic("carl:new"))], b"").expect(200);
}

#[test]
fn read_only_serves_and_changes_nothing() {
    let registry = Registry::start();
    let digest = registry.push_image("a", "t", &[b"layer"]);
    let dir = registry.stop();
    let registry = Registry::over(dir, |config| config.read_only = true);
    registry.get("/v2/a/manifests/t").expect(200);
    registry.head(&format!("/v2/a/blobs/{}", sha256(b"layer"))).expect(200);
    for (method, target) in [
        ("DELETE", format!("/v2/a/manifests/{digest}")),
        ("DELETE", "/v2/a/manifests/t".to_owned()),
        ("PUT", "/v2/a/manifests/t2".to_owned()),
        ("POST", "/v2/a/blobs/uploads/".to_owned()),
    ] {
        registry.call(method, &target, &[], b"").expect_error(405, "UNSUPPORTED");
    }
    registry.get("/v2/a/manifests/t").expect(200);
}

/// A certificate for 127.0.0.1 that signs itself, and its key.
pub fn certificate(dir: &Path, name: &str) -> Option<(PathBuf, PathBuf)> {
    let (chain, key) = (dir.join("chain.pem"), dir.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&chain)
        .stderr(Stdio::null())
        .status();
    made.is_ok_and(|status| status.success()).then_some((chain, key))
}

pub fn trusting(chain: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(chain).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

#[test]
fn tls_with_a_certificate_that_can_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let Some((chain, key)) = certificate(dir.path(), "first") else {
        println!("left out: openssl is not installed");
        return;
    };
    let registry = Registry::with(|config| config.tls = Some((chain.clone(), key.clone())));
    let first = trusting(&chain);
    let bytes = crate::support::noise(60, 900_000);
    let digest = sha256(&bytes);
    let mut connection = Connection::open_tls(registry.address(), Arc::clone(&first));
    connection.call("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], &bytes).expect(201);
    assert!(connection.call("GET", &format!("/v2/a/blobs/{digest}"), &[], b"").expect(200).body == bytes);
    // Without TLS there is no answer, and the server goes on.
    let mut plain = registry.connect();
    plain.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(plain.head().is_err());

    certificate(dir.path(), "second").unwrap();
    let second = trusting(&chain);
    assert!(
        Connection::open_tls(registry.address(), Arc::clone(&second)).send(b"GET /").is_err(),
        "not the new one yet"
    );
    registry.runtime.block_on(registry.control.reload()).unwrap();
    Connection::open_tls(registry.address(), Arc::clone(&second)).call("GET", "/v2/", &[], b"").expect(200);
    connection.call("GET", "/v2/", &[], b"").expect(200);
    fs::write(&key, "no key").unwrap();
    registry.runtime.block_on(registry.control.reload()).unwrap_err();
    Connection::open_tls(registry.address(), second).call("GET", "/v2/", &[], b"").expect(200);
}

#[test]
fn metrics_count_what_was_done() {
    let registry = Registry::with(|config| config.metrics = Some("127.0.0.1:0".parse().unwrap()));
    let metrics = registry.metrics.unwrap();
    let bytes = crate::support::noise(61, 10_000);
    let digest = registry.push_blob("a", &bytes);
    registry.get(&format!("/v2/a/blobs/{digest}")).expect(200);
    registry.call("POST", &format!("/v2/b/blobs/uploads/?mount={digest}&from=a"), &[], b"").expect(201);
    registry.get("/v2/a/manifests/none").expect(404);
    registry.begin("a");
    registry.collect(std::time::Duration::ZERO);
    let page = Connection::open(metrics).call("GET", "/metrics", &[], b"").expect(200);
    assert!(page.must("content-type").starts_with("text/plain; version=0.0.4"));
    let text = page.text();
    for line in [
        "dhow_registry_requests_total{method=\"GET\",code=\"4xx\"} 1",
        "dhow_registry_requests_total{method=\"GET\",code=\"2xx\"} 1",
        "dhow_registry_requests_total{method=\"POST\",code=\"2xx\"} 3",
        "dhow_registry_received_bytes_total 10000",
        "dhow_registry_sent_bytes_total 10000",
        "dhow_registry_blobs_pushed_total 1",
        "dhow_registry_blobs_mounted_total 1",
        "dhow_registry_collections_total 1",
        "dhow_registry_collected_blobs_total 1",
        "dhow_registry_uploads 1",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
    // Each family is described once, as the format wants it.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert_eq!(text.matches(&format!("# TYPE {name} ")).count(), 1, "{name}");
    }
    Connection::open(metrics).call("GET", "/v2/", &[], b"").expect(404);
    registry.get("/metrics").expect(404);
}
