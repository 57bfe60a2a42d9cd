//! The findings of a file as data and as text: the JSON of `docker buildx build --call check,format=json`, without the
//! builder's own definition of where the file came from.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Checks, Warning};
use crate::error::Error;
use crate::evaluate::{Base, Evaluation};
use crate::file::{Dockerfile, Failure};
use crate::ignore::Ignore;
use crate::plan::{Options, Plan, PlannedStage};
use crate::report::excerpt;
use crate::source::{Lines, Source};

/// What a check found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Findings that count.
    pub warnings: Vec<Warning>,
    /// Why the file cannot be built, if it cannot.
    pub error: Option<Error>,
}

/// Checks a file: every stage, or what the target needs where there is one. `bases` is asked for what is known of images;
/// with nothing, what they would define is taken to be there.
#[must_use]
pub fn run(
    source: &Source,
    options: &Options,
    ignore: Option<&Ignore>,
    bases: &mut dyn FnMut(&PlannedStage) -> Option<Base>,
) -> Report {
    let told = options.build_args.get("BUILDKIT_DOCKERFILE_CHECK");
    let (checks, file) = match Dockerfile::parse(source) {
        Ok(file) => (file.checks.clone(), file),
        Err(failure) => {
            // What counts is said by a directive, which stands before every mistake.
            let checks = match told {
                Some(text) => Checks::from_options(text),
                None => crate::Directives::parse(source).and_then(|found| Checks::parse(found.check.as_ref(), source)),
            };
            return ended(&checks.unwrap_or_default(), failure);
        }
    };
    let checks = match told.map(|text| Checks::from_options(text)) {
        Some(Ok(checks)) => checks,
        Some(Err(error)) => return ended(&checks, error.into()),
        None => checks,
    };
    match evaluate(&file, options, ignore, bases) {
        Ok(evaluation) => Report { warnings: evaluation.warnings, error: None },
        Err(failure) => ended(&checks, failure),
    }
}

fn ended(checks: &Checks, failure: Failure) -> Report {
    Report { warnings: checks.filter(failure.warnings), error: Some(failure.error) }
}

fn evaluate(
    file: &Dockerfile,
    options: &Options,
    ignore: Option<&Ignore>,
    bases: &mut dyn FnMut(&PlannedStage) -> Option<Base>,
) -> Result<Evaluation, Failure> {
    let options = Options { all_stages: true, ..options.clone() };
    let mut plan = Plan::new(file, &options)?;
    loop {
        let asked: Vec<usize> = plan.needed().map(|(index, _)| index).collect();
        if asked.is_empty() {
            return Evaluation::new(&plan, ignore);
        }
        for index in asked {
            let base = bases(&plan.stages[index]).unwrap_or_default();
            plan.know(index, base)?;
        }
    }
}

/// Lines as the builder's messages have them: a range for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineRange {
    ranges: Vec<Range>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Range {
    start: Line,
    end: Line,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Line {
    line: u32,
}

impl From<Lines> for LineRange {
    fn from(lines: Lines) -> Self {
        let range = |line| Range { start: Line { line }, end: Line { line } };
        Self { ranges: (lines.first..=lines.last).map(range).collect() }
    }
}

impl LineRange {
    pub(crate) fn first_line(&self) -> u32 {
        self.ranges.first().map_or(0, |range| range.start.line)
    }
}

/// A report's JSON.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    warnings: Option<Vec<Finding>>,
    sources: [File; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    build_error: Option<BuildError>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    rule_name: String,
    description: &'static str,
    detail: String,
    location: LineRange,
}

#[derive(Clone, Debug, Serialize)]
struct File {
    filename: String,
    data: String,
    language: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct BuildError {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<LineRange>,
}

impl Report {
    /// What serialises to the JSON that clients print.
    #[must_use]
    pub fn result(&self, source: &Source) -> CheckResult {
        let finding = |warning: &Warning| Finding {
            rule_name: warning.rule.name(),
            description: warning.rule.description(),
            detail: warning.detail.clone(),
            location: warning.lines.into(),
        };
        CheckResult {
            warnings: (!self.warnings.is_empty()).then(|| self.warnings.iter().map(finding).collect()),
            sources: [File {
                filename: source.name().to_owned(),
                data: base64(source.text().as_bytes()),
                language: "Dockerfile",
            }],
            build_error: self
                .error
                .as_ref()
                .map(|error| BuildError { message: error.to_string(), location: error.lines.map(LineRange::from) }),
        }
    }

    /// As `docker build --check` prints findings, in the order of the file.
    #[must_use]
    pub fn text(&self, source: &Source) -> String {
        let mut text = match self.warnings.len() {
            0 => "Check complete, no warnings found.\n".to_owned(),
            1 => "Check complete, 1 warning has been found!\n".to_owned(),
            count => format!("Check complete, {count} warnings have been found!\n"),
        };
        let mut sorted: Vec<_> = self.warnings.iter().collect();
        sorted.sort_by_key(|warning| (warning.lines.first, warning.rule.name()));
        for warning in sorted {
            let Warning { rule, detail, lines, .. } = warning;
            let _ = write!(text, "\nWARNING: {rule}\n{detail}\n{}", excerpt(source, *lines));
        }
        text
    }
}

/// RFC 4648, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = bits >> (18 - 6 * place) & 63;
            text.push(if place > chunk.len() { '=' } else { char::from(ALPHABET[index as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_the_specification() {
        for (text, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }
}
