//! `image verify`: what the policy would say, with every signature there is, and without consequences.

use std::sync::Arc;

use docker_types::auth::AuthConfig;
use docker_types::image::{ImageVerification, SignatureCheck};
use tokio::runtime::Handle;
use trust::{Policy, Report, Subject};
use types::{Digest, Platform, Reference};

use super::gate::examine;
use super::gather::{Registry, documents};
use super::source::Disk;
use super::{mode_word, outcome_word};
use crate::engine::Inner;
use crate::error::{Error, Result, fail};
use crate::image::Images;
use crate::image::pull::credentials;

impl Images {
    /// Judge what a name stands for at its registry, by the daemon's policy or another one.
    ///
    /// # Errors
    /// Invalid for a policy or a name that cannot be read; the registry's.
    pub(crate) async fn verify(
        inner: &Arc<Inner>,
        name: &str,
        policy: Option<(String, String)>,
        platform: Option<Platform>,
        auth: Option<AuthConfig>,
    ) -> Result<ImageVerification> {
        let reference: Reference = name.parse().map_err(|e| fail!(Invalid, "{e}"))?;
        let reference = reference.with_default_tag();
        let (inner, runtime) = (Arc::clone(inner), Handle::current());
        let task = tokio::task::spawn_blocking(move || {
            let policy = match policy {
                Some((text, source)) => {
                    Some(Policy::parse(text.as_bytes(), &source).map_err(|e| fail!(Invalid, "{e}"))?)
                }
                None => inner.images.policy.read()?,
            };
            runtime.block_on(verify(&inner, &reference, policy, platform, auth))
        });
        task.await.map_err(|e| Error::io("checking an image's signatures was interrupted", e))?
    }
}

async fn verify(
    inner: &Inner,
    reference: &Reference,
    policy: Option<Policy>,
    platform: Option<Platform>,
    auth: Option<AuthConfig>,
) -> Result<ImageVerification> {
    let (client, credentials) = (&inner.images.client, auth.map(credentials));
    let served = client.documents(reference, platform.as_ref(), credentials.as_ref()).await?;
    let parts: Vec<(Digest, &[u8])> = served.iter().map(|one| (one.descriptor.digest, one.bytes.as_ref())).collect();
    let documents = documents(&parts);
    let mut answer = ImageVerification {
        name: reference.familiar(),
        digest: documents.first().map(|(_, digest, _)| digest.to_string()).unwrap_or_default(),
        outcome: "accepted".to_owned(),
        ..ImageVerification::default()
    };
    let Some(policy) = policy else { return Ok(answer) };
    let rule = policy.rule(reference);
    let signers = policy.signers(rule, &Disk);
    let subject = Subject { reference, documents: &documents };
    let registry = Registry { client, reference, credentials: credentials.as_ref() };
    let report = examine(rule, &signers, &subject, &registry, true).await;
    answer.policy.clone_from(&policy.source);
    fill(&mut answer, report);
    Ok(answer)
}

fn fill(answer: &mut ImageVerification, report: Report) {
    answer.rule = report.rule;
    answer.mode = mode_word(report.mode).to_owned();
    answer.outcome = outcome_word(report.outcome).to_owned();
    answer.reason = report.reason.unwrap_or_default();
    let check = |check: trust::Check| SignatureCheck {
        digest: check.on.to_string(),
        document: check.role.map(|role| role.word().to_owned()).unwrap_or_default(),
        place: check.place,
        form: check.form.word().to_owned(),
        signer: check.signer.unwrap_or_default(),
        accepted: check.result.is_ok(),
        detail: check.result.unwrap_or_else(|why| why),
        warnings: check.warnings,
    };
    answer.signatures = report.checks.into_iter().map(check).collect();
}
