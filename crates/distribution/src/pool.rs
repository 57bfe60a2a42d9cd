//! Connections that stand: one request at a time on those of HTTP/1.1, many on those of HTTP/2.

use crate::address::Class;
use crate::dial::note;
use crate::hosts::Site;
use crate::origin::Origin;
use crate::payload::Payload;
use crate::transport::Reach;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Idle connections kept per key.
const IDLE_MAX: usize = 8;
/// Keys remembered.
const KEYS_MAX: usize = 1024;

/// How an origin is connected to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Via {
    pub(crate) site: Arc<Site>,
    /// Requests of different lanes never share a connection: a limit of rate for each then does not hold for all.
    pub(crate) lane: u8,
}

/// What connections may be used for: those made by the rules of one site are no others'.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    origin: Origin,
    site: Arc<Site>,
    lane: u8,
}

impl Key {
    pub(crate) fn new(origin: &Origin, via: &Via) -> Key {
        Key { origin: origin.clone(), site: via.site.clone(), lane: via.lane }
    }
}

/// The sending end of a connection.
pub(crate) enum Sender {
    /// HTTP/1.1.
    One(http1::SendRequest<Payload>),
    /// HTTP/2.
    Two(http2::SendRequest<Payload>),
}

/// An answer that is waited for.
pub(crate) type Answering =
    Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<Payload>>>> + Send>>;

impl Sender {
    pub(crate) fn send(&mut self, request: Request<Payload>) -> Answering {
        match self {
            Sender::One(sender) => Box::pin(sender.try_send_request(request)),
            Sender::Two(sender) => Box::pin(sender.try_send_request(request)),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            Sender::One(sender) => sender.is_ready(),
            Sender::Two(sender) => sender.is_ready(),
        }
    }
}

/// A connection that stands.
pub(crate) struct Kept {
    pub(crate) sender: Sender,
    class: Class,
    id: u64,
}

impl Kept {
    /// The same connection once more, if it can be used by several.
    fn shared(&self) -> Option<Kept> {
        match &self.sender {
            Sender::One(_) => None,
            Sender::Two(sender) => Some(Kept { sender: Sender::Two(sender.clone()), class: self.class, id: self.id }),
        }
    }
}

/// Connections by what they may be used for.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Key, Vec<Kept>>>,
    /// Who connects where, as long as it is not known that every request needs a connection of its own.
    turns: Mutex<HashMap<Key, Option<Arc<tokio::sync::Mutex<()>>>>>,
    made: AtomicU64,
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, HashMap<Key, Vec<Kept>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_turns(&self) -> MutexGuard<'_, HashMap<Key, Option<Arc<tokio::sync::Mutex<()>>>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection that is ready. One that stands to an address outside `reach` is not used, whoever opened it.
    pub(crate) fn take(&self, key: &Key, reach: Reach<'_>) -> Option<Kept> {
        let mut idle = self.idle();
        let list = idle.get_mut(key)?;
        list.retain(|k| !k.sender.is_closed());
        let at = list.iter().position(|k| {
            k.sender.is_ready()
                && match reach {
                    Reach::Registry(_) => true,
                    Reach::Referred(classes) => classes.admits(k.class),
                }
        });
        let kept = at.map(|at| list[at].shared().unwrap_or_else(|| list.swap_remove(at)));
        if list.is_empty() {
            idle.remove(key);
        }
        if let (Reach::Registry(classes), Some(kept)) = (reach, &kept) {
            note(classes, kept.class);
        }
        kept
    }

    /// Takes in a new connection, and learns from it whether one is enough for all requests.
    pub(crate) fn made(&self, key: &Key, sender: Sender, class: Class) -> Kept {
        let kept = Kept { sender, class, id: self.made.fetch_add(1, Ordering::Relaxed) };
        match kept.shared() {
            Some(shared) => self.keep(key, shared),
            None => {
                let mut turns = self.lock_turns();
                if let Some(turn) = turns.get_mut(key) {
                    *turn = None;
                }
            }
        }
        kept
    }

    /// Keeps a connection whose answer may still be in flight; it is ready again after that.
    pub(crate) fn keep(&self, key: &Key, kept: Kept) {
        let mut idle = self.idle();
        let list = idle.entry(key.clone()).or_default();
        list.retain(|k| !k.sender.is_closed());
        if list.len() < IDLE_MAX && !list.iter().any(|known| known.id == kept.id) {
            list.push(kept);
        }
    }

    /// Drops a connection that failed; what else is in flight on it goes on.
    pub(crate) fn forget(&self, key: &Key, failed: &Kept) {
        if let Some(list) = self.idle().get_mut(key) {
            list.retain(|known| known.id != failed.id);
        }
    }

    /// Who connects next, where a connection may be shared.
    pub(crate) fn turns(&self, key: &Key) -> Option<Arc<tokio::sync::Mutex<()>>> {
        if !key.origin.https {
            return None;
        }
        let mut turns = self.lock_turns();
        if turns.len() >= KEYS_MAX {
            turns.clear();
        }
        turns.entry(key.clone()).or_insert_with(|| Some(Arc::default())).clone()
    }
}
