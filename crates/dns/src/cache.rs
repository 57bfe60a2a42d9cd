//! What upstreams have said, for as long as it may be kept, in bounded memory.
//!
//! Entries lie in slots that a hand goes around: one that was used since it last passed gets another round, the first
//! that was not makes room (the clock algorithm). Expired ones make room wherever the hand meets them.

use std::collections::HashMap;
use std::rc::Rc;

use crate::flag;
use crate::name::MAX_NAME;
use crate::query::Query;
use crate::reply::Reply;

/// Most entries.
pub const MAX_ENTRIES: usize = 10_000;
/// Most bytes of all entries.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Slots looked at to make room for one entry.
const MAX_STEPS: usize = 2 * MAX_ENTRIES;

/// What makes two questions the same: upstreams, name without case, type, class, and the flags that change an answer.
#[derive(Clone, Copy)]
pub struct Key {
    len: usize,
    bytes: [u8; MAX_NAME + 13],
}

impl Key {
    /// The key of a query to `group`, the number of a list of upstreams.
    #[must_use]
    pub fn new(group: u64, query: &Query) -> Self {
        let mut key = Self { len: 0, bytes: [0; MAX_NAME + 13] };
        let kept = flag::RECURSION_DESIRED | flag::AUTHENTIC | flag::CHECKING_DISABLED;
        let [high, low] = (query.flags & kept).to_be_bytes();
        // The two flags of the low half leave its other bits free.
        key.push(&group.to_be_bytes());
        key.push(&query.qtype.to_be_bytes());
        key.push(&query.qclass.to_be_bytes());
        key.push(&[high << 1 | low | u8::from(query.dnssec())]);
        key.push(query.name.lower().wire());
        key
    }

    fn push(&mut self, part: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + part.len()) {
            place.copy_from_slice(part);
            self.len += part.len();
        }
    }

    /// As bytes that compare and hash.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Answers that may be given again. Times are seconds of any clock that does not jump.
#[derive(Debug, Default)]
pub struct Cache {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    index: HashMap<Rc<[u8]>, usize>,
    hand: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    key: Rc<[u8]>,
    reply: Rc<Reply>,
    came: u64,
    expires: u64,
    used: bool,
}

impl Slot {
    /// With the index's share.
    fn size(&self) -> usize {
        self.reply.size() + self.key.len() + size_of::<Self>() + 32
    }
}

impl Cache {
    /// What is known, and its age in seconds.
    pub fn get(&mut self, key: &Key, now: u64) -> Option<(&Reply, u32)> {
        let at = *self.index.get(key.bytes())?;
        if self.slots.get(at)?.as_ref().is_none_or(|slot| slot.expires <= now) {
            self.remove(at);
            return None;
        }
        let slot = self.slots.get_mut(at)?.as_mut()?;
        slot.used = true;
        let age = now.saturating_sub(slot.came);
        Some((&slot.reply, u32::try_from(age).unwrap_or(u32::MAX)))
    }

    /// Keeps an answer as long as it may be kept.
    pub fn put(&mut self, key: &[u8], reply: &Rc<Reply>, now: u64) {
        let Some(ttl) = reply.ttl() else { return };
        if let Some(old) = self.index.get(key) {
            self.remove(*old);
        }
        let key: Rc<[u8]> = key.into();
        let slot = Slot {
            key: Rc::clone(&key),
            reply: Rc::clone(reply),
            came: now,
            expires: now + u64::from(ttl),
            used: false,
        };
        let size = slot.size();
        if size > MAX_BYTES / 8 || !self.make_room(size, now) {
            return;
        }
        self.bytes += size;
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        self.slots[at] = Some(slot);
        self.index.insert(key, at);
    }

    fn make_room(&mut self, size: usize, now: u64) -> bool {
        let mut steps = 0;
        while self.index.len() >= MAX_ENTRIES || self.bytes + size > MAX_BYTES {
            steps += 1;
            if self.slots.is_empty() || steps > MAX_STEPS {
                return false;
            }
            self.hand = (self.hand + 1) % self.slots.len();
            let hand = self.hand;
            match self.slots[hand].as_mut() {
                Some(slot) if slot.used && slot.expires > now => slot.used = false,
                Some(_) => self.remove(hand),
                None => {}
            }
        }
        true
    }

    fn remove(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut(at).and_then(Option::take) {
            self.bytes -= slot.size();
            self.index.remove(&slot.key);
            self.free.push(at);
        }
    }

    /// Entries held, expired ones among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of all entries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::tests::{question, upstream};
    use crate::{Edns, rtype};

    fn kept(query: &Query, ttl: u32, records: usize) -> Rc<Reply> {
        Rc::new(Reply::parse(&upstream(query, 1, ttl, records, 0), query, 1).unwrap())
    }

    #[test]
    fn answers_are_kept_for_their_time() {
        let mut cache = Cache::default();
        let query = question("www.example.com", None);
        let key = Key::new(1, &query);
        cache.put(key.bytes(), &kept(&query, 60, 1), 100);
        let upper = Query { id: 3, ..question("WWW.Example.com", Some((1232, false))) };
        assert_eq!(cache.get(&Key::new(1, &upper), 159).unwrap().1, 59);
        assert!(cache.get(&Key::new(1, &upper), 160).is_none());
        assert!(cache.is_empty() && cache.bytes() == 0);
        cache.put(key.bytes(), &kept(&query, 0, 1), 100);
        assert!(cache.is_empty());
    }

    #[test]
    fn other_questions_are_other_entries() {
        let query = question("www.example.com", None);
        let key = Key::new(1, &query);
        let edns = Some(Edns { size: 1232, dnssec: true });
        for other in [
            Key::new(2, &query),
            Key::new(1, &question("www.example.org", None)),
            Key::new(1, &Query { qtype: rtype::AAAA, ..query }),
            Key::new(1, &Query { qclass: 3, ..query }),
            Key::new(1, &Query { flags: 0, ..query }),
            Key::new(1, &Query { flags: query.flags | flag::CHECKING_DISABLED, ..query }),
            Key::new(1, &Query { flags: query.flags | flag::AUTHENTIC, ..query }),
            Key::new(1, &Query { edns, ..query }),
        ] {
            assert_ne!(key.bytes(), other.bytes());
        }
        assert_eq!(key.bytes(), Key::new(1, &Query { id: 5, ..query }).bytes());
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut cache = Cache::default();
        let hot = question("hot.example", None);
        cache.put(Key::new(0, &hot).bytes(), &kept(&hot, 600, 1), 0);
        for n in 0..25_000u32 {
            let query = question(&format!("n{n}.example"), None);
            cache.put(Key::new(0, &query).bytes(), &kept(&query, 600, 1), 0);
            assert!(cache.get(&Key::new(0, &hot), 1).is_some(), "{n}");
        }
        assert_eq!(cache.len(), MAX_ENTRIES);
        for n in 0..3000u32 {
            let query = question(&format!("long{n}.example"), None);
            cache.put(Key::new(0, &query).bytes(), &kept(&query, 600, 400), 0);
            assert!(cache.bytes() <= MAX_BYTES);
        }
        let sizes: usize = cache.slots.iter().flatten().map(Slot::size).sum();
        assert_eq!((sizes, cache.slots.iter().flatten().count()), (cache.bytes(), cache.len()));
        assert!(cache.slots.len() <= MAX_ENTRIES);
    }
}
