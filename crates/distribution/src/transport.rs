//! One HTTP/1.1 exchange with one origin: name resolution, the address rule, TLS, kept
//! connections, time limits. Knows nothing of registries, redirects or credentials.

use crate::address::{Class, Classes};
use crate::config::Config;
use crate::error::Error;
use crate::origin::{Origin, Url};
use crate::payload::Payload;
use crate::tls;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Idle connections kept per origin.
const IDLE_MAX: usize = 8;

/// Which addresses may be contacted.
#[derive(Clone, Copy)]
pub(crate) enum Reach<'a> {
    /// Any at first: the user named this host. The class of the address it was reached at is noted,
    /// and later connections stay with it, whatever its name resolves to by then.
    Registry(&'a AtomicU8),
    /// What a registry whose addresses are of these classes may refer us to.
    Referred(Classes),
}

struct Kept {
    sender: SendRequest<Payload>,
    class: Class,
}

type TlsKey = (String, bool);

/// Connections to registries, shared by every pull.
pub(crate) struct Transport {
    pub(crate) config: Config,
    idle: Mutex<HashMap<Origin, Vec<Kept>>>,
    tls: Mutex<HashMap<TlsKey, Arc<rustls::ClientConfig>>>,
}

/// A request without an answer.
struct Unsent {
    detail: String,
    /// Its body, when nothing of it was sent.
    payload: Option<Payload>,
}

/// Why no connection stands.
enum DialError {
    /// As Go's client prints it.
    Failed(String),
    /// Every address is one the [`Reach`] does not include.
    OutOfReach,
    /// Our own TLS material is unusable: trying without TLS would hide that.
    Tls(Error),
}

impl Transport {
    pub(crate) fn new(config: Config) -> Transport {
        Transport { config, idle: Mutex::default(), tls: Mutex::default() }
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &self,
        method: &'static str,
        url: &Url,
        reach: Reach<'_>,
        headers: &[(header::HeaderName, HeaderValue)],
        payload: Payload,
    ) -> Result<Response<Incoming>, Error> {
        let request = |payload: Payload| -> Result<Request<Payload>, Error> {
            let mut builder = Request::builder()
                .method(method)
                .uri(url.target.as_str())
                .header(header::HOST, url.origin.authority())
                .header(header::USER_AGENT, &self.config.user_agent);
            for (name, value) in headers {
                builder = builder.header(name, value);
            }
            builder.body(payload).map_err(|e| broken(method, url, e.to_string()))
        };
        let mut payload = Some(payload);
        while let Some(mut kept) = self.take_idle(&url.origin, reach) {
            let Some(body) = payload.take() else { break };
            let again = body.again();
            // A kept connection may have been closed by the other side: then a fresh one decides.
            match self.head(&mut kept.sender, request(body)?).await {
                Ok(response) => {
                    self.keep(&url.origin, kept);
                    return Ok(response);
                }
                Err(unsent) => payload = unsent.payload.or(again),
            }
        }
        // A stream that a closing connection has begun to take cannot be sent again from here.
        let Some(payload) = payload else {
            return Err(broken(method, url, "the connection closed during an upload".to_owned()));
        };
        let connected = timeout(self.config.limits.connect, self.connect(&url.origin, reach)).await;
        let mut kept = match connected {
            Ok(Ok(kept)) => kept,
            Ok(Err(DialError::OutOfReach)) => {
                return Err(Error::Refused { what: "redirect", target: url.to_string(), why: REFUSED_ADDRESS });
            }
            Ok(Err(DialError::Tls(error))) => return Err(error),
            Ok(Err(DialError::Failed(what))) => return Err(connect(method, url, what)),
            Err(_) => return Err(connect(method, url, format!("dial tcp {}: i/o timeout", url.origin.authority()))),
        };
        let response = self
            .head(&mut kept.sender, request(payload)?)
            .await
            .map_err(|unsent| broken(method, url, unsent.detail))?;
        self.keep(&url.origin, kept);
        Ok(response)
    }

    /// Sends on one connection. The time for an answer starts anew for as long as a stream moves.
    async fn head(
        &self,
        sender: &mut SendRequest<Payload>,
        request: Request<Payload>,
    ) -> Result<Response<Incoming>, Unsent> {
        let sent = request.body().sent();
        let count = || sent.as_ref().map(|sent| sent.load(Ordering::Relaxed));
        let mut answer = std::pin::pin!(sender.try_send_request(request));
        loop {
            let before = count();
            match timeout(self.config.limits.head, &mut answer).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(mut error)) => {
                    let payload = error.take_message().map(Request::into_body);
                    return Err(Unsent { detail: describe(error.error()), payload });
                }
                Err(_) if count() != before => {}
                Err(_) => {
                    let detail = "timed out awaiting response headers".to_owned();
                    return Err(Unsent { detail, payload: None });
                }
            }
        }
    }

    /// Takes a kept connection that is ready. One that stands to an address outside `reach` is not
    /// used, whoever opened it.
    fn take_idle(&self, origin: &Origin, reach: Reach<'_>) -> Option<Kept> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.get_mut(origin)?;
        list.retain(|k| !k.sender.is_closed());
        let at = list.iter().position(|k| {
            k.sender.is_ready()
                && match reach {
                    Reach::Registry(_) => true,
                    Reach::Referred(classes) => classes.admits(k.class),
                }
        })?;
        let kept = list.swap_remove(at);
        if let Reach::Registry(classes) = reach {
            note(classes, kept.class);
        }
        Some(kept)
    }

    /// Keeps a connection whose answer may still be in flight; it is ready again after that.
    fn keep(&self, origin: &Origin, kept: Kept) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.entry(origin.clone()).or_default();
        list.retain(|k| !k.sender.is_closed());
        if list.len() < IDLE_MAX {
            list.push(kept);
        }
    }

    async fn connect(&self, origin: &Origin, reach: Reach<'_>) -> Result<Kept, DialError> {
        let resolved = tokio::net::lookup_host((origin.host.as_str(), origin.port))
            .await
            .map_err(|_| DialError::Failed(format!("dial tcp: lookup {}: no such host", origin.host)))?;
        let mut addresses: Vec<SocketAddr> = resolved.collect();
        let admitted = match reach {
            Reach::Registry(noted) => Some(noted.load(Ordering::Relaxed)).filter(|bits| *bits != 0),
            Reach::Referred(classes) => Some(classes.bits()),
        };
        if let Some(classes) = admitted.map(Classes::from_bits) {
            addresses.retain(|a| classes.admits(Class::of(a.ip())));
            if addresses.is_empty() {
                return Err(DialError::OutOfReach);
            }
        }
        let mut last = DialError::Failed(format!("dial tcp: lookup {}: no such host", origin.host));
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let class = Class::of(address.ip());
                    if let Reach::Registry(classes) = reach {
                        note(classes, class);
                    }
                    // Small requests must not wait for the acknowledgement of earlier ones.
                    let _ = stream.set_nodelay(true);
                    return Ok(Kept { sender: self.handshake(origin, stream).await?, class });
                }
                Err(error) => last = DialError::Failed(format!("dial tcp {address}: connect: {}", go_words(&error))),
            }
        }
        Err(last)
    }

    async fn handshake(&self, origin: &Origin, stream: TcpStream) -> Result<SendRequest<Payload>, DialError> {
        if !origin.https {
            return http_handshake(TokioIo::new(stream)).await;
        }
        let insecure = self.config.is_insecure(&origin.host, Some(origin.port));
        let config = self.tls_config(origin, insecure).await.map_err(DialError::Tls)?;
        let name = rustls::pki_types::ServerName::try_from(origin.host.clone())
            .map_err(|e| DialError::Failed(format!("tls: {e}")))?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        let stream = connected.map_err(|e| DialError::Failed(tls_words(&e)))?;
        http_handshake(TokioIo::new(stream)).await
    }

    async fn tls_config(&self, origin: &Origin, insecure: bool) -> Result<Arc<rustls::ClientConfig>, Error> {
        let key: TlsKey = (origin.authority(), insecure);
        if let Some(config) = self.tls.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(config.clone());
        }
        let (authority, certs_dir) = (key.0.clone(), self.config.certs_dir.clone());
        let config = tokio::task::spawn_blocking(move || tls::client_config(&authority, &certs_dir, insecure))
            .await
            .map_err(|e| Error::Tls(e.to_string()))??;
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).insert(key, config.clone());
        Ok(config)
    }

    /// Reads a whole body of at most `limit` bytes.
    pub(crate) async fn read_capped(
        &self,
        response: Response<Incoming>,
        limit: u64,
        method: &'static str,
        url: &Url,
    ) -> Result<Bytes, Error> {
        let too_large = || Error::TooLarge { what: format!("the answer of {url}"), limit };
        let mut body = response.into_body();
        let mut out = BytesMut::new();
        loop {
            let frame = match timeout(self.config.limits.idle, body.frame()).await {
                Ok(None) => return Ok(out.freeze()),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(broken(method, url, describe(&error))),
                Err(_) => return Err(broken(method, url, "timed out while reading the body".to_owned())),
            };
            if let Ok(data) = frame.into_data() {
                if (out.len() + data.len()) as u64 > limit {
                    return Err(too_large());
                }
                out.extend_from_slice(&data);
            }
        }
    }
}

/// Why an address was not contacted.
pub(crate) const REFUSED_ADDRESS: &str =
    "it leads to a loopback, link-local or private address where the registry itself is not";

fn note(classes: &AtomicU8, class: Class) {
    classes.fetch_or(Classes::default().with(class).bits(), Ordering::Relaxed);
}

async fn http_handshake<I>(io: I) -> Result<SendRequest<Payload>, DialError>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(io).await.map_err(|e| DialError::Failed(describe(&e)))?;
    // Ends when the sender is dropped or the other side closes.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a registry ended");
        }
    });
    Ok(sender)
}

fn connect(method: &'static str, url: &Url, detail: String) -> Error {
    Error::Connect { method: go_method(method), url: base_of(url), detail }
}

pub(crate) fn broken(method: &'static str, url: &Url, detail: String) -> Error {
    Error::Broken { method: go_method(method), url: url.to_string(), detail }
}

/// Docker's clients show the base address when no connection stands.
fn base_of(url: &Url) -> String {
    if url.target.starts_with("/v2/") { format!("{}/v2/", url.origin) } else { url.to_string() }
}

pub(crate) fn go_method(method: &'static str) -> &'static str {
    match method {
        "POST" => "Post",
        "HEAD" => "Head",
        "PUT" => "Put",
        "PATCH" => "Patch",
        _ => "Get",
    }
}

fn go_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

fn tls_words(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => format!("tls: failed to verify certificate: {why}"),
        Some(rustls::Error::InvalidMessage(_)) => "http: server gave HTTP response to HTTPS client".to_owned(),
        _ => format!("tls: {error}"),
    }
}

/// An error of the HTTP library with its causes.
pub(crate) fn describe(error: &hyper::Error) -> String {
    let mut out = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        out.push_str(": ");
        out.push_str(&cause.to_string());
        source = cause.source();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_referral_does_not_reach_loopback_even_by_a_kept_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let transport = Transport::new(Config::default());
        let public = Reach::Referred(Classes::default());
        let refused = transport.send("GET", &url, public, &[], Payload::empty()).await;
        assert!(matches!(refused, Err(Error::Refused { .. })));

        // The user's own registry on that address leaves a connection behind.
        let server = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            // Nothing more may come.
            stream.read(&mut request).await.unwrap()
        });
        let classes = AtomicU8::new(0);
        let answer = transport.send("GET", &url, Reach::Registry(&classes), &[], Payload::empty()).await.unwrap();
        drop(answer);
        assert!(Classes::from_bits(classes.into_inner()).admits(Class::Loopback));
        let refused = transport.send("GET", &url, public, &[], Payload::empty()).await;
        assert!(matches!(refused, Err(Error::Refused { .. })));
        drop(transport);
        assert_eq!(server.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_registry_stays_on_the_network_it_was_first_reached_at() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let public = AtomicU8::new(Classes::default().with(Class::Public).bits());
        let transport = Transport::new(Config::default());
        let result = transport.send("GET", &url, Reach::Registry(&public), &[], Payload::empty()).await;
        assert!(matches!(result, Err(Error::Refused { .. })));
    }
}
