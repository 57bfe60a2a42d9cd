//! The description of a block's codes (RFC 1951, section 3.2.7): the lengths of all words in runs, sent with a code of
//! their own.

use crate::bits::Bits;
use crate::huffman::{Code, HEADER_LIMIT};

/// Symbols: lengths 0 to 15, and three kinds of runs.
const SYMBOLS: usize = 19;
const REPEAT: u8 = 16;
const FEW_ZEROS: u8 = 17;
const MANY_ZEROS: u8 = 18;

/// The order in which the lengths of this code are sent, so that the end can be left out.
const ORDER: [usize; SYMBOLS] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Two bytes at most for each length that is described.
const STEPS: usize = 288 + 32;

/// A description, ready to be sent.
pub struct Header {
    symbols: usize,
    distances: usize,
    /// A symbol and the value of the bits that follow it.
    steps: [(u8, u8); STEPS],
    used: usize,
    code: Code,
    /// How many lengths of `code` are sent.
    sent: usize,
    cost: usize,
}

impl Header {
    /// Describes the first words of two codes.
    pub fn new(symbols: (&Code, usize), distances: (&Code, usize)) -> Self {
        let mut header = Self {
            symbols: symbols.1,
            distances: distances.1,
            steps: [(0, 0); STEPS],
            used: 0,
            code: Code::empty(),
            sent: SYMBOLS,
            cost: 0,
        };
        let mut counts = [0; SYMBOLS];
        let mut lengths = [0u8; STEPS];
        let words = symbols.0.words[..symbols.1].iter().chain(&distances.0.words[..distances.1]);
        for (length, word) in lengths.iter_mut().zip(words) {
            *length = word.len;
        }
        // A run may go on from the first code into the second.
        for run in lengths[..symbols.1 + distances.1].chunk_by(|a, b| a == b) {
            header.describe(run[0], run.len(), &mut counts);
        }
        header.code.assign(&counts, HEADER_LIMIT);
        while header.sent > 4 && counts[ORDER[header.sent - 1]] == 0 {
            header.sent -= 1;
        }
        header.cost = 3 + 5 + 5 + 4 + 3 * header.sent + header.code.cost(&counts);
        for symbol in [REPEAT, FEW_ZEROS, MANY_ZEROS] {
            header.cost += counts[usize::from(symbol)] as usize * follow(symbol) as usize;
        }
        header
    }

    /// The run in the fewest steps from left to right, which is not always the fewest bits.
    fn describe(&mut self, length: u8, mut count: usize, counts: &mut [u32; SYMBOLS]) {
        let mut step = |symbol: u8, value: usize| {
            self.steps[self.used] = (symbol, value as u8);
            self.used += 1;
            counts[usize::from(symbol)] += 1;
        };
        if length == 0 {
            while count >= 11 {
                let part = count.min(138);
                step(MANY_ZEROS, part - 11);
                count -= part;
            }
            if count >= 3 {
                step(FEW_ZEROS, count - 3);
                count = 0;
            }
        } else {
            step(length, 0);
            count -= 1;
            while count >= 3 {
                let part = count.min(6);
                step(REPEAT, part - 3);
                count -= part;
            }
        }
        for _ in 0..count {
            step(length, 0);
        }
    }

    /// Bits that it takes, with the three that begin the block.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Begins a block; Go never ends a stream with one of this form.
    pub fn send(&self, bits: &mut Bits, out: &mut Vec<u8>) {
        bits.put(0b100, 3, out);
        bits.put((self.symbols - 257) as u32, 5, out);
        bits.put((self.distances - 1) as u32, 5, out);
        bits.put((self.sent - 4) as u32, 4, out);
        for symbol in &ORDER[..self.sent] {
            bits.put(self.code.words[*symbol].len.into(), 3, out);
        }
        for &(symbol, value) in &self.steps[..self.used] {
            bits.word(self.code.words[usize::from(symbol)], out);
            bits.put(value.into(), follow(symbol), out);
        }
    }
}

/// Bits that follow a symbol.
fn follow(symbol: u8) -> u32 {
    match symbol {
        REPEAT => 2,
        FEW_ZEROS => 3,
        MANY_ZEROS => 7,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_greedily() {
        let steps = |length, count| {
            let code = Code::empty();
            let mut header = Header::new((&code, 0), (&code, 0));
            header.describe(length, count, &mut [0; SYMBOLS]);
            header.steps[..header.used].to_vec()
        };
        assert_eq!(steps(0, 2), [(0, 0), (0, 0)]);
        assert_eq!(steps(0, 10), [(17, 7)]);
        assert_eq!(steps(0, 140), [(18, 127), (0, 0), (0, 0)]);
        assert_eq!(steps(5, 3), [(5, 0), (5, 0), (5, 0)]);
        assert_eq!(steps(5, 12), [(5, 0), (16, 3), (16, 2)]);
    }
}
