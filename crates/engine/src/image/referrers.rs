//! What refers to an image at its registry: signatures, attestations, bills of materials.

use std::sync::Arc;

use docker_types::auth::AuthConfig;
use docker_types::image::{ImageReferrers, ReferrerItem};
use tokio::runtime::Handle;
use types::Reference;

use super::Images;
use super::pull::credentials;
use crate::engine::Inner;
use crate::error::{Result, fail};

impl Images {
    /// What refers to the index or manifest a name stands for at its registry, of one artifact type or of all. Nothing of
    /// it is checked.
    ///
    /// # Errors
    /// Not found, denied and the like, in the registry's words.
    pub(crate) async fn referrers(
        inner: &Arc<Inner>,
        name: &str,
        artifact_type: Option<String>,
        auth: Option<AuthConfig>,
    ) -> Result<ImageReferrers> {
        let reference: Reference = name.parse().map_err(|e| fail!(Invalid, "{e}"))?;
        let (client, auth) = (inner.images.client.clone(), auth.map(credentials));
        let runtime = Handle::current();
        // As for pulls: the client's future stays on one thread.
        let asked = inner.blocking("ask a registry", move || {
            Ok(runtime.block_on(async {
                let subject = match reference.digest() {
                    Some(digest) => *digest,
                    None => client.resolve(&reference, auth.as_ref()).await?.target.digest,
                };
                let found = client.referrers(&reference, &subject, artifact_type.as_deref(), auth.as_ref()).await?;
                Ok::<_, distribution::Error>((subject, found))
            })?)
        });
        let (subject, found) = asked.await?;
        let item = |referrer: distribution::Referrer| ReferrerItem {
            media_type: referrer.descriptor.media_type,
            digest: referrer.descriptor.digest.to_string(),
            size: i64::try_from(referrer.descriptor.size).unwrap_or(i64::MAX),
            artifact_type: referrer.artifact_type.unwrap_or_default(),
            annotations: referrer.annotations,
        };
        Ok(ImageReferrers { subject: subject.to_string(), referrers: found.into_iter().map(item).collect() })
    }
}
