//! Through nginx with HTTP/2 in front of Debian's `docker-registry`: two programs that others wrote.

#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use crate::support::multiplexed::certificate;
use crate::support::real::Registry;
use crate::support::*;
use distribution::{Client, Config, Limits, PullRequest, Ranges};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

struct Nginx {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(dir: &Path, port: u16, upstream: u16, more: &str) -> String {
    let at = dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path {at}/{name};\n"))
        .concat();
    format!(
        "{}daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\nhttp {{\n{temporary}  \
         log_format told '$server_protocol $status $request_uri $http_range';\n  access_log {at}/access.log told;\n  \
         server {{\n    listen 127.0.0.1:{port} ssl http2;\n    ssl_certificate {at}/reg.crt;\n    \
         ssl_certificate_key {at}/reg.key;\n    client_max_body_size 0;\n    location / {{\n      {more}\n      \
         proxy_pass http://127.0.0.1:{upstream};\n      proxy_set_header Host $http_host;\n      \
         proxy_set_header X-Forwarded-Proto https;\n    }}\n  }}\n}}\n",
        if is_root() { "user root;\n" } else { "" }
    )
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0)
}

impl Nginx {
    /// Nothing when it is not installed.
    async fn start(upstream: u16, more: &str) -> Option<Nginx> {
        let dir = tempfile::tempdir().unwrap();
        let skipped = || println!("skipped: nginx or openssl is not installed");
        let Some(_) = certificate(dir.path(), "127.0.0.1".parse().unwrap()) else {
            skipped();
            return None;
        };
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = dir.path().join("nginx.conf");
        std::fs::write(&config, configuration(dir.path(), port, upstream, more)).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir.path()).arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            skipped();
            return None;
        };
        let nginx = Nginx { child, port, dir };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let log = std::fs::read_to_string(nginx.dir.path().join("error.log"));
            assert!(Instant::now() < deadline, "nginx did not come up: {log:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(nginx)
    }

    /// What was asked, a line each.
    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

async fn pulled(client: &Client, nginx: &Nginx, image: &Image) {
    let reference = format!("127.0.0.1:{}/app:1", nginx.port).parse().unwrap();
    let request = PullRequest { reference, platform: None, credentials: None, current: None };
    let sink = Arc::new(MemorySink::default());
    client.pull(&request, sink.clone(), |_| ()).await.unwrap();
    for layer in &image.layers {
        assert!(sink.layers.lock().unwrap()[&sha256(layer)] == *layer);
    }
}

#[tokio::test]
async fn a_pull_by_http2_and_by_ranges_where_each_answer_is_slow() {
    let Some(registry) = Registry::start("127.0.0.1".parse().unwrap(), "").await else { return };
    let noise: Vec<u8> = (0..2u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let image = Image::new(vec![noise, vec![2; 100_000], vec![3; 10]]);
    registry.push(&image).await;
    let Some(fast) = Nginx::start(registry.port, "").await else { return };
    pulled(&client(), &fast, &image).await;
    let log = fast.log();
    assert_eq!(log.len(), 5, "{log:?}");
    assert!(log.iter().all(|line| line.starts_with("HTTP/2.0 200 ")), "{log:?}");

    let Some(slow) = Nginx::start(registry.port, "limit_rate 4m;").await else { return };
    let ranges = Ranges { size: 1 << 20, from: 4 << 20, ..Ranges::default() };
    let client = Client::new(Config { limits: Limits { ranges, ..Limits::default() }, ..Config::default() });
    pulled(&client, &slow, &image).await;
    let log = slow.log();
    let ranges: Vec<&String> = log.iter().filter(|line| line.contains(" 206 ")).collect();
    assert!(ranges.len() >= 3, "{log:?}");
    assert!(log.iter().all(|line| line.starts_with("HTTP/2.0 ")), "{log:?}");
}
