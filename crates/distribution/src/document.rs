//! Small documents beside an image: whole, under a cap, and unread.

use bytes::Bytes;
use http::{HeaderValue, header};
use sha2::{Digest as _, Sha256};
use types::{Digest, Reference};

use crate::auth::Credentials;
use crate::client::Client;
use crate::endpoint::Purpose;
use crate::error::Error;
use crate::fetch::Manifest;
use crate::manifest::{ACCEPT, Descriptor, MEDIA_OCI_MANIFEST};

impl Client {
    /// Fetches the manifest under another tag of a reference's repository, whatever it describes, at most `limit` bytes of
    /// it; nothing when there is no such tag. Its digest is that of what came: a tag promises none.
    ///
    /// # Errors
    /// As [`Client::pull`]; [`Error::TooLarge`] above the limit.
    pub async fn tagged_artifact(
        &self,
        reference: &Reference,
        tag: &str,
        limit: u64,
        credentials: Option<&Credentials>,
    ) -> Result<Option<Manifest>, Error> {
        let asked = self.with_repository(reference, credentials, Purpose::Pull, async |repository| {
            let headers = [(header::ACCEPT, HeaderValue::from_static(ACCEPT))];
            let answer = repository.get(&format!("manifests/{tag}"), &headers, &|_| ()).await?;
            let media_type = answer.response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
            let media_type = media_type.unwrap_or(MEDIA_OCI_MANIFEST).to_owned();
            let bytes = repository.transport.read_capped(answer.response, limit, "GET", &answer.url).await?;
            let digest = Digest::sha256(Sha256::digest(&bytes).into());
            let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
            Ok(Manifest { descriptor, bytes })
        });
        match asked.await {
            Ok((found, _)) => Ok(Some(found)),
            Err(Error::ManifestUnknown { .. } | Error::NameUnknown { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches a blob of a reference's repository whole and checks its digest, at most `limit` bytes of it.
    ///
    /// # Errors
    /// As [`Client::pull`]; [`Error::Digest`] when the registry sends something else, [`Error::TooLarge`] above the limit.
    pub async fn small_blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        limit: u64,
        credentials: Option<&Credentials>,
    ) -> Result<Bytes, Error> {
        let asked = self.with_repository(reference, credentials, Purpose::Pull, async |repository| {
            let answer = repository.get(&format!("blobs/{digest}"), &[], &|_| ()).await?;
            let bytes = repository.transport.read_capped(answer.response, limit, "GET", &answer.url).await?;
            let actual = Digest::sha256(Sha256::digest(&bytes).into());
            if actual != *digest {
                return Err(Error::Digest { what: "blob", expected: *digest, actual });
            }
            Ok(bytes)
        });
        Ok(asked.await?.0)
    }
}
