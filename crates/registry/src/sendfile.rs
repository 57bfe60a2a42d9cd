//! Bytes of a file from the page cache to a plain connection, by sendfile(2), past the HTTP implementation.
//!
//! That implementation takes bodies as slices of memory. A body hands it a slice of placeholder memory, which is never
//! read, and promises the file's range to the connection at the same time; the connection knows the placeholder by its
//! address and sends the range instead. The invariant: a placeholder's bytes are never sent. Slices come in the order of
//! the promises and with their lengths; anything else ends the connection.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::fs::Advice;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Most bytes of one promise.
pub(crate) const PROMISE_MAX: usize = 1 << 20;

/// Memory that stands for files: mapped, never touched.
static PLACEHOLDER: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![0; PROMISE_MAX]));

/// What was promised to a connection and is not sent yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outlet(Arc<Mutex<VecDeque<Promise>>>);

#[derive(Debug)]
struct Promise {
    file: Arc<File>,
    offset: u64,
    left: usize,
}

impl Outlet {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Promise>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Promises `length` bytes, at most [`PROMISE_MAX`] and at least one, and returns what stands for them. It must be
    /// the next body that is written to the connection.
    pub(crate) fn promise(&self, file: &Arc<File>, offset: u64, length: usize) -> Bytes {
        self.lock().push_back(Promise { file: Arc::clone(file), offset, left: length });
        PLACEHOLDER.slice(..length)
    }
}

/// Has a range of a file in the page cache, so that the socket's thread does not wait for the disk. Blocks.
pub(crate) fn warm(file: &File, offset: u64, length: usize) -> io::Result<()> {
    // Advice is a favour; the last byte comes in after those before it.
    let _ = rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(length as u64), Advice::WillNeed);
    let mut last = [0];
    match rustix::io::pread(file, &mut last, offset + length as u64 - 1)? {
        0 => Err(shorter()),
        _ => Ok(()),
    }
}

fn shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a blob's file became shorter")
}

/// A plain connection that keeps promises.
#[derive(Debug)]
pub(crate) struct Plain {
    stream: TcpStream,
    outlet: Outlet,
}

impl Plain {
    pub(crate) fn new(stream: TcpStream, outlet: Outlet) -> Self {
        Self { stream, outlet }
    }

    /// Sends what a placeholder of `length` bytes stands for.
    fn poll_send(&self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let mut promises = self.outlet.lock();
            let Some(next) = promises.front_mut().filter(|promise| promise.left == length) else {
                return Poll::Ready(Err(io::Error::other("a body was written that nobody promised")));
            };
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                Ok(rustix::fs::sendfile(&self.stream, &next.file, Some(&mut next.offset), next.left)?)
            });
            match sent {
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Ok(0) => return Poll::Ready(Err(shorter())),
                Ok(count) => {
                    next.left -= count;
                    if next.left == 0 {
                        promises.pop_front();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

fn is_placeholder(bytes: &[u8]) -> bool {
    PLACEHOLDER.as_ptr_range().contains(&bytes.as_ptr())
}

impl AsyncRead for Plain {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match !bytes.is_empty() && is_placeholder(bytes) {
            true => self.poll_send(cx, bytes.len()),
            false => Pin::new(&mut self.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let empty = pieces.iter().take_while(|piece| piece.is_empty()).count();
        let pieces = &pieces[empty..];
        // What is memory goes first, up to the first placeholder.
        let memory = pieces.iter().take_while(|piece| piece.is_empty() || !is_placeholder(piece)).count();
        match (memory, pieces.first()) {
            (0, Some(first)) => self.poll_send(cx, first.len()),
            _ => Pin::new(&mut self.stream).poll_write_vectored(cx, &pieces[..memory]),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn promises_are_sent_between_memory_and_placeholders_never() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 3000]).unwrap();
        let file = Arc::new(file);
        let outlet = Outlet::default();
        let mut plain = Plain::new(listener.accept().await.unwrap().0, outlet.clone());
        let (one, two) = (outlet.promise(&file, 0, 1000), outlet.promise(&file, 1000, 2000));
        let mut rest = &mut [IoSlice::new(b""), IoSlice::new(b"head"), IoSlice::new(&one), IoSlice::new(&two)][..];
        while !rest.is_empty() {
            let count = plain.write_vectored(rest).await.unwrap();
            IoSlice::advance_slices(&mut rest, count);
        }
        // Nobody promised this, and that is of another length.
        plain.write(&PLACEHOLDER[..10]).await.unwrap_err();
        let other = outlet.promise(&file, 0, 20);
        plain.write(&other[..10]).await.unwrap_err();
        drop(plain);
        let mut got = Vec::new();
        { client }.read_to_end(&mut got).await.unwrap();
        assert_eq!((&got[..4], got.len()), (&b"head"[..], 3004));
        assert!(got[4..].iter().all(|byte| *byte == 7));
        assert!(warm(&file, 2990, 11).is_err() && warm(&file, 2990, 10).is_ok());
    }
}
