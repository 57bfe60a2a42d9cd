//! `.dockerignore`: which files of a build context do not belong to it.
//!
//! Each line is a pattern of paths from the root of the context, or with `!` an exception; a pattern that matches a
//! directory matches everything below it, and the last pattern that matches decides. Patterns without wildcards are looked
//! up, the others run as automata over the path, so that no pattern takes longer than its length times the path's.

use std::collections::HashMap;

use crate::limits;

/// Why a `.dockerignore` file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// It is too big.
    #[error(".dockerignore is longer than {} bytes", limits::IGNORE_FILE)]
    Size,
    /// It has too many patterns.
    #[error(".dockerignore has more than {} patterns", limits::IGNORE_PATTERNS)]
    Patterns,
    /// Its patterns with wildcards are too long together.
    #[error(".dockerignore has more than {} bytes of patterns with wildcards", limits::IGNORE_WILDCARDS)]
    Wildcards,
    /// A pattern is longer than a path can be.
    #[error(".dockerignore line {0}: the pattern is longer than {max} bytes", max = limits::IGNORE_PATTERN)]
    Long(u32),
    /// An exclamation mark and nothing else.
    #[error(".dockerignore line {0}: illegal exclusion pattern: \"!\"")]
    Exception(u32),
    /// A bracket that is not closed, an empty one, a range that runs backwards, or a last backslash.
    #[error(".dockerignore line {line}: syntax error in pattern: {pattern}")]
    Syntax { line: u32, pattern: String },
}

/// The patterns of a file.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    /// The number of the last pattern for each path that one without wildcards names.
    literals: HashMap<String, usize>,
    /// Whether the pattern of this number is an exception.
    exceptions: Vec<bool>,
    /// Those with wildcards.
    globs: Vec<(usize, Glob)>,
    /// Bytes of those.
    wildcards: usize,
    /// Paths of exceptions without wildcards.
    literal_exceptions: Vec<String>,
    /// All of them, cleaned, exceptions with their `!`.
    patterns: Vec<String>,
}

impl Ignore {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`IgnoreError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, IgnoreError> {
        if bytes.len() > limits::IGNORE_FILE {
            return Err(IgnoreError::Size);
        }
        let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
        let mut ignore = Self::default();
        for (line, pattern) in (1..).zip(text.lines()) {
            if pattern.starts_with('#') {
                continue;
            }
            let pattern = pattern.trim();
            let (exception, pattern) = match pattern.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, pattern),
            };
            if pattern.is_empty() {
                if exception {
                    return Err(IgnoreError::Exception(line));
                }
                continue;
            }
            ignore.add(exception, pattern, line)?;
        }
        Ok(ignore)
    }

    /// Takes patterns one by one: those a copy includes or excludes. There are no comments among them.
    ///
    /// # Errors
    /// See [`IgnoreError`]; lines are the places in the list.
    pub fn patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, IgnoreError> {
        let mut ignore = Self::default();
        for (line, pattern) in (1..).zip(patterns) {
            let pattern = pattern.trim();
            let (exception, pattern) = match pattern.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, pattern),
            };
            match (pattern.is_empty(), exception) {
                (false, _) => ignore.add(exception, pattern, line)?,
                (true, true) => return Err(IgnoreError::Exception(line)),
                (true, false) => {}
            }
        }
        Ok(ignore)
    }

    fn add(&mut self, exception: bool, pattern: &str, line: u32) -> Result<(), IgnoreError> {
        if pattern.len() > limits::IGNORE_PATTERN {
            return Err(IgnoreError::Long(line));
        }
        if self.exceptions.len() == limits::IGNORE_PATTERNS {
            return Err(IgnoreError::Patterns);
        }
        let number = self.exceptions.len();
        self.exceptions.push(exception);
        let path = clean(pattern);
        self.patterns.push(if exception { format!("!{path}") } else { path.clone() });
        if path.contains(['*', '?', '[', '\\']) {
            self.wildcards += path.len();
            if self.wildcards > limits::IGNORE_WILDCARDS {
                return Err(IgnoreError::Wildcards);
            }
            let glob = Glob::parse(&path).ok_or(IgnoreError::Syntax { line, pattern: path })?;
            self.globs.push((number, glob));
        } else {
            if exception {
                self.literal_exceptions.push(path.clone());
            }
            self.literals.insert(path, number);
        }
        Ok(())
    }

    /// The patterns in their order, as whoever sends a context is told them.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.patterns
    }

    /// Whether there is no pattern at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exceptions.is_empty()
    }

    /// Whether a path does not belong to the context. It is relative to the root of the context, with slashes between
    /// names and none at its ends; files and directories are alike. The root itself always belongs.
    #[must_use]
    pub fn excludes(&self, path: &str) -> bool {
        self.decides(path).is_some_and(|number| !self.exceptions[number])
    }

    /// Whether nothing below a directory belongs to the context either, so that nobody has to look into it.
    #[must_use]
    pub fn skips(&self, directory: &str) -> bool {
        let Some(number) = self.decides(directory).filter(|number| !self.exceptions[*number]) else { return false };
        let below = format!("{directory}/");
        // Only exceptions that come later can bring back what this pattern takes.
        let literal = self
            .literal_exceptions
            .iter()
            .any(|path| path.starts_with(&below) && self.literals.get(path).is_some_and(|later| *later > number));
        let glob = || {
            let later = self.globs.iter().rev().take_while(|(later, _)| *later > number);
            later.filter(|(later, _)| self.exceptions[*later]).any(|(_, glob)| glob.may_match_below(&below))
        };
        !literal && !glob()
    }

    /// The last pattern that matches a path or a directory above it.
    fn decides(&self, path: &str) -> Option<usize> {
        if path.is_empty() || path == "." || path.len() > limits::IGNORE_PATTERN {
            return None;
        }
        let ends = path.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| at).chain([path.len()]);
        let literal = ends.filter_map(|end| self.literals.get(path.get(..end)?)).max().copied();
        let later = self.globs.iter().rev().take_while(|(number, _)| literal.is_none_or(|literal| *number > literal));
        let glob = later.into_iter().find(|(_, glob)| glob.matches_or_parent(path)).map(|(number, _)| *number);
        glob.or(literal)
    }
}

/// A path as the file system sees it: no empty names, no `.`, `..` where it leads, nothing in front.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            // Above the root of the context there is nothing; without a leading slash the pattern stays one that cannot match.
            ".." if pattern.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// What a state of the automaton consumes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Name,
    /// `**`
    Any,
    /// `**/`: nothing, or …
    Directories,
    /// … anything that ends in a slash.
    Within,
    /// `[…]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

#[derive(Clone, Debug)]
struct Glob {
    tokens: Vec<Token>,
    /// The characters it begins with: most paths differ there.
    prefix: String,
}

impl Glob {
    fn parse(pattern: &str) -> Option<Self> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.next_if_eq(&'*').is_some() => {
                    let slash = chars.next_if_eq(&'/').is_some();
                    let last = chars.peek().is_none();
                    // `**name` is a suffix to the builder; elsewhere two stars are directories, with or without the slash.
                    let plain = |c| !matches!(c, '*' | '?' | '[' | '\\');
                    let suffix = tokens.is_empty() && chars.clone().all(plain);
                    if slash || !(last || suffix) {
                        // Repetitions of it match what one does.
                        if tokens.last() != Some(&Token::Within) {
                            tokens.extend([Token::Directories, Token::Within]);
                        }
                    } else if tokens.last() != Some(&Token::Any) {
                        tokens.push(Token::Any);
                    }
                }
                '*' if tokens.last() != Some(&Token::Name) => tokens.push(Token::Name),
                '*' => {}
                '?' => tokens.push(Token::One),
                '[' => tokens.push(class(&mut chars)?),
                '\\' => tokens.push(Token::Char(chars.next()?)),
                c => tokens.push(Token::Char(c)),
            }
        }
        let prefix = tokens.iter().map_while(|token| match token {
            Token::Char(c) => Some(*c),
            _ => None,
        });
        let prefix = prefix.collect();
        Some(Self { tokens, prefix })
    }

    /// Runs over a path; says where a whole name ended in a match, and which states are left at the end.
    fn run(&self, path: &str) -> (bool, Vec<bool>) {
        let mut states = vec![false; self.tokens.len() + 1];
        states[0] = true;
        self.close(&mut states);
        let mut next = vec![false; states.len()];
        for c in path.chars() {
            // A directory above matches.
            if c == '/' && states[self.tokens.len()] {
                return (true, states);
            }
            next.fill(false);
            for (index, token) in self.tokens.iter().enumerate().filter(|(index, _)| states[*index]) {
                match token {
                    Token::Char(own) if *own == c => next[index + 1] = true,
                    Token::One if c != '/' => next[index + 1] = true,
                    Token::Name if c != '/' => next[index] = true,
                    Token::Any => next[index] = true,
                    Token::Within => {
                        next[index] = true;
                        next[index + 1] |= c == '/';
                    }
                    Token::Class { negated, ranges } => {
                        let within = ranges.iter().any(|(first, last)| (*first..=*last).contains(&c));
                        next[index + 1] |= within != *negated;
                    }
                    _ => {}
                }
            }
            self.close(&mut next);
            std::mem::swap(&mut states, &mut next);
            if !states.contains(&true) {
                break;
            }
        }
        (states[self.tokens.len()], states)
    }

    /// Goes over what may match nothing. States only lead forward, so once is enough.
    fn close(&self, states: &mut [bool]) {
        for (index, token) in self.tokens.iter().enumerate() {
            if states[index] {
                match token {
                    Token::Name | Token::Any => states[index + 1] = true,
                    Token::Directories => {
                        states[index + 1] = true;
                        states[index + 2] = true;
                    }
                    _ => {}
                }
            }
        }
    }

    fn matches_or_parent(&self, path: &str) -> bool {
        path.starts_with(&self.prefix) && self.run(path).0
    }

    /// Whether something that begins with this path may match.
    fn may_match_below(&self, directory: &str) -> bool {
        if !directory.starts_with(&self.prefix) && !self.prefix.starts_with(directory) {
            return false;
        }
        let (matched, states) = self.run(directory);
        matched || states.into_iter().any(|alive| alive)
    }
}

/// What is between brackets, `[` having been read.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    let member = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| match chars.next()? {
        '\\' => chars.next(),
        c => Some(c),
    };
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Some(Token::Class { negated, ranges });
        }
        let first = member(chars)?;
        let mut last = first;
        if chars.peek() == Some(&'-') {
            let mut ahead = chars.clone();
            ahead.next();
            // A hyphen before the end is one of the characters.
            if ahead.peek() != Some(&']') {
                chars.next();
                last = member(chars)?;
            }
        }
        if last < first {
            return None;
        }
        ranges.push((first, last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignore(text: &str) -> Ignore {
        Ignore::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let found = ignore("# c\n*.log\n!keep.log\n/sub/\nsub/../x\n a/*/b \n!sub/in\n\n");
        for (path, excluded) in [
            ("a.log", true),
            ("keep.log", false),
            ("d/a.log", false),
            ("sub", true),
            ("sub/x/y", true),
            ("sub/in", false),
            ("sub/in/deep", false),
            ("x", true),
            ("a/q/b", true),
            ("a/q/r/b", false),
            ("# c", false),
            ("", false),
        ] {
            assert_eq!(found.excludes(path), excluded, "{path}");
        }
    }

    #[test]
    fn directories_are_skipped_when_nothing_below_can_come_back() {
        let found = ignore("*\n!src/**/*.rs\n!docs/a\nsrc/gen\n");
        assert!(found.excludes("target") && found.skips("target"));
        assert!(found.excludes("src") && !found.skips("src"));
        assert!(found.excludes("docs") && !found.skips("docs"));
        assert!(!found.excludes("docs/a/b") && found.excludes("docs/b"));
        assert!(found.skips("src/gen"), "the pattern comes after every exception");
        assert!(!ignore("a\n!**/b").skips("a"));
        assert!(ignore("!a/b\na").skips("a"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (text, line) in [("a\n[", 2), ("[]", 1), ("[z-a]", 1), ("a\\", 1), ("[a", 1), ("[a\\", 1)] {
            assert!(
                matches!(Ignore::parse(text.as_bytes()), Err(IgnoreError::Syntax { line: found, .. }) if found == line),
                "{text}"
            );
        }
        assert_eq!(Ignore::parse(b"! ").unwrap_err(), IgnoreError::Exception(1));
        assert_eq!(Ignore::parse(&vec![b'a'; limits::IGNORE_PATTERN + 1]).unwrap_err(), IgnoreError::Long(1));
        assert_eq!(
            Ignore::parse("a\n".repeat(limits::IGNORE_PATTERNS + 1).as_bytes()).unwrap_err(),
            IgnoreError::Patterns
        );
        let stars = "*aaaaaaa\n".repeat(limits::IGNORE_WILDCARDS / 8 + 1);
        assert_eq!(Ignore::parse(stars.as_bytes()).unwrap_err(), IgnoreError::Wildcards);
        assert_eq!(Ignore::parse(&vec![b'\n'; limits::IGNORE_FILE + 1]).unwrap_err(), IgnoreError::Size);
    }

    #[test]
    fn stars_cost_what_they_are_long() {
        let stars = ignore(&format!("{}b\n{}b", "**/".repeat(1000), "a*".repeat(1000)));
        assert!(!stars.excludes(&"a".repeat(4000)));
        assert!(!stars.excludes(&"a/".repeat(2000)));
    }
}
