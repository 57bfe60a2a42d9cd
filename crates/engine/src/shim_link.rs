//! The daemon's end of the conversation with one shim: requests with sequence numbers, answers
//! matched to them, events handed on, descriptors in both directions.
//!
//! A link never blocks the runtime: the socket is non-blocking and reads happen in one task per
//! link. When the peer goes, every pending request fails and the event channel closes, which is how
//! the owner learns of a dead shim. Called by the container's start, exec and re-adoption paths.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use launch::{Event, MAX_MESSAGE, ReplyFrame, Request, RequestFrame, Response};
use sys::Errno;
use sys::socket::{FdSocket, MAX_FDS};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result, fail};
use crate::watched::{self, Watched};

/// An answer and the descriptors that came with it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub response: Response,
    pub fds: Vec<OwnedFd>,
}

#[derive(Debug)]
pub(crate) struct ShimLink {
    peer: Arc<Peer>,
    reader: tokio::task::AbortHandle,
}

#[derive(Debug)]
struct Peer {
    socket: AsyncFd<Watched<FdSocket>>,
    sequence: AtomicU64,
    /// None once the peer is gone.
    pending: Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>,
}

/// A connected pair: ours, and the one that becomes the shim's standard input.
pub(crate) fn socket_pair() -> Result<(FdSocket, OwnedFd)> {
    let (ours, theirs) = FdSocket::pair().map_err(|e| Error::io("cannot make a socket pair for the shim", e))?;
    Ok((ours, theirs.into()))
}

/// Connect to a shim that outlived its daemon. Blocking, but a listening socket answers at once.
pub(crate) fn connect(run_dir: &Path) -> std::result::Result<FdSocket, Errno> {
    FdSocket::connect(&run_dir.join("shim.sock"))
}

impl ShimLink {
    /// Take over a connected socket. Events arrive on the receiver in the order the shim sent them;
    /// it ends when the shim closes the connection.
    pub(crate) fn start(socket: FdSocket) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<Event>)> {
        let doing = "cannot watch the shim's socket";
        socket.set_nonblocking(true).map_err(|e| Error::io(doing, e))?;
        let socket =
            watched::watch(socket, Interest::READABLE | Interest::WRITABLE).map_err(|e| Error::io(doing, e))?;
        let peer = Arc::new(Peer { socket, sequence: AtomicU64::new(1), pending: Mutex::new(Some(HashMap::new())) });
        let (events, receiver) = mpsc::unbounded_channel();
        let link = Arc::clone(&peer);
        let reader = tokio::spawn(async move {
            let mut buffer = Vec::new();
            loop {
                match link.receive(&mut buffer).await {
                    Ok(Some((ReplyFrame::Response { seq, response }, fds))) => {
                        let waiting = link.lock().as_mut().and_then(|map| map.remove(&seq));
                        if let Some(waiting) = waiting {
                            // Whoever asked may have gone; the descriptors close with the answer.
                            let _ = waiting.send(Reply { response, fds });
                        }
                    }
                    Ok(Some((ReplyFrame::Event(event), _))) => {
                        if events.send(event).is_err() {
                            tracing::debug!("an event of a shim nobody listens to");
                        }
                    }
                    Ok(None) => break link.hang_up(),
                    Err(error) => {
                        tracing::warn!(%error, "the connection to a shim broke");
                        break link.hang_up();
                    }
                }
            }
        });
        Ok((Arc::new(Self { peer, reader: reader.abort_handle() }), receiver))
    }

    /// Send a request with its descriptors and wait for the answer.
    pub(crate) async fn request(&self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<Reply> {
        self.peer.request(request, fds).await
    }
}

impl Drop for ShimLink {
    /// A link nobody uses any more is closed, which lets a finished shim go.
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Peer {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Reply>>>> {
        self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn hang_up(&self) {
        drop(self.lock().take());
    }

    async fn request(&self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<Reply> {
        let gone = || fail!(Unavailable, "the container's shim does not answer any more");
        if fds.len() > MAX_FDS {
            return Err(fail!(
                Invalid,
                "too many mounts, namespaces and devices: {} descriptors, the kernel passes at most {MAX_FDS}",
                fds.len()
            ));
        }
        let seq = self.sequence.fetch_add(1, Ordering::Relaxed);
        let bytes =
            RequestFrame { seq, request }.encode().map_err(|e| Error::io("cannot encode a request to the shim", e))?;
        let (tx, rx) = oneshot::channel();
        match self.lock().as_mut() {
            Some(pending) => pending.insert(seq, tx),
            None => return Err(gone()),
        };
        if let Err(error) = self.send(&bytes, fds).await {
            if let Some(pending) = self.lock().as_mut() {
                pending.remove(&seq);
            }
            return Err(match error.raw_os_error() {
                Some(code) if code == Errno::PIPE.raw_os_error() || code == Errno::CONNRESET.raw_os_error() => gone(),
                _ => Error::io("cannot speak to the container's shim", error),
            });
        }
        rx.await.map_err(|_| gone())
    }

    async fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, |socket| Ok(socket.0.send(bytes, fds)?)).await
    }

    async fn receive(&self, buffer: &mut Vec<u8>) -> std::io::Result<Option<(ReplyFrame, Vec<OwnedFd>)>> {
        // Most messages are small and the connection is idle for hours: wait without a buffer.
        loop {
            let mut guard = self.socket.ready(Interest::READABLE).await?;
            buffer.resize(MAX_MESSAGE, 0);
            let got = guard.try_io(|socket| Ok(socket.get_ref().0.recv(buffer)?));
            let Ok(result) = got else { continue };
            let outcome = match result {
                Ok(got) if got.len == 0 => Ok(None),
                Ok(got) => ReplyFrame::decode(&buffer[..got.len])
                    .map(|frame| Some((frame, got.fds)))
                    .map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidData, e)),
                Err(e) if e.raw_os_error() == Some(Errno::CONNRESET.raw_os_error()) => Ok(None),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
            *buffer = Vec::new();
            return outcome;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use launch::ExitRecord;

    fn answer(socket: &FdSocket, frame: &ReplyFrame) {
        socket.send(&frame.encode().unwrap(), &[]).unwrap();
    }

    #[tokio::test]
    async fn answers_find_their_request_and_a_dead_peer_fails_the_rest() {
        let (ours, theirs) = socket_pair().unwrap();
        let (link, mut events) = ShimLink::start(ours).unwrap();
        let peer = std::thread::spawn(move || {
            let theirs = FdSocket::new(theirs);
            let mut frames = Vec::new();
            for _ in 0..3 {
                let mut buffer = vec![0; MAX_MESSAGE];
                let got = theirs.recv(&mut buffer).unwrap();
                frames.push(RequestFrame::decode(&buffer[..got.len]).unwrap());
            }
            let exit = ExitRecord { code: 3, finished_at_ns: 1, oom_killed: false };
            answer(&theirs, &ReplyFrame::Event(Event::Exited(exit)));
            for frame in frames.iter().rev() {
                let Request::Resize { rows, .. } = frame.request else { panic!("{frame:?}") };
                if rows == 1 {
                    continue;
                }
                let response = Response::ExecStarted { pid: i32::from(rows) };
                answer(&theirs, &ReplyFrame::Response { seq: frame.seq, response });
            }
        });
        let ask = |rows| link.request(Request::Resize { exec_id: String::new(), rows, cols: 0 }, &[]);
        let (first, second, third) = tokio::join!(ask(1), ask(2), ask(3));
        assert_eq!(first.unwrap_err().kind(), types::Kind::Unavailable);
        assert_eq!(second.unwrap().response, Response::ExecStarted { pid: 2 });
        assert_eq!(third.unwrap().response, Response::ExecStarted { pid: 3 });
        assert!(matches!(events.recv().await, Some(Event::Exited(ExitRecord { code: 3, .. }))));
        assert_eq!(events.recv().await, None);
        assert!(ask(4).await.is_err());
        peer.join().unwrap();
    }
}
