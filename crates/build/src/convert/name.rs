//! What steps are called where people see them: `[stage 2/5] RUN make`, with variables in place of their names where they
//! have a value, and Go's form of quoted words, which histories have.

use std::fmt::Write as _;

use types::Platform;

/// Longest text of a name with its variables replaced; beyond it they stay as written.
const LONGEST: usize = 64 << 10;

/// Replaces `$NAME` and `${NAME}` of what has a value. With `shell`, quotes and what has no value stay; otherwise quotes
/// go and what has no value is nothing.
pub(super) fn expanded<'a>(text: &str, shell: bool, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut single = false;
    while let Some(at) = rest.find(['$', '\\', '\'', '"']) {
        out.push_str(&rest[..at]);
        let found = &rest[at..];
        let mut length = 1;
        match found.as_bytes()[0] {
            b'\'' | b'"' if shell => {
                single ^= found.starts_with('\'');
                out.push_str(&found[..1]);
            }
            b'\'' | b'"' => {}
            b'\\' => {
                length = 1 + found[1..].chars().next().map_or(0, char::len_utf8);
                out.push_str(if shell { &found[..length] } else { &found[1..length] });
            }
            _ => match variable(found).filter(|_| !single) {
                Some((name, end)) => {
                    length = end;
                    match value(name) {
                        Some(value) => out.push_str(value),
                        None if shell => out.push_str(&found[..end]),
                        None => {}
                    }
                }
                None => out.push('$'),
            },
        }
        if out.len() > LONGEST.max(text.len()) {
            return text.to_owned();
        }
        rest = &found[length..];
    }
    out.push_str(rest);
    out
}

/// The name that a `$` begins, and where it ends.
fn variable(text: &str) -> Option<(&str, usize)> {
    let name = |text: &str| text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let starts = |text: &str| !text.starts_with(|c: char| c.is_ascii_digit());
    match text[1..].strip_prefix('{') {
        Some(inner) => {
            let length = name(inner);
            let whole = length > 0 && starts(inner) && inner[length..].starts_with('}');
            whole.then(|| (&inner[..length], length + 3))
        }
        None => {
            let length = name(&text[1..]);
            (length > 0 && starts(&text[1..])).then(|| (&text[1..=length], length + 1))
        }
    }
}

/// The first word in capitals.
pub(super) fn capitals(text: &str) -> String {
    match text.split_once(' ') {
        Some((word, rest)) => format!("{} {rest}", word.to_uppercase()),
        None => text.to_uppercase(),
    }
}

/// The first line of a document, and whether there is more.
pub(super) fn summary(document: &str) -> String {
    let document = document.trim();
    match document.split_once('\n') {
        Some((first, _)) => format!("{}...", first.trim_end_matches('\r')),
        None => document.to_owned(),
    }
}

/// What Go's `%q` makes of words.
pub(super) fn quoted(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", words.join(" "))
}

/// What Go's `%q` makes of a number.
pub(super) fn character(number: i64) -> String {
    let c = u32::try_from(number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    match c {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        c => {
            let quoted = quote(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", quoted.trim_matches('"'))
        }
    }
}

fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() || (c.is_whitespace() && c != ' ') || c == '\u{feff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// How a stage's steps are counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    /// The stage's name; empty when the file has only one.
    pub(super) stage: String,
    /// How many steps it has.
    pub(super) total: usize,
    /// How many have been named.
    pub(super) index: usize,
    /// Platforms come first, when there are several builds at a time.
    pub(super) platform: Option<Platform>,
}

impl Counter {
    /// The name of the next step.
    pub(super) fn next(&mut self, text: &str, trigger: bool, target: Option<&Platform>) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        self.index += 1;
        let mut out = "[".to_owned();
        if let Some(platform) = &self.platform {
            let _ = write!(out, "{platform}");
            match target {
                Some(target) if target.os != platform.os => {
                    let _ = write!(out, "->{target}");
                }
                Some(target) if target.arch != platform.arch => {
                    let variant =
                        if target.variant.is_empty() { String::new() } else { format!("/{}", target.variant) };
                    let _ = write!(out, "->{}{variant}", target.arch);
                }
                _ => {}
            }
            out.push(' ');
        }
        if !self.stage.is_empty() {
            let _ = write!(out, "{} ", self.stage);
        }
        let width = self.total.to_string().len();
        let _ = write!(out, "{:width$}/{}] {}{text}", self.index, self.total, if trigger { "ONBUILD " } else { "" });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_in_names() {
        let value = |name: &str| (name == "A").then_some("1");
        assert_eq!(
            expanded("RUN echo $A \"${A}\" $B '$A' \\$A ${B:-x} $", true, value),
            "RUN echo 1 \"1\" $B '$A' \\$A ${B:-x} $"
        );
        assert_eq!(expanded("COPY \"$A b\" $B c\\ é", false, value), "COPY 1 b  c é");
        let long = "x".repeat(LONGEST);
        assert_eq!(expanded("$A$A", true, |_| Some(&long)), "$A$A");
    }

    #[test]
    fn words_as_go_quotes_them() {
        let words = ["a\"b".to_owned(), "é\n\u{1}\u{85}\\".to_owned()];
        assert_eq!(quoted(&words), r#"["a\"b" "é\n\x01\u0085\\"]"#);
    }

    #[test]
    fn numbers_as_go_quotes_them() {
        for (number, text) in [(0, r"'\x00'"), (3, r"'\x03'"), (10, r"'\n'"), (34, "'\"'"), (39, r"'\''"), (65, "'A'")]
        {
            assert_eq!(character(number), text);
        }
    }

    #[test]
    fn steps_are_counted() {
        let mut counter = Counter { total: 10, stage: "a".to_owned(), ..Counter::default() };
        assert_eq!(counter.next("RUN x", false, None), "[a  1/10] RUN x");
        counter.platform = Some(Platform::new("linux", "amd64", ""));
        let arm = Platform::new("linux", "arm", "v7");
        assert_eq!(counter.next("RUN x", true, Some(&arm)), "[linux/amd64->arm/v7 a  2/10] ONBUILD RUN x");
    }
}
