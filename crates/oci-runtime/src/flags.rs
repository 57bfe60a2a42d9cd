//! The command line, read by one table a command: what a flag is called, whether it takes a value, and the sentence
//! its help shows. A flag that is in no table is an error that names it.

use lexopt::{Arg, Parser};

use crate::error::{Error, Result};

/// One flag.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    /// What its value is called in the help; none for a switch.
    pub(crate) value: Option<&'static str>,
    pub(crate) help: &'static str,
}

/// A flag without a value.
pub(crate) const fn switch(long: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { long, short, value: None, help }
}

/// A flag with one.
pub(crate) const fn option(long: &'static str, short: Option<char>, value: &'static str, help: &'static str) -> Flag {
    Flag { long, short, value: Some(value), help }
}

/// A command line taken apart.
#[derive(Debug, Default)]
pub(crate) struct Given {
    values: Vec<(&'static str, String)>,
    pub(crate) words: Vec<String>,
}

impl Given {
    /// The last value of the flag.
    pub(crate) fn value(&self, long: &str) -> Option<&str> {
        self.values.iter().rev().find(|(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// Every value of a flag that may be given again and again.
    pub(crate) fn all(&self, long: &str) -> impl Iterator<Item = &str> {
        self.values.iter().filter(move |(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// Whether the switch is on.
    pub(crate) fn has(&self, long: &str) -> bool {
        self.value(long).is_some_and(|value| value != "false")
    }

    /// The value as a number.
    ///
    /// # Errors
    /// [`Error::Usage`] for anything else.
    pub(crate) fn number<N: std::str::FromStr>(&self, long: &str) -> Result<Option<N>> {
        let Some(value) = self.value(long) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| Error::Usage(format!("--{long} takes a number, not {value:?}")))
    }

    /// The container's id, which is the first word.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is none.
    pub(crate) fn id(&self) -> Result<&str> {
        self.words.first().map(String::as_str).ok_or_else(|| Error::Usage("give the container's ID".to_owned()))
    }
}

/// Reads flags until `most` words have been met (then everything left is words) or nothing is left.
///
/// # Errors
/// [`Error::Usage`] naming the flag.
pub(crate) fn read(parser: &mut Parser, table: &[&'static [Flag]], most: usize) -> Result<Given> {
    let mut given = Given::default();
    let usage = |error: lexopt::Error| Error::Usage(error.to_string());
    while given.words.len() < most {
        let Some(arg) = parser.next().map_err(usage)? else { return Ok(given) };
        let flag = match &arg {
            Arg::Value(word) => {
                given.words.push(text(word.clone())?);
                continue;
            }
            Arg::Long(name) => table.iter().copied().flatten().find(|flag| flag.long == *name),
            Arg::Short(letter) => table.iter().copied().flatten().find(|flag| flag.short == Some(*letter)),
        };
        let Some(flag) = flag else { return Err(usage(arg.unexpected())) };
        let value = match flag.value {
            Some(_) => text(parser.value().map_err(usage)?)?,
            // A switch may be given as `--switch=false`.
            None => parser.optional_value().map(text).transpose()?.unwrap_or_else(|| "true".to_owned()),
        };
        given.values.push((flag.long, value));
    }
    for word in parser.raw_args().map_err(usage)? {
        given.words.push(text(word)?);
    }
    Ok(given)
}

fn text(word: std::ffi::OsString) -> Result<String> {
    word.into_string().map_err(|word| Error::Usage(format!("{} is not UTF-8", word.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        option("bundle", Some('b'), "DIR", ""),
        option("env", Some('e'), "K=V", ""),
        switch("force", Some('f'), ""),
        switch("tty", Some('t'), ""),
    ];

    fn parse(args: &[&str], most: usize) -> Result<Given> {
        read(&mut Parser::from_args(args), &[FLAGS], most)
    }

    #[test]
    fn flags_come_in_every_form() {
        let given = parse(&["-b", "/x", "--env=A=1", "-eB=2", "-ft", "id"], 9).unwrap();
        assert_eq!(given.value("bundle"), Some("/x"));
        assert_eq!(given.all("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert!(given.has("force") && given.has("tty"));
        assert_eq!(given.id().unwrap(), "id");
        assert!(!parse(&["--force=false", "x"], 9).unwrap().has("force"));
        assert!(parse(&["--nosuch"], 9).is_err());
        assert!(parse(&["--bundle"], 9).is_err());
        assert!(parse(&[], 9).unwrap().id().is_err());
    }

    #[test]
    fn words_after_the_last_wanted_are_left_alone() {
        let given = parse(&["-f", "id", "ls", "-t", "--nosuch"], 1).unwrap();
        assert_eq!(given.words, ["id", "ls", "-t", "--nosuch"]);
        assert!(!given.has("tty"));
    }
}
