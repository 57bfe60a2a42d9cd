//! Whether an image is signed by whom a policy asks for: documents in, verdict out.
//!
//! Nothing here reads a file, a registry or a clock. The engine fetches what may be a signature and hands it over as
//! [`Evidence`]; everything in it is hostile. What decides is the key or certificate the policy names: the algorithm
//! follows from the key and never from the document, a signature counts only for the digest that was asked about, and
//! documents are read strictly, after their signature was found good. Called by the image part of `engine`.

mod artifact;
mod cosign;
mod evidence;
mod identity;
mod json;
mod judge;
mod key;
mod notation;
mod policy;
mod record;
mod signer;
mod text;
mod x509;

pub use artifact::{Artifact, Layer, SIGNATURE_ANNOTATION};
pub use evidence::{Body, Evidence, Form, Role, Subject};
pub use judge::{Check, Outcome, Report, judge};
pub use policy::{Action, Mode, Need, OnRun, Policy, PolicyError, Rule, Signed};
pub use record::{Approval, Origin, Recorded, check_record};
pub use signer::{Files, Signer};

/// Signatures looked at of one document; what an attacker appends costs him more than us.
pub const SIGNATURES_MAX: usize = 64;
/// Bytes of a payload, an envelope or a bundle.
pub const DOCUMENT_MAX: u64 = 1 << 20;
/// Bytes of the manifest of a signature.
pub const MANIFEST_MAX: u64 = 1 << 20;
/// Bytes of a policy.
pub const POLICY_MAX: u64 = 1 << 20;

/// Reads a Notation envelope as far as that goes without a trust store: for fuzzing.
#[doc(hidden)]
pub fn read_any(bytes: &[u8]) {
    let _ = notation::Envelope::parse(bytes);
    let _ = cosign::bundle_parts(bytes);
    let _ = cosign::read_payload(bytes);
    let _ = Artifact::parse(bytes);
    let _ = Policy::parse(bytes, "fuzz");
    let _ = x509::Certificate::parse(bytes.to_vec());
    let _ = key::PublicKey::from_spki(bytes);
    let _ = key::PublicKey::from_pem(bytes);
}
