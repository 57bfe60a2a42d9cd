//! Attach and exec streams over an HTTP connection.
//!
//! With `Connection: Upgrade` the answer is `101 UPGRADED` and the connection belongs to the
//! stream; without, the answer is `200` whose chunked body is the output while the request's body
//! is the input. Either direction ends on its own: a client that closes its sending side has ended
//! standard input and still receives all output.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{StreamExt, future};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio_util::io::ReaderStream;

use crate::body::{self, Response};
use crate::connection::{Connection, Held};
use crate::detach::Detector;

/// Content type of a terminal's bytes.
pub(crate) const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Content type of framed output (stdcopy).
pub(crate) const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// Bytes moved per system call towards the client.
const OUTPUT_BUFFER: usize = 128 << 10;
/// Bytes moved per system call towards the process.
const INPUT_BUFFER: usize = 64 << 10;
/// How often a client that has closed its sending side is checked for being gone altogether.
const GONE_CHECK: Duration = Duration::from_secs(5);

/// What a request offers for carrying a stream.
pub(crate) struct Carrier {
    /// Present when the client asked for the raw connection.
    pub(crate) upgrade: Option<OnUpgrade>,
    /// Input, when it did not.
    pub(crate) body: Incoming,
    /// Keeps the connection counted while the stream lives.
    pub(crate) held: Option<Held>,
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
pub(crate) fn carry<S>(carrier: Carrier, stream: S, content_type: &'static str, detector: Option<Detector>) -> Response
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let Carrier { upgrade, body, held } = carrier;
    let Some(upgrade) = upgrade else {
        return without_upgrade(body, stream, content_type, detector);
    };
    tokio::spawn(async move {
        let _held = held;
        match upgrade.await {
            Ok(upgraded) => over_upgraded(upgraded, stream, detector).await,
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

async fn over_upgraded<S>(upgraded: Upgraded, stream: S, detector: Option<Detector>)
where
    S: AsyncRead + AsyncWrite,
{
    // The socket itself moves bytes without hyper's indirection.
    match upgraded.downcast::<TokioIo<Connection>>() {
        Ok(parts) => {
            let connection = parts.io.into_inner();
            let probe = connection.try_clone_fd();
            pump(connection, &parts.read_buf, stream, detector, probe.as_ref()).await;
        }
        Err(upgraded) => pump(TokioIo::new(upgraded), &[], stream, detector, None).await,
    }
}

/// Moves bytes both ways until the output ends, the client is gone, or the detach keys are typed.
async fn pump<C, S>(
    client: C,
    early: &[u8],
    stream: S,
    mut detector: Option<Detector>,
    probe: Option<&std::os::fd::OwnedFd>,
) where
    C: AsyncRead + AsyncWrite,
    S: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut output, mut input) = tokio::io::split(stream);
    let towards_client = async {
        let mut buffer = BytesMut::with_capacity(OUTPUT_BUFFER);
        loop {
            match output.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
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
        match probe {
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

/// The form without an upgrade: request body in, response body out.
fn without_upgrade<S>(body: Incoming, stream: S, content_type: &'static str, mut detector: Option<Detector>) -> Response
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (output, mut input) = tokio::io::split(stream);
    let (detached, is_detached) = oneshot::channel::<()>();
    // A request without a body says nothing about standard input: it stays open until the client
    // leaves, as on a raw connection.
    let kept = if body.is_end_stream() {
        Some((input, detached))
    } else {
        tokio::spawn(async move {
            let mut body = body;
            let mut sink = Some(&mut input);
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(bytes) = frame.into_data() else { continue };
                if feed(&mut sink, &bytes, &mut detector).await {
                    let _ = detached.send(());
                    return;
                }
            }
            if let Some(sink) = sink {
                let _ = sink.shutdown().await;
            }
        });
        None
    };
    // Only a typed sequence ends the output early; a sender dropped with the input does not.
    let is_detached = async move {
        if is_detached.await.is_err() {
            future::pending::<()>().await;
        }
    };
    let frames = ReaderStream::with_capacity(output, OUTPUT_BUFFER).take_until(is_detached).map(move |item| {
        let _ = &kept;
        item.map_err(io::Error::other)
    });
    body::stream(StatusCode::OK, content_type, frames)
}
