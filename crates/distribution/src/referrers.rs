//! What refers to a manifest: signatures, attestations, bills of materials (distribution-spec 1.1, "Listing
//! Referrers"), and the tag that stands for the list at registries without it ("Referrers Tag Schema").
//!
//! A list is a hint and nothing more: whoever may push to the repository may have made it. What an entry names is to be
//! fetched by digest ([`Client::artifact`]), and its `subject` compared with what was asked about.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use hyper::body::Incoming;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use types::{Digest, Reference};

use crate::auth::Credentials;
use crate::client::Client;
use crate::endpoint::Purpose;
use crate::error::Error;
use crate::fetch::Manifest;
use crate::manifest::{ACCEPT, Descriptor, MEDIA_OCI_INDEX, MEDIA_OCI_MANIFEST};
use crate::origin::encode_query;
use crate::repository::Repository;
use crate::tags::next_page;

/// Longest page, and longest manifest of an artifact.
const PAGE_MAX: u64 = 4 << 20;
/// Bytes of pages read for one list.
const LIST_MAX: u64 = 32 << 20;
/// Most pages asked for, and with it the end of a registry that pages for ever.
const PAGES_MAX: usize = 1000;

/// A manifest that says in its `subject` what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// The manifest.
    pub descriptor: Descriptor,
    /// What kind of artifact it is, `application/vnd.dev.cosign.artifact.sig.v1+json`.
    pub artifact_type: Option<String>,
    /// Its annotations, as far as the registry repeats them in the list.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    manifests: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Client {
    /// What refers to the manifest or index `subject` in a reference's repository, of one artifact type or of all; in the
    /// registry's order, nothing when there is nothing. Mirrors are asked first, and an empty list of theirs is not
    /// believed: they need not copy what nobody pulled.
    ///
    /// # Errors
    /// As [`Client::pull`]; [`Error::TooLarge`] for a list of more than 32 MiB.
    pub async fn referrers(
        &self,
        reference: &Reference,
        subject: &Digest,
        artifact_type: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Referrer>, Error> {
        let asked = self.with_repository(reference, credentials, Purpose::Resolve, async |repository| {
            let mut found = list(repository, subject, artifact_type).await?;
            found.retain(|referrer| {
                artifact_type.is_none_or(|wanted| referrer.artifact_type.as_deref() == Some(wanted))
            });
            if found.is_empty() {
                // As an error it leads on from a mirror to the registry.
                let cause = format!("nothing refers to {subject}");
                return Err(Error::ManifestUnknown { reference: repository.familiar.clone(), cause });
            }
            Ok(found)
        });
        match asked.await {
            Ok((found, _)) => Ok(found),
            Err(Error::ManifestUnknown { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Fetches a manifest by its digest, whatever it describes, at most 4 MiB of it. Nothing but the digest is checked.
    ///
    /// # Errors
    /// As [`Client::pull`]; [`Error::Digest`] when the registry sends something else.
    pub async fn artifact(
        &self,
        reference: &Reference,
        digest: &Digest,
        credentials: Option<&Credentials>,
    ) -> Result<Manifest, Error> {
        let asked = self.with_repository(reference, credentials, Purpose::Pull, async |repository| {
            let headers = [(header::ACCEPT, HeaderValue::from_static(ACCEPT))];
            let answer = repository.get(&format!("manifests/{digest}"), &headers, &|_| ()).await?;
            let media_type = media_type(&answer.response).unwrap_or_else(|| MEDIA_OCI_MANIFEST.to_owned());
            let bytes = repository.transport.read_capped(answer.response, PAGE_MAX, "GET", &answer.url).await?;
            let actual = Digest::sha256(Sha256::digest(&bytes).into());
            if actual != *digest {
                return Err(Error::Digest { what: "manifest", expected: *digest, actual });
            }
            let descriptor = Descriptor::new(media_type, *digest, bytes.len() as u64);
            Ok(Manifest { descriptor, bytes })
        });
        Ok(asked.await?.0)
    }
}

/// The list by the referrers API, or by the tag when the registry has none.
async fn list(repository: &Repository, subject: &Digest, artifact_type: Option<&str>) -> Result<Vec<Referrer>, Error> {
    let base = format!("referrers/{subject}");
    let mut rest = match artifact_type {
        Some(wanted) => format!("{base}?artifactType={}", encode_query(wanted)),
        None => base.clone(),
    };
    let (mut found, mut total) = (Vec::new(), 0);
    for page in 0..PAGES_MAX {
        let answer = match repository.get(&rest, &accept(), &|_| ()).await {
            Err(error) if page == 0 && is_missing(&error) => return tagged(repository, subject).await,
            other => other?,
        };
        // A page made for people stands at every address of some servers.
        if page == 0 && media_type(&answer.response).is_some_and(|served| served != MEDIA_OCI_INDEX) {
            return tagged(repository, subject).await;
        }
        let next = answer.response.headers().get(header::LINK).and_then(|link| next_page(link.to_str().ok()?));
        let url = answer.url.to_string();
        let bytes = repository.transport.read_capped(answer.response, PAGE_MAX, "GET", &answer.url).await?;
        total += bytes.len() as u64;
        if total > LIST_MAX {
            return Err(Error::TooLarge { what: format!("the list at {url}"), limit: LIST_MAX });
        }
        found.extend(entries(&bytes, &url)?);
        match next {
            Some(query) => rest = format!("{base}?{query}"),
            None => return Ok(found),
        }
    }
    Ok(found)
}

/// The list that clients keep under a tag where the registry does not keep one.
async fn tagged(repository: &Repository, subject: &Digest) -> Result<Vec<Referrer>, Error> {
    let answer = match repository.get(&format!("manifests/sha256-{}", subject.hex()), &accept(), &|_| ()).await {
        Err(Error::ManifestUnknown { .. }) => return Ok(Vec::new()),
        other => other?,
    };
    let url = answer.url.to_string();
    let bytes = repository.transport.read_capped(answer.response, PAGE_MAX, "GET", &answer.url).await?;
    entries(&bytes, &url)
}

fn accept() -> [(header::HeaderName, HeaderValue); 1] {
    [(header::ACCEPT, HeaderValue::from_static(MEDIA_OCI_INDEX))]
}

/// True when an answer means that there is no referrers API.
fn is_missing(error: &Error) -> bool {
    match error {
        Error::ManifestUnknown { .. } | Error::NameUnknown { .. } => true,
        Error::Status { status, .. } => matches!(status, 404 | 405 | 406 | 501),
        _ => false,
    }
}

fn media_type(response: &Response<Incoming>) -> Option<String> {
    let value = response.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_owned())
}

/// The entries of a page. One that we cannot address, of another digest algorithm, is passed over.
fn entries(page: &Bytes, url: &str) -> Result<Vec<Referrer>, Error> {
    let why = "it is not the expected JSON";
    let page: Page = serde_json::from_slice(page).map_err(|_| Error::Protocol { url: url.to_owned(), why })?;
    let referrer = |entry: Entry| {
        let Ok(digest) = entry.digest.parse::<Digest>() else {
            tracing::debug!(digest = entry.digest, "passing over a referrer");
            return None;
        };
        Some(Referrer {
            descriptor: Descriptor::new(entry.media_type, digest, entry.size),
            artifact_type: entry.artifact_type.filter(|text| !text.is_empty()),
            annotations: entry.annotations.unwrap_or_default(),
        })
    };
    Ok(page.manifests.unwrap_or_default().into_iter().filter_map(referrer).collect())
}
