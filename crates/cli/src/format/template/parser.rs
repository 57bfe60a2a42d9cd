//! Builds the tree of a template from its pieces. Nesting is bounded by [`MAX_DEPTH`], so that no text can exhaust the
//! stack here or while it runs.

use super::{
    Error, Value, functions,
    lexer::{Piece, Token, pieces},
};

/// Deepest nesting of blocks and parentheses.
const MAX_DEPTH: usize = 100;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    If { test: Pipeline, then: Vec<Node>, other: Vec<Node> },
    With { value: Pipeline, then: Vec<Node>, other: Vec<Node> },
    Range { value: Pipeline, body: Vec<Node>, other: Vec<Node> },
    Break,
    Continue,
}

#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    /// Variables the result is put into.
    pub(super) variables: Vec<String>,
    /// Whether they are new.
    pub(super) declares: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Clone, Debug)]
pub(super) enum Operand {
    Constant(Value),
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Nested(Box<Pipeline>, Vec<String>),
}

/// How a list of nodes ended.
#[derive(Debug, PartialEq)]
enum Stop {
    Eof,
    End,
    /// `else`, with the words after it.
    Else(Vec<Token>),
}

pub(super) fn parse(template: &str) -> Result<Vec<Node>, Error> {
    let mut rest = pieces(template)?.into_iter();
    match nodes(&mut rest, 0)? {
        (nodes, Stop::Eof) => Ok(nodes),
        (_, Stop::End) => Err(fail("unexpected {{end}}")),
        (_, Stop::Else(_)) => Err(fail("unexpected {{else}}")),
    }
}

fn fail(text: impl AsRef<str>) -> Error {
    Error(format!("template: :1: {}", text.as_ref()))
}

fn nodes(rest: &mut impl Iterator<Item = Piece>, depth: usize) -> Result<(Vec<Node>, Stop), Error> {
    if depth > MAX_DEPTH {
        return Err(fail("blocks are nested too deeply"));
    }
    let mut out = Vec::new();
    while let Some(piece) = rest.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                out.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        let Some(Token::Word(word)) = tokens.first() else {
            out.push(Node::Print(pipeline(&tokens)?));
            continue;
        };
        match word.as_str() {
            "end" => return Ok((out, Stop::End)),
            "else" => return Ok((out, Stop::Else(tokens[1..].to_vec()))),
            "break" => out.push(Node::Break),
            "continue" => out.push(Node::Continue),
            "if" | "with" | "range" => out.push(block(word, &tokens[1..], rest, depth)?),
            "template" | "define" | "block" => return Err(fail(format!("{{{{{word}}}}} is not supported here"))),
            _ => out.push(Node::Print(pipeline(&tokens)?)),
        }
    }
    Ok((out, Stop::Eof))
}

fn block(word: &str, tokens: &[Token], rest: &mut impl Iterator<Item = Piece>, depth: usize) -> Result<Node, Error> {
    if depth > MAX_DEPTH {
        return Err(fail("blocks are nested too deeply"));
    }
    let head = pipeline(tokens)?;
    if head.commands.is_empty() {
        return Err(fail(format!("missing value for {word}")));
    }
    let (then, end) = nodes(rest, depth + 1)?;
    let other = match end {
        Stop::End => Vec::new(),
        Stop::Eof => return Err(fail("unexpected EOF")),
        Stop::Else(words) => match words.first() {
            None => match nodes(rest, depth + 1)? {
                (other, Stop::End) => other,
                (_, Stop::Eof) => return Err(fail("unexpected EOF")),
                (_, Stop::Else(_)) => return Err(fail("expected end; found {{else}}")),
            },
            // `else if` is a block of its own that shares this one's end.
            Some(Token::Word(next)) if next == word && word != "range" => {
                vec![block(word, &words[1..], rest, depth + 1)?]
            }
            Some(_) => return Err(fail("unexpected word after {{else}}")),
        },
    };
    Ok(match word {
        "if" => Node::If { test: head, then, other },
        "with" => Node::With { value: head, then, other },
        _ => Node::Range { value: head, body: then, other },
    })
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline, Error> {
    let mut at = 0;
    let parsed = commands(tokens, &mut at, 0)?;
    match tokens.get(at) {
        None => Ok(parsed),
        Some(Token::Close(_)) => Err(fail("unexpected right paren")),
        Some(_) => Err(fail("unexpected word in command")),
    }
}

fn commands(tokens: &[Token], at: &mut usize, depth: usize) -> Result<Pipeline, Error> {
    if depth > MAX_DEPTH {
        return Err(fail("parentheses are nested too deeply"));
    }
    let mut out = Pipeline { variables: Vec::new(), declares: false, commands: Vec::new() };
    match &tokens[*at..] {
        [Token::Variable(name, fields), sign @ (Token::Declare | Token::Assign), ..] if fields.is_empty() => {
            (out.variables, out.declares) = (vec![name.clone()], *sign == Token::Declare);
            *at += 2;
        }
        [
            Token::Variable(first, _),
            Token::Comma,
            Token::Variable(second, _),
            sign @ (Token::Declare | Token::Assign),
            ..,
        ] => {
            (out.variables, out.declares) = (vec![first.clone(), second.clone()], *sign == Token::Declare);
            *at += 4;
        }
        _ => {}
    }
    let mut command = Vec::new();
    while let Some(token) = tokens.get(*at) {
        match token {
            Token::Close(_) => break,
            Token::Pipe => {
                if command.is_empty() {
                    return Err(fail("missing value for command"));
                }
                out.commands.push(std::mem::take(&mut command));
            }
            Token::Open => {
                *at += 1;
                let inner = commands(tokens, at, depth + 1)?;
                let Some(Token::Close(fields)) = tokens.get(*at) else { return Err(fail("unclosed left paren")) };
                if inner.commands.is_empty() {
                    return Err(fail("missing value for parenthesized pipeline"));
                }
                command.push(Operand::Nested(Box::new(inner), fields.clone()));
            }
            other => command.push(operand(other)?),
        }
        *at += 1;
    }
    if command.is_empty() && (!out.commands.is_empty() || !out.variables.is_empty()) {
        return Err(fail("missing value for command"));
    }
    if !command.is_empty() {
        out.commands.push(command);
    }
    Ok(out)
}

fn operand(token: &Token) -> Result<Operand, Error> {
    Ok(match token {
        Token::Field(fields) => Operand::Field(fields.clone()),
        Token::Variable(name, fields) => Operand::Variable(name.clone(), fields.clone()),
        Token::Text(text) => Operand::Constant(Value::Text(text.clone())),
        Token::Int(number) => Operand::Constant(Value::Int(*number)),
        Token::Float(number) => Operand::Constant(Value::Float(*number)),
        Token::Word(word) => match word.as_str() {
            "true" => Operand::Constant(Value::Bool(true)),
            "false" => Operand::Constant(Value::Bool(false)),
            "nil" => Operand::Constant(Value::Text("<nil>".into())),
            name if functions::is_known(name) => Operand::Function(name.to_owned()),
            name => return Err(fail(format!("function {name:?} not defined"))),
        },
        Token::Comma | Token::Declare | Token::Assign | Token::Open | Token::Close(_) | Token::Pipe => {
            return Err(fail("unexpected punctuation in command"));
        }
    })
}
