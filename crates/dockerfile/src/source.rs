//! The text of a Dockerfile and places in it. Offsets are bytes of the text, never beyond its end and always between
//! characters; lines and columns are made of them when somebody is told. Everything else in this crate holds spans.

use crate::error::{Error, Problem};
use crate::limits;

/// A stretch of the text, in bytes; the end is not part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        // Texts are far below 4 GiB (`limits::FILE`).
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: narrow(start), end: narrow(end.max(start)) }
    }

    /// As indices of the text.
    #[must_use]
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Lines from the first to the last, both included and counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lines {
    /// Where it begins.
    pub first: u32,
    /// Where it ends.
    pub last: u32,
}

impl Lines {
    /// One line.
    #[must_use]
    pub fn one(line: u32) -> Self {
        Self { first: line, last: line }
    }
}

/// A place as people count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// Characters from the beginning of the line, from 1.
    pub column: u32,
    /// Bytes from the beginning of the text, from 0.
    pub byte: u32,
}

/// A Dockerfile's text under the name it is shown with.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    /// Where lines begin.
    starts: Vec<u32>,
}

impl Source {
    /// Takes the bytes of a file. A byte order mark is dropped.
    ///
    /// # Errors
    /// The file is longer than [`limits::FILE`], one of its lines than [`limits::LINE`], it has a NUL byte, or a line other
    /// than a comment is not UTF-8: what is in it would have to be changed to be stored in an image's configuration.
    pub fn new(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > limits::FILE {
            return Err(Error::of(Problem::TooLong { what: "the file", limit: limits::FILE }));
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        for (line, content) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let problem = if content.len() > limits::LINE {
                Problem::TooLong { what: "the line", limit: limits::LINE }
            } else if content.contains(&0) {
                Problem::NulByte
            } else if std::str::from_utf8(content).is_err() && content.trim_ascii_start().first() != Some(&b'#') {
                Problem::NotUtf8
            } else {
                continue;
            };
            return Err(Error::of(problem).at_lines(Lines::one(line)));
        }
        let text = String::from_utf8_lossy(bytes).into_owned();
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let starts = std::iter::once(0).chain(ends).map(|at| u32::try_from(at).unwrap_or(u32::MAX)).collect();
        Ok(Self { name: name.to_owned(), text, starts })
    }

    /// What it is called in messages, as `Dockerfile`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What a span stands for; empty for one of another text.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }

    /// How many lines there are; text after the last newline is one, even when it is empty.
    #[must_use]
    pub fn lines(&self) -> u32 {
        u32::try_from(self.starts.len()).unwrap_or(u32::MAX)
    }

    /// A line without its end, counted from 1.
    #[must_use]
    pub fn line(&self, number: u32) -> &str {
        let span = self.line_span(number);
        self.text.get(span).unwrap_or_default().trim_end_matches(['\n', '\r'])
    }

    /// With its end.
    pub(crate) fn line_span(&self, number: u32) -> std::ops::Range<usize> {
        let index = (number as usize).wrapping_sub(1);
        let Some(start) = self.starts.get(index) else { return 0..0 };
        let end = self.starts.get(index + 1).map_or(self.text.len(), |end| *end as usize);
        *start as usize..end
    }

    /// Line and column of a byte.
    #[must_use]
    pub fn position(&self, byte: u32) -> Position {
        let index = self.starts.partition_point(|start| *start <= byte).saturating_sub(1);
        let start = self.starts.get(index).copied().unwrap_or(0) as usize;
        let before = self.text.get(start..(byte as usize).min(self.text.len())).unwrap_or_default();
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Position { line: narrow(index + 1), column: narrow(before.chars().count() + 1), byte }
    }

    /// The lines a span touches.
    #[must_use]
    pub fn lines_of(&self, span: Span) -> Lines {
        let last = if span.end > span.start { span.end - 1 } else { span.start };
        let line = |byte| u32::try_from(self.starts.partition_point(|start| *start <= byte)).unwrap_or(u32::MAX);
        Lines { first: line(span.start), last: line(last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters_and_bytes() {
        let source = Source::new("Dockerfile", "\u{feff}FROM é x\r\nRUN a".as_bytes()).unwrap();
        assert_eq!((source.lines(), source.line(1), source.line(2), source.line(3)), (2, "FROM é x", "RUN a", ""));
        assert_eq!(source.position(8), Position { line: 1, column: 8, byte: 8 });
        assert_eq!(source.position(11), Position { line: 2, column: 1, byte: 11 });
        assert_eq!(source.lines_of(Span::new(0, 12)), Lines { first: 1, last: 2 });
        assert_eq!(source.slice(Span::new(5, 7)), "é");
    }

    #[test]
    fn what_cannot_be_kept_as_it_is_is_refused() {
        for (bytes, line) in [(&b"FROM a\nRUN \0"[..], 2), (b"FROM \xff", 1), (&[b'a'; limits::LINE + 1], 1)] {
            assert_eq!(Source::new("Dockerfile", bytes).unwrap_err().lines, Some(Lines::one(line)));
        }
        assert!(Source::new("Dockerfile", &vec![b'\n'; limits::FILE + 1]).is_err());
        assert_eq!(Source::new("Dockerfile", b" # \xff\nFROM a").unwrap().line(2), "FROM a");
    }
}
