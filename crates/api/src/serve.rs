//! The accept loops: connections, their limits, and their end.
//!
//! One task per connection runs hyper's HTTP/1.1. The number of connections is bounded; a
//! connection must deliver a request head within ten seconds of its first byte (or of being opened),
//! and when all places are taken the oldest connection without a request in progress gives up its
//! place, so that idle or dripping clients cannot shut others out. A connection that waits between
//! two requests is left alone otherwise, as Docker's clients pool them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::body::{Body, Response};
use crate::connection::{Connection, Held, Registry, Socket, State};
use crate::gate::Transport;
use crate::listen::Listener;

/// Connections served at once, over all listeners.
pub const MAX_CONNECTIONS: usize = 4096;
/// Time to deliver a request head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How often deadlines are looked at while any connection is open.
const SWEEP: Duration = Duration::from_secs(2);
/// Time that requests in progress get when the daemon stops.
const DRAIN: Duration = Duration::from_secs(2);
/// Largest request head; also the read buffer a connection may grow to.
const MAX_HEAD: usize = 128 << 10;
/// Header fields of a request.
const MAX_HEADERS: usize = 128;

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Dropped when the client leaves before it is done.
    fn handle(&self, request: Request<Incoming>, transport: Transport) -> impl Future<Output = Response> + Send;

    /// Serves a client that speaks HTTP/2 from the first byte, as those of gRPC do, until it leaves.
    fn http2<I>(&self, connection: I) -> impl Future<Output = ()> + Send
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        drop(connection);
        std::future::ready(())
    }
}

/// A response body that keeps its connection busy until it is sent.
struct Tracked {
    body: Body,
    _held: Held,
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn accept(listener: &Listener) -> io::Result<(Socket, Transport)> {
    match listener {
        Listener::Unix { socket, .. } => socket.accept().await.map(|(s, _)| (Socket::Unix(s), Transport::Unix)),
        Listener::Tcp(socket) => {
            let (stream, _): (TcpStream, SocketAddr) = socket.accept().await?;
            // Interactive streams send single keys.
            stream.set_nodelay(true)?;
            Ok((Socket::Tcp(stream), Transport::Tcp))
        }
    }
}

/// Serves until `stop` becomes true (or its sender is gone), then lets requests in progress finish
/// for two seconds. The listeners' socket files are removed first, so that a successor can bind.
pub async fn serve<H: Handler>(handler: Arc<H>, listeners: Vec<Listener>, stop: watch::Receiver<bool>) {
    let registry = Registry::new(MAX_CONNECTIONS);
    let sweeper = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.sweep(SWEEP, HEAD_DEADLINE).await }
    });
    let mut loops = JoinSet::new();
    for listener in listeners {
        loops.spawn(accept_loop(Arc::clone(&handler), listener, Arc::clone(&registry), stop.clone()));
    }
    while loops.join_next().await.is_some() {}
    sweeper.abort();
}

async fn accept_loop<H: Handler>(
    handler: Arc<H>,
    listener: Listener,
    registry: Arc<Registry>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = async {
                let permit = registry.place().await;
                (permit, accept(&listener).await)
            } => accepted,
        };
        let (permit, (socket, transport)) = match accepted {
            (permit, Ok(accepted)) => (permit, accepted),
            (_, Err(e)) => {
                // A client that left already, or no descriptors: either passes.
                tracing::warn!("cannot accept a connection on {}: {e}", listener.describe());
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let state = registry.register(permit, socket);
        let task = connections.spawn(connection(Arc::clone(&handler), transport, Arc::clone(&state), stop.clone()));
        let _ = state.abort.set(task);
    }
    listener.remove_file();
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection<H: Handler>(
    handler: Arc<H>,
    transport: Transport,
    state: Arc<State>,
    mut stop: watch::Receiver<bool>,
) {
    let io = TokioIo::new(Connection(Arc::clone(&state)));
    let (grpc, taken, mut stopping) = (Arc::clone(&handler), Arc::clone(&state), stop.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        let held = Held::new(&state);
        request.extensions_mut().insert(held.clone());
        // Boxed: the union of all endpoints' futures would otherwise sit in every idle connection.
        Box::pin(async move {
            let response = handler.handle(request, transport).await;
            Ok::<_, Infallible>(response.map(|body| Tracked { body, _held: held }))
        })
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(io, service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let stopped = async { drop(stop.wait_for(|&stop| stop).await) };
    let early = tokio::select! {
        result = served.as_mut() => Some(result),
        () = stopped => None,
        connection = taken.http2() => {
            let _held = Held::new(&taken);
            tokio::select! {
                () = grpc.http2(connection) => {}
                _ = stopping.wait_for(|&stop| stop) => {}
            }
            return;
        }
    };
    let result = match early {
        Some(result) => result,
        None => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(e) = result {
        tracing::debug!("connection ended: {e}");
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;
    use crate::{body, hijack, listen};

    /// Answers by path, without an engine.
    struct Sample;

    impl Handler for Sample {
        async fn handle(&self, mut request: Request<Incoming>, _: Transport) -> Response {
            match request.uri().path() {
                "/stream" => {
                    let first = futures_util::stream::iter([Ok(Bytes::from_static(b"first\n"))]);
                    let frames = futures_util::StreamExt::chain(first, futures_util::stream::pending());
                    body::stream(StatusCode::OK, "application/json", frames)
                }
                "/wait" => body::stream(StatusCode::OK, "application/json", futures_util::stream::pending()),
                "/attach" => {
                    let (ours, theirs) = tokio::io::duplex(1 << 16);
                    // Echoes upper-cased input; says goodbye after the end of input.
                    tokio::spawn(async move {
                        let (mut read, mut write) = tokio::io::split(theirs);
                        let mut buffer = [0; 1024];
                        while let Ok(n @ 1..) = read.read(&mut buffer).await {
                            if write.write_all(&buffer[..n].to_ascii_uppercase()).await.is_err() {
                                return;
                            }
                        }
                        let _ = write.write_all(b"bye").await;
                    });
                    let upgrade = hijack::wants_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
                    let held = request.extensions().get::<Held>().cloned().unwrap();
                    let detector = crate::detach::Detector::new(crate::detach::DetachKeys::parse(None).unwrap());
                    let carrier = hijack::Carrier { upgrade, body: request.into_body(), held };
                    hijack::carry(carrier, ours, hijack::RAW_STREAM, Some(detector)).await
                }
                _ => {
                    let collected = request.into_body().collect().await;
                    collected.map_or_else(
                        |_| body::empty(StatusCode::BAD_REQUEST),
                        |b| body::json(StatusCode::OK, &b.to_bytes().len()),
                    )
                }
            }
        }
    }

    struct Server {
        path: std::path::PathBuf,
        stop: watch::Sender<bool>,
        task: tokio::task::JoinHandle<()>,
        _dir: tempfile::TempDir,
    }

    impl Server {
        async fn start() -> Server {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("s");
            let listener = listen::bind(&listen::Host::Unix(path.clone()), "").await.unwrap();
            let (stop, stopped) = watch::channel(false);
            let task = tokio::spawn(serve(Arc::new(Sample), vec![listener], stopped));
            Server { path, stop, task, _dir: dir }
        }

        async fn ask(&self, request: &[u8]) -> String {
            let mut client = UnixStream::connect(&self.path).await.unwrap();
            client.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(Duration::from_secs(20), client.read_to_end(&mut answer))
                .await
                .expect("an answer");
            String::from_utf8_lossy(&answer).into_owned()
        }
    }

    async fn read_until(client: &mut UnixStream, needle: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        while !all.windows(needle.len()).any(|w| w == needle) {
            let n = tokio::time::timeout(Duration::from_secs(20), client.read(&mut buffer))
                .await
                .expect("bytes in time")
                .unwrap();
            assert!(n > 0, "connection closed after {:?}", String::from_utf8_lossy(&all));
            all.extend_from_slice(&buffer[..n]);
        }
        all
    }

    #[tokio::test]
    async fn ambiguous_framing_is_refused() {
        let server = Server::start().await;
        let bad: [&[u8]; 7] = [
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
            b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n",
            b"\0\0\0\0\r\n\r\n",
        ];
        for request in bad {
            let answer = server.ask(request).await;
            assert!(!answer.starts_with("HTTP/1.1 2"), "{:?} was answered {answer}", String::from_utf8_lossy(request));
        }
        let mut many = b"GET / HTTP/1.1\r\nHost: x\r\n".to_vec();
        for n in 0..10_000 {
            many.extend_from_slice(format!("H{n}: v\r\n").as_bytes());
        }
        many.extend_from_slice(b"\r\n");
        assert!(server.ask(&many).await.starts_with("HTTP/1.1 431"), "too many headers");
        assert!(
            server.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.starts_with("HTTP/1.1 200")
        );
    }

    #[tokio::test]
    async fn heads_and_messages_are_flushed_at_once() {
        let server = Server::start().await;
        for (path, needle) in [("/wait", &b"\r\n\r\n"[..]), ("/stream", b"first\n")] {
            let mut client = UnixStream::connect(&server.path).await.unwrap();
            client
                .write_all(format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let got = read_until(&mut client, needle).await;
            assert!(got.starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
    }

    #[tokio::test]
    async fn upgraded_streams_half_close() {
        let server = Server::start().await;
        let mut client = UnixStream::connect(&server.path).await.unwrap();
        // The first input rides in the same segment as the head.
        client
            .write_all(b"POST /attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nabc")
            .await
            .unwrap();
        let got = read_until(&mut client, b"ABC").await;
        assert!(got.starts_with(b"HTTP/1.1 101 UPGRADED\r\n"), "{}", String::from_utf8_lossy(&got));
        client.write_all(b"def").await.unwrap();
        read_until(&mut client, b"DEF").await;
        client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"bye");
    }

    #[tokio::test]
    async fn detach_keys_end_the_stream() {
        let server = Server::start().await;
        let mut client = UnixStream::connect(&server.path).await.unwrap();
        client
            .write_all(
                b"POST /attach HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\nx\x10y\x10\x11z",
            )
            .await
            .unwrap();
        let mut all = Vec::new();
        tokio::time::timeout(Duration::from_secs(20), client.read_to_end(&mut all)).await.expect("detached").unwrap();
        assert!(!all.ends_with(b"bye"), "input was ended instead of detached");
    }

    #[tokio::test]
    async fn streams_without_upgrade() {
        let server = Server::start().await;
        let mut client = UnixStream::connect(&server.path).await.unwrap();
        // The body repeats the query, as dockerode's does; it is not input.
        client
            .write_all(b"POST /attach HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"stream\":true}")
            .await
            .unwrap();
        let got = read_until(&mut client, b"\r\n\r\n").await;
        assert_eq!(
            String::from_utf8_lossy(&got),
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
        );
        client.write_all(b"abc").await.unwrap();
        assert_eq!(read_until(&mut client, b"ABC").await, b"ABC");
        client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"bye");
        // The daemon itself goes on.
        assert!(
            server.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.starts_with("HTTP/1.1 200")
        );
    }

    #[tokio::test]
    async fn slow_heads_are_closed_and_idle_connections_kept() {
        let registry = Registry::new(4);
        let sweeper = tokio::spawn({
            let registry = Arc::clone(&registry);
            async move { registry.sweep(Duration::from_millis(5), Duration::from_millis(30)).await }
        });
        let (stop, stopped) = watch::channel(false);
        let open = async |bytes: &[u8]| {
            let (mut client, served) = UnixStream::pair().unwrap();
            let state = registry.register(registry.place().await, Socket::Unix(served));
            let task = tokio::spawn(connection(Arc::new(Sample), Transport::Unix, Arc::clone(&state), stopped.clone()));
            let _ = state.abort.set(task.abort_handle());
            client.write_all(bytes).await.unwrap();
            client
        };
        let mut slow = open(b"GET / HT").await;
        let mut kept = open(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        read_until(&mut kept, b"\r\n\r\n0\n").await;
        let mut end = Vec::new();
        tokio::time::timeout(Duration::from_secs(20), slow.read_to_end(&mut end)).await.expect("closed").unwrap();
        assert!(end.is_empty());
        tokio::time::sleep(Duration::from_millis(100)).await;
        kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        read_until(&mut kept, b"\r\n\r\n0\n").await;
        sweeper.abort();

        // Places run out: the idle connection goes, the busy one stays.
        let mut busy = open(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
        read_until(&mut busy, b"\r\n\r\n").await;
        let mut more = Vec::new();
        for _ in 0..4 {
            more.push(open(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await);
            read_until(more.last_mut().unwrap(), b"\r\n\r\n0\n").await;
        }
        assert!(
            tokio::time::timeout(Duration::from_millis(50), busy.read(&mut [0; 8])).await.is_err(),
            "a busy connection was closed"
        );
        tokio::time::timeout(Duration::from_secs(20), kept.read_to_end(&mut end))
            .await
            .expect("the oldest idle one is closed")
            .unwrap();
        drop(stop);
    }

    #[tokio::test]
    async fn stopping_removes_the_socket_and_ends() {
        let server = Server::start().await;
        let mut idle = UnixStream::connect(&server.path).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        read_until(&mut idle, b"\r\n\r\n0\n").await;
        server.stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(20), server.task).await.expect("stopped").unwrap();
        assert!(!server.path.exists());
    }
}
