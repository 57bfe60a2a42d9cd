//! Flags of instructions: each instruction takes those it knows, and what is left is unknown.

use crate::error::{Error, Problem};
use crate::suggest::suggestion;
use crate::word::{RawFlag, Word};

/// The flags of one instruction.
pub(crate) struct Flags {
    left: Vec<RawFlag>,
    known: Vec<&'static str>,
}

impl Flags {
    pub(crate) fn new(left: Vec<RawFlag>) -> Self {
        Self { left, known: Vec::new() }
    }

    fn take(&mut self, name: &'static str) -> Vec<RawFlag> {
        self.known.push(name);
        self.left.extract_if(.., |flag| flag.name == name).collect()
    }

    fn once(&mut self, name: &'static str) -> Result<Option<RawFlag>, Error> {
        let mut found = self.take(name).into_iter();
        let first = found.next();
        match found.next() {
            Some(second) => Err(Error::parse(Problem::FlagTwice(name.to_owned())).at(second.span)),
            None => Ok(first),
        }
    }

    /// A flag with a value, which may be empty.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<Word>, Error> {
        self.once(name)?.map(word).transpose()
    }

    /// A flag with a value that may be given again.
    pub(crate) fn list(&mut self, name: &'static str) -> Result<Vec<Word>, Error> {
        self.take(name).into_iter().map(word).collect()
    }

    /// A flag that is true when nothing else is said.
    pub(crate) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, Error> {
        let Some(flag) = self.once(name)? else { return Ok(None) };
        match flag.value.as_deref().map(str::to_lowercase).as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some("") => Err(Error::parse(Problem::FlagValue(flag.name)).at(flag.span)),
            Some(_) => {
                let value = flag.value.unwrap_or_default();
                Err(Error::parse(Problem::FlagBool(flag.name, value)).at(flag.span))
            }
        }
    }

    /// Refuses what nobody took.
    pub(crate) fn end(&self) -> Result<(), Error> {
        let Some(flag) = self.left.first() else { return Ok(()) };
        let suggestion = suggestion(&flag.name, self.known.iter().copied());
        Err(Error::parse(Problem::UnknownFlag { name: flag.name.clone(), suggestion }).at(flag.span))
    }
}

fn word(flag: RawFlag) -> Result<Word, Error> {
    match flag.value {
        Some(value) => Ok(Word::new(value, flag.span)),
        None => Err(Error::parse(Problem::FlagValue(flag.name)).at(flag.span)),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{error, one};

    #[test]
    fn values_are_asked_for_and_checked() {
        for (line, end) in [
            ("COPY --from a b", "missing a value on flag: --from"),
            ("COPY --link= a b", "missing a value on flag: --link"),
            ("COPY --link=x a b", "expecting boolean value for flag --link, not: x"),
            ("COPY --chmod=1 --chmod=2 a b", "duplicate flag specified: --chmod"),
            ("COPY --Link a b", "unknown flag: --Link (did you mean link?)"),
            ("RUN --mnt=x a", "unknown flag: --mnt (did you mean mount?)"),
        ] {
            assert_eq!(error(line), format!("dockerfile parse error on line 2: {end}"));
        }
        for line in [
            "COPY --link=TRUE a b",
            "COPY --from= a b",
            "COPY -- --a b",
            "RUN --network=\"no\"ne a",
            "RUN --\\\nnetwork=none a",
        ] {
            one(line);
        }
    }
}
