//! A whole Dockerfile: directives, arguments before the first stage, and stages of instructions.

use crate::check::{self, Checks, Warning};
use crate::directive::Directives;
use crate::error::{Error, Problem};
use crate::instruction::{self, Arg, From, Instruction, Statement};
use crate::lex;
use crate::limits;
use crate::source::{Lines, Source, Span};
use crate::word::Word;

/// A Dockerfile that can be read.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// What it says of itself.
    pub directives: Directives,
    /// `ARG` instructions before the first stage, in their order.
    pub globals: Vec<Statement>,
    /// At least one.
    pub stages: Vec<Stage>,
    /// Findings that need no evaluation, whether they count or not. An [`crate::Evaluation`] has those that do.
    pub warnings: Vec<Warning>,
    /// Which findings count, as the file has it.
    pub checks: Checks,
}

/// A stage.
#[derive(Clone, Debug)]
pub struct Stage {
    /// How it begins.
    pub from: From,
    /// Its name in lower case, if it has one.
    pub name: Option<String>,
    /// The word FROM as written.
    pub keyword: Word,
    /// Lines of the FROM.
    pub lines: Lines,
    /// Bytes of the FROM.
    pub span: Span,
    /// Comment lines right before it.
    pub comments: Vec<String>,
    /// What follows up to the next stage.
    pub statements: Vec<Statement>,
}

/// Why a Dockerfile cannot be built, and what was found before that.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The mistake.
    pub error: Error,
    /// Findings up to there; before an evaluation also those that do not count.
    pub warnings: Vec<Warning>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Failure {}

impl std::convert::From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, warnings: Vec::new() }
    }
}

impl Dockerfile {
    /// Reads a file.
    ///
    /// # Errors
    /// The first mistake that Docker's builder would find: mistakes in how the file is cut into instructions, lists and
    /// pairs come before those within instructions.
    pub fn parse(source: &Source) -> Result<Self, Failure> {
        let directives = Directives::parse(source)?;
        let checks = Checks::parse(directives.check.as_ref(), source)?;
        let escape = directives.escape;
        let lines = lex::instructions(source, &directives)?;
        if lines.is_empty() {
            return Err(Error::of(Problem::NoInstructions).at_lines(Lines::one(1)).into());
        }
        for logical in &lines {
            let whole = logical.joined.span(0, logical.joined.text().len());
            instruction::precheck(logical, escape).map_err(|error| error.at_lines(logical.lines).at(whole))?;
        }
        let mut file = Self { directives, globals: Vec::new(), stages: Vec::new(), warnings: Vec::new(), checks };
        check::continuations(&mut file.warnings, &lines);
        for logical in &lines {
            check::words(&mut file.warnings, logical);
            if let Err(error) = instruction::parse(logical, escape).and_then(|statement| file.add(statement)) {
                return Err(Failure { error, warnings: file.warnings });
            }
        }
        if file.stages.is_empty() {
            return Err(Error::of(Problem::NoStages).into());
        }
        check::structure(&mut file);
        Ok(file)
    }

    fn add(&mut self, statement: Statement) -> Result<(), Error> {
        match statement.instruction {
            Instruction::From(from) => {
                if self.stages.len() == limits::STAGES {
                    let problem = Problem::TooMany { what: "stages", limit: limits::STAGES };
                    return Err(Error::of(problem).at_lines(statement.lines));
                }
                let Statement { keyword, lines, span, comments, .. } = statement;
                let name = from.name.as_ref().map(|name| name.text.to_lowercase());
                self.stages.push(Stage { from, name, keyword, lines, span, comments, statements: Vec::new() });
            }
            Instruction::Arg(_) if self.stages.is_empty() => self.globals.push(statement),
            _ => match self.stages.last_mut() {
                Some(stage) => stage.statements.push(statement),
                None => return Err(Error::of(Problem::NoStage).at_lines(statement.lines).at(statement.keyword.span)),
            },
        }
        Ok(())
    }

    /// The arguments before the first stage.
    pub fn global_args(&self) -> impl Iterator<Item = (&Statement, &Arg)> {
        self.globals.iter().flat_map(|statement| match &statement.instruction {
            Instruction::Arg(args) => args.iter().map(|arg| (statement, arg)).collect(),
            _ => Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Dockerfile, String> {
        let source = Source::new("Dockerfile", text.as_bytes()).unwrap();
        Dockerfile::parse(&source).map_err(|failure| failure.to_string())
    }

    #[test]
    fn instructions_are_put_into_stages() {
        let file = read("ARG a\nARG b=1 c\nFROM x AS One\nRUN a\nFROM one\nARG d").unwrap();
        assert_eq!(file.global_args().map(|(_, arg)| arg.name.text.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let stages: Vec<_> = file.stages.iter().map(|stage| (stage.name.as_deref(), stage.statements.len())).collect();
        assert_eq!(stages, [(Some("one"), 1), (None, 1)]);
    }

    #[test]
    fn what_is_no_dockerfile() {
        for (text, message) in [
            ("", "file with no instructions"),
            ("# a\n\n", "file with no instructions"),
            ("ARG a", "dockerfile contains no stages to build"),
            ("RUN a\nFROM b", "no build stage in current context"),
            ("FROM a\nRUN <<E\nx", "unterminated heredoc"),
            // A mistake in a pair is found before the unknown flag above it.
            ("FROM a\nRUN --x y\nENV a", "ENV must have two arguments"),
        ] {
            assert_eq!(read(text).unwrap_err(), message, "{text}");
        }
        let many = "FROM a\n".repeat(limits::STAGES + 1);
        assert!(read(&many).unwrap_err().contains("more than 1000 stages"));
    }
}
