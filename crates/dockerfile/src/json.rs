//! The JSON that Dockerfiles have: a list of strings. RFC 8259 without extensions, since what does not follow it is a
//! command line for a shell. Strings come with the bytes they were written in.

use std::ops::Range;

use crate::limits;

/// Why a text is no list of strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoList {
    /// No list at all, or one with a mistake.
    NotJson,
    /// A list with something else in it.
    NotStrings,
    /// Longer than lists may be.
    TooMany,
}

/// The elements of a list.
pub(crate) fn strings(text: &str) -> Result<Vec<(String, Range<usize>)>, NoList> {
    let mut reader = Reader { text, at: 0 };
    reader.blank();
    reader.expect(b'[')?;
    let mut found = Vec::new();
    let mut others = false;
    reader.blank();
    if !reader.take(b']') {
        loop {
            reader.blank();
            let start = reader.at;
            match reader.peek() {
                Some(b'"') => {
                    let string = reader.string()?;
                    if found.len() == limits::WORDS {
                        return Err(NoList::TooMany);
                    }
                    found.push((string, start..reader.at));
                }
                _ => {
                    reader.skip()?;
                    others = true;
                }
            }
            reader.blank();
            if reader.take(b']') {
                break;
            }
            reader.expect(b',')?;
        }
    }
    reader.blank();
    match (reader.at == text.len(), others) {
        (false, _) => Err(NoList::NotJson),
        (true, true) => Err(NoList::NotStrings),
        (true, false) => Ok(found),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, NoList> {
        let byte = self.peek().ok_or(NoList::NotJson)?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), NoList> {
        if self.take(byte) { Ok(()) } else { Err(NoList::NotJson) }
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Result<String, NoList> {
        self.expect(b'"')?;
        let mut string = String::new();
        loop {
            let start = self.at;
            let rest = self.text.get(start..).ok_or(NoList::NotJson)?;
            let length = rest.find(|c| matches!(c, '"' | '\\' | '\0'..='\u{1f}')).ok_or(NoList::NotJson)?;
            string.push_str(&rest[..length]);
            self.at += length;
            match self.next()? {
                b'"' => return Ok(string),
                b'\\' => string.push(self.escaped()?),
                _ => return Err(NoList::NotJson),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, NoList> {
        Ok(match self.next()? {
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.unit()?;
                if !(0xd800..0xe000).contains(&unit) {
                    return Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                let after_first = self.at;
                if unit < 0xdc00 && self.take(b'\\') && self.take(b'u') {
                    let second = self.unit()?;
                    if (0xdc00..0xe000).contains(&second) {
                        let both = 0x10000 + ((unit - 0xd800) << 10) + (second - 0xdc00);
                        return Ok(char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                }
                // A surrogate without its other half, as Go has it.
                self.at = after_first;
                char::REPLACEMENT_CHARACTER
            }
            _ => return Err(NoList::NotJson),
        })
    }

    fn unit(&mut self) -> Result<u32, NoList> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(NoList::NotJson)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoList::NotJson);
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| NoList::NotJson)
    }

    /// Goes over any other value. What it nests in is counted, not recursed into.
    fn skip(&mut self) -> Result<(), NoList> {
        let mut open = Vec::new();
        loop {
            self.blank();
            match self.next()? {
                byte @ (b'[' | b'{') => {
                    if open.len() == limits::JSON_DEPTH {
                        return Err(NoList::NotJson);
                    }
                    self.blank();
                    let close = if byte == b'[' { b']' } else { b'}' };
                    if !self.take(close) {
                        open.push(close);
                        if close == b'}' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.at -= 1;
                    self.string()?;
                }
                b't' => self.literal("rue")?,
                b'f' => self.literal("alse")?,
                b'n' => self.literal("ull")?,
                byte @ (b'-' | b'0'..=b'9') => self.number(byte)?,
                _ => return Err(NoList::NotJson),
            }
            loop {
                let Some(close) = open.last().copied() else { return Ok(()) };
                self.blank();
                if self.take(close) {
                    open.pop();
                    continue;
                }
                self.expect(b',')?;
                if close == b'}' {
                    self.key()?;
                }
                break;
            }
        }
    }

    fn key(&mut self) -> Result<(), NoList> {
        self.blank();
        self.string()?;
        self.blank();
        self.expect(b':')
    }

    fn literal(&mut self, rest: &str) -> Result<(), NoList> {
        rest.bytes().try_for_each(|byte| self.expect(byte))
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self, first: u8) -> Result<(), NoList> {
        let first = if first == b'-' { self.next()? } else { first };
        if !first.is_ascii_digit() {
            return Err(NoList::NotJson);
        }
        if first != b'0' {
            self.digits();
        }
        if self.take(b'.') && self.digits() == 0 {
            return Err(NoList::NotJson);
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'-') {
                self.take(b'+');
            }
            if self.digits() == 0 {
                return Err(NoList::NotJson);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, NoList> {
        strings(text).map(|found| found.into_iter().map(|(string, _)| string).collect())
    }

    #[test]
    fn lists_of_strings() {
        assert_eq!(read("[]").unwrap(), [""; 0]);
        assert_eq!(read(" [ \"a\" , \"b c\" ] ").unwrap(), ["a", "b c"]);
        assert_eq!(
            read(r#"["\"\\\/\b\f\n\r\t\u0041\ud83d\ude00\ud83dx"]"#).unwrap(),
            ["\"\\/\u{8}\u{c}\n\r\tA😀\u{fffd}x"]
        );
        assert_eq!(strings("[\"é\",\"b\"]").unwrap()[1], ("b".to_owned(), 6..9));
    }

    #[test]
    fn what_is_no_json_is_for_a_shell() {
        for text in [
            "",
            "[",
            "[a]",
            "[\"a\"",
            "[\"a\",]",
            "['a']",
            "[\"a\"] b",
            "[\"\\q\"]",
            "[\"a\tb\"]",
            "{}",
            "[01]",
            "[-]",
            "[1.]",
            "[1e]",
            "[\"\\u12\"]",
            "[{\"a\"}]",
            "[[\"a\"]",
            "[tru]",
            "[,]",
            "[\"\\u00é\"]",
        ] {
            assert_eq!(read(text), Err(NoList::NotJson), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert_eq!(read(&deep), Err(NoList::NotJson));
    }

    #[test]
    fn lists_of_other_things_are_mistakes() {
        for text in ["[1]", "[\"a\",-0.5e+3]", "[null]", "[[\"a\"], true]", "[{\"a\":[{}],\"b\":[1,2]},false]"] {
            assert_eq!(read(text), Err(NoList::NotStrings), "{text}");
        }
    }
}
