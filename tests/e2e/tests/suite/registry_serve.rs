//! `dhow registry serve` under the clients people use: docker with a real dockerd, podman, buildah, skopeo, and our own
//! engine. Each pushes, each pulls what the others pushed, and the digest is the same everywhere.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use e2e::environment::Peers;
use e2e::{Client, Daemon, Environment, Output, clients};

/// `ann` with the password `secret`, bcrypt at cost 5.
const USERS: &str = "ann:$2b$05$WavBL6xz69LpEOuu0uClb.v3Di6yCMqUPa0H0rwMaiH1KaIf8XC8S\n";

/// Our registry on a free port, gone when dropped.
pub struct Registry {
    child: Child,
    pub address: String,
    pub dir: tempfile::TempDir,
}

impl Registry {
    /// Below `/tmp`, which the peers' root shows at the same place.
    pub fn start(flags: &[&str]) -> Option<Self> {
        let environment = Environment::get()?;
        let dir = tempfile::Builder::new().prefix("dhow-e2e-").tempdir_in("/tmp").unwrap();
        Some(Self::over(environment, dir, flags))
    }

    fn over(environment: &Environment, dir: tempfile::TempDir, flags: &[&str]) -> Self {
        let (child, address) = serve(environment, "dhow", &dir.path().join("registry"), flags);
        Self { child, address, dir }
    }

    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// The digest that the registry gives for a tag, asked without any of the clients.
    pub fn digest(&self, repository: &str, tag: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
            application/vnd.oci.image.index.v1+json";
        write!(
            stream,
            "HEAD /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let header = text.lines().find_map(|line| line.strip_prefix("docker-content-digest: "));
        header.unwrap_or_else(|| panic!("no digest of {repository}:{tag}: {text}")).to_owned()
    }
}

/// Killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the server by one of our programs; gives its process and where it listens.
pub fn serve(environment: &Environment, program: &str, root: &Path, flags: &[&str]) -> (Child, String) {
    serve_with(environment, program, root, flags, &[])
}

fn serve_with(
    environment: &Environment,
    program: &str,
    root: &Path,
    flags: &[&str],
    variables: &[(&str, String)],
) -> (Child, String) {
    let mut command = Command::new(environment.programs.join(program));
    command.args(["registry", "serve", "--addr", "127.0.0.1:0", "--log-level", "warn", "--root"]);
    command.arg(root).args(flags).stdout(Stdio::piped());
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let mut child = command.spawn().expect("the registry starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit('/').next().unwrap().to_owned();
    assert!(line.starts_with("listening on http"), "{line:?}");
    (child, address)
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The programs of the peers' root that need no daemon, on the host's network, with storage of their own.
pub struct Programs {
    holder: String,
    home: String,
}

impl Programs {
    pub fn new(peers: &Peers, registry: &Registry) -> Self {
        Self::at(peers, registry.path("home"))
    }

    /// With their files below `home`, which is below `/tmp`.
    pub fn at(peers: &Peers, home: String) -> Self {
        let holder = fs::read_to_string(peers.home.join("holder")).expect("the peers' private root is up");
        Self { holder: holder.trim().to_owned(), home }
    }

    pub fn try_run(&self, words: &[&str]) -> Output {
        fs::create_dir_all(&self.home).unwrap();
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder, "-m", "--"]).args(words).env_clear().current_dir("/");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", &self.home).env("TMPDIR", &self.home);
        // Root without namespaces of its own: nothing is run, only packed.
        command.env("BUILDAH_ISOLATION", "chroot").stdin(Stdio::null());
        clients::finish(command, words, None)
    }

    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.try_run(words);
        output.expect_code(0);
        output.stdout.trim().to_owned()
    }

    /// podman or buildah with storage below the test's directory.
    #[track_caller]
    fn stored(&self, program: &str, words: &[&str]) -> String {
        let (root, run) = (format!("{}/storage", self.home), format!("{}/run", self.home));
        let mut all = vec![program, "--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
        all.extend(words);
        self.run(&all)
    }
}

fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned()
}

/// What `docker push` and `docker pull` say of the digest.
#[track_caller]
fn told(text: &str) -> String {
    let at = text.find("igest: sha256:").unwrap_or_else(|| panic!("no digest in {text}"));
    text[at + 7..].split_whitespace().next().unwrap().to_owned()
}

/// The programs over a bucket, started as a user does; the rest is in `crates/registry/tests/api/buckets.rs`.
#[test]
fn a_registry_in_a_bucket_takes_and_gives_with_equal_digests() {
    let Some(environment) = Environment::get() else { return };
    let Some(modules) = std::env::var_os("DHOW_TEST_MOTO") else {
        eprintln!("left out: `cargo xtask test` installs the S3 server that this needs");
        return;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut moto = Command::new("python3");
    moto.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port]).env("PYTHONPATH", modules);
    let mut moto = Killed(moto.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("moto starts"));
    let made = (0..600).find_map(|_| {
        assert!(moto.0.try_wait().unwrap().is_none(), "moto ended");
        std::thread::sleep(std::time::Duration::from_millis(100));
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).ok()?;
        write!(stream, "PUT /images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    });
    assert!(made.as_ref().is_some_and(|text| text.contains(" 200 ")), "{made:?}");

    let variables = [
        ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
    ];
    let start = || {
        let dir = tempfile::Builder::new().prefix("dhow-e2e-").tempdir_in("/tmp").unwrap();
        let flags = ["--storage", "s3://images/ours"];
        let (child, address) = serve_with(environment, "dhow", &dir.path().join("registry"), &flags, &variables);
        Registry { child, address, dir }
    };
    let registry = start();
    let peers = environment.peers.as_ref().unwrap();
    let programs = Programs::new(peers, &registry);
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let own = registry.name("dhow/app:1");
    daemon.dhow().run(&["tag", "busybox:latest", &own]);
    let pushed = told(&daemon.dhow().run(&["push", &own]));
    let copy = |from: &str, to: &str, file_name: &str| {
        let digest = registry.path(file_name);
        // Left to itself it compresses what is not compressed.
        let options = [
            "skopeo",
            "copy",
            "-q",
            "--preserve-digests",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            "--digestfile",
        ];
        programs.run(&[&options[..], &[&digest, from, to]].concat());
        file(&digest)
    };
    // As it is: an OCI layout would have another manifest.
    let layout = format!("dir:{}", registry.path("layout"));
    let docker = |registry: &Registry, name: &str| format!("docker://{}", registry.name(name));
    assert_eq!(copy(&docker(&registry, "dhow/app:1"), &docker(&registry, "skopeo/app:1"), "one"), pushed);
    assert_eq!(copy(&docker(&registry, "skopeo/app:1"), &layout, "two"), pushed);
    assert_eq!(copy(&layout, &docker(&registry, "again/app:1"), "three"), pushed);

    // Killed, with its directory, and there again on another machine.
    drop(registry);
    let other = start();
    for repository in ["dhow/app", "skopeo/app", "again/app"] {
        assert_eq!(other.digest(repository, "1"), pushed, "{repository}");
    }
    let name = other.name("again/app:1");
    assert_eq!(told(&daemon.dhow().run(&["pull", &name])), pushed);
}

#[test]
fn real_clients_push_and_pull_with_equal_digests() {
    let Some(registry) = Registry::start(&[]) else { return };
    let environment = Environment::get().unwrap();
    let peers = environment.peers.as_ref().unwrap();
    let programs = Programs::new(peers, &registry);
    let config = registry.dir.path().join("docker-config");
    let docker = Client { program: peers.docker.clone(), host: peers.dockerd.clone(), config };
    let Some(daemon) = Daemon::start() else { return };
    let mut pushed: Vec<(&str, String)> = Vec::new();

    // docker, with a real dockerd; its image is removed again whatever happens.
    let own = registry.name("docker/app:1");
    docker.run(&["tag", "busybox:latest", &own]);
    let output = docker.try_run(&["push", &own]);
    docker.run(&["rmi", &own]);
    output.expect_code(0);
    pushed.push(("docker/app", told(&output.stdout)));

    // podman, from what docker pushed and with another layer.
    let insecure = "--tls-verify=false";
    programs.stored("podman", &["pull", "-q", insecure, &own]);
    programs.stored("podman", &["tag", &own, &registry.name("podman/app:1")]);
    let digest_file = registry.path("podman-digest");
    let target = registry.name("podman/app:1");
    programs.stored("podman", &["push", "-q", insecure, "--digestfile", &digest_file, &target]);
    pushed.push(("podman/app", file(&digest_file)));

    // buildah, an image of its own of two layers.
    let base = programs.stored("buildah", &["from", "scratch"]);
    fs::write(registry.path("payload"), "built by hand").unwrap();
    programs.stored("buildah", &["copy", &base, &registry.path("payload"), "/payload"]);
    programs.stored("buildah", &["config", "--label", "from=test", &base]);
    programs.stored("buildah", &["commit", "-q", &base, "built"]);
    let digest_file = registry.path("buildah-digest");
    let target = format!("docker://{}", registry.name("buildah/app:1"));
    programs.stored("buildah", &["push", "-q", insecure, "--digestfile", &digest_file, "built", &target]);
    pushed.push(("buildah/app", file(&digest_file)));

    // skopeo, between two repositories of the registry (which mounts) and from an archive.
    let digest_file = registry.path("skopeo-digest");
    let (from, to) = (format!("docker://{own}"), format!("docker://{}", registry.name("skopeo/app:1")));
    programs.run(&[
        "skopeo",
        "copy",
        "-q",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--digestfile",
        &digest_file,
        &from,
        &to,
    ]);
    pushed.push(("skopeo/app", file(&digest_file)));
    assert_eq!(pushed[0].1, pushed[3].1, "a copy has the digest of what it was made from");

    for (repository, digest) in &pushed {
        assert_eq!(registry.digest(repository, "1"), *digest, "{repository}");
        let name = registry.name(&format!("{repository}:1"));

        let output = docker.try_run(&["pull", &name]);
        docker.try_run(&["rmi", &name]);
        output.expect_code(0);
        assert_eq!(told(&output.stdout), *digest, "docker {repository}");

        programs.stored("podman", &["rmi", "-a", "-f"]);
        programs.stored("podman", &["pull", "-q", insecure, &name]);
        let seen = programs.stored("podman", &["image", "inspect", "--format", "{{.Digest}}", &name]);
        assert_eq!(seen, *digest, "podman {repository}");

        let container = programs.stored("buildah", &["from", "--pull-always", insecure, &name]);
        let seen = programs.stored("buildah", &["inspect", "--format", "{{.FromImageDigest}}", &container]);
        assert_eq!(seen, *digest, "buildah {repository}");
        programs.stored("buildah", &["rm", &container]);

        let seen =
            programs.run(&["skopeo", "inspect", insecure, "--format", "{{.Digest}}", &format!("docker://{name}")]);
        assert_eq!(seen, *digest, "skopeo {repository}");

        let pulled = daemon.docker().run(&["pull", &name]);
        assert_eq!(told(&pulled), *digest, "our engine {repository}");
    }
    let listed = programs.run(&["skopeo", "list-tags", insecure, &format!("docker://{}", registry.name("podman/app"))]);
    assert!(listed.contains("\"1\""), "{listed}");
    let target = format!("docker://{}", registry.name("skopeo/app:1"));
    programs.run(&["skopeo", "delete", insecure, &target]);
    programs.try_run(&["skopeo", "inspect", insecure, &target]).expect_error(2, "manifest unknown");
}

#[test]
fn clients_log_in_over_tls() {
    let Some(environment) = Environment::get() else { return };
    let peers = environment.peers.as_ref().unwrap();
    let dir = tempfile::Builder::new().prefix("dhow-e2e-").tempdir_in("/tmp").unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    certificate(dir.path());
    fs::write(path("htpasswd"), USERS).unwrap();
    let (users, chain, key) = (path("htpasswd"), path("ca.crt"), path("key.pem"));
    let registry = Registry::over(environment, dir, &["--htpasswd", &users, "--tls-cert", &chain, "--tls-key", &key]);
    let programs = Programs::new(peers, &registry);
    let auth = registry.path("auth.json");
    let certs = registry.path("certs");
    fs::create_dir(&certs).unwrap();
    fs::copy(&chain, format!("{certs}/ca.crt")).unwrap();
    let login = |password| {
        let words = [
            "skopeo",
            "login",
            "--authfile",
            &auth,
            "--cert-dir",
            &certs,
            "-u",
            "ann",
            "-p",
            password,
            &registry.address,
        ];
        programs.try_run(&words)
    };
    login("wrong").expect_error(1, "invalid username/password");
    login("secret").expect_code(0);
    fs::write(registry.path("payload"), "over TLS").unwrap();
    let base = programs.stored("buildah", &["from", "scratch"]);
    programs.stored("buildah", &["copy", &base, &registry.path("payload"), "/payload"]);
    let digest_file = registry.path("digest");
    let target = format!("docker://{}", registry.name("app:1"));
    programs.stored("buildah", &["commit", "-q", &base, "built"]);
    let push =
        ["push", "-q", "--authfile", &auth, "--cert-dir", &certs, "--digestfile", &digest_file, "built", &target];
    programs.stored("buildah", &push);
    let inspect = ["skopeo", "inspect", "--cert-dir", &certs, "--format", "{{.Digest}}", &target];
    let mut with_login = inspect.to_vec();
    with_login.extend(["--authfile", &auth]);
    assert_eq!(programs.run(&with_login), file(&digest_file));
    programs.try_run(&inspect).expect_error(1, "unauthorized");
    // docker's own login; dockerd takes any certificate of a loopback address.
    let docker =
        Client { program: peers.docker.clone(), host: peers.dockerd.clone(), config: registry.path("docker").into() };
    let address = registry.address.as_str();
    let output = docker.try_run_with(&["login", "-u", "ann", "--password-stdin", address], b"wrong");
    assert_ne!(output.code, 0, "{output:?}");
    docker.try_run_with(&["login", "-u", "ann", "--password-stdin", address], b"secret").expect_code(0);
    let name = registry.name("app:1");
    let output = docker.try_run(&["pull", &name]);
    docker.try_run(&["rmi", &name]);
    output.expect_code(0);
    assert_eq!(told(&output.stdout), file(&digest_file));
}

#[test]
fn clients_get_tokens_for_what_the_access_file_allows() {
    let Some(environment) = Environment::get() else { return };
    let peers = environment.peers.as_ref().unwrap();
    let dir = tempfile::Builder::new().prefix("dhow-e2e-").tempdir_in("/tmp").unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("htpasswd"), USERS).unwrap();
    fs::write(path("access"), "allow user:ann ** pull push delete\nallow anonymous public/** pull\n").unwrap();
    let (users, access) = (path("htpasswd"), path("access"));
    let registry = Registry::over(environment, dir, &["--htpasswd", &users, "--access", &access]);
    let programs = Programs::new(peers, &registry);
    let insecure = "--tls-verify=false";
    fs::write(registry.path("payload"), "by token").unwrap();
    let base = programs.stored("buildah", &["from", "scratch"]);
    programs.stored("buildah", &["copy", &base, &registry.path("payload"), "/payload"]);
    programs.stored("buildah", &["commit", "-q", &base, "built"]);
    let digest_file = registry.path("digest");
    let target = |name: &str| format!("docker://{}", registry.name(name));
    for name in ["public/app:1", "private/app:1"] {
        let creds = ["--creds", "ann:secret", "--digestfile", &digest_file];
        let mut push = vec!["push", "-q", insecure];
        push.extend(creds);
        let target = target(name);
        push.extend(["built", &target]);
        programs.stored("podman", &push);
    }
    // A mount between repositories, which needs rights in both.
    let (from, to) = (target("private/app:1"), target("public/copy:1"));
    programs.run(&[
        "skopeo",
        "copy",
        "-q",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--src-creds",
        "ann:secret",
        "--dest-creds",
        "ann:secret",
        &from,
        &to,
    ]);
    let inspect = |name: &str| programs.try_run(&["skopeo", "inspect", "--no-creds", insecure, &target(name)]);
    inspect("public/app:1").expect_code(0);
    inspect("public/copy:1").expect_code(0);
    inspect("private/app:1").expect_error(1, "denied");
    // docker: without a login, with one, and pushing.
    let config = registry.dir.path().join("docker");
    let docker = Client { program: peers.docker.clone(), host: peers.dockerd.clone(), config };
    let (public, private) = (registry.name("public/app:1"), registry.name("private/app:1"));
    let pull = |name: &str| {
        let output = docker.try_run(&["pull", name]);
        docker.try_run(&["rmi", name]);
        output
    };
    assert_eq!(told(&pull(&public).expect_code(0).stdout), file(&digest_file));
    assert_ne!(pull(&private).code, 0);
    docker.run(&["tag", "busybox:latest", &public]);
    let refused = docker.try_run(&["push", &public]);
    let login = ["login", "-u", "ann", "--password-stdin", &registry.address];
    assert_ne!(docker.try_run_with(&login, b"wrong").code, 0);
    docker.try_run_with(&login, b"secret").expect_code(0);
    let taken = docker.try_run(&["push", &public]);
    docker.run(&["rmi", &public]);
    assert_ne!(refused.code, 0, "{refused:?}");
    taken.expect_code(0);
    pull(&private).expect_code(0);
    // Our engine asks for tokens too.
    let Some(daemon) = Daemon::start() else { return };
    daemon.docker().run(&["pull", &public]);
    assert_ne!(daemon.docker().try_run(&["pull", &private]).code, 0);
}

/// `ca.crt`, which signs itself for 127.0.0.1, and `key.pem`.
fn certificate(dir: &Path) {
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=registry.test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("ca.crt"))
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("openssl runs").success());
}

/// The long flags of a help text and their defaults.
fn flags(program: &Path) -> Vec<(String, Option<String>)> {
    let output = Command::new(program).args(["registry", "serve", "--help"]).output().expect("the program runs");
    let text = String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let entries = text.split(" --").skip(1).map(|entry| {
        let name = entry.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap().to_owned();
        let default = entry.split_once("(default ").or_else(|| entry.split_once("[default: "));
        let default = default.map(|(_, rest)| rest.split([')', ']']).next().unwrap().trim_matches('"').to_owned());
        (name, default.filter(|value| value != "false"))
    });
    let mut all: Vec<_> = entries.filter(|(name, _)| name != "help").collect();
    all.sort();
    all
}

#[test]
fn client_and_server_have_the_same_flags() {
    let Some(environment) = Environment::get() else { return };
    let ours = flags(&environment.programs.join("dhow"));
    assert!(ours.len() >= 12, "{ours:?}");
    assert_eq!(ours, flags(&environment.programs.join("dhowd")));
}

#[test]
fn archives_go_to_podman_and_back() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let Some(registry) = Registry::start(&[]) else { return };
    let peers = daemon.environment.peers.as_ref().unwrap();
    let programs = Programs::new(peers, &registry);
    let (ours, theirs) = (registry.path("ours.tar"), registry.path("theirs.tar"));
    for (client, name) in daemon.clients().into_iter().zip(["one", "two"]) {
        client.run(&["run", "--name", name, "busybox", "sh", "-c", &format!("echo {name} >/mark")]);
        client.run(&["commit", "-c", &format!("LABEL mark={name}"), name, &format!("app:{name}")]);
        let image = format!("app:{name}");
        let before = client.json(&["image", "inspect", &image])[0].clone();
        client.run(&["save", "-o", &ours, &image]);
        client.run(&["rmi", "-f", &image]);
        programs.stored("podman", &["load", "-q", "-i", &ours]);
        for format in ["docker-archive", "oci-archive"] {
            let _ = fs::remove_file(&theirs);
            programs.stored("podman", &["save", "-q", "--format", format, "-o", &theirs, &image]);
            client.run(&["load", "-i", &theirs]);
            // podman calls what it loaded without a registry `localhost/…`, except when it was an OCI archive.
            let named = [format!("localhost/{image}"), image.clone(), format!("docker.io/library/{image}")];
            let found = named.iter().find(|name| client.try_run(&["image", "inspect", name]).code == 0);
            let found = found.unwrap_or_else(|| panic!("{}", client.run(&["images"])));
            let after = client.json(&["image", "inspect", found])[0].clone();
            // Layers are told by the digests of their uncompressed archives: every byte of them came back.
            assert_eq!(after["RootFS"], before["RootFS"], "{format}");
            assert_eq!(after["Config"]["Labels"], before["Config"]["Labels"], "{format}");
            assert_eq!(client.run(&["run", "--rm", found, "cat", "/mark"]), name, "{format}");
            client.run(&["rmi", "-f", found]);
        }
        client.run(&["rm", name]);
    }
}
