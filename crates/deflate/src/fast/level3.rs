//! Level 3: one table by five bytes with two positions.

use super::{LatestTwo, Match, REACH, Rebase, Scan, Search, Window, hash5};
use crate::bytes::load64;
use crate::token::Tokens;

const BITS: u32 = 16;
/// The step grows by one for each so many bytes without a match, as a power of two.
const PATIENCE: usize = 7;
/// Matches are a little nearer than the format allows.
const NEAR: usize = REACH - 4;

pub struct Level3 {
    table: LatestTwo<{ 1 << BITS }>,
}

impl Level3 {
    pub fn new() -> Self {
        Self { table: LatestTwo::new() }
    }

    /// Remembers a position and gives the two that were there.
    #[inline(always)]
    fn push(&mut self, scan: &Scan, at: usize, word: u64) -> [u32; 2] {
        let hash = hash5::<BITS>(word);
        let entries = self.table.at(hash);
        self.table.push(hash, scan.position(at));
        entries
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
            let [latest, before] = self.push(scan, at, word);
            // Where the latest is too far away, the other is not looked at.
            if scan.distance(at, latest) <= NEAR {
                if let Some(mut from) = scan.candidate(at, latest, word, NEAR + 1) {
                    if let Some(other) = scan.candidate(at, before, word, NEAR + 1)
                        && scan.length(at, other) > scan.length(at, from)
                    {
                        from = other;
                    }
                    return Some((at, from, next));
                }
                if let Some(from) = scan.candidate(at, before, word, NEAR) {
                    return Some((at, from, next));
                }
            }
            at = next;
            word = load64(scan.bytes, at);
        }
    }
}

impl Search for Level3 {
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
                    // Not the end of the match is remembered but that of what it repeats.
                    let behind = found.from + found.length;
                    if behind + 8 < scan.bytes.len() {
                        self.push(&scan, behind, load64(scan.bytes, behind));
                    }
                    break 'walk;
                }
                for at in (at + 2 - found.length..at.saturating_sub(5)).step_by(6) {
                    self.push(&scan, at, load64(scan.bytes, at));
                }
                let word = load64(scan.bytes, at - 2);
                self.push(&scan, at - 2, word);
                self.push(&scan, at - 1, word >> 8);
                let word = word >> 16;
                let [latest, before] = self.push(&scan, at, word);
                if scan.distance(at, latest) >= NEAR {
                    break;
                }
                let latest = scan.candidate(at, latest, word, NEAR);
                match latest.or_else(|| scan.candidate(at, before, word, NEAR)) {
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
