//! Shared by the tests: a sink in memory, a scripted HTTP server, and images to serve.

pub mod multiplexed;
pub mod real;

use bytes::Bytes;
use distribution::{
    Chunk, Client, Config, ContentSink, Descriptor, LayerStream, Limits, Progress, PullRequest, SinkError,
};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use types::{DiffId, Digest, Kind};

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes).into())
}

/// Keeps everything; a layer is kept only when its end was announced.
#[derive(Default)]
pub struct MemorySink {
    pub layers: Arc<Mutex<BTreeMap<Digest, Vec<u8>>>>,
    pub documents: Mutex<BTreeMap<Digest, Bytes>>,
    /// Fail every layer after so many chunks.
    pub fail_after: Option<usize>,
}

impl ContentSink for MemorySink {
    fn has_layer(&self, descriptor: &Descriptor, _diff_id: &DiffId) -> bool {
        self.layers.lock().unwrap().contains_key(&descriptor.digest)
    }

    fn has_document(&self, digest: &Digest) -> bool {
        self.documents.lock().unwrap().contains_key(digest)
    }

    async fn document(&self, descriptor: &Descriptor, bytes: Bytes) -> Result<(), SinkError> {
        self.documents.lock().unwrap().insert(descriptor.digest, bytes);
        Ok(())
    }

    async fn layer(&self, descriptor: &Descriptor, _diff_id: DiffId) -> Result<LayerStream, SinkError> {
        let (chunks, mut receiver) = mpsc::channel(4);
        let (layers, digest, fail_after) = (self.layers.clone(), descriptor.digest, self.fail_after);
        let task = tokio::spawn(async move {
            let mut bytes = Vec::new();
            let mut count = 0;
            while let Some(chunk) = receiver.recv().await {
                count += 1;
                if fail_after.is_some_and(|n| count > n) {
                    return Err(SinkError { kind: Kind::Exhausted, message: "no space left on device".into() });
                }
                match chunk {
                    Chunk::Data(data) => bytes.extend_from_slice(&data),
                    Chunk::End => {
                        layers.lock().unwrap().insert(digest, bytes);
                        return Ok(());
                    }
                }
            }
            Err(SinkError { kind: Kind::Cancelled, message: "abandoned".into() })
        });
        let done = Box::pin(async move { task.await.expect("the sink's task does not panic") });
        Ok(LayerStream { chunks, done, verifies: false, offset: 0 })
    }
}

/// A request the scripted server saw.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Seen {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

/// What the scripted server answers.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Announce this length instead of the true one.
    pub claim: Option<usize>,
    /// Stop here after so many bytes of body and close.
    pub cut: Option<usize>,
    /// Stop here and keep the connection open.
    pub stall: bool,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply { status: 200, body: body.into(), ..Reply::default() }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn redirect(to: impl Into<String>) -> Reply {
        Reply::status(307).header("Location", to)
    }
}

/// A scripted HTTP server.
pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST), script).await
    }

    pub async fn start_on(ip: IpAddr, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let connections: Arc<Mutex<usize>> = Arc::default();
        let script = Arc::new(script);
        let (log, count) = (seen.clone(), connections.clone());
        let task = tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                *count.lock().unwrap() += 1;
                let (script, log) = (script.clone(), log.clone());
                tokio::spawn(async move {
                    while let Some(request) = read_request(&mut stream).await {
                        log.lock().unwrap().push(request.clone());
                        let reply = script(&request);
                        if !write_reply(&mut stream, reply).await {
                            return;
                        }
                    }
                });
            }
        });
        Server { address, seen, connections, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Requests of this path.
    pub fn seen_path(&self, path: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|s| s.path() == path).collect()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.ok()?;
        // A TLS hello is not for us.
        if head.is_empty() && byte == 0x16 {
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
            return None;
        }
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: BTreeMap<String, String> =
        lines.filter_map(|l| l.split_once(": ")).map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned())).collect();
    let length: usize = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen { method, target, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

async fn write_reply(stream: &mut tokio::net::TcpStream, reply: Reply) -> bool {
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", reply.claim.unwrap_or(reply.body.len())));
    let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
    if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&reply.body[..end]).await.is_err() {
        return false;
    }
    if reply.stall {
        std::future::pending::<()>().await;
    }
    reply.cut.is_none() && reply.claim.is_none()
}

/// A small image: manifest, configuration and layers, by path of the distribution API.
#[derive(Clone)]
pub struct Image {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
}

impl Image {
    pub fn new(layers: Vec<Vec<u8>>) -> Image {
        Image::for_arch(types::Platform::host().arch.as_str(), layers)
    }

    pub fn for_arch(arch: &str, layers: Vec<Vec<u8>>) -> Image {
        let ids: Vec<String> = layers.iter().map(|l| format!("\"{}\"", sha256(l))).collect();
        let config = format!(
            r#"{{"os":"linux","architecture":"{arch}","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            ids.join(",")
        )
        .into_bytes();
        let layer_list: Vec<String> = layers
            .iter()
            .map(|l| {
                format!(
                    r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}"#,
                    sha256(l),
                    l.len()
                )
            })
            .collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[{}]}}"#,
            distribution::MEDIA_OCI_MANIFEST,
            distribution::MEDIA_OCI_CONFIG,
            sha256(&config),
            config.len(),
            layer_list.join(",")
        )
        .into_bytes();
        Image { manifest, config, layers }
    }

    /// Answers what an honest registry answers for the repository `app`.
    pub fn serve(&self, seen: &Seen) -> Reply {
        let path = seen.path();
        if let Some(name) = path.strip_prefix("/v2/app/manifests/") {
            if name == "1" || name == "latest" || name == sha256(&self.manifest).to_string() {
                return Reply::ok(self.manifest.clone()).header("Content-Type", distribution::MEDIA_OCI_MANIFEST);
            }
            return Reply {
                status: 404,
                body: br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#.to_vec(),
                ..Reply::default()
            };
        }
        let blob = path.strip_prefix("/v2/app/blobs/");
        let content =
            std::iter::once(&self.config).chain(&self.layers).find(|c| Some(sha256(c).to_string().as_str()) == blob);
        content.map_or(Reply::status(404), |c| Reply::ok(c.clone()))
    }
}

/// A client that does not wait long.
pub fn client() -> Client {
    client_with(Vec::new())
}

pub fn client_with(insecure: Vec<String>) -> Client {
    Client::new(Config { insecure, limits: limits(), ..Config::default() })
}

pub fn limits() -> Limits {
    Limits {
        attempts: 3,
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_millis(50),
        idle: Duration::from_millis(500),
        head: Duration::from_secs(10),
        ..Limits::default()
    }
}

pub fn request(server: &Server, name: &str) -> PullRequest {
    PullRequest {
        reference: format!("{}/{name}", server.address).parse().unwrap(),
        platform: None,
        credentials: None,
        current: None,
    }
}

/// Collects progress.
#[derive(Clone, Default)]
pub struct Log(pub Arc<Mutex<Vec<Progress>>>);

impl Log {
    pub fn teller(&self) -> impl Fn(Progress) + Send + Sync + 'static {
        let log = self.0.clone();
        move |p| log.lock().unwrap().push(p)
    }

    pub fn words(&self) -> Vec<String> {
        let log = self.0.lock().unwrap();
        log.iter()
            .map(|p| match p.words() {
                (Some(id), words) => format!("{id}: {words}"),
                (None, words) => words,
            })
            .collect()
    }
}

/// This host's address on its network, if it has one that is not loopback.
pub fn own_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: only asks the kernel for the source address it would use.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}
