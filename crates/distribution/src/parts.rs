//! Parts of a layer's blob, for a sink that has the rest of the layer already.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::manifest::Descriptor;
use crate::origin::Url;
use crate::ranges::{Ahead, Piece, Segment, Source};
use crate::repository::Repository;
use crate::sink::Chunk;
use crate::transport::broken;

/// Ranges of one request: servers take heads of 8 KiB.
const RANGES: usize = 128;

/// Told of the bytes that need not come any more: here, or fetched.
type Tell = Box<dyn Fn(u64) + Send + Sync>;

/// A layer's blob at its registry.
pub struct Parts {
    repository: Arc<Repository>,
    descriptor: Descriptor,
    tell: Tell,
}

impl Parts {
    pub(crate) fn new(repository: Arc<Repository>, descriptor: Descriptor, tell: Tell) -> Parts {
        Parts { repository, descriptor, tell }
    }

    /// Fetches a part whole.
    ///
    /// # Errors
    /// Those of the registry, and [`Error::Protocol`] for one that does not send ranges.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes, Error> {
        let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0));
        let mut incoming = self.ask(vec![range]);
        while let Some(data) = incoming.next().await? {
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.into())
    }

    /// Fetches parts, one behind the other in the order given, several at a time; the end is announced when all of them
    /// were sent. A receiver that goes away ends it.
    ///
    /// # Errors
    /// As [`Parts::read`].
    pub async fn stream(&self, ranges: Vec<Range<u64>>, chunks: mpsc::Sender<Chunk>) -> Result<(), Error> {
        let bytes: u64 = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        let mut done = self.descriptor.size.saturating_sub(bytes);
        (self.tell)(done);
        let mut incoming = self.ask(ranges);
        while let Some(data) = incoming.next().await? {
            done += data.len() as u64;
            if chunks.send(Chunk::Data(data)).await.is_err() {
                return Ok(());
            }
            (self.tell)(done);
        }
        let _ = chunks.send(Chunk::End).await;
        Ok(())
    }

    fn ask(&self, ranges: Vec<Range<u64>>) -> Incoming {
        let Descriptor { digest, size, .. } = self.descriptor;
        let url = self.repository.url(&format!("blobs/{digest}"));
        let source = Source::new(self.repository.clone(), digest, size, &url);
        Incoming { ahead: Ahead::over(source, ranges, RANGES), segment: None, left: 0, url }
    }
}

/// Ranges that are coming.
struct Incoming {
    ahead: Ahead,
    segment: Option<Segment>,
    /// Bytes of it that are to come.
    left: u64,
    url: Url,
}

impl Incoming {
    /// The next bytes; nothing at the end of the last range.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(segment) = &mut self.segment else {
                let Some(next) = self.ahead.next().await else { return Ok(None) };
                self.left = next.bytes;
                self.segment = Some(next);
                continue;
            };
            match segment.next().await {
                Some(Piece::Accepted) => {}
                Some(Piece::Data(data)) => {
                    self.left = self.left.saturating_sub(data.len() as u64);
                    return Ok(Some(data));
                }
                Some(Piece::Failed(error)) => return Err(error),
                None if self.left > 0 => {
                    return Err(broken("GET", &self.url, "unexpected EOF".to_owned()));
                }
                None => self.segment = None,
            }
        }
    }
}
