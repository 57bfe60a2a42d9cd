//! The access file and the tokens that the registry issues by it (Docker's "Token Authentication Specification").

use std::fs;
use std::path::Path;

use base64::Engine as _;
use serde_json::json;
use tempfile::TempDir;

use crate::http::Answer;
use crate::support::{Api, Registry, image, sha256};

const RULES: &str = "\
group devs ann bob
allow anonymous  public/**  pull
allow users      shared     pull
allow user:ann   **         pull push delete
allow group:devs team/*     pull push
";

fn basic(text: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

fn users(path: &Path) {
    let lines = ["ann", "bob", "eve"].map(|name| format!("{name}:{}\n", bcrypt::hash(name, 4).unwrap()));
    fs::write(path, lines.concat()).unwrap();
}

/// A registry with the rules above, and the directory of its files. Everybody's password is their name.
fn registry() -> (Registry, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (passwords, access) = (dir.path().join("htpasswd"), dir.path().join("access"));
    users(&passwords);
    fs::write(&access, RULES).unwrap();
    let registry = Registry::with(|config| {
        config.passwords = Some(passwords);
        config.access = Some(access);
    });
    (registry, dir)
}

/// A bearer header with a token for these scopes.
#[track_caller]
fn token(registry: &Registry, user: Option<&str>, scopes: &[&str]) -> String {
    let query: String =
        scopes.iter().map(|scope| format!("&scope={}", scope.replace(':', "%3A").replace(' ', "+"))).collect();
    let login = user.map(|user| basic(&format!("{user}:{user}")));
    let headers: Vec<_> = login.iter().map(|login| ("Authorization", login.as_str())).collect();
    let target = format!("/token?service=dhow-registry&account=x&client_id=test{query}");
    let answer = registry.call("GET", &target, &headers, b"").expect(200).json();
    assert_eq!((&answer["access_token"], &answer["expires_in"]), (&answer["token"], &json!(300)));
    format!("Bearer {}", answer["token"].as_str().unwrap())
}

fn with(registry: &Registry, auth: &str, method: &str, target: &str, body: &[u8]) -> Answer {
    registry.call(method, target, &[("Authorization", auth)], body)
}

#[test]
fn the_challenge_leads_to_a_token_that_lets_in() {
    let (registry, _dir) = registry();
    let address = registry.address();
    let mut connection = registry.connect();
    let challenge = |answer: Answer| answer.must("www-authenticate").to_owned();
    connection.send(format!("GET /v2/ HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).unwrap();
    let base = challenge(connection.answer("GET").unwrap().expect_error(401, "UNAUTHORIZED"));
    assert_eq!(base, format!("Bearer realm=\"http://{address}/token\",service=\"dhow-registry\""));
    for (method, target, scope) in [
        ("GET", "/v2/team/app/manifests/t".to_owned(), "team/app:pull"),
        ("PUT", "/v2/team/app/manifests/t".to_owned(), "team/app:pull,push"),
        ("POST", "/v2/team/app/blobs/uploads/".to_owned(), "team/app:pull,push"),
        ("DELETE", "/v2/team/app/manifests/t".to_owned(), "team/app:pull,delete"),
        ("GET", format!("/v2/a/b/referrers/{}", sha256(b"x")), "a/b:pull"),
    ] {
        let text = challenge(registry.call(method, &target, &[], b"").expect_error(401, "UNAUTHORIZED"));
        assert!(text.ends_with(&format!("scope=\"repository:{scope}\"")), "{text}");
    }
    // A host that would end the quotes does not.
    connection.send(b"GET /v2/ HTTP/1.1\r\nHost: a\",x=\"b\r\n\r\n").unwrap();
    if let Ok(answer) = connection.answer("GET") {
        assert_eq!(answer.header("www-authenticate").map_or(4, |text| text.matches('"').count()), 4);
    }

    let bob = token(&registry, Some("bob"), &["repository:team/app:pull,push"]);
    with(&registry, &bob, "GET", "/v2/", b"").expect(200);
    let target = format!("/v2/team/app/blobs/uploads/?digest={}", sha256(b"{}"));
    with(&registry, &bob, "POST", &target, b"{}").expect(201);
    let manifest = image(b"{}", &[]);
    with(&registry, &bob, "PUT", "/v2/team/app/manifests/t", manifest.to_string().as_bytes()).expect(201);
    with(&registry, &bob, "GET", "/v2/team/app/manifests/t", b"").expect(200);
    // The same without a token, by name and password.
    with(&registry, &basic("bob:bob"), "GET", "/v2/team/app/tags/list", b"").expect(200);
    with(&registry, &basic("bob:x"), "GET", "/v2/team/app/tags/list", b"").expect_error(401, "UNAUTHORIZED");
}

#[test]
fn a_token_is_for_what_was_asked_and_allowed() {
    let (registry, _dir) = registry();
    let blob = format!("/v2/team/app/blobs/uploads/?digest={}", sha256(b"x"));
    // Asked for too little: ask again. Not allowed: no other token would help.
    let little = token(&registry, Some("bob"), &["repository:team/app:pull"]);
    let answer = with(&registry, &little, "POST", &blob, b"x").expect_error(401, "UNAUTHORIZED");
    assert!(answer.must("www-authenticate").contains("error=\"insufficient_scope\""));
    let other = token(&registry, Some("bob"), &["repository:team/other:pull,push"]);
    with(&registry, &other, "POST", &blob, b"x").expect_error(401, "UNAUTHORIZED");
    let eve = token(&registry, Some("eve"), &["repository:team/app:pull,push,delete"]);
    with(&registry, &eve, "POST", &blob, b"x").expect_error(403, "DENIED");
    with(&registry, &eve, "GET", "/v2/team/app/tags/list", b"").expect_error(403, "DENIED");
    with(&registry, &basic("eve:eve"), "GET", "/v2/team/app/tags/list", b"").expect_error(403, "DENIED");
    let bob = token(&registry, Some("bob"), &["repository:team/app:*"]);
    with(&registry, &bob, "POST", &blob, b"x").expect(201);
    let target = format!("/v2/team/app/blobs/{}", sha256(b"x"));
    with(&registry, &bob, "DELETE", &target, b"").expect_error(403, "DENIED");
    with(&registry, &token(&registry, Some("ann"), &["repository:team/app:*"]), "DELETE", &target, b"").expect(202);
    // Several scopes, in one parameter and in several.
    let two = token(&registry, Some("ann"), &["repository:a:pull,push repository:b:pull", "repository:c:push"]);
    let start = |name: &str| with(&registry, &two, "POST", &format!("/v2/{name}/blobs/uploads/"), b"").status;
    assert_eq!([start("a"), start("b"), start("c")], [202, 401, 202]);
}

#[test]
fn anonymous_clients_pull_what_is_public() {
    let (registry, _dir) = registry();
    let ann = token(
        &registry,
        Some("ann"),
        &["repository:public/x:push", "repository:secret:push", "repository:shared:push"],
    );
    for name in ["public/x", "secret", "shared"] {
        with(&registry, &ann, "POST", &format!("/v2/{name}/blobs/uploads/?digest={}", sha256(b"{}")), b"{}")
            .expect(201);
        let manifest = image(b"{}", &[]).to_string();
        with(&registry, &ann, "PUT", &format!("/v2/{name}/manifests/t"), manifest.as_bytes()).expect(201);
    }
    let anonymous = token(&registry, None, &["repository:public/x:pull,push repository:secret:pull"]);
    with(&registry, &anonymous, "GET", "/v2/", b"").expect(200);
    with(&registry, &anonymous, "GET", "/v2/public/x/manifests/t", b"").expect(200);
    registry.get("/v2/public/x/manifests/t").expect(200);
    for (method, name) in [("GET", "secret"), ("GET", "shared"), ("PUT", "public/x"), ("DELETE", "public/x")] {
        let target = format!("/v2/{name}/manifests/t");
        // A login might help, so it is asked for.
        with(&registry, &anonymous, method, &target, b"").expect_error(401, "UNAUTHORIZED");
        registry.call(method, &target, &[], b"").expect_error(401, "UNAUTHORIZED");
    }
    // The catalog shows what one may pull.
    let catalog =
        |auth: &str| with(&registry, auth, "GET", "/v2/_catalog", b"").expect(200).json()["repositories"].clone();
    assert_eq!(catalog(&anonymous), json!(["public/x"]));
    assert_eq!(catalog(&basic("eve:eve")), json!(["public/x", "shared"]));
    assert_eq!(catalog(&basic("ann:ann")), json!(["public/x", "secret", "shared"]));
    registry.get("/v2/_catalog").expect_error(401, "UNAUTHORIZED");
    // A blob is not mounted from where one may not pull.
    let bob = token(&registry, Some("bob"), &["repository:team/app:pull,push", "repository:secret:pull"]);
    let mount = |from: &str| {
        let target = format!("/v2/team/app/blobs/uploads/?mount={}&from={from}", sha256(b"{}"));
        with(&registry, &bob, "POST", &target, b"").status
    };
    assert_eq!([mount("secret"), mount("shared")], [202, 201]);
}

#[test]
fn tokens_that_are_not_ours_are_not_good() {
    let (registry, _dir) = registry();
    let good = token(&registry, Some("ann"), &["repository:a:pull"]);
    let (other, _other_dir) = self::registry();
    let foreign = token(&other, Some("ann"), &["repository:a:pull"]);
    for bad in [&foreign, &format!("{good}x"), "Bearer ", "Bearer a.b.c", "Bearer"] {
        let answer = with(&registry, bad, "GET", "/v2/", b"").expect_error(401, "UNAUTHORIZED");
        assert!(answer.must("www-authenticate").starts_with("Bearer realm="));
    }
    for (query, auth) in [("", basic("ann:wrong")), ("", basic("carl:carl")), ("", "Bearer x".to_owned())] {
        let answer = with(&registry, &auth, "GET", &format!("/token?{query}"), b"").expect_error(401, "UNAUTHORIZED");
        assert!(answer.must("www-authenticate").starts_with("Basic "));
    }
    registry.get("/token?service=another").expect_error(400, "UNSUPPORTED");
    let many = "&scope=repository:a:pull".repeat(40);
    registry.get(&format!("/token?service=dhow-registry{many}")).expect_error(400, "UNSUPPORTED");
    registry.call("POST", "/token", &[], b"grant_type=password").expect_error(405, "UNSUPPORTED");
    Registry::start().get("/token").expect_error(404, "UNSUPPORTED");
}

#[test]
fn a_reload_takes_rights_from_tokens_that_are_out() {
    let (registry, dir) = registry();
    let bob = token(&registry, Some("bob"), &["repository:team/app:pull,push"]);
    with(&registry, &bob, "GET", "/v2/team/app/tags/list", b"").expect(404);
    let access = dir.path().join("access");
    fs::write(&access, RULES.replace("group devs ann bob", "group devs ann")).unwrap();
    registry.runtime.block_on(registry.control.reload()).unwrap();
    with(&registry, &bob, "GET", "/v2/team/app/tags/list", b"").expect_error(403, "DENIED");
    fs::write(&access, "allow everything").unwrap();
    let error = registry.runtime.block_on(registry.control.reload()).unwrap_err();
    assert!(error.to_string().contains("line 1"), "{error}");
    let ann = token(&registry, Some("ann"), &["repository:team/app:pull"]);
    with(&registry, &ann, "GET", "/v2/team/app/tags/list", b"").expect(404);
}
