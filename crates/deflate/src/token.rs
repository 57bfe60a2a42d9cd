//! What a block says before it has codes: literals and matches, and how often each symbol occurs in them.
//!
//! The counts are kept while tokens are added, since every decision about a block is made from counts alone. Symbols
//! are those of RFC 1951, section 3.2.5: 0 to 255 literals, 256 the end of the block, 257 to 285 lengths, and an
//! alphabet of 30 distances beside them.

/// Symbols of the first alphabet that can occur.
pub const SYMBOLS: usize = 286;
/// Symbols of the second alphabet, the distances.
pub const DISTANCES: usize = 30;
/// The symbol that ends a block.
pub const END: usize = 256;
/// The symbol of the shortest length.
pub const FIRST_LENGTH: usize = 257;
pub const MIN_LENGTH: usize = 3;
pub const MAX_LENGTH: usize = 258;

/// Bits that follow the symbol of a length.
pub const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];

/// The shortest length of each symbol, less [`MIN_LENGTH`].
pub const LENGTH_BASE: [u8; 29] = {
    let mut base = [0; 29];
    let mut code = 1;
    while code < 28 {
        base[code] = base[code - 1] + (1 << LENGTH_EXTRA[code - 1]);
        code += 1;
    }
    base[28] = (MAX_LENGTH - MIN_LENGTH) as u8;
    base
};

/// The index in the two tables above of a length less [`MIN_LENGTH`].
pub const LENGTH_CODE: [u8; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    let mut length = 0;
    while length < 256 {
        if code < 28 && length == LENGTH_BASE[code + 1] as usize {
            code += 1;
        }
        table[length] = code as u8;
        length += 1;
    }
    table
};

/// Bits that follow the symbol of a distance.
pub const fn distance_extra(code: usize) -> u32 {
    (code as u32 / 2).saturating_sub(1)
}

/// The symbol of a distance less 1.
#[inline]
pub fn distance_code(distance: u32) -> usize {
    if distance < 2 {
        return distance as usize;
    }
    let top = 31 - distance.leading_zeros();
    (2 * top + (distance >> (top - 1) & 1)) as usize
}

/// A literal is its byte. A match has the top bit set, its length less 3 in bits 16 to 23 and its distance less 1 below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token(u32);

impl Token {
    const MATCH: u32 = 1 << 31;

    /// The byte of a literal.
    #[inline]
    pub fn literal(self) -> Option<u8> {
        (self.0 & Self::MATCH == 0).then_some(self.0 as u8)
    }

    /// Length less 3.
    #[inline]
    pub fn length(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// Distance less 1.
    #[inline]
    pub fn distance(self) -> u32 {
        self.0 & 0xffff
    }
}

/// The tokens of the block that is being collected.
pub struct Tokens {
    list: Vec<Token>,
    /// Occurrences of the first alphabet. The padding to a power of two is never counted.
    pub symbols: [u32; 288],
    /// Occurrences of distances.
    pub distances: [u32; 32],
}

impl Tokens {
    /// A block holds at most so many.
    pub fn new(capacity: usize) -> Self {
        Self { list: Vec::with_capacity(capacity), symbols: [0; 288], distances: [0; 32] }
    }

    pub fn clear(&mut self) {
        self.list.clear();
        self.symbols.fill(0);
        self.distances.fill(0);
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn as_slice(&self) -> &[Token] {
        &self.list
    }

    #[inline]
    pub fn push_literal(&mut self, byte: u8) {
        self.list.push(Token(byte.into()));
        self.symbols[usize::from(byte)] += 1;
    }

    #[inline]
    pub fn push_literals(&mut self, bytes: &[u8]) {
        self.list.extend(bytes.iter().map(|&byte| Token(byte.into())));
        for &byte in bytes {
            self.symbols[usize::from(byte)] += 1;
        }
    }

    /// A match of 3 to 258 bytes at a distance of 1 to 32768.
    #[inline]
    pub fn push_match(&mut self, length: usize, distance: usize) {
        debug_assert!((MIN_LENGTH..=MAX_LENGTH).contains(&length) && (1..=1 << 15).contains(&distance));
        let (length, distance) = ((length - MIN_LENGTH) as u32, (distance - 1) as u32);
        self.symbols[FIRST_LENGTH + usize::from(LENGTH_CODE[(length & 255) as usize])] += 1;
        self.distances[distance_code(distance) & 31] += 1;
        self.list.push(Token(Token::MATCH | length << 16 | distance));
    }

    /// A match of any length from 3, as several where one token cannot say it: whole ones of 258, and before the last
    /// one of 255 when less than a shortest match would remain.
    #[inline]
    pub fn push_long_match(&mut self, mut length: usize, distance: usize) {
        while length > MAX_LENGTH {
            let part = if length > MAX_LENGTH + MIN_LENGTH { MAX_LENGTH } else { MAX_LENGTH - MIN_LENGTH };
            self.push_match(part, distance);
            length -= part;
        }
        self.push_match(length, distance);
    }
}

/// How many bits follow the symbols that were counted.
pub fn extra_bits(symbols: &[u32; 288], distances: &[u32; 32]) -> usize {
    let lengths =
        symbols[FIRST_LENGTH..SYMBOLS].iter().zip(LENGTH_EXTRA).map(|(&n, extra)| n as usize * extra as usize);
    let far = distances[..DISTANCES].iter().enumerate().map(|(code, &n)| n as usize * distance_extra(code) as usize);
    lengths.sum::<usize>() + far.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_the_codes_of_the_standard() {
        assert_eq!(LENGTH_CODE[0], 0);
        assert_eq!(LENGTH_CODE[7..10], [7, 8, 8]);
        assert_eq!(LENGTH_CODE[254..], [27, 28]);
        assert_eq!(LENGTH_BASE[27], 224);
    }

    #[test]
    fn distances_have_the_codes_of_the_standard() {
        let firsts = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049];
        for (code, first) in firsts.into_iter().enumerate() {
            assert_eq!(distance_code(first - 1), code);
            assert!(first == 1 || distance_code(first - 2) == code - 1);
        }
        assert_eq!(distance_code(32767), 29);
        assert_eq!(distance_extra(29), 13);
        assert_eq!(distance_extra(3), 0);
    }

    #[test]
    fn long_matches_leave_no_part_too_short() {
        for length in 3..1600 {
            let mut tokens = Tokens::new(16);
            tokens.push_long_match(length, 1);
            let parts: usize = tokens.as_slice().iter().map(|token| usize::from(token.length()) + 3).sum();
            assert_eq!(parts, length);
        }
    }
}
