//! Manifests at a registry, one document at a time: for manifest lists, which the client keeps and puts together.
//! Nothing of it touches the store.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use distribution::{Client, Credentials, PutRequest};
use docker_types::image::{PutManifest, RegistryManifest};
use docker_types::oci;
use tokio::runtime::Handle;
use types::Reference;

use super::Images;
use super::content::signed;
use super::pull::credentials;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};
use crate::facade::{ManifestOptions, ManifestPut};

impl Images {
    /// A manifest or index as the registry has it.
    ///
    /// # Errors
    /// Not found, denied and the like, in the registry's words.
    pub(crate) async fn registry_manifest(inner: &Arc<Inner>, options: ManifestOptions) -> Result<RegistryManifest> {
        let (reference, client, auth) = way(inner, options)?;
        let (manifest, configuration) =
            alone(async move || client.manifest_and_configuration(&reference, auth.as_ref()).await).await??;
        // The configuration of an artifact may be anything; it then tells of no platform.
        let platform = configuration.map(|text| serde_json::from_slice::<oci::Platform>(&text).unwrap_or_default());
        Ok(RegistryManifest {
            descriptor: oci::Descriptor {
                media_type: manifest.descriptor.media_type.clone(),
                digest: manifest.descriptor.digest.to_string(),
                size: signed(manifest.descriptor.size),
                platform,
                ..oci::Descriptor::default()
            },
            raw: STANDARD.encode(&manifest.bytes),
        })
    }

    /// Put a manifest or index under a name, which may be its digest.
    ///
    /// # Errors
    /// Invalid for a document that is none; otherwise the registry's words.
    pub(crate) async fn put_registry_manifest(inner: &Arc<Inner>, put: ManifestPut) -> Result<PutManifest> {
        let from: Option<Reference> =
            put.from.as_deref().map(str::parse).transpose().map_err(|e| fail!(Invalid, "{e}"))?;
        let (reference, client, credentials) = way(inner, put.options)?;
        let (media_type, document) = (put.media_type, put.document);
        let request = PutRequest { reference, credentials, media_type, document, from };
        let digest = alone(async move || client.put(request).await).await??;
        Ok(PutManifest { digest: digest.to_string() })
    }
}

/// Whom to ask for what, and as whom.
fn way(inner: &Arc<Inner>, options: ManifestOptions) -> Result<(Reference, Client, Option<Credentials>)> {
    let reference: Reference = options.name.parse().map_err(|e| fail!(Invalid, "{e}"))?;
    let client = match options.insecure {
        true => inner.images.client.trusting(reference.domain()),
        false => inner.images.client.clone(),
    };
    Ok((reference.with_default_tag(), client, options.auth.map(credentials)))
}

/// Runs what may not move between threads, as the registry client's futures may not.
async fn alone<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> Result<T> {
    let runtime = Handle::current();
    let task = tokio::task::spawn_blocking(move || runtime.block_on(work()));
    task.await.map_err(|e| Error::io("asking a registry was interrupted", e))
}
