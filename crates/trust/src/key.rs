//! Public keys, and what each of them may verify.
//!
//! The key decides on the algorithm: a document that claims another one is never believed. RSA keys are of 2048 to 8192
//! bits; SHA-1 and MD5 verify nothing.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest as _, Sha256};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Keys of one file.
const KEYS_MAX: usize = 16;

/// What kind of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bits of the modulus.
    Rsa(usize),
    P256,
    P384,
    P521,
    Ed25519,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Rsa(bits) => format!("RSA-{bits}"),
            Self::P256 => "ECDSA P-256".to_owned(),
            Self::P384 => "ECDSA P-384".to_owned(),
            Self::P521 => "ECDSA P-521".to_owned(),
            Self::Ed25519 => "Ed25519".to_owned(),
        }
    }
}

/// A public key that was taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    pub kind: Kind,
    /// The key without its algorithm, as aws-lc takes it: a point, an `RSAPublicKey`, 32 bytes.
    bits: Vec<u8>,
    /// SHA-256 of the `SubjectPublicKeyInfo`, hexadecimal.
    pub fingerprint: String,
}

impl PublicKey {
    /// Every `PUBLIC KEY` block of a PEM file.
    pub(crate) fn from_pem(text: &[u8]) -> Result<Vec<Self>, String> {
        let mut keys = Vec::new();
        for block in SubjectPublicKeyInfoDer::pem_slice_iter(text) {
            let der = block.map_err(|e| format!("it is no PEM file: {e}"))?;
            if keys.len() == KEYS_MAX {
                return Err(format!("it has more than {KEYS_MAX} keys"));
            }
            keys.push(Self::from_spki(der.as_ref())?);
        }
        match keys.is_empty() {
            true => Err("it has no PUBLIC KEY block".to_owned()),
            false => Ok(keys),
        }
    }

    /// A DER `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7).
    pub(crate) fn from_spki(der: &[u8]) -> Result<Self, String> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|e| format!("the public key is malformed: {e}"))?;
        let curve = spki.algorithm.parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
        let bits = spki.subject_public_key.as_bytes().ok_or("the public key is malformed: it has unused bits")?;
        let kind = match (spki.algorithm.oid, curve) {
            (RSA, _) => Kind::Rsa(modulus_bits(bits)?),
            (EC, Some(P256)) => Kind::P256,
            (EC, Some(P384)) => Kind::P384,
            (EC, Some(P521)) => Kind::P521,
            (EC, _) => return Err("the public key is of a curve other than P-256, P-384 and P-521".to_owned()),
            (ED25519, None) => Kind::Ed25519,
            (other, _) => return Err(format!("public keys of algorithm {other} are not supported")),
        };
        if let Kind::Rsa(size) = kind
            && !(2048..=8192).contains(&size)
        {
            return Err(format!("the RSA key has {size} bits: 2048 to 8192 are taken"));
        }
        let fingerprint = crate::signer::hex(&Sha256::digest(der));
        Ok(Self { kind, bits: bits.to_vec(), fingerprint })
    }

    pub(crate) fn from_owned(spki: &SubjectPublicKeyInfoOwned) -> Result<Self, String> {
        Self::from_spki(&spki.to_der().map_err(|e| format!("the public key is malformed: {e}"))?)
    }

    /// Whether `signature` is this key's over `message`, in any way sigstore's tools sign with such a key: ECDSA in ASN.1
    /// with SHA-256 or the hash of the curve's size, RSA PKCS#1 v1.5 and PSS with SHA-256, pure Ed25519.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithms: &[&'static dyn VerificationAlgorithm] = match self.kind {
            Kind::P256 => &[&signature::ECDSA_P256_SHA256_ASN1],
            Kind::P384 => &[&signature::ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P384_SHA256_ASN1],
            Kind::P521 => &[&signature::ECDSA_P521_SHA512_ASN1, &signature::ECDSA_P521_SHA256_ASN1],
            Kind::Rsa(_) => &[&signature::RSA_PKCS1_2048_8192_SHA256, &signature::RSA_PSS_2048_8192_SHA256],
            Kind::Ed25519 => &[&signature::ED25519],
        };
        algorithms.iter().any(|algorithm| self.verifies(*algorithm, message, signature))
    }

    /// The one algorithm of JOSE that the Notary Project allows with this key (signature specification, "Algorithm
    /// Selection"), and how to verify it.
    pub(crate) fn jose(&self) -> Result<(&'static str, &'static dyn VerificationAlgorithm), String> {
        Ok(match self.kind {
            Kind::P256 => ("ES256", &signature::ECDSA_P256_SHA256_FIXED),
            Kind::P384 => ("ES384", &signature::ECDSA_P384_SHA384_FIXED),
            Kind::P521 => ("ES512", &signature::ECDSA_P521_SHA512_FIXED),
            Kind::Rsa(2048) => ("PS256", &signature::RSA_PSS_2048_8192_SHA256),
            Kind::Rsa(3072) => ("PS384", &signature::RSA_PSS_2048_8192_SHA384),
            Kind::Rsa(4096) => ("PS512", &signature::RSA_PSS_2048_8192_SHA512),
            other => {
                return Err(format!(
                    "{} keys may not sign: the Notary Project allows RSA of 2048, 3072 and 4096 bits and ECDSA",
                    other.name()
                ));
            }
        })
    }

    pub(crate) fn verifies(&self, with: &'static dyn VerificationAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        with_static(with, &self.bits, message, signature)
    }
}

fn with_static(with: &'static dyn VerificationAlgorithm, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(with, key).verify(message, signature).is_ok()
}

/// Bits of the modulus of an `RSAPublicKey` (RFC 8017, A.1.1).
fn modulus_bits(der: &[u8]) -> Result<usize, String> {
    let malformed = |e| format!("the RSA key is malformed: {e}");
    let key = RsaPublicKey::from_der(der).map_err(malformed)?;
    let bytes = key.modulus.as_bytes();
    let first = bytes.first().copied().unwrap_or(0);
    Ok((bytes.len() * 8).saturating_sub(first.leading_zeros() as usize))
}

struct RsaPublicKey<'a> {
    modulus: x509_cert::der::asn1::UintRef<'a>,
}

impl<'a> Decode<'a> for RsaPublicKey<'a> {
    type Error = x509_cert::der::Error;

    fn decode<R: x509_cert::der::Reader<'a>>(reader: &mut R) -> Result<Self, Self::Error> {
        reader.sequence(|reader| {
            let modulus = reader.decode()?;
            let _exponent: x509_cert::der::asn1::UintRef<'a> = reader.decode()?;
            Ok(Self { modulus })
        })
    }
}
