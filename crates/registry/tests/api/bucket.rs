//! A bucket to test with: moto's S3 server from PyPI, a way to it that can be cut, and registries that keep content
//! there.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::http::{Answer, Connection};
use crate::support::{Process, files};

/// Name of the bucket.
pub const NAME: &str = "content";

/// An S3 server with one bucket, gone when dropped.
pub struct Bucket {
    child: Child,
    /// The server's end depends on it.
    _stdin: ChildStdin,
    pub address: SocketAddr,
}

impl Bucket {
    /// Nothing, with a word on standard output, where moto was not prepared.
    pub fn start() -> Option<Self> {
        let Some(modules) = std::env::var_os("DHOW_TEST_MOTO") else {
            println!("left out: `cargo xtask test` installs the S3 server that this needs");
            return None;
        };
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // A shell between us ends the server also where this program is killed.
        let script = r#"python3 -m moto.server -H 127.0.0.1 -p "$0" >/dev/null 2>&1 & read -r line; kill -9 $!"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, &free.port().to_string()]).env("PYTHONPATH", modules);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("a shell");
        let stdin = child.stdin.take().unwrap();
        for _ in 0..600 {
            if TcpStream::connect(free).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let bucket = Self { child, _stdin: stdin, address: free };
        let made = bucket.call("PUT", &format!("/{NAME}"));
        assert_eq!(made.status, 200, "{}", made.text());
        Some(bucket)
    }

    fn call(&self, method: &str, target: &str) -> Answer {
        let mut connection = Connection::open(self.address);
        // By its address: another name would be taken for that of a bucket.
        let signed =
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAuthorization: {signed}\r\nContent-Length: 0\r\n\r\n",
            self.address
        );
        connection.send(head.as_bytes()).expect("the server takes a request");
        connection.answer(method).expect("an answer")
    }

    /// The keys below a prefix, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let (mut keys, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.call("GET", &format!("/{NAME}?list-type=2&prefix={prefix}&start-after={after}")).text();
            let found = page.split("<Key>").skip(1).filter_map(|part| Some(part.split_once("</Key>")?.0.to_owned()));
            let before = keys.len();
            keys.extend(found);
            match keys.last() {
                Some(last) if keys.len() > before => after.clone_from(last),
                _ => return keys,
            }
        }
    }

    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        let answer = self.call("GET", &format!("/{NAME}/{key}"));
        (answer.status == 200).then_some(answer.body)
    }

    /// Removes an object behind the registry's back.
    pub fn lose(&self, key: &str) {
        assert_eq!(self.call("DELETE", &format!("/{NAME}/{key}")).status, 204, "{key}");
    }

    /// Uploads in parts that were begun and not ended.
    pub fn unfinished(&self) -> usize {
        self.call("GET", &format!("/{NAME}?uploads")).text().matches("<Upload>").count()
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self._stdin.write_all(b"\n");
        let _ = self.child.wait();
    }
}

/// The only way to a bucket; while it is cut, connections to it break at once.
pub struct Way {
    pub address: SocketAddr,
    cut: Arc<AtomicBool>,
    /// Connections that were made.
    made: Arc<AtomicU64>,
}

impl Way {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let way = Self { address: listener.local_addr().unwrap(), cut: Arc::default(), made: Arc::default() };
        let (cut, made) = (Arc::clone(&way.cut), Arc::clone(&way.made));
        // Ends with the tests' process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                made.fetch_add(1, Ordering::Relaxed);
                if cut.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let cut = Arc::clone(&cut);
                    std::thread::spawn(move || pass(from, to, &cut));
                }
            }
        });
        way
    }

    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if cut.load(Ordering::Relaxed) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _: io::Result<()> = to.shutdown(Shutdown::Both);
    let _: io::Result<()> = from.shutdown(Shutdown::Both);
}

/// How a registry over a bucket is started.
#[derive(Clone)]
pub struct Over {
    pub endpoint: SocketAddr,
    pub storage: String,
    pub quotas: String,
    pub upstreams: String,
    pub read_only: bool,
}

impl Over {
    pub fn bucket(endpoint: SocketAddr) -> Self {
        let storage = format!("s3://{NAME}/some/where");
        Self { endpoint, storage, quotas: String::new(), upstreams: String::new(), read_only: false }
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("REGISTRY_TEST_STORAGE", self.storage.clone()),
            ("REGISTRY_TEST_QUOTAS", self.quotas.clone()),
            ("REGISTRY_TEST_UPSTREAMS", self.upstreams.clone()),
            ("REGISTRY_TEST_READ_ONLY", if self.read_only { "1" } else { "" }.to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://{}", self.endpoint)),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    #[track_caller]
    pub fn start(&self, root: &Path) -> Process {
        Process::with(root, &[], &self.variables())
    }

    /// What a server says that does not start.
    pub fn refusal(&self, root: &Path) -> String {
        Process::refusal(root, &self.variables())
    }
}

/// Bytes that the files of a mirror have on disk.
pub fn stored(root: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let below: Vec<PathBuf> = files(&root.join("blobs"));
    below.iter().map(|path| path.metadata().unwrap().blocks() * 512).sum()
}
