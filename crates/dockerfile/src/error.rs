//! What is wrong with a Dockerfile, where, and what was expected instead. The words are those of Docker's builder, since
//! clients and people match on them; `report` shows them with the text around.

use std::fmt;

use crate::limits;
use crate::source::{Lines, Span};

/// A similar word, shown as Docker's clients do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suggestion(pub Option<String>);

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(word) => write!(f, " (did you mean {word}?)"),
            None => Ok(()),
        }
    }
}

/// Text in quotes as Go's `%q` writes it, which is how the builder quotes.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars().take(SHOWN) {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                c if c.is_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str(if self.0.chars().nth(SHOWN).is_some() { "...\"" } else { "\"" })
    }
}

/// Most characters of the file's own text that a message repeats.
const SHOWN: usize = 200;

/// Where the builder would have found it, which decides how the message begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// An instruction cannot be read: `dockerfile parse error on line …`.
    Parse,
    /// The text cannot be cut into instructions, or an instruction cannot be carried out.
    Plain,
}

/// A mistake in a Dockerfile, or a bound that it passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong. Boxed, since most results are none.
    pub problem: Box<Problem>,
    /// The instruction's lines; none for what concerns the file as a whole.
    pub lines: Option<Lines>,
    /// The word, or the instruction where no word is to blame.
    pub span: Option<Span>,
    pub(crate) phase: Phase,
}

impl Error {
    pub(crate) fn of(problem: Problem) -> Self {
        Self { problem: Box::new(problem), lines: None, span: None, phase: Phase::Plain }
    }

    pub(crate) fn parse(problem: Problem) -> Self {
        Self { phase: Phase::Parse, ..Self::of(problem) }
    }

    /// The same without the words that say it was found while parsing: triggers are parsed during the build.
    pub(crate) fn plain(mut self) -> Self {
        self.phase = Phase::Plain;
        self
    }

    pub(crate) fn at(mut self, span: Span) -> Self {
        self.span.get_or_insert(span);
        self
    }

    pub(crate) fn at_lines(mut self, lines: Lines) -> Self {
        self.lines.get_or_insert(lines);
        self
    }

    /// What was expected, in a sentence for people.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.problem.hint()
    }
}

impl fmt::Display for Error {
    /// The line that Docker's clients print.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.phase, self.lines) {
            (Phase::Parse, Some(lines)) => {
                write!(f, "dockerfile parse error on line {}: {}", lines.first, self.problem)
            }
            _ => fmt::Display::fmt(&self.problem, f),
        }
    }
}

impl std::error::Error for Error {}

/// Why a word cannot be expanded; the messages are the builder's, but for the bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Expansion {
    #[error("unexpected end of statement while looking for matching {0}-quote")]
    Quote(&'static str),
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    #[error("{0}: {1}")]
    Message(String, String),
    #[error("{0}: is not allowed to be unset")]
    Unset(String),
    #[error("{0}: is not allowed to be empty")]
    Empty(String),
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '{escape}'")]
    Pattern { pattern: String, escape: String },
    #[error("more than {} substitutions within each other", limits::EXPANSION_DEPTH)]
    Depth,
    #[error("the result is longer than {} bytes", limits::EXPANSION)]
    Size,
    #[error("the expansions of this file take more than they may")]
    Work,
}

/// Everything that can be wrong, in the builder's words where the builder has any. Each variant's message is its
/// documentation; [`Error::hint`] says what was expected instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    // --- the text
    #[error("{what} is longer than {limit} bytes")]
    TooLong { what: &'static str, limit: usize },
    #[error("more than {limit} {what}")]
    TooMany { what: &'static str, limit: usize },
    #[error("the line has a NUL byte")]
    NulByte,
    #[error("the line is not UTF-8")]
    NotUtf8,
    #[error("file with no instructions")]
    NoInstructions,
    #[error("only one {0} parser directive can be used")]
    DirectiveTwice(&'static str),
    #[error("invalid escape token '{0}' does not match ` or \\")]
    EscapeToken(String),
    #[error("failed to parse check options: invalid check option {}", Quoted(.0))]
    CheckOption(String),
    #[error("failed to parse check options: failed to parse check option {}: strconv.ParseBool: parsing {}: invalid syntax", Quoted(.0), Quoted(.1))]
    CheckBool(String, String),
    #[error("unterminated heredoc")]
    UnterminatedHeredoc { name: String },
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    #[error("{0} must have two arguments")]
    TwoArguments(String),
    #[error("Syntax error - can't find = in {}. Must be of the form: name=value", Quoted(.0))]
    NoEquals(String),

    // --- instructions
    #[error("unknown instruction: {word}{suggestion}")]
    UnknownInstruction { word: String, suggestion: Suggestion },
    #[error("no build stage in current context")]
    NoStage,
    #[error("dockerfile contains no stages to build")]
    NoStages,
    #[error("unknown flag: --{name}{suggestion}")]
    UnknownFlag { name: String, suggestion: Suggestion },
    #[error("missing a value on flag: --{0}")]
    FlagValue(String),
    #[error("duplicate flag specified: --{0}")]
    FlagTwice(String),
    #[error("expecting boolean value for flag --{0}, not: {1}")]
    FlagBool(String, String),
    #[error("{0} requires at least one argument")]
    AtLeastOne(&'static str),
    #[error("{0} requires exactly one argument")]
    ExactlyOne(&'static str),
    #[error("{0} requires at least two arguments, but only one was provided. Destination could not be determined")]
    NoDestination(&'static str),
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    #[error("invalid name for build stage: {}, name can't start with a number or contain symbols", Quoted(.0))]
    StageName(String),
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    #[error("SHELL requires the arguments to be in JSON form")]
    ShellForm,
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChain,
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger(String),
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthNone,
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthCommand,
    #[error("Unknown type {} in HEALTHCHECK (try CMD)", Quoted(.0))]
    HealthType(String),
    #[error("{0}")]
    Duration(types::DurationError),
    #[error("Interval {} cannot be less than 1ms", Quoted(.0))]
    ShortInterval(&'static str),
    #[error("strconv.ParseInt: parsing {}: {why}", Quoted(.text))]
    Number { text: String, why: &'static str },
    #[error("--retries cannot be negative ({0})")]
    Retries(i64),
    #[error("invalid network mode {}", Quoted(.0))]
    Network(String),
    #[error("security {} is not valid", Quoted(.0))]
    Security(String),
    #[error("failed to parse csv mounts: {0}")]
    MountCsv(String),
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    MountFromVariable,

    // --- carrying out
    #[error("failed to process {}: {why}", Quoted(.word))]
    Expansion { word: String, why: Expansion },
    #[error("the environment of a stage is longer than {} bytes", limits::ENVIRONMENT)]
    Environment,
    #[error("unsupported mount type {}{suggestion}", Quoted(.word))]
    MountType { word: String, suggestion: Suggestion },
    #[error("invalid field '{0}' must be a key=value pair")]
    MountField(String),
    #[error("unexpected key '{key}' in '{field}'{suggestion}")]
    MountKey { key: String, field: String, suggestion: Suggestion },
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    MountKeyOfType { key: &'static str, kind: &'static str },
    #[error("invalid value for {0}: {1}")]
    MountValueFor(&'static str, String),
    #[error("invalid value {1} for {0}")]
    MountValue(&'static str, String),
    #[error("unsupported sharing value {}", Quoted(.0))]
    Sharing(String),
    #[error("invalid cache sharing set for {0} mount")]
    SharingOfType(&'static str),
    #[error("{0} not allowed for \"{1}\" type mounts")]
    OwnerOfType(&'static str, &'static str),
    #[error("invalid mount target {}", Quoted(.0))]
    MountTarget(String),
    #[error("{0} does not support source")]
    SourceOfType(&'static str),
    #[error("invalid secret mount. one of source, target required")]
    SecretName,
    #[error("invalid port: {}: {why}", Quoted(.text))]
    Port { text: String, why: String },
    #[error("{0}")]
    PortNumber(types::PortError),
    #[error("invalid signal: {0}")]
    Signal(String),
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    Chmod(String),
    #[error("invalid syntax")]
    ChmodSyntax,
    #[error("invalid checksum digest format")]
    ChecksumFormat,
    #[error("invalid checksum digest length")]
    ChecksumLength,
    #[error("unsupported digest algorithm")]
    ChecksumAlgorithm,
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumSource,
    #[error("checksum can't be specified for multiple sources")]
    ChecksumSources,
    #[error("source can't be a URL for COPY")]
    CopyUrl,
    #[error("source can't be a git ref for COPY")]
    CopyGit,
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"
    )]
    CopyFromVariable,

    // --- stages
    #[error("base name ({0}) should not be blank")]
    BlankBase(String),
    #[error("failed to parse stage name {}: {why}", Quoted(.name))]
    BaseName { name: String, why: types::ReferenceError },
    #[error("empty platform value from expression {word}{suggestion}")]
    EmptyPlatform { word: String, suggestion: Suggestion },
    #[error("failed to parse platform {word}: {why}: invalid argument")]
    Platform { word: String, why: String },
    #[error("invalid stage index {0}")]
    StageIndex(i64),
    #[error("circular dependency detected on stage: {0}")]
    Circular(String),
    #[error("cannot copy from stage {}, it needs to be defined before current stage {}", Quoted(.from), Quoted(.current))]
    LaterStage { from: String, current: String },
    #[error("target stage {} could not be found{suggestion}", Quoted(.target))]
    NoTarget { target: String, suggestion: Suggestion },
    #[error("lint violation found for rules: {0}")]
    Lint(String),
}

impl Problem {
    fn hint(&self) -> Option<String> {
        let fixed = match self {
            Problem::TooLong { .. } | Problem::TooMany { .. } | Problem::Environment => {
                "split the file, or move what is generated into the build context"
            }
            Problem::NulByte => "remove the byte; a Dockerfile is text",
            Problem::NotUtf8 => "save the file as UTF-8",
            Problem::NoInstructions | Problem::NoStages => "a Dockerfile needs at least one FROM",
            Problem::NoStage => "only ARG may stand before the first FROM",
            Problem::EscapeToken(_) => "expected `# escape=\\` or `# escape=``",
            Problem::CheckOption(_) => "expected `skip=RULE,…` or `skip=all`, and `error=true`, between semicolons",
            Problem::CheckBool(..) => "expected true or false",
            Problem::UnterminatedHeredoc { name } => {
                return Some(format!("expected a line that says `{name}` and nothing else"));
            }
            Problem::JsonNotStrings => "put every element in double quotes",
            Problem::TwoArguments(_) | Problem::NoEquals(_) => "expected name=value; quote what has spaces",
            Problem::BlankName(_) => "expected a name before `=`",
            Problem::UnknownInstruction { .. } => {
                "expected an instruction; a command goes behind RUN, a line goes on behind one that ends in the escape \
                 character"
            }
            Problem::FlagValue(name) => return Some(format!("expected --{name}=VALUE")),
            Problem::FlagBool(..) => "expected true or false",
            Problem::NoDestination(_) => "expected sources and, as the last word, where they go",
            Problem::HeredocDestination(_) => "expected a path as the last word",
            Problem::FromArguments => "expected FROM image or FROM image AS name",
            Problem::StageName(_) => "expected a letter, then letters, digits, `-`, `_` and `.`",
            Problem::ShellForm => "expected a list as [\"/bin/sh\", \"-c\"]",
            Problem::HealthType(_) => "expected CMD or NONE",
            Problem::Duration(_) | Problem::ShortInterval(_) => "expected a duration as 30s or 1m30s",
            Problem::Network(_) => "expected default, none or host",
            Problem::Security(_) => "expected sandbox or insecure",
            Problem::MountType { .. } => "expected bind, cache, tmpfs, secret or ssh",
            Problem::MountField(_) => "expected key=value between commas",
            Problem::Sharing(_) => "expected shared, private or locked",
            Problem::MountTarget(_) => "expected target=PATH, which is not the root directory",
            Problem::SecretName => "expected id=NAME",
            Problem::Chmod(_) | Problem::ChmodSyntax => "expected permissions as 755 or u=rwX,go-w",
            Problem::ChecksumFormat | Problem::ChecksumLength | Problem::ChecksumAlgorithm => {
                "expected sha256: and 64 hexadecimal digits"
            }
            Problem::Port { .. } | Problem::PortNumber(_) => {
                "expected a port or a range as 80, 80/udp or 8000-8010/tcp"
            }
            Problem::Signal(_) => "expected a number or a name as SIGTERM",
            Problem::CopyUrl | Problem::CopyGit => "use ADD for what is fetched",
            Problem::BlankBase(_) | Problem::EmptyPlatform { .. } => {
                "declare the argument with a default before the first FROM, or pass it with --build-arg"
            }
            Problem::LaterStage { .. } => "move the stage that is copied from before this one",
            Problem::Platform { .. } => "expected a platform as linux/amd64 or linux/arm/v7",
            _ => return None,
        };
        Some(fixed.to_owned())
    }
}
