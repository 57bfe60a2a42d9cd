//! Envelopes of the Notary Project with certificates by OpenSSL: good ones, and each way not to be good.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use trust::{Body, Evidence, Form};

use crate::openssl::Openssl;
use crate::world::{Memory, World, digest};

const IMAGE: &[u8] = b"{\"schemaVersion\":2}";
const P256: &str = "EC -pkeyopt ec_paramgen_curve:P-256";
const ROOT: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";
const LEAF: &str =
    "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n";
const SUBJECT: &str = "/C=US/ST=WA/O=Acme/CN=signer";
const IDENTITY: &str = "x509.subject: C=US, ST=WA, O=Acme";
const DAY: i64 = 86_400;

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap() + 60
}

/// An authority `root`, one below it `between`, and a leaf by that.
fn chain(openssl: &Openssl, algorithm: &str) {
    for (name, algorithm) in [("root", P256), ("between", P256), ("leaf", algorithm)] {
        openssl.key(name, algorithm);
    }
    openssl.certificate("root", "/CN=root", None, ROOT, "");
    openssl.certificate("between", "/CN=between", Some("root"), ROOT, "");
    openssl.certificate("leaf", SUBJECT, Some("between"), LEAF, "");
}

fn protected() -> Value {
    json!({
        "alg": "ES256",
        "crit": ["io.cncf.notary.signingScheme"],
        "cty": "application/vnd.cncf.notary.payload.v1+json",
        "io.cncf.notary.signingScheme": "notary.x509",
        "io.cncf.notary.signingTime": "2026-01-01T00:00:00Z",
    })
}

fn payload() -> Value {
    json!({"targetArtifact": {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(IMAGE).to_string(), "size": IMAGE.len(), "annotations": {"env": "prod"}}})
}

/// `r` and `s` of an ASN.1 signature at their full length.
fn fixed(der: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = &der[if der[1] & 0x80 == 0 { 2 } else { 3 }..];
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let number = &number[number.len().saturating_sub(size)..];
        out.extend(std::iter::repeat_n(0, size - number.len()));
        out.extend_from_slice(number);
        rest = &rest[2 + length..];
    }
    out
}

struct Envelope {
    protected: String,
    payload: String,
    hash: &'static str,
    signer: &'static str,
    certificates: Vec<&'static str>,
    /// Bytes of `r` and `s`; RSA without.
    size: Option<usize>,
}

impl Envelope {
    fn good() -> Self {
        let (protected, payload) = (protected().to_string(), payload().to_string());
        let certificates = vec!["leaf", "between"];
        Self { protected, payload, hash: "sha256", signer: "leaf", certificates, size: Some(32) }
    }

    fn sealed(&self, openssl: &Openssl) -> Value {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let message = format!("{}.{}", encode(&self.protected), encode(&self.payload));
        let pss = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest";
        let options = if self.size.is_none() { pss } else { "" };
        let signature = openssl.sign(self.signer, message.as_bytes(), Some(self.hash), options);
        let signature = self.size.map_or(signature.clone(), |size| fixed(&signature, size));
        let x5c: Vec<String> = self.certificates.iter().map(|name| STANDARD.encode(openssl.der(name))).collect();
        json!({
            "payload": encode(&self.payload), "protected": encode(&self.protected),
            "header": {"x5c": x5c, "io.cncf.notary.signingAgent": "test"},
            "signature": URL_SAFE_NO_PAD.encode(signature),
        })
    }
}

fn evidence(envelope: &Value) -> Evidence {
    let body = Body::Envelope { media_type: "application/jose+json".into(), bytes: envelope.to_string().into_bytes() };
    Evidence { on: digest(IMAGE), place: "p".into(), form: Form::Notation, body }
}

fn world(trusted: &[(&str, Vec<u8>)], identity: &str, level: &str) -> World {
    let signer = json!({"type": "notation", "trust-store": "/store", "identities": [identity], "level": level});
    let files: BTreeMap<String, Vec<u8>> =
        trusted.iter().map(|(name, bytes)| (format!("/store/{name}"), bytes.clone())).collect();
    let mut world = World::new(&signer.to_string(), Memory(files), "quay.example/app:1", IMAGE.to_vec());
    world.now = now();
    world
}

fn trusting(openssl: &Openssl, name: &str) -> World {
    world(&[("a.crt", openssl.read(&format!("{name}.crt")))], IDENTITY, "strict")
}

#[test]
fn every_algorithm() {
    for (algorithm, alg, hash, size) in [
        (P256, "ES256", "sha256", Some(32)),
        ("EC -pkeyopt ec_paramgen_curve:P-384", "ES384", "sha384", Some(48)),
        ("EC -pkeyopt ec_paramgen_curve:P-521", "ES512", "sha512", Some(66)),
        ("RSA -pkeyopt rsa_keygen_bits:2048", "PS256", "sha256", None),
        ("RSA -pkeyopt rsa_keygen_bits:3072", "PS384", "sha384", None),
    ] {
        let openssl = Openssl::new();
        chain(&openssl, algorithm);
        let protected = protected().to_string().replace("ES256", alg);
        let envelope = Envelope { protected, hash, size, ..Envelope::good() }.sealed(&openssl);
        let report = trusting(&openssl, "root").accepted(&[evidence(&envelope)]);
        assert!(report.approvals[0].by.contains("CN=signer"), "{report:?}");
        assert!(report.checks[0].warnings[0].contains("revocation was not looked up"));
        // The same key with another name for what it did.
        for other in ["ES256", "ES384", "PS256", "RS256", "HS256", "none"].into_iter().filter(|other| *other != alg) {
            let protected = self::protected().to_string().replace("ES256", other);
            let envelope = Envelope { protected, hash, size, ..Envelope::good() }.sealed(&openssl);
            let why = trusting(&openssl, "root").refused(&[evidence(&envelope)]);
            assert!(why.contains(&format!("claims algorithm \"{other}\"")), "{why}");
        }
    }
}

#[test]
fn what_is_signed_is_read_strictly() {
    let openssl = Openssl::new();
    chain(&openssl, P256);
    let strict = trusting(&openssl, "root");
    let header = |change: fn(&mut Value)| {
        let mut protected = protected();
        change(&mut protected);
        Envelope { protected: protected.to_string(), ..Envelope::good() }
    };
    let body = |change: fn(&mut Value)| {
        let mut payload = payload();
        change(&mut payload);
        Envelope { payload: payload.to_string(), ..Envelope::good() }
    };
    const EXPIRY: &str = "io.cncf.notary.expiry";
    const CRIT: &str = "io.cncf.notary.signingScheme";
    for (envelope, said) in [
        (header(|p| p["crit"] = json!([])), "critical attributes"),
        (header(|p| p["crit"] = json!([CRIT, CRIT])), "critical attributes"),
        (header(|p| p["crit"] = json!([CRIT, EXPIRY])), "critical attributes"),
        (header(|p| p["crit"] = json!([CRIT, "x"])), "\"x\" is not understood"),
        (header(|p| p[EXPIRY] = json!("2099-01-01T00:00:00Z")), "critical attributes"),
        (
            header(|p| {
                p["crit"] = json!([CRIT, EXPIRY]);
                p[EXPIRY] = json!("soon");
            }),
            "no time of RFC 3339",
        ),
        (
            header(|p| {
                p["crit"] = json!([CRIT, EXPIRY]);
                p[EXPIRY] = json!("2026-01-01T00:00:00Z");
            }),
            "it expired at",
        ),
        (header(|p| p["cty"] = json!("text/plain")), "no payload of the Notary Project"),
        (header(|p| p[CRIT] = json!("notary.x509.signingAuthority")), "signing scheme"),
        (header(|p| p["io.cncf.notary.verificationPlugin"] = json!("p")), "plugins are not supported"),
        (header(|p| p["more"] = json!(1)), "unknown field"),
        (header(|p| p["alg"] = json!(null)), "at alg"),
        (body(|p| p["targetArtifact"]["digest"] = json!(digest(b"x").to_string())), "it was made for sha256:"),
        (body(|p| p["targetArtifact"]["size"] = json!(1)), "it was made for"),
        (body(|p| *p = json!({})), "the signed payload"),
        (Envelope { payload: "{\"targetArtifact\":1,\"targetArtifact\":2}".into(), ..Envelope::good() }, "twice"),
        (Envelope { signer: "between", ..Envelope::good() }, "not by the certificate"),
        (Envelope { certificates: vec![], ..Envelope::good() }, "has 0 certificates"),
        (Envelope { certificates: vec!["leaf"; 11], ..Envelope::good() }, "has 11 certificates"),
    ] {
        let why = strict.refused(&[evidence(&envelope.sealed(&openssl))]);
        assert!(why.contains(said), "{said}: {why}");
    }
    let good = Envelope::good().sealed(&openssl);
    strict.accepted(&[evidence(&good)]);
    for (part, said) in [("payload", "base64url"), ("protected", "base64url"), ("signature", "base64url")] {
        let mut cut = good.clone();
        let text = cut[part].as_str().unwrap().to_owned();
        cut[part] = json!(text[..text.len() - 1]);
        let why = strict.refused(&[evidence(&cut)]);
        assert!(why.contains(said) || why.contains("EOF") || why.contains("not by the certificate"), "{part}: {why}");
    }
    let mut cose = evidence(&good);
    let Body::Envelope { media_type, .. } = &mut cose.body else { unreachable!() };
    *media_type = "application/cose".into();
    assert!(strict.refused(&[cose]).contains("COSE envelopes are not supported"));
    let mut annotated = trusting(&openssl, "root");
    annotated.policy = annotated.policy.replace("\"type\"", "\"annotations\":{\"env\":\"test\"},\"type\"");
    assert!(annotated.refused(&[evidence(&good)]).contains("no annotation env=test"));
    annotated.policy = annotated.policy.replace("\"test\"", "\"prod\"");
    annotated.accepted(&[evidence(&good)]);
}

#[test]
fn chains() {
    let openssl = Openssl::new();
    chain(&openssl, P256);
    let seal = |certificates: &[&'static str]| {
        evidence(&Envelope { certificates: certificates.to_vec(), ..Envelope::good() }.sealed(&openssl))
    };
    // Trusted at the root, in the middle, and at the leaf itself.
    trusting(&openssl, "root").accepted(&[seal(&["leaf", "between", "root"])]);
    trusting(&openssl, "between").accepted(&[seal(&["leaf"])]);
    trusting(&openssl, "leaf").accepted(&[seal(&["leaf"])]);
    assert!(trusting(&openssl, "root").refused(&[seal(&["leaf"])]).contains("does not lead to one of the trust store"));
    let stranger = {
        openssl.key("stranger", P256);
        openssl.certificate("stranger", "/CN=root", None, ROOT, "");
        trusting(&openssl, "stranger")
    };
    // Of the same name, with another key.
    let why = stranger.refused(&[seal(&["leaf", "between", "root"])]);
    assert!(why.contains("is not trusted: InvalidSignatureForPublicKey"), "{why}");
    let someone = world(&[("a.crt", openssl.read("root.crt"))], "x509.subject: C=US, ST=WA, O=Other", "strict");
    assert!(someone.refused(&[seal(&["leaf", "between"])]).contains("none of the trusted identities"));
    let store = world(&[("a.crt", b"x".to_vec())], "*", "strict").refused(&[seal(&["leaf", "between"])]);
    assert!(store.contains("signer s /store cannot be used: a.crt: a certificate is malformed"), "{store}");
    assert!(world(&[], "*", "strict").refused(&[]).contains("it has no certificates"));
}

#[test]
fn issuers_and_leaves_that_may_not() {
    let cases: [(&str, &str, &str, &str); 12] = [
        (
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n",
            LEAF,
            "",
            "does not lead|EndEntityUsedAsCa|not one of an authority",
        ),
        (
            "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature\n",
            LEAF,
            "",
            "may not sign certificates",
        ),
        (ROOT, "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature\n", "", "one of an authority"),
        (ROOT, "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,keyEncipherment\n", "", "a key usage other"),
        (
            ROOT,
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyCertSign\n",
            "",
            "a key usage other",
        ),
        (ROOT, "basicConstraints=critical,CA:FALSE\n", "", "has no key usage"),
        (ROOT, "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n", "", "not for code signing"),
        (ROOT, "keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning,serverAuth\n", "", "something else"),
        (
            ROOT,
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning,anyExtendedKeyUsage\n",
            "",
            "something else",
        ),
        (
            ROOT,
            "keyUsage=critical,digitalSignature\n1.2.3.4=critical,ASN1:NULL\n",
            "",
            "is not trusted: UnsupportedCriticalExtension|malformed",
        ),
        (ROOT, LEAF, "-sha1", "is not trusted: UnsupportedSignatureAlgorithm"),
        (
            "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n",
            LEAF,
            "path",
            "PathLenConstraintViolated",
        ),
    ];
    for (issuer, leaf, special, said) in cases {
        let openssl = Openssl::new();
        chain(&openssl, P256);
        openssl.certificate("between", "/CN=between", Some("root"), issuer, "");
        let (mut certificates, mut last) = (vec!["leaf", "between"], "between");
        if special == "path" {
            openssl.key("below", P256);
            openssl.certificate("below", "/CN=below", Some("between"), ROOT, "");
            (certificates, last) = (vec!["leaf", "below", "between"], "below");
        }
        let hash = if special == "-sha1" { "-sha1" } else { "" };
        openssl.certificate("leaf", SUBJECT, Some(last), leaf, hash);
        let envelope = Envelope { certificates, ..Envelope::good() }.sealed(&openssl);
        let why = trusting(&openssl, "root").refused(&[evidence(&envelope)]);
        assert!(said.split('|').any(|said| why.contains(said)), "{said}: {why}");
    }
}

/// A certificate that is trusted for itself may not make others.
#[test]
fn a_trusted_leaf_is_no_authority() {
    let openssl = Openssl::new();
    openssl.key("pinned", P256);
    openssl.key("leaf", P256);
    openssl.certificate("pinned", "/CN=pinned", None, LEAF, "");
    openssl.certificate("leaf", SUBJECT, Some("pinned"), LEAF, "");
    for (certificates, said) in
        [(vec!["leaf"], "does not lead to one of the trust store"), (vec!["leaf", "pinned"], "EndEntityUsedAsCa")]
    {
        let envelope = Envelope { certificates, ..Envelope::good() }.sealed(&openssl);
        let why = trusting(&openssl, "pinned").refused(&[evidence(&envelope)]);
        assert!(why.contains(said), "{why}");
    }
}

#[test]
fn levels() {
    let openssl = Openssl::new();
    chain(&openssl, P256);
    openssl.certificate("leaf", SUBJECT, Some("between"), LEAF, "-days 30");
    let root = [("a.crt", openssl.read("root.crt"))];
    let good = evidence(&Envelope::good().sealed(&openssl));
    let judged = |level: &str, identity: &str, days: i64| {
        let mut world = world(&root, identity, level);
        world.now += days * DAY;
        world.judge(std::slice::from_ref(&good))
    };
    // After the end of the leaf's certificate.
    assert!(judged("strict", IDENTITY, 29).reason.is_none());
    assert!(judged("strict", IDENTITY, 31).reason.unwrap().contains("CN=signer,O=Acme,ST=WA,C=US has expired"));
    assert!(judged("strict", IDENTITY, -1).reason.unwrap().contains("is not valid yet"));
    let permissive = judged("permissive", IDENTITY, 31);
    assert!(permissive.reason.is_none() && permissive.checks[0].warnings[0].contains("has expired"), "{permissive:?}");
    // After the end of the root's.
    let late = judged("permissive", IDENTITY, 4000);
    assert!(late.reason.is_none() && late.checks[0].warnings.len() >= 2, "{late:?}");
    // By a stranger.
    let other = "x509.subject: C=US, ST=WA, O=Other";
    assert!(judged("permissive", other, 0).reason.unwrap().contains("none of the trusted identities"));
    let audit = judged("audit", other, 0);
    assert!(audit.reason.is_none() && audit.checks[0].warnings[0].contains("none of the trusted identities"));
    let forged = evidence(&Envelope { signer: "between", ..Envelope::good() }.sealed(&openssl));
    assert!(world(&root, IDENTITY, "audit").refused(&[forged]).contains("not by the certificate"));
    // A signature that says when it ends.
    let mut protected = protected();
    protected["crit"] = json!(["io.cncf.notary.signingScheme", "io.cncf.notary.expiry"]);
    protected["io.cncf.notary.expiry"] = json!("2100-01-01T00:00:00Z");
    let envelope = Envelope { protected: protected.to_string(), ..Envelope::good() };
    let report = world(&root, IDENTITY, "strict").accepted(&[evidence(&envelope.sealed(&openssl))]);
    assert_eq!(report.approvals[0].expires, Some(4_102_444_800));
}
