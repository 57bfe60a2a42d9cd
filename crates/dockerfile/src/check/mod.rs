//! Build checks: what a Dockerfile says that works and is a mistake nevertheless.
//!
//! Rules have BuildKit's names, descriptions and wording. Its links to pages about them are not repeated. `rules` says how
//! each is found; findings of files that cannot be built end where the build would.

mod report;
mod rules;

use std::fmt;

use crate::directive::Directive;
use crate::error::{Error, Problem};
use crate::limits;
use crate::source::{Lines, Source, Span};

pub(crate) use report::{LineRange, base64};
pub use report::{Report, run};
pub(crate) use rules::*;

/// A rule. What each is about is its [`Rule::description`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    StageNameCasing,
    FromAsCasing,
    NoEmptyContinuation,
    ConsistentInstructionCasing,
    DuplicateStageName,
    ReservedStageName,
    JSONArgsRecommended,
    MaintainerDeprecated,
    UndefinedArgInFrom,
    WorkdirRelativePath,
    UndefinedVar,
    MultipleInstructionsDisallowed,
    LegacyKeyValueFormat,
    InvalidBaseImagePlatform,
    RedundantTargetPlatform,
    SecretsUsedInArgOrEnv,
    InvalidDefaultArgInFrom,
    FromPlatformFlagConstDisallowed,
    CopyIgnoredFile,
    ExposeProtoCasing,
    ExposeInvalidFormat,
    InvalidDefinitionDescription,
}

impl Rule {
    /// All of them; the last is only looked at where a file asks for it.
    pub const ALL: [Rule; 22] = [
        Rule::StageNameCasing,
        Rule::FromAsCasing,
        Rule::NoEmptyContinuation,
        Rule::ConsistentInstructionCasing,
        Rule::DuplicateStageName,
        Rule::ReservedStageName,
        Rule::JSONArgsRecommended,
        Rule::MaintainerDeprecated,
        Rule::UndefinedArgInFrom,
        Rule::WorkdirRelativePath,
        Rule::UndefinedVar,
        Rule::MultipleInstructionsDisallowed,
        Rule::LegacyKeyValueFormat,
        Rule::InvalidBaseImagePlatform,
        Rule::RedundantTargetPlatform,
        Rule::SecretsUsedInArgOrEnv,
        Rule::InvalidDefaultArgInFrom,
        Rule::FromPlatformFlagConstDisallowed,
        Rule::CopyIgnoredFile,
        Rule::ExposeProtoCasing,
        Rule::ExposeInvalidFormat,
        Rule::InvalidDefinitionDescription,
    ];

    /// Its name, as directives skip it.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// What it is about, in a sentence.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Rule::StageNameCasing => "Stage names should be lowercase",
            Rule::FromAsCasing => "The 'as' keyword should match the case of the 'from' keyword",
            Rule::NoEmptyContinuation => "Empty continuation lines will become errors in a future release",
            Rule::ConsistentInstructionCasing => {
                "All commands within the Dockerfile should use the same casing (either upper or lower)"
            }
            Rule::DuplicateStageName => "Stage names should be unique",
            Rule::ReservedStageName => "Reserved words should not be used as stage names",
            Rule::JSONArgsRecommended => {
                "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals"
            }
            Rule::MaintainerDeprecated => {
                "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
            }
            Rule::UndefinedArgInFrom => "FROM command must use declared ARGs",
            Rule::WorkdirRelativePath => {
                "Relative workdir without an absolute workdir declared within the build can have unexpected results if \
                 the base image changes"
            }
            Rule::UndefinedVar => "Variables should be defined before their use",
            Rule::MultipleInstructionsDisallowed => {
                "Multiple instructions of the same type should not be used in the same stage"
            }
            Rule::LegacyKeyValueFormat => "Legacy key/value format with whitespace separator should not be used",
            Rule::InvalidBaseImagePlatform => "Base image platform does not match expected target platform",
            Rule::RedundantTargetPlatform => {
                "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"
            }
            Rule::SecretsUsedInArgOrEnv => "Sensitive data should not be used in the ARG or ENV commands",
            Rule::InvalidDefaultArgInFrom => {
                "Default value for global ARG results in an empty or invalid base image name"
            }
            Rule::FromPlatformFlagConstDisallowed => "FROM --platform flag should not use a constant value",
            Rule::CopyIgnoredFile => "Attempting to Copy file that is excluded by .dockerignore",
            Rule::ExposeProtoCasing => "Protocol in EXPOSE instruction should be lowercase",
            Rule::ExposeInvalidFormat => {
                "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release"
            }
            Rule::InvalidDefinitionDescription => {
                "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this \
                 is not intended to be a description comment, add an empty line or comment between the instruction and \
                 the comment."
            }
        }
    }

    fn experimental(self) -> bool {
        self == Rule::InvalidDefinitionDescription
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// By which rule.
    pub rule: Rule,
    /// What exactly.
    pub detail: String,
    /// The instruction's lines.
    pub lines: Lines,
    /// The word, or the instruction.
    pub span: Span,
}

impl fmt::Display for Warning {
    /// As builds print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (line {})", self.rule, self.detail, self.lines.first)
    }
}

/// Adds a finding, unless there are too many.
pub(crate) fn warn(warnings: &mut Vec<Warning>, rule: Rule, lines: Lines, span: Span, detail: String) {
    if warnings.len() < limits::WARNINGS {
        warnings.push(Warning { rule, detail, lines, span });
    }
}

/// Which findings count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    skip_all: bool,
    skip: Vec<String>,
    experimental_all: bool,
    experimental: Vec<String>,
    /// Findings fail the build.
    pub error: bool,
}

impl Checks {
    /// From a `check` directive.
    ///
    /// # Errors
    /// An option that there is not, or a value it cannot have.
    pub(crate) fn parse(directive: Option<&Directive>, source: &Source) -> Result<Self, Error> {
        let Some(directive) = directive else { return Ok(Self::default()) };
        Self::from_options(&directive.value)
            .map_err(|error| error.at_lines(source.lines_of(directive.span)).at(directive.span))
    }

    /// From the text of one, which is also that of the build argument `BUILDKIT_DOCKERFILE_CHECK`.
    ///
    /// # Errors
    /// The same.
    pub fn from_options(text: &str) -> Result<Self, Error> {
        let mut checks = Self::default();
        for option in text.split(';').map(str::trim).filter(|option| !option.is_empty()) {
            let unknown =
                || Error::of(Problem::CheckOption(option.split('=').next().unwrap_or_default().trim().to_owned()));
            let (key, value) = option.split_once('=').ok_or_else(unknown)?;
            let list = || value.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
            match key {
                "skip" if value.trim() == "all" => checks.skip_all = true,
                "skip" => checks.skip.extend(list()),
                "experimental" if value.trim() == "all" => checks.experimental_all = true,
                "experimental" => checks.experimental.extend(list()),
                "error" => {
                    checks.error = crate::instruction::boolean(value.trim())
                        .ok_or_else(|| Error::of(Problem::CheckBool(option.to_owned(), value.trim().to_owned())))?;
                }
                _ => return Err(unknown()),
            }
        }
        Ok(checks)
    }

    /// Leaves those that count.
    #[must_use]
    pub fn filter(&self, warnings: Vec<Warning>) -> Vec<Warning> {
        let counts = |rule: &Rule| {
            let name = rule.name();
            let asked = !rule.experimental() || self.experimental_all || self.experimental.contains(&name);
            asked && !self.skip_all && !self.skip.contains(&name)
        };
        let counted: Vec<Rule> = Rule::ALL.into_iter().filter(counts).collect();
        warnings.into_iter().filter(|warning| counted.contains(&warning.rule)).collect()
    }

    /// Fails where findings that count fail the build.
    ///
    /// # Errors
    /// The names of their rules.
    pub fn verdict(&self, warnings: &[Warning]) -> Result<(), Error> {
        let mut names: Vec<String> = Vec::new();
        for warning in warnings {
            let name = warning.rule.name();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if self.error && !names.is_empty() { Err(Error::of(Problem::Lint(names.join(", ")))) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let checks = Checks::from_options("skip=FromAsCasing, StageNameCasing;error=true;experimental=all").unwrap();
        let warning = |rule| Warning { rule, detail: String::new(), lines: Lines::one(1), span: Span::default() };
        let all: Vec<_> = Rule::ALL.into_iter().map(warning).collect();
        let left = checks.filter(all.clone());
        assert_eq!(left.len(), 20);
        assert!(
            checks
                .verdict(&left[..2])
                .unwrap_err()
                .to_string()
                .ends_with("for rules: NoEmptyContinuation, ConsistentInstructionCasing")
        );
        assert_eq!(Checks::default().filter(all.clone()).len(), 21);
        assert!(Checks::from_options("skip=all").unwrap().filter(all).is_empty());
        for (text, message) in [
            ("skip", "failed to parse check options: invalid check option \"skip\""),
            ("foo=bar", "failed to parse check options: invalid check option \"foo\""),
            (
                "error=x",
                "failed to parse check options: failed to parse check option \"error=x\": strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(Checks::from_options(text).unwrap_err().to_string(), message);
        }
    }
}
