//! Every kind of key, and what must not pass for one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use trust::{Body, Evidence, Form, Report};

use crate::openssl::Openssl;
use crate::world::{Memory, World, digest};

const IMAGE: &[u8] = b"{\"schemaVersion\":2}";

fn payload() -> String {
    let digest = digest(IMAGE);
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"quay.example/app"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    )
}

fn judged(key: Vec<u8>, payload: &str, signature: &[u8]) -> Report {
    let files = Memory::of(&[("/k.pub", key)]);
    let world = World::new(r#"{"type":"cosign","key":"/k.pub"}"#, files, "quay.example/app:1", IMAGE.to_vec());
    let body = Body::Simple { payload: payload.into(), signature: STANDARD.encode(signature), certificate: false };
    world.judge(&[Evidence { on: digest(IMAGE), place: "p".to_owned(), form: Form::Cosign, body }])
}

fn good(key: &[u8], payload: &str, signature: &[u8]) -> bool {
    judged(key.to_vec(), payload, signature).reason.is_none()
}

#[test]
fn every_kind_of_key() {
    let openssl = Openssl::new();
    let payload = payload();
    let message = payload.as_bytes();
    let p256 = openssl.key("p256", "EC -pkeyopt ec_paramgen_curve:P-256");
    let p384 = openssl.key("p384", "EC -pkeyopt ec_paramgen_curve:P-384");
    let rsa = openssl.key("rsa", "RSA -pkeyopt rsa_keygen_bits:2048");
    let ed = openssl.key("ed", "ED25519");
    let pss = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest";
    let cases = [
        ("p256", &p256, Some("sha256"), "", true),
        ("p256", &p256, Some("sha1"), "", false),
        ("p256", &p256, Some("sha512"), "", false),
        ("p384", &p384, Some("sha256"), "", true),
        ("p384", &p384, Some("sha384"), "", true),
        ("p384", &p384, Some("sha1"), "", false),
        ("rsa", &rsa, Some("sha256"), "", true),
        ("rsa", &rsa, Some("sha256"), pss, true),
        ("rsa", &rsa, Some("sha1"), "", false),
        ("rsa", &rsa, Some("md5"), "", false),
        ("ed", &ed, None, "", true),
    ];
    for (name, public, hash, options, expected) in cases {
        let signature = openssl.sign(name, message, hash, options);
        assert_eq!(good(public, &payload, &signature), expected, "{name} {hash:?} {options}");
        for other in [&p256, &p384, &rsa, &ed].into_iter().filter(|other| *other != public) {
            assert!(!good(other, &payload, &signature), "{name} {hash:?} with another key");
        }
        // Several keys in a file: any of them.
        let both = [p384.clone(), public.clone()].concat();
        assert_eq!(good(&both, &payload, &signature), expected, "{name} {hash:?} beside another");
    }
}

#[test]
fn keys_that_are_none() {
    let openssl = Openssl::new();
    let signature = {
        openssl.key("p256", "EC -pkeyopt ec_paramgen_curve:P-256");
        openssl.sign("p256", payload().as_bytes(), Some("sha256"), "")
    };
    let why = |key: Vec<u8>| judged(key, &payload(), &signature).reason.unwrap();
    let weak = openssl.key("weak", "RSA -pkeyopt rsa_keygen_bits:1024");
    let k1 = openssl.key("k1", "EC -pkeyopt ec_paramgen_curve:secp256k1");
    let x = openssl.key("x", "X25519");
    for (key, said) in [
        (weak, "the RSA key has 1024 bits"),
        (k1, "curve other than"),
        (x, "are not supported"),
        (openssl.read("p256.key"), "no PUBLIC KEY block"),
        (b"hello".to_vec(), "no PUBLIC KEY block"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_vec(), "malformed"),
        (b"-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----\n".to_vec(), "no PEM file"),
    ] {
        let why = why(key);
        assert!(why.contains("the key of signer s /k.pub cannot be used: ") && why.contains(said), "{said}: {why}");
    }
}

/// Well signed, and still not a signature of the image.
#[test]
fn payloads_with_two_readings() {
    let openssl = Openssl::new();
    let key = openssl.key("p256", "EC -pkeyopt ec_paramgen_curve:P-256");
    let judge = |text: &str| {
        let signature = openssl.sign("p256", text.as_bytes(), Some("sha256"), "");
        judged(key.clone(), text, &signature).reason
    };
    assert_eq!(judge(&payload()), None);
    let ours = digest(IMAGE).to_string();
    let other = digest(b"other").to_string();
    let image = format!(r#""docker-manifest-digest":"{ours}""#);
    let cases = [
        (payload().replace(&ours, &other), "it was made for sha256:"),
        (payload().replace(&image, &format!(r#"{image},"docker-manifest-digest":"{other}""#)), "is there twice"),
        (payload().replace(&image, &format!(r#"{image},"more":1"#)), "unknown field"),
        (payload().replace(r#""type":"#, r#""not-before":9,"type":"#), "unknown field"),
        (payload().replace("container image signature", "blob"), "no signature of an image"),
        (payload().replace("quay.example/app", "quay.example/App"), "no reference"),
        (payload().replace("quay.example/app", "quay.example/app2"), "it was made for quay.example/app2"),
        (payload().replace("quay.example/app", "app"), "it was made for app"),
        (format!("{} ", payload()).replace("null", &"[".repeat(100)), "the signed payload"),
        (format!("{}x", payload()), "trailing"),
        (ours.clone(), "no JSON object"),
        (format!("{}{}", payload(), " ".repeat(2 << 20)), "larger than"),
    ];
    for (text, said) in cases {
        let why = judge(&text).expect(said);
        assert!(why.contains(said), "{said}: {why}");
    }
}
