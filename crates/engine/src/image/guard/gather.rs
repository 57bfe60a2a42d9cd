//! What a registry has that may be a signature of an image.
//!
//! Looked for are cosign's tag, `sha256-….sig`, and what refers to the image. A registry that cannot be asked, or serves
//! something else, gives evidence that counts for nothing and says why: only what is missing is ever refused for it.

use distribution::{Client, Credentials};
use trust::{Artifact, Body, DOCUMENT_MAX, Evidence, Form, MANIFEST_MAX, Role, SIGNATURES_MAX};
use types::{Digest, Reference};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const NOTATION: &str = "application/vnd.cncf.notary.signature";

/// Where signatures are looked for.
pub(super) struct Registry<'a> {
    pub client: &'a Client,
    pub reference: &'a Reference,
    pub credentials: Option<&'a Credentials>,
}

impl Registry<'_> {
    /// Signatures of some forms on one document.
    pub(super) async fn gather(&self, on: &Digest, forms: &[Form]) -> Vec<Evidence> {
        let mut found = Vec::new();
        if forms.contains(&Form::Cosign) {
            self.cosign(on, &mut found).await;
        }
        if forms.contains(&Form::Bundle) || forms.contains(&Form::Notation) {
            self.referrers(on, forms, &mut found).await;
        }
        found
    }

    async fn cosign(&self, on: &Digest, found: &mut Vec<Evidence>) {
        let tag = format!("sha256-{}.sig", on.hex());
        let tell = |place: String, body| Evidence { on: *on, place, form: Form::Cosign, body };
        let asked = self.client.tagged_artifact(self.reference, &tag, MANIFEST_MAX, self.credentials).await;
        let manifest = match asked {
            Ok(None) => return,
            Ok(Some(manifest)) => manifest,
            Err(error) => return found.push(tell(tag, Body::Unusable(format!("it cannot be fetched: {error}")))),
        };
        let artifact = match Artifact::parse(&manifest.bytes) {
            Ok(artifact) => artifact,
            Err(why) => return found.push(tell(tag, Body::Unusable(why))),
        };
        for layer in artifact.layers.into_iter().filter(|layer| layer.media_type == SIMPLE_SIGNING) {
            let body = match (layer.signature, self.blob(&layer.digest, layer.size).await) {
                (None, _) => Body::Unusable("its payload has no signature beside it".to_owned()),
                (_, Err(why)) => Body::Unusable(why),
                (Some(signature), Ok(payload)) => Body::Simple { payload, signature, certificate: layer.certificate },
            };
            found.push(tell(layer.digest.to_string(), body));
        }
    }

    async fn referrers(&self, on: &Digest, forms: &[Form], found: &mut Vec<Evidence>) {
        let first = if forms.contains(&Form::Notation) { Form::Notation } else { Form::Bundle };
        let unusable = |place: String, form, why| Evidence { on: *on, place, form, body: Body::Unusable(why) };
        let list = match self.client.referrers(self.reference, on, None, self.credentials).await {
            Ok(list) => list,
            Err(error) => {
                let why = format!("what refers to the image cannot be listed: {error}");
                return found.push(unusable(on.to_string(), first, why));
            }
        };
        let list: Vec<_> = list.into_iter().filter(|one| worth(one.artifact_type.as_deref(), forms)).collect();
        if list.len() > SIGNATURES_MAX {
            let why = format!("{} signatures refer to the image where {SIGNATURES_MAX} are looked at", list.len());
            found.push(unusable(on.to_string(), first, why));
        }
        for referrer in list.into_iter().take(SIGNATURES_MAX) {
            let place = referrer.descriptor.digest;
            let hint = referrer.artifact_type.as_deref().and_then(form_of).unwrap_or(first);
            match self.referrer(on, &place).await {
                Ok(Some((form, body))) if forms.contains(&form) => {
                    found.push(Evidence { on: *on, place: place.to_string(), form, body });
                }
                Ok(_) => {}
                Err(why) => found.push(unusable(place.to_string(), hint, why)),
            }
        }
    }

    /// What a manifest that refers to the image holds; nothing when it is no signature.
    async fn referrer(&self, on: &Digest, digest: &Digest) -> Result<Option<(Form, Body)>, String> {
        let fetched = self.client.artifact(self.reference, digest, self.credentials).await;
        let manifest = fetched.map_err(|error| format!("it cannot be fetched: {error}"))?;
        let artifact = Artifact::parse(&manifest.bytes)?;
        let Some(form) = form_of(&artifact.kind) else { return Ok(None) };
        if artifact.subject != Some(*on) {
            return Err("its manifest is about another image".to_owned());
        }
        let [layer] = artifact.layers.as_slice() else {
            return Err("its manifest has not exactly one piece of content".to_owned());
        };
        let bytes = self.blob(&layer.digest, layer.size).await?;
        let body = match form {
            Form::Notation => Body::Envelope { media_type: layer.media_type.clone(), bytes },
            _ => Body::Bundle(bytes),
        };
        Ok(Some((form, body)))
    }

    async fn blob(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, String> {
        if size > DOCUMENT_MAX {
            return Err(format!("it is {size} bytes long where {DOCUMENT_MAX} are read"));
        }
        let fetched = self.client.small_blob(self.reference, digest, DOCUMENT_MAX, self.credentials).await;
        fetched.map(|bytes| bytes.to_vec()).map_err(|error| format!("it cannot be fetched: {error}"))
    }
}

fn form_of(kind: &str) -> Option<Form> {
    match kind {
        NOTATION => Some(Form::Notation),
        kind if kind.starts_with(BUNDLE) => Some(Form::Bundle),
        _ => None,
    }
}

/// Whether an entry of a list of referrers is looked at. The list is a hint: what says that it is something else is not, what
/// says nothing is. So is the empty type: cosign 3 writes it where it keeps the list itself, under a tag.
fn worth(kind: Option<&str>, forms: &[Form]) -> bool {
    match kind {
        None | Some("application/vnd.oci.empty.v1+json") => true,
        Some(kind) => form_of(kind).is_some_and(|form| forms.contains(&form)),
    }
}

/// The index, if there is one, and the platform's manifest, with their roles.
pub(super) fn roles(digests: &[Digest]) -> Vec<(Role, Digest)> {
    let roles: &[Role] = if digests.len() > 1 { &[Role::Index, Role::Platform] } else { &[Role::Manifest] };
    roles.iter().copied().zip(digests.iter().copied()).collect()
}

/// As [`roles`], with their bytes.
pub(super) fn documents(served: &[(Digest, &[u8])]) -> Vec<(Role, Digest, Vec<u8>)> {
    let digests: Vec<Digest> = served.iter().map(|(digest, _)| *digest).collect();
    let pairs = roles(&digests).into_iter().zip(served);
    pairs.map(|((role, digest), (_, bytes))| (role, digest, bytes.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_hints() {
        let bundles = [Form::Cosign, Form::Bundle];
        for (kind, expected) in [
            (None, true),
            (Some("application/vnd.oci.empty.v1+json"), true),
            (Some("application/vnd.dev.sigstore.bundle.v0.3+json"), true),
            (Some("application/vnd.cncf.notary.signature"), false),
            (Some("application/spdx+json"), false),
        ] {
            assert_eq!(worth(kind, &bundles), expected, "{kind:?}");
        }
        assert!(worth(Some("application/vnd.cncf.notary.signature"), &[Form::Notation]));
    }
}
