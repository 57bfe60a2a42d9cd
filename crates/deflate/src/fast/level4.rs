//! Level 4: two tables, by four and by seven bytes.

use super::{Latest, Match, REACH, Rebase, Scan, Search, Window, hash4, hash7};
use crate::bytes::{common, load64};
use crate::token::Tokens;

const BITS: u32 = 15;
/// The step grows by one for each so many bytes without a match, as a power of two.
const PATIENCE: usize = 6;

pub struct Level4 {
    short: Latest<{ 1 << BITS }>,
    long: Latest<{ 1 << BITS }>,
}

impl Level4 {
    pub fn new() -> Self {
        Self { short: Latest::new(), long: Latest::new() }
    }

    #[inline(always)]
    fn swap_short(&mut self, scan: &Scan, at: usize, word: u64) -> u32 {
        std::mem::replace(self.short.at(hash4::<BITS>(word)), scan.position(at))
    }

    #[inline(always)]
    fn swap_long(&mut self, scan: &Scan, at: usize, word: u64) -> u32 {
        std::mem::replace(self.long.at(hash7::<BITS>(word)), scan.position(at))
    }

    /// Walks on from `at` until something matches: gives where, with what, and the position that would be next.
    #[inline(always)]
    fn next_match(&mut self, scan: &Scan, mut at: usize, said: usize) -> Option<(usize, usize, usize)> {
        let mut word = load64(scan.bytes, at);
        loop {
            let next = at + 1 + ((at - said) >> PATIENCE);
            if next > scan.limit {
                return None;
            }
            let short = self.swap_short(scan, at, word);
            let long = self.swap_long(scan, at, word);
            let following = load64(scan.bytes, next);
            if let Some(from) = scan.candidate(at, long, word, REACH) {
                return Some((at, from, next));
            }
            if let Some(from) = scan.candidate(at, short, word, REACH) {
                let entry = *self.long.at(hash7::<BITS>(following));
                if let Some(other) = scan.candidate(next, entry, following, REACH) {
                    // Go compares with what lies at the index that the distance happens to be in its buffer.
                    let astray = 4 + common(scan.bytes, next + 4, next - other + 4, scan.bytes.len());
                    if astray > scan.length(at, from) {
                        return Some((next, other, next));
                    }
                }
                return Some((at, from, next));
            }
            at = next;
            word = following;
        }
    }
}

impl Search for Level4 {
    /// Because of the comparison that goes astray, the window has to be cut as Go's.
    fn like_go(&self) -> bool {
        true
    }

    fn search(&mut self, window: &Window, tokens: &mut Tokens) {
        let scan = Scan::new(window);
        let (mut at, mut said) = (window.start, window.start);
        while let Some((start, from, next)) = self.next_match(&scan, at, said) {
            let mut found = Match { at: start, from, length: scan.length(start, from) };
            scan.extend_back(&mut found, said);
            scan.say(&found, said, tokens);
            said = found.at + found.length;
            at = said.max(next + 1);
            if at >= scan.limit {
                if at + 8 < scan.bytes.len() {
                    let word = load64(scan.bytes, at);
                    self.swap_short(&scan, at, word);
                    self.swap_long(&scan, at, word);
                }
                break;
            }
            for at in (next..at - 1).step_by(3) {
                let word = load64(scan.bytes, at);
                self.swap_long(&scan, at, word);
                self.swap_long(&scan, at + 1, word >> 8);
                self.swap_short(&scan, at + 1, word >> 8);
            }
            let word = load64(scan.bytes, at - 1);
            self.swap_short(&scan, at - 1, word);
            self.swap_long(&scan, at - 1, word);
        }
        scan.say_rest(said, tokens);
    }

    fn rebase(&mut self, change: Rebase) {
        self.short.rebase(change);
        self.long.rebase(change);
    }
}
