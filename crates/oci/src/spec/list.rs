//! Lists of CPUs and memory nodes as cpuset(7) writes them: `0-3,7`. Never longer than the kernel's own masks. Used by
//! the affinity and the memory policy of a process.

use serde::{Deserialize, Deserializer};

/// Highest number taken: the kernel's masks have at most 8192 bits (`NR_CPUS` of x86).
const MAX_NUMBER: u32 = 8191;

/// A text that is no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuListError {
    /// Something else than numbers and ranges.
    #[error("{0} is not a list of numbers and ranges; write it as 0-3,7")]
    Form(String),
    /// The end of a range comes before its beginning.
    #[error("the range {0}-{1} runs backwards; put the lower number first")]
    Backwards(u32, u32),
    /// More than any kernel has.
    #[error("{0} is too large; numbers go to {MAX_NUMBER}")]
    Number(u64),
}

/// A set of CPUs, or of memory nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuList(Vec<u64>);

impl CpuList {
    /// Reads `0-3,7`; the empty text is the empty set.
    ///
    /// # Errors
    /// [`CpuListError`].
    pub fn parse(text: &str) -> Result<Self, CpuListError> {
        let form = || CpuListError::Form(crate::fault::shown(text));
        let number = |text: &str| -> Result<u32, CpuListError> {
            let text = text.trim();
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(form());
            }
            let number = text.parse::<u64>().unwrap_or(u64::MAX);
            u32::try_from(number).ok().filter(|n| *n <= MAX_NUMBER).ok_or(CpuListError::Number(number))
        };
        let mut words = Vec::new();
        if text.trim().is_empty() {
            return Ok(Self(words));
        }
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                None => (number(part)?, number(part)?),
                Some((first, last)) => (number(first)?, number(last)?),
            };
            if last < first {
                return Err(CpuListError::Backwards(first, last));
            }
            let needed = last as usize / 64 + 1;
            if words.len() < needed {
                words.resize(needed, 0);
            }
            for n in first..=last {
                words[n as usize / 64] |= 1 << (n % 64);
            }
        }
        Ok(Self(words))
    }

    /// As sched_setaffinity(2) and set_mempolicy(2) take it: bit n % 64 of word n / 64.
    #[must_use]
    pub fn words(&self) -> Vec<u64> {
        self.0.clone()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Highest number in it.
    #[must_use]
    pub fn highest(&self) -> Option<u32> {
        let last = self.0.last()?;
        u32::try_from(self.0.len() * 64).ok()?.checked_sub(1 + last.leading_zeros())
    }
}

impl<'de> Deserialize<'de> for CpuList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

/// `null` and the empty list are absent.
pub(super) fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<CpuList>, D::Error> {
    Ok(Option::<CpuList>::deserialize(from)?.filter(|list| !list.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_the_kernel_looks() {
        assert_eq!(CpuList::parse("0-3,7").unwrap().words(), [0b1000_1111]);
        assert_eq!(CpuList::parse(" 64 , 1 ").unwrap().words(), [2, 1]);
        assert_eq!(CpuList::parse("63-64").unwrap().words(), [1 << 63, 1]);
        assert_eq!(CpuList::parse("").unwrap().words(), [0u64; 0]);
        assert_eq!(CpuList::parse("8191").unwrap().highest(), Some(8191));
        assert_eq!(CpuList::parse("0").unwrap().highest(), Some(0));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [",", "1,", "a", "-1", "1-", "+1", "1-2-3", "0x1", "1 2", "8192", "99999999999999999999", "3-1"] {
            assert!(CpuList::parse(text).is_err(), "{text}");
        }
    }
}
