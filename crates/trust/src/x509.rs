//! Certificates of signers and their path to one that is trusted.
//!
//! Paths are built and checked by webpki: signatures (none with SHA-1), validity, authorities, path lengths, name
//! constraints, critical extensions. Added to it is what the Notary Project's certificate requirements ask beyond TLS:
//! key usage of every certificate, a leaf for code signing only, and a trusted certificate that is still valid.
//! Revocation is not looked up.

use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, anchor_from_trusted_cert};
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

use crate::key::PublicKey;
use crate::text::clip;

/// Certificates of one chain.
pub(crate) const CHAIN_MAX: usize = 10;
/// Certificates of one file of a trust store.
const FILE_MAX: usize = 256;
/// Longest certificate, bytes.
const CERTIFICATE_MAX: usize = 64 << 10;

/// `id-kp-codeSigning`, without tag and length.
const CODE_SIGNING_DER: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
/// Usages a leaf may not have beside it: any, serverAuth, emailProtection, timeStamping, OCSPSigning.
const OTHER_USAGES: &[&str] =
    &["2.5.29.37.0", "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.8", "1.3.6.1.5.5.7.3.9"];

/// Why a chain does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChainError {
    /// It was good once, or will be.
    Time(String),
    /// It does not lead to a trusted certificate, or breaks a rule on the way.
    Untrusted(String),
}

impl ChainError {
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Time(why) | Self::Untrusted(why) => why,
        }
    }
}

/// A certificate that was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
}

impl Certificate {
    pub(crate) fn parse(der: Vec<u8>) -> Result<Self, String> {
        if der.len() > CERTIFICATE_MAX {
            return Err(format!("a certificate is larger than {CERTIFICATE_MAX} bytes"));
        }
        let parsed = x509_cert::Certificate::from_der(&der).map_err(|e| format!("a certificate is malformed: {e}"))?;
        Ok(Self { der, parsed })
    }

    /// Every certificate of a file of a trust store, PEM or DER.
    pub(crate) fn from_file(bytes: &[u8]) -> Result<Vec<Self>, String> {
        if !bytes.windows(10).any(|window| window == b"-----BEGIN") {
            return Ok(vec![Self::parse(bytes.to_vec())?]);
        }
        let mut certificates = Vec::new();
        for block in CertificateDer::pem_slice_iter(bytes) {
            let der = block.map_err(|e| format!("it is no PEM file: {e}"))?;
            if certificates.len() == FILE_MAX {
                return Err(format!("it has more than {FILE_MAX} certificates"));
            }
            certificates.push(Self::parse(der.to_vec())?);
        }
        match certificates.is_empty() {
            true => Err("it has no CERTIFICATE block".to_owned()),
            false => Ok(certificates),
        }
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    pub(crate) fn subject(&self) -> &x509_cert::name::Name {
        self.parsed.tbs_certificate().subject()
    }

    /// The subject for people.
    pub(crate) fn name(&self) -> String {
        clip(&self.subject().to_string())
    }

    pub(crate) fn key(&self) -> Result<PublicKey, String> {
        PublicKey::from_owned(self.parsed.tbs_certificate().subject_public_key_info())
    }

    /// First and last second it is valid in, since the epoch.
    fn validity(&self) -> (u64, u64) {
        let validity = self.parsed.tbs_certificate().validity();
        (validity.not_before.to_unix_duration().as_secs(), validity.not_after.to_unix_duration().as_secs())
    }

    fn check_time(&self, now: u64) -> Result<(), ChainError> {
        let (from, to) = self.validity();
        let state = match now {
            now if now < from => "is not valid yet",
            now if now > to => "has expired",
            _ => return Ok(()),
        };
        Err(ChainError::Time(format!("the certificate of {} {state}", self.name())))
    }

    /// What may sign other certificates.
    fn check_authority(&self) -> Result<(), ChainError> {
        let tbs = self.parsed.tbs_certificate();
        let constraints = tbs.get_extension::<BasicConstraints>().map_err(|e| self.malformed(&e))?;
        let usage = tbs.get_extension::<KeyUsage>().map_err(|e| self.malformed(&e))?;
        if !constraints.is_some_and(|(_, constraints)| constraints.ca) {
            return Err(self.untrusted("is not one of an authority, but issued others"));
        }
        match usage {
            Some((_, usage)) if !usage.key_cert_sign() => Err(self.untrusted("may not sign certificates")),
            _ => Ok(()),
        }
    }

    /// What may sign images and nothing else.
    fn check_leaf(&self) -> Result<(), ChainError> {
        let tbs = self.parsed.tbs_certificate();
        let constraints = tbs.get_extension::<BasicConstraints>().map_err(|e| self.malformed(&e))?;
        if constraints.is_some_and(|(_, constraints)| constraints.ca) {
            return Err(self.untrusted("is one of an authority: it may not sign images itself"));
        }
        match tbs.get_extension::<KeyUsage>().map_err(|e| self.malformed(&e))? {
            Some((_, usage)) if usage.digital_signature() && !usage.key_cert_sign() => {}
            Some(_) => return Err(self.untrusted("has a key usage other than digitalSignature")),
            None => return Err(self.untrusted("has no key usage: digitalSignature is needed")),
        }
        if let Some((_, usages)) = tbs.get_extension::<ExtendedKeyUsage>().map_err(|e| self.malformed(&e))? {
            if !usages.0.contains(&CODE_SIGNING) {
                return Err(self.untrusted("is not for code signing"));
            }
            if let Some(other) = usages.0.iter().find(|usage| OTHER_USAGES.contains(&usage.to_string().as_str())) {
                return Err(self.untrusted(&format!("is for code signing and for something else ({other})")));
            }
        }
        Ok(())
    }

    fn untrusted(&self, what: &str) -> ChainError {
        ChainError::Untrusted(format!("the certificate of {} {what}", self.name()))
    }

    fn malformed(&self, error: &x509_cert::der::Error) -> ChainError {
        self.untrusted(&format!("is malformed: {error}"))
    }
}

/// Checks that a chain, leaf first, leads to one of `trusted` at `now`, seconds since the epoch.
pub(crate) fn check_chain(chain: &[Certificate], trusted: &[Certificate], now: u64) -> Result<(), ChainError> {
    let untrusted = |why: String| ChainError::Untrusted(why);
    let (leaf, issuers) = chain.split_first().ok_or_else(|| untrusted("it has no certificates".to_owned()))?;
    leaf.check_leaf()?;
    // A certificate that is itself in the trust store, as tests have it: known byte for byte, so no path is needed.
    if trusted.contains(leaf) {
        return leaf.check_time(now);
    }
    // An end of the path that is no authority may vouch for itself alone.
    let authorities: Vec<&Certificate> = trusted.iter().filter(|one| one.check_authority().is_ok()).collect();
    let ders: Vec<CertificateDer<'_>> = authorities.iter().map(|one| CertificateDer::from(one.der())).collect();
    let mut anchors = Vec::with_capacity(ders.len());
    for der in &ders {
        anchors.push(anchor_from_trusted_cert(der).map_err(|e| untrusted(format!("a trusted certificate: {e}")))?);
    }
    let between: Vec<CertificateDer<'_>> = issuers.iter().map(|one| CertificateDer::from(one.der())).collect();
    let end = CertificateDer::from(leaf.der());
    let end = EndEntityCert::try_from(&end).map_err(|e| leaf.untrusted(&format!("is malformed: {e}")))?;
    let usage = webpki::KeyUsage::required_if_present(CODE_SIGNING_DER);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let path = end.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &between, at, usage, None, None).map_err(
        |error| match error {
            webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
                let late = chain.iter().find_map(|one| one.check_time(now).err());
                late.unwrap_or_else(|| ChainError::Time(format!("a certificate is not valid now: {error}")))
            }
            webpki::Error::UnknownIssuer => leaf.untrusted("does not lead to one of the trust store"),
            error => leaf.untrusted(&format!("is not trusted: {error}")),
        },
    )?;
    for between in path.intermediate_certificates() {
        Certificate::parse(between.der().to_vec()).map_err(untrusted)?.check_authority()?;
    }
    // Of certificates with one name and key, as after a renewal, any that is valid will do.
    let ends = anchors.iter().zip(&authorities).filter(|(anchor, _)| *anchor == path.anchor());
    let mut checks = ends.map(|(_, authority)| authority.check_time(now)).peekable();
    let first = checks.peek().cloned();
    match checks.any(|check| check.is_ok()) {
        true => Ok(()),
        false => first.unwrap_or_else(|| Err(untrusted("the trusted certificate is gone".to_owned()))),
    }
}

/// A moment at which every certificate of a chain and some of the trusted ones are valid, if there is one.
pub(crate) fn common_time(chain: &[Certificate]) -> Option<u64> {
    let from = chain.iter().map(|one| one.validity().0).max()?;
    let to = chain.iter().map(|one| one.validity().1).min()?;
    (from <= to).then_some(to)
}
