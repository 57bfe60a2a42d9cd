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
    let mut only_words = false;
    while given.words.len() < most {
        if !only_words && let Some((flag, value)) = with_one_dash(parser, table)? {
            given.values.push((flag.long, value));
            continue;
        }
        only_words |= parser.try_raw_args().is_some_and(|raw| raw.peek().is_some_and(|word| word == "--"));
        let Some(arg) = parser.next().map_err(usage)? else { return Ok(given) };
        let long = matches!(arg, Arg::Long(_));
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
            // A switch may be given as `--switch=false`; what follows a letter is the next letter.
            None if long => parser.optional_value().map(text).transpose()?.unwrap_or_else(|| "true".to_owned()),
            None => "true".to_owned(),
        };
        given.values.push((flag.long, value));
    }
    for word in parser.raw_args().map_err(usage)? {
        given.words.push(text(word)?);
    }
    Ok(given)
}

/// A long flag after a single dash, as programs in Go write and take them: containerd gives `-no-subreaper`.
fn with_one_dash(parser: &mut Parser, table: &[&'static [Flag]]) -> Result<Option<(&'static Flag, String)>> {
    let Some(mut raw) = parser.try_raw_args() else { return Ok(None) };
    let Some(word) = raw.peek().and_then(|word| word.to_str()).and_then(|word| word.strip_prefix('-')) else {
        return Ok(None);
    };
    let (name, attached) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value.to_owned())));
    // One letter is a short flag whatever it is, and no name begins with the second dash.
    let Some(flag) = table.iter().copied().flatten().find(|flag| flag.long == name && name.len() > 1) else {
        return Ok(None);
    };
    raw.next();
    let value = match (attached, flag.value) {
        (Some(value), _) => value,
        (None, None) => "true".to_owned(),
        (None, Some(what)) => {
            text(raw.next().ok_or_else(|| Error::Usage(format!("-{} takes a value, {what}", flag.long)))?)?
        }
    };
    Ok(Some((flag, value)))
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
    fn long_flags_may_have_one_dash() {
        let given = parse(&["-bundle", "/x", "-env=A=1", "-force", "-tty=false", "-eC=3", "id"], 9).unwrap();
        assert_eq!((given.value("bundle"), given.id().unwrap()), (Some("/x"), "id"));
        assert_eq!(given.all("env").collect::<Vec<_>>(), ["A=1", "C=3"]);
        assert!(given.has("force") && !given.has("tty"));
        assert!(parse(&["-bundle"], 9).is_err());
        assert_eq!(parse(&["--", "-force", "--", "-tty"], 9).unwrap().words, ["-force", "--", "-tty"]);
        assert_eq!(parse(&["-b", "-force", "id"], 9).unwrap().value("bundle"), Some("-force"));
    }

    #[test]
    fn words_after_the_last_wanted_are_left_alone() {
        let given = parse(&["-f", "id", "ls", "-t", "--nosuch"], 1).unwrap();
        assert_eq!(given.words, ["id", "ls", "-t", "--nosuch"]);
        assert!(!given.has("tty"));
    }
}
