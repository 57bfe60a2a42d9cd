//! Parser directives: comments before everything else that say how the rest is read.
//!
//! The first line that is not one ends them, be it another comment, an empty line or an instruction. A `#!` line may stand
//! before those that the builder's client looks for (`syntax`, `check`), but not before `escape`.

use crate::error::{Error, Problem};
use crate::source::{Lines, Source, Span};

/// What the directives of a file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The character that escapes others and continues lines: backslash or backtick.
    pub escape: char,
    /// The frontend image that the file asks for, if it does.
    pub syntax: Option<Directive>,
    /// Rules for build checks, if it has any.
    pub check: Option<Directive>,
}

/// A directive's value and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Behind the equals sign, without blanks around it.
    pub value: String,
    /// The whole line.
    pub span: Span,
}

impl Default for Directives {
    fn default() -> Self {
        Self { escape: '\\', syntax: None, check: None }
    }
}

impl Directives {
    /// Reads them.
    ///
    /// # Errors
    /// A directive twice, or an escape character other than the two.
    pub fn parse(source: &Source) -> Result<Self, Error> {
        let mut directives = Self::default();
        let mut escaped = false;
        let shebang = source.line(1).starts_with("#!");
        for number in if shebang { 2 } else { 1 }..=source.lines() {
            let Some((key, value)) = directive(source.line(number), "#") else { break };
            let range = source.line_span(number);
            let span = Span::new(range.start, range.start + source.line(number).len());
            let fail = |problem| Error::of(problem).at_lines(Lines::one(number)).at(span);
            let once = |name, slot: &mut Option<Directive>| {
                let found = Directive { value: value.to_owned(), span };
                if slot.replace(found).is_some() { Err(fail(Problem::DirectiveTwice(name))) } else { Ok(()) }
            };
            match key.to_ascii_lowercase().as_str() {
                "syntax" => once("syntax", &mut directives.syntax)?,
                "check" => once("check", &mut directives.check)?,
                "escape" if escaped => return Err(fail(Problem::DirectiveTwice("escape"))),
                "escape" => {
                    escaped = true;
                    let token = match value {
                        "\\" => '\\',
                        "`" => '`',
                        _ => return Err(fail(Problem::EscapeToken(value.to_owned()))),
                    };
                    if !shebang {
                        directives.escape = token;
                    }
                }
                _ => break,
            }
        }
        Ok(directives)
    }
}

/// The frontend image that a file asks for, also in the forms of languages whose comments begin with `//`: such a file
/// is not a Dockerfile, but whoever builds it has to know.
#[must_use]
pub fn syntax(source: &Source) -> Option<String> {
    let first = if source.line(1).starts_with("#!") { 2 } else { 1 };
    ["#", "//"].into_iter().find_map(|comment| {
        (first..=source.lines()).map_while(|number| directive(source.line(number), comment)).find_map(|(key, value)| {
            key.eq_ignore_ascii_case("syntax").then(|| value.split_whitespace().next().unwrap_or(value).to_owned())
        })
    })
}

/// `# key = value`.
fn directive<'a>(line: &'a str, comment: &str) -> Option<(&'a str, &'a str)> {
    let (key, value) = line.strip_prefix(comment)?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let named =
        key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (named && !value.is_empty()).then_some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Directives, String> {
        let source = Source::new("Dockerfile", text.as_bytes()).unwrap();
        Directives::parse(&source).map_err(|error| error.to_string())
    }

    #[test]
    fn they_stand_first_or_nowhere() {
        assert_eq!(read("# escape = `\nFROM a").unwrap().escape, '`');
        assert_eq!(read("#EsCaPe=`\r\n").unwrap().escape, '`');
        for text in
            ["# a comment\n# escape=`", "\n# escape=`", "FROM a\n# escape=`", "# other=x\n# escape=`", "# escape="]
        {
            assert_eq!(read(text).unwrap(), Directives::default(), "{text}");
        }
        let both = read("# syntax=docker/dockerfile:1\n# check=skip=all\n").unwrap();
        assert_eq!(
            (both.syntax.unwrap().value, both.check.unwrap().value),
            ("docker/dockerfile:1".into(), "skip=all".into())
        );
        assert_eq!(read("#!/bin/x\n# check=skip=all\n").unwrap().check.unwrap().span, Span::new(9, 25));
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(read("# escape=x").unwrap_err(), "invalid escape token 'x' does not match ` or \\");
        assert_eq!(read("# escape=`\n# escape=`").unwrap_err(), "only one escape parser directive can be used");
        assert_eq!(read("# check=a\n# check=b").unwrap_err(), "only one check parser directive can be used");
    }

    #[test]
    fn frontends_are_found_in_other_languages_too() {
        let find = |text: &str| syntax(&Source::new("Dockerfile", text.as_bytes()).unwrap());
        assert_eq!(find("// syntax=a/b:1\nx"), Some("a/b:1".into()));
        assert_eq!(find("#!/bin/x\n# syntax = a/b x\n"), Some("a/b".into()));
        assert_eq!(find("FROM a\n# syntax=b"), None);
    }
}
