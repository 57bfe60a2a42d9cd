//! Signatures made with cosign's keys: simple signing payloads, and bundles with a DSSE envelope or a signed message.
//!
//! The signature is checked before the document is read. What is read must be about the digest that was asked for; a
//! signed claim about something else is as good as none.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use types::{Digest, Reference};

use crate::evidence::Subject;
use crate::key::PublicKey;
use crate::policy::ReferenceMatch;
use crate::text::{base64, clip};
use crate::{DOCUMENT_MAX, json};

const TYPE: &str = "cosign container image signature";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const BUNDLE_03: [&str; 2] =
    ["application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle+json;version=0.3"];
/// Signatures of one envelope, subjects of one statement.
const LIST_MAX: usize = 64;

/// A signer's key and what it must have signed.
#[derive(Clone, Debug)]
pub(crate) struct Cosign {
    pub keys: Vec<PublicKey>,
    pub reference: ReferenceMatch,
    pub remap: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// `critical` of a payload (containers/image, docs/containers-signature.5.md). Unknown fields in it are refused: they may
/// be conditions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    critical: Critical,
    #[serde(default)]
    optional: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Option<Dsse>,
    message_signature: Option<Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<serde::de::IgnoredAny>,
    certificate: Option<serde::de::IgnoredAny>,
    x509_certificate_chain: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse {
    payload: String,
    payload_type: String,
    signatures: Vec<DsseSignature>,
}

#[derive(Deserialize)]
struct DsseSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    message_digest: MessageDigest,
    signature: String,
}

#[derive(Deserialize)]
struct MessageDigest {
    algorithm: String,
    digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<StatementSubject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct StatementSubject {
    digest: BTreeMap<String, String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, serde_json::Value>>,
}

/// For fuzzing.
pub(crate) fn read_payload(bytes: &[u8]) -> Result<(), String> {
    json::parse::<Payload>(bytes, DOCUMENT_MAX).map(drop)
}

/// For fuzzing.
pub(crate) fn bundle_parts(bytes: &[u8]) -> Result<(), String> {
    json::parse::<Bundle>(bytes, DOCUMENT_MAX).map(drop)?;
    json::parse::<Statement>(bytes, DOCUMENT_MAX).map(drop)
}

impl Cosign {
    /// A payload in a layer with its signature beside it.
    pub(crate) fn simple(
        &self,
        subject: &Subject<'_>,
        on: &Digest,
        payload: &[u8],
        signature: &str,
        certificate: bool,
    ) -> Result<String, String> {
        let signature = base64("the signature", signature)?;
        let key = self.signed(payload, &signature, certificate)?;
        let payload: Payload = json::parse(payload, DOCUMENT_MAX).map_err(|e| format!("the signed payload: {e}"))?;
        let Critical { identity, image, kind } = payload.critical;
        if kind != TYPE {
            return Err(format!("what was signed is no signature of an image but {:?}", clip(&kind)));
        }
        if image.docker_manifest_digest != on.to_string() {
            return Err(format!("it was made for {}, not for this image", clip(&image.docker_manifest_digest)));
        }
        self.check_reference(subject.reference, &identity.docker_reference)?;
        self.check_annotations(payload.optional.as_ref())?;
        Ok(describe(key))
    }

    /// A sigstore bundle (protobuf-specs, version 0.3) in a manifest that refers to the image's.
    pub(crate) fn bundle(
        &self,
        subject: &Subject<'_>,
        on: &Digest,
        document: &[u8],
        bytes: &[u8],
    ) -> Result<String, String> {
        let bundle: Bundle = json::parse(bytes, DOCUMENT_MAX).map_err(|e| format!("the bundle: {e}"))?;
        if !BUNDLE_03.contains(&bundle.media_type.as_str()) {
            return Err(format!("bundles of type {:?} are not supported, only version 0.3", clip(&bundle.media_type)));
        }
        let material = &bundle.verification_material;
        if material.certificate.is_some() || material.x509_certificate_chain.is_some() {
            return Err("it is keyless: made with a certificate of Fulcio, which is not supported".to_owned());
        }
        if material.public_key.is_none() {
            return Err("the bundle does not say that it was made with a key".to_owned());
        }
        let key = match (bundle.dsse_envelope, bundle.message_signature) {
            (Some(envelope), None) => self.dsse(on, &envelope)?,
            (None, Some(message)) => self.message(document, &message)?,
            _ => return Err("the bundle has not exactly one of dsseEnvelope and messageSignature".to_owned()),
        };
        // Neither form has a name in it.
        if self.reference != ReferenceMatch::Any {
            return Err(format!(
                "it is good, but a bundle names no repository, so it could be another image's of the same signer than {}: \
                 set \"reference\": \"any\" for this signer to take it all the same",
                subject.reference.familiar_name()
            ));
        }
        Ok(describe(key))
    }

    fn dsse(&self, on: &Digest, envelope: &Dsse) -> Result<&PublicKey, String> {
        if envelope.payload_type != IN_TOTO {
            return Err(format!("the envelope holds {:?}, no in-toto statement", clip(&envelope.payload_type)));
        }
        if envelope.signatures.len() > LIST_MAX {
            return Err(format!("the envelope has more than {LIST_MAX} signatures"));
        }
        let payload = base64("the envelope's payload", &envelope.payload)?;
        let message = pre_authentication(&envelope.payload_type, &payload);
        let mut signer = Err("the envelope has no signatures".to_owned());
        for signature in &envelope.signatures {
            let signature = base64("the signature", &signature.sig)?;
            signer = self.signed(&message, &signature, false);
            if signer.is_ok() {
                break;
            }
        }
        let signer = signer?;
        let statement: Statement =
            json::parse(&payload, DOCUMENT_MAX).map_err(|e| format!("the signed statement: {e}"))?;
        if !STATEMENTS.contains(&statement.kind.as_str()) || statement.subject.len() > LIST_MAX {
            return Err("what was signed is no in-toto statement we read".to_owned());
        }
        if statement.predicate_type != PREDICATE {
            let kind = clip(&statement.predicate_type);
            return Err(format!("it is an attestation ({kind}), no signature of the image"));
        }
        let ours = statement.subject.iter().find(|one| one.digest.get("sha256").is_some_and(|hex| *hex == on.hex()));
        let Some(ours) = ours else {
            return Err("it was made for another image".to_owned());
        };
        self.check_annotations(ours.annotations.as_ref())?;
        Ok(signer)
    }

    fn message(&self, document: &[u8], message: &Message) -> Result<&PublicKey, String> {
        if message.message_digest.algorithm != "SHA2_256" {
            return Err(format!("digests of {:?} are not supported", clip(&message.message_digest.algorithm)));
        }
        let digest = base64("the message's digest", &message.message_digest.digest)?;
        if digest != Sha256::digest(document).as_slice() {
            return Err("it was made for another document than the image's manifest".to_owned());
        }
        let signature = base64("the signature", &message.signature)?;
        let signer = self.signed(document, &signature, false)?;
        self.check_annotations(None)?;
        Ok(signer)
    }

    fn signed(&self, message: &[u8], signature: &[u8], certificate: bool) -> Result<&PublicKey, String> {
        let found = self.keys.iter().find(|key| key.signed(message, signature));
        found.ok_or_else(|| match certificate {
            true => "it is not by this signer's key but keyless: made with a certificate of Fulcio, which is not supported",
            false => "it is not by this signer's key",
        }.to_owned())
    }

    /// The reference in the payload against the image's, by the policy.
    fn check_reference(&self, ours: &Reference, signed: &str) -> Result<(), String> {
        if self.reference == ReferenceMatch::Any {
            return Ok(());
        }
        let theirs = Reference::parse(signed)
            .map_err(|_| format!("it was made for {:?}, which is no reference of an image", clip(signed)))?;
        let wanted = self.remapped(ours)?;
        let same = theirs.name() == wanted.name()
            && (self.reference == ReferenceMatch::Repository
                || (theirs.tag(), theirs.digest()) == (wanted.tag(), wanted.digest()));
        match same {
            true => Ok(()),
            false => Err(format!("it was made for {}, not for {}", theirs.familiar(), wanted.familiar())),
        }
    }

    /// The name an image's signature must have, where it is not the image's own.
    fn remapped(&self, ours: &Reference) -> Result<Reference, String> {
        let name = ours.name();
        let inside = |prefix: &str| {
            name.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/')).map(str::len)
        };
        let best = self.remap.iter().filter_map(|(from, to)| Some((from.len(), to, inside(from)?))).max();
        let Some((_, to, rest)) = best else { return Ok(ours.clone()) };
        let suffix = match (ours.tag(), ours.digest()) {
            (_, Some(digest)) => format!("@{digest}"),
            (Some(tag), None) => format!(":{tag}"),
            (None, None) => String::new(),
        };
        let text = format!("{to}{}{suffix}", &name[name.len() - rest..]);
        Reference::parse(&text).map_err(|e| format!("remap leads to {text:?}: {e}"))
    }

    fn check_annotations(&self, found: Option<&BTreeMap<String, serde_json::Value>>) -> Result<(), String> {
        for (key, value) in &self.annotations {
            let is = found.and_then(|found| found.get(key)).and_then(serde_json::Value::as_str);
            match is {
                Some(is) if is == value => {}
                Some(is) => return Err(format!("its annotation {key} is {:?}, not {value:?}", clip(is))),
                None => return Err(format!("it has no annotation {key}={value}")),
            }
        }
        Ok(())
    }
}

fn describe(key: &PublicKey) -> String {
    format!("{} key {}", key.kind.name(), &key.fingerprint[..12])
}

/// What a DSSE signature is over (DSSE protocol 1.0, "Signature Definition").
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}
