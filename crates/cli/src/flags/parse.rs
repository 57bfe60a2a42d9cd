//! The parser. Its rules are those users of Docker's client have in their fingers; its messages too, because
//! scripts and editors match on them. Pure: arguments in, [`Parsed`] or [`Error`] out.

use types::GoDuration;

use super::{
    Arity, Command,
    command::{Flag, Kind},
};
use crate::{Error, Result};

/// Flags and arguments of one command.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) command: &'static Command,
    /// Name the command was called by, such as `ps` or `container ls`.
    pub(crate) called: &'static str,
    values: Vec<(&'static Flag, String)>,
    pub(crate) args: Vec<String>,
    pub(crate) help: bool,
}

/// Parses what follows the command's name.
pub(crate) fn parse(command: &'static Command, called: &'static str, raw: &[String]) -> Result<Parsed> {
    let mut parsed = Parsed { command, called, values: Vec::new(), args: Vec::new(), help: false };
    parsed.fill(raw).map_err(|message| Error::usage(message, called, command.synopsis))?;
    if !parsed.help {
        parsed.check_arity()?;
    }
    Ok(parsed)
}

impl Parsed {
    fn fill(&mut self, raw: &[String]) -> std::result::Result<(), String> {
        let mut rest = raw.iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                self.args.extend(rest.cloned());
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (long, None),
                };
                if name == "help" {
                    self.help = true;
                    continue;
                }
                let flag = self
                    .command
                    .all_flags()
                    .find(|flag| flag.long == name)
                    .ok_or_else(|| format!("unknown flag: --{name}"))?;
                let value = match (value, flag.kind) {
                    (Some(value), _) => value.to_owned(),
                    (None, Kind::Switch) => "true".to_owned(),
                    (None, _) => rest.next().cloned().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
                };
                self.set(flag, value)?;
            } else if word.len() > 1 && word.starts_with('-') {
                self.shorts(&word[1..], word, &mut rest)?;
            } else {
                self.args.push(word.clone());
                if !self.command.interspersed {
                    self.args.extend(rest.cloned());
                    break;
                }
            }
        }
        Ok(())
    }

    fn shorts<'a>(
        &mut self,
        cluster: &str,
        word: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> std::result::Result<(), String> {
        let mut left = cluster;
        while let Some(letter) = left.chars().next() {
            left = &left[letter.len_utf8()..];
            let Some(flag) = self.command.all_flags().find(|flag| flag.short == Some(letter)) else {
                if letter == 'h' {
                    self.help = true;
                    return Ok(());
                }
                return Err(format!("unknown shorthand flag: '{letter}' in {word}"));
            };
            if let Some(value) = left.strip_prefix('=') {
                return self.set(flag, value.to_owned());
            }
            if flag.kind == Kind::Switch {
                self.set(flag, "true".to_owned())?;
                continue;
            }
            if !left.is_empty() {
                return self.set(flag, left.to_owned());
            }
            let value = rest.next().cloned().ok_or_else(|| format!("flag needs an argument: '{letter}' in {word}"))?;
            return self.set(flag, value);
        }
        Ok(())
    }

    fn set(&mut self, flag: &'static Flag, value: String) -> std::result::Result<(), String> {
        if let Some(why) = flag.refused {
            return Err(format!("--{} is not supported: {why}", flag.long));
        }
        check(flag.kind, &value)
            .map_err(|why| format!("invalid argument {value:?} for \"{}\" flag: {why}", flag.display()))?;
        if flag.kind == Kind::Commas {
            self.values.extend(value.split(',').map(|part| (flag, part.to_owned())));
        } else {
            self.values.push((flag, value));
        }
        Ok(())
    }

    fn check_arity(&self) -> Result<()> {
        let (count, plural) = (self.args.len(), |n: usize| if n == 1 { "argument" } else { "arguments" });
        let complaint = match self.command.arity {
            Arity::None if count > 0 => "accepts no arguments".to_owned(),
            Arity::Exactly(n) if count != n => format!("requires {n} {}", plural(n)),
            Arity::AtLeast(n) if count < n => format!("requires at least {n} {}", plural(n)),
            Arity::AtMost(n) if count > n => format!("requires at most {n} {}", plural(n)),
            Arity::Between(low, high) if !(low..=high).contains(&count) => {
                format!("requires at least {low} and at most {high} {}", plural(high))
            }
            _ => return Ok(()),
        };
        Err(Error::arity(format!("'dhow {}' {complaint}", self.called), self.called, self.command.synopsis))
    }

    fn flag(&self, name: &str) -> Option<&'static Flag> {
        let flag = self.command.all_flags().find(|flag| flag.long == name);
        debug_assert!(flag.is_some(), "command {} has no flag --{name}", self.called);
        flag
    }

    /// Whether the user gave the flag.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.values.iter().any(|(flag, _)| flag.long == name)
    }

    /// Last value given, else the default; empty when there is neither.
    pub(crate) fn text(&self, name: &str) -> &str {
        let given = self.values.iter().rev().find(|(flag, _)| flag.long == name);
        match given {
            Some((_, value)) => value,
            None => self.flag(name).map_or("", |flag| flag.default),
        }
    }

    /// Last value given, if any.
    pub(crate) fn opt(&self, name: &str) -> Option<&str> {
        self.given(name).then(|| self.text(name))
    }

    /// Every value given, in order.
    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        debug_assert!(self.flag(name).is_some());
        self.values.iter().filter(move |(flag, _)| flag.long == name).map(|(_, value)| value.as_str())
    }

    /// A switch.
    pub(crate) fn on(&self, name: &str) -> bool {
        parse_bool(self.text(name)).unwrap_or(false)
    }

    /// A number; zero when absent and without a default. Validity was checked while parsing.
    pub(crate) fn int(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// A size in bytes; zero when absent.
    pub(crate) fn bytes(&self, name: &str) -> i64 {
        match self.text(name) {
            "-1" => -1,
            text => types::ram_in_bytes(text).ok().and_then(|n| i64::try_from(n).ok()).unwrap_or(0),
        }
    }

    /// A duration in nanoseconds; zero when absent.
    pub(crate) fn nanos(&self, name: &str) -> i64 {
        self.text(name).parse::<GoDuration>().map_or(0, |d| d.nanos())
    }

    /// The first argument; empty when the command takes none.
    pub(crate) fn first(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn check(kind: Kind, value: &str) -> std::result::Result<(), String> {
    match kind {
        Kind::Switch => {
            parse_bool(value).map(drop).ok_or_else(|| format!("strconv.ParseBool: parsing {value:?}: invalid syntax"))
        }
        Kind::Int => match value.parse::<i64>() {
            Ok(_) => Ok(()),
            Err(error) => Err(number_error("ParseInt", value, &error)),
        },
        Kind::Uint16 => match value.parse::<u16>() {
            Ok(_) => Ok(()),
            Err(error) => Err(number_error("ParseUint", value, &error)),
        },
        Kind::Decimal => match value.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(()),
            _ => Err(format!("failed to parse {value} as a rational number")),
        },
        Kind::SwapBytes if value == "-1" => Ok(()),
        Kind::Bytes | Kind::SwapBytes => types::ram_in_bytes(value).map(drop).map_err(|error| error.to_string()),
        Kind::Duration => value.parse::<GoDuration>().map(drop).map_err(|error| error.to_string()),
        Kind::Text | Kind::List | Kind::Commas => Ok(()),
    }
}

fn number_error(function: &str, value: &str, error: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let what = if matches!(error.kind(), PosOverflow | NegOverflow) { "value out of range" } else { "invalid syntax" };
    format!("strconv.{function}: parsing {value:?}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::switch("interactive", "x").short('i'),
        Flag::switch("tty", "x").short('t'),
        Flag::switch("proxy", "x").default("true"),
        Flag::list("env", "x").short('e'),
        Flag::bytes("memory", "x").short('m'),
        Flag::int("number", "x").default("7"),
        Flag::text("gone", "x").refused("nobody has it"),
    ];
    static RUN: Command = Command {
        paths: &["run"],
        synopsis: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        about: "x",
        flags: &[FLAGS],
        arity: Arity::AtLeast(1),
        interspersed: false,
        run: |_, _| Ok(0),
    };
    static LS: Command = Command {
        interspersed: true,
        arity: Arity::None,
        paths: &["ls"],
        synopsis: "[OPTIONS]",
        about: "x",
        flags: &[FLAGS],
        run: |_, _| Ok(0),
    };

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }
    fn run(line: &str) -> Result<Parsed> {
        parse(&RUN, "run", &words(line))
    }

    #[test]
    fn forms_of_flags() {
        let p = run("-it --env=A=1 -e B=2 -eC=3 -e=D=4 -m64m --proxy=false image -x --env no").unwrap();
        assert!(p.on("interactive") && p.on("tty") && !p.on("proxy"));
        assert_eq!(p.list("env").collect::<Vec<_>>(), ["A=1", "B=2", "C=3", "D=4"]);
        assert_eq!(p.bytes("memory"), 64 << 20);
        assert_eq!(p.args, ["image", "-x", "--env", "no"]);
        assert_eq!((p.int("number"), p.given("number")), (7, false));
        assert_eq!(run("-t -- -i").unwrap().args, ["-i"]);
    }

    #[test]
    fn messages() {
        for (line, message) in [
            ("--foo x", "unknown flag: --foo"),
            ("-iy x", "unknown shorthand flag: 'y' in -iy"),
            ("--env", "flag needs an argument: --env"),
            ("-ie", "flag needs an argument: 'e' in -ie"),
            ("-m 12zz x", "invalid argument \"12zz\" for \"-m, --memory\" flag: invalid suffix: 'zz'"),
            (
                "--number x y",
                "invalid argument \"x\" for \"--number\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "-t=maybe x",
                "invalid argument \"maybe\" for \"-t, --tty\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            ("--gone x", "--gone is not supported: nobody has it"),
            ("", "'dhow run' requires at least 1 argument"),
        ] {
            let error = run(line).unwrap_err();
            assert!(error.to_string().contains(message), "{line}: {error}");
        }
        assert_eq!(run("--foo").unwrap_err().exit_code(), 125);
        assert_eq!(run("").unwrap_err().exit_code(), 1);
        assert!(parse(&LS, "ls", &words("extra")).unwrap_err().to_string().contains("accepts no arguments"));
    }
}
