//! Work that tells of itself as it goes: pulls and pushes.
//!
//! What fails before the first message fails the request; what fails later is the stream's last message.
//! A client that leaves ends the work. The registry client's futures are not ones that may move between
//! threads, so each piece of work gets a thread for itself.

use std::sync::{Arc, Mutex, PoisonError};

use docker_types::message::JsonMessage;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::AnyStream;
use crate::archive::bridge;
use crate::error::{Error, Result, fail};

/// Messages a slow client may be behind; figures are left out well before.
const QUEUE: usize = 4096;

type Begin = Arc<Mutex<Option<oneshot::Sender<Result<()>>>>>;

/// Tells one client.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    messages: mpsc::Sender<JsonMessage>,
    begin: Begin,
}

impl Teller {
    /// Send a message.
    pub(super) fn say(&self, message: JsonMessage) {
        // Full is a client that stopped reading, closed one that left: the work's end tells either.
        let _ = self.messages.try_send(message);
        if let Some(begin) = take(&self.begin) {
            // Nobody waits any more: the client left, and the work is about to end.
            let _ = begin.send(Ok(()));
        }
    }

    /// Send a figure, unless the client is far behind.
    pub(super) fn figure(&self, message: JsonMessage) {
        if self.messages.capacity() >= QUEUE / 2 {
            self.say(message);
        }
    }
}

fn take(begin: &Begin) -> Option<oneshot::Sender<Result<()>>> {
    begin.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Run `work` and stream what it tells.
///
/// # Errors
/// Those of `work` before its first message.
pub(super) async fn telling(
    work: impl AsyncFnOnce(Teller) -> Result<()> + Send + 'static,
) -> Result<AnyStream<JsonMessage>> {
    let (messages, received) = mpsc::channel(QUEUE);
    let (begin, begun) = oneshot::channel::<Result<()>>();
    let begin: Begin = Arc::new(Mutex::new(Some(begin)));
    let (leave, left) = oneshot::channel::<()>();
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let teller = Teller { messages: messages.clone(), begin: Arc::clone(&begin) };
        let result = runtime.block_on(async {
            tokio::select! {
                result = work(teller) => result,
                _ = left => Err(fail!(Cancelled, "context canceled")),
            }
        });
        match (result, take(&begin)) {
            (result, Some(begin)) => drop(begin.send(result)),
            // A client that is gone needs no message.
            (Err(error), None) => drop(messages.blocking_send(JsonMessage::error(error.to_string()))),
            (Ok(()), None) => {}
        }
    });
    let ended = |_| Error::new(types::Kind::Internal, "the work ended unexpectedly; see the daemon's log".to_owned());
    begun.await.map_err(ended)??;
    Ok(bridge::messages(received, leave))
}
