//! Instructions by their types. A keyword decides which file of this directory reads the rest.
//!
//! What is read here is as written: words keep their quotes and variables until an evaluation expands them.

mod command;
mod copy;
mod flags;
mod from;
mod health;
mod mount;
mod pairs;
mod relocate;
mod run;

pub use command::Command;
pub use copy::{Add, AddSource, Copy, FileSource, Files, Mode};
pub use from::From;
pub use health::HealthCheck;
pub use mount::{Mount, MountKind, MountSpec, Sharing};
pub use pairs::{Arg, Pair, Pairs};
pub use run::{Device, Network, Run, Script, Security};

pub(crate) use copy::{checksum, chmod};
pub(crate) use mount::boolean;

use crate::error::{Error, Problem};
use crate::lex::Logical;
use crate::source::{Lines, Span};
use crate::suggest::suggest;
use crate::word::{Rest, Word};
use flags::Flags;

/// The keywords, in the order in which a similar one is looked for.
pub(crate) const KEYWORDS: [&str; 18] = [
    "add",
    "arg",
    "cmd",
    "copy",
    "entrypoint",
    "env",
    "expose",
    "from",
    "healthcheck",
    "label",
    "maintainer",
    "onbuild",
    "run",
    "shell",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

/// An instruction with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it says.
    pub instruction: Instruction,
    /// Its first word as written.
    pub keyword: Word,
    /// Its lines, heredocs included.
    pub lines: Lines,
    /// Its bytes, heredocs included.
    pub span: Span,
    /// Comment lines right before it, without their `#`.
    pub comments: Vec<String>,
    /// The whole of it with its lines joined: what a history shows.
    pub text: String,
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Begins a stage.
    From(From),
    /// Runs a command.
    Run(Run),
    /// Takes files from the build context, another stage or another image.
    Copy(Copy),
    /// The same with archives, URLs and repositories.
    Add(Add),
    /// Sets variables of the image's environment.
    Env(Pairs),
    /// Declares variables of the build.
    Arg(Vec<Arg>),
    /// Sets labels of the image.
    Label(Pairs),
    /// The default command.
    Cmd(Command),
    /// The program that gets the command as its arguments.
    Entrypoint(Command),
    /// The program for commands that are no lists.
    Shell(Vec<Word>),
    /// The user for what follows and for containers.
    User(Word),
    /// The directory for what follows and for containers.
    Workdir(Word),
    /// Paths that become volumes.
    Volume(Vec<Word>),
    /// Ports that the program listens at.
    Expose(Vec<Word>),
    /// The signal that stops containers.
    StopSignal(Word),
    /// An instruction for builds upon this image, as it was written.
    OnBuild(Word),
    /// How containers are probed.
    HealthCheck(HealthCheck),
    /// Who made the image; a label says it today.
    Maintainer(Word),
}

impl Instruction {
    /// The keyword in capitals.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Instruction::From(_) => "FROM",
            Instruction::Run(_) => "RUN",
            Instruction::Copy(_) => "COPY",
            Instruction::Add(_) => "ADD",
            Instruction::Env(_) => "ENV",
            Instruction::Arg(_) => "ARG",
            Instruction::Label(_) => "LABEL",
            Instruction::Cmd(_) => "CMD",
            Instruction::Entrypoint(_) => "ENTRYPOINT",
            Instruction::Shell(_) => "SHELL",
            Instruction::User(_) => "USER",
            Instruction::Workdir(_) => "WORKDIR",
            Instruction::Volume(_) => "VOLUME",
            Instruction::Expose(_) => "EXPOSE",
            Instruction::StopSignal(_) => "STOPSIGNAL",
            Instruction::OnBuild(_) => "ONBUILD",
            Instruction::HealthCheck(_) => "HEALTHCHECK",
            Instruction::Maintainer(_) => "MAINTAINER",
        }
    }
}

/// Finds the mistakes that the builder finds before it reads any instruction: in lists and in pairs.
pub(crate) fn precheck(logical: &Logical, escape: char) -> Result<(), Error> {
    let mut keyword = logical.keyword().to_owned();
    let mut rest = Rest::new(&logical.joined, logical.keyword, escape);
    loop {
        let (_, behind) = rest.flags()?;
        rest = behind;
        match keyword.to_ascii_lowercase().as_str() {
            "onbuild" => match rest.first() {
                Some((word, behind)) => (keyword, rest) = (word.text, behind),
                None => return Ok(()),
            },
            "healthcheck" => {
                return rest.first().map_or(Ok(()), |(_, command)| command.list().map(drop));
            }
            "add" | "copy" | "cmd" | "entrypoint" | "run" | "shell" | "volume" => return rest.list().map(drop),
            "env" | "label" => return pairs::read(&rest, &keyword).map(drop),
            _ => return Ok(()),
        }
    }
}

/// Reads an instruction.
///
/// # Errors
/// What is wrong with it, in the builder's words.
pub(crate) fn parse(logical: &Logical, escape: char) -> Result<Statement, Error> {
    let keyword = Word::new(logical.keyword(), logical.keyword_span());
    let located = |error: Error| error.at_lines(logical.lines);
    let instruction = read(logical, &keyword, escape)
        .map_err(|error| located(error.at(logical.joined.span(0, logical.joined.text().len()))))?;
    Ok(Statement {
        instruction,
        keyword,
        lines: logical.lines,
        span: logical.span,
        comments: logical.comments.clone(),
        text: logical.original(0),
    })
}

fn read(logical: &Logical, keyword: &Word, escape: char) -> Result<Instruction, Error> {
    let (raw, rest) = Rest::new(&logical.joined, logical.keyword, escape).flags()?;
    let mut flags = Flags::new(raw);
    let lower = keyword.text.to_ascii_lowercase();
    // Of these the builder looks at flags first, of the others at the words.
    if ["env", "label", "shell"].contains(&lower.as_str()) {
        flags.end()?;
    }
    let instruction = match lower.as_str() {
        "from" => Instruction::From(from::parse(&mut flags, &rest)?),
        "run" => Instruction::Run(run::parse(&mut flags, &rest, &logical.heredocs, escape)?),
        "copy" => Instruction::Copy(copy::parse_copy(&mut flags, &rest, &logical.heredocs, escape)?),
        "add" => Instruction::Add(copy::parse_add(&mut flags, &rest, &logical.heredocs, escape)?),
        "env" => Instruction::Env(pairs::parse("ENV", &keyword.text, &rest)?),
        "label" => Instruction::Label(pairs::parse("LABEL", &keyword.text, &rest)?),
        "arg" => Instruction::Arg(pairs::parse_arg(&rest)?),
        "cmd" => Instruction::Cmd(Command::parse(&rest)?),
        "entrypoint" => Instruction::Entrypoint(Command::parse(&rest)?),
        "shell" => Instruction::Shell(shell(&rest)?),
        "user" => Instruction::User(one("USER", &rest)?),
        "workdir" => Instruction::Workdir(one("WORKDIR", &rest)?),
        "stopsignal" => Instruction::StopSignal(one("STOPSIGNAL", &rest)?),
        "maintainer" => Instruction::Maintainer(one("MAINTAINER", &rest)?),
        "volume" => Instruction::Volume(volume(&rest)?),
        "expose" => Instruction::Expose(some("EXPOSE", rest.words()?)?),
        "onbuild" => Instruction::OnBuild(onbuild(logical, &rest)?),
        "healthcheck" => Instruction::HealthCheck(health::parse(&mut flags, &rest)?),
        lower => return Err(unknown(keyword, lower)),
    };
    flags.end()?;
    Ok(instruction)
}

fn unknown(keyword: &Word, lower: &str) -> Error {
    let near = suggest(lower, KEYWORDS);
    let upper = keyword.text == keyword.text.to_ascii_uppercase();
    let near = near.map(|near| if upper { near.to_ascii_uppercase() } else { near.to_owned() });
    let suggestion = crate::error::Suggestion(near);
    Error::parse(Problem::UnknownInstruction { word: keyword.text.clone(), suggestion }).at(keyword.span)
}

fn one(name: &'static str, rest: &Rest<'_>) -> Result<Word, Error> {
    rest.whole().ok_or_else(|| Error::parse(Problem::ExactlyOne(name)))
}

fn some(name: &'static str, words: Vec<Word>) -> Result<Vec<Word>, Error> {
    if words.is_empty() { Err(Error::parse(Problem::AtLeastOne(name))) } else { Ok(words) }
}

fn shell(rest: &Rest<'_>) -> Result<Vec<Word>, Error> {
    match rest.list()? {
        Some(words) => some("SHELL", words),
        None if rest.text().is_empty() => some("SHELL", Vec::new()),
        None => Err(Error::parse(Problem::ShellForm).at(rest.span())),
    }
}

fn volume(rest: &Rest<'_>) -> Result<Vec<Word>, Error> {
    let words = match rest.list()? {
        Some(words) => words,
        None => rest.words()?,
    };
    let words = some("VOLUME", words)?;
    match words.iter().find(|word| word.text.trim().is_empty()) {
        Some(word) => Err(Error::parse(Problem::EmptyVolume).at(word.span)),
        None => Ok(words),
    }
}

fn onbuild(logical: &Logical, rest: &Rest<'_>) -> Result<Word, Error> {
    let (trigger, _) = rest.first().ok_or_else(|| Error::parse(Problem::AtLeastOne("ONBUILD")))?;
    let problem = match trigger.text.to_ascii_uppercase() {
        name if name == "ONBUILD" => Problem::OnbuildChain,
        name if name == "FROM" || name == "MAINTAINER" => Problem::OnbuildTrigger(name),
        _ => return Ok(Word::new(logical.original(rest.start()), rest.span())),
    };
    Err(Error::parse(problem).at(trigger.span))
}

#[cfg(test)]
mod tests {
    use crate::testing::{error, one};

    use super::*;

    fn texts(words: &[Word]) -> Vec<&str> {
        words.iter().map(|word| word.text.as_str()).collect()
    }

    #[test]
    fn single_words_take_the_whole_line() {
        for (line, name, text) in [
            ("USER a b", "USER", "a b"),
            ("workdir  /x y ", "WORKDIR", "/x y"),
            ("StopSignal SIGTERM", "STOPSIGNAL", "SIGTERM"),
            ("MAINTAINER a  b", "MAINTAINER", "a  b"),
            ("ONBUILD RUN  a \\\n b", "ONBUILD", "RUN  a  b"),
            ("ONBUILD RUN <<A\nx\nA", "ONBUILD", "RUN <<A\nx\nA"),
        ] {
            let found = one(line);
            let (Instruction::User(word)
            | Instruction::Workdir(word)
            | Instruction::StopSignal(word)
            | Instruction::Maintainer(word)
            | Instruction::OnBuild(word)) = &found
            else {
                panic!("{found:?}")
            };
            assert_eq!((found.name(), word.text.as_str()), (name, text));
        }
        for name in ["USER", "WORKDIR", "STOPSIGNAL", "MAINTAINER"] {
            assert_eq!(error(name), format!("dockerfile parse error on line 2: {name} requires exactly one argument"));
        }
    }

    #[test]
    fn lists_are_json_or_words() {
        let Instruction::Volume(words) = one("VOLUME [\"/a b\", \"c\"]") else { panic!() };
        assert_eq!(texts(&words), ["/a b", "c"]);
        let Instruction::Volume(words) = one("VOLUME [\"/a\", c") else { panic!() };
        assert_eq!(texts(&words), ["[\"/a\",", "c"]);
        let Instruction::Expose(words) = one("EXPOSE 80\t443/tcp") else { panic!() };
        assert_eq!(texts(&words), ["80", "443/tcp"]);
        let Instruction::Shell(words) = one("SHELL [\"a\"]") else { panic!() };
        assert_eq!(texts(&words), ["a"]);
        assert!(error("SHELL a").ends_with("SHELL requires the arguments to be in JSON form"));
        assert!(error("VOLUME [\" \"]").ends_with("VOLUME specified can not be an empty string"));
        assert_eq!(error("VOLUME [1]"), "when using JSON array syntax, arrays must be comprised of strings only");
    }

    #[test]
    fn triggers_are_read_when_they_fire_and_some_may_not() {
        assert!(error("ONBUILD onbuild RUN x").ends_with("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"));
        assert!(error("ONBUILD from x").ends_with("FROM isn't allowed as an ONBUILD trigger"));
        assert_eq!(one("ONBUILD FOO").name(), "ONBUILD");
        assert_eq!(error("ONBUILD ENV a"), "ENV must have two arguments");
    }

    #[test]
    fn unknown_words_get_a_suggestion_in_their_case() {
        for (line, end) in [("RUNN x", "RUNN (did you mean RUN?)"), ("Runn", "Runn (did you mean run?)"), ("F", ": F")]
        {
            assert!(error(line).ends_with(end), "{line}");
        }
        assert!(error("USER --x a").ends_with("unknown flag: --x"));
    }
}
