//! Expansion of words: quotes go, escapes are taken, variables get their values.
//!
//! The language is the part of a shell's that Dockerfiles have (Dockerfile reference, "Environment replacement"): `$v`,
//! `${v}`, defaults and alternatives with `-`, `+` and `?`, prefixes and suffixes with `#` and `%`, replacement with `/`.
//! A value is never expanded again, so work is bounded by the text and by the fuel that all expansions of a file share.

mod pattern;

use std::iter::Peekable;
use std::str::Chars;

use crate::error::Expansion;
use crate::limits;
use pattern::Pattern;

/// What a name stands for.
pub(crate) trait Variables {
    /// Its value; nothing for a name without one.
    fn value(&self, name: &str) -> Option<&str>;
    /// Whether somebody declared it, with a value or without.
    fn declared(&self, name: &str) -> bool;
}

/// Expands words for one instruction.
pub(crate) struct Expander<'a> {
    variables: &'a dyn Variables,
    escape: char,
    fuel: &'a mut u64,
    /// Names that nobody declared, as they were met.
    pub(crate) undefined: Vec<String>,
}

/// Where the result goes; cut into words where that is asked for.
struct Out {
    text: String,
    words: Option<Vec<String>>,
    begun: bool,
}

#[derive(Clone, Copy)]
struct Mode {
    /// The character that ends this part.
    stop: Option<char>,
    /// Quotes are characters as others.
    raw_quotes: bool,
    /// Escape characters stay, for patterns and replacements.
    raw_escapes: bool,
    depth: usize,
}

type Result<T> = std::result::Result<T, Expansion>;

impl<'a> Expander<'a> {
    pub(crate) fn new(variables: &'a dyn Variables, escape: char, fuel: &'a mut u64) -> Self {
        Self { variables, escape, fuel, undefined: Vec::new() }
    }

    /// A word.
    pub(crate) fn word(&mut self, text: &str) -> Result<String> {
        self.run(text, false, false).map(|out| out.text)
    }

    /// A word that becomes several, or none, where unquoted values have white space.
    pub(crate) fn words(&mut self, text: &str) -> Result<Vec<String>> {
        let mut out = self.run(text, false, true)?;
        out.end_word();
        Ok(out.words.unwrap_or_default())
    }

    /// A heredoc, where quotes mean nothing.
    pub(crate) fn document(&mut self, text: &str) -> Result<String> {
        self.run(text, true, false).map(|out| out.text)
    }

    fn run(&mut self, text: &str, raw_quotes: bool, split: bool) -> Result<Out> {
        let mut out = Out { text: String::new(), words: split.then(Vec::new), begun: false };
        let mode = Mode { stop: None, raw_quotes, raw_escapes: false, depth: 0 };
        self.part(&mut text.chars().peekable(), mode, &mut out)?;
        Ok(out)
    }

    fn burn(&mut self, work: usize) -> Result<()> {
        *self.fuel = self.fuel.checked_sub(work as u64 + 1).ok_or(Expansion::Work)?;
        Ok(())
    }

    fn push(&mut self, out: &mut Out, text: &str) -> Result<()> {
        self.burn(text.len())?;
        if out.text.len() + text.len() > limits::EXPANSION {
            return Err(Expansion::Size);
        }
        out.begun = true;
        out.text.push_str(text);
        Ok(())
    }

    fn push_char(&mut self, out: &mut Out, c: char) -> Result<()> {
        self.push(out, c.encode_utf8(&mut [0; 4]))
    }

    /// Expands until the end, or behind the character that stops.
    fn part(&mut self, chars: &mut Peekable<Chars<'_>>, mode: Mode, out: &mut Out) -> Result<()> {
        if mode.depth > limits::EXPANSION_DEPTH {
            return Err(Expansion::Depth);
        }
        while let Some(c) = chars.peek().copied() {
            if c == '$' {
                let value = self.variable(chars, mode)?;
                match &mut out.words {
                    Some(_) if mode.depth == 0 => self.split(out, &value)?,
                    _ => self.push(out, &value)?,
                }
                continue;
            }
            chars.next();
            match c {
                _ if Some(c) == mode.stop => return Ok(()),
                '\'' if !mode.raw_quotes => self.single(chars, out)?,
                '"' if !mode.raw_quotes => self.double(chars, mode, out)?,
                _ if c == self.escape => {
                    if mode.raw_escapes {
                        self.push_char(out, c)?;
                    }
                    // A last one has nothing to escape and goes.
                    if let Some(next) = chars.next() {
                        self.push_char(out, next)?;
                    }
                }
                _ if c.is_whitespace() && out.words.is_some() && mode.depth == 0 => out.end_word(),
                _ => self.push_char(out, c)?,
            }
        }
        match mode.stop {
            None => Ok(()),
            Some('/') => Err(Expansion::MissingSlash),
            Some(_) => Err(Expansion::MissingBrace),
        }
    }

    fn split(&mut self, out: &mut Out, value: &str) -> Result<()> {
        for (at, piece) in value.split(char::is_whitespace).enumerate() {
            if at > 0 {
                out.end_word();
            }
            if !piece.is_empty() {
                self.push(out, piece)?;
            }
        }
        Ok(())
    }

    fn single(&mut self, chars: &mut Peekable<Chars<'_>>, out: &mut Out) -> Result<()> {
        out.begun = true;
        for c in chars.by_ref() {
            if c == '\'' {
                return Ok(());
            }
            self.push_char(out, c)?;
        }
        Err(Expansion::Quote("single"))
    }

    fn double(&mut self, chars: &mut Peekable<Chars<'_>>, mode: Mode, out: &mut Out) -> Result<()> {
        out.begun = true;
        while let Some(c) = chars.peek().copied() {
            if c == '$' {
                let value = self.variable(chars, mode)?;
                self.push(out, &value)?;
                continue;
            }
            chars.next();
            match c {
                '"' => return Ok(()),
                _ if c == self.escape => {
                    let next = chars.next().ok_or(Expansion::Quote("double"))?;
                    let taken = next == '"' || next == '$' || next == self.escape;
                    if !taken || mode.raw_escapes {
                        self.push_char(out, c)?;
                    }
                    self.push_char(out, next)?;
                }
                _ => self.push_char(out, c)?,
            }
        }
        Err(Expansion::Quote("double"))
    }

    /// What begins with a dollar sign.
    fn variable(&mut self, chars: &mut Peekable<Chars<'_>>, mode: Mode) -> Result<String> {
        chars.next();
        self.burn(0)?;
        if chars.next_if_eq(&'{').is_none() {
            let name = name(chars);
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(self.value(&name)?.unwrap_or_default());
        }
        match chars.peek() {
            None => return Err(Expansion::MissingBrace),
            Some('}' | ':') => return Err(Expansion::BadSubstitution),
            Some(_) => {}
        }
        let name = name(chars);
        let inner = Mode { stop: Some('}'), raw_escapes: false, depth: mode.depth + 1, ..mode };
        let raw = Mode { raw_escapes: true, ..inner };
        match chars.next() {
            Some('}') => Ok(self.value(&name)?.unwrap_or_default()),
            Some(':') => {
                let modifier = chars.next().unwrap_or(char::REPLACEMENT_CHARACTER);
                let word = self.operand(chars, inner)?;
                match modifier {
                    '-' | '+' | '?' => self.default(&name, modifier, &word, true),
                    other => Err(Expansion::Modifier(format!(":{other}"))),
                }
            }
            Some(modifier @ ('-' | '+' | '?')) => {
                let word = self.operand(chars, inner)?;
                self.default(&name, modifier, &word, false)
            }
            Some(end @ ('#' | '%')) => {
                let longest = chars.next_if_eq(&end).is_some();
                let pattern = Pattern::parse(&self.operand(chars, raw)?)?;
                let value: Vec<char> = self.value(&name)?.unwrap_or_default().chars().collect();
                let rest = if end == '#' {
                    let cut = pattern.prefix(&value, longest, self.fuel)?;
                    &value[cut..]
                } else {
                    let cut = pattern.suffix(&value, longest, self.fuel)?;
                    &value[..value.len() - cut]
                };
                Ok(rest.iter().collect())
            }
            Some('/') => {
                let all = chars.next_if_eq(&'/').is_some();
                let pattern = Pattern::parse(&self.operand(chars, Mode { stop: Some('/'), ..raw })?)?;
                let replacement = self.operand(chars, raw)?;
                let value: Vec<char> = self.value(&name)?.unwrap_or_default().chars().collect();
                pattern.replace(&value, &replacement, all, self.fuel)
            }
            Some(other) => Err(Expansion::Modifier(other.to_string())),
            None => Err(Expansion::Modifier(char::REPLACEMENT_CHARACTER.to_string())),
        }
    }

    /// What is behind a modifier. Where the text ended on the way, that is the mistake, and not a quote in it.
    fn operand(&mut self, chars: &mut Peekable<Chars<'_>>, mode: Mode) -> Result<String> {
        let mut out = Out { text: String::new(), words: None, begun: false };
        match self.part(chars, mode, &mut out) {
            Err(Expansion::Quote(_)) if chars.peek().is_none() => {
                Err(if mode.stop == Some('/') { Expansion::MissingSlash } else { Expansion::MissingBrace })
            }
            result => result.map(|()| out.text),
        }
    }

    fn default(&mut self, name: &str, modifier: char, word: &str, empty_counts: bool) -> Result<String> {
        let value = self.value(name)?;
        let unset = value.is_none();
        let missing = unset || (empty_counts && value.as_deref() == Some(""));
        match (modifier, missing) {
            ('+', true) => Ok(String::new()),
            ('+', false) | ('-', true) => Ok(word.to_owned()),
            ('?', true) if !word.is_empty() => Err(Expansion::Message(name.to_owned(), word.to_owned())),
            ('?', true) if unset => Err(Expansion::Unset(name.to_owned())),
            ('?', true) => Err(Expansion::Empty(name.to_owned())),
            _ => Ok(value.unwrap_or_default()),
        }
    }

    fn value(&mut self, name: &str) -> Result<Option<String>> {
        let value = self.variables.value(name).map(str::to_owned);
        self.burn(name.len() + value.as_ref().map_or(0, String::len))?;
        if value.is_none() && !self.variables.declared(name) && !self.undefined.iter().any(|known| known == name) {
            // Who writes hundreds of names that do not exist is not told of each.
            if self.undefined.len() < limits::UNDEFINED {
                self.undefined.push(name.to_owned());
            }
        }
        Ok(value)
    }
}

impl Out {
    fn end_word(&mut self) {
        if std::mem::take(&mut self.begun) {
            let word = std::mem::take(&mut self.text);
            self.words.get_or_insert_default().push(word);
        }
    }
}

/// A name: a word, a number, or one of the shell's special parameters.
fn name(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut name = String::new();
    match chars.peek() {
        Some(c) if c.is_alphabetic() || *c == '_' => {
            while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                name.push(c);
            }
        }
        Some(c) if c.is_ascii_digit() => {
            while let Some(c) = chars.next_if(char::is_ascii_digit) {
                name.push(c);
            }
        }
        Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(chars.next()),
        _ => {}
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Variables for Fixed {
        fn value(&self, name: &str) -> Option<&str> {
            Some(match name {
                "a" => "1",
                "b" => "",
                "c" => "abcabc",
                "e" => "a.b.c",
                "s" => "x y",
                "u" => "héllo",
                "st" => "a*b?c",
                "bs" => "a\\\\b",
                "nl" => "x/y/z",
                _ => return None,
            })
        }

        fn declared(&self, name: &str) -> bool {
            name == "declared" || self.value(name).is_some()
        }
    }

    fn expand(text: &str) -> std::result::Result<String, String> {
        let mut fuel = limits::EXPANSION_WORK;
        Expander::new(&Fixed, '\\', &mut fuel).word(text).map_err(|error| error.to_string())
    }

    #[test]
    fn words_as_the_builder_expands_them() {
        let table = include_str!("../../tests/cases/words.tsv");
        let mut cases = 0;
        for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut columns = line.split('\t');
            let (word, kind, expected) =
                (columns.next().unwrap(), columns.next().unwrap(), columns.next().unwrap_or(""));
            let expected = if kind == "=" { Ok(expected.to_owned()) } else { Err(expected.to_owned()) };
            assert_eq!(expand(word), expected, "{word}");
            cases += 1;
        }
        assert!(cases > 150, "{cases}");
    }

    #[test]
    fn backticks_escape_where_they_are_chosen() {
        let mut fuel = 1000;
        let mut expander = Expander::new(&Fixed, '`', &mut fuel);
        for (text, value) in [
            ("a`\"b", "a\"b"),
            ("a\\b", "a\\b"),
            ("\"a`$b\"", "a$b"),
            ("\"a`bc\"", "a`bc"),
            ("${n:-`}}", "}"),
            ("${st#a`*}", "a*b?c"),
            ("${st#a\\*}", "b?c"),
            ("'a`'", "a`"),
        ] {
            assert_eq!(expander.word(text).unwrap(), value, "{text}");
        }
        assert_eq!(expander.undefined, ["n"]);
    }

    #[test]
    fn values_are_cut_into_words_outside_quotes() {
        let mut fuel = 1000;
        let mut expander = Expander::new(&Fixed, '\\', &mut fuel);
        assert_eq!(expander.words("1$s-\"$s\"").unwrap(), ["1x", "y-x y"]);
        assert_eq!(expander.words("$b$n").unwrap(), [""; 0]);
        assert_eq!(expander.words("\"\"").unwrap(), [""]);
    }

    #[test]
    fn documents_keep_their_quotes() {
        let mut fuel = 1000;
        let mut expander = Expander::new(&Fixed, '\\', &mut fuel);
        assert_eq!(
            expander.document("\"q\" '$a' \\n \\\" \\\\ \\$x ${c:-d}\\\nb").unwrap(),
            "\"q\" '1' n \" \\ $x abcabc\nb"
        );
    }

    #[test]
    fn growth_and_depth_are_bounded() {
        let deep = |n: usize| format!("{}x{}", "${n:-".repeat(n), "}".repeat(n));
        assert_eq!(expand(&deep(limits::EXPANSION_DEPTH)).unwrap(), "x");
        assert!(expand(&deep(limits::EXPANSION_DEPTH + 1)).unwrap_err().contains("within each other"));
        assert!(expand(&deep(100_000)).is_err());
        let long = "x".repeat(limits::EXPANSION);
        assert_eq!(expand(&long).unwrap().len(), limits::EXPANSION);
        assert!(expand(&format!("{long}x")).unwrap_err().contains("longer"));
        let mut fuel = 100;
        let mut expander = Expander::new(&Fixed, '\\', &mut fuel);
        assert_eq!(expander.word(&"$c".repeat(10)), Err(Expansion::Work));
        let stars = format!("${{c//{}b/x}}", "*?".repeat(1000));
        assert_eq!(expand(&stars).unwrap(), "abcabc");
    }
}
