//! The API in front of a real engine, over a real socket: every endpoint of Docker's API has a row,
//! and hostile requests get a clean refusal. Needs root, as the engine does.

#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::listen::{Host, bind};
use api::{Api, HostNames, serve};
use engine::{Engine, EngineConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;

struct Daemon {
    socket: PathBuf,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
    api: Arc<Api>,
    _dir: tempfile::TempDir,
}

impl Daemon {
    async fn start() -> Option<Daemon> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: the engine needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            data_root: dir.path().join("data"),
            exec_root: dir.path().join("exec"),
            // Nothing is run here; any program will do.
            shim: "/bin/true".into(),
            bridge: "none".into(),
            ..EngineConfig::default()
        };
        let engine = Engine::open(config).await.unwrap();
        let socket = dir.path().join("api.sock");
        let listener = bind(&Host::Unix(socket.clone()), "").await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let api = Arc::new(Api::new(engine, HostNames::default()));
        let serving = tokio::spawn(serve(Arc::clone(&api), vec![listener], stopped));
        Some(Daemon { socket, stop, serving, api, _dir: dir })
    }

    /// Status and body of one raw request.
    async fn raw(&self, request: &[u8]) -> (u16, String) {
        let mut client = UnixStream::connect(&self.socket).await.unwrap();
        // A refused request may be answered, and the connection closed, before it is read.
        let _ = client.write_all(request).await;
        let mut answer = Vec::new();
        let _ =
            tokio::time::timeout(Duration::from_secs(30), client.read_to_end(&mut answer)).await.expect("an answer");
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (status, body)
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.raw(request.as_bytes()).await
    }

    async fn end(self) {
        self.stop.send(true).unwrap();
        self.serving.await.unwrap();
        self.api.engine().close().await;
    }
}

/// The operations of API 1.55 but `/debug` and OPTIONS. Names that a registry would be asked about are none.
const OPERATIONS: &str = "GET /_ping|HEAD /_ping|GET /version|GET /info|GET /events?until=1|GET /system/df|POST /auth|\
GET /distribution/N/json|GET /containers/json|POST /containers/create|GET /containers/n/json|POST /containers/n/start|\
POST /containers/n/stop|POST /containers/n/restart|POST /containers/n/kill|POST /containers/n/pause|POST /containers/n/unpause|\
POST /containers/n/wait|POST /containers/n/resize?h=1&w=1|POST /containers/n/rename?name=m|POST /containers/n/update|GET /containers/n/top|\
GET /containers/n/changes|GET /containers/n/export|GET /containers/n/stats|GET /containers/n/logs?stdout=1|POST /containers/n/attach|\
GET /containers/n/attach/ws|HEAD /containers/n/archive?path=/|GET /containers/n/archive?path=/|PUT /containers/n/archive?path=/|\
DELETE /containers/n|POST /containers/prune|GET /containers/n/checkpoints|POST /containers/n/checkpoints|\
DELETE /containers/n/checkpoints/c|POST /commit|POST /containers/n/exec|POST /exec/n/start|POST /exec/n/resize?h=1&w=1|GET /exec/n/json|\
GET /images/json|POST /images/create|GET /images/n/json|GET /images/a.b/c/n/json|GET /images/n/attestations|GET /images/n/history|\
POST /images/n/push|POST /images/n/tag|DELETE /images/n|POST /images/prune|GET /images/search|GET /images/get|GET /images/n/get|\
POST /images/load|POST /build|POST /build/cancel|POST /build/prune|POST /session|POST /grpc|GET /networks|GET /networks/n|\
POST /networks/create|POST /networks/n/connect|POST /networks/n/disconnect|DELETE /networks/n|POST /networks/prune|GET /volumes|\
POST /volumes/create|GET /volumes/n|PUT /volumes/n|DELETE /volumes/n|POST /volumes/prune|GET /plugins|GET /plugins/privileges|\
GET /plugins/n/json|POST /plugins/pull|POST /plugins/create|POST /plugins/n/enable|POST /plugins/n/disable|POST /plugins/n/push|\
POST /plugins/n/upgrade|POST /plugins/n/set|DELETE /plugins/n|GET /swarm|POST /swarm/init|POST /swarm/join|POST /swarm/leave|\
POST /swarm/update|GET /swarm/unlockkey|POST /swarm/unlock|GET /nodes|GET /nodes/n|POST /nodes/n/update|DELETE /nodes/n|GET /services|\
POST /services/create|GET /services/n|POST /services/n/update|DELETE /services/n|GET /services/n/logs|GET /tasks|GET /tasks/n|\
GET /tasks/n/logs|GET /secrets|POST /secrets/create|GET /secrets/n|POST /secrets/n/update|DELETE /secrets/n|GET /configs|\
POST /configs/create|GET /configs/n|POST /configs/n/update|DELETE /configs/n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_has_a_row() {
    let Some(daemon) = Daemon::start().await else { return };
    for operation in OPERATIONS.split('|') {
        let (method, path) = operation.split_once(' ').unwrap();
        for prefix in ["", "/v1.44"] {
            let (status, body) = daemon.ask(method, &format!("{prefix}{path}"), "").await;
            assert_ne!(status, 0, "{operation}");
            assert!(!body.contains("page not found"), "{operation} has no row");
            assert_ne!(status, 500, "{operation}: {body}");
            if status >= 400 && method != "HEAD" {
                assert!(body.contains("\"message\""), "{operation}: {status} {body}");
            }
        }
    }
    for unknown in
        ["GET /nosuch", "GET /", "POST /version", "GET /containers", "GET /images", "DELETE /images", "HEAD /info"]
    {
        let (method, path) = unknown.split_once(' ').unwrap();
        assert_eq!(daemon.ask(method, path, "").await.0, 404, "{unknown}");
    }
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_are_refused_cleanly() {
    let Some(daemon) = Daemon::start().await else { return };
    let create = "/containers/create";
    let deep = format!("{{\"HostConfig\":{}", "[".repeat(100_000));
    for body in [
        "",
        "{",
        "[]",
        "{}x",
        "7",
        "{\"Image\":7}",
        "{\"Cmd\":{}}",
        "{\"HostConfig\":[]}",
        "{\"HostConfig\":{\"Memory\":\"x\"}}",
        "null",
        &deep,
    ] {
        let (status, text) = daemon.ask("POST", create, body).await;
        assert!(status == 400 && text.contains("\"message\""), "{:.40}: {status} {text}", body);
    }
    let huge = format!("{{\"Image\":\"{}\"}}", "x".repeat(16 << 20));
    assert_eq!(daemon.ask("POST", create, &huge).await.0, 413);
    let chunked = format!(
        "POST {create} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{huge}\r\n0\r\n\r\n",
        huge.len()
    );
    assert_eq!(daemon.raw(chunked.as_bytes()).await.0, 413);
    for (path, wanted) in [
        ("/containers/json?filters=x", 400),
        ("/containers/json?filters=%7B%22nosuch%22%3A%5B%22x%22%5D%7D", 400),
        ("/containers/json?limit=x", 400),
        ("/events?since=x", 400),
        ("/system/df?type=x", 400),
        ("/containers/a%00b/json", 400),
        ("/containers/../json", 400),
        ("/v1.99/info", 400),
        ("/v0/info", 400),
        ("/containers/%20/json", 404),
        ("/images/UPPER/json", 400),
        ("/networks/nosuch", 404),
        ("/volumes/nosuch", 404),
    ] {
        let (status, body) = daemon.ask("GET", path, "").await;
        assert_eq!(status, wanted, "{path}: {body}");
    }
    for (path, wanted) in [
        ("/containers/n/wait?condition=x", 400),
        ("/containers/n/attach?detachKeys=zz", 400),
        ("/containers/n/resize?h=-1&w=65536", 400),
        ("/containers/n/start", 404),
        ("/images/create", 400),
        ("/images/create?fromImage=UPPER", 400),
    ] {
        let (status, body) = daemon.ask("POST", path, "").await;
        assert_eq!(status, wanted, "{path}: {body}");
    }
    assert_eq!(daemon.ask("GET", "/_ping", "").await, (200, "OK".to_owned()));
    daemon.end().await;
}
