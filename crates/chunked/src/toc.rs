//! The table of contents: files with content, in the order of the archive, and where the blob has them.

use std::ops::Range;

use serde::Deserialize;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use types::Digest;

use crate::{Error, Place, check, decompress};

/// Most entries that are kept.
const ENTRIES_MAX: usize = 1_000_000;
/// Most bytes of all names.
const NAMES_MAX: usize = 64 << 20;
/// Most bytes of one string of the document: the longest are extended attributes, in base64.
const STRING_MAX: usize = 1 << 20;

/// A file of a layer that has content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path in the archive, as it stands there.
    pub name: Box<str>,
    /// Its size in bytes.
    pub size: u64,
    /// Digest of its content, where the table tells.
    pub digest: Option<Digest>,
    pub(crate) pieces: Range<usize>,
}

/// A part of a file: frames of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Bytes of the blob; none for zeros.
    pub(crate) range: Range<u64>,
    /// Bytes that come out.
    pub(crate) size: u64,
    /// Nothing but zeros, which the blob need not be asked for.
    pub(crate) zeros: bool,
}

/// What a blob holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toc {
    /// Files with content, in the archive's order.
    pub files: Vec<File>,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) split_digest: Digest,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    offset: u64,
    #[serde(default, rename = "endOffset")]
    end: u64,
    #[serde(default, rename = "chunkSize")]
    chunk_size: u64,
    #[serde(default, rename = "chunkOffset")]
    chunk_offset: u64,
    #[serde(default, rename = "chunkType")]
    chunk_type: String,
}

impl Toc {
    /// Reads the table of a blob.
    ///
    /// # Errors
    /// [`Error::Digest`] when it is not the one the annotations name; [`Error::Document`] when it cannot be read, or names
    /// places that overlap, go backwards or reach beyond the table itself.
    pub fn parse(compressed: &[u8], place: &Place) -> Result<Self, Error> {
        check("table of contents", compressed, &place.toc_digest)?;
        let plain = decompress(compressed, place.toc.uncompressed)?;
        let plain = Strings { inner: plain, within: false, escaped: false, length: 0 };
        let mut document = serde_json::Deserializer::from_reader(std::io::BufReader::with_capacity(64 << 10, plain));
        let mut building = Building { end: place.toc.offset.min(place.split.offset), ..Building::default() };
        let split = Document(&mut building).deserialize(&mut document).map_err(Error::toc)?;
        document.end().map_err(Error::toc)?;
        building.close()?;
        let split_digest = split.parse().map_err(|_| Error::toc("it does not name the digest of the tar-split"))?;
        Ok(Self { files: building.files, pieces: building.pieces, split_digest })
    }
}

/// A table that is being read.
#[derive(Default)]
struct Building {
    files: Vec<File>,
    pieces: Vec<Piece>,
    names: usize,
    /// Where the last file that is whole ends in the blob.
    at: u64,
    /// Content ends here at the latest.
    end: u64,
    /// The last file's end in the blob, until it is whole.
    open: Option<u64>,
    /// Bytes of the last file that its chunks so far have.
    known: u64,
}

impl Building {
    fn add(&mut self, raw: Raw) -> Result<(), Error> {
        match raw.kind.as_str() {
            "chunk" => return self.piece(&raw),
            "reg" if raw.size > 0 => {}
            _ => return self.close(),
        }
        self.close()?;
        self.names += raw.name.len();
        if self.files.len() >= ENTRIES_MAX || self.names > NAMES_MAX {
            return Err(Error::toc("it has more entries than are taken into memory"));
        }
        if raw.offset < self.at || raw.end < raw.offset || raw.end > self.end {
            return Err(Error::toc(format!("the place of {:?} is not its own", clip(&raw.name))));
        }
        let digest = match raw.digest.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|e| Error::toc(format!("digest {:?}: {e}", clip(text))))?),
        };
        let first = self.pieces.len();
        self.open = Some(raw.end);
        self.known = 0;
        self.at = raw.offset;
        self.files.push(File { name: raw.name.as_str().into(), size: raw.size, digest, pieces: first..first });
        self.piece(&raw)
    }

    /// A part of the last file.
    fn piece(&mut self, raw: &Raw) -> Result<(), Error> {
        let (Some(file), Some(end)) = (self.files.last_mut(), self.open) else {
            return Err(Error::toc("a chunk belongs to no file"));
        };
        let wrong = |why: &str| Error::toc(format!("the chunks of {:?} {why}", clip(&raw.name)));
        if *file.name != *raw.name {
            return Err(wrong("follow another file"));
        }
        if self.pieces.len() >= ENTRIES_MAX {
            return Err(Error::toc("it has more chunks than are taken into memory"));
        }
        let known = self.known;
        // The last may leave its size out.
        let size = if raw.chunk_size == 0 { file.size.saturating_sub(known) } else { raw.chunk_size };
        if raw.chunk_offset != known || size == 0 || size > file.size - known {
            return Err(wrong("leave gaps or overlap"));
        }
        let zeros = match raw.chunk_type.as_str() {
            "" | "data" => false,
            "zeros" => true,
            _ => return Err(wrong("are of an unknown type")),
        };
        if raw.offset < self.at || raw.offset > end {
            return Err(wrong("are not in order"));
        }
        self.at = raw.offset;
        // Each ends where the next begins, the last where the file does.
        if let Some(last) = self.pieces[file.pieces.clone()].last_mut() {
            last.range.end = raw.offset;
        }
        self.pieces.push(Piece { range: raw.offset..end, size, zeros });
        self.known += size;
        file.pieces.end += 1;
        Ok(())
    }

    /// The last file has all its parts.
    fn close(&mut self) -> Result<(), Error> {
        let (Some(end), Some(file)) = (self.open.take(), self.files.last()) else { return Ok(()) };
        if self.known != file.size {
            return Err(Error::toc(format!("the chunks of {:?} are not the whole file", clip(&file.name))));
        }
        self.at = end;
        Ok(())
    }
}

fn clip(text: &str) -> String {
    text.chars().take(100).collect()
}

/// A JSON document whose strings are bounded: its reader keeps each of them in memory, whatever it is of use for.
struct Strings<R> {
    inner: R,
    /// Within a string, and behind a backslash there.
    within: bool,
    escaped: bool,
    /// Bytes of the string so far.
    length: usize,
}

impl<R: std::io::Read> std::io::Read for Strings<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        for byte in &buffer[..read] {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = self.within,
                b'"' => (self.within, self.length) = (!self.within, 0),
                _ => {}
            }
            self.length += usize::from(self.within);
            if self.length > STRING_MAX {
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "a string is too long"));
            }
        }
        Ok(read)
    }
}

/// The document: entries go to the table one by one, and what comes out is the digest of the tar-split.
struct Document<'a>(&'a mut Building);

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = String;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a table of contents")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        use serde::de::Error as _;
        let (mut version, mut entries, mut split) = (None, false, None);
        while let Some(key) = map.next_key::<String>()? {
            let again = match key.as_str() {
                "version" => version.replace(map.next_value::<u64>()?).is_some(),
                "tarSplitDigest" => split.replace(map.next_value::<String>()?).is_some(),
                "entries" => {
                    map.next_value_seed(Entries(self.0))?;
                    std::mem::replace(&mut entries, true)
                }
                _ => {
                    map.next_value::<serde::de::IgnoredAny>()?;
                    false
                }
            };
            if again {
                return Err(A::Error::custom(format!("{key:?} stands there twice")));
            }
        }
        match (version, entries, split) {
            (Some(1), true, Some(split)) => Ok(split),
            (Some(1), ..) => Err(A::Error::custom("it lacks its entries or the digest of the tar-split")),
            _ => Err(A::Error::custom("it is not of version 1")),
        }
    }
}

struct Entries<'a>(&'a mut Building);

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(raw) = seq.next_element::<Raw>()? {
            self.0.add(raw).map_err(serde::de::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Part;

    /// Reads a table whose blob has 1000 bytes of content.
    pub(crate) fn parse(json: &str) -> Result<Toc, Error> {
        use sha2::Digest as _;
        let compressed = zstd::encode_all(json.as_bytes(), 1).unwrap();
        let (length, uncompressed) = (compressed.len() as u64, json.len() as u64);
        let part = Part { offset: 1000, length, uncompressed };
        let toc_digest = Digest::sha256(sha2::Sha256::digest(&compressed).into());
        Toc::parse(&compressed, &Place { toc: part, toc_digest, split: Part { offset: 1000 + length + 8, ..part } })
    }

    fn document(entries: &str) -> String {
        let split = Digest::sha256([1; 32]);
        format!(r#"{{"version":1,"entries":[{entries}],"tarSplitDigest":"{split}"}}"#)
    }

    #[test]
    fn chunks_belong_to_their_files() {
        let toc = parse(&document(
            r#"{"type":"dir","name":"d/"},
            {"type":"reg","name":"d/empty","size":0},
            {"type":"reg","name":"d/a","size":10,"offset":5,"endOffset":9},
            {"type":"reg","name":"d/b","size":100,"offset":9,"endOffset":40,"chunkSize":30},
            {"type":"chunk","name":"d/b","offset":20,"chunkSize":20,"chunkOffset":30,"chunkType":"zeros"},
            {"type":"chunk","name":"d/b","offset":20,"chunkOffset":50},
            {"type":"symlink","name":"d/l","linkName":"a"}"#,
        ))
        .unwrap();
        let piece = |range, size, zeros| Piece { range, size, zeros };
        assert_eq!(toc.files.iter().map(|f| &*f.name).collect::<Vec<_>>(), ["d/a", "d/b"]);
        assert_eq!(toc.pieces[toc.files[0].pieces.clone()], [piece(5..9, 10, false)]);
        let expected = [piece(9..20, 30, false), piece(20..20, 20, true), piece(20..40, 50, false)];
        assert_eq!(toc.pieces[toc.files[1].pieces.clone()], expected);
    }

    #[test]
    fn a_table_that_contradicts_itself_is_refused() {
        let good = r#"{"type":"reg","name":"a","size":10,"offset":5,"endOffset":9}"#;
        assert!(parse(&document(good)).is_ok());
        for bad in [
            // Behind the content, before the file ahead of it, backwards, and the same bytes twice.
            r#"{"type":"reg","name":"a","size":10,"offset":5,"endOffset":1001}"#.to_owned(),
            r#"{"type":"reg","name":"a","size":10,"offset":9,"endOffset":5}"#.to_owned(),
            format!("{good},{good}"),
            format!(r#"{good},{{"type":"reg","name":"b","size":10,"offset":8,"endOffset":12}}"#),
            r#"{"type":"reg","name":"a","size":10,"offset":-5,"endOffset":9}"#.to_owned(),
            // Chunks of nothing, of another, that overlap, and too few and too many of them.
            r#"{"type":"chunk","name":"a","offset":5,"chunkSize":5}"#.to_owned(),
            format!(r#"{good},{{"type":"chunk","name":"a","offset":9,"chunkSize":5,"chunkOffset":10}}"#),
            r#"{"type":"reg","name":"a","size":10,"offset":5,"endOffset":9,"chunkSize":5},
               {"type":"chunk","name":"b","offset":7,"chunkSize":5,"chunkOffset":5}"#
                .to_owned(),
            r#"{"type":"reg","name":"a","size":10,"offset":5,"endOffset":9,"chunkSize":5},
               {"type":"chunk","name":"a","offset":7,"chunkSize":5,"chunkOffset":4}"#
                .to_owned(),
            r#"{"type":"reg","name":"a","size":10,"offset":5,"endOffset":9,"chunkSize":5},
               {"type":"chunk","name":"a","offset":4,"chunkSize":5,"chunkOffset":5}"#
                .to_owned(),
            r#"{"type":"reg","name":"a","size":10,"offset":5,"endOffset":9,"chunkSize":5}"#.to_owned(),
            r#"{"type":"reg","name":"a","size":10,"offset":5,"endOffset":9,"digest":"sha256:0"}"#.to_owned(),
            r#"{"type":"reg","name":"a","size":10,"offset":5,"endOffset":9,"chunkType":"other"}"#.to_owned(),
        ] {
            assert!(matches!(parse(&document(&bad)), Err(Error::Document { .. })), "{bad}");
        }
        let whole = document(good);
        for bad in [
            whole.replace("\"version\":1", "\"version\":2"),
            whole.replace("\"version\":1", "\"version\":1,\"version\":1"),
            whole.replace("tarSplitDigest", "other"),
            format!("{whole} x"),
            whole[..whole.len() - 1].to_owned(),
            "[".repeat(100_000),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_of_many_chunks_takes_no_longer_than_many_files() {
        let chunks = 300_000;
        let mut entries = format!(r#"{{"type":"reg","name":"a","size":{chunks},"endOffset":9,"chunkSize":1}}"#);
        for chunk in 1..chunks {
            entries += &format!(r#",{{"type":"chunk","name":"a","chunkSize":1,"chunkOffset":{chunk}}}"#);
        }
        // Adding up what is known of the file at each of them took more than a minute.
        assert_eq!(parse(&document(&entries)).unwrap().pieces.len(), chunks);
    }

    #[test]
    fn no_string_of_a_table_fills_the_memory_or_the_log() {
        let named = |length: usize| format!(r#"{{"type":"dir","name":"\"{}\\"}}"#, "a".repeat(length));
        assert!(parse(&document(&format!("{},{}", named(1 << 19), named(1 << 19)))).is_ok());
        let long = "a".repeat(STRING_MAX + 1);
        for bad in [named(STRING_MAX), format!(r#"{{"{long}":1}}"#), format!(r#"{{"type":"dir","other":"{long}"}}"#)] {
            let error = parse(&document(&bad)).unwrap_err().to_string();
            assert!(error.contains("too long"), "{}", clip(&error));
        }
        let error = parse(&document(&format!(r#"{{"size":"{}"}}"#, "a".repeat(1 << 19)))).unwrap_err();
        assert!(error.to_string().len() < 1000);
    }

    #[test]
    fn a_table_is_the_one_that_was_named_and_no_longer_than_told() {
        let json = document("");
        let compressed = zstd::encode_all(json.as_bytes(), 1).unwrap();
        let part = Part { offset: 10, length: compressed.len() as u64, uncompressed: json.len() as u64 };
        let place = Place { toc: part, toc_digest: Digest::sha256([0; 32]), split: part };
        assert!(matches!(Toc::parse(&compressed, &place), Err(Error::Digest { .. })));
        use sha2::Digest as _;
        let toc_digest = types::Digest::sha256(sha2::Sha256::digest(&compressed).into());
        let short = Part { uncompressed: json.len() as u64 - 1, ..part };
        assert!(Toc::parse(&compressed, &Place { toc: short, toc_digest, split: part }).is_err());
        assert!(Toc::parse(&compressed, &Place { toc: part, toc_digest, split: part }).is_ok());
    }
}
