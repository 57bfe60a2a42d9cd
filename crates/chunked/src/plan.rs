//! Which bytes of a blob have to be fetched.

use std::ops::Range;

use crate::{File, Toc};

/// Requests that are enough: smaller gaps between them are fetched along until there are no more than so many, as
/// long as that is cheap.
const REQUESTS: usize = 64;
/// A gap that costs less than the head of another request.
const SMALL_GAP: u64 = 1024;
/// Cheap is one part in so many of the blob.
const CHEAP: u64 = 512;

/// What is here of a layer and what is not.
#[derive(Debug)]
pub struct Plan {
    pub(crate) toc: Toc,
    /// For each file, where it is here.
    pub(crate) here: Vec<Option<usize>>,
    ranges: Vec<Range<u64>>,
}

impl Plan {
    /// Looks for each file with `find`, which says where it is: a number of the caller's.
    pub fn new(toc: Toc, find: impl FnMut(&File) -> Option<usize>) -> Self {
        let here: Vec<Option<usize>> = toc.files.iter().map(find).collect();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let missing = toc.files.iter().zip(&here).filter(|(_, here)| here.is_none());
        for piece in missing.flat_map(|(file, _)| &toc.pieces[file.pieces.clone()]) {
            if piece.zeros || piece.range.is_empty() {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if piece.range.start - last.end <= SMALL_GAP => last.end = piece.range.end,
                _ => ranges.push(piece.range.clone()),
            }
        }
        let end = toc.pieces.last().map_or(0, |piece| piece.range.end);
        merge(&mut ranges, REQUESTS, end / CHEAP);
        Self { toc, here, ranges }
    }

    /// The parts of the blob that are to be fetched, in order and apart from each other.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// How many bytes that is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }
}

/// Closes the smallest gaps first, until there are `enough` ranges or `cheap` bytes were added.
fn merge(ranges: &mut Vec<Range<u64>>, enough: usize, cheap: u64) {
    let Some(many) = ranges.len().checked_sub(enough).filter(|many| *many > 0) else { return };
    let mut gaps: Vec<u64> = ranges.windows(2).map(|pair| pair[1].start - pair[0].end).collect();
    gaps.sort_unstable();
    let mut added = 0;
    let closed = gaps.iter().take(many).take_while(|gap| {
        added += **gap;
        added <= cheap
    });
    let Some(largest) = closed.last().copied() else { return };
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges.drain(..) {
        match merged.last_mut() {
            Some(last) if range.start - last.end <= largest => last.end = range.end,
            _ => merged.push(range),
        }
    }
    *ranges = merged;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_gaps_are_closed_first_and_only_while_that_is_cheap() {
        let ranges = || vec![0..10, 12..20, 25..30, 130..140];
        let merged = |enough, cheap| {
            let mut ranges = ranges();
            merge(&mut ranges, enough, cheap);
            ranges
        };
        assert_eq!(merged(4, 1000), ranges());
        assert_eq!(merged(3, 1000), [0..20, 25..30, 130..140]);
        assert_eq!(merged(2, 1000), [0..30, 130..140]);
        assert_eq!(merged(1, 10), [0..30, 130..140]);
        assert_eq!(merged(1, 1), ranges());
        assert_eq!(merged(1, 1000).first(), Some(&(0..140)));
    }
}
