//! HTTP/2 over TLS: many requests at a time on one connection.
//!
//! What a client of HTTP/1.1 cannot do without being noticed, one of HTTP/2 can: stop reading one answer while the
//! connection lives. So a connection on which nothing is worked on and nothing moves for a time is closed, and few
//! requests at a time are taken from it.

use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::http::Service;

/// Requests at a time.
const STREAMS: u32 = 32;
/// Bytes of an upload that may be on their way, and of all uploads of a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Longest frame.
const FRAME: u32 = 256 << 10;
/// Longest head of a request.
const HEAD_MAX: u32 = 64 << 10;

/// Bytes written in the time a client may rest that are no answer, only signs of life.
const SIGNS: u64 = 1024;

/// What a connection is busy with.
#[derive(Debug, Default)]
struct Activity {
    /// Requests that have no answer yet; their own limits of time hold.
    working: AtomicUsize,
    /// Requests so far.
    begun: AtomicU64,
}

struct Working(Arc<Activity>);

impl Working {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.working.fetch_add(1, Ordering::Relaxed);
        activity.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The requests of one connection, which end with it.
#[derive(Clone, Debug, Default)]
struct Streams(Arc<Mutex<JoinSet<()>>>);

impl Streams {
    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut all = self.lock();
        while all.try_join_next().is_some() {}
        all.spawn(stream);
    }
}

struct End(Streams);

impl Drop for End {
    fn drop(&mut self) {
        self.0.lock().abort_all();
    }
}

/// Serves a connection until it ends, or in peace when the server stops.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    service: &Arc<Service>,
    stream: Connection<S>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let _open = service.metrics.opened();
    let limits = &service.config.limits;
    let (activity, written) = (Arc::new(Activity::default()), stream.written());
    let streams = Streams::default();
    let _end = End(streams.clone());
    let (shared, counted) = (Arc::clone(service), Arc::clone(&activity));
    let answer = service_fn(move |mut request: Request<Incoming>| {
        let (service, activity) = (Arc::clone(&shared), Arc::clone(&counted));
        // The name we are called by stands elsewhere than in HTTP/1.1.
        if let Some(authority) = request.uri().authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(header::HOST, host);
        }
        Box::pin(async move {
            let working = Working::begin(&activity);
            let answer = service.answer(request).await;
            drop(working);
            Ok::<_, Infallible>(answer)
        })
    });
    let mut served = std::pin::pin!(
        http2::Builder::new(streams)
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_header_list_size(HEAD_MAX)
            .keep_alive_interval(limits.stall)
            .keep_alive_timeout(limits.stall)
            .serve_connection(TokioIo::new(stream), answer)
    );
    let patience = limits.head.max(limits.stall);
    let (mut stopping, mut leaving, mut seen) = (false, false, (0, 0));
    loop {
        tokio::select! {
            result = served.as_mut() => return Ok(result?),
            _ = async { drop(stop.wait_for(|&stop| stop).await) }, if !stopping => {
                served.as_mut().graceful_shutdown();
                stopping = true;
            }
            () = tokio::time::sleep(patience) => {
                let now = (activity.begun.load(Ordering::Relaxed), written.load(Ordering::Relaxed));
                let rests = now.0 == seen.0 && now.1 - seen.1 < SIGNS;
                if rests && activity.working.load(Ordering::Relaxed) == 0 {
                    if leaving {
                        return Err("answers in progress that the client does not read".into());
                    }
                    // Ends it when it is only idle.
                    served.as_mut().graceful_shutdown();
                    leaving = true;
                }
                seen = now;
            }
        }
    }
}
