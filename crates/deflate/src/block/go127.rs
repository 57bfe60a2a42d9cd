//! Blocks of Go 1.27 and later: codes are kept for the next block where an estimate says that a new description would
//! not pay.
//!
//! Facts from `compress/flate/huffman_bit_writer.go` and `token.go` of Go 1.27.3. A block stays open as long as the next
//! one may go on with its codes, so its end is owed until something else begins.

use crate::bits::Bits;
use crate::huffman::{Code, LIMIT};
use crate::token::{DISTANCES, END, FIRST_LENGTH, SYMBOLS, Tokens, extra_bits};

use super::{FIXED_DISTANCES, FIXED_SYMBOLS, Header, NO_DISTANCES, described, store, stored_cost};

/// Only blocks of fewer tokens are worth the question whether the fixed codes are shorter.
const FIXED_BELOW: usize = 250;

/// What a description is assumed to take before there was one, in bits.
const GUESSED_HEADER: usize = 70 * 8;

pub struct Go127 {
    bits: Bits,
    symbols: Code,
    /// The code that may replace `symbols`.
    fresh: Code,
    distances: Code,
    /// What the description of the open block took, in bits; zero when no block is open.
    open: usize,
    /// The open block has no distances.
    literals_only: bool,
    /// A new description must save one part in 2 to the power of this.
    reserve: u32,
}

impl Go127 {
    pub fn new(reserve: u32) -> Self {
        Self {
            bits: Bits::default(),
            symbols: Code::empty(),
            fresh: Code::empty(),
            distances: Code::empty(),
            open: 0,
            literals_only: false,
            reserve,
        }
    }

    /// Ends the open block, if there is one.
    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open > 0 {
            self.bits.word(self.symbols.words[END], out);
            self.open = 0;
        }
    }

    /// Ends the stream with an empty block of the fixed codes.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.close(out);
        self.bits.put(0b011, 3, out);
        self.bits.put(0, 7, out);
        self.bits.align(out);
    }

    pub fn stored(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.close(out);
        store(&mut self.bits, bytes, false, out);
    }

    /// A block of tokens in its cheapest form. `bytes` are what they stand for, where the window still has them; `last`
    /// says that no block may continue this one.
    pub fn tokens(&mut self, tokens: &mut Tokens, bytes: Option<&[u8]>, last: bool, out: &mut Vec<u8>) {
        // The end can always be sent, and counts as a token only where it is.
        tokens.symbols[END] = 1;
        let few = tokens.len() + usize::from(last) < FIXED_BELOW;
        if self.open > 0 && (self.literals_only || !self.reusable(tokens)) {
            self.close(out);
            self.literals_only = false;
        }
        // Estimates and reuse see matches only; a description has at least one distance.
        let described_symbols = described(&tokens.symbols);
        let mut described_distances = described(&tokens.distances);
        let estimate = if self.open > 0 { estimate(tokens, last) } else { 0 };
        if described_distances == 0 {
            tokens.distances[0] = 1;
            described_distances = 1;
        }
        let stored = stored_cost(bytes);
        // The bytes, if they take no more than so many bits.
        let within = |cost| bytes.filter(|_| stored.is_some_and(|stored| stored <= cost));
        let extra = if stored.is_some() || self.open > 0 { extra_bits(&tokens.symbols, &tokens.distances) } else { 0 };

        if self.open > 0 {
            let fresh = self.open + estimate;
            let fresh = fresh + usize::from(self.symbols.words[END].len) + (fresh >> self.reserve);
            let reused = self.symbols.cost(&tokens.symbols) + self.distances.cost(&tokens.distances) + extra;
            let mut cost = reused;
            if fresh < reused {
                self.close(out);
                cost = fresh;
            }
            if few && fixed_cost(tokens, extra) + 7 < cost {
                return self.stored_or_fixed(tokens, within(cost), out);
            }
            if let Some(bytes) = within(cost) {
                return self.stored(bytes, out);
            }
        }
        if self.open == 0 {
            self.symbols.assign(&tokens.symbols[..SYMBOLS], LIMIT);
            self.distances.assign(&tokens.distances[..DISTANCES], LIMIT);
            let header = Header::new((&self.symbols, described_symbols), (&self.distances, described_distances));
            let cost =
                header.cost() + self.symbols.cost(&tokens.symbols) + self.distances.cost(&tokens.distances) + extra;
            if few {
                let fixed = fixed_cost(tokens, extra);
                if fixed <= cost {
                    return self.stored_or_fixed(tokens, within(fixed), out);
                }
            }
            if let Some(bytes) = within(cost) {
                return self.stored(bytes, out);
            }
            header.send(&mut self.bits, out);
            self.open = header.cost();
            self.literals_only = false;
        }
        if last {
            self.open = 0;
        }
        self.bits.tokens(tokens.as_slice(), last, &self.symbols, &self.distances, out);
    }

    /// The bytes as they are if they are given, otherwise the tokens with the fixed codes.
    fn stored_or_fixed(&mut self, tokens: &Tokens, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
        if let Some(bytes) = bytes {
            return self.stored(bytes, out);
        }
        self.close(out);
        self.bits.put(0b010, 3, out);
        self.bits.tokens(tokens.as_slice(), true, &FIXED_SYMBOLS, &FIXED_DISTANCES, out);
    }

    /// A block of nothing but literals, or the bytes as they are where that gains little.
    pub fn literals(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) {
        let mut counts = [0u32; 257];
        for &byte in bytes {
            counts[usize::from(byte)] += 1;
        }
        let stored = stored_cost(Some(bytes));
        if stored.is_some() && bytes.len() > 1024 && even(&counts, bytes.len()) {
            return self.stored(bytes, out);
        }
        counts[END] = 1;
        self.fresh.assign(&counts, LIMIT);
        let cost = self.fresh.cost(&counts) + if self.open > 0 { self.open } else { GUESSED_HEADER };
        let cost = cost + (cost >> self.reserve);
        if stored.is_some_and(|stored| stored <= cost) {
            return self.stored(bytes, out);
        }
        if self.open > 0 && (!self.symbols.covers(&counts[..256]) || cost < self.symbols.cost(&counts[..256])) {
            self.close(out);
        }
        if self.open == 0 {
            std::mem::swap(&mut self.symbols, &mut self.fresh);
            let header = Header::new((&self.symbols, END + 1), (&NO_DISTANCES, 1));
            header.send(&mut self.bits, out);
            self.open = header.cost();
            self.literals_only = true;
        }
        self.bits.literals(bytes, &self.symbols, out);
        if last {
            self.close(out);
            self.literals_only = false;
        }
    }

    /// Whether the codes of the open block have a word for everything.
    fn reusable(&self, tokens: &Tokens) -> bool {
        self.distances.covers(&tokens.distances[..DISTANCES]) && self.symbols.covers(&tokens.symbols[..SYMBOLS])
    }
}

fn fixed_cost(tokens: &Tokens, extra: usize) -> usize {
    3 + FIXED_SYMBOLS.cost(&tokens.symbols) + FIXED_DISTANCES.cost(&tokens.distances) + extra
}

/// Whether all bytes are about equally frequent: the squares of the deviations stay below twice the number of bytes.
fn even(counts: &[u32; 257], len: usize) -> bool {
    // In units of 1/256, squared, so that nothing is rounded.
    let bound = (2 * len as u64) << 16;
    let mut sum = 0;
    for &count in &counts[..256] {
        sum += ((u64::from(count)) << 8).abs_diff(len as u64).pow(2);
        if sum >= bound {
            return false;
        }
    }
    true
}

/// The bits that tokens would take with codes of their own: their entropy in single precision, and the bits that follow
/// symbols, which count one bit at least and 15 at most. Each result is rounded, as on amd64; on arm64 Go rounds a product
/// and a sum once.
fn estimate(tokens: &Tokens, last: bool) -> usize {
    let weigh = |count: u32, share: f32| {
        let count = count as f32;
        (-log2(count * share)).clamp(1.0, 15.0) * count
    };
    let total = tokens.len() + usize::from(last);
    let mut sum = 0.0;
    let share = 1.0 / total as f32;
    for &count in tokens.symbols[..END].iter().filter(|&&count| count > 0) {
        sum += weigh(count, share);
    }
    // The end of the block.
    sum += 15.0;
    let mut matches = 0;
    for &count in tokens.symbols[FIRST_LENGTH..SYMBOLS].iter().filter(|&&count| count > 0) {
        sum += weigh(count, share);
        matches += count;
    }
    let share = 1.0 / matches as f32;
    for &count in tokens.distances[..DISTANCES].iter().filter(|&&count| count > 0) {
        sum += weigh(count, share);
    }
    sum as usize + extra_bits(&tokens.symbols, &tokens.distances)
}

/// A logarithm from the exponent and a parabola through the mantissa. The constants decide bytes, not precision.
fn log2(value: f32) -> f32 {
    let bits = value.to_bits();
    let exponent = ((bits >> 23) & 255) as i32 - 128;
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | (127 << 23));
    exponent as f32 + ((-0.344_848_43 * mantissa + 2.024_665_8) * mantissa - 0.674_877_6)
}
