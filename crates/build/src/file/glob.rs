//! Wildcards of one name: `*`, `?`, `[a-z]`, `[^a-z]` and a backslash before what is meant as it is.
//!
//! Names are bytes; what is no UTF-8 counts byte by byte. Matching takes at most the length of the pattern times that of
//! the name.

/// A pattern of one name.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug)]
enum Token {
    Char(u32),
    One,
    Star,
    Class { negated: bool, ranges: Vec<(u32, u32)> },
}

/// Whether a name of a path has wildcards.
pub(super) fn has_wildcards(name: &str) -> bool {
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

impl Glob {
    /// Reads a pattern; `None` when it is malformed, and nothing matches it.
    pub(super) fn parse(pattern: &str) -> Option<Self> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' if matches!(tokens.last(), Some(Token::Star)) => {}
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::One),
                '\\' => tokens.push(Token::Char(chars.next()?.into())),
                '[' => {
                    let negated = chars.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    loop {
                        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
                            break;
                        }
                        let first = bound(&mut chars)?;
                        let last = if chars.next_if_eq(&'-').is_some() { bound(&mut chars)? } else { first };
                        ranges.push((first, last));
                    }
                    tokens.push(Token::Class { negated, ranges });
                }
                c => tokens.push(Token::Char(c.into())),
            }
        }
        Some(Self { tokens })
    }

    /// Whether a name matches as a whole.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        // Where to go on when something does not match: behind the last star, which takes one more character then.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let step = match self.tokens.get(token) {
                None if at == name.len() => return true,
                Some(Token::Star) => {
                    retry = Some((token + 1, at));
                    token += 1;
                    continue;
                }
                Some(one) if at < name.len() => {
                    let (c, length) = next(&name[at..]);
                    one.accepts(c).then_some(length)
                }
                _ => None,
            };
            match (step, &mut retry) {
                (Some(length), _) => {
                    token += 1;
                    at += length;
                }
                (None, Some((after, from))) if *from < name.len() => {
                    *from += next(&name[*from..]).1;
                    (token, at) = (*after, *from);
                }
                _ => return false,
            }
        }
    }
}

impl Token {
    fn accepts(&self, c: u32) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::One => true,
            Self::Star => false,
            Self::Class { negated, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
        }
    }
}

/// One end of a range.
fn bound(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<u32> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next().map(u32::from),
        c => Some(c.into()),
    }
}

/// The first character of some bytes and its length; the replacement character for what is none.
fn next(bytes: &[u8]) -> (u32, usize) {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().map_or((char::REPLACEMENT_CHARACTER.into(), 1), |c| (c.into(), c.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_a_whole() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*.go", "a.go", true),
            ("*.go", "a.gox", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?", "ä", true),
            ("?", "ab", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[\\]]", "]", true),
            ("", "a", false),
        ] {
            assert_eq!(Glob::parse(pattern).unwrap().matches(name.as_bytes()), expected, "{pattern} {name}");
        }
        assert!(Glob::parse("a?*").unwrap().matches(b"a\xff\xfe"));
        for malformed in ["[", "[]", "[a", "a\\", "[a-]", "[^", "[-a]"] {
            assert!(Glob::parse(malformed).is_none(), "{malformed}");
        }
        assert!(has_wildcards("a*") && has_wildcards("[") && !has_wildcards("a\\*b"));
    }

    #[test]
    fn many_stars_end() {
        let glob = Glob::parse(&"a*".repeat(2000)).unwrap();
        assert!(!glob.matches(&b"a".repeat(255)));
        assert!(!Glob::parse(&format!("{}b", "*a".repeat(100))).unwrap().matches(&b"a".repeat(255)));
    }
}
