//! The policy where a container is made of an image: by what was recorded when the image came, without the network, or by
//! the signatures its registry has now where the rule says so.
//!
//! A rule follows the content: the repository an image was pulled from decides, whatever the image is called later. A name
//! that was given here, by a tag, a build, an import or a load, is a local one, and its rule says whether there may be
//! such.

use std::sync::Arc;

use tokio::runtime::Handle;
use trust::{Action, Mode, OnRun, Outcome, Policy, Recorded, Report, Rule, Subject, check_record};
use types::{Digest, Reference};

use super::gate::{examine, refusal};
use super::gather::{Registry, documents, roles};
use super::source::Disk;
use super::{now, publish};
use crate::engine::Inner;
use crate::error::{Error, Result, fail};
use crate::image::{Images, Resolved};

/// A name whose rule has a say.
struct Governing {
    reference: Reference,
    /// Given here, rather than by a pull.
    local: bool,
}

impl Images {
    /// Whether a container may be made of an image that was asked for as `asked`; gives what to warn of.
    ///
    /// # Errors
    /// Forbidden, with the rule, the reason and what to do.
    pub(crate) async fn permit(inner: &Arc<Inner>, asked: &str, image: &Resolved) -> Result<Vec<String>> {
        let reading = Arc::clone(inner);
        let policy = inner.blocking("read the trust policy", move || reading.images.policy.read()).await?;
        let Some(policy) = policy else { return Ok(Vec::new()) };
        let target: Digest = image.id.parse().map_err(|e| fail!(Internal, "image {}: {e}", image.id))?;
        let manifest: Option<Digest> = image.manifest.as_ref().and_then(|manifest| manifest.digest.parse().ok());
        let mut digests = vec![target];
        digests.extend(manifest.filter(|digest| *digest != target));
        let (recorded, governing) = inner.images.governing(asked, &target);
        let mut warnings = Vec::new();
        if governing.is_empty() {
            let rule = policy.default_rule();
            let local = recorded.as_ref().is_some_and(|recorded| recorded.local);
            let reason = if local { local_reason(rule, asked) } else { nameless_reason(rule, asked) };
            let report = report(rule, reason);
            settle(inner, &policy, asked, &image.id, report, &mut warnings)?;
        }
        for one in governing {
            let rule = policy.rule(&one.reference);
            let name = one.reference.familiar();
            let report = if one.local {
                report(rule, local_reason(rule, &name))
            } else if rule.on_run == OnRun::Recheck && matches!(rule.action, Action::Require { .. }) {
                recheck(inner, &policy, rule, &one.reference, &digests).await?
            } else {
                let signers = policy.signers(rule, &Disk);
                let origin = recorded.as_ref().and_then(|recorded| recorded.origin(&one.reference.name()));
                let checked = check_record(rule, &signers, &one.reference, origin, &roles(&digests), now());
                report(rule, checked.err())
            };
            settle(inner, &policy, &name, &image.id, report, &mut warnings)?;
        }
        Ok(warnings)
    }

    /// What was recorded of an image, and the names whose rules count.
    fn governing(&self, asked: &str, target: &Digest) -> (Option<Recorded>, Vec<Governing>) {
        let index = self.index();
        let recorded = index.recorded_of(target);
        let names = match index.find(asked).ok().and_then(|found| found.name) {
            Some(name) => vec![name],
            None => index.names_of(target).references,
        };
        let mut governing: Vec<Governing> = Vec::new();
        let origins = recorded.iter().flat_map(|recorded| &recorded.origins);
        for origin in origins {
            // Under the name it was asked for by, if that is of this repository.
            let known = names.iter().find(|name| name.name() == origin.repository).cloned();
            let reference =
                known.or_else(|| origin.repository.parse::<Reference>().ok().map(|r| r.with_digest(*target)));
            governing.extend(reference.map(|reference| Governing { reference, local: false }));
        }
        for name in names {
            if !governing.iter().any(|one| one.reference.name() == name.name()) {
                // Of images that came before anything was recorded it is not known how.
                governing.push(Governing { reference: name, local: recorded.is_some() });
            }
        }
        (recorded, governing)
    }
}

fn local_reason(rule: &Rule, name: &str) -> Option<String> {
    (!rule.local).then(|| {
        format!(
            "{name} was made or named here, and the rule for {} takes only what was pulled (\"local\": \"reject\")",
            rule.scope
        )
    })
}

fn nameless_reason(rule: &Rule, asked: &str) -> Option<String> {
    let strict = rule.action != Action::Accept;
    strict.then(|| format!("{asked} has no name, and it is not known where it came from: pull it again by its name"))
}

fn report(rule: &Rule, reason: Option<String>) -> Report {
    let outcome = match (&reason, rule.mode) {
        (None, _) => Outcome::Accepted,
        (Some(_), Mode::Enforce) => Outcome::Refused,
        (Some(_), Mode::DryRun) => Outcome::WouldRefuse,
    };
    let (checks, approvals) = (Vec::new(), Vec::new());
    Report { rule: rule.scope.clone(), mode: rule.mode, outcome, checks, approvals, reason }
}

fn settle(
    inner: &Arc<Inner>,
    policy: &Policy,
    name: &str,
    id: &str,
    report: Report,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let Some(reason) = &report.reason else { return Ok(()) };
    publish(inner, "run", name, id, &report);
    if report.outcome == Outcome::Refused {
        return Err(refusal(&Some(policy.clone()), &report, None));
    }
    warnings.push(format!("{} would refuse this image if it were enforced: {reason}", policy.source));
    Ok(())
}

/// Judges by what the registry has now.
async fn recheck(
    inner: &Arc<Inner>,
    policy: &Policy,
    rule: &Rule,
    reference: &Reference,
    digests: &[Digest],
) -> Result<Report> {
    let (store, wanted) = (Arc::clone(&inner.images.store), digests.to_vec());
    let read = move || {
        let read = |digest: &Digest| Ok((*digest, store.blobs().read(digest, store::model::MAX_MANIFEST)?));
        wanted.iter().map(read).collect::<Result<Vec<(Digest, Vec<u8>)>>>()
    };
    let served = inner.blocking("read an image's manifests", read).await?;
    let (inner, rule, reference) = (Arc::clone(inner), rule.clone(), reference.clone());
    let signers = policy.signers(&rule, &Disk);
    let runtime = Handle::current();
    // The registry client's futures stay on their thread.
    let task = tokio::task::spawn_blocking(move || {
        let parts: Vec<(Digest, &[u8])> = served.iter().map(|(digest, bytes)| (*digest, bytes.as_slice())).collect();
        let documents = documents(&parts);
        let subject = Subject { reference: &reference, documents: &documents };
        let registry = Registry { client: &inner.images.client, reference: &reference, credentials: None };
        runtime.block_on(examine(&rule, &signers, &subject, &registry, false))
    });
    task.await.map_err(|e| Error::io("checking an image's signatures was interrupted", e))
}
