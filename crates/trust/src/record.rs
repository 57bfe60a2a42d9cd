//! Verdicts as they are kept with an image, and what they are worth later.
//!
//! A recorded approval is good while the policy still names that signer with the same key and the same conditions: who
//! takes a key out of the policy takes back what it approved.

use serde::{Deserialize, Serialize};
use types::{Digest, Reference};

use crate::evidence::Role;
use crate::judge::counts;
use crate::policy::{Action, Need, Rule};
use crate::signer::Signer;

/// Approvals kept of earlier pulls from one repository.
const APPROVALS_MAX: usize = 64;

/// A signature that counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The signer's name in the policy of then.
    pub signer: String,
    /// What the signer was: [`Signer::fingerprint`].
    pub fingerprint: String,
    /// Key or certificate, for people.
    pub by: String,
    /// The document that was signed.
    pub digest: Digest,
    /// When it was verified, seconds since the epoch.
    pub at: i64,
    /// When the signature ends, seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
}

/// A repository an image was pulled from, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// `docker.io/library/busybox`.
    pub repository: String,
    /// What counted.
    #[serde(default)]
    pub approvals: Vec<Approval>,
}

/// What is known of an image's ways into the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// It was made or loaded here.
    #[serde(default)]
    pub local: bool,
    /// Where it was pulled from, each repository once.
    #[serde(default)]
    pub origins: Vec<Origin>,
}

impl Recorded {
    /// Adds what came to be known later. Approvals of a repository add up, as each platform of an image may have its own;
    /// of the same signer on the same document the newer is kept.
    pub fn merge(&mut self, newer: &Self) {
        self.local |= newer.local;
        for origin in &newer.origins {
            let mut merged = origin.clone();
            if let Some(at) = self.origins.iter().position(|known| known.repository == origin.repository) {
                let same = |one: &Approval, other: &Approval| {
                    (&one.fingerprint, one.digest) == (&other.fingerprint, other.digest)
                };
                let known = self.origins.remove(at).approvals;
                let older = known.into_iter().filter(|old| !origin.approvals.iter().any(|new| same(old, new)));
                merged.approvals.extend(older.take(APPROVALS_MAX));
            }
            self.origins.push(merged);
        }
    }

    /// What is known from one repository.
    #[must_use]
    pub fn origin(&self, repository: &str) -> Option<&Origin> {
        self.origins.iter().find(|origin| origin.repository == repository)
    }
}

/// Whether what was recorded of an image from `repository` is what its rule asks. `documents` are those a signature may
/// be on, `now` is in seconds since the epoch.
///
/// # Errors
/// Why not, in one sentence that says what to do.
pub fn check_record(
    rule: &Rule,
    signers: &[Signer],
    reference: &Reference,
    origin: Option<&Origin>,
    documents: &[(Role, Digest)],
    now: i64,
) -> Result<(), String> {
    let (need, names) = match &rule.action {
        Action::Accept => return Ok(()),
        Action::Reject => return Err(format!("the rule for {} rejects its images", rule.scope)),
        Action::Require { need, signers } => (*need, signers),
    };
    let name = reference.familiar_name();
    let approvals = origin.map(|origin| origin.approvals.as_slice()).unwrap_or_default();
    let mut why = None;
    let mut good = |name: &String| {
        let Some(signer) = signers.iter().find(|signer| signer.name == *name) else { return false };
        if let Some(fault) = signer.fault() {
            why = Some(fault.to_owned());
            return false;
        }
        let on = |approval: &&Approval| {
            documents.iter().any(|(role, digest)| *digest == approval.digest && counts(rule.signed, *role))
        };
        let mut same = approvals.iter().filter(on).filter(|one| one.fingerprint == signer.fingerprint).peekable();
        if same.peek().is_none() && approvals.iter().any(|one| one.signer == *name) {
            why = Some(format!(
                "what {name} signed was verified with another key or other conditions than the policy has now"
            ));
        } else if same.peek().is_some() && same.clone().all(|one| one.expires.is_some_and(|end| end <= now)) {
            why = Some(format!("the signature by {name} has expired since"));
            return false;
        }
        same.any(|one| one.expires.is_none_or(|end| end > now))
    };
    let met = match need {
        Need::Any => names.iter().any(&mut good),
        Need::All => names.iter().all(&mut good),
    };
    if met {
        return Ok(());
    }
    let why = why.unwrap_or_else(|| "none was recorded when it came".to_owned());
    let any = if need == Need::Any && names.len() > 1 { "any of " } else { "" };
    Err(format!(
        "the rule for {} asks for a signature by {any}{}, and {why}; pull {name} again",
        rule.scope,
        names.join(", ")
    ))
}
