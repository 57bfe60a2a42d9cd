//! HTTP/1.1 to the bucket, with the connections and the TLS that this program has anyway.
//!
//! Every wait has an end: connecting, the head of an answer, and each piece of its body. What failed says whether the
//! request was sent at all, so that it is tried again where that is sound.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Uri, uri};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::connection::Connection;

const CONNECT: Duration = Duration::from_secs(5);
/// For sending a request of at most one part and getting the head of its answer.
const HEAD: Duration = Duration::from_secs(60);
/// Without a byte in the middle of a body, in either direction.
const STALL: Duration = Duration::from_secs(30);
/// Idle connections kept to one origin.
const IDLE_MAX: usize = 16;
/// Where authorities of private stores lie, as for registries.
const CERTIFICATES: &str = "/etc/docker/certs.d";

/// Makes clients for `object_store`.
#[derive(Debug)]
pub(super) struct Connector;

#[derive(Debug)]
struct Connections {
    /// Also without TLS.
    plain: bool,
    idle: Mutex<HashMap<Origin, Vec<SendRequest<HttpRequestBody>>>>,
    tls: Mutex<HashMap<Origin, Arc<rustls::ClientConfig>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Origin {
    tls: bool,
    host: String,
    port: u16,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let plain = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|value| value == "true");
        Ok(HttpClient::new(Connections { plain, idle: Mutex::default(), tls: Mutex::default() }))
    }
}

impl Origin {
    fn of(uri: &Uri, plain: bool) -> io::Result<Self> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{uri}: {why}"));
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if plain => false,
            _ => return Err(wrong("only https is allowed here")),
        };
        let host = uri.host().ok_or_else(|| wrong("there is no host in it"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls, host, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }) })
    }
}

fn failed(kind: HttpErrorKind) -> impl FnOnce(io::Error) -> HttpError {
    move |error| HttpError::new(kind, error)
}

fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// An error of the HTTP library with its causes.
fn described(error: &hyper::Error) -> io::Error {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    io::Error::other(text)
}

#[async_trait::async_trait]
impl HttpService for Connections {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let origin = Origin::of(request.uri(), self.plain).map_err(failed(HttpErrorKind::Unknown))?;
        let mut request = Some(prepared(request).map_err(failed(HttpErrorKind::Unknown))?);
        loop {
            let (kept, mut sender) = match self.take(&origin) {
                Some(sender) => (true, sender),
                None => {
                    let dialled = timeout(CONNECT, self.dial(&origin)).await;
                    let dialled = dialled.unwrap_or_else(|_| Err(timed_out("connecting took too long")));
                    (false, dialled.map_err(failed(HttpErrorKind::Connect))?)
                }
            };
            let Some(sent) = request.take() else {
                return Err(failed(HttpErrorKind::Request)(io::Error::other("the connection closed")));
            };
            match timeout(HEAD, sender.try_send_request(sent)).await {
                Ok(Ok(response)) => {
                    self.keep(origin, sender);
                    return Ok(response.map(|body| HttpResponseBody::new(Patient::new(body))));
                }
                // A kept connection may have been closed by the other side before anything was sent.
                Ok(Err(mut error)) => match error.take_message() {
                    Some(unsent) if kept => request = Some(unsent),
                    _ => return Err(failed(HttpErrorKind::Request)(described(error.error()))),
                },
                Err(_) => return Err(failed(HttpErrorKind::Timeout)(timed_out("there was no answer"))),
            }
        }
    }
}

/// In the form a server expects: the path alone, and the host in a header.
fn prepared(request: HttpRequest) -> io::Result<Request<HttpRequestBody>> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().ok_or(io::ErrorKind::InvalidInput)?.as_str();
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let host = HeaderValue::from_str(authority).map_err(io::Error::other)?;
    head.headers.entry(header::HOST).or_insert(host);
    let agent = HeaderValue::from_static(concat!("dhow-registry/", env!("CARGO_PKG_VERSION")));
    head.headers.entry(header::USER_AGENT).or_insert(agent);
    let target = head.uri.path_and_query().cloned().unwrap_or_else(|| uri::PathAndQuery::from_static("/"));
    head.uri = Uri::from(target);
    Ok(Request::from_parts(head, body))
}

impl Connections {
    fn idle(&self) -> MutexGuard<'_, HashMap<Origin, Vec<SendRequest<HttpRequestBody>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, origin: &Origin) -> Option<SendRequest<HttpRequestBody>> {
        let mut idle = self.idle();
        let list = idle.get_mut(origin)?;
        list.retain(|sender| !sender.is_closed());
        let at = list.iter().position(SendRequest::is_ready)?;
        Some(list.swap_remove(at))
    }

    /// Keeps a connection whose answer may still be read; it is ready again after that.
    fn keep(&self, origin: Origin, sender: SendRequest<HttpRequestBody>) {
        let mut idle = self.idle();
        let list = idle.entry(origin).or_default();
        list.retain(|sender| !sender.is_closed());
        if list.len() < IDLE_MAX {
            list.push(sender);
        }
    }

    async fn dial(&self, origin: &Origin) -> io::Result<SendRequest<HttpRequestBody>> {
        let stream = TcpStream::connect((origin.host.as_str(), origin.port)).await?;
        stream.set_nodelay(true)?;
        if !origin.tls {
            return handshake(stream).await;
        }
        let config = self.tls_config(origin).await?;
        let name = ServerName::try_from(origin.host.clone()).map_err(io::Error::other)?;
        handshake(TlsConnector::from(config).connect(name, stream).await?).await
    }

    async fn tls_config(&self, origin: &Origin) -> io::Result<Arc<rustls::ClientConfig>> {
        let known = |all: &Mutex<HashMap<Origin, _>>| {
            all.lock().unwrap_or_else(PoisonError::into_inner).get(origin).map(Arc::clone)
        };
        if let Some(config) = known(&self.tls) {
            return Ok(config);
        }
        let authority = match origin.port {
            443 => origin.host.clone(),
            port => format!("{}:{port}", origin.host),
        };
        let made =
            tokio::task::spawn_blocking(move || distribution::tls_client_config(&authority, Path::new(CERTIFICATES)));
        let config = made.await?.map_err(io::Error::other)?;
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).insert(origin.clone(), Arc::clone(&config));
        Ok(config)
    }
}

async fn handshake<S>(stream: S) -> io::Result<SendRequest<HttpRequestBody>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(Connection::new(stream, STALL));
    let (sender, connection) = http1::handshake(stream).await.map_err(|e| described(&e))?;
    // Ends when the sender is dropped or the other side closes.
    tokio::spawn(async move {
        if let Err(e) = connection.await {
            tracing::debug!("a connection to the bucket ended: {e}");
        }
    });
    Ok(sender)
}

/// The body of an answer, which is not waited for without end.
struct Patient {
    body: Incoming,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Patient {
    fn new(body: Incoming) -> Self {
        Self { body, timer: Box::pin(tokio::time::sleep(STALL)), waiting: false }
    }
}

impl Body for Patient {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = false;
            let interrupted = |e: hyper::Error| failed(HttpErrorKind::Interrupted)(described(&e));
            return Poll::Ready(frame.map(|frame| frame.map_err(interrupted)));
        }
        if !self.waiting {
            self.waiting = true;
            self.timer.as_mut().reset(Instant::now() + STALL);
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(failed(HttpErrorKind::Timeout)(timed_out("the answer stopped in the middle")))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
