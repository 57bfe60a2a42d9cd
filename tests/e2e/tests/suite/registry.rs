//! Pulls from a real registry.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use e2e::{Daemon, Options};

use crate::eventually;

/// Debian's registry on a free port, gone when dropped.
pub struct Registry {
    child: Child,
    pub address: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp: {{addr: \"{address}\"}}\n",
            dir.path().display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self { child: command.spawn().expect("docker-registry runs"), address, _dir: dir };
        eventually(10, "the registry", || std::net::TcpStream::connect(&registry.address).is_ok());
        registry
    }

    fn fill(&self, archive: &str, name: &str) {
        let target = format!("docker://{}/{name}", self.address);
        let status = Command::new("skopeo")
            .args(["copy", "--quiet", "--dest-tls-verify=false", &format!("docker-archive:{archive}"), &target])
            .status();
        assert!(status.expect("skopeo runs").success());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn pull_run_and_pull_again() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let registry = Registry::start();
    let archive = daemon.dir.path().join("saved.tar");
    let archive = archive.to_str().unwrap();
    daemon.docker().run(&["save", "-o", archive, "busybox:latest"]);
    registry.fill(archive, "team/app:1");
    let name = format!("{}/team/app:1", registry.address);
    for client in daemon.clients() {
        let pulled = client.run(&["pull", &name]);
        assert!(pulled.contains("Status: Downloaded newer image for"), "{pulled}");
        let again = client.run(&["pull", &name]);
        assert!(again.contains("Status: Image is up to date for"), "{again}");
        assert_eq!(client.run(&["run", "--rm", &name, "echo", "pulled"]), "pulled");
        let digest = client.json(&["image", "inspect", &name])[0]["RepoDigests"][0].as_str().unwrap().to_owned();
        client.run(&["rmi", &name]);
        // `run` pulls what is missing, by digest too.
        assert!(client.run(&["run", "--rm", &digest, "echo", "by digest"]).ends_with("by digest"));
        client.run(&["rmi", &digest]);
        client.try_run(&["pull", &format!("{}/team/app:nosuch", registry.address)]).expect_error(1, "not found");
        client.try_run(&["pull", "127.0.0.1:1/x"]).expect_error(1, "connection refused");
    }
}

#[test]
fn a_pulled_layer_that_lies_is_refused() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let registry = Registry::start();
    let archive = daemon.dir.path().join("saved.tar");
    daemon.docker().run(&["save", "-o", archive.to_str().unwrap(), "busybox:latest"]);
    daemon.docker().run(&["rmi", "busybox"]);
    registry.fill(archive.to_str().unwrap(), "bad:1");
    // Flip one byte in the largest blob the registry holds.
    let mut largest = (0, std::path::PathBuf::new());
    let mut queue = vec![registry._dir.path().join("data")];
    while let Some(dir) = queue.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                queue.push(entry.path());
            } else if meta.len() > largest.0 {
                largest = (meta.len(), entry.path());
            }
        }
    }
    let mut bytes = fs::read(&largest.1).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest.1, bytes).unwrap();
    let output = daemon.docker().try_run(&["pull", &format!("{}/bad:1", registry.address)]);
    assert_ne!(output.code, 0, "{output:?}");
    assert_eq!(daemon.docker().run(&["images", "-aq"]), "", "nothing half-made stays");
    let layers = daemon.data_root().join("layers");
    let left = fs::read_dir(layers).into_iter().flatten().flatten().filter(|entry| entry.file_name().len() == 64);
    assert_eq!(left.count(), 0, "no layer stays");
}

/// A request by curl; what came.
fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--fail"]).args(arguments).output().expect("curl runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_hosts_file_says_where_a_registry_is_and_what_refers_to_images_is_listed() {
    let Some(ready) = Daemon::start() else { return };
    ready.busybox();
    let registry = Registry::start();
    let archive = ready.dir.path().join("saved.tar");
    let archive = archive.to_str().unwrap();
    ready.docker().run(&["save", "-o", archive, "busybox:latest"]);
    registry.fill(archive, "team/app:1");
    drop(ready);

    let rules = tempfile::tempdir().unwrap();
    let flag = format!("--registry-config-dir={}", rules.path().display());
    let Some(daemon) = Daemon::start_with(Options { flags: vec![flag], ..Options::default() }) else { return };
    let own = rules.path().join("hub.invalid:5000");
    fs::create_dir(&own).unwrap();
    let hosts = own.join("hosts.toml");
    let name = "hub.invalid:5000/team/app:1";
    for client in daemon.clients() {
        fs::write(&hosts, "server = \"https://hub.invalid\"\nservr = 1").unwrap();
        let error = client.try_run(&["pull", name]);
        error.expect_error(1, "line 2, key servr");
        assert!(error.stderr.contains(hosts.to_str().unwrap()), "{error:?}");
        // No restart in between.
        fs::write(&hosts, format!("[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]", registry.address))
            .unwrap();
        assert_eq!(client.run(&["run", "--rm", name, "echo", "from there"]).lines().last(), Some("from there"));
        client.run(&["rmi", name]);
    }

    // A mirror that knows of none does not settle it; the server does.
    let dhow = daemon.dhow();
    dhow.try_run(&["image", "referrers", name]).expect_error(1, "hub.invalid");
    fs::write(&hosts, format!("server = \"http://{}\"", registry.address)).unwrap();
    assert_eq!(dhow.run(&["image", "referrers", name]).lines().count(), 1);
    let manifest = "application/vnd.docker.distribution.manifest.v2+json";
    let at = format!("http://{}/v2/team/app/manifests", registry.address);
    let document = curl(&["-H", &format!("Accept: {manifest}"), &format!("{at}/1")]) + "\n";
    let put = |tag: &str, kind: &str, body: &str| {
        curl(&["-X", "PUT", "-H", &format!("Content-Type: {kind}"), "--data-binary", body, &format!("{at}/{tag}")])
    };
    put("signature", manifest, &document);
    let (subject, signature) = (digest_at(&registry, "team/app:1"), digest_at(&registry, "team/app:signature"));
    let index = "application/vnd.oci.image.index.v1+json";
    let list = format!(
        r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[{{"mediaType":"{manifest}","digest":"{signature}","size":{},"artifactType":"application/x-signature"}}]}}"#,
        document.len()
    );
    put(&subject.replace(':', "-"), index, &list);
    let listed = dhow.run(&["image", "referrers", name]);
    assert!(listed.starts_with("DIGEST") && listed.contains("application/x-signature"), "{listed}");
    let by_digest = format!("hub.invalid:5000/team/app@{subject}");
    let quiet = ["image", "referrers", "-q", "--type", "application/x-signature", by_digest.as_str()];
    assert_eq!(dhow.run(&quiet), signature);
    assert_eq!(dhow.run(&["image", "referrers", "-q", "--type", "other", name]), "");
}

/// Digest the registry has for a name, as another client sees it.
fn digest_at(registry: &Registry, name: &str) -> String {
    let output = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"])
        .arg(format!("docker://{}/{name}", registry.address))
        .output()
        .expect("skopeo runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn push_and_pull_back() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let registry = Registry::start();
    for (number, client) in daemon.clients().into_iter().enumerate() {
        let (first, second) = (format!("team/a{number}:1"), format!("team/b{number}:1"));
        // Something of its own in each round, as a registry keeps the last round's layers.
        client.run(&["run", "--name", "changed", "busybox", "sh", "-c", &format!("echo {number} >/own")]);
        client.run(&["commit", "changed", &format!("{}/{first}", registry.address)]);
        client.run(&["rm", "changed"]);
        let name = format!("{}/{first}", registry.address);
        let pushed = client.run(&["push", &name]);
        let repository = name.rsplit_once(':').unwrap().0;
        assert!(pushed.contains(&format!("The push refers to repository [{repository}]")), "{pushed}");
        assert!(pushed.contains(": Pushed"), "{pushed}");
        let id = client.json(&["image", "inspect", &name])[0]["Id"].as_str().unwrap().to_owned();
        assert!(pushed.contains(&format!("1: digest: {id} size: ")), "{pushed}");
        assert_eq!(digest_at(&registry, &first), id);

        let again = client.run(&["push", &name]);
        assert!(again.contains("Layer already exists") && !again.contains("Pushed"), "{again}");
        let other = format!("{}/{second}", registry.address);
        client.run(&["tag", &name, &other]);
        let mounted = client.run(&["push", &other]);
        assert!(mounted.contains(&format!("Mounted from team/a{number}")) && !mounted.contains("Pushed"), "{mounted}");

        client.run(&["rmi", &name, &other]);
        let pulled = client.run(&["pull", &name]);
        assert!(pulled.contains(&format!("Digest: {id}")), "{pulled}");
        assert_eq!(client.run(&["run", "--rm", &name, "cat", "/own"]), number.to_string());
        client.run(&["rmi", &name]);
    }
    let nosuch = format!("{}/nosuch:1", registry.address);
    daemon.docker().try_run(&["push", &nosuch]).expect_error(1, "An image does not exist locally with the tag");
    daemon.docker().run(&["tag", "busybox", "127.0.0.1:1/x:1"]);
    daemon.docker().try_run(&["push", "127.0.0.1:1/x:1"]).expect_error(1, "connection refused");
}

#[test]
fn all_tags_go_and_come() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let registry = Registry::start();
    let repository = format!("{}/many", registry.address);
    for tag in ["1", "2", "latest"] {
        daemon.docker().run(&["tag", "busybox", &format!("{repository}:{tag}")]);
    }
    for client in daemon.clients() {
        let pushed = client.run(&["push", "--all-tags", &repository]);
        assert_eq!(pushed.matches(": digest: sha256:").count(), 3, "{pushed}");
        for tag in ["1", "2", "latest"] {
            client.run(&["rmi", &format!("{repository}:{tag}")]);
        }
        let pulled = client.run(&["pull", "--all-tags", &repository]);
        assert_eq!(pulled.matches("Digest: sha256:").count(), 3, "{pulled}");
        assert_eq!(client.run(&["images", "-q", &repository]).lines().count(), 3);
    }
    // Without a tag one means `latest`.
    let pushed = daemon.dhow().run(&["push", &repository]);
    assert!(pushed.starts_with("Using default tag: latest"), "{pushed}");
    assert_eq!(pushed.matches(": digest: sha256:").count(), 1, "{pushed}");
}

/// Passes on what comes, counts what goes to the client, and can be told to slow down.
pub struct Proxy {
    pub address: String,
    sent: std::sync::Arc<std::sync::atomic::AtomicU64>,
    slow: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Proxy {
    pub fn before(upstream: &str) -> Self {
        use std::io::{Read, Write};
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sent, slow) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(true)));
        let (counted, slowed, upstream) = (Arc::clone(&sent), Arc::clone(&slow), upstream.to_owned());
        // Threads end with the connections, and at the latest with the tests' process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = std::net::TcpStream::connect(&upstream) else { continue };
                let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from_client, &mut to_server);
                    let _ = to_server.shutdown(std::net::Shutdown::Write);
                });
                let (counted, slowed) = (Arc::clone(&counted), Arc::clone(&slowed));
                std::thread::spawn(move || {
                    let (mut client, mut server) = (client, server);
                    let mut buffer = [0; 64 * 1024];
                    while let Ok(read @ 1..) = server.read(&mut buffer) {
                        if client.write_all(&buffer[..read]).is_err() {
                            break;
                        }
                        let all = counted.fetch_add(read as u64, Ordering::Relaxed);
                        if slowed.load(Ordering::Relaxed) && all > 1 << 20 {
                            std::thread::sleep(std::time::Duration::from_millis(10));
                        }
                    }
                    let _ = client.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self { address, sent, slow }
    }

    /// Slows nobody down any more.
    pub fn hurry(&self) {
        self.slow.store(false, std::sync::atomic::Ordering::Relaxed);
    }

    /// Bytes that clients were sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn a_killed_daemon_fetches_only_the_rest() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.busybox();
    // As large as the promise says in long runs.
    let mib: u64 = if daemon.environment.long { 350 } else { 24 };
    let registry = Registry::start();
    let name = format!("{}/large:1", registry.address);
    let script = format!("dd if=/dev/urandom of=/large bs=1M count={mib} 2>/dev/null");
    daemon.docker().run(&["run", "--name", "large", "busybox", "sh", "-c", &script]);
    daemon.docker().run(&["commit", "large", &name]);
    daemon.docker().run(&["push", &name]);
    daemon.docker().run(&["rm", "large"]);
    daemon.docker().run(&["rmi", &name, "busybox"]);

    let proxy = Proxy::before(&registry.address);
    let name = name.replace(&registry.address, &proxy.address);
    let mut pulling =
        daemon.docker().command(&["pull", &name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let third = (mib << 20) / 3;
    eventually(120, "a third of the pull", || proxy.sent() > third);
    daemon.kill();
    let _ = pulling.wait();
    let before = proxy.sent();
    proxy.hurry();
    daemon.launch();
    daemon.docker().run(&["pull", &name]);
    let (all, rest) = (mib << 20, proxy.sent() - before);
    // Some MiB were between the proxy and the disk when the daemon was killed; of a large blob that comes slowly, also
    // three ranges of 4 MiB ahead of their turn, which wait in memory.
    let in_memory = (if mib < 64 { 8 } else { 8 + 12 }) << 20;
    assert!(rest < all - third + in_memory, "{rest} bytes of {all} came once more, {before} had come");
    assert!(daemon.docker().run(&["run", "--rm", &name, "ls", "-l", "/large"]).contains(&(mib << 20).to_string()));
}

/// Changes one byte of a file.
fn flip(path: &std::path::Path) {
    use std::os::unix::fs::{FileExt, PermissionsExt};
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn damage_is_found_and_repaired_by_fetching_only_it() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let registry = Registry::start();
    let proxy = Proxy::before(&registry.address);
    proxy.hurry();
    let name = format!("{}/two:1", registry.address);
    // Compressed layers, as most images have: the blob is not the layer.
    let archive = daemon.dir.path().join("saved.tar");
    let script = "dd if=/dev/urandom of=/large bs=1M count=8 2>/dev/null";
    daemon.docker().run(&["run", "--name", "made", "busybox", "sh", "-c", script]);
    daemon.docker().run(&["commit", "made", &name]);
    daemon.docker().run(&["save", "-o", archive.to_str().unwrap(), &name]);
    daemon.docker().run(&["rm", "made"]);
    daemon.docker().run(&["rmi", &name]);
    let status = Command::new("skopeo")
        .args(["copy", "--quiet", "--dest-tls-verify=false", "--dest-compress", "--dest-compress-format=gzip"])
        .args([&format!("oci-archive:{}", archive.display()), &format!("docker://{name}")])
        .status();
    assert!(status.unwrap().success());
    let name = name.replace(&registry.address, &proxy.address);
    daemon.docker().run(&["pull", &name]);
    let sound = daemon.dhow().run(&["system", "fsck"]);
    assert!(sound.contains(" 0 damaged"), "{sound}");

    let largest = |dir: &str, file: &str| {
        let entries = fs::read_dir(daemon.data_root().join(dir)).unwrap().flatten();
        let place = |path: std::path::PathBuf| if file.is_empty() { path } else { path.join(file) };
        let files = entries.map(|entry| place(entry.path())).filter(|path| path.exists());
        files.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    };
    // The layer alone: its blob is at hand, nothing is fetched.
    let layer = largest("layers", "layer.tar");
    flip(&layer);
    let found = daemon.dhow().try_run(&["system", "fsck"]);
    found.expect_code(1);
    let text = layer.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    assert!(
        found.stdout.contains(&format!("Damaged: layer sha256:{text}")) && found.stdout.contains(&name),
        "{found:?}"
    );
    assert!(found.stdout.contains(" 1 damaged"), "{found:?}");
    let before = proxy.sent();
    let repaired = daemon.dhow().run(&["system", "fsck", "--repair"]);
    assert!(repaired.contains("made anew from its blob") && repaired.contains("1 repaired"), "{repaired}");
    assert_eq!(proxy.sent(), before);
    // The blob: it is fetched again, and nothing else is.
    let blob = largest("content/blobs/sha256", "");
    flip(&blob);
    let repaired = daemon.dhow().run(&["system", "fsck", "--repair"]);
    assert!(repaired.contains("fetched again") && repaired.contains(" 1 damaged, 1 repaired"), "{repaired}");
    let size = fs::metadata(&blob).unwrap().len();
    let sent = proxy.sent() - before;
    assert!(sent >= size && sent < size + 100_000, "{sent} bytes for a blob of {size}");
    // The manifest itself, which the image is called after.
    let id = daemon.docker().json(&["image", "inspect", &name])[0]["Id"].as_str().unwrap().to_owned();
    flip(&daemon.data_root().join("content/blobs/sha256").join(&id["sha256:".len()..]));
    let repaired = daemon.dhow().run(&["system", "fsck", "--repair"]);
    assert!(repaired.contains("fetched again") && repaired.contains(" 1 damaged, 1 repaired"), "{repaired}");
    // Both, while the registry is away: named, and left to the user.
    flip(&blob);
    flip(&largest("layers", "layer.tar"));
    drop(registry);
    let found = daemon.dhow().try_run(&["system", "fsck", "--repair"]);
    found.expect_code(1);
    assert_eq!(found.stdout.matches("Not repaired: ").count(), 2, "{found:?}");
    assert!(blob.exists() && layer.exists(), "what is damaged stays until there is something in its place");
    assert_eq!(daemon.docker().run(&["run", "--rm", "busybox", "echo", "alive"]), "alive");
}
