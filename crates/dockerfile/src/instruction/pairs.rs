//! Names with values: ENV and LABEL with `name=value …` or, as it once was, `name value`, and ARG with `name[=value] …`.

use crate::error::{Error, Problem};
use crate::source::Span;
use crate::word::{Rest, Word};

/// What ENV or LABEL set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// In the order of the file; at least one.
    pub pairs: Vec<Pair>,
    /// Written as `name value`: one pair, the value of which is the rest of the line.
    pub legacy: bool,
}

/// A name and its value, with quotes and variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Never empty as written.
    pub name: Word,
    /// May be empty.
    pub value: Word,
}

/// An argument of the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Taken as it is; never empty.
    pub name: Word,
    /// What it is when nobody says anything else.
    pub default: Option<Word>,
}

fn split(word: &Word) -> Option<(Word, Word)> {
    let (name, value) = word.text.split_once('=')?;
    // Continuation lines may lie between, so the middle is found from both ends.
    let middle = word.span.start as usize + name.len();
    let value_start = (word.span.end as usize).saturating_sub(value.len()).max(word.span.start as usize);
    Some((
        Word::new(name, Span::new(word.span.start as usize, middle.min(word.span.end as usize))),
        Word::new(value, Span::new(value_start, word.span.end as usize)),
    ))
}

/// Cuts a line into pairs; names may be empty.
pub(super) fn read(rest: &Rest<'_>, keyword: &str) -> Result<Option<Pairs>, Error> {
    let words = rest.quoted_words()?;
    let Some(first) = words.first() else { return Ok(None) };
    if first.text.contains('=') {
        let pairs = words.iter().map(|word| {
            let (name, value) =
                split(word).ok_or_else(|| Error::of(Problem::NoEquals(word.text.clone())).at(word.span))?;
            Ok(Pair { name, value })
        });
        return Ok(Some(Pairs { pairs: pairs.collect::<Result<_, Error>>()?, legacy: false }));
    }
    let pair = rest.first().and_then(|(name, rest)| Some(Pair { name, value: rest.whole()? }));
    let pair = pair.ok_or_else(|| Error::of(Problem::TwoArguments(keyword.to_ascii_uppercase())).at(rest.span()))?;
    Ok(Some(Pairs { pairs: vec![pair], legacy: true }))
}

pub(super) fn parse(name: &'static str, keyword: &str, rest: &Rest<'_>) -> Result<Pairs, Error> {
    let pairs = read(rest, keyword)?.ok_or_else(|| Error::parse(Problem::AtLeastOne(name)))?;
    match pairs.pairs.iter().find(|pair| pair.name.text.is_empty()) {
        Some(pair) => Err(Error::parse(Problem::BlankName(name)).at(pair.value.span)),
        None => Ok(pairs),
    }
}

pub(super) fn parse_arg(rest: &Rest<'_>) -> Result<Vec<Arg>, Error> {
    let words = rest.quoted_words()?;
    if words.is_empty() {
        return Err(Error::parse(Problem::AtLeastOne("ARG")));
    }
    let args = words.into_iter().map(|word| match split(&word) {
        Some((name, _)) if name.text.is_empty() => Err(Error::parse(Problem::BlankName("ARG")).at(word.span)),
        Some((name, value)) => Ok(Arg { name, default: Some(value) }),
        None => Ok(Arg { name: word, default: None }),
    });
    args.collect()
}

#[cfg(test)]
mod tests {
    use crate::Instruction;
    use crate::testing::{error, one};

    #[test]
    fn pairs_and_the_legacy_form() {
        let read = |line: &str| match one(line) {
            Instruction::Env(pairs) | Instruction::Label(pairs) => (
                pairs.pairs.iter().map(|pair| (pair.name.text.clone(), pair.value.text.clone())).collect::<Vec<_>>(),
                pairs.legacy,
            ),
            other => panic!("{other:?}"),
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read("ENV a=1 b=\"x y\" 'c d'=e\\ f="),
            (vec![pair("a", "1"), pair("b", "\"x y\""), pair("'c d'", "e\\ f=")], false)
        );
        assert_eq!(read("env a b  \"c\" "), (vec![pair("a", "b  \"c\"")], true));
        assert_eq!(read("LABEL a =b"), (vec![pair("a", "=b")], true));
        assert_eq!(error("ENV"), "dockerfile parse error on line 2: ENV requires at least one argument");
        assert_eq!(error("ENV =b"), "dockerfile parse error on line 2: ENV names can not be blank");
        assert_eq!(error("label a"), "LABEL must have two arguments");
        assert_eq!(error("ENV a=b c"), "Syntax error - can't find = in \"c\". Must be of the form: name=value");
    }

    #[test]
    fn arguments() {
        let Instruction::Arg(args) = one("ARG a b=c=d \"e\"=") else { panic!() };
        let found: Vec<_> = args
            .iter()
            .map(|arg| (arg.name.text.as_str(), arg.default.as_ref().map(|word| word.text.as_str())))
            .collect();
        assert_eq!(found, [("a", None), ("b", Some("c=d")), ("\"e\"", Some(""))]);
        assert_eq!(error("ARG =b"), "dockerfile parse error on line 2: ARG names can not be blank");
    }
}
