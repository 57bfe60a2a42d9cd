//! Bits to bytes, lowest first, as RFC 1951, section 3.1.1, packs them.

use crate::huffman::{Code, Word};
use crate::token::{END, FIRST_LENGTH, LENGTH_BASE, LENGTH_CODE, LENGTH_EXTRA, Token, distance_code, distance_extra};

/// Bytes are gathered here before they are appended; the loops below write eight at a time.
const STAGE: usize = 1024;

/// The bits of a byte that is not complete. Bytes go to the `out` of each call.
#[derive(Default)]
pub struct Bits {
    held: u64,
    /// Fewer than eight between calls.
    count: u32,
}

/// The inner state of a loop over many symbols.
struct Run<'a> {
    held: u64,
    count: u32,
    stage: [u8; STAGE + 8],
    used: usize,
    out: &'a mut Vec<u8>,
}

impl Run<'_> {
    /// At most 56 bits between two calls of [`Run::settle`].
    #[inline(always)]
    fn put(&mut self, bits: u32, len: u32) {
        self.held |= u64::from(bits) << self.count;
        self.count += len;
    }

    #[inline(always)]
    fn word(&mut self, word: Word) {
        self.put(word.bits.into(), word.len.into());
    }

    /// Moves whole bytes out. Always eight are written and the count says how many are meant: no branch to mispredict.
    #[inline(always)]
    fn settle(&mut self) {
        if self.used >= STAGE {
            self.out.extend_from_slice(&self.stage[..self.used]);
            self.used = 0;
        }
        self.stage[self.used..self.used + 8].copy_from_slice(&self.held.to_le_bytes());
        self.used += (self.count / 8) as usize;
        self.held >>= self.count & 56;
        self.count &= 7;
    }
}

impl Bits {
    /// Up to 32 bits.
    pub fn put(&mut self, bits: u32, len: u32, out: &mut Vec<u8>) {
        self.held |= u64::from(bits) << self.count;
        self.count += len;
        while self.count >= 8 {
            out.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    pub fn word(&mut self, word: Word, out: &mut Vec<u8>) {
        self.put(word.bits.into(), word.len.into(), out);
    }

    /// Zeros to the next byte.
    pub fn align(&mut self, out: &mut Vec<u8>) {
        if self.count > 0 {
            self.put(0, 8 - self.count, out);
        }
    }

    fn run<'a>(&self, out: &'a mut Vec<u8>) -> Run<'a> {
        Run { held: self.held, count: self.count, stage: [0; STAGE + 8], used: 0, out }
    }

    fn resume(&mut self, run: Run) {
        run.out.extend_from_slice(&run.stage[..run.used]);
        (self.held, self.count) = (run.held, run.count);
    }

    /// Sends tokens, and the end of the block if asked to.
    pub fn tokens(&mut self, tokens: &[Token], end: bool, symbols: &Code, distances: &Code, out: &mut Vec<u8>) {
        // A length with the bits that follow it is one word.
        let lengths: [(u32, u8); 256] = std::array::from_fn(|length| {
            let code = usize::from(LENGTH_CODE[length]);
            let word = symbols.words[FIRST_LENGTH + code];
            let extra = length as u32 - u32::from(LENGTH_BASE[code]);
            (u32::from(word.bits) | extra << word.len, word.len + LENGTH_EXTRA[code])
        });
        let mut run = self.run(out);
        for &token in tokens {
            match token.literal() {
                Some(byte) => run.word(symbols.words[usize::from(byte)]),
                None => {
                    let (bits, len) = lengths[usize::from(token.length())];
                    run.put(bits, len.into());
                    let code = distance_code(token.distance()) & 31;
                    let extra = distance_extra(code);
                    run.word(distances.words[code]);
                    run.put(token.distance() & ((1 << extra) - 1), extra);
                }
            }
            run.settle();
        }
        self.resume(run);
        if end {
            self.word(symbols.words[END], out);
        }
    }

    /// Sends each byte as a literal.
    pub fn literals(&mut self, bytes: &[u8], symbols: &Code, out: &mut Vec<u8>) {
        let mut run = self.run(out);
        let mut threes = bytes.chunks_exact(3);
        for three in &mut threes {
            for &byte in three {
                run.word(symbols.words[usize::from(byte)]);
            }
            run.settle();
        }
        for &byte in threes.remainder() {
            run.word(symbols.words[usize::from(byte)]);
            run.settle();
        }
        self.resume(run);
    }
}
