//! One HTTP exchange with one origin, over a connection that stands already or a new one, within the limits of time.
//! Knows nothing of registries, redirects or credentials.

use crate::address::Classes;
use crate::config::Config;
use crate::dial::{DialError, Dialer};
use crate::error::Error;
use crate::origin::Url;
use crate::payload::Payload;
use crate::pool::{Kept, Key, Pool, Sender, Via};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::time::timeout;

/// Which addresses may be contacted.
#[derive(Clone, Copy)]
pub(crate) enum Reach<'a> {
    /// Any at first: the user named this host. The class of the address it was reached at is noted,
    /// and later connections stay with it, whatever its name resolves to by then.
    Registry(&'a AtomicU8),
    /// What a registry whose addresses are of these classes may refer us to.
    Referred(Classes),
}

/// Connections to registries, shared by every pull.
pub(crate) struct Transport {
    pub(crate) config: Config,
    pool: Pool,
    dialer: Dialer,
    /// Ranges of large blobs that may be in memory.
    pub(crate) ranges: Arc<Semaphore>,
}

/// A request without an answer.
struct Unsent {
    detail: String,
    /// Its body, when nothing of it was sent.
    payload: Option<Payload>,
}

/// What a request consists of, for as often as it is built.
struct Asked<'a> {
    method: &'static str,
    url: &'a Url,
    headers: &'a [(header::HeaderName, HeaderValue)],
    user_agent: &'a str,
}

impl Asked<'_> {
    /// HTTP/1.1 has the target and a `Host`, HTTP/2 the whole address.
    fn build(&self, payload: Payload, sender: &Sender) -> Result<Request<Payload>, Error> {
        let mut builder = Request::builder().method(self.method).header(header::USER_AGENT, self.user_agent);
        builder = match sender {
            Sender::One(_) => builder.uri(self.url.target.as_str()).header(header::HOST, self.url.origin.authority()),
            Sender::Two(_) => builder.uri(self.url.to_string()),
        };
        for (name, value) in self.headers {
            builder = builder.header(name, value);
        }
        builder.body(payload).map_err(|e| broken(self.method, self.url, e.to_string()))
    }
}

impl Transport {
    pub(crate) fn new(config: Config) -> Transport {
        let ranges = Arc::new(Semaphore::new(config.limits.ranges.in_all));
        Transport { config, pool: Pool::default(), dialer: Dialer::default(), ranges }
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &self,
        method: &'static str,
        url: &Url,
        reach: Reach<'_>,
        via: &Via,
        headers: &[(header::HeaderName, HeaderValue)],
        payload: Payload,
    ) -> Result<Response<Incoming>, Error> {
        let asked = Asked { method, url, headers, user_agent: &self.config.user_agent };
        let key = Key::new(&url.origin, via);
        let mut payload = Some(payload);
        let mut turn = None;
        loop {
            while let Some(mut kept) = self.pool.take(&key, reach) {
                let Some(body) = payload.take() else { break };
                let again = body.again();
                let request = asked.build(body, &kept.sender)?;
                // A kept connection may have been closed by the other side: then a fresh one decides.
                match self.head(&mut kept.sender, request).await {
                    Ok(response) => {
                        self.pool.keep(&key, kept);
                        return Ok(response);
                    }
                    Err(unsent) => {
                        self.pool.forget(&key, &kept);
                        payload = unsent.payload.or(again);
                    }
                }
            }
            if turn.is_some() || payload.is_none() {
                break;
            }
            // Whoever waited for another's connection may share it.
            match self.turn(&key, via).await {
                Some(taken) => turn = Some(taken),
                None => break,
            }
        }
        // A stream that a closing connection has begun to take cannot be sent again from here.
        let Some(payload) = payload else {
            return Err(broken(method, url, "the connection closed during an upload".to_owned()));
        };
        let mut kept = self.dial(method, &key, via, reach, url).await?;
        drop(turn);
        let request = asked.build(payload, &kept.sender)?;
        match self.head(&mut kept.sender, request).await {
            Ok(response) => {
                self.pool.keep(&key, kept);
                Ok(response)
            }
            Err(unsent) => {
                self.pool.forget(&key, &kept);
                Err(broken(method, url, unsent.detail))
            }
        }
    }

    /// The right to connect where one connection may be enough for all; nothing when each request needs its own, or when
    /// somebody takes too long.
    async fn turn(&self, key: &Key, via: &Via) -> Option<OwnedMutexGuard<()>> {
        let turns = self.pool.turns(key)?;
        timeout(via.site.dial_timeout.unwrap_or(self.config.limits.connect), turns.lock_owned()).await.ok()
    }

    async fn dial(
        &self,
        method: &'static str,
        key: &Key,
        via: &Via,
        reach: Reach<'_>,
        url: &Url,
    ) -> Result<Kept, Error> {
        let limit = via.site.dial_timeout.unwrap_or(self.config.limits.connect);
        let dialed = timeout(limit, self.dialer.dial(&self.config, &url.origin, &via.site, reach)).await;
        match dialed {
            Ok(Ok((sender, class))) => Ok(self.pool.made(key, sender, class)),
            Ok(Err(DialError::OutOfReach)) => {
                Err(Error::Refused { what: "redirect", target: url.to_string(), why: REFUSED_ADDRESS })
            }
            Ok(Err(DialError::Tls(error))) => Err(error),
            Ok(Err(DialError::Failed(what))) => Err(connect(method, url, what)),
            Err(_) => Err(connect(method, url, format!("dial tcp {}: i/o timeout", url.origin.authority()))),
        }
    }

    /// Sends on one connection. The time for an answer starts anew for as long as a stream moves.
    async fn head(&self, sender: &mut Sender, request: Request<Payload>) -> Result<Response<Incoming>, Unsent> {
        let sent = request.body().sent();
        let count = || sent.as_ref().map(|sent| sent.load(Ordering::Relaxed));
        let mut answer = sender.send(request);
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
    use crate::address::Class;
    use tokio::net::TcpListener;

    fn via() -> Via {
        Via::default()
    }

    #[tokio::test]
    async fn a_referral_does_not_reach_loopback_even_by_a_kept_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let transport = Transport::new(Config::default());
        let public = Reach::Referred(Classes::default());
        let refused = transport.send("GET", &url, public, &via(), &[], Payload::empty()).await;
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
        let answer =
            transport.send("GET", &url, Reach::Registry(&classes), &via(), &[], Payload::empty()).await.unwrap();
        drop(answer);
        assert!(Classes::from_bits(classes.into_inner()).admits(Class::Loopback));
        let refused = transport.send("GET", &url, public, &via(), &[], Payload::empty()).await;
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
        let result = transport.send("GET", &url, Reach::Registry(&public), &via(), &[], Payload::empty()).await;
        assert!(matches!(result, Err(Error::Refused { .. })));
    }
}
