//! Prefix codes of limited length, the same as Go's package makes them.
//!
//! The lengths come from the package-merge method (Larmore and Hirschberg, 1990), which finds a cheapest code with a
//! limit. There may be several cheapest ones: where a pair and a single symbol weigh the same, the pair comes first, and
//! symbols of equal weight are ordered by number. Given lengths, RFC 1951, section 3.2.2, leaves no choice.

/// The longest code of literals, lengths and distances, in bits.
pub const LIMIT: usize = 15;
/// The longest code of the description of other codes.
pub const HEADER_LIMIT: usize = 7;

/// The most symbols that an alphabet has, with padding.
const ALPHABET: usize = 288;
/// Items of a list of the package-merge method.
const ITEMS: usize = 2 * ALPHABET;

/// A code word: the bits in the order in which they are sent, and how many of them.
#[derive(Clone, Copy, Default)]
pub struct Word {
    pub bits: u16,
    /// Zero: the symbol cannot be sent.
    pub len: u8,
}

/// A code for up to 288 symbols.
#[derive(Clone)]
pub struct Code {
    pub words: [Word; ALPHABET],
}

impl Code {
    pub const fn empty() -> Self {
        Self { words: [Word { bits: 0, len: 0 }; ALPHABET] }
    }

    /// The fixed code of literals and lengths (RFC 1951, section 3.2.6).
    pub fn fixed_symbols() -> Self {
        let mut code = Self::empty();
        for (symbol, word) in code.words.iter_mut().enumerate() {
            word.len = match symbol {
                0..144 => 8,
                144..256 => 9,
                256..280 => 7,
                _ => 8,
            };
        }
        code.number(ALPHABET);
        code
    }

    /// The fixed code of distances.
    pub fn fixed_distances() -> Self {
        let mut code = Self::empty();
        for word in &mut code.words[..32] {
            word.len = 5;
        }
        code.number(32);
        code
    }

    /// Replaces the words of the symbols that were counted, in proportion to how often they occur.
    pub fn assign(&mut self, counts: &[u32], limit: usize) {
        let mut sorted = [0u32; ALPHABET];
        let mut used = 0;
        for (symbol, (&count, word)) in counts.iter().zip(&mut self.words).enumerate() {
            *word = Word::default();
            if count != 0 {
                // A block has at most 65536 tokens, so both fit.
                sorted[used] = count << 9 | symbol as u32;
                used += 1;
            }
        }
        let sorted = &mut sorted[..used];
        if used <= 2 {
            for key in sorted {
                self.words[(*key & 511) as usize].len = 1;
            }
        } else {
            sorted.sort_unstable();
            let at_least = depths(sorted, limit);
            // The rarest come first and get the longest words.
            for (bits, pair) in at_least.windows(2).enumerate() {
                for key in &sorted[usize::from(pair[1])..usize::from(pair[0])] {
                    self.words[(*key & 511) as usize].len = bits as u8 + 1;
                }
            }
        }
        self.number(counts.len());
    }

    /// Gives words to the first `symbols` symbols by their lengths.
    fn number(&mut self, symbols: usize) {
        let mut of_length = [0u16; LIMIT + 1];
        for word in &self.words[..symbols] {
            of_length[usize::from(word.len)] += 1;
        }
        of_length[0] = 0;
        let mut next = [0u16; LIMIT + 1];
        for len in 1..=LIMIT {
            next[len] = (next[len - 1] + of_length[len - 1]) << 1;
        }
        for word in &mut self.words[..symbols] {
            if word.len > 0 {
                let number = &mut next[usize::from(word.len)];
                word.bits = number.reverse_bits() >> (16 - word.len);
                *number += 1;
            }
        }
    }

    /// Bits that the counted symbols take; those without a word take none.
    pub fn cost(&self, counts: &[u32]) -> usize {
        counts.iter().zip(&self.words).map(|(&count, word)| count as usize * usize::from(word.len)).sum()
    }

    /// Whether each counted symbol has a word.
    pub fn covers(&self, counts: &[u32]) -> bool {
        counts.iter().zip(&self.words).all(|(&count, word)| count == 0 || word.len > 0)
    }
}

/// How many of at least three symbols, sorted by weight, have words of more than 0, 1, 2 … bits.
fn depths(sorted: &[u32], limit: usize) -> [u16; LIMIT + 1] {
    let symbols = sorted.len();
    let limit = limit.min(symbols - 1);
    let wanted = 2 * symbols - 2;
    // For each list, how many single symbols are among its items up to this one.
    let mut singles = [[0u16; ITEMS]; LIMIT];
    let mut below = [0u32; ITEMS];
    let mut pairs = 0;
    for list in &mut singles[..limit] {
        let mut items = [0u32; ITEMS];
        let (mut single, mut pair, mut len) = (0, 0, 0);
        while len < wanted && (single < symbols || pair < pairs) {
            let of_single = if single < symbols { sorted[single] >> 9 } else { u32::MAX };
            let of_pair = if pair < pairs { below[2 * pair] + below[2 * pair + 1] } else { u32::MAX };
            let takes_single = of_single < of_pair;
            items[len] = if takes_single { of_single } else { of_pair };
            single += usize::from(takes_single);
            pair += usize::from(!takes_single);
            list[len] = single as u16;
            len += 1;
        }
        below = items;
        pairs = len / 2;
    }
    // The first items of the last list are the answer; each pair among them stands for two of the list before.
    let mut at_least = [0; LIMIT + 1];
    let mut items = wanted;
    for (bits, list) in singles[..limit].iter().rev().enumerate() {
        if items == 0 {
            break;
        }
        at_least[bits] = list[items - 1];
        items = 2 * (items - usize::from(list[items - 1]));
    }
    at_least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(counts: &[u32], limit: usize) -> Vec<u8> {
        let mut code = Code::empty();
        code.assign(counts, limit);
        code.words[..counts.len()].iter().map(|word| word.len).collect()
    }

    #[test]
    fn codes_are_complete_and_keep_the_limit() {
        let mut fibonacci = vec![1u32, 1];
        while fibonacci.len() < 20 {
            fibonacci.push(fibonacci[fibonacci.len() - 1] + fibonacci[fibonacci.len() - 2]);
        }
        for limit in [7, 15] {
            let lengths = lengths(&fibonacci, limit);
            assert!(lengths.iter().all(|&len| (1..=limit).contains(&usize::from(len))));
            assert_eq!(lengths.iter().map(|&len| 1u32 << (limit - usize::from(len))).sum::<u32>(), 1 << limit);
        }
    }

    #[test]
    fn few_symbols_take_one_bit() {
        assert_eq!(lengths(&[0, 7, 0], 15), [0, 1, 0]);
        assert_eq!(lengths(&[0, 7, 1], 15), [0, 1, 1]);
        assert_eq!(lengths(&[4, 7, 1], 15), [2, 1, 2]);
    }

    #[test]
    fn fixed_codes_are_those_of_the_standard() {
        let code = Code::fixed_symbols();
        let sent = |symbol: usize| code.words[symbol].bits.reverse_bits() >> (16 - code.words[symbol].len);
        assert_eq!(
            [sent(0), sent(143), sent(144), sent(255)],
            [0b0011_0000, 0b1011_1111, 0b1_1001_0000, 0b1_1111_1111]
        );
        assert_eq!([sent(256), sent(279), sent(280), sent(287)], [0, 0b001_0111, 0b1100_0000, 0b1100_0111]);
        assert_eq!(Code::fixed_distances().words[1].bits, 0b10000);
    }
}
