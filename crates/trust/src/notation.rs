//! Signatures of the Notary Project: a JWS envelope with the signer's certificates in it.
//!
//! Followed are its signature specification (JWS) and trust policy specification. Order matters: form, certificate chain
//! and key decide on the one algorithm, then the signature is checked, and only then is anything believed that was signed.
//! Time stamps, revocation and verification plugins are not supported: a signature that demands a plugin is refused, and
//! that the others were not looked up is said with every verdict.

use std::collections::BTreeMap;

use serde::Deserialize;
use types::Digest;

use crate::identity::Identity;
use crate::policy::Level;
use crate::text::{base64, base64url, clip};
use crate::x509::{CHAIN_MAX, Certificate, ChainError, check_chain, common_time};
use crate::{DOCUMENT_MAX, json};

const JWS: &str = "application/jose+json";
const COSE: &str = "application/cose";
const CONTENT_TYPE: &str = "application/vnd.cncf.notary.payload.v1+json";
const SCHEME: &str = "io.cncf.notary.signingScheme";
const EXPIRY: &str = "io.cncf.notary.expiry";

/// Authorities and identities of a signer.
#[derive(Clone, Debug)]
pub(crate) struct Notation {
    pub trusted: Vec<Certificate>,
    pub identities: Vec<Identity>,
    pub level: Level,
    pub annotations: BTreeMap<String, String>,
}

/// A signature that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub who: String,
    /// When it ends, seconds since the epoch.
    pub expires: Option<i64>,
    /// What the level lets through.
    pub warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Jws {
    payload: String,
    protected: String,
    header: Header,
    signature: String,
}

#[derive(Deserialize)]
struct Header {
    x5c: Vec<String>,
    #[serde(default, rename = "io.cncf.notary.timestampSignature")]
    timestamp: Option<serde::de::IgnoredAny>,
}

/// Everything that may be signed beside the payload: an unknown field may be a condition.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Protected {
    alg: String,
    cty: String,
    #[serde(default)]
    crit: Vec<String>,
    #[serde(rename = "io.cncf.notary.signingScheme")]
    scheme: String,
    #[serde(default, rename = "io.cncf.notary.signingTime")]
    #[expect(dead_code, reason = "known, and not believed: the signer's own clock")]
    signing_time: Option<String>,
    #[serde(default, rename = "io.cncf.notary.authenticSigningTime")]
    #[expect(dead_code, reason = "known, of the scheme that is refused by name")]
    authentic_signing_time: Option<String>,
    #[serde(default, rename = "io.cncf.notary.expiry")]
    expiry: Option<String>,
    #[serde(default, rename = "io.cncf.notary.verificationPlugin")]
    plugin: Option<String>,
    #[serde(default, rename = "io.cncf.notary.verificationPluginMinVersion")]
    #[expect(dead_code, reason = "known, beside the plugin that is refused by name")]
    plugin_version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    target_artifact: Target,
}

#[derive(Deserialize)]
struct Target {
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// An envelope that is well formed; nothing in it was checked.
pub(crate) struct Envelope {
    /// What the signature is over: header and payload as they came.
    message: Vec<u8>,
    payload: Vec<u8>,
    protected: Protected,
    chain: Vec<Certificate>,
    signature: Vec<u8>,
    timestamped: bool,
}

impl Envelope {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let jws: Jws = json::parse(bytes, DOCUMENT_MAX).map_err(|e| format!("the envelope: {e}"))?;
        let protected = base64url("the protected header", &jws.protected)?;
        let protected: Protected =
            json::parse(&protected, DOCUMENT_MAX).map_err(|e| format!("the protected header: {e}"))?;
        if jws.header.x5c.is_empty() || jws.header.x5c.len() > CHAIN_MAX {
            return Err(format!("the envelope has {} certificates, not 1 to {CHAIN_MAX}", jws.header.x5c.len()));
        }
        let chain = jws.header.x5c.iter().map(|text| Certificate::parse(base64("a certificate", text)?));
        Ok(Self {
            message: format!("{}.{}", jws.protected, jws.payload).into_bytes(),
            payload: base64url("the payload", &jws.payload)?,
            protected,
            chain: chain.collect::<Result<_, _>>()?,
            signature: base64url("the signature", &jws.signature)?,
            timestamped: jws.header.timestamp.is_some(),
        })
    }
}

impl Notation {
    /// Judges an envelope for the document `on` of `size` bytes at `now`, seconds since the epoch.
    pub(crate) fn verify(
        &self,
        on: &Digest,
        size: u64,
        media_type: &str,
        bytes: &[u8],
        now: i64,
    ) -> Result<Accepted, String> {
        match media_type {
            JWS => {}
            COSE => {
                return Err(
                    "COSE envelopes are not supported: sign with notation sign --signature-format jws".to_owned()
                );
            }
            other => return Err(format!("envelopes of type {:?} are not supported", clip(other))),
        }
        let envelope = Envelope::parse(bytes)?;
        let Some(leaf) = envelope.chain.first() else { return Err("the envelope has no certificates".to_owned()) };
        self.check_header(&envelope.protected)?;
        let (name, algorithm) = {
            let key = leaf.key()?;
            let (name, algorithm) = key.jose()?;
            if envelope.protected.alg != name {
                let claimed = clip(&envelope.protected.alg);
                return Err(format!(
                    "it claims algorithm {claimed:?}, but a key such as its signer's signs with {name}"
                ));
            }
            (name, key.verifies(algorithm, &envelope.message, &envelope.signature))
        };
        if !algorithm {
            return Err(format!("the signature ({name}) is not by the certificate in the envelope"));
        }
        let payload: Payload =
            json::parse(&envelope.payload, DOCUMENT_MAX).map_err(|e| format!("the signed payload: {e}"))?;
        let target = payload.target_artifact;
        if target.digest != on.to_string() || target.size != size {
            return Err(format!("it was made for {}, not for this image", clip(&target.digest)));
        }
        for (key, value) in &self.annotations {
            let is = target.annotations.as_ref().and_then(|found| found.get(key));
            if is != Some(value) {
                return Err(format!("it has no annotation {key}={value}"));
            }
        }
        let mut accepted = Accepted { who: leaf.name(), expires: None, warnings: Vec::new() };
        let at = u64::try_from(now).unwrap_or(0);
        self.check_signer(&envelope.chain, at, &mut accepted.warnings)?;
        self.check_expiry(&envelope.protected, now, &mut accepted)?;
        let stamp = if envelope.timestamped { "its time stamp was not verified, " } else { "" };
        accepted.warnings.push(format!("{stamp}revocation was not looked up"));
        Ok(accepted)
    }

    fn check_header(&self, header: &Protected) -> Result<(), String> {
        if header.cty != CONTENT_TYPE {
            return Err(format!("it is over {:?}, no payload of the Notary Project", clip(&header.cty)));
        }
        if let Some(plugin) = &header.plugin {
            return Err(format!("it asks for the verification plugin {:?}: plugins are not supported", clip(plugin)));
        }
        if header.scheme != "notary.x509" {
            return Err(format!("the signing scheme {:?} is not supported, only notary.x509", clip(&header.scheme)));
        }
        if let Some(unknown) = header.crit.iter().find(|name| !matches!(name.as_str(), SCHEME | EXPIRY)) {
            return Err(format!("its critical attribute {:?} is not understood", clip(unknown)));
        }
        let critical = |name: &str| header.crit.iter().filter(|one| *one == name).count() == 1;
        if !critical(SCHEME) || header.expiry.is_some() != critical(EXPIRY) {
            return Err("its critical attributes are not those the signature specification demands".to_owned());
        }
        Ok(())
    }

    /// Chain and identity. `permissive` forgives times, `audit` everything.
    fn check_signer(&self, chain: &[Certificate], now: u64, warnings: &mut Vec<String>) -> Result<(), String> {
        let mut checked = check_chain(chain, &self.trusted, now);
        if let Err(ChainError::Time(why)) = &checked
            && self.level != Level::Strict
            && let Some(then) = common_time(chain)
        {
            warnings.push(why.clone());
            checked = match check_chain(chain, &self.trusted, then) {
                // The trusted certificate alone is out of date as well.
                Err(ChainError::Time(why)) => {
                    warnings.push(why);
                    Ok(())
                }
                other => other,
            };
        }
        let identity = || {
            let leaf = chain.first().ok_or("it has no certificates")?;
            let known = self.identities.iter().any(|identity| identity.matches(leaf.subject()));
            let message = || format!("its signer, {}, is none of the trusted identities", leaf.name());
            if known { Ok(()) } else { Err(message()) }
        };
        match checked.map_err(|error| error.why().to_owned()).and_then(|()| identity()) {
            Err(why) if self.level == Level::Audit => {
                warnings.push(why);
                Ok(())
            }
            other => other,
        }
    }

    fn check_expiry(&self, header: &Protected, now: i64, accepted: &mut Accepted) -> Result<(), String> {
        let Some(text) = &header.expiry else { return Ok(()) };
        let expiry: jiff::Timestamp =
            text.parse().map_err(|_| format!("its expiry {:?} is no time of RFC 3339", clip(text)))?;
        let expired = expiry.as_second() <= now;
        let why = format!("it expired at {expiry}");
        match (expired, self.level) {
            (true, Level::Strict) => return Err(why),
            (true, _) => accepted.warnings.push(why),
            (false, Level::Strict) => accepted.expires = Some(expiry.as_second()),
            (false, _) => {}
        }
        Ok(())
    }
}
