//! Where a blob has its table of contents, as the annotations of its descriptor say.

use std::ops::Range;

use types::Digest;

use crate::Error;

const CHECKSUM: &str = "io.github.containers.zstd-chunked.manifest-checksum";
const TOC: &str = "io.github.containers.zstd-chunked.manifest-position";
const SPLIT: &str = "io.github.containers.zstd-chunked.tarsplit-position";

/// The kind of table this crate reads: JSON, version 1.
const TOC_TYPE: u64 = 1;
/// Most bytes of either document, compressed: they are kept in memory. 37,000 files take 2.3 MiB.
const COMPRESSED_MAX: u64 = 16 << 20;
/// Most bytes of either document, uncompressed: they are read as they come.
const UNCOMPRESSED_MAX: u64 = 512 << 20;

/// A part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its length in bytes without its compression.
    pub uncompressed: u64,
}

impl Part {
    /// Its bytes in the blob.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.length
    }
}

/// Where the documents of a blob are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The table of contents.
    pub toc: Part,
    /// Digest of the table, compressed.
    pub toc_digest: Digest,
    /// The archive without contents.
    pub split: Part,
}

impl Place {
    /// Reads annotations of a blob of `size` bytes; `None` when they say nothing of the sort.
    ///
    /// # Errors
    /// [`Error::Annotation`] for places outside the blob or beyond what is taken into memory.
    pub fn of<'a>(annotation: impl Fn(&str) -> Option<&'a str>, size: u64) -> Result<Option<Self>, Error> {
        let (Some(digest), Some(toc), Some(split)) = (annotation(CHECKSUM), annotation(TOC), annotation(SPLIT)) else {
            return Ok(None);
        };
        let toc_digest = digest.parse().map_err(|_| Error::Annotation(CHECKSUM))?;
        let numbers = |text: &str| text.split(':').map(|n| n.parse().ok()).collect::<Option<Vec<u64>>>();
        let part = |name, offset: u64, length: u64, uncompressed: u64| {
            let within = offset.checked_add(length).is_some_and(|end| end <= size);
            let small = (1..=COMPRESSED_MAX).contains(&length) && uncompressed <= UNCOMPRESSED_MAX;
            if within && small { Ok(Part { offset, length, uncompressed }) } else { Err(Error::Annotation(name)) }
        };
        let toc = match numbers(toc).as_deref() {
            Some(&[offset, length, uncompressed, TOC_TYPE]) => part(TOC, offset, length, uncompressed)?,
            _ => return Err(Error::Annotation(TOC)),
        };
        let split = match numbers(split).as_deref() {
            Some(&[offset, length, uncompressed]) => part(SPLIT, offset, length, uncompressed)?,
            _ => return Err(Error::Annotation(SPLIT)),
        };
        Ok(Some(Self { toc, toc_digest, split }))
    }

    /// The bytes that hold both documents: they stand one behind the other, and come with one request.
    ///
    /// # Errors
    /// [`Error::Annotation`] when they are far from each other.
    pub fn range(&self) -> Result<Range<u64>, Error> {
        let (toc, split) = (self.toc.range(), self.split.range());
        let range = toc.start.min(split.start)..toc.end.max(split.end);
        if range.end - range.start > 2 * COMPRESSED_MAX { Err(Error::Annotation(SPLIT)) } else { Ok(range) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(toc: &str, split: &str) -> Result<Option<Place>, Error> {
        let digest = Digest::sha256([7; 32]).to_string();
        let known = [(CHECKSUM, digest.as_str()), (TOC, toc), (SPLIT, split)];
        Place::of(|name| known.iter().find(|(key, value)| *key == name && !value.is_empty()).map(|(_, v)| *v), 1000)
    }

    #[test]
    fn places_are_within_the_blob() {
        let place = of("100:200:5000:1", "308:50:900").unwrap().unwrap();
        assert_eq!(place.toc, Part { offset: 100, length: 200, uncompressed: 5000 });
        assert_eq!(place.range().unwrap(), 100..358);
        assert!(of("", "308:50:900").unwrap().is_none());
        for (toc, split) in [
            ("100:200:5000:2", "308:50:900"),
            ("100:200:5000", "308:50:900"),
            ("900:101:5000:1", "308:50:900"),
            ("100:0:5000:1", "308:50:900"),
            ("100:200:5000:1", "308:50"),
            ("100:200:5000:1", "308:50:900:1"),
            ("18446744073709551615:2:1:1", "308:50:900"),
            ("-1:2:1:1", "308:50:900"),
            ("100:200:99999999999:1", "308:50:900"),
        ] {
            assert!(matches!(of(toc, split), Err(Error::Annotation(_))), "{toc} {split}");
        }
    }
}
