//! Signers with their keys in hand.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::cosign::Cosign;
use crate::key::PublicKey;
use crate::notation::Notation;
use crate::policy::{Action, Key, Policy, Rule, SignerSpec};
use crate::x509::Certificate;

/// Certificates of one trust store.
const TRUSTED_MAX: usize = 1024;

/// How the keys a policy names are read; whoever holds the files implements it.
pub trait Files {
    /// The content of a file.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn file(&self, path: &Path) -> Result<Vec<u8>, String>;

    /// Name and content of each file of a directory, in the order of the names.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn directory(&self, path: &Path) -> Result<Vec<(String, Vec<u8>)>, String>;
}

/// A signer of a rule.
#[derive(Clone, Debug)]
pub struct Signer {
    /// Its name in the policy.
    pub name: String,
    /// SHA-256 of all that decides whether a signature is this signer's: a recorded verdict is good for as long as it is
    /// the same.
    pub fingerprint: String,
    pub(crate) material: Result<Material, String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Material {
    Cosign(Cosign),
    Notation(Notation),
}

impl Policy {
    /// The signers of a rule. One whose key cannot be read has that for its answer to every signature.
    pub fn signers(&self, rule: &Rule, files: &dyn Files) -> Vec<Signer> {
        let Action::Require { signers, .. } = &rule.action else { return Vec::new() };
        let known = signers.iter().filter_map(|name| Some((name, self.spec(name)?)));
        known.map(|(name, spec)| Signer::read(name, spec, files)).collect()
    }
}

impl Signer {
    fn read(name: &str, spec: &SignerSpec, files: &dyn Files) -> Self {
        let mut hash = Sha256::new();
        // The specification's own text form: two that differ in anything differ in it.
        hash.update(format!("{spec:?}"));
        let material = match spec {
            SignerSpec::Cosign { key, reference, remap, annotations } => keys(key, files).map(|keys| {
                keys.iter().for_each(|key| hash.update(&key.fingerprint));
                let (reference, remap, annotations) = (*reference, remap.clone(), annotations.clone());
                Material::Cosign(Cosign { keys, reference, remap, annotations })
            }),
            SignerSpec::Notation { trust_store, identities, level, annotations } => {
                store(trust_store, files).map(|trusted| {
                    trusted.iter().for_each(|one| hash.update(Sha256::digest(one.der())));
                    let (identities, annotations) = (identities.clone(), annotations.clone());
                    Material::Notation(Notation { trusted, identities, level: *level, annotations })
                })
            }
        };
        let place = spec.path().map(|path| format!(" {}", path.display())).unwrap_or_default();
        let material = material.map_err(|why| format!("the key of signer {name}{place} cannot be used: {why}"));
        Self { name: name.to_owned(), fingerprint: hex(&hash.finalize()), material }
    }

    /// Why it cannot be used, if so.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        self.material.as_ref().err().map(String::as_str)
    }

    /// The forms of signatures it can have made.
    #[must_use]
    pub fn forms(&self) -> &'static [crate::Form] {
        match self.material {
            Ok(Material::Cosign(_)) => &[crate::Form::Cosign, crate::Form::Bundle],
            Ok(Material::Notation(_)) => &[crate::Form::Notation],
            Err(_) => &[],
        }
    }
}

fn keys(key: &Key, files: &dyn Files) -> Result<Vec<PublicKey>, String> {
    match key {
        Key::File(path) => PublicKey::from_pem(&files.file(path)?),
        Key::Data(text) => PublicKey::from_pem(text.as_bytes()),
    }
}

fn store(path: &Path, files: &dyn Files) -> Result<Vec<Certificate>, String> {
    let mut trusted = Vec::new();
    for (name, bytes) in files.directory(path)? {
        trusted.extend(Certificate::from_file(&bytes).map_err(|why| format!("{name}: {why}"))?);
        if trusted.len() > TRUSTED_MAX {
            return Err(format!("it has more than {TRUSTED_MAX} certificates"));
        }
    }
    match trusted.is_empty() {
        true => Err("it has no certificates".to_owned()),
        false => Ok(trusted),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
