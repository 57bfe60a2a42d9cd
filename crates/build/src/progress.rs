//! What a build tells of itself: steps beginning and ending, what they print, warnings. Kept from the beginning for whoever
//! comes later, since clients ask for it beside the build itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use buildkit::server::Messages;
use buildkit::wire::control::{StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning};
use prost_types::Timestamp;
use tokio::sync::watch;

/// Most bytes that are kept of what one step prints, as BuildKit has it.
const LOG_LIMIT: usize = 2 << 20;

/// Most messages of what one step prints; what it prints beyond is told in larger pieces.
const LOG_MESSAGES: usize = 10_000;
/// Bytes of such a piece.
const PIECE: usize = 16 << 10;

/// The story of one build.
#[derive(Debug)]
pub struct Progress {
    story: Mutex<Story>,
    length: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Story {
    told: Vec<StatusResponse>,
    printed: HashMap<String, Printed>,
    ended: bool,
}

/// What one step printed.
#[derive(Debug, Default)]
struct Printed {
    bytes: usize,
    messages: usize,
    /// What is told with what follows, and on which stream.
    waiting: (u8, Vec<u8>),
}

impl Printed {
    /// Takes what was printed; gives what is to be told now.
    fn take(&mut self, stream: u8, data: &[u8]) -> Vec<(u8, Vec<u8>)> {
        if self.bytes > LOG_LIMIT {
            return Vec::new();
        }
        let room = LOG_LIMIT - self.bytes;
        self.bytes += data.len();
        let mut shown = data.to_vec();
        if data.len() > room {
            shown.truncate(room);
            shown.extend_from_slice(b"\n[output clipped, log limit 2MiB reached]\n");
            self.bytes = LOG_LIMIT + 1;
        }
        if self.messages < LOG_MESSAGES {
            self.messages += 1;
            return vec![(stream, shown)];
        }
        let before = if self.waiting.0 == stream { Vec::new() } else { self.rest() };
        self.waiting.0 = stream;
        self.waiting.1.extend(shown);
        let full = self.waiting.1.len() >= PIECE || self.bytes > LOG_LIMIT;
        before.into_iter().chain(if full { self.rest() } else { Vec::new() }).collect()
    }

    fn rest(&mut self) -> Vec<(u8, Vec<u8>)> {
        let (stream, data) = (self.waiting.0, std::mem::take(&mut self.waiting.1));
        if data.is_empty() { Vec::new() } else { vec![(stream, data)] }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self { story: Mutex::default(), length: watch::Sender::new(0) }
    }
}

/// How far a build is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps that it told of.
    pub steps: usize,
    /// Those that ended.
    pub completed: usize,
    /// Those that were known.
    pub cached: usize,
    /// Warnings.
    pub warnings: usize,
}

/// Now, as messages have it.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, message: StatusResponse) {
        let length = {
            let mut story = self.lock();
            story.told.push(message);
            story.told.len()
        };
        self.length.send_replace(length);
    }

    /// A step as it is now.
    pub fn vertex(&self, vertex: Vertex) {
        if vertex.completed.is_some() {
            let rest = self.lock().printed.get_mut(&vertex.digest).map(Printed::rest);
            self.tell_logs(&vertex.digest, rest.unwrap_or_default());
        }
        self.tell(StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() });
    }

    /// How far a part of a step is.
    pub fn status(&self, status: VertexStatus) {
        self.tell(StatusResponse { statuses: vec![status], ..StatusResponse::default() });
    }

    /// Something to look at.
    pub fn warning(&self, warning: VertexWarning) {
        self.tell(StatusResponse { warnings: vec![warning], ..StatusResponse::default() });
    }

    /// What a step printed on stream 1 or 2. Beyond the limit it is cut, once with a word about it.
    pub fn log(&self, vertex: &str, stream: u8, data: &[u8]) {
        let pieces = self.lock().printed.entry(vertex.to_owned()).or_default().take(stream, data);
        self.tell_logs(vertex, pieces);
    }

    fn tell_logs(&self, vertex: &str, pieces: Vec<(u8, Vec<u8>)>) {
        for (stream, msg) in pieces {
            let log = VertexLog { vertex: vertex.to_owned(), timestamp: Some(now()), stream: i64::from(stream), msg };
            self.tell(StatusResponse { logs: vec![log], ..StatusResponse::default() });
        }
    }

    /// Nothing follows.
    pub fn end(&self) {
        self.lock().ended = true;
        self.length.send_modify(|_| {});
    }

    /// All that was told so far, in few messages.
    #[must_use]
    pub fn told(&self) -> Vec<StatusResponse> {
        let told = self.lock().told.clone();
        told.chunks(256).map(|batch| merged(batch.to_vec())).collect()
    }

    /// How far it is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let story = self.lock();
        // Of each the last that was told.
        let vertexes = story.told.iter().flat_map(|message| &message.vertexes);
        let steps: HashMap<&str, &Vertex> = vertexes.map(|vertex| (vertex.digest.as_str(), vertex)).collect();
        Counts {
            steps: steps.len(),
            completed: steps.values().filter(|vertex| vertex.completed.is_some()).count(),
            cached: steps.values().filter(|vertex| vertex.cached).count(),
            warnings: story.told.iter().map(|message| message.warnings.len()).sum(),
        }
    }

    /// The story from its beginning, to its end.
    #[must_use]
    pub fn follow(self: &Arc<Self>) -> Messages<StatusResponse> {
        let state = (Arc::clone(self), self.length.subscribe(), 0usize);
        Box::pin(futures_util::stream::unfold(state, |(progress, mut length, at)| async move {
            loop {
                length.borrow_and_update();
                let (batch, ended) = {
                    let story = progress.lock();
                    (story.told[at..].to_vec(), story.ended)
                };
                if !batch.is_empty() {
                    let next = at + batch.len();
                    return Some((Ok(merged(batch)), (progress, length, next)));
                }
                if ended || length.changed().await.is_err() {
                    return None;
                }
            }
        }))
    }
}

/// Several messages as one, in order.
fn merged(batch: Vec<StatusResponse>) -> StatusResponse {
    let mut all = StatusResponse::default();
    for message in batch {
        all.vertexes.extend(message.vertexes);
        all.statuses.extend(message.statuses);
        all.logs.extend(message.logs);
        all.warnings.extend(message.warnings);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_small_pieces_is_told_whole_in_few_messages() {
        let progress = Progress::default();
        for number in 0..200_000_u32 {
            progress.log("step", if number < 150_000 { 1 } else { 2 }, &[b'a' + u8::try_from(number % 26).unwrap()]);
        }
        progress.vertex(Vertex { digest: "step".to_owned(), completed: Some(now()), ..Vertex::default() });
        let story = progress.lock();
        assert!(story.told.len() < LOG_MESSAGES + 100, "{}", story.told.len());
        let logs = || story.told.iter().flat_map(|message| &message.logs);
        let text: Vec<u8> = logs().flat_map(|log| log.msg.clone()).collect();
        assert!(text.iter().enumerate().all(|(at, byte)| *byte == b'a' + u8::try_from(at % 26).unwrap()));
        let second: usize = logs().filter(|log| log.stream == 2).map(|log| log.msg.len()).sum();
        assert_eq!((text.len(), second), (200_000, 50_000));
        assert!(story.told.last().unwrap().vertexes.len() == 1);
    }

    #[test]
    fn what_is_beyond_the_limit_is_cut_once() {
        let progress = Progress::default();
        for _ in 0..5_000_000 / 100 {
            progress.log("step", 1, &[b'x'; 100]);
        }
        let story = progress.lock();
        let text: Vec<u8> =
            story.told.iter().flat_map(|message| &message.logs).flat_map(|log| log.msg.clone()).collect();
        let words = b"\n[output clipped, log limit 2MiB reached]\n";
        assert!(text.ends_with(words));
        assert_eq!(text.len(), LOG_LIMIT + words.len());
    }
}
