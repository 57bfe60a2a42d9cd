//! A scripted server of HTTP/2 over TLS that can break streams and leave.

use super::{Reply, Seen};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// What comes of a request.
#[derive(Clone, Debug)]
pub enum Act {
    Answer(Reply),
    /// The answer up to so many bytes, then the stream is reset.
    Reset(Reply, usize),
    /// The answer up to so many bytes, then the whole connection ends.
    GoAway(Reply, usize),
    /// Not looked at.
    Refuse,
}

/// The server.
pub struct Multiplexed {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<(usize, Seen)>>>,
    connections: Arc<Mutex<usize>>,
    task: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for Multiplexed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A certificate for an address, and its key.
pub fn certificate(dir: &Path, ip: IpAddr) -> Option<(PathBuf, PathBuf)> {
    let (cert, key) = (dir.join("reg.crt"), dir.join("reg.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=reg.test", "-addext", &format!("subjectAltName=IP:{ip}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stderr(Stdio::null())
        .status();
    made.is_ok_and(|s| s.success()).then_some((cert, key))
}

type Script = Arc<dyn Fn(usize, &Seen) -> Act + Send + Sync>;

impl Multiplexed {
    /// Starts it; the script is told the number of the request's connection. Nothing without openssl.
    pub async fn start(script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Option<Multiplexed> {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = certificate(dir.path(), Ipv4Addr::LOCALHOST.into())?;
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_file_iter(cert).unwrap().collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections): (Arc<Mutex<Vec<_>>>, Arc<Mutex<usize>>) = Default::default();
        let (log, count, script) = (seen.clone(), connections.clone(), Arc::new(script) as Script);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let number = {
                    let mut count = count.lock().unwrap();
                    *count += 1;
                    *count
                };
                tokio::spawn(serve(acceptor.clone(), stream, number, log.clone(), script.clone()));
            }
        });
        Some(Multiplexed { address, seen, connections, task, _dir: dir })
    }

    pub fn seen(&self) -> Vec<(usize, Seen)> {
        self.seen.lock().unwrap().clone()
    }

    pub fn seen_path(&self, path: &str) -> Vec<(usize, Seen)> {
        self.seen().into_iter().filter(|(_, seen)| seen.path() == path).collect()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

async fn serve(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    number: usize,
    log: Arc<Mutex<Vec<(usize, Seen)>>>,
    script: Script,
) {
    // The client also tries without TLS.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let leave = Arc::new(Notify::new());
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = leave.notified() => {
                connection.abrupt_shutdown(Reason::INTERNAL_ERROR);
                let _ = poll_fn(|cx| connection.poll_closed(cx)).await;
                return;
            }
        };
        let Some(Ok((request, respond))) = accepted else { return };
        let (head, body) = request.into_parts();
        drop(body);
        let headers = head.headers.iter();
        let mut headers: std::collections::BTreeMap<String, String> = headers
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        headers.insert(":authority".into(), head.uri.authority().map(ToString::to_string).unwrap_or_default());
        let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let seen = Seen { method: head.method.to_string(), target, headers, body: String::new() };
        log.lock().unwrap().push((number, seen.clone()));
        tokio::spawn(act(script(number, &seen), respond, leave.clone()));
    }
}

async fn act(act: Act, mut respond: SendResponse<Bytes>, leave: Arc<Notify>) {
    let (reply, until) = match &act {
        Act::Refuse => return respond.send_reset(Reason::REFUSED_STREAM),
        Act::Answer(reply) => (reply, reply.body.len()),
        Act::Reset(reply, until) | Act::GoAway(reply, until) => (reply, *until),
    };
    let mut response = http::Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    response = response.header("content-length", reply.body.len());
    let Ok(mut stream) = respond.send_response(response.body(()).unwrap(), false) else { return };
    if send(&mut stream, Bytes::copy_from_slice(&reply.body[..until])).await.is_none() {
        return;
    }
    match act {
        Act::Answer(_) => drop(stream.send_data(Bytes::new(), true)),
        Act::Reset(..) => {
            flushed().await;
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
        _ => {
            flushed().await;
            leave.notify_one();
        }
    }
}

/// What was sent is on its way by then, or does not arrive: both are breaks.
async fn flushed() {
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
}

async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Option<()> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await?.ok()?;
        stream.send_data(data.split_to(room.min(data.len())), false).ok()?;
    }
    Some(())
}
