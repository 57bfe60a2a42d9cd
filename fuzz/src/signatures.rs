//! Documents of signatures: whatever they hold, they do not make an unsigned image a signed one.

use std::path::Path;

use trust::{Body, Evidence, Form, Outcome, Policy, Role, Subject, judge};
use types::{Digest, Reference};

/// A key whose other half nobody kept.
const KEY: &str = include_str!("signatures/key.pub");
/// The same of an authority.
const AUTHORITY: &[u8] = include_bytes!("signatures/authority.crt");

struct Files;

impl trust::Files for Files {
    fn file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Ok(KEY.into())
    }

    fn directory(&self, _: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
        Ok(vec![("authority.crt".to_owned(), AUTHORITY.to_vec())])
    }
}

/// Envelope, bundle, payload, manifest, certificate, key or policy, and all of them together as signatures of an image.
pub fn signature(data: &[u8]) {
    trust::read_any(data);
    let policy = r#"{"version":1,"default":{"action":"require","any-of":["c","n"]},"signers":{
        "c":{"type":"cosign","key":"/k","reference":"any"},
        "n":{"type":"notation","trust-store":"/s","identities":["*"],"level":"strict"}}}"#;
    let policy = Policy::parse(policy.as_bytes(), "fuzz").expect("the policy is good");
    let rule = policy.default_rule();
    let signers = policy.signers(rule, &Files);
    assert!(signers.iter().all(|signer| signer.fault().is_none()), "the keys are good");
    let on = Digest::sha256([7; 32]);
    let reference: Reference = "quay.example/app:1".parse().expect("a reference");
    let text = String::from_utf8_lossy(data).into_owned();
    let media_type = "application/jose+json".to_owned();
    let bodies = [
        (Form::Cosign, Body::Simple { payload: data.to_vec(), signature: text.clone(), certificate: false }),
        (Form::Bundle, Body::Bundle(data.to_vec())),
        (Form::Notation, Body::Envelope { media_type, bytes: data.to_vec() }),
    ];
    let evidence: Vec<Evidence> =
        bodies.into_iter().map(|(form, body)| Evidence { on, place: "p".to_owned(), form, body }).collect();
    let documents = [(Role::Manifest, on, b"{}".to_vec())];
    let subject = Subject { reference: &reference, documents: &documents };
    let report = judge(rule, &signers, &subject, &evidence, 1_800_000_000);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.reason.is_some_and(|reason| !reason.contains(['\u{1b}', '\n'])), "what is said can be printed");
}
