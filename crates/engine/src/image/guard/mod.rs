//! The policy for signatures, applied to what is pulled and to what is run.
//!
//! `trust` judges; here is what it needs: the policy and the keys from their files (`source`), signatures from a registry
//! (`gather`), and the two places where a verdict counts, a pull (`gate`) and the making of a container (`run`). The
//! policy is read each time, so a change of it needs no restart. One that cannot be read refuses everything.

mod gate;
mod gather;
mod run;
mod source;
mod verify;

use std::collections::BTreeMap;

use trust::{Mode, Outcome, Report};

pub(super) use gate::Gate;
pub(super) use source::Source;

use crate::clock;
use crate::engine::Inner;

/// Seconds since the epoch.
fn now() -> i64 {
    clock::now_ns() / 1_000_000_000
}

fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::DryRun => "dry-run",
    }
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "accepted",
        Outcome::WouldRefuse => "would-refuse",
        Outcome::Refused => "refused",
    }
}

/// Tells listeners and the log of a verdict. `on` is `pull` or `run`.
fn publish(inner: &Inner, on: &str, name: &str, digest: &str, report: &Report) {
    let signers: Vec<&str> = report.approvals.iter().map(|approval| approval.signer.as_str()).collect();
    let mut attributes = BTreeMap::from([
        ("name".to_owned(), name.to_owned()),
        ("verify.on".to_owned(), on.to_owned()),
        ("verify.rule".to_owned(), report.rule.clone()),
        ("verify.mode".to_owned(), mode_word(report.mode).to_owned()),
        ("verify.result".to_owned(), outcome_word(report.outcome).to_owned()),
        ("verify.digest".to_owned(), digest.to_owned()),
    ]);
    if !signers.is_empty() {
        attributes.insert("verify.signers".to_owned(), signers.join(","));
    }
    if let Some(reason) = &report.reason {
        attributes.insert("verify.reason".to_owned(), reason.clone());
        tracing::warn!(image = name, on, rule = report.rule, mode = mode_word(report.mode), "{reason}");
    }
    inner.events.publish("image", "verify", name, attributes);
}
