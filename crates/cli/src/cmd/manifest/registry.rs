//! Manifests at registries, through the engine.

use std::io::Write;

use client::escape_segment;
use docker_types::image::{PutManifest, RegistryManifest};
use docker_types::oci;
use types::Reference;

use super::lists::Entry;
use crate::{Error, Result, cmd::pull::registry_auth, session::Session};

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

pub(super) fn is_index(entry: &Entry) -> bool {
    matches!(entry.descriptor.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
}

fn path(reference: &Reference) -> String {
    format!("/distribution/{}/manifest", escape_segment(&reference.to_string()))
}

/// An engine that is not dhow's has no page for this.
fn explained(error: client::Error) -> Error {
    if error.is_not_found() && error.to_string().contains("page not found") {
        return Error::new("the engine cannot handle manifests of registries: it is not dhow's, or an older one");
    }
    error.into()
}

/// The manifest or index that a registry has for a name.
pub(super) fn fetch(session: &Session, reference: &Reference, insecure: bool) -> Result<Entry> {
    let mut request = session.client()?.get(path(reference)).flag("insecure", insecure);
    if let Some(auth) = registry_auth(session, reference)? {
        request = request.header("X-Registry-Auth", &auth);
    }
    let found: RegistryManifest = match request.send() {
        Ok(answer) => answer.json()?,
        Err(error) => {
            let missing = error.is_not_found();
            let explained = explained(error);
            return Err(match (missing, &explained) {
                (true, Error::Client(_)) => Error::new(format!("no such manifest: {reference}")),
                _ => explained,
            });
        }
    };
    Entry::new(reference.to_string(), found.descriptor, found.raw)
}

/// The manifests of an index, with the platforms it says they are for.
pub(super) fn fetch_parts(session: &Session, name: &Reference, index: &Entry, insecure: bool) -> Result<Vec<Entry>> {
    #[derive(serde::Deserialize)]
    struct Index {
        manifests: Vec<oci::Descriptor>,
    }
    let index: Index = serde_json::from_slice(&index.document()?).map_err(client::Error::from)?;
    let part = |described: oci::Descriptor| {
        let digest = described.digest.parse().map_err(|error: types::DigestError| Error::new(error.to_string()))?;
        let entry = fetch(session, &name.with_digest(digest), insecure)?;
        if is_index(&entry) {
            return Err(Error::new(format!("unsupported manifest type: {digest} is a list within a list")));
        }
        let tagged = match name.tag() {
            Some(tag) => format!("{}:{tag}@{digest}", name.name()),
            None => name.with_digest(digest).to_string(),
        };
        let platform = Some(described.platform.unwrap_or_default());
        Entry::new(tagged, oci::Descriptor { platform, ..entry.descriptor }, entry.raw)
    };
    index.manifests.into_iter().map(part).collect()
}

/// A document for a registry.
pub(super) struct Put<'a> {
    pub(super) media_type: &'a str,
    /// Repository that has the blobs.
    pub(super) from: Option<&'a str>,
    pub(super) insecure: bool,
}

impl Put<'_> {
    /// Puts it under a name; gives its digest.
    pub(super) fn send(&self, session: &Session, target: &Reference, document: &[u8]) -> Result<String> {
        let mut request = session
            .client()?
            .put(path(target))
            .query_opt("from", self.from)
            .flag("insecure", self.insecure)
            .header("Content-Type", self.media_type);
        if let Some(auth) = registry_auth(session, target)? {
            request = request.header("X-Registry-Auth", &auth);
        }
        let mut upload = request.upload()?;
        let answer = match upload.write_all(document) {
            Ok(()) => upload.finish(),
            Err(error) => upload.failed(error),
        };
        Ok(answer.map_err(explained)?.json::<PutManifest>()?.digest)
    }
}
