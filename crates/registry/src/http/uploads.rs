//! `/v2/NAME/blobs/uploads/` (distribution-spec, "Pushing blobs"): whole, in chunks, or mounted from elsewhere.
//!
//! A chunk whose connection breaks off keeps what arrived, and the client goes on from there; one that is not what its
//! headers say is forgotten as a whole. The turn of a session is held by every piece of work that changes it, also by
//! one that outlives its request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::sync::OwnedMutexGuard;
use types::Digest;

use super::{Answer, Service, UPLOAD_UUID, blocking, empty, route, set, set_digest};
use crate::auth::{Right, Visitor};
use crate::error::{Code, Error, Result};
use crate::name::{self, RepositoryName, UploadId};
use crate::storage::session::Session;

/// Bytes handed to the disk at once, while as many again arrive.
const BATCH: usize = 256 << 10;
/// Time a request waits for another one to leave a session: a client that reconnects may come before its end is seen.
const TURN: Duration = Duration::from_secs(10);

type Turn = Arc<OwnedMutexGuard<()>>;

/// An upload whose id nobody was told: it ends with its request.
struct Untold {
    service: Arc<Service>,
    session: Arc<Session>,
}

impl Drop for Untold {
    fn drop(&mut self) {
        let (service, session) = (Arc::clone(&self.service), Arc::clone(&self.session));
        tokio::task::spawn_blocking(move || {
            if let Err(e) = service.uploads.cancel(&service.storage, &session) {
                tracing::error!("cannot remove an upload: {e}");
            }
        });
    }
}

fn location(session: &Session) -> String {
    format!("/v2/{}/blobs/uploads/{}", session.repository.as_str(), session.id.as_str())
}

/// The headers that say where an upload stands. Nothing received yet is told as `0-0`, as the field does.
fn state(session: &Session) -> HeaderMap {
    let mut headers = HeaderMap::new();
    set(&mut headers, header::LOCATION, &location(session));
    set(&mut headers, header::RANGE, &format!("0-{}", session.offset().saturating_sub(1)));
    set(&mut headers, UPLOAD_UUID, session.id.as_str());
    headers
}

fn told(status: StatusCode, session: &Session) -> Answer {
    let mut answer = empty(status);
    answer.headers_mut().extend(state(session));
    answer
}

fn created(name: &RepositoryName, digest: &Digest) -> Answer {
    let mut answer = empty(StatusCode::CREATED);
    set(answer.headers_mut(), header::LOCATION, &format!("/v2/{}/blobs/{digest}", name.as_str()));
    set_digest(answer.headers_mut(), digest);
    answer
}

pub(super) async fn start(
    service: &Arc<Service>,
    visitor: Visitor,
    repository: RepositoryName,
    request: Request<Incoming>,
) -> Result<Answer> {
    let query = request.uri().query();
    if let Some(digest) = route::query(query, "digest") {
        return whole(service, repository, name::digest(&digest)?, request).await;
    }
    let mount = route::query(query, "mount").and_then(|digest| digest.parse::<Digest>().ok());
    // Without `from` any repository would do; which repositories have a blob is not for everyone to find out.
    let from = route::query(query, "from").and_then(|from| RepositoryName::parse(&from).ok());
    let from = from.filter(|from| visitor.may(from, Right::Pull));
    if let (Some(digest), Some(from)) = (mount, from) {
        let to = repository.clone();
        let mounted = blocking(service, move |service| service.storage.mount_blob(&from, &to, &digest));
        if mounted.await? {
            service.metrics.mounted();
            return Ok(created(&repository, &digest));
        }
    }
    let session = blocking(service, move |service| service.uploads.begin(&service.storage, &repository)).await?;
    Ok(told(StatusCode::ACCEPTED, &session))
}

/// One request with everything.
async fn whole(
    service: &Arc<Service>,
    repository: RepositoryName,
    digest: Digest,
    request: Request<Incoming>,
) -> Result<Answer> {
    let to = repository.clone();
    let session = blocking(service, move |service| service.uploads.begin(&service.storage, &to)).await?;
    let untold = Untold { service: Arc::clone(service), session: Arc::clone(&session) };
    let turn = take_turn(service, &session).await?;
    receive(service, &session, &turn, request.into_body(), None).await?;
    commit(service, &session, turn, digest).await?;
    // Ended already: nothing is left to remove.
    drop(untold);
    Ok(created(&repository, &digest))
}

pub(super) fn status(service: &Arc<Service>, name: &RepositoryName, id: &UploadId) -> Result<Answer> {
    let session = service.uploads.get(name, id)?;
    session.touch();
    Ok(told(StatusCode::NO_CONTENT, &session))
}

pub(super) async fn cancel(service: &Arc<Service>, name: &RepositoryName, id: &UploadId) -> Result<Answer> {
    let session = service.uploads.get(name, id)?;
    let _turn = take_turn(service, &session).await?;
    blocking(service, move |service| {
        service.uploads.cancel(&service.storage, &session).map_err(Error::io("remove an upload"))
    })
    .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn patch(
    service: &Arc<Service>,
    name: &RepositoryName,
    id: &UploadId,
    request: Request<Incoming>,
) -> Result<Answer> {
    let session = service.uploads.get(name, id)?;
    let turn = take_turn(service, &session).await?;
    chunk(service, &session, &turn, request).await?;
    Ok(told(StatusCode::ACCEPTED, &session))
}

pub(super) async fn finish(
    service: &Arc<Service>,
    name: &RepositoryName,
    id: &UploadId,
    request: Request<Incoming>,
) -> Result<Answer> {
    let session = service.uploads.get(name, id)?;
    let digest = route::query(request.uri().query(), "digest").ok_or_else(|| {
        Error::new(Code::DigestInvalid, "the upload is finished with ?digest=: say which digest the blob has")
    })?;
    let digest = name::digest(&digest)?;
    let turn = take_turn(service, &session).await?;
    chunk(service, &session, &turn, request).await?;
    commit(service, &session, turn, digest).await?;
    Ok(created(name, &digest))
}

async fn take_turn(service: &Arc<Service>, session: &Arc<Session>) -> Result<Turn> {
    let taken = tokio::time::timeout(TURN, Arc::clone(&session.turn).lock_owned()).await;
    let turn = taken.map_err(|_| {
        Error::new(
            Code::TooManyRequests,
            "another request writes to this upload: wait for its end, then ask where it stands",
        )
    })?;
    session.touch();
    if service.uploads.is_open(session) { Ok(Arc::new(turn)) } else { Err(Error::upload_unknown()) }
}

/// Makes an upload a blob. What has begun goes on when the client leaves.
async fn commit(service: &Arc<Service>, session: &Arc<Session>, turn: Turn, digest: Digest) -> Result<()> {
    let (service, session) = (Arc::clone(service), Arc::clone(session));
    let committed = tokio::spawn(async move {
        let uploaded = service.uploads.send(&service.storage, &session, &digest).await?;
        session.touch();
        blocking(&service, move |service| {
            let _turn = turn;
            service.uploads.commit(&service.storage, &session, &digest, uploaded)?;
            service.metrics.pushed();
            Ok(())
        })
        .await
    });
    committed.await.map_err(|e| Error::io("finish")(std::io::Error::other(e)))?
}

/// Takes the body of a PATCH or PUT and holds it against its headers.
async fn chunk(service: &Arc<Service>, session: &Arc<Session>, turn: &Turn, request: Request<Incoming>) -> Result<()> {
    let length = request.body().size_hint().exact();
    let range = match request.headers().get(header::CONTENT_RANGE) {
        Some(value) => Some(value.to_str().ok().and_then(parse_range).ok_or_else(|| out_of_order(session))?),
        None => None,
    };
    if range.is_some_and(|(start, _)| start != session.offset()) {
        return Err(out_of_order(session));
    }
    let expected = range.map(|(start, end)| end - start + 1);
    let wrong = |actual: u64| {
        let text = format!(
            "Content-Range promises {} bytes and the body has {}{actual}: the chunk was not taken, send it again",
            expected.unwrap_or(0),
            if Some(actual) > expected { "at least " } else { "" }
        );
        Error::new(Code::SizeInvalid, text).with_headers(state(session))
    };
    if let (Some(expected), Some(length)) = (expected, length)
        && expected != length
    {
        return Err(wrong(length));
    }
    let mark = session.mark();
    let received = receive(service, session, turn, request.into_body(), expected).await?;
    let keep = Arc::clone(session);
    let held = Arc::clone(turn);
    if expected.is_some_and(|expected| expected != received) {
        blocking(service, move |_| {
            let _turn = held;
            keep.go_back(mark).map_err(Error::io("write an upload"))
        })
        .await?;
        return Err(wrong(received));
    }
    if received > 0 {
        blocking(service, move |_| {
            let _turn = held;
            keep.keep().map_err(Error::io("write an upload"))
        })
        .await?;
    }
    Ok(())
}

/// `START-END`, both included, with or without the unit that HTTP's own header has.
fn parse_range(text: &str) -> Option<(u64, u64)> {
    let text = text.strip_prefix("bytes ").or_else(|| text.strip_prefix("bytes=")).unwrap_or(text);
    let (start, end) = text.split('/').next()?.split_once('-')?;
    let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (start, end) = (number(start)?, number(end)?);
    (start <= end && end < u64::MAX).then_some((start, end))
}

fn out_of_order(session: &Session) -> Error {
    let text = format!("Content-Range must be START-END and begin at {}, where this upload stands", session.offset());
    let error = Error::new(Code::BlobUploadInvalid, text).with_status(StatusCode::RANGE_NOT_SATISFIABLE);
    error.with_headers(state(session))
}

/// Appends a body to the upload and returns how many bytes it had. Reading stops one batch beyond `limit`.
///
/// # Errors
/// `BLOB_UPLOAD_INVALID` when the body breaks off or stalls; what arrived is kept.
async fn receive(
    service: &Arc<Service>,
    session: &Arc<Session>,
    turn: &Turn,
    mut body: Incoming,
    limit: Option<u64>,
) -> Result<u64> {
    if let Some(length) = body.size_hint().exact() {
        room(service, session, length).await?;
    }
    let mut batch = Vec::new();
    let (mut size, mut received) = (0, 0_u64);
    let mut writing: Option<tokio::task::JoinHandle<Result<()>>> = None;
    let write = |pieces: Vec<Bytes>| {
        let (session, turn) = (Arc::clone(session), Arc::clone(turn));
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            session.append(&pieces).map_err(Error::io("write an upload"))
        })
    };
    let mut broken = false;
    loop {
        match tokio::time::timeout(service.config.limits.stall, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                let Ok(piece) = frame.into_data() else { continue };
                size += piece.len();
                received += piece.len() as u64;
                batch.push(piece);
            }
            Ok(None) => break,
            Ok(Some(Err(_))) | Err(_) => {
                broken = true;
                break;
            }
        }
        if size >= BATCH {
            written(writing.take()).await?;
            session.touch();
            room(service, session, size as u64).await?;
            service.metrics.received(size as u64);
            writing = Some(write(std::mem::take(&mut batch)));
            size = 0;
            if limit.is_some_and(|limit| received > limit) {
                break;
            }
        }
    }
    written(writing.take()).await?;
    if size > 0 {
        room(service, session, size as u64).await?;
        service.metrics.received(size as u64);
        written(Some(write(batch))).await?;
    }
    session.touch();
    if broken {
        let held = Arc::clone(turn);
        let kept = Arc::clone(session);
        blocking(service, move |_| {
            let _turn = held;
            kept.keep().map_err(Error::io("write an upload"))
        })
        .await?;
        let text = "the body broke off: what arrived is kept, ask the upload where it stands and go on from there";
        let error = Error::new(Code::BlobUploadInvalid, text).with_headers(state(session));
        return Err(error.with_header(header::CONNECTION, HeaderValue::from_static("close")));
    }
    Ok(received)
}

/// Ends an upload that has grown beyond what there is room for.
async fn room(service: &Arc<Service>, session: &Arc<Session>, more: u64) -> Result<()> {
    let Err(error) = service.uploads.room(&service.storage, session, more) else { return Ok(()) };
    let session = Arc::clone(session);
    blocking(service, move |service| {
        service.uploads.cancel(&service.storage, &session).map_err(Error::io("remove an upload"))
    })
    .await?;
    Err(error.with_header(header::CONNECTION, HeaderValue::from_static("close")))
}

async fn written(task: Option<tokio::task::JoinHandle<Result<()>>>) -> Result<()> {
    match task {
        Some(task) => task.await.map_err(|e| Error::io("finish")(std::io::Error::other(e)))?,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(parse_range("0-9"), Some((0, 9)));
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, 9)));
        assert_eq!(parse_range("bytes=5-9"), Some((5, 9)));
        for bad in ["", "-", "5", "9-5", "a-b", "0-18446744073709551615", "-5-9", "+1-2"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
