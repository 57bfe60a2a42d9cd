//! A policy, an image and evidence, to be judged.

use std::collections::BTreeMap;
use std::path::Path;

use trust::{Evidence, Files, Policy, Report, Role, Subject, judge};
use types::{Digest, Reference};

/// Seconds since the epoch at which nothing of `data/` matters.
pub const NOW: i64 = 1_800_000_000;

pub fn data(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub fn digest(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest::sha256(sha2::Sha256::digest(bytes).into())
}

/// Files in memory; a path that ends in a slash begins a directory.
#[derive(Default)]
pub struct Memory(pub BTreeMap<String, Vec<u8>>);

impl Memory {
    pub fn of(files: &[(&str, Vec<u8>)]) -> Self {
        Self(files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect())
    }
}

impl Files for Memory {
    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.0.get(path.to_str().unwrap()).cloned().ok_or_else(|| "there is no such file".to_owned())
    }

    fn directory(&self, path: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
        let prefix = format!("{}/", path.display());
        let inside = self.0.iter().filter_map(|(name, bytes)| Some((name.strip_prefix(&prefix)?, bytes)));
        Ok(inside.map(|(name, bytes)| (name.to_owned(), bytes.clone())).collect())
    }
}

/// What is judged.
pub struct World {
    pub policy: String,
    pub files: Memory,
    pub reference: String,
    pub documents: Vec<(Role, Digest, Vec<u8>)>,
    pub now: i64,
}

impl World {
    /// An image of one manifest, that must be signed by the signer `s`.
    pub fn new(signer: &str, files: Memory, reference: &str, image: Vec<u8>) -> Self {
        let policy =
            format!(r#"{{"version":1,"default":{{"action":"require","any-of":["s"]}},"signers":{{"s":{signer}}}}}"#);
        let documents = vec![(Role::Manifest, digest(&image), image)];
        Self { policy, files, reference: reference.to_owned(), documents, now: NOW }
    }

    pub fn judge(&self, evidence: &[Evidence]) -> Report {
        let policy = Policy::parse(self.policy.as_bytes(), "policy").unwrap_or_else(|e| panic!("{e}"));
        let reference: Reference = self.reference.parse().unwrap();
        let rule = policy.rule(&reference);
        let signers = policy.signers(rule, &self.files);
        judge(rule, &signers, &Subject { reference: &reference, documents: &self.documents }, evidence, self.now)
    }

    /// Judges evidence that must not do; gives the reason.
    pub fn refused(&self, evidence: &[Evidence]) -> String {
        let report = self.judge(evidence);
        assert_eq!(report.outcome, trust::Outcome::Refused, "{report:#?}");
        assert!(report.approvals.is_empty(), "{report:#?}");
        report.reason.unwrap()
    }

    pub fn accepted(&self, evidence: &[Evidence]) -> Report {
        let report = self.judge(evidence);
        assert_eq!(report.outcome, trust::Outcome::Accepted, "{report:#?}");
        assert_eq!(report.reason, None);
        report
    }
}
