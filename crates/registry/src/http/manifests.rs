//! `/v2/NAME/manifests/REFERENCE` (distribution-spec, "Pulling manifests", "Pushing Manifests", "Deleting Manifests").
//!
//! A manifest is sent as it was pushed, with the type it was pushed with; `Accept` does not change it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};

use super::{
    Answer, OCI_SUBJECT, Service, blocking, document, empty, etag, is_unchanged, not_modified, set, set_digest,
};
use crate::error::{Code, Error, Result};
use crate::manifest::{MANIFEST_MAX, Manifest};
use crate::name::{Reference, RepositoryName};

fn unknown(name: &RepositoryName, reference: &Reference) -> Error {
    let text = format!("{} has no manifest {reference}: see its tags list for what there is", name.as_str());
    Error::new(Code::ManifestUnknown, text)
}

pub(super) async fn get(
    service: &Arc<Service>,
    name: RepositoryName,
    reference: Reference,
    request: &Request<Incoming>,
) -> Result<Answer> {
    let reference = match service.upstreams.as_ref().zip(service.source(&name)) {
        None => reference,
        Some((upstreams, source)) => match upstreams.manifest(service, &source, &reference).await? {
            Some(digest) => Reference::Digest(digest),
            None => return Err(unknown(&name, &reference)),
        },
    };
    let found = blocking(service, move |service| {
        let look = || match service.storage.resolve(&name, &reference)? {
            Some(digest) => service.storage.manifest(&name, &digest),
            None => Ok(None),
        };
        look().map_err(Error::io("read a manifest"))?.ok_or_else(|| unknown(&name, &reference))
    });
    let stored = found.await?;
    if is_unchanged(request, &stored.digest) {
        return Ok(not_modified(&stored.digest));
    }
    service.metrics.sends(stored.bytes.len() as u64);
    let mut answer = document(StatusCode::OK, &stored.media_type, stored.bytes, request.method());
    set_digest(answer.headers_mut(), &stored.digest);
    set(answer.headers_mut(), header::ETAG, &etag(&stored.digest));
    Ok(answer)
}

pub(super) async fn put(
    service: &Arc<Service>,
    name: RepositoryName,
    reference: Reference,
    request: Request<Incoming>,
) -> Result<Answer> {
    let content_type = content_type(request.headers())?;
    let bytes = read(service, request.into_body()).await?;
    service.metrics.received(bytes.len() as u64);
    let stored = blocking(service, move |service| {
        let manifest = Manifest::parse(&content_type, bytes)?;
        let tag = match &reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(digest) if *digest == manifest.digest => None,
            Reference::Digest(digest) => {
                let text = format!(
                    "the manifest received is {} and not {digest}: push it under its own digest",
                    manifest.digest
                );
                return Err(Error::new(Code::DigestInvalid, text));
            }
        };
        service.storage.put_manifest(&name, &manifest, tag)?;
        Ok((name, manifest.digest, manifest.subject))
    });
    let (name, digest, subject) = stored.await?;
    let mut answer = empty(StatusCode::CREATED);
    set(answer.headers_mut(), header::LOCATION, &format!("/v2/{}/manifests/{digest}", name.as_str()));
    set_digest(answer.headers_mut(), &digest);
    if let Some(subject) = subject {
        set(answer.headers_mut(), OCI_SUBJECT, &subject.to_string());
    }
    Ok(answer)
}

/// The media type sent, without parameters; empty when there is none.
fn content_type(headers: &HeaderMap) -> Result<String> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(String::new()) };
    let text = value.to_str().map_err(|_| Error::new(Code::ManifestInvalid, "Content-Type is not ASCII text"))?;
    Ok(text.split(';').next().unwrap_or_default().trim().to_owned())
}

async fn read(service: &Arc<Service>, mut body: Incoming) -> Result<Bytes> {
    let large = || {
        let text = format!("a manifest has at most {MANIFEST_MAX} bytes: move what it carries into blobs");
        Error::new(Code::SizeInvalid, text).with_status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    if body.size_hint().lower() > MANIFEST_MAX {
        return Err(large());
    }
    let mut bytes = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout(service.config.limits.stall, body.frame()).await {
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) | Err(_) => {
                return Err(Error::new(Code::ManifestInvalid, "the manifest broke off: push it again"));
            }
        };
        let Ok(piece) = frame.into_data() else { continue };
        if (bytes.len() + piece.len()) as u64 > MANIFEST_MAX {
            return Err(large());
        }
        bytes.extend_from_slice(&piece);
    }
}

pub(super) async fn delete(service: &Arc<Service>, name: RepositoryName, reference: Reference) -> Result<Answer> {
    blocking(service, move |service| {
        let removed = match &reference {
            Reference::Tag(tag) => service.storage.remove_tag(&name, tag),
            Reference::Digest(digest) => service.storage.remove_manifest(&name, digest),
        };
        if removed.map_err(Error::io("delete a manifest"))? {
            return Ok(empty(StatusCode::ACCEPTED));
        }
        Err(unknown(&name, &reference))
    })
    .await
}
