//! Levels 7 to 9 of Go 1.27 and later: a match waits for the next position, may give way to one that ends later, and at
//! level 9 has to save more bits than it costs. Long runs without matches are walked over in growing steps.
//!
//! Facts from `compress/flate/deflate.go` of Go 1.27.3.

use super::{Chains, HASH_BITS, Hash, LOOKAHEAD, Match, REACH, SHORTEST};
use crate::block::Go127 as Blocks;
use crate::huffman::{Code, LIMIT};
use crate::token::{LENGTH_CODE, LENGTH_EXTRA, MAX_LENGTH, MIN_LENGTH, Tokens, distance_code, distance_extra};

/// A block ends with so many tokens.
const BLOCK: usize = 1 << 15;
/// A new description must save one part in 256.
const RESERVE: u32 = 8;
/// So many bytes at the beginning of a match may differ when another is looked for that ends later.
const LENIENCY: usize = 2;
/// What any match is taken to cost, and what the first must save beyond that, in bits.
const MATCH_COST: i32 = 3;
const FIRST_GAIN: i32 = 4;
/// The cost of literals is taken from so many bytes ahead.
const SAMPLE: usize = 1 << 15;

/// How hard a level tries.
struct Bounds {
    /// Do not look for a longer match after one of this length.
    enough: usize,
    /// Look no further after a match of this length.
    nice: usize,
    /// How many positions of a chain are compared, and how many literals in a row are borne with.
    tries: usize,
    /// Matches have to save bits.
    weighed: bool,
}

enum By127 {}

impl Hash for By127 {
    #[inline(always)]
    fn hash(word: u32) -> u32 {
        word.wrapping_mul(2_654_435_761) >> (32 - HASH_BITS)
    }
}

pub struct Go127 {
    chains: Chains<By127>,
    bounds: Bounds,
    tokens: Tokens,
    blocks: Blocks,
    /// What each byte would cost as a literal, in bits.
    costs: [u8; 256],
    /// What the position before found.
    waiting: Match,
    /// The byte before the position has not been said.
    owed: bool,
    /// Literals in a row. Go counts in 16 bits, and its patience begins anew when they overflow.
    literals: u16,
}

impl Go127 {
    /// Levels 7 to 9.
    pub fn new(level: u8) -> Option<Self> {
        let bounds = match level {
            7 => Bounds { enough: 12, nice: 16, tries: 24, weighed: false },
            8 => Bounds { enough: 30, nice: 40, tries: 64, weighed: false },
            9 => Bounds { enough: 258, nice: 258, tries: 1024, weighed: true },
            _ => return None,
        };
        Some(Self {
            chains: Chains::new(),
            bounds,
            tokens: Tokens::new(BLOCK),
            blocks: Blocks::new(RESERVE),
            costs: [1; 256],
            waiting: Match::NONE,
            owed: false,
            literals: 0,
        })
    }

    pub fn write(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            if self.chains.is_full() {
                self.search(false, out);
                self.chains.advance();
            }
            input = &input[self.chains.fill(input)..];
        }
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.search(true, out);
        if self.owed {
            self.tokens.push_literal(self.chains.window[self.chains.at - 1]);
            self.owed = false;
        }
        if !self.tokens.is_empty() {
            self.block(true, out);
        }
        self.blocks.finish(out);
    }

    /// Searches the window: to its end, or as long as there are enough bytes ahead. All blocks that end in the last
    /// search are written as if each was the last.
    fn search(&mut self, last: bool, out: &mut Vec<u8>) {
        if self.bounds.weighed {
            self.weigh_literals();
        }
        let ahead = if last { 1 } else { LOOKAHEAD };
        while self.chains.end - self.chains.at >= ahead {
            let at = self.chains.at;
            let before = self.waiting;
            let wanted = self.chains.end - at > before.length && before.length < self.bounds.enough;
            self.waiting = self.best(at, wanted);
            if before.is_some() && self.waiting.length <= before.length {
                self.take(before, last, out);
                continue;
            }
            if self.waiting.is_some() {
                self.literals = 0;
            }
            if self.owed {
                self.literals = self.literals.wrapping_add(1);
                self.literal(at - 1, last, out);
                self.chains.at += 1;
                self.hurry(last, out);
            } else {
                self.chains.at += 1;
                self.owed = true;
            }
        }
    }

    /// Says the match of the position before, or a better one.
    fn take(&mut self, before: Match, last: bool, out: &mut Vec<u8>) {
        let taken = self.look_at_end(before, last, out);
        self.tokens.push_match(taken.length, taken.distance);
        let at = self.chains.at;
        self.chains.at += taken.length - 1;
        self.chains.remember(at + 1..self.chains.at);
        self.owed = false;
        self.waiting = Match::NONE;
        self.literals = 0;
        self.end_full_block(last, out);
    }

    /// Takes the costs of literals from a code for the bytes ahead.
    fn weigh_literals(&mut self) {
        let ahead = &self.chains.window[self.chains.at..self.chains.end];
        if ahead.is_empty() {
            return;
        }
        let mut counts = [0u32; 256];
        for &byte in &ahead[..ahead.len().min(SAMPLE)] {
            counts[usize::from(byte)] += 1;
        }
        let mut code = Code::empty();
        code.assign(&counts, LIMIT);
        for (cost, word) in self.costs.iter_mut().zip(code.words) {
            *cost = word.len.max(1);
        }
    }

    /// Bits that a match saves.
    fn gain(&self, at: usize, length: usize, distance: usize) -> i32 {
        let bytes = &self.chains.window[at..at + length];
        let literals: i32 = bytes.iter().map(|&byte| i32::from(self.costs[usize::from(byte)])).sum();
        // Go takes the code of the next distance; from its table, that behind the farthest has the number 14.
        let distance = if distance == REACH { 14 } else { distance_code(distance as u32) };
        let length = usize::from(LENGTH_CODE[length - MIN_LENGTH]);
        literals - distance_extra(distance) as i32 - MATCH_COST - i32::from(LENGTH_EXTRA[length])
    }

    /// Remembers a position and gives the best match there, if one is wanted.
    fn best(&mut self, at: usize, wanted: bool) -> Match {
        let mut best = Match::NONE;
        if at + SHORTEST > self.chains.end {
            return best;
        }
        let head = self.chains.insert(at);
        let head = self.chains.index(head);
        let first = (at as i32 - REACH as i32).max(0);
        if !wanted || head < first {
            return best;
        }
        let end = self.chains.end.min(at + MAX_LENGTH);
        let nice = self.bounds.nice.min(end - at);
        let mut gain = FIRST_GAIN;
        let mut candidate = head as usize;
        for _ in 0..self.bounds.tries {
            if let Some(length) = self.chains.longer(at, candidate, best.length, end) {
                let distance = at - candidate;
                let saved = if self.bounds.weighed { self.gain(at, length, distance) } else { i32::MAX };
                if saved > gain {
                    gain = if self.bounds.weighed { saved } else { gain };
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

    /// Looks for a match that begins about where this one does, at the position before, and ends later. Bytes before it
    /// are said.
    fn look_at_end(&mut self, found: Match, last: bool, out: &mut Vec<u8>) -> Match {
        let start = self.chains.at - 1;
        let end = start + found.length;
        if found.length >= MAX_LENGTH - LENIENCY || end + SHORTEST > self.chains.end {
            return found;
        }
        let first = (self.chains.at as i32 - REACH as i32).max(0);
        let other = self.chains.index(self.chains.heads[self.chains.hash_at(end)]) - found.length as i32;
        if start as i32 - other == found.distance as i32 || other <= first + LENIENCY as i32 {
            return found;
        }
        let (other, bound) = (other as usize, (self.chains.end - 1).min(start + MAX_LENGTH + LENIENCY));
        let window = &self.chains.window;
        let mut length = crate::bytes::common(&window[..], start + LENIENCY, other + LENIENCY, bound);
        if length <= found.length {
            return found;
        }
        // Back over what was left out, as far as it matches.
        let mut said = LENIENCY;
        while said > 0 && length < MAX_LENGTH && window[start + said - 1] == window[other + said - 1] {
            said -= 1;
            length += 1;
        }
        for at in start..start + said {
            self.literal(at, last, out);
            self.chains.at += 1;
            if self.chains.at + SHORTEST <= self.chains.end {
                self.chains.insert(self.chains.at);
            }
        }
        Match { length, distance: start - other }
    }

    /// Says bytes without a search when there has been no match for long.
    fn hurry(&mut self, last: bool, out: &mut Vec<u8>) {
        let Some(excess) = usize::from(self.literals).checked_sub(self.bounds.tries).filter(|&excess| excess > 0)
        else {
            return;
        };
        for _ in 0..1 + (excess >> 6) {
            let at = self.chains.at;
            if at + 1 >= self.chains.end {
                break;
            }
            self.literal(at - 1, last, out);
            if at + SHORTEST <= self.chains.end {
                self.chains.insert(at);
            }
            self.chains.at += 1;
        }
        self.literal(self.chains.at - 1, last, out);
        self.owed = false;
    }

    /// Says a byte, and ends the block at the position if it is full.
    fn literal(&mut self, at: usize, last: bool, out: &mut Vec<u8>) {
        self.tokens.push_literal(self.chains.window[at]);
        self.end_full_block(last, out);
    }

    fn end_full_block(&mut self, last: bool, out: &mut Vec<u8>) {
        if self.tokens.len() == BLOCK {
            self.block(last, out);
        }
    }

    fn block(&mut self, last: bool, out: &mut Vec<u8>) {
        let range = self.chains.take_block(self.chains.at);
        let bytes = range.map(|range| &self.chains.window[range]);
        self.blocks.tokens(&mut self.tokens, bytes, last, out);
        self.tokens.clear();
    }
}
