//! Bodies of answers: documents, and pieces of files that are read ahead on the blocking pool, or only brought into the
//! page cache there and sent from it.
//!
//! The invariant: a file's body has the length that was announced, or breaks the connection off.

use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::sendfile::{self, Outlet};

/// Bytes read at once; two such pieces of an answer are in memory at a time.
const PIECE: usize = 256 << 10;
/// Ranges shorter than this go into one packet with their head, and are read.
const SEND_MIN: u64 = 64 << 10;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// Known whole; taken when sent.
    Whole(Option<Bytes>),
    /// From a file.
    File(FileBody),
    /// As it comes, and so many bytes of it.
    Stream(mpsc::Receiver<io::Result<Bytes>>, u64),
}

/// A range of a file.
#[derive(Debug)]
pub(crate) struct FileBody {
    file: Arc<File>,
    /// Offset of the next byte to read.
    next: u64,
    end: u64,
    /// Bytes not sent yet.
    unsent: u64,
    reading: Option<JoinHandle<io::Result<Piece>>>,
    /// Where pieces are sent from the page cache.
    outlet: Option<Outlet>,
}

#[derive(Debug)]
enum Piece {
    Read(Bytes),
    /// In the page cache: offset and length.
    Warm(u64, usize),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::Whole(None)
    }

    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }
}

impl FileBody {
    /// The bytes from `start` up to `end`, which the file has, through `outlet` if the connection has one.
    pub(crate) fn new(file: File, start: u64, end: u64, outlet: Option<Outlet>) -> Self {
        let outlet = outlet.filter(|_| end - start >= SEND_MIN);
        Self { file: Arc::new(file), next: start, end, unsent: end - start, reading: None, outlet }
    }

    /// Begins to read the next piece, unless all is read.
    fn read_on(&mut self) {
        let most = if self.outlet.is_some() { sendfile::PROMISE_MAX } else { PIECE };
        let size = usize::try_from(self.end - self.next).unwrap_or(most).min(most);
        if size == 0 {
            return;
        }
        let (file, offset, warm) = (Arc::clone(&self.file), self.next, self.outlet.is_some());
        self.next += size as u64;
        self.reading = Some(tokio::task::spawn_blocking(move || match warm {
            true => sendfile::warm(&file, offset, size).map(|()| Piece::Warm(offset, size)),
            false => read(&file, offset, size).map(Piece::Read),
        }));
    }
}

pub(crate) fn read(file: &File, offset: u64, size: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a blob's file became shorter")),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    // The allocator may have given more room than was asked for.
    bytes.truncate(size);
    Ok(bytes.into())
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let file = match self.get_mut() {
            Self::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::File(file) => file,
            Self::Stream(pieces, unsent) => {
                let piece = ready!(pieces.poll_recv(cx));
                if let Some(Ok(piece)) = &piece {
                    *unsent = unsent.saturating_sub(piece.len() as u64);
                }
                return Poll::Ready(piece.map(|piece| piece.map(Frame::data)));
            }
        };
        if file.reading.is_none() {
            file.read_on();
        }
        let Some(reading) = &mut file.reading else { return Poll::Ready(None) };
        let piece = ready!(Pin::new(reading).poll(cx));
        file.reading = None;
        let piece = match piece.map_err(io::Error::other).flatten() {
            Ok(Piece::Read(bytes)) => bytes,
            Ok(Piece::Warm(offset, size)) => {
                let Some(outlet) = &file.outlet else { return Poll::Ready(Some(Err(io::ErrorKind::Other.into()))) };
                outlet.promise(&file.file, offset, size)
            }
            Err(e) => {
                tracing::error!("cannot read a blob: {e}");
                return Poll::Ready(Some(Err(e)));
            }
        };
        file.unsent -= piece.len() as u64;
        file.read_on();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::File(file) => file.unsent == 0,
            Self::Stream(_, unsent) => *unsent == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::File(file) => file.unsent,
            Self::Stream(_, unsent) => *unsent,
        })
    }
}
