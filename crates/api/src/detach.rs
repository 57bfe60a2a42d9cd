//! Detach keys: the sequence that, typed into an attached terminal, lets go of it.
//!
//! The detector sees every byte the client types. It holds back a started sequence and gives it
//! out again when the next key does not continue it, so that nothing typed is lost or reordered.

use crate::query::quoted;
use crate::status::ApiError;

/// Longest accepted sequence; real ones have two or three keys.
const MAX_KEYS: usize = 32;

/// Docker's default: `ctrl-p,ctrl-q`.
const DEFAULT: [u8; 2] = [0x10, 0x11];

/// A parsed key sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// Parses `ctrl-p,ctrl-q` and the like; absent or empty is the default.
    ///
    /// # Errors
    /// A key that is neither one character nor `ctrl-` with one of `a`–`z @ [ \ ] ^ _`.
    pub(crate) fn parse(text: Option<&str>) -> Result<DetachKeys, ApiError> {
        let Some(text) = text.filter(|t| !t.is_empty()) else {
            return Ok(DetachKeys(DEFAULT.to_vec()));
        };
        let invalid = || ApiError::invalid(format!("Invalid detach keys ({:.64}) provided", text));
        let mut keys = Vec::new();
        for key in text.split(',') {
            let code = match key.as_bytes() {
                [one] => *one,
                [b'c', b't', b'r', b'l', b'-', key] => match key {
                    b'a'..=b'z' => key - b'a' + 1,
                    b'@' => 0,
                    b'[' => 27,
                    b'\\' => 28,
                    b']' => 29,
                    b'^' => 30,
                    b'_' => 31,
                    _ => return Err(invalid()),
                },
                _ => return Err(invalid()),
            };
            keys.push(code);
        }
        if keys.len() > MAX_KEYS {
            return Err(ApiError::invalid(format!(
                "Invalid detach keys ({}) provided: more than {MAX_KEYS} keys",
                quoted(text)
            )));
        }
        Ok(DetachKeys(keys))
    }
}

/// Watches a stream of typed bytes for a [`DetachKeys`] sequence.
#[derive(Debug)]
pub(crate) struct Detector {
    keys: Vec<u8>,
    matched: usize,
}

impl Detector {
    pub(crate) fn new(keys: DetachKeys) -> Detector {
        Detector { keys: keys.0, matched: 0 }
    }

    /// Feeds what was read. What is to be passed on is appended to `out`; true says that the
    /// sequence is complete, and what followed it is dropped with the connection.
    pub(crate) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in input {
            if byte != self.keys[self.matched] && self.matched > 0 {
                out.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
            } else {
                out.push(byte);
            }
        }
        false
    }

    /// What is still held back when the input ends.
    pub(crate) fn held(&self) -> &[u8] {
        &self.keys[..self.matched]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(keys: Option<&str>, chunks: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut detector = Detector::new(DetachKeys::parse(keys).unwrap());
        let mut out = Vec::new();
        for chunk in chunks {
            if detector.feed(chunk, &mut out) {
                return (out, true);
            }
        }
        out.extend_from_slice(detector.held());
        (out, false)
    }

    #[test]
    fn default_sequence() {
        assert_eq!(run(None, &[b"ls\n\x10\x11rest"]), (b"ls\n".to_vec(), true));
        assert_eq!(run(None, &[b"a\x10", b"\x11"]), (b"a".to_vec(), true));
        assert_eq!(run(Some(""), &[b"\x10\x11"]), (vec![], true));
    }

    #[test]
    fn nothing_is_lost() {
        assert_eq!(run(None, &[b"\x10x\x10"]), (b"\x10x\x10".to_vec(), false));
        assert_eq!(run(None, &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(run(Some("a,b,c"), &[b"ababc"]), (b"ab".to_vec(), true));
        assert_eq!(run(Some("a"), &[b"xay"]), (b"x".to_vec(), true));
    }

    #[test]
    fn parsing() {
        assert_eq!(DetachKeys::parse(Some("ctrl-a,b,ctrl-_")).unwrap(), DetachKeys(vec![1, b'b', 31]));
        for bad in ["zz", "ctrl-", "ctrl-A", "ctrl-aa", "a,,b", "ctrl-\u{e9}"] {
            assert!(DetachKeys::parse(Some(bad)).is_err(), "{bad}");
        }
        assert_eq!(DetachKeys::parse(Some("zz")).unwrap_err().message(), "Invalid detach keys (zz) provided");
        assert!(DetachKeys::parse(Some(&vec!["a"; 33].join(","))).is_err());
    }
}
