//! Sparse members: the old GNU format (type `S`) and the pax formats 0.0, 0.1 and 1.0.
//!
//! A map is accepted when its regions rise without overlap, end within the real size, and their data
//! adds up to what the archive stores; anything else is an error, never a guess.

use super::header::{GNU_EXTENDED, GNU_REAL_SIZE, GNU_SPARSE, unsigned};
use super::{BLOCK, Error, Limits};

/// Collects regions and checks them against the sizes at the end.
#[derive(Debug, Default)]
pub(super) struct Map {
    regions: Vec<(u64, u64)>,
}

impl Map {
    pub(super) fn push(&mut self, offset: u64, length: u64, limits: &Limits) -> Result<(), Error> {
        if self.regions.len() >= limits.sparse_regions {
            return Err(Error::Limit { what: "regions in one sparse member", limit: limits.sparse_regions as u64 });
        }
        let end = offset.checked_add(length).ok_or(Error::Sparse("a region past the end of any file"))?;
        if i64::try_from(end).is_err() {
            return Err(Error::Sparse("a region past the end of any file"));
        }
        if let Some((last, size)) = self.regions.last()
            && offset < last + size
        {
            return Err(Error::Sparse("regions that overlap or go backwards"));
        }
        self.regions.push((offset, length));
        Ok(())
    }

    /// Regions, those without data included.
    pub(super) fn count(&self) -> u64 {
        self.regions.len() as u64
    }

    /// The regions with data, once they agree with `real` (size of the file) and `stored` (bytes in the archive).
    pub(super) fn finish(self, real: u64, stored: u64) -> Result<Vec<(u64, u64)>, Error> {
        if let Some((offset, length)) = self.regions.last()
            && offset + length > real
        {
            return Err(Error::Sparse("a region past the end of the file"));
        }
        let sum: u64 = self.regions.iter().map(|(_, length)| length).sum();
        if sum != stored {
            return Err(Error::Sparse("regions that do not add up to the stored data"));
        }
        Ok(self.regions.into_iter().filter(|(_, length)| *length > 0).collect())
    }
}

/// The regions of an old GNU header: (map so far, whether extension blocks follow, real size).
pub(super) fn old_header(block: &[u8; BLOCK], limits: &Limits) -> Result<(Map, bool, u64), Error> {
    let mut map = Map::default();
    let extended = old_regions(&block[GNU_SPARSE], block[GNU_EXTENDED], &mut map, limits)?;
    Ok((map, extended, unsigned(&block[GNU_REAL_SIZE])?))
}

/// One extension block of the old GNU format; the answer says whether another follows.
pub(super) fn old_extension(block: &[u8; BLOCK], map: &mut Map, limits: &Limits) -> Result<bool, Error> {
    old_regions(&block[..504], block[504], map, limits)
}

/// Takes the regions of one block; the answer says whether another block follows, which `extended` claims.
fn old_regions(slots: &[u8], extended: u8, map: &mut Map, limits: &Limits) -> Result<bool, Error> {
    let mut slots = slots.chunks_exact(24);
    while let Some(slot) = slots.next() {
        // The list ends with an empty slot; what some readers would still find behind it is refused.
        if slot[0] == 0 || slot[12] == 0 {
            if extended != 0 || slot.iter().chain(slots.flatten()).any(|byte| *byte != 0) {
                return Err(Error::Sparse("a region behind the end of the list"));
            }
            return Ok(false);
        }
        map.push(unsigned(&slot[..12])?, unsigned(&slot[12..])?, limits)?;
    }
    Ok(extended != 0)
}

/// Parser of the decimal map that pax format 1.0 stores at the front of the data, padded to a block.
#[derive(Debug, Default)]
pub(super) struct Front {
    number: Option<u64>,
    digits: u8,
    wanted: Option<u64>,
    offset: Option<u64>,
    map: Map,
    /// Bytes taken so far.
    pub(super) taken: u64,
}

impl Front {
    /// Takes one block; `true` when the map is complete.
    pub(super) fn push(&mut self, block: &[u8; BLOCK], limits: &Limits) -> Result<bool, Error> {
        self.taken += BLOCK as u64;
        for byte in block {
            match byte {
                b'0'..=b'9' if self.digits < 19 => {
                    self.digits += 1;
                    self.number = Some(self.number.unwrap_or(0) * 10 + u64::from(byte - b'0'));
                }
                b'\n' => {
                    let number = self.number.take().ok_or(Error::Sparse("an empty line"))?;
                    self.digits = 0;
                    if self.number(number, limits)? {
                        return Ok(true);
                    }
                }
                _ => return Err(Error::Sparse("text that is no decimal number")),
            }
        }
        Ok(false)
    }

    fn number(&mut self, number: u64, limits: &Limits) -> Result<bool, Error> {
        match (self.wanted, self.offset.take()) {
            (None, _) => {
                if number > limits.sparse_regions as u64 {
                    let limit = limits.sparse_regions as u64;
                    return Err(Error::Limit { what: "regions in one sparse member", limit });
                }
                self.wanted = Some(number);
            }
            (Some(_), None) => self.offset = Some(number),
            (Some(_), Some(offset)) => self.map.push(offset, number, limits)?,
        }
        Ok(self.offset.is_none() && self.wanted == Some(self.map.regions.len() as u64))
    }

    pub(super) fn into_map(self) -> Map {
        self.map
    }
}

/// The map of pax format 0.1: `offset,length,offset,length…`.
pub(super) fn list(value: &[u8], limits: &Limits) -> Result<Map, Error> {
    let mut map = Map::default();
    let mut numbers = value.split(|byte| *byte == b',').map(super::pax::decimal);
    while let Some(offset) = numbers.next() {
        let length = numbers.next().ok_or(Error::Sparse("an odd count of numbers"))?;
        map.push(offset?, length?, limits)?;
    }
    Ok(map)
}
