//! The policy for signatures: images signed by skopeo, and by OpenSSL in the Notary Project's form, at our registry;
//! pulled, run, refused.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use e2e::{Client, Daemon, Options};
use serde_json::{Value, json};

use crate::registry_serve::{Programs, Registry};

/// A registry with `app:1`, signed, `plain:1`, not signed, and `replay:1`, the signed image with its signature under
/// another name; and a daemon with a policy.
struct Signed {
    registry: Registry,
    daemon: Daemon,
    programs: Programs,
}

impl Signed {
    fn start() -> Option<Self> {
        let registry = Registry::start(&[])?;
        let flags = vec!["--trust-policy".to_owned(), registry.path("trust.json")];
        fs::write(registry.path("trust.json"), r#"{"version":1,"default":{"action":"accept"}}"#).unwrap();
        let daemon = Daemon::start_with(Options { flags, ..Options::default() })?;
        let programs = Programs::new(daemon.environment.peers.as_ref()?, &registry);
        let made = Self { registry, daemon, programs };
        made.daemon.busybox();
        let archive = made.registry.path("saved.tar");
        made.daemon.docker().run(&["save", "-o", &archive, "busybox:latest"]);
        fs::write(made.registry.path("pass"), "pw").unwrap();
        for key in ["release", "other"] {
            let (prefix, pass) = (made.registry.path(key), made.registry.path("pass"));
            made.programs.run(&[
                "skopeo",
                "generate-sigstore-key",
                "--output-prefix",
                &prefix,
                "--passphrase-file",
                &pass,
            ]);
        }
        fs::create_dir(made.registry.path("registries.d")).unwrap();
        let attach = format!("docker:\n  {}:\n    use-sigstore-attachments: true\n", made.registry.address);
        fs::write(made.registry.path("registries.d/a.yaml"), attach).unwrap();
        made.fill("app:1", true);
        made.fill("plain:1", false);
        let digest = made.registry.digest("app", "1");
        let tag = format!("sha256-{}.sig", digest.trim_start_matches("sha256:"));
        for (from, to) in [("app:1", "replay:1".to_owned()), (&*format!("app:{tag}"), format!("replay:{tag}"))] {
            let (from, to) = (made.url(from), made.url(&to));
            let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
            made.programs.run(&["skopeo", "copy", "-q", insecure[0], insecure[1], &from, &to]);
        }
        Some(made)
    }

    fn url(&self, name: &str) -> String {
        format!("docker://{}", self.registry.name(name))
    }

    fn fill(&self, name: &str, sign: bool) {
        let (registries, key) = (self.registry.path("registries.d"), self.registry.path("release.private"));
        let (pass, from) = (self.registry.path("pass"), format!("docker-archive:{}", self.registry.path("saved.tar")));
        let to = self.url(name);
        let mut words = vec!["skopeo", "--registries.d", &registries, "copy", "-q", "--dest-tls-verify=false"];
        if sign {
            words.extend(["--sign-by-sigstore-private-key", &key, "--sign-passphrase-file", &pass]);
        }
        words.extend([from.as_str(), to.as_str()]);
        self.programs.run(&words);
    }

    fn policy(&self, text: &Value) {
        // In place at once, as an administrator should.
        fs::write(self.registry.path("trust.new"), text.to_string()).unwrap();
        fs::rename(self.registry.path("trust.new"), self.registry.path("trust.json")).unwrap();
    }

    /// Everything at the registry must be signed with a key; more is laid over the rule.
    fn require(&self, key: &str, more: &Value) -> Value {
        let mut rule = json!({"action": "require", "any-of": ["release"]});
        for (name, value) in more.as_object().unwrap() {
            rule[name] = value.clone();
        }
        json!({
            "version": 1,
            "default": {"action": "accept"},
            "rules": {self.registry.address.clone(): rule},
            "signers": {"release": {"type": "cosign", "key": self.registry.path(&format!("{key}.pub"))}},
        })
    }

    fn images(&self) -> Vec<String> {
        self.daemon
            .docker()
            .run(&["images", "--format", "{{.Repository}}:{{.Tag}}"])
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

#[test]
fn what_is_not_signed_is_neither_pulled_nor_run() {
    let Some(world) = Signed::start() else { return };
    let (daemon, name) = (&world.daemon, |name: &str| world.registry.name(name));
    // Pulled before there was a rule.
    daemon.docker().run(&["pull", &name("plain:1")]);
    world.policy(&world.require("release", &json!({})));
    daemon
        .docker()
        .try_run(&["run", "--rm", &name("plain:1"), "true"])
        .expect_error(125, "none was recorded when it came; pull");
    daemon.docker().run(&["rmi", &name("plain:1")]);
    for client in daemon.clients() {
        for (image, why) in [
            ("plain:1", "has no signature by release that the rule for 127.0.0.1:"),
            ("replay:1", "it was made for 127.0.0.1:"),
        ] {
            let output = client.try_run(&["pull", &name(image)]);
            output.expect_error(1, "refused by the trust policy");
            output.expect_error(1, why);
            client.try_run(&["run", "--rm", &name(image), "true"]).expect_error(125, why);
        }
        assert_eq!(world.images(), ["busybox:latest"], "nothing half-made stays");
        let pulled = client.run(&["pull", &name("app:1")]);
        assert!(pulled.contains("Signature: verified, release (ECDSA P-256 key "), "{pulled}");
        assert!(client.run(&["pull", &name("app:1")]).contains("up to date"));
        assert_eq!(client.run(&["run", "--rm", &name("app:1"), "echo", "signed"]), "signed");
        client.run(&["rmi", &name("app:1")]);
        // What was made here is not asked for signatures.
        assert_eq!(client.run(&["run", "--rm", "busybox", "echo", "local"]), "local");
    }
    // The client counts in whole seconds: what happened in the present one is not until now.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let events = daemon.docker().run(&["events", "--since", "5m", "--until", "0s", "--filter", "event=verify"]);
    assert!(events.contains("verify.result=refused") && events.contains("verify.result=accepted"), "{events}");
    assert!(events.contains("verify.signers=release"), "{events}");
}

#[test]
fn a_verdict_is_recorded_and_follows_the_policy() {
    let Some(mut world) = Signed::start() else { return };
    let name = |world: &Signed, name: &str| world.registry.name(name);
    world.policy(&world.require("release", &json!({})));
    let app = name(&world, "app:1");
    world.daemon.docker().run(&["pull", &app]);
    let digest = format!("{}@{}", name(&world, "app"), world.registry.digest("app", "1"));
    // After a crash, without the registry, by every name.
    world.daemon.kill();
    world.daemon.launch();
    let docker = world.daemon.docker();
    docker.run(&["tag", &app, "mine:1"]);
    let id = docker.inspect(&app)["Id"].as_str().unwrap().to_owned();
    let run = |docker: &Client, image: &str| docker.try_run(&["run", "--rm", image, "true"]);
    for image in [&app, &digest, &id, "mine:1"] {
        run(&docker, image).expect_code(0);
    }
    // The key is taken back: whatever the image is called.
    world.policy(&world.require("other", &json!({})));
    for image in [&app, &digest, &id, "mine:1"] {
        run(&docker, image).expect_error(125, "another key or other conditions");
    }
    docker
        .try_run(&["run", "--rm", "--mount", &format!("type=image,src={app},dst=/x"), "busybox", "true"])
        .expect_error(125, "another key or other conditions");
    // Tried out, it is told and let through.
    world.policy(&world.require("other", &json!({"mode": "dry-run"})));
    let output = run(&docker, &app);
    output.expect_code(0);
    assert!(output.stderr.contains("would refuse this image if it were enforced"), "{output:?}");
    let pulled = docker.run(&["pull", &app]);
    assert!(pulled.contains("Warning:") && pulled.contains("not by this signer's key"), "{pulled}");
    // Asked for anew at each run.
    world.policy(&world.require("release", &json!({"on-run": "recheck"})));
    run(&docker, &app).expect_code(0);
    world.policy(&world.require("other", &json!({"on-run": "recheck"})));
    run(&docker, &app).expect_error(125, "not by this signer's key");
    // Names and images of one's own.
    let mut policy = world.require("release", &json!({}));
    policy["default"] = json!({"action": "accept", "local": "reject"});
    world.policy(&policy);
    run(&docker, &app).expect_code(0);
    run(&docker, "mine:1").expect_error(125, "takes only what was pulled");
    run(&docker, "busybox").expect_error(125, "takes only what was pulled");
    world.policy(&json!({"version": 1, "default": {"action": "reject"}}));
    docker.try_run(&["pull", &app]).expect_error(1, "the rule for default rejects its images");
    run(&docker, &app).expect_error(125, "rejects its images");
    run(&docker, "busybox").expect_code(0);
}

#[test]
fn a_policy_that_cannot_be_read_refuses() {
    let Some(world) = Signed::start() else { return };
    let (docker, app, path) = (world.daemon.docker(), world.registry.name("app:1"), world.registry.path("trust.json"));
    docker.run(&["pull", &app]);
    let refused = |why: &str| {
        for (code, words) in [(1, vec!["pull", &app]), (125, vec!["run", "--rm", &app, "true"])] {
            let output = docker.try_run(&words);
            output.expect_error(code, &path);
            output.expect_error(code, why);
        }
    };
    fs::write(&path, "{\"version\":1,\"default\":{\"action\":\"perhaps\"}}").unwrap();
    refused("at default.action: unknown variant `perhaps`");
    fs::write(&path, "{\"version\":1,\n\"default\":").unwrap();
    refused("EOF while parsing a value at line 2");
    fs::remove_file(&path).unwrap();
    refused("there is no such file");
    let mut policy = world.require("none", &json!({}));
    world.policy(&policy);
    docker.try_run(&["pull", &app]).expect_error(1, "the key of signer release");
    policy["rules"] = json!({});
    world.policy(&policy);
    docker.run(&["pull", &app]);
}

#[test]
fn dhow_image_verify_shows_why() {
    let Some(world) = Signed::start() else { return };
    let (dhow, name) = (world.daemon.dhow(), |name: &str| world.registry.name(name));
    assert!(dhow.run(&["image", "verify", &name("plain:1")]).contains("Rule:    default (enforce)\nVerdict: accepted"));
    let policy = world.registry.path("tried.json");
    fs::write(&policy, world.require("release", &json!({"mode": "dry-run"})).to_string()).unwrap();
    let verify = |image: &str| dhow.try_run(&["image", "verify", "--policy", &policy, &name(image)]);
    let good = verify("app:1");
    good.expect_code(0);
    for words in [&policy, "(cosign, on the manifest) for release: good", "ECDSA P-256 key", "Verdict: accepted"] {
        assert!(good.stdout.contains(words), "{words}: {}", good.stdout);
    }
    for (image, why) in [("plain:1", "it has none at all"), ("replay:1", "it was made for")] {
        let bad = verify(image);
        bad.expect_code(1);
        assert!(bad.stdout.contains("Verdict: would-refuse") && bad.stdout.contains(why), "{}", bad.stdout);
    }
    verify("nosuch:1").expect_error(1, "not found");
    fs::write(&policy, "{}").unwrap();
    verify("app:1").expect_error(1, "missing field `version`");
}

/// What we take, skopeo takes by its own policy, and what we refuse it refuses.
#[test]
fn skopeo_agrees() {
    let Some(world) = Signed::start() else { return };
    world.policy(&world.require("release", &json!({})));
    let policy = world.registry.path("policy.json");
    let key = world.registry.path("release.pub");
    let text =
        json!({"default": [{"type": "sigstoreSigned", "keyPath": key, "signedIdentity": {"type": "matchRepository"}}]});
    fs::write(&policy, text.to_string()).unwrap();
    let (registries, docker) = (world.registry.path("registries.d"), world.daemon.docker());
    for (image, good) in [("app:1", true), ("plain:1", false), ("replay:1", false)] {
        let to = format!("dir:{}", world.registry.path(&image.replace(':', "-")));
        let theirs = world.programs.try_run(&[
            "skopeo",
            "--registries.d",
            &registries,
            "--policy",
            &policy,
            "copy",
            "-q",
            "--src-tls-verify=false",
            "--remove-signatures",
            &world.url(image),
            &to,
        ]);
        let ours = docker.try_run(&["pull", &world.registry.name(image)]);
        assert_eq!((theirs.code == 0, ours.code == 0), (good, good), "{image}: {theirs:?} {ours:?}");
    }
}

/// A request to the registry; gives the head of the answer.
fn ask(address: &str, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{head}\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).unwrap();
    stream.write_all(body).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn sha256(dir: &str, bytes: &[u8]) -> String {
    let path = format!("{dir}/hashed");
    fs::write(&path, bytes).unwrap();
    let output = Command::new("sha256sum").arg(&path).output().unwrap();
    format!("sha256:{}", &String::from_utf8(output.stdout).unwrap()[..64])
}

/// An envelope that refers to `app:1`, signed by a certificate for code signing under an authority of the test.
fn attach_notation(world: &Signed) {
    let dir = world.registry.path("notation");
    fs::create_dir(&dir).unwrap();
    fs::create_dir(format!("{dir}/store")).unwrap();
    let script = r#"
        printf '[req]\ndistinguished_name=dn\n[dn]\n' >c
        printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n' >root.ext
        printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n' >leaf.ext
        for n in root leaf; do openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out $n.key; done
        openssl req -new -config c -key root.key -subj /CN=root -out r
        openssl x509 -req -in r -signkey root.key -days 30 -extfile root.ext -out store/root.crt
        openssl req -new -config c -key leaf.key -subj /C=US/ST=WA/O=Acme/CN=signer -out r
        openssl x509 -req -in r -CA store/root.crt -CAkey root.key -CAcreateserial -days 30 -extfile leaf.ext -out leaf.crt
        url() { base64 -w0 | tr -d = | tr '+/' '-_'; }
        printf '%s.%s' "$(printf %s "$PROTECTED" | url)" "$(printf %s "$PAYLOAD" | url)" >message
        openssl dgst -sha256 -sign leaf.key -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest -out signature message
        printf '{"payload":"%s","protected":"%s","header":{"x5c":["%s"]},"signature":"%s"}' \
            "$(cut -d. -f2 message)" "$(cut -d. -f1 message)" \
            "$(openssl x509 -in leaf.crt -outform DER | base64 -w0)" "$(url <signature)" >envelope"#;
    let address = &world.registry.address;
    let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
    let text = ask(address, &format!("GET /v2/app/manifests/1 HTTP/1.1\r\nAccept: {accept}"), b"");
    let image = text.split_once("\r\n\r\n").unwrap().1;
    let target = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": world.registry.digest("app", "1"), "size": image.len()});
    let protected = json!({"alg": "PS256", "cty": "application/vnd.cncf.notary.payload.v1+json",
        "crit": ["io.cncf.notary.signingScheme"], "io.cncf.notary.signingScheme": "notary.x509"});
    let status = Command::new("sh")
        .args(["-euc", script])
        .current_dir(&dir)
        .env("PROTECTED", protected.to_string())
        .env("PAYLOAD", json!({"targetArtifact": target}).to_string())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let envelope = fs::read(format!("{dir}/envelope")).unwrap();
    let mut descriptors = Vec::new();
    for (bytes, kind) in
        [(&b"{}"[..], "application/vnd.cncf.notary.signature"), (&envelope[..], "application/jose+json")]
    {
        let digest = sha256(&dir, bytes);
        let put = ask(address, &format!("POST /v2/app/blobs/uploads/?digest={digest} HTTP/1.1"), bytes);
        assert!(put.starts_with("HTTP/1.1 201"), "{put}");
        descriptors.push(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}));
    }
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptors[0], "layers": [descriptors[1]], "subject": target})
    .to_string();
    let digest = sha256(&dir, manifest.as_bytes());
    let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json";
    let put = ask(address, &format!("PUT /v2/app/manifests/{digest} HTTP/1.1\r\n{kind}"), manifest.as_bytes());
    assert!(put.starts_with("HTTP/1.1 201"), "{put}");
}

#[test]
fn notation_by_referrers() {
    let Some(world) = Signed::start() else { return };
    attach_notation(&world);
    let (docker, app) = (world.daemon.docker(), world.registry.name("app:1"));
    let policy = |identity: &str| {
        let store = world.registry.path("notation/store");
        world.policy(&json!({
            "version": 1,
            "default": {"action": "require", "all-of": ["corp"]},
            "signers": {"corp": {"type": "notation", "trust-store": store, "identities": [identity]}},
        }));
    };
    policy("x509.subject: C=US, ST=WA, O=Acme");
    let pulled = docker.run(&["pull", &app]);
    assert!(pulled.contains("Signature: verified, corp (CN=signer,O=Acme,ST=WA,C=US)"), "{pulled}");
    assert!(pulled.contains("revocation was not looked up"), "{pulled}");
    assert_eq!(docker.run(&["run", "--rm", &app, "echo", "signed"]), "signed");
    let shown = world.daemon.dhow().run(&["image", "verify", &app]);
    assert!(shown.contains("Signature (notation, on the manifest) for corp: good"), "{shown}");
    policy("x509.subject: C=US, ST=WA, O=Other");
    docker.try_run(&["run", "--rm", &app, "true"]).expect_error(125, "other conditions");
    docker.try_run(&["pull", &app]).expect_error(1, "none of the trusted identities");
    docker.try_run(&["pull", &world.registry.name("plain:1")]).expect_error(1, "it has none at all");
}
