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

/// The story of one build.
#[derive(Debug)]
pub struct Progress {
    story: Mutex<Story>,
    length: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Story {
    told: Vec<StatusResponse>,
    printed: HashMap<String, usize>,
    ended: bool,
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
        let mut shown = data.to_vec();
        {
            let mut story = self.lock();
            let printed = story.printed.entry(vertex.to_owned()).or_default();
            if *printed > LOG_LIMIT {
                return;
            }
            let room = LOG_LIMIT - *printed;
            *printed += data.len();
            if data.len() > room {
                shown.truncate(room);
                shown.extend_from_slice(b"\n[output clipped, log limit 2MiB reached]\n");
                *printed = LOG_LIMIT + 1;
            }
        }
        let log =
            VertexLog { vertex: vertex.to_owned(), timestamp: Some(now()), stream: i64::from(stream), msg: shown };
        self.tell(StatusResponse { logs: vec![log], ..StatusResponse::default() });
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
