//! What the searches with chains share: a window of 64 KiB, and for each hash of four bytes the positions where it
//! occurred, the latest first.
//!
//! The window is filled to its end before it is searched, and then moves by half. Go does the same where it is handed
//! large pieces. With small ones, Go 1.26 and earlier may move the window up to 262 bytes earlier, after which matches
//! that reach back nearly 32 KiB are not found for as many bytes: the one case where its output depends on its callers.

mod classic;
mod go127;

pub use classic::Classic;
pub use go127::Go127;

use std::marker::PhantomData;
use std::ops::Range;

use crate::bytes::{common, load32};

/// How far back a match may reach, in bytes.
const REACH: usize = 1 << 15;
const WINDOW: usize = 2 * REACH;
/// The shortest match that is looked for.
const SHORTEST: usize = 4;
/// Until the last bytes are there, so many are kept ahead of the search.
const LOOKAHEAD: usize = SHORTEST + crate::token::MAX_LENGTH;
const HASH_BITS: u32 = 17;

/// Four bytes, in the order of memory, to a hash of [`HASH_BITS`].
trait Hash {
    fn hash(word: u32) -> u32;
}

struct Chains<H> {
    window: Box<[u8; WINDOW]>,
    /// How much of it is filled.
    end: usize,
    /// Where the search is.
    at: usize,
    /// Where the block begins whose tokens are being collected; `None` when that has left the window.
    block: Option<usize>,
    /// The latest position of each hash. Positions are indices plus `base`; 0 is none.
    heads: Box<[u32; 1 << HASH_BITS]>,
    /// The position before the one at an index, modulo [`REACH`].
    earlier: Box<[u32; REACH]>,
    base: u32,
    hash: PhantomData<H>,
}

impl<H: Hash> Chains<H> {
    /// Positions begin again from here on.
    const AGAIN: u32 = 1 << 28;

    fn new() -> Self {
        Self {
            window: boxed(),
            end: 0,
            at: 0,
            block: Some(0),
            heads: boxed(),
            earlier: boxed(),
            base: 1,
            hash: PhantomData,
        }
    }

    fn is_full(&self) -> bool {
        self.end == WINDOW
    }

    /// Takes what fits and gives how much that is.
    fn fill(&mut self, input: &[u8]) -> usize {
        let len = input.len().min(WINDOW - self.end);
        self.window[self.end..self.end + len].copy_from_slice(&input[..len]);
        self.end += len;
        len
    }

    /// Forgets the older half of a full window that has been searched.
    fn advance(&mut self) {
        debug_assert!(self.is_full() && self.at >= WINDOW - LOOKAHEAD);
        self.window.copy_within(REACH.., 0);
        self.at -= REACH;
        self.end -= REACH;
        self.block = self.block.and_then(|block| block.checked_sub(REACH));
        self.base += REACH as u32;
        if self.base > Self::AGAIN {
            let by = self.base - 1;
            self.base = 1;
            for entry in self.heads.iter_mut().chain(self.earlier.iter_mut()) {
                *entry = entry.saturating_sub(by);
            }
        }
    }

    /// The bytes of the block up to `end`, and begins the next one there.
    fn take_block(&mut self, end: usize) -> Option<Range<usize>> {
        let range = self.block.filter(|&block| block <= end).map(|block| block..end);
        self.block = Some(end);
        range
    }

    /// An index from a position; negative when that has left the window.
    #[inline(always)]
    fn index(&self, position: u32) -> i32 {
        position.wrapping_sub(self.base) as i32
    }

    /// The hash of the four bytes at `at`.
    #[inline(always)]
    fn hash_at(&self, at: usize) -> usize {
        H::hash(load32(&self.window[..], at)) as usize & ((1 << HASH_BITS) - 1)
    }

    /// Adds `at` to its chain and gives the position that was its head.
    #[inline(always)]
    fn insert(&mut self, at: usize) -> u32 {
        let hash = self.hash_at(at);
        let head = self.heads[hash];
        self.earlier[at % REACH] = head;
        self.heads[hash] = at as u32 + self.base;
        head
    }

    /// The index before `candidate` in its chain, if it is not before `first`.
    #[inline(always)]
    fn before(&self, candidate: usize, first: i32) -> Option<usize> {
        if candidate as i32 <= first {
            return None;
        }
        let index = self.index(self.earlier[candidate % REACH]);
        (index >= first.max(0)).then_some(index as usize)
    }

    /// Adds positions to their chains, but not the last three, which have no four bytes.
    fn remember(&mut self, range: Range<usize>) {
        for at in range.start..range.end.min((self.end + 1).saturating_sub(SHORTEST)) {
            self.insert(at);
        }
    }

    /// The length of a match, if it is more than `longest` of at least three bytes; `end` is where it must end.
    #[inline(always)]
    fn longer(&self, at: usize, candidate: usize, longest: usize, end: usize) -> Option<usize> {
        // The four bytes that end behind the longest so far are the likeliest to differ.
        let probe = longest - 3;
        if load32(&self.window[..], candidate + probe) != load32(&self.window[..], at + probe) {
            return None;
        }
        let length = common(&self.window[..], at, candidate, end);
        (length > longest).then_some(length)
    }
}

/// A match at the position of a search.
#[derive(Clone, Copy)]
struct Match {
    length: usize,
    distance: usize,
}

impl Match {
    const NONE: Self = Self { length: SHORTEST - 1, distance: 0 };

    fn is_some(self) -> bool {
        self.length >= SHORTEST
    }
}

/// An array on the heap, through a vector: it does not belong on the stack first.
fn boxed<T: Copy + Default, const SIZE: usize>() -> Box<[T; SIZE]> {
    vec![T::default(); SIZE]
        .into_boxed_slice()
        .try_into()
        .unwrap_or_else(|_| unreachable!("the vector has this length"))
}
