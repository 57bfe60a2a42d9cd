//! Debian's `docker-registry`, a real distribution registry.

#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use super::{Image, sha256};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// It, killed when dropped.
pub struct Registry {
    child: Child,
    pub port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// Starts a registry; nothing when the program is not installed.
    pub async fn start(ip: IpAddr, extra: &str) -> Option<Registry> {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().port();
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: {ip}:{port}\n{extra}",
            dir.path().join("data").display()
        );
        std::fs::write(&config, text).unwrap();
        let spawned = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
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

    /// Pushes an image as `app:1`, by requests of no client.
    pub async fn push(&self, image: &Image) {
        let port = self.port;
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
