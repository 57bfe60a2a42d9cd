//! The verdict on an image.

use types::Digest;

use crate::SIGNATURES_MAX;
use crate::evidence::{Body, Evidence, Form, Role, Subject};
use crate::policy::{Action, Mode, Need, Rule, Signed};
use crate::record::Approval;
use crate::signer::{Material, Signer};

/// What becomes of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as the rule asks.
    Accepted,
    /// It is not, and is let through because the rule is tried out only.
    WouldRefuse,
    /// It is not.
    Refused,
}

/// What a signer had to say to one signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The document the signature was found at.
    pub on: Digest,
    /// Which document that is.
    pub role: Option<Role>,
    /// Where the signature came from.
    pub place: String,
    /// How it is kept.
    pub form: Form,
    /// Whose it should be; nobody's when no signer of the rule signs in that form.
    pub signer: Option<String>,
    /// Who made it, or why it does not count.
    pub result: Result<String, String>,
    /// What was let through with it.
    pub warnings: Vec<String>,
}

/// The verdict with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Scope of the rule.
    pub rule: String,
    /// Its mode.
    pub mode: Mode,
    /// What becomes of the image.
    pub outcome: Outcome,
    /// Every signature looked at.
    pub checks: Vec<Check>,
    /// Signatures that count, to be recorded with the image.
    pub approvals: Vec<Approval>,
    /// Why it is not accepted, in one sentence.
    pub reason: Option<String>,
}

/// Judges an image by a rule. `signers` are the rule's, `now` is in seconds since the epoch.
#[must_use]
pub fn judge(rule: &Rule, signers: &[Signer], subject: &Subject<'_>, evidence: &[Evidence], now: i64) -> Report {
    let mut report = Report {
        rule: rule.scope.clone(),
        mode: rule.mode,
        outcome: Outcome::Accepted,
        checks: Vec::new(),
        approvals: Vec::new(),
        reason: None,
    };
    report.reason = match &rule.action {
        Action::Accept => None,
        Action::Reject => Some(format!("the rule for {} rejects its images", rule.scope)),
        Action::Require { need, signers: names } => {
            for found in evidence.iter().take(SIGNATURES_MAX * 8) {
                look(rule, signers, subject, found, now, &mut report);
            }
            missing(*need, names, signers, subject, &report)
        }
    };
    if report.reason.is_some() {
        report.outcome = match rule.mode {
            Mode::Enforce => Outcome::Refused,
            Mode::DryRun => Outcome::WouldRefuse,
        };
    }
    report
}

fn look(rule: &Rule, signers: &[Signer], subject: &Subject<'_>, found: &Evidence, now: i64, report: &mut Report) {
    let document = subject.documents.iter().find(|(_, digest, _)| *digest == found.on);
    let role = document.map(|(role, ..)| *role);
    let check = |signer: Option<&Signer>, result, warnings| Check {
        on: found.on,
        role,
        place: found.place.clone(),
        form: found.form,
        signer: signer.map(|signer| signer.name.clone()),
        result,
        warnings,
    };
    let mut asked = false;
    for signer in signers.iter().filter(|signer| signer.forms().contains(&found.form)) {
        asked = true;
        let (result, expires, warnings) = match document.map(|(role, _, bytes)| (*role, bytes)) {
            None => (Err("it is of another image".to_owned()), None, Vec::new()),
            Some((role, _)) if !counts(rule.signed, role) => {
                (Err(format!("it is on the {}, where the rule does not look", role.word())), None, Vec::new())
            }
            Some((_, bytes)) => match ask(signer, subject, found, bytes, now) {
                Ok((who, expires, warnings)) => (Ok(who), expires, warnings),
                Err(why) => (Err(why), None, Vec::new()),
            },
        };
        if let Ok(who) = &result {
            report.approvals.push(Approval {
                signer: signer.name.clone(),
                fingerprint: signer.fingerprint.clone(),
                by: who.clone(),
                digest: found.on,
                at: now,
                expires,
            });
        }
        report.checks.push(check(Some(signer), result, warnings));
    }
    if !asked {
        let why = "no signer of the rule signs in this form".to_owned();
        report.checks.push(check(None, Err(why), Vec::new()));
    }
}

/// Whether a signature on a document counts.
pub(crate) fn counts(signed: Signed, role: Role) -> bool {
    match (signed, role) {
        (Signed::Either, _) | (_, Role::Manifest) => true,
        (Signed::Index, role) => role == Role::Index,
        (Signed::Platform, role) => role == Role::Platform,
    }
}

type Answer = Result<(String, Option<i64>, Vec<String>), String>;

fn ask(signer: &Signer, subject: &Subject<'_>, found: &Evidence, document: &[u8], now: i64) -> Answer {
    let plain = |who| (who, None, Vec::new());
    match (&signer.material, &found.body) {
        (Err(why), _) => Err(why.clone()),
        (_, Body::Unusable(why)) => Err(why.clone()),
        (Ok(Material::Cosign(cosign)), Body::Simple { payload, signature, certificate }) => {
            cosign.simple(subject, &found.on, payload, signature, *certificate).map(plain)
        }
        (Ok(Material::Cosign(cosign)), Body::Bundle(bytes)) => {
            cosign.bundle(subject, &found.on, document, bytes).map(plain)
        }
        (Ok(Material::Notation(notation)), Body::Envelope { media_type, bytes }) => {
            let accepted = notation.verify(&found.on, document.len() as u64, media_type, bytes, now)?;
            Ok((accepted.who, accepted.expires, accepted.warnings))
        }
        (Ok(_), _) => Err("it is kept in a form of another kind of signer".to_owned()),
    }
}

/// What is missing, if anything is.
fn missing(need: Need, names: &[String], signers: &[Signer], subject: &Subject<'_>, report: &Report) -> Option<String> {
    let approved = |name: &String| report.approvals.iter().any(|approval| approval.signer == *name);
    let lacking: Vec<&str> = names.iter().filter(|name| !approved(name)).map(String::as_str).collect();
    let met = match need {
        Need::Any => lacking.len() < names.len(),
        Need::All => lacking.is_empty(),
    };
    if met {
        return None;
    }
    let who = match (need, names.len()) {
        (_, 1) => format!("by {}", names[0]),
        (Need::Any, _) => format!("by any of {}", names.join(", ")),
        (Need::All, _) => format!("by {}", lacking.join(" and by ")),
    };
    let image = subject.reference.familiar();
    let lead = format!("{image} has no signature {who} that the rule for {} accepts", report.rule);
    let faults = signers.iter().filter(|signer| lacking.contains(&signer.name.as_str())).filter_map(Signer::fault);
    let bad = report.checks.iter().filter(|check| check.signer.as_deref().is_none_or(|name| lacking.contains(&name)));
    let told = bad.filter_map(|check| {
        let why = check.result.as_ref().err()?;
        let whose = check.signer.as_deref().map(|name| format!(" for {name}")).unwrap_or_default();
        Some(format!("{} signature{whose}: {why}", check.form.word()))
    });
    let mut reasons: Vec<String> = faults.map(str::to_owned).chain(told).collect();
    reasons.dedup();
    let more = reasons.len().saturating_sub(3);
    reasons.truncate(3);
    if more > 0 {
        reasons.push(format!("and {more} more"));
    }
    match reasons.is_empty() {
        true => Some(format!("{lead}: it has none at all")),
        false => Some(format!("{lead}: {}", reasons.join("; "))),
    }
}
