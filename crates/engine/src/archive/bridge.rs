//! Between byte streams of the asynchronous side and readers and writers of the blocking side.
//!
//! Both directions are bounded, so the slower side sets the pace, and both end when the other side
//! goes away: a reader fails with what the client's body failed with, a writer with a broken pipe.

use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use store::ChunkReader;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::error::Result;
use crate::{AnyStream, ByteStream};

/// Bytes handed over at a time.
const CHUNK: usize = 128 * 1024;
/// Chunks under way.
const QUEUE: usize = 4;

/// Longest time for which a body that failed half-way is read on: a client that still writes would
/// otherwise see a broken connection instead of the error.
const DRAIN: Duration = Duration::from_secs(5);

/// Let `work` read `body`, on a thread of the blocking pool.
///
/// # Errors
/// Those of `work`.
pub(crate) fn read<T>(mut body: ByteStream, work: impl FnOnce(&mut (dyn Read + Send)) -> Result<T>) -> Result<T> {
    let runtime = Handle::current();
    let mut ended = false;
    let mut reader = ChunkReader::new(|| {
        let chunk = runtime.block_on(body.next());
        ended = !matches!(chunk, Some(Ok(_)));
        chunk
    });
    let result = work(&mut reader);
    if result.is_err() && !ended {
        runtime.block_on(async {
            // What is read after a failure is of no interest, and neither is how it ends.
            let _ = tokio::time::timeout(DRAIN, async { while let Some(Ok(_)) = body.next().await {} }).await;
        });
    }
    result
}

/// The bytes that `work` writes, from a thread of the blocking pool. A failure is the last item.
pub(crate) fn stream(work: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static) -> ByteStream {
    let (chunks, mut received) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
    let ending = chunks.clone();
    tokio::task::spawn_blocking(move || {
        let mut writer = ChunkWriter { chunks, pending: Vec::with_capacity(CHUNK) };
        let result =
            work(&mut writer).and_then(|()| writer.flush().map_err(|e| crate::Error::io("cannot send an archive", e)));
        if let Err(error) = result
            && ending.blocking_send(Err(io::Error::other(error.to_string()))).is_ok()
        {
            tracing::warn!(%error, "an archive could not be sent whole");
        }
    });
    Box::pin(futures_util::stream::poll_fn(move |context| received.poll_recv(context)))
}

/// Messages of a channel; `guard` is dropped when nobody reads them any more.
pub(crate) fn messages<T: Send + 'static>(mut received: mpsc::Receiver<T>, guard: impl Send + 'static) -> AnyStream<T> {
    Box::pin(futures_util::stream::poll_fn(move |context| {
        let _keep = &guard;
        received.poll_recv(context)
    }))
}

struct ChunkWriter {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    pending: Vec<u8>,
}

impl ChunkWriter {
    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.pending, Vec::with_capacity(CHUNK));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone");
        self.chunks.blocking_send(Ok(Bytes::from(chunk))).map_err(gone)
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let take = data.len().min(CHUNK - self.pending.len());
        self.pending.extend_from_slice(&data[..take]);
        if self.pending.len() == CHUNK {
            self.send()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.send() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_what_is_read() {
        let data: Vec<u8> = (0..CHUNK * 3 + 17).map(|i| i as u8).collect();
        let copy = data.clone();
        let body = stream(move |out| out.write_all(&copy).map_err(|e| crate::Error::io("write", e)));
        let read = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            super::read(body, |reader| reader.read_to_end(&mut all).map_err(|e| crate::Error::io("read", e)))
                .map(|_| all)
        });
        assert_eq!(read.await.unwrap().unwrap(), data);
    }

    #[tokio::test]
    async fn a_failure_comes_last() {
        let mut body = stream(|out| {
            out.write_all(b"half").map_err(|e| crate::Error::io("write", e))?;
            Err(crate::error::fail!(Internal, "disk on fire"))
        });
        // What was written before is not sent: the stream is broken either way.
        let error = body.next().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "disk on fire");
        assert!(body.next().await.is_none());
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_the_work() {
        let (done, ended) = tokio::sync::oneshot::channel();
        let body = stream(move |out| {
            let result = loop {
                if let Err(error) = out.write_all(&[0; CHUNK]) {
                    break error;
                }
            };
            let _ = done.send(result.kind());
            Ok(())
        });
        drop(body);
        assert_eq!(ended.await.unwrap(), io::ErrorKind::BrokenPipe);
    }
}
