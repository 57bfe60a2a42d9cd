//! Blocks of Go 1.7 to 1.26: each has codes of its own.
//!
//! Facts from `compress/flate/huffman_bit_writer.go` of Go 1.19.8.

use crate::bits::Bits;
use crate::huffman::{Code, LIMIT};
use crate::token::{DISTANCES, END, SYMBOLS, Tokens, extra_bits};

use super::{FIXED_DISTANCES, FIXED_SYMBOLS, Header, NO_DISTANCES, described, store, stored_cost};

pub struct Classic {
    bits: Bits,
    symbols: Code,
    distances: Code,
}

impl Classic {
    pub fn new() -> Self {
        Self { bits: Bits::default(), symbols: Code::empty(), distances: Code::empty() }
    }

    /// Ends the stream with an empty stored block.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        store(&mut self.bits, &[], true, out);
    }

    pub fn stored(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        store(&mut self.bits, bytes, false, out);
    }

    /// Makes codes for tokens and describes them.
    fn describe(&mut self, tokens: &mut Tokens) -> Header {
        tokens.symbols[END] = 1;
        let symbols = described(&tokens.symbols);
        let mut distances = described(&tokens.distances);
        if distances == 0 {
            tokens.distances[0] = 1;
            distances = 1;
        }
        self.symbols.assign(&tokens.symbols[..SYMBOLS], LIMIT);
        self.distances.assign(&tokens.distances[..DISTANCES], LIMIT);
        Header::new((&self.symbols, symbols), (&self.distances, distances))
    }

    fn own_cost(&self, header: &Header, tokens: &Tokens) -> usize {
        header.cost() + self.symbols.cost(&tokens.symbols) + self.distances.cost(&tokens.distances)
    }

    /// A block of tokens in the cheapest of the three forms: levels 2 to 9.
    pub fn cheapest(&mut self, tokens: &mut Tokens, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
        let header = self.describe(tokens);
        let stored = stored_cost(bytes);
        let extra = if stored.is_some() { extra_bits(&tokens.symbols, &tokens.distances) } else { 0 };
        let fixed = 3 + FIXED_SYMBOLS.cost(&tokens.symbols) + FIXED_DISTANCES.cost(&tokens.distances) + extra;
        let own = self.own_cost(&header, tokens) + extra;
        if let Some(bytes) = bytes.filter(|_| stored.is_some_and(|stored| stored < own.min(fixed))) {
            self.stored(bytes, out);
        } else if own < fixed {
            self.own(&header, tokens, out);
        } else {
            self.bits.put(0b010, 3, out);
            self.bits.tokens(tokens.as_slice(), true, &FIXED_SYMBOLS, &FIXED_DISTANCES, out);
        }
    }

    /// A block of tokens with codes of its own, or the bytes where that saves less than a sixteenth: level 1.
    pub fn tokens(&mut self, tokens: &mut Tokens, bytes: &[u8], out: &mut Vec<u8>) {
        let header = self.describe(tokens);
        if pays(self.own_cost(&header, tokens), bytes) {
            self.own(&header, tokens, out);
        } else {
            self.stored(bytes, out);
        }
    }

    fn own(&mut self, header: &Header, tokens: &Tokens, out: &mut Vec<u8>) {
        header.send(&mut self.bits, out);
        self.bits.tokens(tokens.as_slice(), true, &self.symbols, &self.distances, out);
    }

    /// A block of nothing but literals, or the bytes where that saves less than a sixteenth.
    pub fn literals(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut counts = [0u32; SYMBOLS];
        for &byte in bytes {
            counts[usize::from(byte)] += 1;
        }
        counts[END] = 1;
        self.symbols.assign(&counts, LIMIT);
        let header = Header::new((&self.symbols, END + 1), (&NO_DISTANCES, 1));
        // The distance that is declared and never sent is counted by Go too: whoever compares sizes finds one bit.
        let cost = header.cost() + self.symbols.cost(&counts) + 1;
        if pays(cost, bytes) {
            header.send(&mut self.bits, out);
            self.bits.literals(bytes, &self.symbols, out);
            self.bits.word(self.symbols.words[END], out);
        } else {
            self.stored(bytes, out);
        }
    }
}

/// Whether codes save enough to be worth it.
fn pays(cost: usize, bytes: &[u8]) -> bool {
    stored_cost(Some(bytes)).is_none_or(|stored| stored >= cost + (cost >> 4))
}
