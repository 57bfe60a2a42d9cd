//! New connections: name resolution, the address rule, TCP, TLS with its configuration, and the choice of HTTP's version.

use crate::address::{Class, Classes};
use crate::config::Config;
use crate::error::Error;
use crate::hosts::Site;
use crate::origin::Origin;
use crate::payload::Payload;
use crate::pool::Sender;
use crate::tls::{H2, Material};
use crate::transport::{Reach, describe};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Bytes a stream of HTTP/2 may send ahead of what was read: as much as a path of 40 ms and 100 MB/s holds.
const STREAM_WINDOW: u32 = 4 << 20;
/// The same for all streams of a connection, and so most of what a connection can have in memory.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Longest frame: fewer, larger pieces than the smallest allowed.
const FRAME: u32 = 256 << 10;
/// Longest head of an answer; addresses of redirects are long.
const HEAD_MAX: u32 = 128 << 10;
/// How often a connection with requests in flight is asked whether it still lives, and how long it may think.
const PING: Duration = Duration::from_secs(20);
/// Configurations of TLS kept.
const KEPT_MAX: usize = 256;

type TlsKey = (String, Arc<Site>);

/// Makes connections.
#[derive(Default)]
pub(crate) struct Dialer {
    /// Kept for the sessions they resume; made anew when a file behind them changes.
    tls: Mutex<HashMap<TlsKey, (Material, Arc<rustls::ClientConfig>)>>,
}

/// Why no connection stands.
pub(crate) enum DialError {
    /// As Go's client prints it.
    Failed(String),
    /// Every address is one the [`Reach`] does not include.
    OutOfReach,
    /// Our own TLS material is unusable: trying without TLS would hide that.
    Tls(Error),
}

/// Adds a class to those of a registry.
pub(crate) fn note(classes: &AtomicU8, class: Class) {
    classes.fetch_or(Classes::default().with(class).bits(), Ordering::Relaxed);
}

impl Dialer {
    /// Connects to an origin; says in which class of addresses it is.
    pub(crate) async fn dial(
        &self,
        config: &Config,
        origin: &Origin,
        site: &Arc<Site>,
        reach: Reach<'_>,
    ) -> Result<(Sender, Class), DialError> {
        let resolved = tokio::net::lookup_host((origin.host.as_str(), origin.port))
            .await
            .map_err(|_| DialError::Failed(format!("dial tcp: lookup {}: no such host", origin.host)))?;
        let mut addresses: Vec<SocketAddr> = resolved.collect();
        let admitted = match reach {
            Reach::Registry(noted) => Some(noted.load(Ordering::Relaxed)).filter(|bits| *bits != 0),
            Reach::Referred(classes) => Some(classes.bits()),
        };
        if let Some(classes) = admitted.map(Classes::from_bits) {
            addresses.retain(|a| classes.admits(Class::of(a.ip())));
            if addresses.is_empty() {
                return Err(DialError::OutOfReach);
            }
        }
        let mut last = DialError::Failed(format!("dial tcp: lookup {}: no such host", origin.host));
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let class = Class::of(address.ip());
                    if let Reach::Registry(classes) = reach {
                        note(classes, class);
                    }
                    // Small requests must not wait for the acknowledgement of earlier ones.
                    let _ = stream.set_nodelay(true);
                    return Ok((self.handshake(config, origin, site, stream).await?, class));
                }
                Err(error) => last = DialError::Failed(format!("dial tcp {address}: connect: {}", go_words(&error))),
            }
        }
        Err(last)
    }

    async fn handshake(
        &self,
        config: &Config,
        origin: &Origin,
        site: &Arc<Site>,
        stream: TcpStream,
    ) -> Result<Sender, DialError> {
        if !origin.https {
            return http1_handshake(TokioIo::new(stream)).await;
        }
        let tls = self.tls_config(config, origin, site).await.map_err(DialError::Tls)?;
        let name = rustls::pki_types::ServerName::try_from(origin.host.clone())
            .map_err(|e| DialError::Failed(format!("tls: {e}")))?;
        let connected = TlsConnector::from(tls).connect(name, stream).await;
        let stream = connected.map_err(|e| DialError::Failed(tls_words(&e)))?;
        match stream.get_ref().1.alpn_protocol() {
            Some(H2) => http2_handshake(TokioIo::new(stream)).await,
            _ => http1_handshake(TokioIo::new(stream)).await,
        }
    }

    async fn tls_config(
        &self,
        config: &Config,
        origin: &Origin,
        site: &Arc<Site>,
    ) -> Result<Arc<rustls::ClientConfig>, Error> {
        let insecure = config.is_insecure(&origin.host, Some(origin.port));
        let key: TlsKey = (origin.authority(), site.clone());
        let (authority, dirs, site) = (key.0.clone(), config.certs_dirs.clone(), site.clone());
        let found = tokio::task::spawn_blocking(move || Material::find(&authority, &dirs, &site, insecure)).await;
        let material = found.map_err(|e| Error::Tls(e.to_string()))??;
        if let Some((known, config)) = self.tls.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && *known == material
        {
            return Ok(config.clone());
        }
        let made = tokio::task::spawn_blocking(move || material.config().map(|config| (material, config))).await;
        let (material, config) = made.map_err(|e| Error::Tls(e.to_string()))??;
        let mut all = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT_MAX {
            all.clear();
        }
        all.insert(key, (material, config.clone()));
        Ok(config)
    }
}

async fn http1_handshake<I>(io: I) -> Result<Sender, DialError>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(io).await.map_err(|e| DialError::Failed(describe(&e)))?;
    drive(connection);
    Ok(Sender::One(sender))
}

async fn http2_handshake<I>(io: I) -> Result<Sender, DialError>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let shaken = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEAD_MAX)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .handshake::<_, Payload>(io)
        .await;
    let (sender, connection) = shaken.map_err(|e| DialError::Failed(describe(&e)))?;
    drive(connection);
    Ok(Sender::Two(sender))
}

/// Runs a connection until the sender is dropped or the other side closes.
fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a registry ended");
        }
    });
}

fn go_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

fn tls_words(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => format!("tls: failed to verify certificate: {why}"),
        Some(rustls::Error::InvalidMessage(_)) => "http: server gave HTTP response to HTTPS client".to_owned(),
        _ => format!("tls: {error}"),
    }
}
