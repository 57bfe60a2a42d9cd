//! Our own client pushes to the registry over a connection that breaks: it goes on where it stopped.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use distribution::{
    Chunks, Client, Config, ContentSource, Descriptor, Error, Limits, MEDIA_OCI_MANIFEST, PushProgress, PushRequest,
    PushStatus, SinkError,
};
use tokio::sync::mpsc;
use types::{Digest, Kind};

use crate::support::{Api, OCI_MANIFEST, Registry, descriptor, image, noise, sha256};

const MIB: usize = 1 << 20;

/// Passes on what a client sends until it has been so many bytes, breaks the connection and takes none for a
/// while; as often as it is told to.
struct Breaking {
    address: SocketAddr,
    passed: Arc<AtomicU64>,
    /// Nothing passes, on old connections either.
    shut: Arc<AtomicBool>,
}

impl Breaking {
    fn before(upstream: SocketAddr, after: u64, times: usize) -> Self {
        Self::build(upstream, after, times, false)
    }

    /// Breaks once and stays shut until it is opened.
    fn shutting(upstream: SocketAddr, after: u64) -> Self {
        Self::build(upstream, after, 1, true)
    }

    fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }

    fn build(upstream: SocketAddr, after: u64, times: usize, stays_shut: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let passed = Arc::new(AtomicU64::new(0));
        let left = Arc::new(AtomicUsize::new(times));
        let shut = Arc::new(AtomicBool::new(false));
        let (counted, cuts, closing) = (Arc::clone(&passed), Arc::clone(&left), Arc::clone(&shut));
        // Ends with the tests' process.
        std::thread::spawn(move || {
            let mut closed = Instant::now();
            let (broken, breaks) = std::sync::mpsc::channel::<()>();
            for client in listener.incoming().flatten() {
                while breaks.try_recv().is_ok() {
                    closed = Instant::now() + Duration::from_millis(300);
                }
                if Instant::now() < closed || closing.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(upstream) else { continue };
                let (mut back, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = io::copy(&mut back, &mut to_client);
                    let _ = to_client.shutdown(Shutdown::Both);
                });
                let (counted, cuts, broken) = (Arc::clone(&counted), Arc::clone(&cuts), broken.clone());
                let closing = Arc::clone(&closing);
                std::thread::spawn(move || {
                    let (mut client, mut server) = (client, server);
                    let mut sent = 0;
                    let mut buffer = [0; 16 * 1024];
                    while let Ok(read @ 1..) = client.read(&mut buffer) {
                        if closing.load(Ordering::SeqCst) {
                            break;
                        }
                        if server.write_all(&buffer[..read]).is_err() {
                            break;
                        }
                        sent += read as u64;
                        counted.fetch_add(read as u64, Ordering::Relaxed);
                        let cut =
                            || cuts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
                        if sent > after && cut() {
                            closing.store(stays_shut, Ordering::SeqCst);
                            if !stays_shut {
                                let _ = broken.send(());
                            }
                            break;
                        }
                    }
                    let _ = client.shutdown(Shutdown::Both);
                    let _ = server.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, passed, shut }
    }
}

/// Content in memory.
pub struct Memory(BTreeMap<Digest, Bytes>);

impl ContentSource for Memory {
    async fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<Chunks, SinkError> {
        let missing = || SinkError { kind: Kind::NotFound, message: "no such content".to_owned() };
        let bytes = self.0.get(&descriptor.digest).cloned().ok_or_else(missing)?;
        let (chunks, received) = mpsc::channel(2);
        tokio::spawn(async move {
            let rest = bytes.slice(usize::try_from(offset).unwrap()..);
            for chunk in rest.chunks(64 * 1024) {
                if chunks.send(Ok(Bytes::copy_from_slice(chunk))).await.is_err() {
                    return;
                }
            }
        });
        Ok(received)
    }

    fn origins(&self, _: &str, _: &Digest) -> Vec<String> {
        Vec::new()
    }
}

pub fn client() -> Client {
    let limits = Limits { backoff: Duration::from_millis(100), ..Limits::default() };
    Client::new(Config { limits, ..Config::default() })
}

pub fn request(address: SocketAddr, name: &str, layer: &[u8]) -> (PushRequest, Arc<Memory>, Digest) {
    let config = br#"{"os":"linux","architecture":"amd64"}"#;
    let manifest = image(config, &[layer]).to_string();
    let mut content = BTreeMap::new();
    let mut part = |media_type: &str, bytes: &[u8]| {
        content.insert(sha256(bytes), Bytes::copy_from_slice(bytes));
        let size = descriptor(media_type, bytes)["size"].as_u64().unwrap();
        Descriptor::new(media_type, sha256(bytes), size)
    };
    let blobs = vec![
        part("application/vnd.oci.image.layer.v1.tar", layer),
        part("application/vnd.oci.image.config.v1+json", config),
    ];
    let documents = vec![part(MEDIA_OCI_MANIFEST, manifest.as_bytes())];
    let reference = format!("{address}/{name}").parse().unwrap();
    (
        PushRequest { reference, credentials: None, documents, blobs },
        Arc::new(Memory(content)),
        sha256(manifest.as_bytes()),
    )
}

pub async fn push(
    client: &Client,
    request: &PushRequest,
    source: &Arc<Memory>,
) -> (Result<(), Error>, Vec<PushProgress>) {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let pushed = client.push(request, Arc::clone(source), move |step| telling.lock().unwrap().push(step)).await;
    let told = std::mem::take(&mut *told.lock().unwrap());
    (pushed, told)
}

#[test]
fn a_push_that_breaks_goes_on_where_it_stopped() {
    let registry = Registry::start();
    let layer = noise(1, 40 * MIB);
    // Above what the registry may lose of an upload by a break.
    let breaking = Breaking::before(registry.address(), 16 << 20, 2);
    let (request, source, digest) = request(breaking.address, "team/app:1", &layer);
    let (pushed, told) = registry.runtime.block_on(push(&client(), &request, &source));
    pushed.unwrap();
    assert!(told.iter().any(|step| matches!(step.status, PushStatus::Retrying { .. })), "{told:?}");
    let passed = breaking.passed.load(Ordering::Relaxed);
    assert!(passed < 60 << 20, "{passed} bytes for a layer of 40 MiB");
    let headers = [("Accept", OCI_MANIFEST)];
    let answer = registry.call("GET", "/v2/team/app/manifests/1", &headers, b"").expect(200);
    assert_eq!(answer.must("docker-content-digest"), digest.to_string());
    assert_eq!(
        sha256(&registry.get(&format!("/v2/team/app/blobs/{}", sha256(&layer))).expect(200).body),
        sha256(&layer)
    );
}

#[test]
fn a_push_that_was_given_up_is_gone_on_with_by_the_next() {
    let registry = Registry::start();
    let layer = noise(2, 40 * MIB);
    let breaking = Breaking::shutting(registry.address(), 24 << 20);
    let (request, source, _) = request(breaking.address, "team/app:1", &layer);
    let limits = Limits { attempts: 1, ..Limits::default() };
    let client = Client::new(Config { limits, ..Config::default() });
    let (given_up, _) = registry.runtime.block_on(push(&client, &request, &source));
    assert!(given_up.is_err());
    breaking.open();
    let (pushed, _) = registry.runtime.block_on(push(&client, &request, &source));
    pushed.unwrap();
    let passed = breaking.passed.load(Ordering::Relaxed);
    assert!(passed < 52 << 20, "{passed} bytes for a layer of 40 MiB");
    // What is there is not sent again.
    let (again, told) = registry.runtime.block_on(push(&client, &request, &source));
    again.unwrap();
    assert_eq!(told.iter().filter(|step| step.status == PushStatus::Exists).count(), 2, "{told:?}");
}

#[test]
fn content_that_is_not_what_its_digest_says_is_refused_and_not_sent_for_ever() {
    let registry = Registry::start();
    let layer = noise(3, 3 * MIB);
    let counting = Breaking::before(registry.address(), u64::MAX, 0);
    let (request, source, _) = request(counting.address, "team/app:1", &layer);
    let mut content = source.0.clone();
    let mut wrong = layer.clone();
    wrong[MIB] ^= 1;
    content.insert(sha256(&layer), wrong.into());
    let (pushed, _) = registry.runtime.block_on(push(&client(), &request, &Arc::new(Memory(content))));
    let error = pushed.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("digest"), "{error}");
    assert!(counting.passed.load(Ordering::Relaxed) < 7 << 20);
    registry.head("/v2/team/app/manifests/1").expect(404);
}
