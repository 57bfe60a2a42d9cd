//! The key sequence that leaves a container running and takes the terminal away, `ctrl-p,ctrl-q` by default.
//!
//! Invariant: keys of a sequence that was begun and not finished are passed on in order, none lost, none doubled.

use crate::{Error, Result};

/// The default sequence.
pub(crate) const DEFAULT: &str = "ctrl-p,ctrl-q";

/// Looks for the sequence in what is typed.
#[derive(Clone, Debug)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// Parses `ctrl-p,ctrl-q` or `a,b`; the empty text is the default sequence.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = if text.is_empty() { DEFAULT } else { text };
        let bad =
            || Error::new(format!("invalid detach keys ({text}): write letters or ctrl-<letter>, separated by commas"));
        let mut keys = Vec::new();
        for part in text.split(',') {
            let key = match (part.strip_prefix("ctrl-"), part.as_bytes()) {
                (Some(rest), _) => match rest.as_bytes() {
                    [letter @ b'a'..=b'z'] => letter - b'a' + 1,
                    b"@" => 0,
                    b"[" => 27,
                    b"\\" => 28,
                    b"]" => 29,
                    b"^" => 30,
                    b"_" => 31,
                    _ => return Err(bad()),
                },
                (None, [byte]) => *byte,
                _ => return Err(bad()),
            };
            keys.push(key);
        }
        Ok(Self { keys, matched: 0 })
    }

    /// Takes typed bytes, appends those to pass on to `out`; `true` once the sequence is complete.
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in bytes {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return true;
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            // The key that broke the sequence may begin it anew.
            self.matched = usize::from(byte == self.keys[0]);
            if self.matched == 0 {
                out.push(byte);
            } else if self.keys.len() == 1 {
                self.matched = 0;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::DetachKeys;

    fn run(keys: &str, typed: &[&[u8]]) -> (bool, Vec<u8>) {
        let (mut scan, mut out) = (DetachKeys::parse(keys).unwrap(), Vec::new());
        for part in typed {
            if scan.feed(part, &mut out) {
                return (true, out);
            }
        }
        (false, out)
    }

    #[test]
    fn the_sequence_detaches_wherever_it_is_split() {
        assert_eq!(run("", &[b"ab\x10\x11cd"]), (true, b"ab".to_vec()));
        assert_eq!(run("", &[b"ab\x10", b"\x11"]), (true, b"ab".to_vec()));
    }

    #[test]
    fn a_broken_sequence_is_passed_on() {
        assert_eq!(run("", &[b"\x10x"]), (false, b"\x10x".to_vec()));
        assert_eq!(run("", &[b"\x10\x10\x11"]), (true, b"\x10".to_vec()));
        assert_eq!(run("a,b,c", &[b"abd"]), (false, b"abd".to_vec()));
        assert_eq!(run("q", &[b"xq"]), (true, b"x".to_vec()));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["ctrl-", "ctrl-A", "ab", ",", "ctrl-pp"] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
    }
}
