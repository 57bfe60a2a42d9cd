//! A registry to test: in this process, or in one of its own that can be killed; and images to push to it.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use registry::{Config, Control, Server};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use types::Digest;

use crate::http::{Answer, Connection};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");
/// What `server_process` of `main.rs` is told by.
pub const PROCESS_ROOT: &str = "REGISTRY_TEST_ROOT";

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes).into())
}

/// Bytes that compress badly and differ by seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(length);
    out
}

/// What tests do with a registry wherever it runs.
pub trait Api {
    fn address(&self) -> SocketAddr;

    #[track_caller]
    fn connect(&self) -> Connection {
        Connection::open(self.address())
    }

    #[track_caller]
    fn call(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.connect().call(method, target, headers, body)
    }

    #[track_caller]
    fn get(&self, target: &str) -> Answer {
        self.call("GET", target, &[], b"")
    }

    #[track_caller]
    fn head(&self, target: &str) -> Answer {
        self.call("HEAD", target, &[], b"")
    }

    #[track_caller]
    fn delete(&self, target: &str) -> Answer {
        self.call("DELETE", target, &[], b"")
    }

    /// The location of a new upload.
    #[track_caller]
    fn begin(&self, repository: &str) -> String {
        let answer = self.call("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"").expect(202);
        answer.must("location").to_owned()
    }

    /// Pushes in one request.
    #[track_caller]
    fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = sha256(bytes);
        self.call("POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}"), &[OCTETS], bytes).expect(201);
        digest
    }

    #[track_caller]
    fn put_manifest(&self, repository: &str, reference: &str, manifest: &Value) -> Answer {
        let media_type = manifest["mediaType"].as_str().expect("a media type");
        let target = format!("/v2/{repository}/manifests/{reference}");
        self.call("PUT", &target, &[("Content-Type", media_type)], manifest.to_string().as_bytes())
    }

    /// Pushes an image of these layers under a tag.
    #[track_caller]
    fn push_image(&self, repository: &str, tag: &str, layers: &[&[u8]]) -> Digest {
        let config = format!(r#"{{"os":"linux","architecture":"amd64","tag":"{tag}"}}"#);
        self.push_blob(repository, config.as_bytes());
        for layer in layers {
            self.push_blob(repository, layer);
        }
        let manifest = image(config.as_bytes(), layers);
        let answer = self.put_manifest(repository, tag, &manifest).expect(201);
        answer.must("docker-content-digest").parse().unwrap()
    }
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(bytes).to_string(), "size": bytes.len()})
}

/// The manifest of an image.
pub fn image(config: &[u8], layers: &[&[u8]]) -> Value {
    let layers: Vec<Value> =
        layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer)).collect();
    let config = descriptor("application/vnd.oci.image.config.v1+json", config);
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers})
}

pub fn digest_of(manifest: &Value) -> Digest {
    sha256(manifest.to_string().as_bytes())
}

/// A registry in this process.
pub struct Registry {
    pub dir: TempDir,
    address: SocketAddr,
    pub metrics: Option<SocketAddr>,
    pub control: Control,
    pub runtime: Runtime,
    stop: Option<(watch::Sender<bool>, tokio::task::JoinHandle<()>)>,
}

impl Api for Registry {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Registry {
    #[track_caller]
    pub fn start() -> Self {
        Self::with(|_| ())
    }

    #[track_caller]
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::over(tempfile::tempdir().unwrap(), change)
    }

    /// Over a directory that an earlier one may have filled.
    #[track_caller]
    pub fn over(dir: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut config = Config::new("127.0.0.1:0".parse().unwrap(), dir.path().join("registry"));
        config.collect_every = None;
        change(&mut config);
        let server = runtime.block_on(Server::start(config)).expect("the registry starts");
        let (address, metrics, control) = (server.address().unwrap(), server.metrics_address(), server.control());
        let (stop, stopped) = watch::channel(false);
        let serving = runtime.spawn(server.serve(stopped));
        Self { dir, address, metrics, control, runtime, stop: Some((stop, serving)) }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("registry")
    }

    #[track_caller]
    pub fn collect(&self, grace: Duration) -> registry::Collected {
        self.runtime.block_on(self.control.collect(grace)).expect("no other collection runs")
    }

    /// Stops it as SIGTERM does and gives its directory back.
    pub fn stop(mut self) -> TempDir {
        let (stop, serving) = self.stop.take().expect("it runs");
        stop.send(true).unwrap();
        self.runtime.block_on(serving).unwrap();
        let Self { dir, control, runtime, .. } = self;
        drop(control);
        // The directory's lock goes with the last task that holds the storage.
        runtime.shutdown_timeout(Duration::from_secs(60));
        dir
    }
}

/// A registry in a process of its own, killed when dropped.
pub struct Process {
    child: Child,
    address: SocketAddr,
    orders: ChildStdin,
    lines: Mutex<Receiver<String>>,
}

impl Api for Process {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Process {
    /// Runs this test program again, as a server over `root`.
    #[track_caller]
    pub fn start(root: &Path) -> Self {
        Self::under(root, &[])
    }

    /// The same as a child of another program, which is given the rest of its command line.
    #[track_caller]
    pub fn under(root: &Path, program: &[&str]) -> Self {
        Self::with(root, program, &[])
    }

    /// The same with variables of the environment.
    #[track_caller]
    pub fn with(root: &Path, program: &[&str], variables: &[(&str, String)]) -> Self {
        let (child, orders, lines) = Self::spawn(root, program, variables);
        let listening = lines.iter().find_map(|line| {
            assert!(!line.contains("refused: "), "{line}");
            line.split_once("listening on ").map(|(_, address)| address.parse().expect("an address"))
        });
        Self { child, address: listening.expect("the server listens"), orders, lines: Mutex::new(lines) }
    }

    /// What a server says that does not start.
    #[track_caller]
    pub fn refusal(root: &Path, variables: &[(&str, String)]) -> String {
        let (mut child, _orders, lines) = Self::spawn(root, &[], variables);
        let said = lines.iter().find_map(|line| line.split_once("refused: ").map(|(_, why)| why.to_owned()));
        let _ = child.kill();
        let _ = child.wait();
        said.expect("the server does not start")
    }

    fn spawn(root: &Path, program: &[&str], variables: &[(&str, String)]) -> (Child, ChildStdin, Receiver<String>) {
        let own = std::env::current_exe().unwrap();
        let mut command = match program.split_first() {
            None => Command::new(&own),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&own);
                command
            }
        };
        command.args(["--exact", "server_process", "--nocapture"]).env(PROCESS_ROOT, root);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        // A group of its own: what is killed is also what another program started.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().expect("the test program starts");
        let (orders, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        // Read on, or the server would be ended by its own output.
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        (child, orders, lines)
    }

    #[track_caller]
    fn order(&self, order: &str, answer: &str) -> String {
        writeln!(&self.orders, "{order}").expect("the server takes orders");
        let lines = self.lines.lock().unwrap();
        lines.iter().find_map(|line| line.strip_prefix(answer).map(str::to_owned)).expect("the server lives")
    }

    /// Collects garbage; links, blobs and bytes that went, or nothing when it failed.
    #[track_caller]
    pub fn collect(&self, grace: u64) -> Option<[u64; 3]> {
        let said = self.order(&format!("collect {grace}"), "collected ");
        let numbers: Option<Vec<u64>> = said.split(' ').map(|number| number.parse().ok()).collect();
        numbers.map(|numbers| numbers.try_into().unwrap())
    }

    /// Stops it as SIGTERM does.
    #[track_caller]
    pub fn stop(mut self) {
        self.order("stop", "stopped");
        let _ = self.child.wait();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Every file below a directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(entry.path()),
                _ => out.push(entry.path()),
            }
        }
    }
    out
}

/// Every blob is what its name says.
#[track_caller]
pub fn assert_blobs_are_sound(root: &Path) {
    for path in files(&root.join("blobs")) {
        let bytes = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(sha256(&bytes).hex(), name, "{} holds {} bytes of something else", path.display(), bytes.len());
        assert_eq!(path.parent().unwrap().file_name().unwrap().to_str().unwrap(), &name[..2]);
    }
}
