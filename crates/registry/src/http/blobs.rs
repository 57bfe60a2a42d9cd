//! `/v2/NAME/blobs/DIGEST` (distribution-spec, "Pulling blobs", "Deleting Blobs"), with ranges as RFC 9110, 14 has them.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use types::Digest;

use super::body::{Body, FileBody};
use super::{Answer, Service, blocking, empty, etag, is_unchanged, not_modified, set, set_digest};
use crate::error::{Code, Error, Result};
use crate::name::RepositoryName;
use crate::sendfile::Outlet;
use crate::storage::content::Content;
use crate::upstream::Arriving;

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// Everything: no header, or one of a kind that a server may ignore.
    All,
    /// From the first up to but without the second offset.
    Part(u64, u64),
    /// Beyond the end.
    Nothing,
}

/// Where a blob's bytes are.
enum Source {
    Here(Content),
    Arriving(Arriving),
}

fn unknown(digest: &Digest) -> Error {
    Error::new(
        Code::BlobUnknown,
        format!("this repository has no blob {digest}: push it here, or mount it from a repository that has it"),
    )
}

pub(super) async fn get(
    service: &Arc<Service>,
    name: RepositoryName,
    digest: Digest,
    request: &Request<Incoming>,
) -> Result<Answer> {
    let head = request.method() == Method::HEAD;
    let source = service.source(&name);
    let found = blocking(service, move |service| {
        // Who asks whether a blob is there is about to refer to it.
        let found = match head && !service.config.read_only {
            true => service.storage.claim_blob(&name, &digest),
            false => service.storage.open_blob(&name, &digest),
        };
        found.map_err(Error::io("open a blob"))
    });
    let (content, size) = match (found.await?, service.upstreams.as_ref().zip(source)) {
        (Some((content, size)), _) => (Source::Here(content), size),
        (None, None) => return Err(unknown(&digest)),
        (None, Some((upstreams, source))) => {
            let (arriving, size) = upstreams.blob(service, &source, digest).await?;
            (Source::Arriving(arriving), size)
        }
    };
    if is_unchanged(request, &digest) {
        return Ok(not_modified(&digest));
    }
    let (status, start, end) = match wanted(request.headers(), &digest, size) {
        Wanted::All => (StatusCode::OK, 0, size),
        Wanted::Part(start, end) => (StatusCode::PARTIAL_CONTENT, start, end),
        Wanted::Nothing => {
            let mut headers = HeaderMap::new();
            set(&mut headers, header::CONTENT_RANGE, &format!("bytes */{size}"));
            let text = format!("the range lies beyond the blob's {size} bytes");
            let error = Error::new(Code::SizeInvalid, text).with_status(StatusCode::RANGE_NOT_SATISFIABLE);
            return Err(error.with_headers(headers));
        }
    };
    let body = match content {
        _ if head || start == end => Body::empty(),
        Source::Here(Content::File(file)) => {
            Body::File(FileBody::new(file, start, end, request.extensions().get::<Outlet>().cloned()))
        }
        Source::Here(Content::Object(object)) => {
            let pieces = object.read(start, end).await.map_err(Error::io("read a blob"))?;
            Body::Stream(pieces.ok_or_else(|| unknown(&digest))?, end - start)
        }
        Source::Arriving(arriving) => Body::Stream(arriving.stream(start, end), end - start),
    };
    if !head {
        service.metrics.sends(end - start);
    }
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    set(headers, header::ETAG, &etag(&digest));
    set_digest(headers, &digest);
    if status == StatusCode::PARTIAL_CONTENT {
        set(headers, header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
    }
    Ok(answer)
}

/// Reads `Range` and `If-Range`. Several ranges at once are answered with everything, as RFC 9110, 14.2 allows.
fn wanted(headers: &HeaderMap, digest: &Digest, size: u64) -> Wanted {
    let other = headers.get(header::IF_RANGE).is_some_and(|tag| tag.as_bytes() != etag(digest).as_bytes());
    let Some(text) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).filter(|_| !other) else {
        return Wanted::All;
    };
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Wanted::All;
    };
    let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    match (number(first), number(last)) {
        (Some(first), _) if last.is_empty() => part(first, size, size),
        (Some(first), Some(last)) if first <= last => part(first, last.saturating_add(1).min(size), size),
        (None, Some(0)) if first.is_empty() => Wanted::Nothing,
        (None, Some(count)) if first.is_empty() => part(size.saturating_sub(count), size, size),
        _ => Wanted::All,
    }
}

fn part(start: u64, end: u64, size: u64) -> Wanted {
    if start < size { Wanted::Part(start, end) } else { Wanted::Nothing }
}

pub(super) async fn delete(service: &Arc<Service>, name: RepositoryName, digest: Digest) -> Result<Answer> {
    let removed = blocking(service, move |service| {
        service.storage.unlink_blob(&name, &digest).map_err(Error::io("delete a blob"))
    });
    if removed.await? { Ok(empty(StatusCode::ACCEPTED)) } else { Err(unknown(&digest)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let digest = Digest::sha256([1; 32]);
        let ask = |range: &str, size| {
            let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_str(range).unwrap())]);
            wanted(&headers, &digest, size)
        };
        assert_eq!(ask("bytes=0-0", 10), Wanted::Part(0, 1));
        assert_eq!(ask("bytes=3-", 10), Wanted::Part(3, 10));
        assert_eq!(ask("bytes=3-99", 10), Wanted::Part(3, 10));
        assert_eq!(ask("bytes=-4", 10), Wanted::Part(6, 10));
        assert_eq!(ask("bytes=-40", 10), Wanted::Part(0, 10));
        for none in ["bytes=10-", "bytes=10-11", "bytes=-0"] {
            assert_eq!(ask(none, 10), Wanted::Nothing, "{none}");
        }
        assert_eq!(ask("bytes=0-0", 0), Wanted::Nothing);
        for all in [
            "bytes=5-3",
            "bytes=0-1,3-4",
            "lines=1-2",
            "bytes=",
            "bytes=-",
            "bytes=+1-2",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(ask(all, 10), Wanted::All, "{all}");
        }
        let mut headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=1-1"))]);
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"other\""));
        assert_eq!(wanted(&headers, &digest, 10), Wanted::All);
        set(&mut headers, header::IF_RANGE, &etag(&digest));
        assert_eq!(wanted(&headers, &digest, 10), Wanted::Part(1, 2));
    }
}
