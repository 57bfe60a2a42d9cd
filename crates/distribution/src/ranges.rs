//! Several ranges of one blob at a time, for paths where each connection is held to a rate. What comes ahead of its turn
//! waits in memory, a few ranges at most; it is passed on in order, so that digest and unpacking go in one pass and what
//! is kept after a break is the beginning of the blob without a gap.
//!
//! A server is taken at its word for the range it was asked for and for nothing else: another range, more than was asked
//! for or the whole blob ends this way of fetching, and one stream goes on.

use crate::config::Ranges;
use crate::error::Error;
use crate::multipart::{Event, Multipart};
use crate::origin::Url;
use crate::payload::Payload;
use crate::repository::{Answer, Repository};
use crate::transport::{broken, describe};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use types::Digest;

/// The part of a blob an answer says it has (RFC 9110, section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Length of the whole, unless it is not told.
    pub(crate) total: Option<u64>,
}

impl ContentRange {
    pub(crate) fn of(headers: &HeaderMap) -> Option<ContentRange> {
        ContentRange::parse(headers.get(header::CONTENT_RANGE)?.to_str().ok()?)
    }

    /// Reads `bytes 0-99/1000`.
    pub(crate) fn parse(text: &str) -> Option<ContentRange> {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let total = if total.trim() == "*" { None } else { Some(number(total)?) };
        let (first, last) = (number(first)?, number(last)?);
        (first <= last && total.is_none_or(|total| last < total)).then_some(ContentRange { first, last, total })
    }
}

/// How fast one stream comes, counting only the time it is waited for: a store that is slow itself gains nothing from
/// more of them.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: u64,
    waited: Duration,
}

impl Meter {
    /// Notes a piece; true when the stream is slow.
    pub(crate) fn is_slow(&mut self, bytes: usize, waited: Duration, rules: &Ranges) -> bool {
        self.bytes += bytes as u64;
        self.waited += waited;
        if self.waited < rules.probe {
            return false;
        }
        let Meter { bytes, waited } = std::mem::take(self);
        u128::from(bytes) * 1_000_000_000 < u128::from(rules.below) * waited.as_nanos().max(1)
    }
}

/// Where ranges come from.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) repository: Arc<Repository>,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Where the registry sent us for the blob, when that is somewhere else: asked directly for as long as it answers.
    direct: Arc<Mutex<Option<Url>>>,
    /// No answer has spoken against several ranges in one.
    several: Arc<AtomicBool>,
}

impl Source {
    /// The blob that is at `url` now.
    pub(crate) fn new(repository: Arc<Repository>, digest: Digest, size: u64, url: &Url) -> Source {
        let several = Arc::new(AtomicBool::new(true));
        let source = Source { repository, digest, size, direct: Arc::default(), several };
        source.found(url);
        source
    }

    fn direct(&self) -> MutexGuard<'_, Option<Url>> {
        self.direct.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self, url: &Url) {
        *self.direct() = Some(url).filter(|url| url.origin != self.repository.endpoint.origin).cloned();
    }

    /// An address that was good for a time only.
    fn forget(&self, url: &Url) {
        let mut direct = self.direct();
        if direct.as_ref() == Some(url) {
            *direct = None;
        }
    }
}

/// Pieces that are shorter are joined up to this size: a server that sends them one by one must not make waiting bytes cost a
/// multiple of their number.
const SHORT: usize = 4 << 10;

/// What a range delivers.
pub(crate) enum Piece {
    /// The server agrees to send it.
    Accepted,
    /// The next bytes.
    Data(Bytes),
    /// It ends here.
    Failed(Error),
}

/// A range that is being fetched, or several with one request; dropping it ends that.
pub(crate) struct Segment {
    /// Where the first begins and the last ends.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Length of all.
    pub(crate) bytes: u64,
    /// Bounded by the length of the range.
    pieces: mpsc::UnboundedReceiver<Piece>,
    /// What was read to see whether it is accepted.
    first: Option<Piece>,
    task: JoinHandle<()>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Segment {
    /// The next piece; nothing at its end.
    pub(crate) async fn next(&mut self) -> Option<Piece> {
        match self.first.take() {
            Some(first) => Some(first),
            None => self.pieces.recv().await,
        }
    }

    /// Waits until the server has agreed to send it; false when it does not.
    async fn is_accepted(&mut self) -> bool {
        if self.first.is_none() {
            self.first = self.pieces.recv().await;
        }
        matches!(self.first, Some(Piece::Accepted))
    }
}

/// The ranges that are on their way, in order.
pub(crate) struct Ahead {
    source: Source,
    queue: VecDeque<Segment>,
    /// Ranges that are to come.
    rest: Pieces,
    /// Ranges begun so far.
    begun: usize,
}

/// Ranges, put together and cut into what one request is for.
struct Pieces {
    ranges: VecDeque<Range<u64>>,
    /// Most bytes of a request.
    longest: u64,
    /// Most ranges of a request.
    most: usize,
}

impl Pieces {
    fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    fn next(&mut self) -> VecDeque<Range<u64>> {
        let (mut next, mut room) = (VecDeque::new(), self.longest);
        while let Some(first) = self.ranges.front_mut().filter(|_| room > 0 && next.len() < self.most) {
            let cut = first.start.saturating_add(room).min(first.end);
            room -= cut - first.start;
            next.push_back(first.start..cut);
            first.start = cut;
            if first.is_empty() {
                self.ranges.pop_front();
            }
        }
        next
    }
}

impl Ahead {
    /// These ranges, in this order, `most` of them with one request.
    pub(crate) fn over(source: Source, ranges: impl IntoIterator<Item = Range<u64>>, most: usize) -> Ahead {
        let longest = source.repository.transport.config.limits.ranges.size.max(1);
        let ranges = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        Ahead { source, queue: VecDeque::new(), rest: Pieces { ranges, longest, most }, begun: 0 }
    }

    /// Begins to fetch what comes one range after `position`; nothing when other blobs have all the ranges.
    pub(crate) fn begin(source: Source, position: u64) -> Option<Ahead> {
        let next = position.saturating_add(source.repository.transport.config.limits.ranges.size.max(1));
        let rest = next..source.size;
        let mut ahead = Ahead::over(source, [rest], 1);
        ahead.fill();
        if ahead.queue.is_empty() { None } else { Some(ahead) }
    }

    /// Where the first of them begins.
    pub(crate) fn start(&self) -> u64 {
        self.queue.front().map_or(u64::MAX, |segment| segment.start)
    }

    /// Waits until the server has agreed to send the first of them.
    pub(crate) async fn is_accepted(&mut self) -> bool {
        match self.queue.front_mut() {
            Some(segment) => segment.is_accepted().await,
            None => false,
        }
    }

    /// Takes the first of them, and begins others behind the last.
    pub(crate) fn pop(&mut self) -> Option<Segment> {
        let first = self.queue.pop_front();
        self.fill();
        // What was not begun for lack of room may have been now.
        first.or_else(|| self.queue.pop_front())
    }

    /// As [`Ahead::pop`], waiting for room; nothing when all were taken.
    pub(crate) async fn next(&mut self) -> Option<Segment> {
        if let Some(segment) = self.pop() {
            return Some(segment);
        }
        if self.rest.is_empty() {
            return None;
        }
        let permit = self.source.repository.transport.ranges.clone().acquire_owned().await.ok()?;
        self.begin_next(permit);
        self.pop()
    }

    fn fill(&mut self) {
        let at_once = self.source.repository.transport.config.limits.ranges.at_once;
        // One more is being passed on.
        while self.queue.len() + 1 < at_once && !self.rest.is_empty() {
            let Ok(permit) = self.source.repository.transport.ranges.clone().try_acquire_owned() else { return };
            self.begin_next(permit);
        }
    }

    fn begin_next(&mut self, permit: OwnedSemaphorePermit) {
        let mut ranges = self.rest.next();
        let bytes = ranges.iter().map(|range| range.end - range.start).sum();
        let Some(end) = ranges.back().map(|range| range.end) else { return };
        let Some(now) = ranges.pop_front() else { return };
        let start = now.start;
        self.begun += 1;
        // Those on their way at the same time have different connections; a first stream has that of lane 0.
        let at_once = self.source.repository.transport.config.limits.ranges.at_once.max(1);
        let lane = u8::try_from(self.begun % at_once).unwrap_or(0);
        let (sender, pieces) = mpsc::unbounded_channel();
        let source = self.source.clone();
        let fetch = Fetch { source, lane, now, later: ranges, accepted: false, short: Vec::new(), sender };
        let task = tokio::spawn(fetch.run());
        self.queue.push_back(Segment { start, end, bytes, pieces, first: None, task, _permit: permit });
    }
}

/// A request's ranges on their way.
struct Fetch {
    source: Source,
    lane: u8,
    /// What is missing of the range that comes now.
    now: Range<u64>,
    later: VecDeque<Range<u64>>,
    accepted: bool,
    /// Short pieces that were not passed on yet.
    short: Vec<u8>,
    sender: mpsc::UnboundedSender<Piece>,
}

impl Fetch {
    /// Fetches them to their end, asking again for the rest after a break.
    async fn run(mut self) {
        let attempts = self.source.repository.transport.config.limits.attempts;
        let mut attempt = 1;
        while self.is_unfinished() {
            let before = (self.now.start, self.later.len());
            let several = !self.later.is_empty() && self.source.several.load(Ordering::Relaxed);
            let asked = if several { self.ask_for_several().await } else { self.ask().await };
            self.pass_on_short();
            let error = match asked {
                Ok(()) => continue,
                Err(error) => error,
            };
            attempt = if (self.now.start, self.later.len()) == before { attempt + 1 } else { 1 };
            if !error.is_interruption() || attempt > attempts {
                let _ = self.sender.send(Piece::Failed(error));
                return;
            }
            tokio::time::sleep(self.source.repository.wait_before(attempt, &error)).await;
        }
    }

    /// Goes on to the next range where one is whole; false at the end of the last.
    fn is_unfinished(&mut self) -> bool {
        while self.now.is_empty() {
            let Some(next) = self.later.pop_front() else { return false };
            self.now = next;
        }
        true
    }

    fn accept(&mut self) {
        if !self.accepted {
            self.accepted = true;
            let _ = self.sender.send(Piece::Accepted);
        }
    }

    /// Passes on bytes of the range that comes now, which has so many.
    fn pass_on(&mut self, data: Bytes) {
        self.now.start += data.len() as u64;
        if data.len() < SHORT {
            self.short.extend_from_slice(&data);
            if self.short.len() >= SHORT {
                self.pass_on_short();
            }
        } else {
            self.pass_on_short();
            let _ = self.sender.send(Piece::Data(data));
        }
    }

    fn pass_on_short(&mut self) {
        if !self.short.is_empty() {
            let _ = self.sender.send(Piece::Data(std::mem::take(&mut self.short).into()));
        }
    }

    /// One request, for what is missing of one range.
    async fn ask(&mut self) -> Result<(), Error> {
        let Answer { response, url } = self.answer(&named(&self.now)).await?;
        let bad = |why| Err(Error::Protocol { url: url.to_string(), why });
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return bad("it sends the whole blob where a range was asked for");
        }
        let range = match ContentRange::of(response.headers()) {
            Some(range) if range.first == self.now.start && range.last < self.now.end => range,
            _ => return bad("it sends another range than was asked for"),
        };
        if range.total.is_some_and(|total| total != self.source.size) {
            return bad("its blob has another length than the manifest says");
        }
        self.accept();
        let idle = self.source.repository.transport.config.limits.idle;
        let mut body = response.into_body();
        // A server may send less than was asked for, and says so; the rest is asked for next.
        while self.now.start <= range.last {
            let Some(data) = next_data(&mut body, idle, &url).await? else {
                return Err(broken("GET", &url, "unexpected EOF".to_owned()));
            };
            if data.len() as u64 > range.last + 1 - self.now.start {
                return bad("it sends more than the range it names");
            }
            self.pass_on(data);
        }
        // Read to its end, so that the connection can be used again.
        match timeout(idle, body.frame()).await {
            Ok(Some(Ok(frame))) if frame.data_ref().is_some_and(|data| !data.is_empty()) => {
                bad("it sends more than the range it names")
            }
            _ => Ok(()),
        }
    }

    /// One request, for all ranges. A server need not give them, nor in this way: then each is asked for by itself.
    async fn ask_for_several(&mut self) -> Result<(), Error> {
        let ranges: Vec<String> = std::iter::once(&self.now).chain(&self.later).map(named).collect();
        let Answer { response, url } = match self.answer(&ranges.join(",")).await {
            Ok(answer) => answer,
            Err(error) if error.is_interruption() => return Err(error),
            Err(error) => return self.one_by_one(&error.to_string()),
        };
        let parts = Multipart::of(response.headers()).filter(|_| response.status() == StatusCode::PARTIAL_CONTENT);
        let Some(mut parts) = parts else { return self.one_by_one("they do not come in one answer") };
        self.accept();
        let idle = self.source.repository.transport.config.limits.idle;
        let mut body = response.into_body();
        loop {
            match parts.next() {
                Ok(Some(Event::Part(ContentRange { first, last, total }))) => {
                    let wanted = self.is_unfinished() && self.now.start == first && self.now.end - 1 == last;
                    if !wanted || total.is_some_and(|total| total != self.source.size) {
                        return self.one_by_one("another range comes than was asked for");
                    }
                }
                // No more than the part has, which is what the range lacks.
                Ok(Some(Event::Data(data))) => self.pass_on(data),
                Ok(Some(Event::End)) if self.is_unfinished() => return self.one_by_one("a range does not come"),
                Ok(Some(Event::End)) => {
                    // Read to its end, so that the connection can be used again.
                    let _ = timeout(idle, body.frame()).await;
                    return Ok(());
                }
                Ok(None) => match next_data(&mut body, idle, &url).await? {
                    Some(data) => parts.push(&data),
                    None => return Err(broken("GET", &url, "unexpected EOF".to_owned())),
                },
                Err(why) => return self.one_by_one(why),
            }
        }
    }

    fn one_by_one(&self, why: &str) -> Result<(), Error> {
        tracing::debug!(why, "asking for ranges one by one");
        self.source.several.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn answer(&self, ranges: &str) -> Result<Answer, Error> {
        let mut headers: Vec<(HeaderName, HeaderValue)> =
            vec![(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))];
        headers.extend(HeaderValue::from_str(&format!("bytes={ranges}")).ok().map(|value| (header::RANGE, value)));
        let repository = &self.source.repository;
        let direct = self.source.direct().clone();
        if let Some(url) = direct {
            let asked = repository.follow("GET", &url, &headers, Payload::empty(), None, self.lane).await;
            match asked {
                Ok(answer) if answer.response.status().is_success() => return Ok(answer),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "asking the registry where the blob is"),
            }
            self.source.forget(&url);
        }
        let rest = format!("blobs/{}", self.source.digest);
        let answer = repository.get_on(self.lane, &rest, &headers).await?;
        self.source.found(&answer.url);
        Ok(answer)
    }
}

/// A range as a request names it.
fn named(range: &Range<u64>) -> String {
    format!("{}-{}", range.start, range.end - 1)
}

/// The next bytes of a body; nothing at its end.
async fn next_data(body: &mut Incoming, idle: Duration, url: &Url) -> Result<Option<Bytes>, Error> {
    loop {
        let frame = match timeout(idle, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Err(broken("GET", url, describe(&error))),
            Err(_) => return Err(broken("GET", url, "timed out while reading the body".to_owned())),
        };
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(text).unwrap());
            ContentRange::of(&headers).map(|r| (r.first, r.last, r.total))
        };
        assert_eq!(read("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(read("bytes 0-0/*"), Some((0, 0, None)));
        for bad in
            ["bytes 9-5/10", "bytes 5-10/10", "bytes */10", "bytes -1-2/10", "5-9/10", "bytes 5-9", "bytes 5-/10"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read("bytes 0-99999999999999999999/*"), None);
    }

    #[test]
    fn long_ranges_are_cut() {
        let cut = |most| {
            let mut pieces = Pieces { ranges: [3..5, 10..31, 40..41].into(), longest: 10, most };
            let next = || {
                let request: Vec<String> = pieces.next().iter().map(named).collect();
                Some(request.join(",")).filter(|request| !request.is_empty())
            };
            let cut: Vec<String> = std::iter::from_fn(next).collect();
            assert!(pieces.is_empty());
            cut.join(" ")
        };
        assert_eq!(cut(1), "3-4 10-19 20-29 30-30 40-40");
        assert_eq!(cut(2), "3-4,10-17 18-27 28-30,40-40");
    }

    #[test]
    fn only_waiting_counts() {
        let rules = Ranges { below: 1000, probe: Duration::from_secs(1), ..Ranges::default() };
        let mut meter = Meter::default();
        assert!(!meter.is_slow(1, Duration::from_millis(999), &rules));
        assert!(meter.is_slow(1, Duration::from_millis(1), &rules));
        // A fast stream is judged anew each time.
        assert!(!meter.is_slow(5000, Duration::from_secs(2), &rules));
        assert!(meter.is_slow(1000, Duration::from_secs(2), &rules));
        assert!(!meter.is_slow(0, Duration::ZERO, &rules));
    }
}
