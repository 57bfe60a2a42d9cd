//! What is compressed: sizes about the limits of blocks and windows, and mixtures of what tars hold.

use proptest::prelude::*;

/// Numbers that are the same in each run.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound.max(1)
    }
}

/// Appends bytes of a kind.
pub fn append(out: &mut Vec<u8>, kind: u8, len: usize, seed: u64) {
    let mut numbers = Numbers::new(seed);
    let end = out.len() + len;
    while out.len() < end {
        match kind {
            // Nothing to gain.
            0 => out.push(numbers.next() as u8),
            // One byte.
            1 => out.push(seed as u8),
            // Words of a small dictionary.
            2 => {
                let word = numbers.below(300);
                let mut letters = Numbers::new(word as u64 + 7);
                for _ in 0..2 + word % 9 {
                    out.push(b'a' + letters.below(26) as u8);
                }
                out.push(if numbers.below(12) == 0 { b'\n' } else { b' ' });
            }
            // Few different bytes and no words.
            3 => out.push(b"acgt"[numbers.below(4)]),
            // Copies from near and far, changed a little.
            4 => {
                let far = [70, 4200, 33_000, 40_000][numbers.below(4)];
                let back = 1 + numbers.below(far);
                if back > out.len() {
                    out.push(numbers.next() as u8);
                    continue;
                }
                let long = [12, 300][numbers.below(2)];
                for _ in 0..3 + numbers.below(long) {
                    out.push(out[out.len() - back]);
                }
                if numbers.below(3) == 0 {
                    out.push(numbers.next() as u8);
                }
            }
            // Records of a binary table.
            5 => {
                out.extend_from_slice(&(out.len() as u32 / 24 + seed as u32).to_le_bytes());
                out.extend_from_slice(&[0, 0, numbers.below(4) as u8, 0]);
                out.extend_from_slice(&(numbers.next() as u16).to_le_bytes());
                out.extend_from_slice(&[0; 6]);
            }
            // Nearly even: the border to what is stored.
            6 => out.push((numbers.next() as u8) & (numbers.next() as u8 | [0x7f, 0xfe, 0xff][numbers.below(3)])),
            // Headers of a tar with their padding.
            _ => {
                let name = format!("usr/share/doc/package-{}/copyright", numbers.below(5000));
                let start = out.len();
                out.extend_from_slice(name.as_bytes());
                out.resize(start + 100, 0);
                out.extend_from_slice(
                    format!("0000644\00000000\00000000\0{:011o}\0", numbers.below(90_000)).as_bytes(),
                );
                out.resize(start + 257, 0);
                out.extend_from_slice(b"ustar\x0000");
                out.resize(start + 512, 0);
                for _ in 0..numbers.below(3) {
                    append(out, 2, 500, numbers.next());
                }
                out.resize(out.len().next_multiple_of(512), 0);
            }
        }
    }
    out.truncate(end);
}

/// Bytes of one kind.
pub fn of_kind(kind: u8, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    append(&mut out, kind, len, 42);
    out
}

pub fn fixed() -> Vec<(&'static str, Vec<u8>)> {
    let kinds = ["noise", "one byte", "words", "letters", "copies", "records", "nearly noise", "tar"];
    let mut inputs = vec![("nothing", Vec::new()), ("one", vec![7])];
    let sizes = [
        2, 3, 12, 13, 16, 17, 32, 33, 127, 128, 129, 1024, 1025, 32_767, 32_768, 32_769, 65_274, 65_534, 65_535,
        65_536, 65_537, 65_663, 98_303, 98_304, 131_069, 131_070, 131_071, 131_072, 196_605, 327_675, 327_676, 393_210,
        600_000,
    ];
    for (kind, name) in kinds.into_iter().enumerate() {
        for size in sizes {
            // Several blocks and windows are worth their time where there is something to find far away.
            if size > 132_000 && !matches!(name, "copies" | "tar") {
                continue;
            }
            inputs.push((name, of_kind(kind as u8, size)));
        }
    }
    // A match at the farthest distances.
    for back in 32_764..=32_770 {
        let mut input = of_kind(0, back);
        for _ in 0..3 {
            input.extend_from_within(input.len() - back..);
        }
        inputs.push(("a far period", input));
    }
    inputs
}

/// Parts that follow each other.
#[derive(Clone, Debug)]
pub struct Recipe {
    parts: Vec<(u8, usize, u64)>,
    /// The size of Go's writes.
    pub piece: usize,
}

impl Recipe {
    pub fn make(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for &(kind, len, seed) in &self.parts {
            append(&mut out, kind, len, seed);
        }
        out
    }
}

pub fn mixed() -> impl Strategy<Value = Recipe> {
    let len = prop_oneof![0..300usize, 0..5_000usize, 0..70_000usize];
    let parts = prop::collection::vec((0..8u8, len, any::<u64>()), 1..8);
    // Writes that divide the window: others may move it early in Go before 1.27, which has a test of its own.
    let piece = prop_oneof![Just(0), Just(512usize), Just(8192), Just(32_768)];
    (parts, piece).prop_map(|(parts, piece)| Recipe { parts, piece })
}
