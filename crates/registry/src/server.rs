//! The server: its sockets, the limits of its connections, its background work and its end.
//!
//! The invariant: when [`Server::serve`] returns, no request is in progress and every upload's state is kept.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::auth::Auth;
use crate::config::Config;
use crate::connection::Connection;
use crate::error::StartError;
use crate::http::Service;
use crate::http::body::Body;
use crate::metrics::Metrics;
use crate::multiplexed;
use crate::sendfile::{Outlet, Plain};
use crate::storage::Storage;
use crate::storage::collect::Collected;
use crate::storage::uploads::Uploads;
use crate::tls;
use crate::upstream::Upstreams;

/// Largest request head, and the read buffer of a connection.
const BUFFER: usize = 256 << 10;
const MAX_HEADERS: usize = 64;
/// How often idle uploads are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(30);

/// A registry that listens.
#[derive(Debug)]
pub struct Server {
    service: Arc<Service>,
    listener: TcpListener,
    metrics: Option<TcpListener>,
    tls: Arc<RwLock<Option<Arc<ServerConfig>>>>,
}

/// What can be done with a server while it serves.
#[derive(Debug, Clone)]
pub struct Control {
    service: Arc<Service>,
    tls: Arc<RwLock<Option<Arc<ServerConfig>>>>,
}

/// Connections by address.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Place> {
        let mut all = self.lock();
        let count = all.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { addresses: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.addresses.lock();
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

impl Server {
    /// Opens the directory and binds the addresses; requests wait until [`Server::serve`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let made = tokio::task::spawn_blocking(move || {
            let tls = config.tls.as_ref().map(|(chain, key)| tls::server_config(chain, key)).transpose()?;
            let auth = Auth::read(&config)?;
            let storage = Storage::open(&config.root, &config.quotas, config.storage.as_ref(), config.read_only)?;
            let uploads = Uploads::recover(&storage, config.limits.uploads).map_err(|source| StartError::File {
                action: "read the uploads of",
                path: config.root.display().to_string(),
                source,
                hint: "the directory must be writable for the registry",
            })?;
            let upstreams = Upstreams::new(&config.upstreams);
            Ok((Service { upstreams, config, storage, uploads, auth, metrics: Metrics::default() }, tls))
        });
        let joined = made.await.map_err(|e| StartError::File {
            action: "open",
            path: "the registry".to_owned(),
            source: std::io::Error::other(e),
            hint: "this is a fault of the registry",
        })?;
        let (service, tls) = joined?;
        let listener = bind(service.config.address).await?;
        let metrics = match service.config.metrics {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        if tls.is_none() && service.auth.takes_passwords() && !service.config.address.ip().is_loopback() {
            tracing::warn!(
                "passwords are sent in the clear: give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy that encrypts"
            );
        }
        if service.auth.is_open() && !service.config.read_only && !service.config.address.ip().is_loopback() {
            tracing::warn!("whoever reaches this address may push and delete: give --htpasswd or --read-only");
        }
        Ok(Self { service: Arc::new(service), listener, metrics, tls: Arc::new(RwLock::new(tls)) })
    }

    /// Address of the API, with the port that was chosen.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Address of the metrics, if they are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// A handle for reloads and collections.
    #[must_use]
    pub fn control(&self) -> Control {
        Control { service: Arc::clone(&self.service), tls: Arc::clone(&self.tls) }
    }

    /// Serves until `stop` becomes true or its sender is gone, then lets requests in progress finish for
    /// [`crate::Limits::drain`].
    pub async fn serve(self, mut stop: watch::Receiver<bool>) {
        let Self { service, listener, metrics, tls } = self;
        let mut background = JoinSet::new();
        background.spawn(expire(Arc::clone(&service)));
        if let Some(every) = service.config.collect_every.filter(|_| !service.config.read_only) {
            let control = Control { service: Arc::clone(&service), tls: Arc::clone(&tls) };
            background.spawn(async move {
                loop {
                    tokio::time::sleep(every).await;
                    control.collect(control.service.config.grace).await;
                }
            });
        }
        if let Some(listener) = metrics {
            background.spawn(serve_metrics(Arc::clone(&service), listener));
        }
        let places = Arc::new(Semaphore::new(service.config.limits.connections));
        let addresses = Arc::new(Addresses::default());
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = async {
                    let permit = Arc::clone(&places).acquire_owned().await;
                    (permit, listener.accept().await)
                } => accepted,
            };
            let (Ok(permit), Ok((stream, peer))) = accepted else {
                // A client that left already, or no descriptors: either passes.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Some(place) = addresses.take(peer.ip(), service.config.limits.connections_per_address) else {
                service.metrics.refused();
                continue;
            };
            let config = tls.read().unwrap_or_else(PoisonError::into_inner).clone();
            let (service, stop) = (Arc::clone(&service), stop.clone());
            connections.spawn(async move {
                let _held = (permit, place);
                if let Err(e) = connection(&service, stream, config, stop).await {
                    tracing::debug!("connection of {peer} ended: {e}");
                }
            });
        }
        drop(listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(service.config.limits.drain, ended).await.is_err() {
            tracing::warn!("requests still in progress are broken off");
            connections.shutdown().await;
        }
        background.shutdown().await;
        let kept = tokio::task::spawn_blocking(move || {
            service.uploads.keep_all();
            service.storage.close();
        });
        if let Err(e) = kept.await {
            tracing::error!("the state of open uploads was not kept: {e}");
        }
    }
}

impl Control {
    /// Reads the password file and the certificate again. On an error what was in force stays so.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn reload(&self) -> Result<(), StartError> {
        let control = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let config = &control.service.config;
            if let Some((chain, key)) = &config.tls {
                let fresh = tls::server_config(chain, key)?;
                *control.tls.write().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
            }
            control.service.auth.reload()
        });
        done.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
    }

    /// Removes what nothing refers to and is older than `grace`; nothing when a collection runs already or fails,
    /// which the log then tells.
    pub async fn collect(&self, grace: Duration) -> Option<Collected> {
        let service = Arc::clone(&self.service);
        let collected = tokio::task::spawn_blocking(move || service.storage.collect(grace)).await;
        match collected.map_err(std::io::Error::other).flatten() {
            Ok(done) => {
                if let Some(done) = &done {
                    self.service.metrics.collected(done);
                    tracing::info!("collected {} blobs, {} bytes, {} links", done.blobs, done.bytes, done.links);
                }
                done
            }
            Err(e) => {
                self.service.metrics.collection_failed();
                tracing::error!("garbage collection failed and removed nothing it was not sure of: {e}");
                None
            }
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address: address.to_string(), source })
}

async fn expire(service: Arc<Service>) {
    let every = EXPIRE_EVERY.min(service.config.limits.upload_idle);
    loop {
        tokio::time::sleep(every.max(Duration::from_millis(10))).await;
        let service = Arc::clone(&service);
        let ended = tokio::task::spawn_blocking(move || {
            service.uploads.expire(&service.storage, service.config.limits.upload_idle)
        });
        if let Ok(ended @ 1..) = ended.await {
            tracing::info!("{ended} idle uploads expired");
        }
    }
}

async fn connection(
    service: &Arc<Service>,
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    stop: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let limits = &service.config.limits;
    match tls {
        None => {
            let outlet = Outlet::default();
            let stream = Plain::new(stream, outlet.clone());
            requests(service, Connection::new(stream, limits.stall), Some(outlet), stop).await
        }
        Some(config) => {
            let stream = tokio::time::timeout(limits.head, TlsAcceptor::from(config).accept(stream)).await??;
            if stream.get_ref().1.alpn_protocol() == Some(tls::H2) {
                return multiplexed::serve(service, Connection::new(stream, limits.stall), stop).await;
            }
            requests(service, Connection::new(stream, limits.stall), None, stop).await
        }
    }
}

async fn requests<S: AsyncRead + AsyncWrite + Unpin>(
    service: &Arc<Service>,
    stream: S,
    outlet: Option<Outlet>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let _open = service.metrics.opened();
    // A placeholder must come to the connection as the slice it is, not copied together with others.
    let writev = outlet.is_some() || stream.is_write_vectored();
    let answer = service_fn(|mut request: Request<Incoming>| {
        let service = Arc::clone(service);
        if let Some(outlet) = &outlet {
            request.extensions_mut().insert(outlet.clone());
        }
        // Boxed: the union of all handlers' futures would otherwise sit in every idle connection.
        Box::pin(async move { Ok::<_, Infallible>(service.answer(request).await) })
    });
    let mut served = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(service.config.limits.head)
            .max_buf_size(BUFFER)
            .max_headers(MAX_HEADERS)
            .writev(writev)
            .serve_connection(TokioIo::new(stream), answer)
    );
    let early = tokio::select! {
        result = served.as_mut() => Some(result),
        _ = async { drop(stop.wait_for(|&stop| stop).await) } => None,
    };
    Ok(match early {
        Some(result) => result,
        None => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    }?)
}

async fn serve_metrics(service: Arc<Service>, listener: TcpListener) {
    // Few: the page is for the monitoring alone.
    let places = Arc::new(Semaphore::new(16));
    loop {
        let (Ok(permit), Ok((stream, _))) = (Arc::clone(&places).acquire_owned().await, listener.accept().await) else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let _permit = permit;
            let answer = service_fn(|request: Request<Incoming>| {
                let answer = metrics_answer(&service, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(service.config.limits.head)
                .serve_connection(TokioIo::new(Connection::new(stream, service.config.limits.stall)), answer);
            if let Err(e) = served.await {
                tracing::debug!("connection for metrics ended: {e}");
            }
        });
    }
}

fn metrics_answer(service: &Service, request: &Request<Incoming>) -> Response<Body> {
    if request.uri().path() != "/metrics" || request.method() != Method::GET {
        let mut answer = Response::new(Body::whole("the metrics are at GET /metrics\n"));
        *answer.status_mut() = StatusCode::NOT_FOUND;
        return answer;
    }
    let mut answer =
        Response::new(Body::whole(service.metrics.text(service.uploads.count(), &service.storage.usage.all())));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
