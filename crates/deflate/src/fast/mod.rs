//! Levels 1 to 6 of Go 1.27 and later, and level 1 of its predecessors: blocks of 65535 bytes, each parsed greedily with
//! hash tables that remember one or two positions per hash.
//!
//! Facts from `compress/flate/deflate.go`, `deflatefast.go` and `level1.go` to `level6.go` of Go 1.27.3.

mod classic1;
mod level12;
mod level3;
mod level4;
mod level56;

use crate::block::{Classic, Go127, STORED_MAX};
use crate::bytes::{common, load32};
use crate::token::{MAX_LENGTH, Tokens};

/// How far back a match may reach, in bytes.
const REACH: usize = 1 << 15;
/// Searches stop so many bytes before the end of a block, where words of eight bytes can still be loaded.
const MARGIN: usize = 11;
/// A rest of fewer bytes is not searched.
const SEARCHED_FROM: usize = 128;
/// A new description must save one part in 128.
const RESERVE: u32 = 7;

/// What is searched: up to [`REACH`] bytes of the blocks before, and the block.
///
/// Tables hold positions in the stream plus [`Window::base`], so that they stay valid when the window moves on; an empty
/// entry is 0, which is out of reach.
pub struct Window {
    bytes: Box<[u8]>,
    /// Where the block begins.
    start: usize,
    end: usize,
    /// What makes an index of `bytes` a position.
    base: u32,
    /// From where on positions begin again.
    again: u32,
    /// How much is kept before it moves on; with 0, just what is in reach.
    kept: usize,
}

impl Window {
    /// Positions begin where 0 is farther away than anything a table may name.
    const FIRST: u32 = 1 << 16;
    /// Far from the largest number, also as a signed one.
    const AGAIN: u32 = 1 << 30;

    /// Go moves on when there is no space for a block in a buffer of five. The same is found in what is in reach, which
    /// stays in the processor's cache; for where that is not so, see [`Level4`](level4::Level4).
    fn new(like_go: bool) -> Self {
        let kept = if like_go { 5 * STORED_MAX } else { 0 };
        let bytes = vec![0; kept.max(REACH) + STORED_MAX].into_boxed_slice();
        Self { bytes, start: 0, end: 0, base: Self::FIRST, again: Self::AGAIN, kept }
    }

    /// Takes what fits into the block and gives how much that is.
    fn fill(&mut self, input: &[u8]) -> usize {
        let len = input.len().min(STORED_MAX - self.block().len());
        self.bytes[self.end..self.end + len].copy_from_slice(&input[..len]);
        self.end += len;
        len
    }

    fn block(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Everything there is.
    fn seen(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// Begins the next block.
    fn advance(&mut self) {
        self.start = self.end;
        if self.kept == 0 {
            self.forget();
        }
    }

    /// Moves the block to where it is to be searched.
    fn settle(&mut self) {
        if self.kept > 0 && self.end > self.kept {
            self.forget();
        }
    }

    /// Forgets what is out of the block's reach.
    fn forget(&mut self) {
        let gone = self.start.saturating_sub(REACH);
        self.bytes.copy_within(gone..self.end, 0);
        self.base += gone as u32;
        self.start -= gone;
        self.end -= gone;
    }

    /// What tables have to subtract before this block, if positions have become large.
    fn rebase(&mut self) -> Option<Rebase> {
        (self.base >= self.again).then(|| {
            let by = self.base - Self::FIRST;
            self.base = Self::FIRST;
            Rebase(by)
        })
    }
}

/// By how much positions become smaller.
#[derive(Clone, Copy)]
pub struct Rebase(u32);

impl Rebase {
    /// What is out of the window is out of reach too, and is forgotten.
    fn apply(self, entry: &mut u32) {
        let moved = entry.saturating_sub(self.0);
        *entry = if moved >= Window::FIRST { moved } else { 0 };
    }
}

/// The search of a level.
pub trait Search {
    /// Whether the window has to be cut as Go's.
    fn like_go(&self) -> bool {
        false
    }

    /// Adds the tokens of the window's block; none at all if there is no match in it.
    fn search(&mut self, window: &Window, tokens: &mut Tokens);

    fn rebase(&mut self, change: Rebase);
}

/// How blocks are written.
enum Blocks {
    Go127(Box<Go127>),
    Classic(Box<Classic>),
}

impl Blocks {
    /// A rest of so few bytes is not even counted.
    fn stored_to(&self) -> usize {
        match self {
            Self::Go127(_) => 32,
            Self::Classic(_) => 16,
        }
    }

    fn stored(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Go127(blocks) => blocks.stored(bytes, out),
            Self::Classic(blocks) => blocks.stored(bytes, out),
        }
    }

    fn literals(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) {
        match self {
            Self::Go127(blocks) => blocks.literals(bytes, last, out),
            Self::Classic(blocks) => blocks.literals(bytes, out),
        }
    }

    fn tokens(&mut self, tokens: &mut Tokens, bytes: &[u8], last: bool, out: &mut Vec<u8>) {
        match self {
            Self::Go127(blocks) => blocks.tokens(tokens, Some(bytes), last, out),
            Self::Classic(blocks) => blocks.tokens(tokens, bytes, out),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Go127(blocks) => blocks.finish(out),
            Self::Classic(blocks) => blocks.finish(out),
        }
    }
}

/// An encoder of one of the levels.
pub struct Fast {
    window: Window,
    tokens: Tokens,
    search: Box<dyn Search + Send>,
    blocks: Blocks,
}

impl Fast {
    /// Levels 1 to 6 of Go 1.27.
    pub fn go127(level: u8) -> Option<Self> {
        let blocks = Blocks::Go127(Box::new(Go127::new(RESERVE)));
        Some(match level {
            1 => Self::new(level12::Level1::new(), blocks),
            2 => Self::new(level12::Level2::new(), blocks),
            3 => Self::new(level3::Level3::new(), blocks),
            4 => Self::new(level4::Level4::new(), blocks),
            5 => Self::new(level56::Level56::<false>::new(), blocks),
            6 => Self::new(level56::Level56::<true>::new(), blocks),
            _ => return None,
        })
    }

    /// Level 1 before.
    pub fn classic() -> Self {
        Self::new(classic1::Classic1::new(), Blocks::Classic(Box::new(Classic::new())))
    }

    fn new<S: Search + Send + 'static>(search: S, blocks: Blocks) -> Self {
        let tokens = Tokens::new(STORED_MAX);
        Self { window: Window::new(search.like_go()), tokens, search: Box::new(search), blocks }
    }

    pub fn write(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            // A full block waits for what follows it, since the last one is written differently.
            if self.window.block().len() == STORED_MAX {
                self.block(false, out);
            }
            input = &input[self.window.fill(input)..];
        }
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.block(true, out);
        self.blocks.finish(out);
    }

    fn block(&mut self, last: bool, out: &mut Vec<u8>) {
        let bytes = self.window.block();
        match bytes.len() {
            0 => return,
            len if len <= self.blocks.stored_to() => return self.blocks.stored(bytes, out),
            len if len < SEARCHED_FROM => return self.blocks.literals(bytes, true, out),
            _ => self.window.settle(),
        }
        if let Some(change) = self.window.rebase() {
            self.search.rebase(change);
        }
        self.search.search(&self.window, &mut self.tokens);
        let bytes = self.window.block();
        if self.tokens.is_empty() {
            self.blocks.stored(bytes, out);
        } else if self.tokens.len() > bytes.len() - (bytes.len() >> 4) {
            self.blocks.literals(bytes, last, out);
        } else {
            self.blocks.tokens(&mut self.tokens, bytes, last, out);
        }
        self.tokens.clear();
        self.window.advance();
    }
}

/// A table that remembers the last position of each hash.
pub struct Latest<const SIZE: usize>(Box<[u32; SIZE]>);

impl<const SIZE: usize> Latest<SIZE> {
    fn new() -> Self {
        Self(boxed())
    }

    #[inline(always)]
    fn at(&mut self, hash: usize) -> &mut u32 {
        &mut self.0[hash]
    }

    fn rebase(&mut self, change: Rebase) {
        self.0.iter_mut().for_each(|entry| change.apply(entry));
    }
}

/// A table that remembers the last two.
pub struct LatestTwo<const SIZE: usize>(Box<[[u32; 2]; SIZE]>);

impl<const SIZE: usize> LatestTwo<SIZE> {
    fn new() -> Self {
        Self(boxed())
    }

    /// The last position and the one before it.
    #[inline(always)]
    fn at(&self, hash: usize) -> [u32; 2] {
        self.0[hash]
    }

    #[inline(always)]
    fn push(&mut self, hash: usize, position: u32) {
        let entry = &mut self.0[hash];
        *entry = [position, entry[0]];
    }

    fn rebase(&mut self, change: Rebase) {
        self.0.iter_mut().flatten().for_each(|entry| change.apply(entry));
    }
}

fn boxed<T: Copy + Default, const SIZE: usize>() -> Box<[T; SIZE]>
where
    [T; SIZE]: Sized,
{
    // Through a vector: an array of this size does not belong on the stack.
    vec![T::default(); SIZE]
        .into_boxed_slice()
        .try_into()
        .unwrap_or_else(|_| unreachable!("the vector has this length"))
}

/// The hash of the first four bytes of a word.
#[inline(always)]
fn hash4<const BITS: u32>(word: u64) -> usize {
    ((word as u32).wrapping_mul(2_654_435_761) >> (32 - BITS)) as usize
}

/// The hash of the first five.
#[inline(always)]
fn hash5<const BITS: u32>(word: u64) -> usize {
    ((word << 24).wrapping_mul(889_523_592_379) >> (64 - BITS)) as usize
}

/// The hash of the first seven.
#[inline(always)]
fn hash7<const BITS: u32>(word: u64) -> usize {
    ((word << 8).wrapping_mul(58_295_818_150_454_627) >> (64 - BITS)) as usize
}

/// A match: `length` bytes at `at` equal those at `from`.
#[derive(Clone, Copy)]
struct Match {
    at: usize,
    from: usize,
    length: usize,
}

/// The bytes that the searches walk over.
#[derive(Clone, Copy)]
struct Scan<'a> {
    bytes: &'a [u8],
    base: u32,
    /// Matches begin before.
    limit: usize,
}

impl<'a> Scan<'a> {
    fn new(window: &'a Window) -> Self {
        let bytes = window.seen();
        Self { bytes, base: window.base, limit: bytes.len() - MARGIN }
    }

    #[inline(always)]
    fn position(&self, at: usize) -> u32 {
        self.base + at as u32
    }

    /// How far before `at` a table's entry lies.
    #[inline(always)]
    fn distance(&self, at: usize, entry: u32) -> usize {
        self.position(at).wrapping_sub(entry) as usize
    }

    /// The same where the entry may lie behind it.
    #[inline(always)]
    fn ahead(&self, at: usize, entry: u32) -> i32 {
        self.position(at).wrapping_sub(entry) as i32
    }

    /// The index of an entry less than `reach` before `at` whose first four bytes are those of `word`.
    #[inline(always)]
    fn candidate(&self, at: usize, entry: u32, word: u64, reach: usize) -> Option<usize> {
        let distance = self.distance(at, entry);
        if distance >= reach {
            return None;
        }
        let from = at - distance;
        (load32(self.bytes, from) == word as u32).then_some(from)
    }

    /// The length of a match of which four bytes are known, to the end of the block.
    #[inline(always)]
    fn length(&self, at: usize, from: usize) -> usize {
        4 + common(self.bytes, at + 4, from + 4, self.bytes.len())
    }

    /// The same up to the longest that one token says.
    #[inline(always)]
    fn short_length(&self, at: usize, from: usize) -> usize {
        4 + common(self.bytes, at + 4, from + 4, self.bytes.len().min(at + MAX_LENGTH))
    }

    /// Lets a match begin earlier, down to what has been said already.
    #[inline(always)]
    fn extend_back(&self, found: &mut Match, said: usize) {
        while found.from > 0 && found.at > said && self.bytes[found.from - 1] == self.bytes[found.at - 1] {
            found.at -= 1;
            found.from -= 1;
            found.length += 1;
        }
    }

    /// Literals from `said` to the match, and the match.
    #[inline(always)]
    fn say(&self, found: &Match, said: usize, tokens: &mut Tokens) {
        tokens.push_literals(&self.bytes[said..found.at]);
        tokens.push_long_match(found.length, found.at - found.from);
    }

    /// What follows the last match, unless there was none.
    fn say_rest(&self, said: usize, tokens: &mut Tokens) {
        if !tokens.is_empty() {
            tokens.push_literals(&self.bytes[said..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text that repeats near and far.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut bytes = Vec::new();
        while bytes.len() < len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let back = (state >> 8) as usize % 40_000 + 1;
            if state >> 30 == 0 || back > bytes.len() {
                bytes.extend_from_slice(&state.to_le_bytes());
            } else {
                let from = bytes.len() - back;
                bytes.extend_from_within(from..(from + 5 + (state & 31) as usize).min(from + back));
            }
        }
        bytes
    }

    #[test]
    fn positions_that_begin_again_change_nothing() {
        let input = sample(2_000_000);
        for level in 1..=6 {
            let encode = |again| {
                let mut fast = Fast::go127(level).unwrap();
                fast.window.again = again;
                let mut out = Vec::new();
                fast.write(&input, &mut out);
                fast.finish(&mut out);
                out
            };
            let usual = encode(Window::AGAIN);
            assert!(usual.len() < input.len() / 2);
            for again in [Window::FIRST + 1, Window::FIRST + 200_000, Window::FIRST + 300_001] {
                assert!(usual == encode(again), "level {level}, positions begin again at {again}");
            }
        }
    }
}
