//! Downloads one blob into a stream of chunks: resumed by `Range` after a break, never longer than
//! promised, and checked against its digest before the end is announced.

use crate::error::Error;
use crate::manifest::Descriptor;
use crate::repository::{Answer, Repository};
use crate::sink::Chunk;
use crate::transport::{broken, describe};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use types::Digest;

/// Progress that makes a broken connection not count as a failed try.
const WORTHWHILE: u64 = 1 << 20;
/// Breaks survived in all, so that a registry cannot keep a pull going forever.
const BREAKS_MAX: u32 = 1000;

/// What the downloader tells.
pub(crate) enum Step {
    /// Bytes that came so far.
    Received(u64),
    /// A wait before the next try.
    Retrying(Duration),
}

/// The receiver of the chunks has gone; its own result says why.
pub(crate) struct Abandoned;

/// How a download ended early.
pub(crate) enum Failure {
    Registry(Error),
    Abandoned,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Registry(error)
    }
}

impl From<Abandoned> for Failure {
    fn from(_: Abandoned) -> Failure {
        Failure::Abandoned
    }
}

/// A download in progress.
pub(crate) struct Download<'a> {
    repository: &'a Repository,
    descriptor: &'a Descriptor,
    chunks: &'a mpsc::Sender<Chunk>,
    hash: Option<Sha256>,
    received: u64,
}

impl<'a> Download<'a> {
    /// Prepares a download from byte `received` on; `check` computes the digest on the way.
    pub(crate) fn new(
        repository: &'a Repository,
        descriptor: &'a Descriptor,
        chunks: &'a mpsc::Sender<Chunk>,
        check: bool,
        received: u64,
    ) -> Download<'a> {
        Download { repository, descriptor, chunks, hash: check.then(Sha256::new), received }
    }

    /// Runs it to the checked end, which the caller announces.
    pub(crate) async fn run(mut self, tell: &(dyn Fn(Step) + Send + Sync)) -> Result<(), Failure> {
        let mut attempt = 1;
        let mut breaks = 0;
        let whole = self.received > 0 && self.received == self.descriptor.size;
        while !whole && (self.received < self.descriptor.size || breaks == 0) {
            let before = self.received;
            let error = match self.attempt(tell).await {
                Ok(()) => break,
                Err(Failure::Registry(error)) if error.is_interruption() => error,
                Err(other) => return Err(other),
            };
            breaks += 1;
            attempt = if self.received - before >= WORTHWHILE { 1 } else { attempt + 1 };
            if attempt > self.repository.transport.config.limits.attempts || breaks > BREAKS_MAX {
                return Err(error.into());
            }
            let wait = self.repository.wait_before(attempt, &error);
            tracing::debug!(%error, received = self.received, "resuming a blob");
            tell(Step::Retrying(wait));
            tokio::time::sleep(wait).await;
        }
        if let Some(hash) = self.hash {
            let actual = Digest::sha256(hash.finalize().into());
            if actual != self.descriptor.digest {
                return Err(Error::Digest { what: "filesystem layer", expected: self.descriptor.digest, actual }.into());
            }
        }
        Ok(())
    }

    /// One request, from where the last one broke off.
    async fn attempt(&mut self, tell: &(dyn Fn(Step) + Send + Sync)) -> Result<(), Failure> {
        let rest = format!("blobs/{}", self.descriptor.digest);
        let mut headers = vec![(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))];
        if self.received > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.received));
            headers.extend(range.ok().map(|r| (header::RANGE, r)));
        }
        let on_retry = |wait| tell(Step::Retrying(wait));
        let answer = self.repository.get(&rest, &headers, &on_retry).await?;
        let mut skip = self.start_of(&answer)?;
        let Answer { response, url } = answer;
        let idle = self.repository.transport.config.limits.idle;
        let mut body = response.into_body();
        loop {
            let frame = match timeout(idle, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(broken("GET", &url, describe(&error)).into()),
                Err(_) => return Err(broken("GET", &url, "timed out while reading the body".to_owned()).into()),
            };
            let Ok(mut data) = frame.into_data() else { continue };
            let skipped = usize::try_from(skip).map_or(data.len(), |s| s.min(data.len()));
            skip -= skipped as u64;
            let data = data.split_off(skipped);
            if !data.is_empty() {
                self.take(data).await?;
                tell(Step::Received(self.received));
            }
        }
        if self.received < self.descriptor.size {
            return Err(broken("GET", &url, "unexpected EOF".to_owned()).into());
        }
        Ok(())
    }

    /// How many bytes of this answer we have already.
    fn start_of(&self, answer: &Answer) -> Result<u64, Error> {
        if answer.response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(self.received);
        }
        let range = answer.response.headers().get(header::CONTENT_RANGE).and_then(|r| r.to_str().ok());
        let start = range.and_then(|r| r.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
        match start {
            Some(start) if start <= self.received => Ok(self.received - start),
            _ => Err(Error::Size {
                digest: self.descriptor.digest,
                expected: self.descriptor.size,
                actual: self.received,
            }),
        }
    }

    async fn take(&mut self, data: Bytes) -> Result<(), Failure> {
        let total = self.received + data.len() as u64;
        if total > self.descriptor.size {
            let (digest, expected) = (self.descriptor.digest, self.descriptor.size);
            return Err(Error::Size { digest, expected, actual: total }.into());
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&data);
        }
        self.chunks.send(Chunk::Data(data)).await.map_err(|_| Abandoned)?;
        self.received = total;
        Ok(())
    }
}
