//! Documents and blobs as a registry has them, for whoever keeps content without making an image of it: a cache.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use tokio::sync::mpsc;
use types::{Digest, Reference};

use crate::auth::Credentials;
use crate::blob::{Download, Failure};
use crate::client::Client;
use crate::endpoint::Purpose;
use crate::error::Error;
use crate::manifest::{ACCEPT, Descriptor, Document};
use crate::pull::{fetch_config, fetch_document, fetch_manifest};
use crate::repository::Repository;
use crate::sink::Chunk;

/// A manifest or index as it was served.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Type, digest and size.
    pub descriptor: Descriptor,
    /// The document.
    pub bytes: Bytes,
}

/// A blob that a registry has.
pub struct Blob {
    repository: Arc<Repository>,
    descriptor: Descriptor,
    check: bool,
}

impl Client {
    /// What a reference stands for, without the document; nothing when the registry does not say.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn digest(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Option<Digest>, Error> {
        let name = reference.clone().with_default_tag().manifest_name();
        let asked = self.with_repository(reference, credentials, Purpose::Resolve, async |repository| {
            let headers = [(header::ACCEPT, HeaderValue::from_static(ACCEPT))];
            let payload = crate::payload::Payload::empty();
            let answer = repository.send("HEAD", &format!("manifests/{name}"), &headers, &payload, &|_| ()).await?;
            let digest = answer.response.headers().get("docker-content-digest");
            Ok(digest.and_then(|digest| digest.to_str().ok()?.parse().ok()))
        });
        Ok(asked.await?.0)
    }

    /// Fetches a manifest or an index and checks its digest.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn manifest(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Manifest, Error> {
        let reference = self.pinned(&reference.clone().with_default_tag(), credentials).await?;
        let (name, expected) = (reference.manifest_name(), reference.digest().copied());
        let asked = self.with_repository(&reference, credentials, Purpose::Pull, async |repository| {
            fetch_manifest(repository, &name, expected, None).await
        });
        let fetched = asked.await?.0;
        Ok(Manifest { descriptor: fetched.descriptor, bytes: fetched.bytes })
    }

    /// Fetches a manifest of any kind or an index, and with a manifest its configuration.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn manifest_and_configuration(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<(Manifest, Option<Bytes>), Error> {
        let reference = self.pinned(&reference.clone().with_default_tag(), credentials).await?;
        let (name, expected) = (reference.manifest_name(), reference.digest().copied());
        let asked = self.with_repository(&reference, credentials, Purpose::Pull, async |repository| {
            fetch_document(repository, &name, expected, None, Document::parse_any).await
        });
        let (fetched, repository) = asked.await?;
        let configuration = match &fetched.document {
            Document::Manifest { config, .. } => Some(fetch_config(&repository, config).await?),
            Document::Index(_) => None,
        };
        Ok((Manifest { descriptor: fetched.descriptor, bytes: fetched.bytes }, configuration))
    }

    /// Looks for a blob of a reference's repository.
    ///
    /// # Errors
    /// As [`Client::pull`]; [`Error::Status`] 404 when it is not there.
    pub async fn blob(
        &self,
        reference: &Reference,
        digest: Digest,
        credentials: Option<&Credentials>,
    ) -> Result<Blob, Error> {
        let asked = self
            .with_repository(reference, credentials, Purpose::Pull, async |repository| size(repository, &digest).await);
        let (size, repository) = asked.await?;
        Ok(Blob { repository, descriptor: Descriptor::new("application/octet-stream", digest, size), check: false })
    }
}

/// The size of a blob, by asking for its first byte: addresses that a registry redirects to may be good for `GET` alone.
async fn size(repository: &Repository, digest: &Digest) -> Result<u64, Error> {
    let headers = [
        (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        (header::RANGE, HeaderValue::from_static("bytes=0-0")),
    ];
    let answer = match repository.get(&format!("blobs/{digest}"), &headers, &|_| ()).await {
        // A blob of no bytes has no first one.
        Err(Error::Status { status: 416, .. }) => return Ok(0),
        other => other?,
    };
    let text = |name| answer.response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let size = match answer.response.status() {
        StatusCode::PARTIAL_CONTENT => {
            text(header::CONTENT_RANGE).and_then(|range| range.rsplit_once('/')?.1.parse().ok())
        }
        _ => text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
    };
    size.ok_or_else(|| Error::Protocol { url: answer.url.to_string(), why: "it does not say how long a blob is" })
}

impl Blob {
    /// Length in bytes, as the registry says.
    pub fn size(&self) -> u64 {
        self.descriptor.size
    }

    /// Has the digest checked before the end is announced, for a receiver that does not.
    #[must_use]
    pub fn checked(self) -> Blob {
        Blob { check: true, ..self }
    }

    /// Downloads it into `chunks`, resumed after breaks; exactly [`Blob::size`] bytes. The receiver checks the digest, unless
    /// the blob is [`Blob::checked`].
    /// The end is announced when all of it was sent; a receiver that goes away ends the download.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn download(self, chunks: mpsc::Sender<Chunk>) -> Result<(), Error> {
        match Download::new(self.repository, &self.descriptor, &chunks, self.check, 0).run(&|_| ()).await {
            Ok(()) => {
                let _ = chunks.send(Chunk::End).await;
                Ok(())
            }
            Err(Failure::Registry(error)) => Err(error),
            Err(Failure::Abandoned) => Ok(()),
        }
    }
}
