//! Words of an instruction, and the ways instructions are cut into them: at white space, with quotes respected, or as a
//! JSON list. Nothing is expanded here and quotes stay where they are, except within flags and lists.

use crate::error::{Error, Problem};
use crate::json;
use crate::lex::{Joined, is_blank};
use crate::limits;
use crate::source::Span;

/// A word with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// As written; after an evaluation, as expanded.
    pub text: String,
    /// Its place in the file; that of the FROM for what a base image's trigger says.
    pub span: Span,
}

impl Word {
    pub(crate) fn new(text: impl Into<String>, span: Span) -> Self {
        Self { text: text.into(), span }
    }
}

/// A flag as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawFlag {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    pub(crate) span: Span,
}

/// What is behind an instruction's keyword, or behind its flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest<'a> {
    joined: &'a Joined,
    start: usize,
    end: usize,
    escape: char,
}

impl<'a> Rest<'a> {
    pub(crate) fn new(joined: &'a Joined, start: usize, escape: char) -> Self {
        Self { joined, start, end: joined.text().len(), escape }.trimmed()
    }

    fn trimmed(mut self) -> Self {
        let text = self.text();
        let end = self.start + text.trim_end().len();
        self.start += text.len() - text.trim_start().len();
        self.end = end.max(self.start);
        self
    }

    pub(crate) fn text(&self) -> &'a str {
        self.joined.text().get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn start(&self) -> usize {
        self.start
    }

    pub(crate) fn span(&self) -> Span {
        self.joined.span(self.start, self.end)
    }

    fn word(&self, start: usize, end: usize) -> Word {
        let (start, end) = (self.start + start, self.start + end);
        Word::new(self.joined.text().get(start..end).unwrap_or_default(), self.joined.span(start, end))
    }

    /// Everything as one word, unless there is nothing.
    pub(crate) fn whole(&self) -> Option<Word> {
        (!self.text().is_empty()).then(|| self.word(0, self.text().len()))
    }

    /// The first word, and what is behind it.
    pub(crate) fn first(&self) -> Option<(Word, Self)> {
        let end = self.text().find(is_blank).unwrap_or(self.text().len());
        (end > 0).then(|| (self.word(0, end), Self { start: self.start + end, ..*self }.trimmed()))
    }

    /// Cut at white space, quotes or not.
    pub(crate) fn words(&self) -> Result<Vec<Word>, Error> {
        let mut words = Vec::new();
        let mut start = 0;
        for (at, c) in self.text().char_indices().chain([(self.text().len(), ' ')]) {
            if is_blank(c) {
                if at > start {
                    bounded(&words, || self.span())?;
                    words.push(self.word(start, at));
                }
                start = at + c.len_utf8();
            }
        }
        Ok(words)
    }

    /// Cut at white space outside of quotes. A quote that is not closed takes the rest; whoever expands the word says so.
    pub(crate) fn quoted_words(&self) -> Result<Vec<Word>, Error> {
        let mut words = Vec::new();
        let mut begun = None;
        let mut quote = None;
        let mut chars = self.text().char_indices();
        while let Some((at, c)) = chars.next() {
            if quote.is_none() && c.is_whitespace() {
                if let Some(begin) = begun.take() {
                    bounded(&words, || self.span())?;
                    words.push(self.word(begin, at));
                }
                continue;
            }
            begun.get_or_insert(at);
            match c {
                _ if c == self.escape && quote != Some('\'') => drop(chars.next()),
                '\'' | '"' if quote.is_none() => quote = Some(c),
                _ if quote == Some(c) => quote = None,
                _ => {}
            }
        }
        if let Some(begin) = begun {
            bounded(&words, || self.span())?;
            words.push(self.word(begin, self.text().len()));
        }
        Ok(words)
    }

    /// The elements of a JSON list of strings; nothing when it is no JSON, which makes it a command for a shell.
    ///
    /// # Errors
    /// A list of anything else.
    pub(crate) fn list(&self) -> Result<Option<Vec<Word>>, Error> {
        match json::strings(self.text()) {
            Ok(strings) => Ok(Some(
                strings
                    .into_iter()
                    .map(|(text, range)| {
                        Word::new(text, self.joined.span(self.start + range.start, self.start + range.end))
                    })
                    .collect(),
            )),
            Err(json::NoList::NotJson) => Ok(None),
            Err(json::NoList::NotStrings) => Err(Error::of(Problem::JsonNotStrings).at(self.span())),
            Err(json::NoList::TooMany) => Err(too_many(self.span())),
        }
    }

    /// The flags in front, and what is behind them. A `--` ends them.
    pub(crate) fn flags(&self) -> Result<(Vec<RawFlag>, Self), Error> {
        let mut flags = Vec::new();
        let mut rest = *self;
        while let Some(tail) = rest.text().strip_prefix("--") {
            if tail.is_empty() || tail.starts_with(char::is_whitespace) {
                rest.start += 2;
                rest = rest.trimmed();
                break;
            }
            let mut value = String::new();
            let mut quote = None;
            let mut end = rest.text().len();
            let mut chars = rest.text().char_indices();
            while let Some((at, c)) = chars.next() {
                match c {
                    _ if c == self.escape && quote != Some('\'') => value.extend(chars.next().map(|(_, next)| next)),
                    '\'' | '"' if quote.is_none() => quote = Some(c),
                    _ if quote == Some(c) => quote = None,
                    _ if quote.is_none() && c.is_whitespace() => {
                        end = at;
                        break;
                    }
                    _ => value.push(c),
                }
            }
            let span = rest.joined.span(rest.start, rest.start + end);
            if flags.len() == limits::FLAGS {
                let problem = Problem::TooMany { what: "flags in one instruction", limit: limits::FLAGS };
                return Err(Error::of(problem).at(span));
            }
            let value = value.get(2..).unwrap_or_default();
            let (name, value) = match value.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (value.to_owned(), None),
            };
            flags.push(RawFlag { name, value, span });
            rest.start += end;
            rest = rest.trimmed();
        }
        Ok((flags, rest))
    }
}

fn bounded(words: &[Word], span: impl Fn() -> Span) -> Result<(), Error> {
    if words.len() < limits::WORDS { Ok(()) } else { Err(too_many(span())) }
}

fn too_many(span: Span) -> Error {
    Error::of(Problem::TooMany { what: "words in one instruction", limit: limits::WORDS }).at(span)
}
