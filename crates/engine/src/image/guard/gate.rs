//! The gate of a pull: what has no signature the policy asks for is refused before any of its layers is fetched.

use std::sync::{Arc, Mutex, PoisonError};

use distribution::{Credentials, Manifest, SinkError};
use trust::{Action, Form, Mode, Origin, Outcome, Policy, Recorded, Report, Rule, Signer, Subject, judge};
use types::{Digest, Kind, Reference};

use super::gather::{Registry, documents};
use super::source::Disk;
use super::{now, publish};
use crate::engine::Inner;
use crate::error::{Error, Result};

type Say = Box<dyn Fn(String) + Send + Sync>;

/// Judges one pull.
pub(in crate::image) struct Gate {
    inner: Arc<Inner>,
    policy: Option<Policy>,
    reference: Reference,
    credentials: Option<Credentials>,
    say: Say,
    recorded: Mutex<Option<Recorded>>,
}

impl Gate {
    /// Reads the policy. Blocking; a pull has its thread for itself.
    ///
    /// # Errors
    /// Forbidden, for a policy that cannot be used and for what it rejects whatever is there.
    pub(in crate::image) fn open(
        inner: &Arc<Inner>,
        reference: &Reference,
        credentials: Option<Credentials>,
        say: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Self> {
        let policy = inner.images.policy.read()?;
        let gate = Self {
            inner: Arc::clone(inner),
            policy,
            reference: reference.clone(),
            credentials,
            say: Box::new(say),
            recorded: Mutex::default(),
        };
        if let Some(rule) = gate.rule()
            && rule.action == Action::Reject
            && rule.mode == Mode::Enforce
        {
            let report = judge(rule, &[], &Subject { reference, documents: &[] }, &[], now());
            publish(inner, "pull", &reference.familiar(), "", &report);
            return Err(refusal(&gate.policy, &report, None));
        }
        Ok(gate)
    }

    fn rule(&self) -> Option<&Rule> {
        self.policy.as_ref().map(|policy| policy.rule(&self.reference))
    }

    /// Judges what the reference stands for: the index, if there is one, and the manifest.
    pub(in crate::image) async fn admit(&self, served: &[Manifest]) -> std::result::Result<(), SinkError> {
        let mut origin = Origin { repository: self.reference.name(), approvals: Vec::new() };
        if let (Some(policy), Some(rule)) = (&self.policy, self.rule()) {
            let parts: Vec<(Digest, &[u8])> =
                served.iter().map(|one| (one.descriptor.digest, one.bytes.as_ref())).collect();
            let documents = documents(&parts);
            let subject = Subject { reference: &self.reference, documents: &documents };
            let signers = policy.signers(rule, &Disk);
            let registry = Registry {
                client: &self.inner.images.client,
                reference: &self.reference,
                credentials: self.credentials.as_ref(),
            };
            let report = examine(rule, &signers, &subject, &registry, false).await;
            let digest = documents.first().map(|(_, digest, _)| digest.to_string()).unwrap_or_default();
            if rule.action != Action::Accept {
                publish(&self.inner, "pull", &self.reference.familiar(), &digest, &report);
            }
            self.tell(policy, &report);
            if report.outcome == Outcome::Refused {
                let error = refusal(&self.policy, &report, Some(&self.reference));
                return Err(SinkError { kind: error.kind(), message: error.to_string() });
            }
            origin.approvals = report.approvals;
        }
        let recorded = Recorded { local: false, origins: vec![origin] };
        *self.recorded.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorded);
        Ok(())
    }

    /// What is to be kept with the image.
    pub(in crate::image) fn recorded(&self) -> Option<Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, policy: &Policy, report: &Report) {
        for check in report.checks.iter().filter(|check| check.result.is_ok()) {
            let (signer, by) =
                (check.signer.as_deref().unwrap_or_default(), check.result.as_deref().unwrap_or_default());
            (self.say)(format!("Signature: verified, {signer} ({by})"));
            check.warnings.iter().for_each(|warning| (self.say)(format!("Signature: note: {warning}")));
        }
        if let (Outcome::WouldRefuse, Some(reason)) = (report.outcome, &report.reason) {
            (self.say)(format!("Warning: {} would refuse this image if it were enforced: {reason}", policy.source));
        }
    }
}

/// The error of a verdict.
pub(super) fn refusal(policy: &Option<Policy>, report: &Report, look: Option<&Reference>) -> Error {
    let file = policy.as_ref().map_or("the policy", |policy| policy.source.as_str());
    let reason = report.reason.as_deref().unwrap_or("it is not accepted");
    let next = look.map(|reference| format!(" (dhow image verify {} shows each signature)", reference.familiar()));
    Error::new(Kind::Forbidden, format!("refused by the trust policy {file}: {reason}{}", next.unwrap_or_default()))
}

/// Looks for signatures and judges them; without `all` only until the rule is met.
pub(super) async fn examine(
    rule: &Rule,
    signers: &[Signer],
    subject: &Subject<'_>,
    registry: &Registry<'_>,
    all: bool,
) -> Report {
    let mut evidence = Vec::new();
    let mut forms: Vec<Form> = Vec::new();
    for form in signers.iter().flat_map(|signer| signer.forms()) {
        if !forms.contains(form) {
            forms.push(*form);
        }
    }
    // cosign's tag is one request; what refers to the image comes after it.
    let (tags, referrers): (Vec<Form>, Vec<Form>) = forms.into_iter().partition(|form| *form == Form::Cosign);
    for forms in [tags, referrers].iter().filter(|forms| !forms.is_empty()) {
        for (_, digest, _) in subject.documents {
            evidence.extend(registry.gather(digest, forms).await);
            let report = judge(rule, signers, subject, &evidence, now());
            if !all && report.outcome == Outcome::Accepted {
                return report;
            }
        }
    }
    judge(rule, signers, subject, &evidence, now())
}
