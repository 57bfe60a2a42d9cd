//! The forms of a block (RFC 1951, section 3.2.3) that both dialects share; which form a block gets is theirs.

mod classic;
mod go127;
mod header;

pub use classic::Classic;
pub use go127::Go127;

use std::sync::LazyLock;

use crate::bits::Bits;
use crate::huffman::Code;
use header::Header;

/// The most bytes of a stored block.
pub const STORED_MAX: usize = 65535;

static FIXED_SYMBOLS: LazyLock<Code> = LazyLock::new(Code::fixed_symbols);
static FIXED_DISTANCES: LazyLock<Code> = LazyLock::new(Code::fixed_distances);

/// The code of distances of a block without matches: the format wants one, and the first is declared.
static NO_DISTANCES: LazyLock<Code> = LazyLock::new(|| {
    let mut code = Code::empty();
    code.assign(&[1], 1);
    code
});

/// Bits of a stored block of these bytes, if one can hold them. `None` is a block whose bytes have left the window.
fn stored_cost(bytes: Option<&[u8]>) -> Option<usize> {
    let len = bytes?.len();
    (len <= STORED_MAX).then_some((len + 5) * 8)
}

/// A block of bytes as they are; `last` ends the stream.
fn store(bits: &mut Bits, bytes: &[u8], last: bool, out: &mut Vec<u8>) {
    bits.put(last.into(), 3, out);
    bits.align(out);
    bits.put(bytes.len() as u32 | (!bytes.len() as u32) << 16, 32, out);
    out.extend_from_slice(bytes);
}

/// How many of the counted symbols are described: up to the last that occurs.
fn described(counts: &[u32]) -> usize {
    counts.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1)
}
