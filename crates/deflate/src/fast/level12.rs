//! Levels 1 and 2: one table by five bytes, every second position at first. Level 2 has a larger table and remembers
//! positions within matches.

use super::{Latest, Match, REACH, Rebase, Scan, Search, Window, hash5};
use crate::bytes::load64;
use crate::token::Tokens;

/// The step grows by one for each so many bytes without a match, as a power of two.
const PATIENCE: usize = 5;

pub struct Level12<const BITS: u32, const SIZE: usize, const TWO: bool> {
    table: Latest<SIZE>,
}

pub type Level1 = Level12<15, { 1 << 15 }, false>;
pub type Level2 = Level12<17, { 1 << 17 }, true>;

impl<const BITS: u32, const SIZE: usize, const TWO: bool> Level12<BITS, SIZE, TWO> {
    pub fn new() -> Self {
        Self { table: Latest::new() }
    }

    /// Remembers a position and gives the one that was there.
    #[inline(always)]
    fn swap(&mut self, scan: &Scan, at: usize, word: u64) -> u32 {
        std::mem::replace(self.table.at(hash5::<BITS>(word)), scan.position(at))
    }

    /// Walks on from `at` until something matches: gives where, with what, and the position that would be next.
    #[inline(always)]
    fn next_match(&mut self, scan: &Scan, mut at: usize, said: usize) -> Option<(usize, usize, usize)> {
        let mut word = load64(scan.bytes, at);
        loop {
            let next = at + 2 + ((at - said) >> PATIENCE);
            if next > scan.limit {
                return None;
            }
            let following = load64(scan.bytes, next);
            let entry = self.swap(scan, at, word);
            if let Some(from) = scan.candidate(at, entry, word, REACH) {
                self.swap(scan, next, following);
                return Some((at, from, next));
            }
            // The position after `next` follows at once.
            (at, word) = (next, following);
            let entry = self.swap(scan, at, word);
            if let Some(from) = scan.candidate(at, entry, word, REACH) {
                if !TWO {
                    // Under the hash of this position, but as the next.
                    self.swap(scan, at + 1, word);
                }
                return Some((at, from, at + 1));
            }
            (at, word) = (at + 1, word >> 8);
        }
    }
}

impl<const BITS: u32, const SIZE: usize, const TWO: bool> Search for Level12<BITS, SIZE, TWO> {
    fn search(&mut self, window: &Window, tokens: &mut Tokens) {
        let scan = Scan::new(window);
        let (mut at, mut said) = (window.start, window.start);
        'walk: while let Some((start, mut from, next)) = self.next_match(&scan, at, said) {
            at = start;
            loop {
                let mut found = Match { at, from, length: scan.length(at, from) };
                scan.extend_back(&mut found, said);
                scan.say(&found, said, tokens);
                said = found.at + found.length;
                at = said.max(next + 1);
                if at >= scan.limit {
                    if at + found.length + 8 < scan.bytes.len() {
                        self.swap(&scan, at, load64(scan.bytes, at));
                    }
                    break 'walk;
                }
                if TWO {
                    for at in (at + 2 - found.length..at.saturating_sub(5)).step_by(7) {
                        let word = load64(scan.bytes, at);
                        self.swap(&scan, at, word);
                        self.swap(&scan, at + 2, word >> 16);
                        // Only four bytes are left: the fifth is hashed as zero.
                        self.swap(&scan, at + 4, word >> 32);
                    }
                }
                let word = load64(scan.bytes, at - 2);
                self.swap(&scan, at - 2, word);
                if TWO {
                    self.swap(&scan, at - 1, word >> 8);
                }
                let entry = self.swap(&scan, at, word >> 16);
                // Here, the farthest distance of all is taken too.
                match scan.candidate(at, entry, word >> 16, REACH + 1) {
                    Some(index) => from = index,
                    None => break,
                }
            }
            at += 1;
        }
        scan.say_rest(said, tokens);
    }

    fn rebase(&mut self, change: Rebase) {
        self.table.rebase(change);
    }
}
