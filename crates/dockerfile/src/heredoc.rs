//! Heredocs: documents that stand in the Dockerfile behind the instruction that uses them.
//!
//! Only RUN, COPY and ADD have them, and triggers of these. A word opens one when it is `<<NAME`, with a descriptor's
//! number before and `-` behind the arrows where wanted; quotes around the name say that nothing in it is expanded.

use std::ops::Range;

use crate::lex::is_blank;
use crate::source::{Source, Span};

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// What the line behind it says, and the name of the file that COPY makes of it.
    pub name: String,
    /// Whether variables in it are expanded, by COPY and ADD themselves or by RUN's shell.
    pub expand: bool,
    /// Whether tabs at the beginning of lines are no part of it.
    pub strip_tabs: bool,
    /// The descriptor it is for; 0 when no number was written.
    pub descriptor: u32,
    /// What is in it.
    pub content: String,
    /// Its lines as written, tabs included; a shell gets these.
    pub raw: String,
    /// Place of its lines.
    pub span: Span,
}

/// The word that opens one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) name: String,
    pub(crate) expand: bool,
    pub(crate) strip_tabs: bool,
    pub(crate) descriptor: u32,
    /// Bytes of the instruction's text.
    pub(crate) range: Range<usize>,
}

/// The words of an instruction that open heredocs; none when it may have none.
pub(crate) fn openings(text: &str, keyword: usize, escape: char) -> Vec<Opening> {
    let mut start = keyword;
    let mut word = text.get(..keyword).unwrap_or_default();
    if word.eq_ignore_ascii_case("ONBUILD") {
        let rest = text.get(keyword..).unwrap_or_default();
        let trimmed = rest.trim_start_matches(is_blank);
        let length = trimmed.find(is_blank).unwrap_or(trimmed.len());
        word = trimmed.get(..length).unwrap_or_default();
        start = keyword + (rest.len() - trimmed.len()) + length;
    }
    if !["RUN", "COPY", "ADD"].iter().any(|known| word.eq_ignore_ascii_case(known)) || !text.contains("<<") {
        return Vec::new();
    }
    let Some(words) = shell_words(text, start, escape) else { return Vec::new() };
    let mut found = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(range) = words.next() {
        let mut word = text.get(range.clone()).unwrap_or_default().to_owned();
        let mut range = range;
        // The builder reads `<< NAME` as the shell does.
        if word.strip_suffix("<<").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
            && let Some(next) = words.next_if(|_| true)
        {
            word.push_str(text.get(next.clone()).unwrap_or_default());
            range.end = next.end;
        }
        if let Some(mut opening) = parse(&word, escape) {
            opening.range = range;
            found.push(opening);
        }
    }
    found
}

/// A word as the opening of a heredoc.
pub(crate) fn parse(word: &str, escape: char) -> Option<Opening> {
    let (number, rest) = word.split_once("<<")?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) || rest.contains('<') {
        return None;
    }
    let descriptor = if number.is_empty() { 0 } else { number.parse().ok()? };
    let (strip_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let mut name = String::new();
    let mut quote = None;
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ if c == escape && quote != Some('\'') => name.push(chars.next()?),
            None if c.is_whitespace() => return None,
            _ => name.push(c),
        }
    }
    if quote.is_some() || name.is_empty() {
        return None;
    }
    Some(Opening { name, expand: !rest.contains(['\'', '"']), strip_tabs, descriptor, range: 0..0 })
}

/// Words as a shell sees them; nothing when a quote is not closed. What is in `${…}` is one word's.
fn shell_words(text: &str, start: usize, escape: char) -> Option<Vec<Range<usize>>> {
    let mut words = Vec::new();
    let mut begun = None;
    let mut quote = None;
    let mut braces = 0u32;
    let mut chars = text.get(start..)?.char_indices().map(|(at, c)| (at + start, c)).peekable();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && braces == 0 && c.is_whitespace() {
            if let Some(begin) = begun.take() {
                words.push(begin..at);
            }
            continue;
        }
        begun.get_or_insert(at);
        match c {
            _ if c == escape && quote != Some('\'') => drop(chars.next()),
            '\'' | '"' if quote.is_none() => quote = Some(c),
            _ if quote == Some(c) => quote = None,
            '$' if quote.is_none() && chars.next_if(|(_, next)| *next == '{').is_some() => braces += 1,
            '}' if quote.is_none() => braces = braces.saturating_sub(1),
            _ => {}
        }
    }
    if quote.is_some() {
        return None;
    }
    if let Some(begin) = begun {
        words.push(begin..text.len());
    }
    Some(words)
}

/// Reads lines until the one that ends the document, and goes behind it.
pub(crate) fn read(source: &Source, number: &mut u32, opening: &Opening) -> Option<Heredoc> {
    let start = source.line_span(*number).start;
    let (mut content, mut raw) = (String::new(), String::new());
    while *number <= source.lines() {
        let range = source.line_span(*number);
        if range.is_empty() {
            return None;
        }
        let whole = source.text().get(range.clone())?;
        *number += 1;
        let line = if opening.strip_tabs { whole.trim_start_matches('\t') } else { whole };
        if line.trim_end_matches(['\n', '\r']) == opening.name {
            let Opening { name, expand, strip_tabs, descriptor, .. } = opening.clone();
            let span = Span::new(start, range.start);
            return Some(Heredoc { name, expand, strip_tabs, descriptor, content, raw, span });
        }
        content.push_str(line);
        raw.push_str(whole);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_open_a_document() {
        let open = |word| parse(word, '\\').map(|found| (found.name, found.expand, found.strip_tabs, found.descriptor));
        assert_eq!(open("<<EOF"), Some(("EOF".into(), true, false, 0)));
        assert_eq!(open("3<<-E\"O\"F"), Some(("EOF".into(), false, true, 3)));
        assert_eq!(open("<<E\\OF"), Some(("EOF".into(), true, false, 0)));
        for word in ["<<", "<<-", "<<<EOF", "a<<EOF", "<<\"E", "<EOF", "<<''", "<<E\\", "99999999999<<E"] {
            assert_eq!(open(word), None, "{word}");
        }
    }

    #[test]
    fn only_words_outside_quotes_open_one() {
        let names = |text: &str| -> Vec<String> {
            let keyword = text.find(' ').unwrap();
            openings(text, keyword, '\\').into_iter().map(|opening| opening.name).collect()
        };
        assert_eq!(names("RUN <<A cat <<'B' >x"), ["A", "B"]);
        assert_eq!(names("onbuild copy << A /x"), ["A"]);
        assert!(names("RUN \"<<A\" '<<B' ${x:- <<C } \\<<D [\"<<E\"]").is_empty());
        assert!(names("RUN 'x <<A").is_empty());
        assert!(names("ENV <<A").is_empty());
    }
}
