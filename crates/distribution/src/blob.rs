//! Downloads one blob into a stream of chunks: resumed by `Range` after a break, by several ranges at a time where one
//! stream is slow, never longer than promised, and checked against its digest before the end is announced.

use crate::error::Error;
use crate::manifest::Descriptor;
use crate::ranges::{Ahead, ContentRange, Meter, Piece, Source};
use crate::repository::{Answer, Repository};
use crate::sink::Chunk;
use crate::transport::{broken, describe};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};
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
    repository: Arc<Repository>,
    descriptor: &'a Descriptor,
    chunks: &'a mpsc::Sender<Chunk>,
    hash: Option<Sha256>,
    received: u64,
    /// Whether several ranges at a time are worth a try.
    ranges: bool,
}

/// How a request ended that did not fail.
enum Ended {
    /// Everything is there.
    Whole,
    /// Another request brings more.
    Early,
}

impl<'a> Download<'a> {
    /// Prepares a download from byte `received` on; `check` computes the digest on the way.
    pub(crate) fn new(
        repository: Arc<Repository>,
        descriptor: &'a Descriptor,
        chunks: &'a mpsc::Sender<Chunk>,
        check: bool,
        received: u64,
    ) -> Download<'a> {
        let rules = &repository.transport.config.limits.ranges;
        let ranges = rules.at_once > 1 && descriptor.size >= rules.from;
        Download { repository, descriptor, chunks, hash: check.then(Sha256::new), received, ranges }
    }

    /// Runs it to the checked end, which the caller announces.
    pub(crate) async fn run(mut self, tell: &(dyn Fn(Step) + Send + Sync)) -> Result<(), Failure> {
        let mut attempt = 1;
        let mut breaks = 0;
        while self.received == 0 || self.received < self.descriptor.size {
            let before = self.received;
            let error = match self.attempt(tell).await {
                Ok(Ended::Whole) => break,
                Ok(Ended::Early) => continue,
                Err(Failure::Registry(error)) => error,
                Err(other) => return Err(other),
            };
            if self.received == self.descriptor.size && error.is_interruption() {
                break;
            }
            breaks += 1;
            attempt = if self.received - before >= WORTHWHILE { 1 } else { attempt + 1 };
            let last = attempt > self.repository.transport.config.limits.attempts || breaks > BREAKS_MAX;
            if last || !error.is_interruption() {
                let Some(next) = self.repository.after(&error).cloned() else { return Err(error.into()) };
                tracing::debug!(%error, endpoint = %next.endpoint.origin, "the next endpoint goes on with a blob");
                (self.repository, attempt) = (next, 1);
                continue;
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
    async fn attempt(&mut self, tell: &(dyn Fn(Step) + Send + Sync)) -> Result<Ended, Failure> {
        let rest = format!("blobs/{}", self.descriptor.digest);
        let mut headers = vec![(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))];
        if self.received > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.received));
            headers.extend(range.ok().map(|r| (header::RANGE, r)));
        }
        let on_retry = |wait| tell(Step::Retrying(wait));
        let answer = self.repository.get(&rest, &headers, &on_retry).await?;
        let mut skip = self.start_of(&answer)?;
        let takes_ranges = answer.response.status() == StatusCode::PARTIAL_CONTENT
            || answer.response.headers().get(header::ACCEPT_RANGES).is_some_and(|v| v.as_bytes() == b"bytes");
        let Answer { response, url } = answer;
        let limits = self.repository.transport.config.limits.clone();
        let mut meter = Meter::default();
        let mut ahead: Option<Ahead> = None;
        let mut body = response.into_body();
        loop {
            if let Some(ranges) = ahead.as_mut().filter(|ahead| ahead.start() <= self.received) {
                if ranges.is_accepted().await {
                    drop(body);
                    return self.pass_on(ranges, tell).await;
                }
                // This answer goes on alone.
                (self.ranges, ahead) = (false, None);
            }
            let asked = Instant::now();
            let frame = match timeout(limits.idle, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(broken("GET", &url, describe(&error)).into()),
                Err(_) => return Err(broken("GET", &url, "timed out while reading the body".to_owned()).into()),
            };
            let waited = asked.elapsed();
            let Ok(mut data) = frame.into_data() else { continue };
            let slow = meter.is_slow(data.len(), waited, &limits.ranges);
            let skipped = usize::try_from(skip).map_or(data.len(), |s| s.min(data.len()));
            skip -= skipped as u64;
            let data = data.split_off(skipped);
            if !data.is_empty() {
                self.take(data).await?;
                tell(Step::Received(self.received));
            }
            let left = self.descriptor.size - self.received;
            if slow && self.ranges && takes_ranges && ahead.is_none() && skip == 0 && left / 2 > limits.ranges.size {
                let (digest, size) = (self.descriptor.digest, self.descriptor.size);
                let source = Source::new(self.repository.clone(), digest, size, &url);
                ahead = Ahead::begin(source, self.received);
            }
        }
        if self.received < self.descriptor.size {
            return Err(broken("GET", &url, "unexpected EOF".to_owned()).into());
        }
        Ok(Ended::Whole)
    }

    /// Passes ranges on in their order, for as long as there are some.
    async fn pass_on(&mut self, ahead: &mut Ahead, tell: &(dyn Fn(Step) + Send + Sync)) -> Result<Ended, Failure> {
        while self.received < self.descriptor.size {
            let Some(mut segment) = ahead.pop() else { return Ok(Ended::Early) };
            let mut at = segment.start;
            while let Some(piece) = segment.next().await {
                let mut data = match piece {
                    Piece::Accepted => continue,
                    Piece::Data(data) => data,
                    Piece::Failed(error) => {
                        self.ranges = false;
                        if error.is_interruption() {
                            return Err(error.into());
                        }
                        // The server may refuse ranges, or several of them, and no more than that.
                        tracing::debug!(%error, "going on with one stream");
                        return Ok(Ended::Early);
                    }
                };
                // The first stream may have brought some of it.
                let known = usize::try_from(self.received - at).map_or(data.len(), |known| known.min(data.len()));
                at += data.len() as u64;
                let data = data.split_off(known);
                if !data.is_empty() {
                    self.take(data).await?;
                    tell(Step::Received(self.received));
                }
            }
            if self.received < segment.end {
                let url = self.repository.url(&format!("blobs/{}", self.descriptor.digest));
                return Err(broken("GET", &url, "unexpected EOF".to_owned()).into());
            }
        }
        Ok(Ended::Whole)
    }

    /// How many bytes of this answer we have already.
    fn start_of(&self, answer: &Answer) -> Result<u64, Error> {
        if answer.response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(self.received);
        }
        match ContentRange::of(answer.response.headers()) {
            Some(range) if range.first <= self.received => Ok(self.received - range.first),
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
