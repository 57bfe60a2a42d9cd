//! Open connections: what the limits need to know of each, and which one gives way.
//!
//! A connection is busy while a request is in progress, a response body is unsent, or a stream has
//! taken it over; everything else is idle and may be closed when places run out. Owned by the
//! accept loops of `serve`; `hijack` keeps a connection busy through [`Held`].

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use crate::early::Early;

/// How a client begins that speaks HTTP/2 without having asked for it (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The socket of one client.
#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A client's connection as hyper sees it; notes when bytes of a request head begin to arrive.
/// Once a stream has taken the socket, it is silent: nothing is read, written or closed through it.
#[derive(Debug)]
pub(crate) struct Connection(pub(crate) Arc<State>);

/// What the limits need to know of a connection.
#[derive(Debug)]
pub(crate) struct State {
    /// `None` once a stream has taken it over.
    socket: Mutex<Option<Socket>>,
    /// Requests in progress, and streams that took the connection over.
    busy: AtomicU32,
    /// Milliseconds since `Registry::epoch` at which the present head began to arrive; 0 for none.
    head_since: AtomicU64,
    /// Whether anything was read.
    begun: AtomicBool,
    /// The connection from its beginning, when it turned out to be HTTP/2.
    http2: Mutex<Option<Early>>,
    /// That it is.
    found: Notify,
    pub(crate) abort: OnceLock<AbortHandle>,
    registry: Arc<Registry>,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

/// Keeps a connection counted as busy.
#[derive(Debug, Clone)]
pub(crate) struct Held(Arc<Busy>);

#[derive(Debug)]
struct Busy(Arc<State>);

#[derive(Debug)]
pub(crate) struct Registry {
    epoch: Instant,
    open: Mutex<BTreeMap<u64, std::sync::Weak<State>>>,
    next: AtomicU64,
    places: Arc<Semaphore>,
    opened: Notify,
}

impl Held {
    pub(crate) fn new(state: &Arc<State>) -> Held {
        state.busy.fetch_add(1, Ordering::Relaxed);
        state.head_since.store(0, Ordering::Relaxed);
        Held(Arc::new(Busy(Arc::clone(state))))
    }

    /// The user at the other end of a Unix socket, when it connected.
    pub(crate) fn peer_uid(&self) -> Option<u32> {
        match self.0.0.socket().as_ref()? {
            Socket::Unix(socket) => socket.peer_cred().ok().map(|peer| peer.uid()),
            Socket::Tcp(_) => None,
        }
    }

    /// Takes the socket away from HTTP: from now on it belongs to the caller alone.
    pub(crate) fn take_socket(&self) -> Option<Socket> {
        self.0.0.socket().take()
    }

    /// Ends the HTTP side of a connection whose socket was taken.
    pub(crate) async fn end_http(&self) {
        // The handle is set right after the task is spawned, which this may overtake.
        while self.0.0.abort.get().is_none() {
            tokio::task::yield_now().await;
        }
        self.0.0.abort();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.number);
    }
}

impl State {
    fn socket(&self) -> std::sync::MutexGuard<'_, Option<Socket>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }

    /// Waits until the connection turns out to be HTTP/2, which most never do; then it is here from its beginning.
    pub(crate) async fn http2(&self) -> Early {
        loop {
            self.found.notified().await;
            let found = self.http2.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(early) = found {
                return early;
            }
        }
    }

    fn note_bytes(&self) {
        if self.is_idle() && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.registry.now(), Ordering::Relaxed);
        }
    }

    fn abort(&self) {
        if let Some(handle) = self.abort.get() {
            handle.abort();
        }
    }
}

impl Registry {
    pub(crate) fn new(places: usize) -> Arc<Registry> {
        Arc::new(Registry {
            epoch: Instant::now(),
            open: Mutex::default(),
            next: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(places)),
            opened: Notify::new(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, std::sync::Weak<State>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the epoch of this registry, never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn snapshot(&self) -> Vec<Arc<State>> {
        self.lock().values().filter_map(std::sync::Weak::upgrade).collect()
    }

    /// A place for one more connection; takes it from the oldest idle one when there is none.
    pub(crate) async fn place(self: &Arc<Registry>) -> OwnedSemaphorePermit {
        loop {
            if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
                return permit;
            }
            if let Some(idle) =
                self.snapshot().into_iter().find(|s| s.is_idle() && s.abort.get().is_some_and(|a| !a.is_finished()))
            {
                tracing::debug!("all connections are in use: closing the oldest idle one");
                idle.abort();
            }
            let waited =
                tokio::time::timeout(Duration::from_millis(200), Arc::clone(&self.places).acquire_owned()).await;
            if let Ok(Ok(permit)) = waited {
                return permit;
            }
        }
    }

    pub(crate) fn register(self: &Arc<Registry>, permit: OwnedSemaphorePermit, socket: Socket) -> Arc<State> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(State {
            socket: Mutex::new(Some(socket)),
            busy: AtomicU32::new(0),
            head_since: AtomicU64::new(self.now()),
            begun: AtomicBool::new(false),
            http2: Mutex::default(),
            found: Notify::new(),
            abort: OnceLock::new(),
            registry: Arc::clone(self),
            number,
            _permit: permit,
        });
        self.lock().insert(number, Arc::downgrade(&state));
        self.opened.notify_one();
        state
    }

    /// Closes connections whose request head takes too long. Sleeps while none is open.
    pub(crate) async fn sweep(&self, every: Duration, deadline: Duration) {
        let deadline = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        loop {
            while self.lock().is_empty() {
                self.opened.notified().await;
            }
            tokio::time::sleep(every).await;
            let now = self.now();
            for state in self.snapshot() {
                let since = state.head_since.load(Ordering::Relaxed);
                if since != 0 && state.is_idle() && now.saturating_sub(since) >= deadline {
                    state.abort();
                }
            }
        }
    }
}

impl Socket {
    /// A second descriptor of the same socket, to look at its state without touching its bytes.
    pub(crate) fn try_clone_fd(&self) -> Option<OwnedFd> {
        let fd = match self {
            Socket::Unix(s) => s.as_fd(),
            Socket::Tcp(s) => s.as_fd(),
        };
        fd.try_clone_to_owned().ok()
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Socket::Tcp(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Socket::Tcp(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Unix(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Socket::Tcp(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Socket::Tcp(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

impl Connection {
    fn poll<T>(&self, poll: impl FnOnce(Pin<&mut Socket>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.0.socket().as_mut() {
            Some(socket) => poll(Pin::new(socket)),
            // The task that polls is about to be aborted.
            None => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.poll(|socket| socket.poll_read(cx, buf)))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if !self.0.begun.swap(true, Ordering::Relaxed) && read.starts_with(PREFACE) {
            // Taken at once: whoever reads HTTP/1.1 would close it.
            if let Some(socket) = self.0.socket().take() {
                let early = Early::new(Bytes::copy_from_slice(read), socket);
                *self.0.http2.lock().unwrap_or_else(PoisonError::into_inner) = Some(early);
                self.0.found.notify_one();
            }
            return Poll::Ready(Err(io::Error::other("it is HTTP/2")));
        }
        self.0.note_bytes();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|socket| socket.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(|socket| socket.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|socket| socket.poll_shutdown(cx))
    }
}
