//! Level 1 of Go 1.7 to 1.26: one table by four bytes, in steps that grow.
//!
//! Facts from `compress/flate/deflatefast.go` of Go 1.19.8. It only differs from that of Go 1.7, which did not look back
//! into the block before.

use super::{Latest, Match, REACH, Rebase, Scan, Search, Window};
use crate::bytes::{common, load32, load64};
use crate::token::{MAX_LENGTH, Tokens};

const BITS: u32 = 14;
/// Matches begin so many bytes before the end of the block at the latest.
const MARGIN: usize = 15;
/// The step is a part of this of the bytes since the last match, and one more.
const PATIENCE: usize = 5;

pub struct Classic1 {
    table: Latest<{ 1 << BITS }>,
}

fn hash(word: u32) -> usize {
    (word.wrapping_mul(0x1e35_a7bd) >> (32 - BITS)) as usize
}

impl Classic1 {
    pub fn new() -> Self {
        Self { table: Latest::new() }
    }

    /// Remembers a position and gives the index of the one that was there, if it matches.
    #[inline(always)]
    fn swap(&mut self, scan: &Scan, at: usize, word: u32) -> Option<usize> {
        let entry = std::mem::replace(self.table.at(hash(word)), scan.position(at));
        scan.candidate(at, entry, word.into(), REACH + 1)
    }

    /// Walks on from `at` until something matches: gives where and with what.
    #[inline(always)]
    fn next_match(&mut self, scan: &Scan, limit: usize, mut at: usize) -> Option<(usize, usize)> {
        let mut skip = 1 << PATIENCE;
        loop {
            let step = skip >> PATIENCE;
            skip += step;
            if at + step > limit {
                return None;
            }
            if let Some(from) = self.swap(scan, at, load32(scan.bytes, at)) {
                return Some((at, from));
            }
            at += step;
        }
    }
}

impl Search for Classic1 {
    fn search(&mut self, window: &Window, tokens: &mut Tokens) {
        let scan = Scan::new(window);
        let limit = scan.bytes.len() - MARGIN;
        let (mut at, mut said) = (window.start, window.start);
        'walk: while let Some((start, mut from)) = self.next_match(&scan, limit, at) {
            at = start;
            loop {
                let end = scan.bytes.len().min(at + MAX_LENGTH);
                let length = 4 + common(scan.bytes, at + 4, from + 4, end);
                scan.say(&Match { at, from, length }, said, tokens);
                at += length;
                said = at;
                if at >= limit {
                    break 'walk;
                }
                let word = load64(scan.bytes, at - 1);
                self.swap(&scan, at - 1, word as u32);
                match self.swap(&scan, at, (word >> 8) as u32) {
                    Some(index) => from = index,
                    None => break,
                }
            }
            at += 1;
        }
        tokens.push_literals(&scan.bytes[said..]);
    }

    fn rebase(&mut self, change: Rebase) {
        self.table.rebase(change);
    }
}
