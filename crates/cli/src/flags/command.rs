//! What a command and its flags are: plain constant data.

use crate::{Result, session::Session};

use super::Parsed;

/// How many arguments a command takes besides its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arity {
    None,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
}

/// Form of a flag's value; checked while parsing, so that the error names the flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// On or off; `--flag=false` is understood.
    Switch,
    /// Any text; the last one counts.
    Text,
    /// A whole number that fits 64 bits.
    Int,
    /// A whole number that fits 16 bits.
    Uint16,
    /// A decimal fraction.
    Decimal,
    /// A size such as `64m`.
    Bytes,
    /// As `Bytes`, or -1.
    SwapBytes,
    /// A duration such as `1m30s`.
    Duration,
    /// May be given many times.
    List,
    /// May be given many times; commas separate too.
    Commas,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
    /// Name of the value in the help text; empty for switches.
    pub(crate) value: &'static str,
    pub(crate) help: &'static str,
    /// Default value, shown in the help text and returned when the flag is absent.
    pub(crate) default: &'static str,
    pub(crate) hidden: bool,
    /// Why the flag is refused, for those of Docker's that have no meaning here.
    pub(crate) refused: Option<&'static str>,
}

impl Flag {
    const fn new(long: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Self {
        Self { long, short: None, kind, value, help, default: "", hidden: false, refused: None }
    }
    pub(crate) const fn switch(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Switch, "", help)
    }
    pub(crate) const fn text(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Text, "string", help)
    }
    pub(crate) const fn list(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::List, "list", help)
    }
    pub(crate) const fn int(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Int, "int", help)
    }
    pub(crate) const fn bytes(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Bytes, "bytes", help)
    }
    pub(crate) const fn duration(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Duration, "duration", help)
    }
    pub(crate) const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }
    pub(crate) const fn kind(mut self, kind: Kind, value: &'static str) -> Self {
        self.kind = kind;
        self.value = value;
        self
    }
    pub(crate) const fn value(mut self, value: &'static str) -> Self {
        self.value = value;
        self
    }
    pub(crate) const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }
    pub(crate) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }
    pub(crate) const fn refused(mut self, why: &'static str) -> Self {
        self.refused = Some(why);
        self.hidden = true;
        self
    }

    /// `-m, --memory`, as error messages name a flag.
    pub(crate) fn display(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }
}

/// One command under all its names.
#[derive(Debug)]
pub(crate) struct Command {
    /// Full paths, such as `container ls` and `ps`; the first is the canonical one.
    pub(crate) paths: &'static [&'static str],
    /// What follows the name in the usage line.
    pub(crate) synopsis: &'static str,
    pub(crate) about: &'static str,
    pub(crate) flags: &'static [&'static [Flag]],
    pub(crate) arity: Arity,
    /// Whether flags may follow the first argument. Not where the rest is a command line of its own.
    pub(crate) interspersed: bool,
    pub(crate) run: fn(&Parsed, &Session) -> Result<u8>,
}

/// A word that only groups commands.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
}

impl Command {
    /// Every flag, in table order.
    pub(crate) fn all_flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().flat_map(|group| group.iter())
    }
}
