//! What cosign, skopeo and notation made.

use trust::{Artifact, Body, Evidence, Form, Mode, Outcome, Role};

use crate::world::{Memory, World, data, digest};

fn evidence(form: Form, body: Body) -> Evidence {
    Evidence { on: digest(&data("image.json")), place: "p".to_owned(), form, body }
}

/// The one signature under a tag as it was read.
fn tagged(maker: &str) -> Evidence {
    let artifact = Artifact::parse(&data(&format!("{maker}-tag.json"))).unwrap();
    let [layer] = artifact.layers.as_slice() else { panic!("{artifact:?}") };
    let payload = data(&format!("{maker}-payload.json"));
    assert_eq!((layer.digest, layer.size), (digest(&payload), payload.len() as u64));
    let signature = layer.signature.clone().unwrap();
    evidence(Form::Cosign, Body::Simple { payload, signature, certificate: layer.certificate })
}

fn world(key: &str, options: &str, reference: &str) -> World {
    let files = Memory::of(&[("/k.pub", data(key))]);
    World::new(&format!(r#"{{"type":"cosign","key":"/k.pub"{options}}}"#), files, reference, data("image.json"))
}

#[test]
fn cosign_under_its_tag() {
    let report = world("cosign.pub", "", "127.0.0.1:5791/app:1").accepted(&[tagged("cosign")]);
    assert_eq!(report.approvals[0].signer, "s");
    assert!(report.approvals[0].by.starts_with("ECDSA P-256 key 64898"), "{report:?}");
    world("cosign.pub", r#","annotations":{"env":"prod"}"#, "127.0.0.1:5791/app:2").accepted(&[tagged("cosign")]);
    let refused = |key, options, reference| world(key, options, reference).refused(&[tagged("cosign")]);
    assert!(refused("skopeo.pub", "", "127.0.0.1:5791/app:1").contains("not by this signer's key"));
    let why = refused("cosign.pub", r#","annotations":{"env":"test"}"#, "127.0.0.1:5791/app:1");
    assert!(why.contains(r#"its annotation env is "prod", not "test""#), "{why}");
    let why = refused("cosign.pub", r#","annotations":{"team":"a"}"#, "127.0.0.1:5791/app:1");
    assert!(why.contains("it has no annotation team=a"), "{why}");
}

#[test]
fn a_signature_is_for_its_repository() {
    let replayed = |options| world("cosign.pub", options, "127.0.0.1:5791/other:1");
    let why = replayed("").refused(&[tagged("cosign")]);
    assert!(why.contains("it was made for 127.0.0.1:5791/app, not for 127.0.0.1:5791/other:1"), "{why}");
    replayed(r#","reference":"any""#).accepted(&[tagged("cosign")]);
    replayed(r#","remap":{"127.0.0.1:5791/other":"127.0.0.1:5791/app"}"#).accepted(&[tagged("cosign")]);
    let elsewhere = replayed(r#","remap":{"127.0.0.1:5791/oth":"127.0.0.1:5791/app"}"#).refused(&[tagged("cosign")]);
    assert!(elsewhere.contains("not for 127.0.0.1:5791/other"), "{elsewhere}");
    // cosign signs the repository alone, skopeo with the tag.
    let exact = |key, reference| world(key, r#","reference":"exact""#, reference);
    assert!(exact("cosign.pub", "127.0.0.1:5791/app:1").refused(&[tagged("cosign")]).contains("not for"));
    exact("skopeo.pub", "127.0.0.1:5791/sk:1").accepted(&[tagged("skopeo")]);
    assert!(
        exact("skopeo.pub", "127.0.0.1:5791/sk:2")
            .refused(&[tagged("skopeo")])
            .contains("made for 127.0.0.1:5791/sk:1")
    );
    world("skopeo.pub", "", "127.0.0.1:5791/sk:2").accepted(&[tagged("skopeo")]);
}

#[test]
fn a_signature_is_for_its_image() {
    let mut world = world("skopeo.pub", "", "127.0.0.1:5791/sk:1");
    let other = b"{}".to_vec();
    world.documents = vec![(Role::Manifest, digest(&other), other.clone())];
    // Found at its own image, and offered at another one's.
    assert!(world.refused(&[tagged("skopeo")]).contains("it is of another image"));
    let moved = Evidence { on: digest(&other), ..tagged("skopeo") };
    let why = world.refused(&[moved]);
    assert!(why.contains("it was made for sha256:64752d4ae2"), "{why}");
}

#[test]
fn bundles() {
    let artifact = Artifact::parse(&data("cosign-referrer.json")).unwrap();
    assert_eq!(artifact.kind, "application/vnd.dev.sigstore.bundle.v0.3+json");
    assert_eq!(artifact.subject, Some(digest(&data("image.json"))));
    assert_eq!(artifact.layers[0].digest, digest(&data("cosign-bundle.json")));
    for name in ["cosign-bundle.json", "cosign-message-bundle.json"] {
        let bundle = evidence(Form::Bundle, Body::Bundle(data(name)));
        let any = r#","reference":"any""#;
        world("cosign.pub", any, "quay.example/x").accepted(std::slice::from_ref(&bundle));
        let why = world("cosign.pub", "", "quay.example/x").refused(std::slice::from_ref(&bundle));
        assert!(why.contains(r#"set "reference": "any""#), "{why}");
        let why = world("skopeo.pub", any, "quay.example/x").refused(std::slice::from_ref(&bundle));
        assert!(why.contains("not by this signer's key"), "{why}");
        let mut elsewhere = world("cosign.pub", any, "quay.example/x");
        let other = b"{ }".to_vec();
        elsewhere.documents = vec![(Role::Manifest, digest(&other), other.clone())];
        let why = elsewhere.refused(&[Evidence { on: digest(&other), ..bundle }]);
        assert!(why.contains("made for another"), "{why}");
    }
    let annotated = |value: &str| {
        world("cosign.pub", &format!(r#","reference":"any","annotations":{{"env":"{value}"}}"#), "quay.example/x")
    };
    let bundle = evidence(Form::Bundle, Body::Bundle(data("cosign-bundle.json")));
    annotated("prod").accepted(std::slice::from_ref(&bundle));
    assert!(annotated("test").refused(&[bundle]).contains("annotation env"));
}

/// Every bit of a signature, and of what was signed, matters.
#[test]
fn damaged() {
    let Body::Simple { payload, signature, .. } = tagged("skopeo").body else { unreachable!() };
    let world = world("skopeo.pub", "", "127.0.0.1:5791/sk:1");
    let simple = |payload: &[u8], signature: &str| {
        let (payload, signature) = (payload.to_vec(), signature.to_owned());
        evidence(Form::Cosign, Body::Simple { payload, signature, certificate: false })
    };
    for at in (0..payload.len()).step_by(7) {
        let mut damaged = payload.clone();
        damaged[at] ^= 1;
        assert!(world.refused(&[simple(&damaged, &signature)]).contains("not by this signer's key"));
    }
    for cut in [0, 1, 4, signature.len() - 4, signature.len() - 1] {
        world.refused(&[simple(&payload, &signature[..cut])]);
    }
    assert!(world.refused(&[simple(&payload, &signature[..signature.len() - 1])]).contains("not base64"));
    let mut text = String::from_utf8(data("cosign-bundle.json")).unwrap();
    text = text.replace("in-toto+json", "in-toto+jsox");
    let bundle = evidence(Form::Bundle, Body::Bundle(text.into_bytes()));
    assert!(world.refused(&[bundle]).contains("no in-toto statement"));
}

#[test]
fn either_index_or_platform() {
    let signed = data("image.json");
    let index = b"{\"manifests\":[]}".to_vec();
    let with = |option: &str, roles: [Role; 2]| {
        let mut world = world("skopeo.pub", "", "127.0.0.1:5791/sk:1");
        world.policy = world.policy.replace("\"action\"", &format!("\"signed\":\"{option}\",\"action\""));
        world.documents = vec![(roles[0], digest(&index), index.clone()), (roles[1], digest(&signed), signed.clone())];
        world.judge(&[tagged("skopeo")]).outcome == Outcome::Accepted
    };
    let platform = [Role::Index, Role::Platform];
    let swapped = [Role::Platform, Role::Index];
    assert!(with("either", platform) && with("platform", platform) && !with("index", platform));
    assert!(with("either", swapped) && with("index", swapped) && !with("platform", swapped));
}

#[test]
fn one_of_them_or_all() {
    let rule = |need: &str| {
        let mut world = world("skopeo.pub", "", "127.0.0.1:5791/sk:1");
        world.files.0.insert("/c.pub".to_owned(), data("cosign.pub"));
        world.policy = format!(
            r#"{{"version":1,"default":{{"action":"require","{need}":["c","s","gone"]}},"signers":{{
            "s":{{"type":"cosign","key":"/k.pub"}},"c":{{"type":"cosign","key":"/c.pub"}},"gone":{{"type":"cosign","key":"/no"}}}}}}"#
        );
        world
    };
    rule("any-of").accepted(&[tagged("skopeo")]);
    let report = rule("all-of").judge(&[tagged("skopeo")]);
    assert_eq!(report.outcome, Outcome::Refused);
    let why = report.reason.unwrap();
    assert!(
        why.contains("by c and by gone") && why.contains("signer gone /no cannot be used: there is no such file"),
        "{why}"
    );
    let mut tried = rule("all-of");
    tried.policy = tried.policy.replacen("\"default\":{", "\"default\":{\"mode\":\"dry-run\",", 1);
    let report = tried.judge(&[]);
    assert_eq!((report.outcome, report.mode), (Outcome::WouldRefuse, Mode::DryRun));
    assert!(rule("any-of").refused(&[]).ends_with("cannot be used: there is no such file"));
}

#[test]
fn keyless_is_refused_by_name() {
    let Body::Simple { payload, signature, .. } = tagged("cosign").body else { unreachable!() };
    let keyless = evidence(Form::Cosign, Body::Simple { payload, signature, certificate: true });
    assert!(world("skopeo.pub", "", "127.0.0.1:5791/app").refused(&[keyless]).contains("keyless"));
    let text = String::from_utf8(data("cosign-bundle.json")).unwrap();
    let text = text.replace(r#""publicKey":{"#, r#""certificate":{"#);
    let bundle = evidence(Form::Bundle, Body::Bundle(text.into_bytes()));
    assert!(world("cosign.pub", "", "127.0.0.1:5791/app").refused(&[bundle]).contains("keyless"));
}

/// A certificate of its own, as `notation cert generate-test` makes it, good for a day.
#[test]
fn notation() {
    let artifact = Artifact::parse(&data("notation-referrer.json")).unwrap();
    assert_eq!(artifact.kind, "application/vnd.cncf.notary.signature");
    assert_eq!(artifact.subject, Some(digest(&data("image.json"))));
    let envelope = data("notation-envelope.json");
    assert_eq!(artifact.layers[0].digest, digest(&envelope));
    let media_type = artifact.layers[0].media_type.clone();
    let found = evidence(Form::Notation, Body::Envelope { media_type, bytes: envelope });
    let world = |organisation: &str, now: i64| {
        let signer = format!(
            r#"{{"type":"notation","trust-store":"/s","identities":["x509.subject: C=US, ST=WA, O={organisation}"],"annotations":{{"env":"prod"}}}}"#
        );
        let mut world = World::new(
            &signer,
            Memory::of(&[("/s/a.crt", data("notation.crt"))]),
            "quay.example/x",
            data("image.json"),
        );
        world.now = now;
        world
    };
    // 2026-11-27T08:00:00Z, ten minutes after.
    let then = 1_795_766_400;
    let report = world("Notary", then).accepted(std::slice::from_ref(&found));
    assert_eq!(report.approvals[0].by, "CN=acme.test,O=Notary,L=Seattle,ST=WA,C=US");
    assert_eq!(report.approvals[0].expires, Some(then + 86_400 - 574));
    assert!(world("Other", then).refused(std::slice::from_ref(&found)).contains("none of the trusted identities"));
    assert!(world("Notary", then + 86_400).refused(&[found]).contains("has expired"));
}
