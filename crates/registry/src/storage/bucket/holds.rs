//! What requests and the collector are at work on while they wait for the bucket.
//!
//! The gate cannot be held across the network: a bucket that hangs would stop every request. Instead a piece of content
//! or a tag is held by name, by one who changes it or by several who rely on it. The invariants: nobody waits for a hold
//! while having another, except for one tag at a time whose holder never waits; what is held is not collected.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use types::Digest;

use crate::name::{RepositoryName, Tag};

/// See the file's paragraph.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// How many rely on it; nothing for one who changes it.
    held: HashMap<Digest, Option<usize>>,
    closed: bool,
}

/// Ends when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    holds: Arc<Holds>,
    pub(crate) changed: Vec<Digest>,
    pub(crate) relied_on: Vec<Digest>,
}

/// The name under which a tag is held; a digest like those of content, which it does not meet.
pub(crate) fn of_tag(repository: &RepositoryName, tag: &Tag) -> Digest {
    Digest::sha256(Sha256::digest(format!("{}:{}", repository.as_str(), tag.as_str())).into())
}

impl Holds {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all of these at once; nothing when one is taken.
    pub(crate) fn try_take(self: &Arc<Self>, changed: &[Digest], relied_on: &[Digest]) -> Option<Held> {
        let mut state = self.state();
        let relied_on: Vec<Digest> = relied_on.iter().filter(|digest| !changed.contains(digest)).copied().collect();
        let changed_by_another = |digest: &Digest| state.held.get(digest).is_some_and(Option::is_none);
        if state.closed
            || changed.iter().any(|digest| state.held.contains_key(digest))
            || relied_on.iter().any(changed_by_another)
        {
            return None;
        }
        for digest in changed {
            state.held.insert(*digest, None);
        }
        for digest in &relied_on {
            let count = state.held.entry(*digest).or_insert(Some(0));
            *count = Some(count.unwrap_or(0) + 1);
        }
        Some(Held { holds: Arc::clone(self), changed: changed.to_vec(), relied_on })
    }

    /// Takes all of these when they are free; nothing when the server ends.
    pub(crate) async fn take(self: &Arc<Self>, changed: &[Digest], relied_on: &[Digest]) -> Option<Held> {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(held) = self.try_take(changed, relied_on) {
                return Some(held);
            }
            if self.state().closed {
                return None;
            }
            freed.await;
        }
    }

    /// Gives out no more holds and says whether none is out.
    pub(crate) fn close(&self) -> bool {
        let mut state = self.state();
        state.closed = true;
        let none = state.held.is_empty();
        drop(state);
        self.freed.notify_waiters();
        none
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.holds.state();
        for digest in &self.changed {
            state.held.remove(digest);
        }
        for digest in &self.relied_on {
            match state.held.get_mut(digest) {
                Some(Some(count)) if *count > 1 => *count -= 1,
                _ => drop(state.held.remove(digest)),
            }
        }
        drop(state);
        self.holds.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_who_changes_or_several_who_rely_on_it() {
        let holds = Arc::new(Holds::default());
        let [a, b] = [1, 2].map(|n| Digest::sha256([n; 32]));
        let (first, second) = (holds.try_take(&[], &[a, a]).unwrap(), holds.try_take(&[b], &[a, b]).unwrap());
        assert!(holds.try_take(&[a], &[]).is_none());
        assert!(holds.try_take(&[], &[b]).is_none());
        drop(first);
        assert!(holds.try_take(&[a], &[]).is_none(), "one still relies on it");
        let waiting = tokio::spawn({
            let holds = Arc::clone(&holds);
            async move { holds.take(&[a, b], &[]).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!holds.close() && holds.try_take(&[a], &[]).is_none());
        assert!(!waiting.await.unwrap(), "the server ends");
        drop(second);
        assert!(holds.close());
    }
}
