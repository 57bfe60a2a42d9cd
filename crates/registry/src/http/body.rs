//! Bodies of answers: documents, and pieces of files read ahead on the blocking pool.
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
use tokio::task::JoinHandle;

/// Bytes read at once; two such pieces of an answer are in memory at a time.
const PIECE: usize = 256 << 10;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// Known whole; taken when sent.
    Whole(Option<Bytes>),
    /// From a file.
    File(FileBody),
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
    reading: Option<JoinHandle<io::Result<Bytes>>>,
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
    /// The bytes from `start` up to `end`, which the file has.
    pub(crate) fn new(file: File, start: u64, end: u64) -> Self {
        Self { file: Arc::new(file), next: start, end, unsent: end - start, reading: None }
    }

    /// Begins to read the next piece, unless all is read.
    fn read_on(&mut self) {
        let size = usize::try_from(self.end - self.next).unwrap_or(PIECE).min(PIECE);
        if size == 0 {
            return;
        }
        let (file, offset) = (Arc::clone(&self.file), self.next);
        self.next += size as u64;
        self.reading = Some(tokio::task::spawn_blocking(move || read(&file, offset, size)));
    }
}

fn read(file: &File, offset: u64, size: usize) -> io::Result<Bytes> {
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
        };
        if file.reading.is_none() {
            file.read_on();
        }
        let Some(reading) = &mut file.reading else { return Poll::Ready(None) };
        let piece = ready!(Pin::new(reading).poll(cx));
        file.reading = None;
        let piece = match piece.map_err(io::Error::other).flatten() {
            Ok(piece) => piece,
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
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::File(file) => file.unsent,
        })
    }
}
