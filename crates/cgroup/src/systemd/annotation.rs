//! Properties of a unit from annotations of a container: `org.systemd.property.NAME` with a value in
//! GVariant's text form (<https://docs.gtk.org/glib/gvariant-text-format.html>), as runc and crun take them.
//!
//! Invariant: what is not understood whole is refused, not passed on in part.

use super::error::Error;
use dbus::Value;

/// What the names of such annotations begin with.
pub const ANNOTATION_PREFIX: &str = "org.systemd.property.";
/// Deepest nesting of a value.
const MAX_DEPTH: usize = 8;
/// Longest text of a value.
const MAX_TEXT: usize = 64 << 10;

/// The property for the annotation `org.systemd.property.NAME` with the value `text`. A name that ends with `Sec`
/// is understood in seconds and becomes the one in microseconds, `USec`, which is what systemd takes.
///
/// # Errors
/// [`Error::Property`]
pub fn property_of_annotation(name: &str, text: &str) -> Result<(String, Value), Error> {
    let refuse = |reason| Error::Property {
        name: name.chars().take(80).collect(),
        text: text.chars().take(80).collect(),
        reason,
    };
    if name.len() < 3 || name.len() > 100 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err(refuse("a property's name has three Latin letters or more and nothing else"));
    }
    if text.len() > MAX_TEXT {
        return Err(refuse("the value is too long"));
    }
    let value = parse(text).ok_or_else(|| {
        refuse("the value is not in GVariant's text form: strings are quoted, numbers of another type than int32 have it before them, as in `uint64 5`")
    })?;
    match name.strip_suffix("Sec") {
        Some(stem) if stem.ends_with(|c: char| c.is_ascii_lowercase()) => {
            let microseconds = seconds(&value).ok_or_else(|| refuse("seconds are a number that is not negative"))?;
            Ok((format!("{stem}USec"), Value::U64(microseconds)))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

/// Microseconds of so many seconds.
fn seconds(value: &Value) -> Option<u64> {
    let whole = match value {
        Value::Byte(n) => u64::from(*n),
        Value::U16(n) => u64::from(*n),
        Value::U32(n) => u64::from(*n),
        Value::U64(n) => *n,
        Value::I16(n) => u64::try_from(*n).ok()?,
        Value::I32(n) => u64::try_from(*n).ok()?,
        Value::I64(n) => u64::try_from(*n).ok()?,
        Value::Double(n) if (0.0..=1e12).contains(n) => return Some((n * 1e6) as u64),
        _ => return None,
    };
    whole.checked_mul(1_000_000)
}

fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text.trim() };
    let value = parser.value(None, 0)?;
    parser.blank();
    parser.rest.is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes `token` if it comes next.
    fn eat(&mut self, token: &str) -> bool {
        self.blank();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// The next characters up to one that cannot be part of a word or number.
    fn word(&mut self) -> &'a str {
        self.blank();
        let end =
            self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c))).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A value; `kind` is its type where one was written before it.
    fn value(&mut self, kind: Option<&str>, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.blank();
        match self.rest.chars().next()? {
            '@' => {
                let end = self.rest.find(char::is_whitespace)?;
                let (signature, rest) = self.rest.split_at(end);
                self.rest = rest;
                self.value(Some(&signature[1..]), depth + 1)
            }
            '\'' | '"' => {
                let text = self.string()?;
                match kind.unwrap_or("s") {
                    "s" => Some(Value::Str(text)),
                    "o" => Some(Value::Path(text)),
                    "g" => Some(Value::Signature(text)),
                    _ => None,
                }
            }
            '[' => {
                let element = match kind {
                    Some(kind) => Some(kind.strip_prefix('a')?),
                    None => None,
                };
                self.eat("[");
                let list = self.list("]", |parser| parser.value(element, depth + 1))?;
                let signature = match (element, list.first()) {
                    (Some(element), _) => element.to_owned(),
                    (None, Some(first)) => first.signature(),
                    // An empty array has a type only if one is written before it.
                    (None, None) => return None,
                };
                list.iter().all(|v| v.signature() == signature).then_some(Value::Array(signature, list))
            }
            '(' => {
                self.eat("(");
                let list = self.list(")", |parser| parser.value(None, depth + 1))?;
                let value = Value::Struct(list);
                kind.is_none_or(|kind| kind == value.signature()).then_some(value)
            }
            '<' => {
                self.eat("<");
                let inner = self.value(None, depth + 1)?;
                (self.eat(">") && kind.is_none_or(|kind| kind == "v")).then(|| Value::Variant(Box::new(inner)))
            }
            _ => self.scalar(kind, depth),
        }
    }

    fn list(&mut self, close: &str, mut one: impl FnMut(&mut Self) -> Option<Value>) -> Option<Vec<Value>> {
        let mut list = Vec::new();
        while !self.eat(close) {
            if !list.is_empty() && !self.eat(",") {
                return None;
            }
            // A comma may end the list, as in the tuple of one `(1,)`.
            if self.eat(close) {
                break;
            }
            list.push(one(self)?);
        }
        Some(list)
    }

    fn scalar(&mut self, kind: Option<&str>, depth: usize) -> Option<Value> {
        let word = self.word();
        let named = match word {
            "true" | "false" => {
                return kind.is_none_or(|k| k == "b").then_some(Value::Bool(word == "true"));
            }
            "boolean" => "b",
            "byte" => "y",
            "int16" => "n",
            "uint16" => "q",
            "int32" => "i",
            "uint32" => "u",
            "int64" => "x",
            "uint64" => "t",
            "double" => "d",
            "string" => "s",
            "objectpath" => "o",
            "signature" => "g",
            _ => return number(word, kind),
        };
        if kind.is_some_and(|k| k != named) {
            return None;
        }
        self.value(Some(named), depth + 1)
    }

    fn string(&mut self) -> Option<String> {
        let mut chars = self.rest.char_indices();
        let (_, quote) = chars.next()?;
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Some(text);
                }
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    plain @ ('\\' | '\'' | '"') => text.push(plain),
                    _ => return None,
                },
                '\0' => return None,
                _ => text.push(c),
            }
        }
        None
    }
}

fn number(word: &str, kind: Option<&str>) -> Option<Value> {
    let kind = kind.unwrap_or(if word.contains('.') { "d" } else { "i" });
    if kind == "d" {
        return word.parse().ok().filter(|n: &f64| n.is_finite()).map(Value::Double);
    }
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    };
    let n = match digits.strip_prefix("0x") {
        Some(hex) => i128::from(u64::from_str_radix(hex, 16).ok()?),
        None if digits.bytes().all(|b| b.is_ascii_digit()) => i128::from(digits.parse::<u64>().ok()?),
        None => return None,
    } * sign;
    Some(match kind {
        "y" => Value::Byte(n.try_into().ok()?),
        "n" => Value::I16(n.try_into().ok()?),
        "q" => Value::U16(n.try_into().ok()?),
        "i" => Value::I32(n.try_into().ok()?),
        "u" => Value::U32(n.try_into().ok()?),
        "x" => Value::I64(n.try_into().ok()?),
        "t" => Value::U64(n.try_into().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_values() {
        for (text, value) in [
            ("true", Value::Bool(true)),
            ("5", Value::I32(5)),
            ("-0x10", Value::I32(-16)),
            ("uint64 123456789", Value::U64(123_456_789)),
            ("@t 7", Value::U64(7)),
            ("byte 255", Value::Byte(255)),
            ("1.5", Value::Double(1.5)),
            ("'inactive-or-failed'", Value::Str("inactive-or-failed".into())),
            ("\"it's \\\"so\\\"\"", Value::Str("it's \"so\"".into())),
            ("objectpath '/a'", Value::Path("/a".into())),
            ("['a', 'b']", Value::strings(["a", "b"])),
            ("@as []", Value::strings([])),
            ("[byte 1, 2]", Value::Array("y".into(), vec![Value::Byte(1)])),
            ("<true>", Value::Variant(Box::new(Value::Bool(true)))),
            (
                "[('/dev/null', 'rw')]",
                Value::Array(
                    "(ss)".into(),
                    vec![Value::Struct(vec![Value::Str("/dev/null".into()), Value::Str("rw".into())])],
                ),
            ),
            ("(1,)", Value::Struct(vec![Value::I32(1)])),
        ] {
            // Elements of a list are of one type: a type before the first does not carry over here.
            if text == "[byte 1, 2]" {
                assert_eq!(parse(text), None);
            } else {
                assert_eq!(parse(text), Some(value), "{text}");
            }
        }
        for bad in [
            "",
            "x",
            "'open",
            "5 6",
            "[1, 'a']",
            "[]",
            "byte 256",
            "uint32 -1",
            "@as [1]",
            "true false",
            "(1",
            "'a\\x'",
            "<1",
            "int32",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&"[".repeat(100)), None);
    }

    #[test]
    fn properties_of_annotations() {
        let of = |name, text| property_of_annotation(name, text);
        assert_eq!(of("CollectMode", "'inactive-or-failed'").unwrap().0, "CollectMode");
        assert_eq!(of("TimeoutStopSec", "30").unwrap(), ("TimeoutStopUSec".into(), Value::U64(30_000_000)));
        assert_eq!(of("TimeoutStopSec", "0.5").unwrap(), ("TimeoutStopUSec".into(), Value::U64(500_000)));
        assert_eq!(of("TimeoutStopUSec", "uint64 9").unwrap(), ("TimeoutStopUSec".into(), Value::U64(9)));
        for (name, text) in
            [("Ab", "1"), ("With-Dash", "1"), ("Fine", "no quotes"), ("TimeoutSec", "-1"), ("TimeoutSec", "'x'")]
        {
            assert!(matches!(of(name, text), Err(Error::Property { .. })), "{name} {text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\](){}<>@'\"\\\\ a-z0-9,.-]{0,60}") {
            let _ = parse(&text);
        }
    }
}
