//! From text to instructions as lines: comments are put aside, continuation lines are joined, heredocs are read.
//!
//! What is joined remembers where its parts came from, so that every word has a span of the file whatever lines it
//! crosses. One pass over the file. Called by `file`.

use crate::directive::Directives;
use crate::error::{Error, Problem};
use crate::heredoc::{self, Heredoc};
use crate::limits;
use crate::source::{Lines, Source, Span};

/// Text made of pieces of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joined {
    text: String,
    /// Where pieces begin: in the text, in the file.
    pieces: Vec<(usize, usize)>,
}

impl Joined {
    fn push(&mut self, piece: &str, at: usize) {
        if !piece.is_empty() || self.pieces.is_empty() {
            self.pieces.push((self.text.len(), at));
            self.text.push_str(piece);
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn place(&self, at: usize) -> usize {
        let index = self.pieces.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        self.pieces.get(index).map_or(0, |(start, place)| place + (at - start))
    }

    /// Where a stretch is in the file.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let first = self.place(start);
        if end <= start {
            return Span::new(first, first);
        }
        // The end of a word is behind its last character, not at the beginning of the next piece.
        let last = self.text.get(start..end).and_then(|text| text.char_indices().next_back());
        let (offset, length) = last.map_or((0, 0), |(at, c)| (at, c.len_utf8()));
        Span::new(first, self.place(start + offset) + length)
    }
}

/// An instruction before it is read.
#[derive(Clone, Debug)]
pub(crate) struct Logical {
    pub(crate) joined: Joined,
    /// Bytes of the first word.
    pub(crate) keyword: usize,
    /// With the bodies of its heredocs.
    pub(crate) lines: Lines,
    pub(crate) span: Span,
    pub(crate) heredocs: Vec<Heredoc>,
    /// The comment lines right before it, without their `#`.
    pub(crate) comments: Vec<String>,
    /// One of the continuation lines is empty.
    pub(crate) empty_continuation: bool,
}

impl Logical {
    pub(crate) fn keyword(&self) -> &str {
        self.joined.text().get(..self.keyword).unwrap_or_default()
    }

    pub(crate) fn keyword_span(&self) -> Span {
        self.joined.span(0, self.keyword)
    }

    /// The text as triggers are kept: what is joined, and behind it heredocs as they were written.
    pub(crate) fn original(&self, from: usize) -> String {
        let mut text = self.joined.text().get(from..).unwrap_or_default().trim().to_owned();
        for heredoc in &self.heredocs {
            text.push('\n');
            text.push_str(&heredoc.raw);
            text.push_str(&heredoc.name);
        }
        text
    }
}

/// Cuts a file into instructions.
///
/// # Errors
/// A heredoc without end, an instruction or a number of them beyond `limits`.
pub(crate) fn instructions(source: &Source, directives: &Directives) -> Result<Vec<Logical>, Error> {
    let mut found = Vec::new();
    let mut comments = Vec::new();
    let mut number = 1;
    while number <= source.lines() {
        let line = source.line(number);
        let trimmed = line.trim_start();
        if let Some(comment) = trimmed.strip_prefix('#') {
            comments.push(comment.trim().to_owned());
            number += 1;
        } else if trimmed.is_empty() {
            comments.clear();
            number += 1;
        } else if let Some(logical) = instruction(source, directives.escape, &mut number, &mut comments)? {
            if found.len() == limits::INSTRUCTIONS {
                let problem = Problem::TooMany { what: "instructions", limit: limits::INSTRUCTIONS };
                return Err(Error::of(problem).at_lines(logical.lines));
            }
            found.push(logical);
        }
    }
    Ok(found)
}

/// Reads one instruction and goes behind it.
fn instruction(
    source: &Source,
    escape: char,
    number: &mut u32,
    comments: &mut Vec<String>,
) -> Result<Option<Logical>, Error> {
    let first = *number;
    let mut joined = Joined::default();
    let mut empty_continuation = false;
    let mut more = true;
    let mut last = first;
    while more && *number <= source.lines() {
        let line = source.line(*number);
        let range = source.line_span(*number);
        let trimmed = line.trim_start();
        // What follows the last newline is no line of its own.
        let beyond = *number == source.lines() && range.is_empty();
        *number += 1;
        if *number - 1 > first && trimmed.starts_with('#') {
            continue;
        }
        if trimmed.is_empty() {
            empty_continuation |= !beyond;
            continue;
        }
        last = *number - 1;
        let start = if joined.text.is_empty() { line.len() - trimmed.len() } else { 0 };
        let (piece, goes_on) = without_continuation(line.get(start..).unwrap_or_default(), escape);
        joined.push(piece, range.start + start);
        more = goes_on;
        if joined.text.len() > limits::LINE {
            let problem = Problem::TooLong { what: "the instruction", limit: limits::LINE };
            return Err(Error::of(problem).at_lines(Lines { first, last }));
        }
    }
    let comments = std::mem::take(comments);
    let text = joined.text.trim_end();
    if text.trim().is_empty() {
        return Ok(None);
    }
    let end = text.len();
    joined.text.truncate(end);
    let keyword = joined.text.find(is_blank).unwrap_or(end);
    // An empty line before the end of the file belongs to the instruction that hoped for more.
    let mut lines = Lines { first, last: if empty_continuation { *number - 1 } else { last } };
    lines.last = lines.last.min(source.lines());
    let mut span = joined.span(0, end);
    let mut heredocs = Vec::new();
    for opening in heredoc::openings(&joined.text, keyword, escape) {
        if heredocs.len() == limits::HEREDOCS {
            let problem = Problem::TooMany { what: "heredocs in one instruction", limit: limits::HEREDOCS };
            return Err(Error::of(problem).at_lines(lines));
        }
        let place = joined.span(opening.range.start, opening.range.end);
        let Some(read) = heredoc::read(source, number, &opening) else {
            let problem = Problem::UnterminatedHeredoc { name: opening.name };
            let end = source.text().trim_end_matches('\n').len();
            let last = source.lines_of(Span::new(end, end)).last.max(lines.last);
            return Err(Error::of(problem).at_lines(Lines { last, ..lines }).at(place));
        };
        span.end = u32::try_from(source.line_span(*number - 1).end).unwrap_or(u32::MAX);
        heredocs.push(read);
    }
    if !heredocs.is_empty() {
        lines.last = *number - 1;
    }
    Ok(Some(Logical { joined, keyword, lines, span, heredocs, comments, empty_continuation }))
}

/// White space between the words of an instruction.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// The line without a last escape character that is not itself escaped, and whether there was one. Blanks may follow it.
fn without_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(text: &str) -> Vec<Logical> {
        let source = Source::new("Dockerfile", text.as_bytes()).unwrap();
        let directives = Directives::parse(&source).unwrap();
        instructions(&source, &directives).unwrap()
    }

    #[test]
    fn continued_lines_are_joined_and_words_keep_their_place() {
        let text = "FROM a\n# c\nRUN a \\ \n\n  # in between\n  b\\\\\nCMD é\\\n\té\r\n";
        let found = lex(text);
        let texts: Vec<_> = found.iter().map(|logical| logical.joined.text()).collect();
        assert_eq!(texts, ["FROM a", "RUN a   b\\\\", "CMD é\té"]);
        assert_eq!(found[1].comments, ["c"]);
        assert_eq!(found[1].lines, Lines { first: 3, last: 6 });
        assert!(found[1].empty_continuation && !found[2].empty_continuation);
        let joined = &found[2].joined;
        let at = joined.text().rfind('é').unwrap();
        assert_eq!(&text[joined.span(at, at + 2).range()], "é");
        assert_eq!(&text[joined.span(4, joined.text().len()).range()], "é\\\n\té");
    }

    #[test]
    fn heredocs_belong_to_their_instruction() {
        let found = lex("RUN <<A <<-'B' x\na\nA\n\tb\n\tB\nCMD x");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].lines, Lines { first: 1, last: 5 });
        assert_eq!(found[0].heredocs[0].content, "a\n");
        assert_eq!((&*found[0].heredocs[1].content, found[0].heredocs[1].expand), ("b\n", false));
    }
}
