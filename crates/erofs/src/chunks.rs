//! Where the bytes of a file lie in the tar: chunks of one power of two per file, each whole data or whole hole.
//!
//! A file without holes is one chunk, as chunks may be as large as 2³¹ blocks. A sparse one has the largest
//! chunks whose borders meet all borders of its data, which must be on blocks; the last data may end with
//! the file.

use crate::format::{BLOCK, BLOCK_BITS, MAX_CHUNK_BITS, NULL_BLOCK};

/// Most chunks of one file: 8 MiB of index.
const CHUNKS_MAX: u64 = 1 << 20;

/// A stretch of data: where in the file, how long, and at which block of the tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region {
    start: u64,
    len: u64,
    block: u32,
}

/// The data of a file with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sparse {
    regions: Box<[Region]>,
    bits: u32,
}

/// First block in the tar of `len` bytes at `offset`; `None` off the blocks, or past the last block number.
pub(crate) fn block(offset: u64, len: u64) -> Option<u32> {
    let end = offset.checked_add(len)?.div_ceil(BLOCK);
    (offset.is_multiple_of(BLOCK) && end <= u64::from(NULL_BLOCK)).then_some((offset / BLOCK) as u32)
}

/// Smallest chunk, as a shift over the block size, that holds a whole file, if there is one.
pub(crate) fn whole_bits(size: u64) -> u32 {
    let mut bits = 0;
    while bits < MAX_CHUNK_BITS && (BLOCK << bits) < size {
        bits += 1;
    }
    bits
}

/// Chunks of a file.
pub(crate) fn count(size: u64, bits: u32) -> u64 {
    size.div_ceil(BLOCK << bits)
}

/// Whether the file has few enough chunks to be listed.
pub(crate) fn countable(size: u64, bits: u32) -> bool {
    count(size, bits) <= CHUNKS_MAX
}

impl Sparse {
    /// The regions (offset, length) of a file of `size` bytes whose stored data begins at `offset` of the tar.
    pub(crate) fn new(size: u64, regions: &[(u64, u64)], offset: u64) -> Result<Self, &'static str> {
        let mut out: Vec<Region> = Vec::new();
        let (mut at, mut bits) = (offset, whole_bits(size));
        for &(start, len) in regions.iter().filter(|(_, len)| *len > 0) {
            let end = start.saturating_add(len);
            if !start.is_multiple_of(BLOCK) || (end != size && !end.is_multiple_of(BLOCK)) {
                return Err("a sparse file whose holes do not begin and end on blocks");
            }
            let place = block(at, len).ok_or(TOO_FAR)?;
            at += len;
            // Data that goes on where the last stretch ended is one stretch with it, stored and shown.
            match out.last_mut() {
                Some(last) if last.start + last.len == start => last.len += len,
                _ => out.push(Region { start, len, block: place }),
            }
        }
        for region in &out {
            for border in [region.start, region.start + region.len] {
                if border != 0 && border != size {
                    bits = bits.min(border.trailing_zeros() - BLOCK_BITS);
                }
            }
        }
        if !countable(size, bits) {
            return Err("a sparse file of too many pieces");
        }
        Ok(Self { regions: out.into(), bits })
    }

    pub(crate) fn bits(&self) -> u32 {
        self.bits
    }

    /// Bytes of memory in use.
    pub(crate) fn memory(&self) -> u64 {
        (size_of::<Self>() + size_of_val(&*self.regions)) as u64
    }

    /// First block in the tar of every chunk of a file of `size` bytes, `None` for a hole.
    pub(crate) fn blocks(&self, size: u64) -> impl Iterator<Item = Option<u32>> {
        let chunk = BLOCK << self.bits;
        let mut regions = self.regions.iter().peekable();
        (0..count(size, self.bits)).map(move |index| {
            let at = index * chunk;
            while regions.next_if(|region| region.start + region.len <= at).is_some() {}
            let region = regions.peek().filter(|region| region.start <= at)?;
            Some(region.block + ((at - region.start) / BLOCK) as u32)
        })
    }
}

/// Reason for data past the last block number.
pub(crate) const TOO_FAR: &str = "data beyond 2 TiB of the archive, or not on a block of it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_files_are_one_chunk() {
        assert_eq!([1, 512, 513, 1024, 1 << 40].map(whole_bits), [0, 0, 1, 1, 31]);
        assert_eq!([1, 512, 513, 1 << 40].map(|size| count(size, whole_bits(size))), [1; 4]);
        assert_eq!(count((1 << 40) + 1, whole_bits((1 << 40) + 1)), 2);
        let last = u64::from(u32::MAX) * 512;
        assert_eq!(
            [(1024, 1), (1, 1), (last - 512, 512), (last, 1), (512, u64::MAX)].map(|(at, len)| block(at, len)),
            [Some(2), None, Some(u32::MAX - 1), None, None]
        );
    }

    #[test]
    fn holes() {
        let sparse = Sparse::new(10_000, &[(4096, 1024), (8192, 1808)], 5120).unwrap();
        assert_eq!(sparse.bits(), 1);
        let blocks: Vec<_> = sparse.blocks(10_000).collect();
        let none = None;
        assert_eq!(blocks, [none, none, none, none, Some(10), none, none, none, Some(12), Some(14)]);
        // Neighbours are one, with larger chunks.
        let sparse = Sparse::new(1 << 20, &[(0, 512), (512, 512), (1024, 1024), (3 << 18, 1 << 18)], 0).unwrap();
        assert_eq!((sparse.bits(), sparse.regions.len()), (2, 2));
        let hole = Sparse::new(1 << 40, &[], 512).unwrap();
        assert_eq!(hole.blocks(1 << 40).collect::<Vec<_>>(), [None]);
        assert!(Sparse::new(1000, &[(0, 100)], 0).is_err());
        assert!(Sparse::new(1000, &[(100, 900)], 0).is_err());
        assert!(Sparse::new(1 << 40, &[(512, 512)], 0).is_err(), "a map of 16 GiB");
    }
}
