//! The archive without the contents of its files: one JSON object a line, as tar-split writes them.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Cursor, Read};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use crate::{Error, Place, Plain, Toc, check, decompress};

/// Longest line: a piece of the archive between two contents, in base64.
const LINE_MAX: u64 = 16 << 20;
/// Kinds of lines.
const FILE: u8 = 1;
const SEGMENT: u8 = 2;

/// What comes next in the archive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes of the next file's content.
    Content(u64),
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default)]
    size: u64,
    #[serde(default, borrow)]
    payload: Option<Cow<'a, str>>,
}

/// A tar-split that is being read.
pub struct Split {
    lines: BufReader<Plain<Cursor<Vec<u8>>>>,
    line: Vec<u8>,
}

impl std::fmt::Debug for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Split").finish_non_exhaustive()
    }
}

impl Split {
    /// Opens the one that a table of contents names.
    ///
    /// # Errors
    /// [`Error::Digest`] when it is another, [`Error::Io`].
    pub fn open(compressed: Vec<u8>, place: &Place, toc: &Toc) -> Result<Self, Error> {
        check("tar-split", &compressed, &toc.split_digest)?;
        let plain = decompress(Cursor::new(compressed), place.split.uncompressed)?;
        Ok(Self { lines: BufReader::with_capacity(64 << 10, plain), line: Vec::new() })
    }

    /// The next step; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Step>, Error> {
        loop {
            self.line.clear();
            let read = (&mut self.lines).take(LINE_MAX).read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(None);
            }
            if read as u64 == LINE_MAX {
                return Err(Error::split("a line is too long"));
            }
            let line: Line<'_> = serde_json::from_slice(&self.line).map_err(Error::split)?;
            match line.kind {
                FILE if line.size == 0 => {}
                FILE => return Ok(Some(Step::Content(line.size))),
                SEGMENT => {
                    let bytes = BASE64_STANDARD.decode(line.payload.as_deref().unwrap_or_default());
                    return bytes.map(|bytes| Some(Step::Bytes(bytes))).map_err(Error::split);
                }
                other => return Err(Error::split(format!("a line is of the unknown type {other}"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Part;
    use types::Digest;

    fn steps(text: &str) -> Result<Vec<Step>, Error> {
        use sha2::Digest as _;
        let compressed = zstd::encode_all(text.as_bytes(), 1).unwrap();
        let split_digest = Digest::sha256(sha2::Sha256::digest(&compressed).into());
        let part = Part { offset: 0, length: compressed.len() as u64, uncompressed: text.len() as u64 };
        let place = Place { toc: part, toc_digest: split_digest, split: part };
        let toc = Toc { files: Vec::new(), pieces: Vec::new(), split_digest };
        let mut split = Split::open(compressed, &place, &toc)?;
        std::iter::from_fn(|| split.next().transpose()).collect()
    }

    #[test]
    fn lines_are_steps() {
        let text = r#"{"type":2,"payload":"aGVhZA==","position":0}
{"type":1,"name":"a","size":3,"payload":"AAAAAAAAAAA=","position":1}
{"type":1,"name":"empty","payload":null,"position":2}
{"type":2,"payload":"","position":3}
"#;
        let expected = [Step::Bytes(b"head".to_vec()), Step::Content(3), Step::Bytes(Vec::new())];
        assert_eq!(steps(text).unwrap(), expected);
        for bad in [
            r#"{"type":3}"#.to_owned(),
            r#"{"type":2,"payload":"?"}"#.to_owned(),
            r#"{"type":1,"size":-1}"#.to_owned(),
            "{".to_owned(),
            format!(r#"{{"type":2,"payload":"{}"}}"#, "A".repeat(17 << 20)),
        ] {
            assert!(steps(&bad).is_err(), "{}", &bad[..bad.len().min(50)]);
        }
        let quoted = steps(&format!(r#"{{"type":"{}"}}"#, "A".repeat(1 << 20))).unwrap_err();
        assert!(quoted.to_string().len() < 1000);
    }
}
