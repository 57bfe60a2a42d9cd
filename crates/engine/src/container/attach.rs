//! The byte stream of an attached client: what the process writes, already framed by the shim
//! unless there is a terminal, and what the client types.
//!
//! A stream may be made before the container starts; it then waits, and is connected before the
//! first instruction of the process so that no byte is lost. It ends when the process has ended.
//! Made here, pumped by whoever holds the client's connection.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};

/// What [`crate::Engine::container_attach`] and [`crate::Engine::exec_start`] give.
#[derive(Debug)]
pub struct Attached {
    /// A terminal: the stream is raw. Without one it is stdcopy frames.
    pub tty: bool,
    pub stream: AttachStream,
}

/// Both directions of an attached client. Shutting the write side down is the client's end of input.
#[derive(Debug)]
pub struct AttachStream {
    /// Earlier output to send first (`logs=1`).
    prefix: Option<Prefix>,
    live: Live,
    /// What the end of the output waits for.
    farewell: Option<Farewell>,
}

struct Farewell(Pin<Box<dyn Future<Output = ()> + Send>>);

impl std::fmt::Debug for Farewell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Farewell")
    }
}

#[derive(Debug)]
struct Prefix {
    chunks: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
}

#[derive(Debug)]
enum Live {
    /// Not started yet; the sender is kept by the container. `shut`: the client ended its input already.
    Waiting {
        connection: oneshot::Receiver<OwnedFd>,
        shut: bool,
    },
    Connected(UnixStream),
    Ended,
}

impl AttachStream {
    /// Over one end of the shim's stream socket pair.
    pub(crate) fn connected(fd: OwnedFd) -> Result<Self> {
        let live = Live::Connected(stream(fd).map_err(|e| Error::io("cannot attach", e))?);
        Ok(Self { prefix: None, live, farewell: None })
    }

    /// Before the start: connected when the descriptor comes, ended when its sender goes.
    pub(crate) fn waiting(connection: oneshot::Receiver<OwnedFd>) -> Self {
        Self { prefix: None, live: Live::Waiting { connection, shut: false }, farewell: None }
    }

    /// Nothing live (`stream=0`).
    pub(crate) fn ended() -> Self {
        Self { prefix: None, live: Live::Ended, farewell: None }
    }

    pub(crate) fn with_prefix(mut self, chunks: mpsc::Receiver<Result<Bytes>>) -> Self {
        self.prefix = Some(Prefix { chunks, current: Bytes::new() });
        self
    }

    /// Tell of the end of the output only when `done` is over: who sees the end asks for the exit code next.
    pub(crate) fn ending_after(mut self, done: impl Future<Output = ()> + Send + 'static) -> Self {
        self.farewell = Some(Farewell(Box::pin(done)));
        self
    }

    /// Wait for the connection; ready when there is one or never will be.
    fn poll_live(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Live::Waiting { connection, shut } = &mut self.live {
            let shut = *shut;
            self.live = match std::task::ready!(Pin::new(connection).poll(cx)).ok().map(stream) {
                Some(Ok(stream)) => {
                    if shut {
                        // The peer learns of the end of input at once; a failure means it is gone already.
                        let _ = rustix::net::shutdown(&stream, rustix::net::Shutdown::Write);
                    }
                    Live::Connected(stream)
                }
                _ => Live::Ended,
            };
        }
        Poll::Ready(())
    }
}

fn stream(fd: OwnedFd) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(fd);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

impl AsyncRead for AttachStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while let Some(prefix) = &mut this.prefix {
            if prefix.current.has_remaining() {
                let length = prefix.current.len().min(buf.remaining());
                buf.put_slice(&prefix.current.split_to(length));
                return Poll::Ready(Ok(()));
            }
            match std::task::ready!(prefix.chunks.poll_recv(cx)) {
                Some(Ok(chunk)) => prefix.current = chunk,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => this.prefix = None,
            }
        }
        std::task::ready!(this.poll_live(cx));
        match &mut this.live {
            Live::Connected(stream) => {
                let before = buf.filled().len();
                match std::task::ready!(Pin::new(stream).poll_read(cx, buf)) {
                    // The shim left without a word: the end all the same.
                    Err(e) if e.kind() != io::ErrorKind::ConnectionReset => return Poll::Ready(Err(e)),
                    _ => {}
                }
                if let (true, Some(farewell)) = (buf.filled().len() == before, &mut this.farewell) {
                    std::task::ready!(farewell.0.as_mut().poll(cx));
                    this.farewell = None;
                }
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for AttachStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_live(cx));
        match &mut self.live {
            Live::Connected(stream) => Pin::new(stream).poll_write(cx, data),
            _ => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.live {
            Live::Connected(stream) => Pin::new(stream).poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.live {
            Live::Waiting { shut, .. } => {
                *shut = true;
                Poll::Ready(Ok(()))
            }
            Live::Connected(stream) => Pin::new(stream).poll_shutdown(cx),
            Live::Ended => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn input_sent_and_ended_before_the_start_arrives() {
        let (tx, rx) = oneshot::channel();
        let mut stream = AttachStream::waiting(rx);
        stream.shutdown().await.unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        tx.send(ours.into()).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut theirs = UnixStream::from_std(theirs).unwrap();
        theirs.write_all(b"out").await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut out = Vec::new();
        stream.read_to_end(&mut out).await.unwrap();
        assert_eq!(out, b"out");
        assert_eq!(theirs.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn the_end_waits_for_what_it_promised() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (tx, rx) = oneshot::channel::<()>();
        let mut stream = AttachStream::connected(ours.into()).unwrap().ending_after(async {
            let _ = rx.await;
        });
        drop(theirs);
        let mut byte = [0; 1];
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), stream.read(&mut byte)).await;
        assert!(early.is_err(), "the end was told too early");
        tx.send(()).unwrap();
        assert_eq!(stream.read(&mut byte).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_start_that_never_comes_ends_the_stream() {
        let (tx, rx) = oneshot::channel();
        let mut stream = AttachStream::waiting(rx);
        drop(tx);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(stream.write(b"x").await.is_err());
    }
}
