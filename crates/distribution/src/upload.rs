//! Uploads one blob: not at all when the registry has it, by mounting it from another repository of the
//! registry, or as a stream that is resumed where it broke (distribution-spec 1.1, "Pushing Blobs").

use crate::error::Error;
use crate::manifest::Descriptor;
use crate::origin::{Url, encode_query};
use crate::payload::Payload;
use crate::push::PushStatus;
use crate::repository::{Answer, Ask, Repository};
use crate::sessions::Sessions;
use crate::source::ContentSource;
use http::{HeaderName, HeaderValue, StatusCode, header};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use types::Digest;

/// Progress that makes a broken connection not count as a failed try, in bytes.
const WORTHWHILE: u64 = 1 << 20;
/// Breaks survived in all, so that a registry cannot keep a push going forever.
const BREAKS_MAX: u32 = 1000;
/// Blobs up to this size go in the request that ends their upload: a break costs little.
const WHOLE_MAX: u64 = 1 << 20;
/// Between two looks at how far a stream is.
const TICK: Duration = Duration::from_millis(100);

/// One blob on its way to a registry.
pub(crate) struct Upload<'a, S> {
    pub(crate) repository: &'a Repository,
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) source: &'a S,
    pub(crate) sessions: &'a Sessions,
    /// Repositories to mount it from.
    pub(crate) origins: Vec<String>,
    pub(crate) tell: &'a (dyn Fn(PushStatus) + Send + Sync),
}

/// Where an upload stands at the registry.
struct Session {
    location: Url,
    offset: u64,
}

impl<S: ContentSource> Upload<'_, S> {
    /// Brings the blob there and says how it came.
    pub(crate) async fn run(self) -> Result<PushStatus, Error> {
        if self.exists().await? {
            return Ok(PushStatus::Exists);
        }
        // A session that an earlier push left behind is better than a mount that may not come about.
        let mut session = self.known().await?;
        for origin in &self.origins {
            if session.is_some() {
                break;
            }
            match self.begin(Some(origin)).await {
                Ok(None) => return Ok(PushStatus::Mounted(origin.clone())),
                Ok(Some(begun)) => session = Some(begun),
                // A source that may not be read is no reason not to upload.
                Err(error) => tracing::debug!(%error, origin, "the registry does not mount"),
            }
        }
        let mut attempt = 1;
        let mut breaks = 0;
        // Once: content that is wrong here is wrong each time.
        let mut lost = false;
        let moved = Arc::new(AtomicU64::new(0));
        loop {
            let before = moved.load(Ordering::Relaxed);
            let error = match self.attempt(session.take(), &moved).await {
                Ok(()) => {
                    self.sessions.forget(
                        &self.repository.endpoint.origin,
                        &self.repository.path,
                        &self.descriptor.digest,
                    );
                    return Ok(PushStatus::Pushed);
                }
                Err(error) if error.is_interruption() => error,
                // The registry has lost the session, or what it had of the blob was something else.
                Err(error @ Error::Status { status: 400 | 404 | 416, .. }) if !lost => {
                    self.sessions.forget(
                        &self.repository.endpoint.origin,
                        &self.repository.path,
                        &self.descriptor.digest,
                    );
                    lost = true;
                    error
                }
                Err(error) => return Err(error),
            };
            breaks += 1;
            attempt = if moved.load(Ordering::Relaxed) - before >= WORTHWHILE { 1 } else { attempt + 1 };
            if attempt > self.repository.transport.config.limits.attempts || breaks > BREAKS_MAX {
                return Err(error);
            }
            let wait = self.repository.wait_before(attempt, &error);
            tracing::debug!(%error, "resuming an upload");
            let seconds = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
            (self.tell)(PushStatus::Retrying { seconds });
            tokio::time::sleep(wait).await;
        }
    }

    async fn exists(&self) -> Result<bool, Error> {
        let rest = format!("blobs/{}", self.descriptor.digest);
        match self.repository.send("HEAD", &rest, &[], &Payload::empty(), &|_| ()).await {
            Ok(_) => Ok(true),
            Err(Error::Status { status: 404, .. } | Error::NameUnknown { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The session an earlier try left, at the offset the registry has reached.
    async fn known(&self) -> Result<Option<Session>, Error> {
        let (origin, path) = (&self.repository.endpoint.origin, &self.repository.path);
        let Some(location) = self.sessions.find(origin, path, &self.descriptor.digest) else { return Ok(None) };
        match self.ask("GET", location, &[], Payload::empty()).await {
            Ok(answer) => {
                let offset = received(&answer).filter(|offset| *offset <= self.descriptor.size);
                let session = self.session(&answer)?;
                Ok(offset.map(|offset| Session { offset, ..session }))
            }
            Err(error) if error.is_interruption() => Err(error),
            Err(error) => {
                tracing::debug!(%error, "the upload's session has gone");
                self.sessions.forget(origin, path, &self.descriptor.digest);
                Ok(None)
            }
        }
    }

    /// Opens a session; `None` when the blob was mounted from `origin` and needs none.
    async fn begin(&self, origin: Option<&String>) -> Result<Option<Session>, Error> {
        let mut rest = "blobs/uploads/".to_owned();
        let mut scopes = Vec::new();
        if let Some(origin) = origin {
            let digest = self.descriptor.digest.to_string();
            rest = format!("{rest}?mount={}&from={}", encode_query(&digest), encode_query(origin));
            scopes.push(format!("repository:{origin}:pull"));
        }
        let url = self.repository.url(&rest);
        let headers = [(header::CONTENT_LENGTH, HeaderValue::from_static("0"))];
        let ask = Ask {
            method: "POST",
            url,
            rest: &rest,
            headers: &headers,
            payload: Payload::empty(),
            scopes: &scopes,
            lane: 0,
        };
        let answer = self.repository.ask(ask).await?;
        if answer.response.status() == StatusCode::CREATED && origin.is_some() {
            return Ok(None);
        }
        let session = self.session(&answer)?;
        let (origin, path) = (&self.repository.endpoint.origin, &self.repository.path);
        self.sessions.remember(origin, path, self.descriptor.digest, session.location.clone());
        Ok(Some(session))
    }

    /// One try: with `session`, or else the one the last try left, or else a new one.
    async fn attempt(&self, session: Option<Session>, moved: &Arc<AtomicU64>) -> Result<(), Error> {
        let session = match session {
            Some(session) => Some(session),
            None => self.known().await?,
        };
        let session = match session {
            Some(session) => session,
            None => match self.begin(None).await? {
                Some(session) => session,
                None => return Ok(()),
            },
        };
        let size = self.descriptor.size;
        if session.offset == 0 && size <= WHOLE_MAX {
            return self.finish(session.location, self.content(0, moved).await?).await;
        }
        let mut location = session.location;
        if session.offset < size {
            let mut headers = vec![(header::CONTENT_TYPE, OCTETS)];
            // A first piece is not told apart from a whole stream, which every registry takes.
            if session.offset > 0 {
                let range = format!("{}-{}", session.offset, size - 1);
                headers.extend(HeaderValue::from_str(&range).ok().map(|range| (header::CONTENT_RANGE, range)));
            }
            let payload = self.content(session.offset, moved).await?;
            let sent = payload.sent().unwrap_or_default();
            let start = sent.load(Ordering::Relaxed);
            let mut answer = std::pin::pin!(self.ask("PATCH", location, &headers, payload));
            let answer = loop {
                match tokio::time::timeout(TICK, &mut answer).await {
                    Ok(answer) => break answer?,
                    Err(_) => {
                        let current = session.offset + (sent.load(Ordering::Relaxed) - start);
                        (self.tell)(PushStatus::Pushing { current, total: size });
                    }
                }
            };
            let next = self.session(&answer)?;
            // Some registries tell how much they have: less is a break that nobody noticed.
            if received(&answer).is_some_and(|received| received != size) {
                return Err(Error::Broken {
                    method: "Patch",
                    url: answer.url.to_string(),
                    detail: "the registry took a part of the upload".to_owned(),
                });
            }
            location = next.location;
            let (origin, path) = (&self.repository.endpoint.origin, &self.repository.path);
            self.sessions.remember(origin, path, self.descriptor.digest, location.clone());
        }
        (self.tell)(PushStatus::Pushing { current: size, total: size });
        self.finish(location, Payload::empty()).await
    }

    /// Ends the upload, with the whole blob or after it.
    async fn finish(&self, location: Url, payload: Payload) -> Result<(), Error> {
        let digest = self.descriptor.digest;
        let separator = if location.target.contains('?') { '&' } else { '?' };
        let target = format!("{}{separator}digest={}", location.target, encode_query(&digest.to_string()));
        let headers = [(header::CONTENT_TYPE, OCTETS)];
        let answer = self.ask("PUT", Url { target, ..location }, &headers, payload).await?;
        check_stored(&answer, "blob", digest)
    }

    async fn content(&self, offset: u64, moved: &Arc<AtomicU64>) -> Result<Payload, Error> {
        let opened = self.source.open(self.descriptor, offset).await;
        let chunks = opened.map_err(|e| Error::Sink { kind: e.kind, message: e.message })?;
        Ok(Payload::stream(chunks, self.descriptor.size - offset, moved.clone()))
    }

    async fn ask(
        &self,
        method: &'static str,
        url: Url,
        headers: &[(HeaderName, HeaderValue)],
        payload: Payload,
    ) -> Result<Answer, Error> {
        self.repository.ask(Ask { method, url, rest: "blobs/uploads/", headers, payload, scopes: &[], lane: 0 }).await
    }

    /// Where the upload goes on.
    fn session(&self, answer: &Answer) -> Result<Session, Error> {
        let location = answer.response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
        let bad = |why| Error::Protocol { url: answer.url.to_string(), why };
        let location = location.ok_or_else(|| bad("it has no Location to upload to"))?;
        let location = answer.url.join(location).ok_or_else(|| bad("its Location is not an http or https address"))?;
        if self.repository.endpoint.origin.https && !location.origin.https {
            return Err(bad("its Location has no TLS although the registry does"));
        }
        Ok(Session { location, offset: 0 })
    }
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Bytes an answer says the registry has of an upload: `Range: 0-N` has the last byte's place, and a
/// session without any byte says `0-0`, which cannot be told from one byte; some omit it.
fn received(answer: &Answer) -> Option<u64> {
    let range = answer.response.headers().get(header::RANGE)?.to_str().ok()?;
    let last: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

/// Compares what a registry says it stored with what was sent.
pub(crate) fn check_stored(answer: &Answer, what: &'static str, expected: Digest) -> Result<(), Error> {
    let said = answer.response.headers().get("docker-content-digest").and_then(|v| v.to_str().ok()?.parse().ok());
    match said {
        Some(actual) if actual != expected => Err(Error::Stored { what, expected, actual }),
        _ => Ok(()),
    }
}
