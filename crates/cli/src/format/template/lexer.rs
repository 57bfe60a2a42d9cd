//! Splits a template into text and the words of its actions, trimming spaces where `{{-` and `-}}` ask for it.

use super::Error;

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `.a.b` or `.`; empty for a lone dot.
    Field(Vec<String>),
    /// `$x.a`; the name is without the dollar, empty for `$`.
    Variable(String, Vec<String>),
    Word(String),
    Text(String),
    Int(i64),
    Float(f64),
    Open,
    /// A closing parenthesis with the fields taken from its value.
    Close(Vec<String>),
    Pipe,
    Declare,
    Assign,
    Comma,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

pub(super) fn pieces(template: &str) -> Result<Vec<Piece>, Error> {
    let mut out = Vec::new();
    let mut rest = template;
    let mut trim_next = false;
    loop {
        let open = rest.find("{{");
        let mut text = &rest[..open.unwrap_or(rest.len())];
        if trim_next {
            text = text.trim_start();
        }
        let Some(open) = open else {
            push_text(&mut out, text);
            return Ok(out);
        };
        let mut body = &rest[open + 2..];
        if body.starts_with("- ") || body.starts_with("-\t") || body.starts_with("-\n") {
            text = text.trim_end();
            body = &body[1..];
        }
        push_text(&mut out, text);
        let comment = body.trim_start();
        if comment.starts_with("/*") {
            let end = comment.find("*/").ok_or_else(|| Error("template: :1: unclosed comment".into()))?;
            let tail = comment[end + 2..].trim_start();
            let (trim, after) = match tail.strip_prefix("-}}") {
                Some(after) => (true, after),
                None => (
                    false,
                    tail.strip_prefix("}}")
                        .ok_or_else(|| Error("template: :1: comment ends before closing delimiter".into()))?,
                ),
            };
            (trim_next, rest) = (trim, after);
            continue;
        }
        let (tokens, after, trim) = action(body)?;
        out.push(Piece::Action(tokens));
        (trim_next, rest) = (trim, after);
    }
}

fn push_text(out: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        out.push(Piece::Text(text.to_owned()));
    }
}

/// Words of one action, what follows it, and whether that is to be trimmed.
fn action(body: &str) -> Result<(Vec<Token>, &str, bool), Error> {
    let mut tokens = Vec::new();
    let mut rest = body;
    loop {
        let spaced = rest.len();
        rest = rest.trim_start();
        let had_space = rest.len() != spaced;
        if let Some(after) = rest.strip_prefix("}}") {
            return Ok((tokens, after, false));
        }
        if had_space && let Some(after) = rest.strip_prefix("-}}") {
            return Ok((tokens, after, true));
        }
        let Some(first) = rest.chars().next() else { return Err(Error("template: :1: unclosed action".into())) };
        let (token, used) = match first {
            '(' => (Token::Open, 1),
            '|' => (Token::Pipe, 1),
            ',' => (Token::Comma, 1),
            '=' => (Token::Assign, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            ')' => {
                let (fields, used) = chain(&rest[1..]);
                (Token::Close(fields), used + 1)
            }
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let (fields, used) = chain(rest);
                if fields.is_empty() { (Token::Field(fields), 1) } else { (Token::Field(fields), used) }
            }
            '$' => {
                let name = name_length(&rest[1..]);
                let (fields, used) = chain(&rest[1 + name..]);
                (Token::Variable(rest[1..1 + name].to_owned(), fields), 1 + name + used)
            }
            '"' | '`' | '\'' => quoted(rest, first)?,
            c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => number(rest)?,
            c if c.is_alphabetic() || c == '_' => {
                let used = name_length(rest);
                (Token::Word(rest[..used].to_owned()), used)
            }
            c => return Err(Error(format!("template: :1: unexpected {c:?} in command"))),
        };
        tokens.push(token);
        rest = &rest[used..];
    }
}

fn name_length(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// `.a.b` → its names and length.
fn chain(text: &str) -> (Vec<String>, usize) {
    let (mut fields, mut at) = (Vec::new(), 0);
    while text[at..].starts_with('.') {
        let length = name_length(&text[at + 1..]);
        if length == 0 {
            break;
        }
        fields.push(text[at + 1..at + 1 + length].to_owned());
        at += 1 + length;
    }
    (fields, at)
}

fn quoted(text: &str, quote: char) -> Result<(Token, usize), Error> {
    let open = || Error("template: :1: unterminated quoted string".into());
    let mut out = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, c)) = letters.next() {
        if c == quote {
            if quote == '\'' {
                // A character constant is a number in Go.
                let mut inner = out.chars();
                return match (inner.next(), inner.next()) {
                    (Some(c), None) => Ok((Token::Int(i64::from(u32::from(c))), at + 1)),
                    _ => Err(Error("template: :1: malformed character constant".into())),
                };
            }
            return Ok((Token::Text(out), at + 1));
        }
        if c == '\\' && quote != '`' {
            match letters.next().ok_or_else(open)?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                c @ ('\\' | '"' | '\'') => out.push(c),
                'u' => {
                    let digits: String = letters.by_ref().take(4).map(|(_, c)| c).collect();
                    let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    out.push(code.ok_or_else(|| Error("template: :1: bad escape in quoted string".into()))?);
                }
                _ => return Err(Error("template: :1: bad escape in quoted string".into())),
            }
        } else if c == '\n' && quote != '`' {
            return Err(open());
        } else {
            out.push(c);
        }
    }
    Err(open())
}

fn number(text: &str) -> Result<(Token, usize), Error> {
    let end =
        text[1..].find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_')).map_or(text.len(), |at| at + 1);
    let word = &text[..end];
    let plain = word.replace('_', "");
    let whole = match plain.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => plain.parse().ok(),
    };
    match whole {
        Some(number) => Ok((Token::Int(number), end)),
        None => match plain.parse() {
            Ok(number) => Ok((Token::Float(number), end)),
            Err(_) => Err(Error(format!("template: :1: bad number syntax: {word:?}"))),
        },
    }
}
