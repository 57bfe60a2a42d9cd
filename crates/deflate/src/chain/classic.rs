//! Levels 2 to 9 of Go 1.7 to 1.26: one search with seven sets of bounds. From level 4 on a match waits for the next
//! position, which may have a longer one.
//!
//! Facts from `compress/flate/deflate.go` of Go 1.19.8.

use super::{Chains, HASH_BITS, Hash, LOOKAHEAD, Match, REACH, SHORTEST};
use crate::block::Classic as Blocks;
use crate::token::{MAX_LENGTH, Tokens};

/// A block ends with so many tokens.
const BLOCK: usize = 1 << 14;
/// A match of the shortest length is not worth a longer way back.
const SHORT_REACH: usize = 4096;

/// How hard a level tries.
struct Bounds {
    /// Look no further after a match of this length.
    nice: usize,
    /// How many positions of a chain are compared.
    tries: u32,
    /// When a match is taken.
    take: Take,
}

#[derive(Clone, Copy)]
enum Take {
    /// At once. The positions in longer ones than this are not remembered.
    Eager { remembered: usize },
    /// After a look at the next position, unless it is at least this long.
    Lazy { enough: usize },
}

impl Bounds {
    fn of(level: u8) -> Option<Self> {
        let (nice, tries, take) = match level {
            2 => (16, 8, Take::Eager { remembered: 5 }),
            3 => (32, 32, Take::Eager { remembered: 6 }),
            4 => (16, 16, Take::Lazy { enough: 4 }),
            5 => (32, 32, Take::Lazy { enough: 16 }),
            6 => (128, 128, Take::Lazy { enough: 16 }),
            7 => (128, 256, Take::Lazy { enough: 32 }),
            8 => (258, 1024, Take::Lazy { enough: 128 }),
            9 => (258, 4096, Take::Lazy { enough: 258 }),
            _ => return None,
        };
        Some(Self { nice, tries, take })
    }
}

pub struct Classic {
    chains: Chains<ByClassic>,
    bounds: Bounds,
    tokens: Tokens,
    blocks: Blocks,
    /// What the position before found.
    waiting: Match,
    /// The byte before the position has not been said.
    owed: bool,
}

enum ByClassic {}

impl Hash for ByClassic {
    #[inline(always)]
    fn hash(word: u32) -> u32 {
        word.swap_bytes().wrapping_mul(0x1e35_a7bd) >> (32 - HASH_BITS)
    }
}

impl Classic {
    /// Levels 2 to 9.
    pub fn new(level: u8) -> Option<Self> {
        Some(Self {
            chains: Chains::new(),
            bounds: Bounds::of(level)?,
            tokens: Tokens::new(BLOCK),
            blocks: Blocks::new(),
            waiting: Match::NONE,
            owed: false,
        })
    }

    pub fn write(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            if self.chains.is_full() {
                self.search(LOOKAHEAD, out);
                self.chains.advance();
            }
            input = &input[self.chains.fill(input)..];
        }
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.search(1, out);
        if self.owed {
            self.tokens.push_literal(self.chains.window[self.chains.at - 1]);
            self.owed = false;
        }
        if !self.tokens.is_empty() {
            self.block(self.chains.at, out);
        }
        self.blocks.finish(out);
    }

    /// Searches as long as `ahead` bytes are there.
    fn search(&mut self, ahead: usize, out: &mut Vec<u8>) {
        match self.bounds.take {
            Take::Eager { remembered } => self.eager(ahead, remembered, out),
            Take::Lazy { enough } => self.lazy(ahead, enough, out),
        }
    }

    fn eager(&mut self, ahead: usize, remembered: usize, out: &mut Vec<u8>) {
        while self.chains.end - self.chains.at >= ahead {
            let at = self.chains.at;
            let found = self.best(at, true);
            if found.is_some() {
                self.tokens.push_match(found.length, found.distance);
                self.chains.at += found.length;
                if found.length <= remembered {
                    self.chains.remember(at + 1..self.chains.at);
                }
            } else {
                self.tokens.push_literal(self.chains.window[at]);
                self.chains.at += 1;
            }
            self.end_full_block(out);
        }
    }

    fn lazy(&mut self, ahead: usize, enough: usize, out: &mut Vec<u8>) {
        while self.chains.end - self.chains.at >= ahead {
            let at = self.chains.at;
            let before = self.waiting;
            let wanted = self.chains.end - at > before.length && before.length < enough;
            self.waiting = self.best(at, wanted);
            if before.is_some() && self.waiting.length <= before.length {
                self.tokens.push_match(before.length, before.distance);
                self.chains.at += before.length - 1;
                self.chains.remember(at + 1..self.chains.at);
                self.owed = false;
                self.waiting = Match::NONE;
                self.end_full_block(out);
                continue;
            }
            if self.owed {
                self.tokens.push_literal(self.chains.window[at - 1]);
                // The block ends before this position.
                self.end_full_block(out);
            }
            self.owed = true;
            self.chains.at += 1;
        }
    }

    /// Remembers a position and gives the longest match there, the nearest of several, if one is wanted.
    fn best(&mut self, at: usize, wanted: bool) -> Match {
        let mut best = Match::NONE;
        // The last three positions have no hash.
        let end = self.chains.end.min(at + MAX_LENGTH);
        if at + SHORTEST > self.chains.end {
            return best;
        }
        let head = self.chains.insert(at);
        let head = self.chains.index(head);
        let first = at as i32 - REACH as i32;
        if !wanted || head < first.max(0) {
            return best;
        }
        let nice = self.bounds.nice.min(end - at);
        let mut candidate = head as usize;
        for _ in 0..self.bounds.tries {
            if let Some(length) = self.chains.longer(at, candidate, best.length, end) {
                let distance = at - candidate;
                if length > SHORTEST || distance <= SHORT_REACH {
                    best = Match { length, distance };
                    if length >= nice {
                        break;
                    }
                }
            }
            match self.chains.before(candidate, first) {
                Some(before) => candidate = before,
                None => break,
            }
        }
        best
    }

    fn end_full_block(&mut self, out: &mut Vec<u8>) {
        if self.tokens.len() == BLOCK {
            self.block(self.chains.at, out);
        }
    }

    fn block(&mut self, end: usize, out: &mut Vec<u8>) {
        let range = self.chains.take_block(end);
        self.blocks.cheapest(&mut self.tokens, range.map(|range| &self.chains.window[range]), out);
        self.tokens.clear();
    }
}
