//! How each rule is found. Those that need nothing but the text are looked for while it is read, the others during the
//! evaluation, which calls the functions of this file with what it knows.

use std::collections::HashMap;

use super::{Rule, Warning, warn};
use crate::file::Dockerfile;
use crate::instruction::{Command, Instruction, Pairs, Statement};
use crate::lex::Logical;
use crate::limits;
use crate::source::{Lines, Span};
use crate::suggest::suggestion;
use crate::word::{Rest, Word};

pub(crate) fn continuations(warnings: &mut Vec<Warning>, lines: &[Logical]) {
    for logical in lines.iter().filter(|logical| logical.empty_continuation) {
        let last = Lines::one(logical.lines.last);
        warn(warnings, Rule::NoEmptyContinuation, last, logical.span, "Empty continuation line".to_owned());
    }
}

/// Rules about the words of one instruction, which need not even be valid.
pub(crate) fn words(warnings: &mut Vec<Warning>, logical: &Logical) {
    let keyword = logical.keyword();
    let mut found = |rule, span, detail| warn(warnings, rule, logical.lines, span, detail);
    if keyword.eq_ignore_ascii_case("MAINTAINER") {
        let detail = "Maintainer instruction is deprecated in favor of using label".to_owned();
        found(Rule::MaintainerDeprecated, logical.keyword_span(), detail);
    }
    if !keyword.eq_ignore_ascii_case("FROM") {
        return;
    }
    let rest = Rest::new(&logical.joined, logical.keyword, '\\');
    let Ok(words) = rest.flags().and_then(|(_, rest)| rest.words()) else { return };
    if let [_, word, name] = words.as_slice()
        && word.text.eq_ignore_ascii_case("AS")
    {
        if name.text != name.text.to_lowercase() {
            let detail = format!("Stage name '{}' should be lowercase", name.text);
            found(Rule::StageNameCasing, name.span, detail);
        }
        if ["scratch", "context"].contains(&name.text.to_lowercase().as_str()) {
            let detail = format!("Stage name should not use the same name as reserved stage \"{}\"", name.text);
            found(Rule::ReservedStageName, name.span, detail);
        }
    }
    if let [_, word, _, ..] = words.as_slice() {
        let (lower, upper) = (keyword.to_ascii_lowercase(), keyword.to_ascii_uppercase());
        let alike = |text: &str| match keyword {
            _ if keyword == lower => text == text.to_lowercase(),
            _ if keyword == upper => text == text.to_uppercase(),
            _ => true,
        };
        if !alike(&word.text) {
            let detail = format!("'{}' and '{keyword}' keywords' casing do not match", word.text);
            found(Rule::FromAsCasing, word.span, detail);
        }
    }
}

/// Rules about instructions beside each other.
pub(crate) fn structure(file: &mut Dockerfile) {
    let mut warnings = std::mem::take(&mut file.warnings);
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for stage in &file.stages {
        if let Some((name, word)) = stage.name.as_deref().zip(stage.from.name.as_ref()) {
            let count = seen.entry(name).or_default();
            *count += 1;
            if *count > 1 {
                let detail = format!("Duplicate stage name \"{name}\", stage names should be unique");
                warn(&mut warnings, Rule::DuplicateStageName, stage.lines, word.span, detail);
            }
        }
    }
    casing(&mut warnings, file);
    for (lines, comments, keyword, names) in described(file) {
        description(&mut warnings, lines, comments, keyword, &names);
    }
    file.warnings = warnings;
}

fn casing(warnings: &mut Vec<Warning>, file: &Dockerfile) {
    let stages = file.stages.iter().flat_map(|stage| {
        std::iter::once((&stage.keyword, stage.lines))
            .chain(stage.statements.iter().map(|statement| (&statement.keyword, statement.lines)))
    });
    let globals = file.globals.iter().map(|statement| (&statement.keyword, statement.lines));
    let keywords: Vec<_> = globals.chain(stages).collect();
    let lower = |word: &Word| word.text == word.text.to_ascii_lowercase();
    let upper = |word: &Word| word.text == word.text.to_ascii_uppercase();
    let most_lower = keywords.iter().filter(|(word, _)| lower(word)).count()
        > keywords.iter().filter(|(word, _)| upper(word)).count();
    let majority = if most_lower { "lowercase" } else { "uppercase" };
    for (word, lines) in keywords {
        if !(if most_lower { lower(word) } else { upper(word) }) {
            let text = &word.text;
            let detail = format!("Command '{text}' should match the case of the command majority ({majority})");
            warn(warnings, Rule::ConsistentInstructionCasing, lines, word.span, detail);
        }
    }
}

type Described<'a> = (Lines, &'a [String], &'static str, Vec<&'a Word>);

/// What comments may describe: stages and arguments.
fn described(file: &Dockerfile) -> Vec<Described<'_>> {
    let mut found = Vec::new();
    for statement in &file.globals {
        found.extend(described_arg(statement));
    }
    for stage in &file.stages {
        if let Some(name) = &stage.from.name {
            found.push((stage.lines, stage.comments.as_slice(), "FROM", vec![name]));
        }
        found.extend(stage.statements.iter().filter_map(described_arg));
    }
    found
}

fn described_arg(statement: &Statement) -> Option<Described<'_>> {
    match &statement.instruction {
        Instruction::Arg(args) => {
            Some((statement.lines, statement.comments.as_slice(), "ARG", args.iter().map(|arg| &arg.name).collect()))
        }
        _ => None,
    }
}

fn description(warnings: &mut Vec<Warning>, lines: Lines, comments: &[String], keyword: &str, names: &[&Word]) {
    let Some(last) = comments.last() else { return };
    let described = names.iter().any(|name| crate::outline::describes(comments, &name.text));
    let Some(first) = names.first().filter(|_| !last.is_empty() && !is_directive(last) && !described) else { return };
    let shown = if names.len() > 1 { "<arg_key>" } else { &first.text };
    let detail = format!("Comment for {keyword} should follow the format: `# {shown} <description>`");
    warn(warnings, Rule::InvalidDefinitionDescription, lines, first.span, detail);
}

fn is_directive(comment: &str) -> bool {
    comment.split_once('=').is_some_and(|(key, _)| {
        ["escape", "syntax", "check"].iter().any(|known| key.trim().eq_ignore_ascii_case(known))
    })
}

pub(crate) fn undefined<'a>(
    warnings: &mut Vec<Warning>,
    statement: (Lines, Span),
    names: Vec<String>,
    known: impl Iterator<Item = &'a str> + Clone,
) {
    for name in names {
        // Similar names are looked for as long as somebody is told of them.
        if warnings.len() >= limits::WARNINGS {
            return;
        }
        let mut near = suggestion(&name, known.clone().take(limits::SUGGESTIONS));
        near.0 = near.0.map(|near| format!("${near}"));
        let detail = format!("Usage of undefined variable '${name}'{near}");
        warn(warnings, Rule::UndefinedVar, statement.0, statement.1, detail);
    }
}

/// Rules about pairs; the names are those after expansion.
pub(crate) fn pairs(warnings: &mut Vec<Warning>, statement: &Statement, pairs: &Pairs) {
    if pairs.legacy {
        let word = &statement.keyword.text;
        let detail = format!("\"{word} key=value\" should be used instead of legacy \"{word} key value\" format");
        warn(warnings, Rule::LegacyKeyValueFormat, statement.lines, statement.span, detail);
    }
    if matches!(statement.instruction, Instruction::Env(_)) {
        for pair in &pairs.pairs {
            secret(warnings, statement, &pair.name);
        }
    }
}

pub(crate) fn secret(warnings: &mut Vec<Warning>, statement: &Statement, name: &Word) {
    let lower = name.text.to_ascii_lowercase();
    let mut parts = lower.split('_');
    let secret = |part: &str| {
        ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"]
            .contains(&part)
    };
    if parts.clone().any(secret) && !parts.any(|part| part == "public") {
        let keyword = statement.instruction.name();
        let detail = format!("Do not use ARG or ENV instructions for sensitive data ({keyword} \"{}\")", name.text);
        warn(warnings, Rule::SecretsUsedInArgOrEnv, statement.lines, name.span, detail);
    }
}

pub(crate) fn shell_form(warnings: &mut Vec<Warning>, statement: &Statement, command: &Command) {
    if let Command::Shell(line) = command {
        let keyword = statement.instruction.name();
        let detail =
            format!("JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals");
        warn(warnings, Rule::JSONArgsRecommended, statement.lines, line.span, detail);
    }
}

/// An instruction of which the last one counts, behind another of the same stage.
pub(crate) fn repeated(warnings: &mut Vec<Warning>, earlier: (Lines, Span), keyword: &str) {
    let detail = format!(
        "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
    );
    warn(warnings, Rule::MultipleInstructionsDisallowed, earlier.0, earlier.1, detail);
}

pub(crate) fn workdir(warnings: &mut Vec<Warning>, statement: &Statement, path: &str) {
    let shown = crate::error::Quoted(path);
    let detail = format!("Relative workdir {shown} can have unexpected results if the base image changes");
    warn(warnings, Rule::WorkdirRelativePath, statement.lines, statement.span, detail);
}

pub(crate) fn expose(warnings: &mut Vec<Warning>, statement: &Statement, port: &str, span: Span) {
    let protocol = port.split_once('/').map_or("", |(_, protocol)| protocol);
    if protocol != protocol.to_lowercase() {
        let detail = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
        warn(warnings, Rule::ExposeProtoCasing, statement.lines, span, detail);
    }
    // An empty address or port before the colon says nothing.
    let outside = port.rsplit_once(':').map_or("", |(outside, _)| outside);
    if !outside.is_empty() {
        let detail = format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'");
        warn(warnings, Rule::ExposeInvalidFormat, statement.lines, span, detail);
    }
}

pub(crate) fn ignored(warnings: &mut Vec<Warning>, statement: &Statement, source: &Word) {
    let name = match statement.instruction {
        Instruction::Add(_) => "Add",
        _ => "Copy",
    };
    let shown = crate::error::Quoted(&source.text);
    let detail = format!("Attempting to {name} file {shown} that is excluded by .dockerignore");
    warn(warnings, Rule::CopyIgnoredFile, statement.lines, source.span, detail);
}
