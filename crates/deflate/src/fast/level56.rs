//! Levels 5 and 6, of which 6 is the default: two tables, by four and by seven bytes, the latter with two positions. A
//! match may give way to one that ends later. Level 6 also tries the last distance again and remembers more positions.

use super::{Latest, LatestTwo, Match, REACH, Rebase, Scan, Search, Window, hash4, hash7};
use crate::bytes::{common, load32, load64};
use crate::token::{MAX_LENGTH, Tokens};

const BITS: u32 = 15;
/// So many bytes at the beginning of a match may differ when another is looked for that ends later.
const LENIENCY: usize = 2;
/// Level 5 is content with a match of this length.
const ENOUGH: usize = 30;

pub struct Level56<const SIX: bool> {
    short: Latest<{ 1 << BITS }>,
    long: LatestTwo<{ 1 << BITS }>,
}

/// What the walk to the next match found.
struct Found {
    /// A length of 0 is not known yet.
    found: Match,
    /// The position after the last that was compared; it is remembered too.
    next: usize,
}

impl<const SIX: bool> Level56<SIX> {
    /// The step grows by one for each so many bytes without a match, as a power of two.
    const PATIENCE: usize = if SIX { 7 } else { 6 };

    pub fn new() -> Self {
        Self { short: Latest::new(), long: LatestTwo::new() }
    }

    #[inline(always)]
    fn remember_short(&mut self, scan: &Scan, at: usize, word: u64) {
        *self.short.at(hash4::<BITS>(word)) = scan.position(at);
    }

    #[inline(always)]
    fn remember_long(&mut self, scan: &Scan, at: usize, word: u64) {
        self.long.push(hash7::<BITS>(word), scan.position(at));
    }

    #[inline(always)]
    fn remember(&mut self, scan: &Scan, at: usize, word: u64) {
        self.remember_short(scan, at, word);
        self.remember_long(scan, at, word);
    }

    /// Walks on from `at` until something matches.
    #[inline(always)]
    fn next_match(&mut self, scan: &Scan, mut at: usize, said: usize, repeat: usize) -> Option<Found> {
        let mut word = load64(scan.bytes, at);
        loop {
            let next = at + 1 + ((at - said) >> Self::PATIENCE);
            if next > scan.limit {
                return None;
            }
            let short = *self.short.at(hash4::<BITS>(word));
            let long = self.long.at(hash7::<BITS>(word));
            self.remember(scan, at, word);
            let following = load64(scan.bytes, next);
            if let Some(found) = Self::long_match(scan, at, word, long) {
                self.remember(scan, next, following);
                return Some(Found { found, next });
            }
            if let Some(from) = scan.candidate(at, short, word, REACH) {
                let found = Match { at, from, length: scan.short_length(at, from) };
                let after = self.long.at(hash7::<BITS>(following));
                self.remember(scan, next, following);
                return Some(Found { found: Self::better(scan, found, (word, following), next, after, repeat), next });
            }
            at = next;
            word = following;
        }
    }

    /// The better of two candidates, the latest of which has to be in reach.
    #[inline(always)]
    fn long_match(scan: &Scan, at: usize, word: u64, [latest, before]: [u32; 2]) -> Option<Match> {
        if scan.distance(at, latest) >= REACH {
            return None;
        }
        let other = scan.candidate(at, before, word, REACH);
        let Some(from) = scan.candidate(at, latest, word, REACH) else {
            return other.map(|from| Match { at, from, length: 0 });
        };
        let Some(other) = other else { return Some(Match { at, from, length: 0 }) };
        let (length, of_other) = (scan.short_length(at, from), scan.short_length(at, other));
        Some(if of_other > length { Match { at, from: other, length: of_other } } else { Match { at, from, length } })
    }

    /// A longer match that begins with one of the bytes that follow, or the one that is given.
    #[inline(always)]
    fn better(
        scan: &Scan,
        mut found: Match,
        (word, following): (u64, u64),
        next: usize,
        after: [u32; 2],
        repeat: usize,
    ) -> Match {
        if SIX {
            let (at, from) = (found.at + 1, found.at + 1 - repeat);
            if load32(scan.bytes, from) == (word >> 8) as u32 {
                let length = scan.short_length(at, from);
                if length > found.length {
                    return Match { at, from, length };
                }
            }
        }
        if scan.distance(next, after[0]) >= REACH {
            return found;
        }
        for entry in after {
            if let Some(from) = scan.candidate(next, entry, following, REACH) {
                let length = scan.short_length(next, from);
                if length > found.length {
                    found = Match { at: next, from, length };
                    if !SIX {
                        break;
                    }
                }
            }
        }
        found
    }

    /// Looks for a match that begins about where this one does and ends later.
    #[inline(always)]
    fn look_at_end(&self, scan: &Scan, found: &mut Match) {
        let end = found.at + found.length;
        if end >= scan.limit || (!SIX && found.length >= ENOUGH) {
            return;
        }
        let entries = self.long.at(hash7::<BITS>(load64(scan.bytes, end)));
        if scan.ahead(end, entries[0]) >= REACH as i32 {
            return;
        }
        let start = found.at;
        for &entry in if SIX { &entries[..] } else { &entries[..1] } {
            // Where the first of two made the match longer, the second no longer aligns with its end: so be it.
            let distance = scan.ahead(start + found.length, entry);
            let at = start + LENIENCY;
            if distance <= 0 || distance >= REACH as i32 || distance > at as i32 {
                continue;
            }
            let from = at - distance as usize;
            let length = common(scan.bytes, at, from, scan.bytes.len());
            if length > found.length {
                *found = Match { at, from, length };
            }
        }
    }

    /// Remembers positions in a match that ends before `at`, beginning behind `next`.
    #[inline(always)]
    fn remember_match(&mut self, scan: &Scan, length: usize, next: usize, at: usize) {
        if SIX {
            for at in (next + 1..at - 1).step_by(2) {
                let word = load64(scan.bytes, at);
                self.remember(scan, at, word);
                self.remember_long(scan, at + 1, word >> 8);
            }
            return;
        }
        let first = at - length + 1;
        let word = load64(scan.bytes, first);
        self.remember(scan, first, word);
        self.remember_long(scan, first + 1, word >> 8);
        self.remember_short(scan, first + 2, word >> 16);
        for at in (first + 4..at - 1).step_by(3) {
            let word = load64(scan.bytes, at);
            self.remember_long(scan, at, word);
            self.remember_short(scan, at + 1, word >> 8);
        }
        self.remember(scan, at - 1, load64(scan.bytes, at - 1));
    }
}

impl<const SIX: bool> Search for Level56<SIX> {
    fn search(&mut self, window: &Window, tokens: &mut Tokens) {
        let scan = Scan::new(window);
        let (mut at, mut said, mut repeat) = (window.start, window.start, 1);
        while let Some(Found { mut found, next }) = self.next_match(&scan, at, said, repeat) {
            if found.length == 0 {
                found.length = scan.length(found.at, found.from);
            } else if found.length == MAX_LENGTH {
                let (end, behind) = (found.at + found.length, found.from + found.length);
                found.length += common(scan.bytes, end, behind, scan.bytes.len());
            }
            self.look_at_end(&scan, &mut found);
            scan.extend_back(&mut found, said);
            scan.say(&found, said, tokens);
            repeat = found.at - found.from;
            said = found.at + found.length;
            at = said.max(next + 1);
            if at >= scan.limit {
                if SIX {
                    for at in (next + 1..scan.bytes.len() - 8).step_by(2) {
                        self.remember(&scan, at, load64(scan.bytes, at));
                    }
                }
                break;
            }
            self.remember_match(&scan, found.length, next, at);
        }
        scan.say_rest(said, tokens);
    }

    fn rebase(&mut self, change: Rebase) {
        self.short.rebase(change);
        self.long.rebase(change);
    }
}
