//! What a request carries: a short text, or content that streams from the source of a push.
//!
//! A stream is never longer than announced and never shorter: a source that ends early breaks the
//! connection, so that no registry takes a part for the whole. Called by the transport and by uploads.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;

/// The body of a request.
#[derive(Debug)]
pub(crate) enum Payload {
    /// In memory; empty for none. Sent again on another connection when one turns out to be closed.
    Bytes(Bytes),
    /// Sent once.
    Stream(Stream),
}

/// Content that comes piece by piece.
#[derive(Debug)]
pub(crate) struct Stream {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
    sent: Arc<AtomicU64>,
}

impl Payload {
    /// No body.
    pub(crate) fn empty() -> Payload {
        Payload::Bytes(Bytes::new())
    }

    /// `length` bytes out of `chunks`. What the connection has taken is added to `sent`.
    pub(crate) fn stream(chunks: mpsc::Receiver<io::Result<Bytes>>, length: u64, sent: Arc<AtomicU64>) -> Payload {
        Payload::Stream(Stream { chunks, left: length, sent })
    }

    /// The same once more, unless it can be sent only once.
    pub(crate) fn again(&self) -> Option<Payload> {
        match self {
            Payload::Bytes(bytes) => Some(Payload::Bytes(bytes.clone())),
            Payload::Stream(_) => None,
        }
    }

    /// Counts what a connection has taken of a stream.
    pub(crate) fn sent(&self) -> Option<Arc<AtomicU64>> {
        match self {
            Payload::Bytes(_) => None,
            Payload::Stream(stream) => Some(stream.sent.clone()),
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Payload::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Payload::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Payload::Stream(stream) if stream.left == 0 => Poll::Ready(None),
            Payload::Stream(stream) => {
                let early =
                    || io::Error::new(io::ErrorKind::UnexpectedEof, "the content ended before its announced size");
                let mut chunk = ready!(stream.chunks.poll_recv(context)).unwrap_or_else(|| Err(early()))?;
                chunk.truncate(usize::try_from(stream.left).unwrap_or(usize::MAX));
                stream.left -= chunk.len() as u64;
                stream.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Payload::Bytes(bytes) => bytes.is_empty(),
            Payload::Stream(stream) => stream.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Stream(stream) => stream.left,
        })
    }
}
