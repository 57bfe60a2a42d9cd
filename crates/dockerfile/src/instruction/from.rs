//! `FROM [--platform=PLATFORM] IMAGE [AS NAME]`.

use super::flags::Flags;
use crate::error::{Error, Problem};
use crate::word::{Rest, Word};

/// The beginning of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// Image, earlier stage or `scratch`, with variables.
    pub base: Word,
    /// The name of the stage as written; it is known by it in lower case.
    pub name: Option<Word>,
    /// The word that should be `AS`, as written.
    pub keyword_as: Option<Word>,
    /// Platform of the image, with variables.
    pub platform: Option<Word>,
}

pub(super) fn parse(flags: &mut Flags, rest: &Rest<'_>) -> Result<From, Error> {
    let mut words = rest.words()?.into_iter();
    let (base, keyword_as, name) = match (words.next(), words.next(), words.next(), words.next()) {
        (Some(base), None, ..) => (base, None, None),
        (Some(base), Some(word), Some(name), None) if word.text.eq_ignore_ascii_case("AS") => {
            (base, Some(word), Some(name))
        }
        _ => return Err(Error::parse(Problem::FromArguments)),
    };
    if let Some(name) = name.as_ref().filter(|name| !valid_name(&name.text.to_lowercase())) {
        return Err(Error::parse(Problem::StageName(name.text.clone())).at(name.span));
    }
    Ok(From { base, name, keyword_as, platform: flags.text("platform")? })
}

fn valid_name(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(rest)
}

#[cfg(test)]
mod tests {
    use crate::Instruction;
    use crate::testing::{error, one};

    #[test]
    fn images_names_and_platforms() {
        let Instruction::From(from) = one("from --platform=$BUILDPLATFORM a:1 as A_b.c-1") else { panic!() };
        let texts = (from.base.text.as_str(), from.name.unwrap().text, from.platform.unwrap().text);
        assert_eq!(texts, ("a:1", "A_b.c-1".into(), "$BUILDPLATFORM".into()));
        for line in ["FROM", "FROM a b", "FROM a AS", "FROM a is b", "FROM a AS b c"] {
            assert!(error(line).ends_with("FROM requires either one or three arguments"), "{line}");
        }
        for name in ["1a", "a$", "-a", "ä"] {
            assert!(error(&format!("FROM a AS {name}")).contains("invalid name for build stage"), "{name}");
        }
    }
}
