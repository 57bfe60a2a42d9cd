//! What a recorded verdict is worth later.

use trust::{Approval, Origin, Policy, Recorded, Role, check_record};
use types::Reference;

use crate::openssl::Openssl;
use crate::world::{Memory, NOW, digest};

fn policy(extra: &str) -> Policy {
    let text = format!(
        r#"{{"version":1,"default":{{"action":"require","any-of":["s"]{extra}}},"signers":{{"s":{{"type":"cosign","key":"/k.pub"}}}}}}"#
    );
    Policy::parse(text.as_bytes(), "p").unwrap()
}

#[test]
fn as_long_as_the_policy_names_the_same_signer() {
    let openssl = Openssl::new();
    let curve = "EC -pkeyopt ec_paramgen_curve:P-256";
    let (old, new) =
        (Memory::of(&[("/k.pub", openssl.key("a", curve))]), Memory::of(&[("/k.pub", openssl.key("b", curve))]));
    let reference: Reference = "quay.example/app:1".parse().unwrap();
    let image = digest(b"image");
    let roles = [(Role::Manifest, image)];
    let first = policy("");
    let fingerprint = first.signers(first.default_rule(), &old)[0].fingerprint.clone();
    let approval =
        Approval { signer: "s".into(), fingerprint, by: "key".into(), digest: image, at: NOW, expires: None };
    let origin = |approvals: &[Approval]| Origin { repository: reference.name(), approvals: approvals.to_vec() };
    let check = |policy: &Policy, files: &Memory, origin: Option<&Origin>, roles: &[(Role, types::Digest)], now| {
        let rule = policy.default_rule();
        check_record(rule, &policy.signers(rule, files), &reference, origin, roles, now)
    };
    let known = origin(std::slice::from_ref(&approval));
    assert_eq!(check(&first, &old, Some(&known), &roles, NOW), Ok(()));
    let why = check(&first, &new, Some(&known), &roles, NOW).unwrap_err();
    assert!(why.contains("another key or other conditions") && why.ends_with("pull quay.example/app again"), "{why}");
    for nothing in [None, Some(&origin(&[]))] {
        let why = check(&first, &old, nothing, &roles, NOW).unwrap_err();
        assert!(why.contains("asks for a signature by s, and none was recorded when it came; pull"), "{why}");
    }
    let elsewhere = [(Role::Manifest, digest(b"other"))];
    assert!(check(&first, &old, Some(&known), &elsewhere, NOW).is_err());
    let ending = origin(&[Approval { expires: Some(NOW), ..approval.clone() }]);
    assert!(check(&first, &old, Some(&ending), &roles, NOW - 1).is_ok());
    assert!(check(&first, &old, Some(&ending), &roles, NOW).unwrap_err().contains("has expired since"));
    // Which document must be signed may have changed as well.
    let index = [(Role::Index, digest(b"index")), (Role::Platform, image)];
    assert!(check(&first, &old, Some(&known), &index, NOW).is_ok());
    assert!(check(&policy(r#","signed":"index""#), &old, Some(&known), &index, NOW).is_err());
    assert!(check(&first, &Memory::default(), Some(&known), &roles, NOW).unwrap_err().contains("no such file"));
}

#[test]
fn what_is_known_adds_up() {
    let approval = |signer: &str| Approval {
        signer: signer.into(),
        fingerprint: String::new(),
        by: String::new(),
        digest: digest(b""),
        at: 0,
        expires: None,
    };
    let from = |repository: &str, approvals: &[Approval]| Recorded {
        local: false,
        origins: vec![Origin { repository: repository.into(), approvals: approvals.to_vec() }],
    };
    let mut known = from("a", &[approval("x")]);
    known.merge(&from("b", &[]));
    known.merge(&from("a", &[approval("y")]));
    let other = Approval { digest: digest(b"other"), ..approval("z") };
    known.merge(&from("a", std::slice::from_ref(&other)));
    known.merge(&Recorded { local: true, origins: Vec::new() });
    assert!(known.local);
    // The same document again, and another one.
    assert_eq!(known.origin("a").unwrap().approvals, [other, approval("y")]);
    assert!(known.origin("b").unwrap().approvals.is_empty() && known.origins.len() == 2);
    let text = r#"{"origins":[{"repository":"a"}]}"#;
    assert!(serde_json::from_str::<Recorded>(text).unwrap().origin("a").is_some());
}
