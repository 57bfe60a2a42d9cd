//! Directory entries: which name in which directory is which node.
//!
//! Entries are found through one open-addressed table over all directories and never leave it: a name that
//! was removed keeps its entry, without a node, for the next member of that name. Names lie end to end in
//! one buffer. Per entry that is 24 bytes, the name, and 5 to 11 bytes of the table. The hash is keyed by
//! the process, so that an archive cannot choose names that collide; the order of entries in the image
//! comes from sorting alone.

use std::hash::{BuildHasher, RandomState};

use crate::node::{NONE, NodeId};

/// Number of an entry.
pub(crate) type NameId = u32;

#[derive(Debug, Clone, Copy)]
struct Name {
    hash: u32,
    parent: NodeId,
    /// [`NONE`] when nothing has the name any more.
    node: NodeId,
    /// Another entry of the same directory, or [`NONE`].
    next: NameId,
    at: u32,
    len: u8,
}

/// All directory entries of a tree.
#[derive(Debug)]
pub(crate) struct Names {
    entries: Vec<Name>,
    bytes: Vec<u8>,
    /// Entries by hash, [`NONE`] for a free slot; a power of two, at most three quarters full.
    slots: Vec<NameId>,
    state: RandomState,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), bytes: Vec::new(), slots: vec![NONE; 64], state: RandomState::new() }
    }

    /// Bytes of memory in use.
    pub(crate) fn memory(&self) -> u64 {
        (self.entries.len() * size_of::<Name>() + self.bytes.len() + self.slots.len() * size_of::<NameId>()) as u64
    }

    /// The node `name` stands for in the directory `parent`.
    pub(crate) fn get(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let id = self.find(self.hash(parent, name), parent, name).ok()?;
        Some(self.entries[id as usize].node).filter(|node| *node != NONE)
    }

    /// Gives `name` in `parent` to `node`. `first` is the directory's newest entry and is kept up to date.
    pub(crate) fn set(&mut self, parent: NodeId, name: &[u8], node: NodeId, first: &mut NameId) {
        let hash = self.hash(parent, name);
        match self.find(hash, parent, name) {
            Ok(id) => self.entries[id as usize].node = node,
            Err(slot) => {
                let id = self.entries.len() as NameId;
                let (at, len) = (self.bytes.len() as u32, name.len() as u8);
                self.bytes.extend_from_slice(name);
                self.entries.push(Name { hash, parent, node, next: *first, at, len });
                *first = id;
                self.slots[slot] = id;
                if self.entries.len() * 4 > self.slots.len() * 3 {
                    self.grow();
                }
            }
        }
    }

    /// Takes `name` in `parent` from whatever has it.
    pub(crate) fn clear(&mut self, parent: NodeId, name: &[u8]) {
        if let Ok(id) = self.find(self.hash(parent, name), parent, name) {
            self.entries[id as usize].node = NONE;
        }
    }

    /// Entries of a directory that have a node, newest first, from its `first` on.
    pub(crate) fn list(&self, first: NameId) -> impl Iterator<Item = (&[u8], NodeId)> {
        let mut next = first;
        std::iter::from_fn(move || {
            while next != NONE {
                let (id, entry) = (next, self.entries[next as usize]);
                next = entry.next;
                if entry.node != NONE {
                    return Some((self.name(id), entry.node));
                }
            }
            None
        })
    }

    /// Puts a directory's entries in the order of their names, leaving out those without a node; the answer
    /// is the new first one. `scratch` is overwritten.
    pub(crate) fn sort(&mut self, first: NameId, scratch: &mut Vec<NameId>) -> NameId {
        scratch.clear();
        let mut next = first;
        while next != NONE {
            let entry = self.entries[next as usize];
            if entry.node != NONE {
                scratch.push(next);
            }
            next = entry.next;
        }
        scratch.sort_unstable_by(|one, other| self.name(*one).cmp(self.name(*other)));
        let mut after = NONE;
        for id in scratch.iter().rev() {
            self.entries[*id as usize].next = after;
            after = *id;
        }
        after
    }

    fn name(&self, id: NameId) -> &[u8] {
        let entry = &self.entries[id as usize];
        let at = entry.at as usize;
        &self.bytes[at..at + usize::from(entry.len)]
    }

    fn hash(&self, parent: NodeId, name: &[u8]) -> u32 {
        self.state.hash_one((parent, name)) as u32
    }

    /// The entry, or the free slot where it would go.
    fn find(&self, hash: u32, parent: NodeId, name: &[u8]) -> Result<NameId, usize> {
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let id = self.slots[slot];
            if id == NONE {
                return Err(slot);
            }
            let entry = &self.entries[id as usize];
            if entry.hash == hash && entry.parent == parent && self.name(id) == name {
                return Ok(id);
            }
            slot = (slot + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let size = self.slots.len() * 2;
        self.slots = vec![NONE; size];
        for (id, entry) in self.entries.iter().enumerate() {
            let mut slot = entry.hash as usize & (size - 1);
            while self.slots[slot] != NONE {
                slot = (slot + 1) & (size - 1);
            }
            self.slots[slot] = id as NameId;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_and_go() {
        let mut names = Names::new();
        let mut first = [NONE; 3];
        for round in 0..1000_u32 {
            for parent in 0..3 {
                let name = format!("name-{round}");
                names.set(parent, name.as_bytes(), round * 3 + parent, &mut first[parent as usize]);
            }
        }
        assert_eq!(names.get(1, b"name-999"), Some(2998));
        assert_eq!(names.get(3, b"name-999"), None);
        names.clear(1, b"name-999");
        assert_eq!((names.get(1, b"name-999"), names.get(2, b"name-999")), (None, Some(2999)));
        assert_eq!((names.list(first[0]).count(), names.list(first[1]).count()), (1000, 999));
        // A name that comes back takes its old entry.
        let before = names.memory();
        names.set(1, b"name-999", 7, &mut first[1]);
        assert_eq!((names.get(1, b"name-999"), names.memory()), (Some(7), before));
        names.clear(0, b"name-5");
        let sorted = names.sort(first[0], &mut Vec::new());
        let listed: Vec<_> = names.list(sorted).map(|(name, _)| name.to_vec()).collect();
        assert!(listed.is_sorted() && listed.len() == 999 && listed[0] == b"name-0");
    }
}
