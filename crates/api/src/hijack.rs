//! Attach and exec streams over an HTTP connection.
//!
//! With `Connection: Upgrade` the answer is `101 UPGRADED`, without it a bare `200`; in both cases
//! the connection then belongs to the stream. Either direction ends on its own: a client that closes its sending side has ended
//! standard input and still receives all output.

use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::body::{self, Response};
use crate::connection::{Connection, Held, Socket};
use crate::detach::Detector;

/// Content type of a terminal's bytes.
pub(crate) const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Content type of framed output (stdcopy).
pub(crate) const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// Largest body of an attach request, which is read and dropped.
const MAX_BODY: usize = 1 << 20;
/// Longest time for it to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes moved per system call towards the client.
const OUTPUT_BUFFER: usize = 128 << 10;
/// Bytes moved per system call towards the process.
const INPUT_BUFFER: usize = 64 << 10;
/// Longest wait for a client to read the head of the response.
const HEADER_READ: Duration = Duration::from_millis(100);
/// How often a client that has closed its sending side is checked for being gone altogether.
const GONE_CHECK: Duration = Duration::from_secs(5);

/// What a request offers for carrying a stream.
pub(crate) struct Carrier {
    /// Present when the client asked for an upgrade.
    pub(crate) upgrade: Option<OnUpgrade>,
    /// What is left of the request's body; not part of the stream.
    pub(crate) body: Incoming,
    /// The client's connection.
    pub(crate) held: Held,
}

/// Whether the client asks for the raw connection.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    let token = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| text.split(',').any(|t| t.trim().eq_ignore_ascii_case("upgrade")))
    };
    headers.contains_key(header::UPGRADE) && headers.get_all(header::CONNECTION).iter().any(token)
}

/// Answers with the stream of an attached container or process. `detector` watches the input for
/// detach keys.
pub(crate) async fn carry<S>(
    carrier: Carrier,
    stream: S,
    content_type: &'static str,
    detector: Option<Detector>,
) -> Response
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let Carrier { upgrade, body, held } = carrier;
    // Some clients repeat the query as a JSON body; it must not become the process's input.
    let _ = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY).collect()).await;
    let Some(upgrade) = upgrade else {
        return take_over(held, stream, content_type, detector).await;
    };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let early = upgraded.downcast::<TokioIo<Connection>>().map(|parts| parts.read_buf);
                if let (Ok(early), Some(socket)) = (early, held.take_socket()) {
                    pump(socket, &early, stream, detector).await;
                }
            }
            Err(e) => tracing::debug!("a client left before its connection was upgraded: {e}"),
        }
    });
    let mut response = body::empty(StatusCode::SWITCHING_PROTOCOLS);
    response.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    response
}

/// Without an upgrade asked for, Docker's clients still expect the bare connection after a `200`
/// that says nothing of a length, which no HTTP library writes; so the socket is taken from it.
async fn take_over<S>(held: Held, stream: S, content_type: &'static str, detector: Option<Detector>) -> Response
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    // The answer below is never sent: HTTP has no socket any more, and its task ends.
    let unsent = body::empty(StatusCode::OK);
    let Some(mut socket) = held.take_socket() else { return unsent };
    held.end_http().await;
    tokio::spawn(async move {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n");
        if socket.write_all(head.as_bytes()).await.is_ok() {
            pump(socket, &[], stream, detector).await;
        }
        drop(held);
    });
    unsent
}

/// Moves bytes both ways until the output ends, the client is gone, or the detach keys are typed.
async fn pump<S>(client: Socket, early: &[u8], stream: S, mut detector: Option<Detector>)
where
    S: AsyncRead + AsyncWrite,
{
    let probe = client.try_clone_fd();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut output, mut input) = tokio::io::split(stream);
    let towards_client = async {
        let mut buffer = BytesMut::with_capacity(OUTPUT_BUFFER);
        let mut header_taken = false;
        loop {
            match output.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            if !header_taken {
                header_read(probe.as_ref()).await;
                header_taken = true;
            }
            if to_client.write_all(&buffer).await.is_err() {
                return;
            }
            buffer.clear();
        }
        let _ = to_client.shutdown().await;
    };
    let towards_process = async {
        let mut sink = Some(&mut input);
        let mut buffer = BytesMut::with_capacity(INPUT_BUFFER);
        buffer.extend_from_slice(early);
        loop {
            if !buffer.is_empty() {
                if feed(&mut sink, &buffer, &mut detector).await {
                    return;
                }
                buffer.clear();
            }
            match from_client.read_buf(&mut buffer).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => return,
            }
        }
        if let Some(sink) = sink {
            if let Some(detector) = &detector {
                let _ = sink.write_all(detector.held()).await;
            }
            let _ = sink.shutdown().await;
        }
        match &probe {
            Some(probe) => gone(probe).await,
            None => future::pending().await,
        }
    };
    let (towards_client, towards_process) = (pin!(towards_client), pin!(towards_process));
    future::select(towards_client, towards_process).await;
}

/// Passes input on; true when the detach keys are complete. Input for a process that has closed
/// its standard input is read and dropped, so that the client is never blocked writing it.
async fn feed<W: AsyncWrite + Unpin>(sink: &mut Option<&mut W>, bytes: &[u8], detector: &mut Option<Detector>) -> bool {
    let mut passed = Vec::new();
    let (bytes, detached) = match detector {
        None => (bytes, false),
        Some(detector) => {
            let detached = detector.feed(bytes, &mut passed);
            (passed.as_slice(), detached)
        }
    };
    if let Some(writer) = sink {
        let written = async {
            writer.write_all(bytes).await?;
            writer.flush().await
        };
        if written.await.is_err() {
            *sink = None;
        }
    }
    detached
}

/// Completes when the client has read the response's head, or after a bounded time.
///
/// Some clients, docker-py among them, read the head through a buffer and the stream around it: bytes
/// that arrive together with the head are lost to them. A fast command's output would.
async fn header_read(probe: Option<&std::os::fd::OwnedFd>) {
    let begin = tokio::time::Instant::now();
    while probe.is_some_and(|fd| sys::socket::unread_by_peer(fd).is_ok_and(|bytes| bytes > 0)) {
        if begin.elapsed() > HEADER_READ {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Completes when the peer has closed both directions (POLLHUP, which Unix sockets report).
async fn gone(probe: &std::os::fd::OwnedFd) {
    loop {
        tokio::time::sleep(GONE_CHECK).await;
        let mut fds = [PollFd::new(probe, PollFlags::empty())];
        let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        if polled.is_err() || fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            return;
        }
    }
}
