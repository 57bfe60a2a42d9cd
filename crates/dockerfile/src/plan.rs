//! The stages of a Dockerfile for one build: what each is based on and takes files from, and which the target needs.
//!
//! Names are resolved as the builder does: FROM sees the stages before it, files may come from a stage by name or number,
//! and everything else is an image. A plan does no I/O: [`Plan::needed`] says which images somebody has to look up, and
//! [`Plan::know`] takes what they are, triggers included, which may make more stages and images needed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use types::{Platform, Reference};

use crate::check::{self, Rule, Warning};
use crate::error::{Error, Problem, Suggestion};
use crate::evaluate::Base;
use crate::expand::{Expander, Variables as _};
use crate::file::{Dockerfile, Failure, Stage};
use crate::instruction::{self, Instruction, Statement};
use crate::lex;
use crate::limits;
use crate::scope::{Scope, platform_args};
use crate::source::{Lines, Source, Span};
use crate::suggest::suggestion;
use crate::word::Word;

/// What a build is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--target`; the last stage without it.
    pub target: Option<String>,
    /// The platform that is built for.
    pub target_platform: Platform,
    /// The platform that builds.
    pub build_platform: Platform,
    /// Names of contexts that take the place of stages and images (`--build-context`).
    pub contexts: BTreeSet<String>,
    /// Every stage is needed, as for a check without a target.
    pub all_stages: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            build_args: BTreeMap::new(),
            target: None,
            target_platform: Platform::host(),
            build_platform: Platform::host(),
            contexts: BTreeSet::new(),
            all_stages: false,
        }
    }
}

/// What a stage begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseImage {
    /// Nothing.
    Scratch,
    /// An earlier stage, by its number.
    Stage(usize),
    /// A context by its name.
    Context(String),
    /// An image.
    Image(Reference),
}

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// An earlier stage, by its number.
    Stage(usize),
    /// A context by its name.
    Context(String),
    /// An image; `scratch` is empty.
    Image(Reference),
}

/// A stage with its names resolved.
#[derive(Clone, Debug)]
pub struct PlannedStage {
    /// What it begins with.
    pub base: BaseImage,
    /// The base as expanded.
    pub base_name: String,
    /// The platform that its FROM asks for; the target's without it.
    pub platform: Option<Platform>,
    /// What its instructions take files from, `--from` by `--from`.
    pub origins: Vec<Origin>,
    /// Whether the target needs it.
    pub needed: bool,
    /// What is known of the image or context it begins with.
    pub known: Option<Base>,
    /// Instructions that its base wants to come first.
    pub triggers: Vec<Statement>,
    /// Lines from which stages are taken, by the stages.
    edges: Vec<(usize, Lines, Span)>,
}

/// The stages of a build.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    pub(crate) file: &'a Dockerfile,
    pub(crate) options: &'a Options,
    /// What FROM sees.
    pub(crate) globals: Scope,
    /// One for each stage of the file.
    pub stages: Vec<PlannedStage>,
    /// The stage that is built.
    pub target: usize,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) fuel: u64,
}

impl<'a> Plan<'a> {
    /// Resolves the stages of a file.
    ///
    /// # Errors
    /// A base or platform that is none, a target or stage that there is not, stages that need each other.
    pub fn new(file: &'a Dockerfile, options: &'a Options) -> Result<Self, Failure> {
        let mut plan = Self {
            file,
            options,
            globals: Scope::default(),
            stages: Vec::new(),
            target: 0,
            warnings: file.warnings.clone(),
            fuel: limits::EXPANSION_WORK,
        };
        match plan.resolve() {
            Ok(()) => Ok(plan),
            Err(error) => Err(Failure { error, warnings: plan.warnings }),
        }
    }

    fn resolve(&mut self) -> Result<(), Error> {
        self.target = target(self.file, self.options.target.as_deref())?;
        let none = BTreeMap::new();
        let options = self.options;
        self.globals = self.global_scope(&options.build_args)?;
        let defaults = self.global_scope(&none)?;
        let file = self.file;
        let mut names: HashMap<&str, usize> = HashMap::new();
        for (index, stage) in file.stages.iter().enumerate() {
            let located = |error: Error| error.at_lines(stage.lines).at(stage.span);
            let planned = self.stage(stage, &names, &defaults).map_err(located)?;
            self.stages.push(planned);
            if let Some(name) = &stage.name {
                names.insert(name, index);
            }
        }
        for index in 0..file.stages.len() {
            if let BaseImage::Stage(base) = self.stages[index].base {
                let wanted = file.stages[base].statements.iter().filter_map(|statement| match &statement.instruction {
                    Instruction::OnBuild(trigger) => Some(trigger.text.clone()),
                    _ => None,
                });
                let wanted: Vec<_> = wanted.collect();
                self.stages[index].triggers = triggers(&wanted, &file.stages[index])?;
            }
            self.origins(index, true)?;
        }
        self.cycles()?;
        self.order()?;
        self.mark();
        Ok(())
    }

    fn global_scope(&mut self, build_args: &BTreeMap<String, String>) -> Result<Scope, Error> {
        let mut scope = Scope::default();
        let name = self.file.stages.get(self.target).and_then(|stage| stage.name.as_deref());
        for (name, value) in platform_args(&self.options.target_platform, &self.options.build_platform, name) {
            scope.set(&name, &value)?;
        }
        let file = self.file;
        for (statement, arg) in file.global_args() {
            let located = |error: Error| error.at_lines(statement.lines).at(statement.span);
            let name = &arg.name.text;
            match (build_args.get(name), &arg.default) {
                (Some(value), _) => scope.set(name, value).map_err(located)?,
                (None, Some(default)) => {
                    let (value, _) = self.expand(&scope, default).map_err(located)?;
                    scope.set(name, &value).map_err(located)?;
                }
                (None, None) => scope.declare(name).map_err(located)?,
            }
        }
        Ok(scope)
    }

    fn expand(&mut self, scope: &Scope, word: &Word) -> Result<(String, Vec<String>), Error> {
        let mut expander = Expander::new(scope, self.file.directives.escape, &mut self.fuel);
        let value = expander.word(&word.text);
        let undefined = expander.undefined;
        match value {
            Ok(value) => Ok((value, undefined)),
            Err(why) => Err(Error::of(Problem::Expansion { word: word.text.clone(), why }).at(word.span)),
        }
    }

    fn stage(&mut self, stage: &Stage, names: &HashMap<&str, usize>, defaults: &Scope) -> Result<PlannedStage, Error> {
        let globals = std::mem::take(&mut self.globals);
        let result = self.stage_in(stage, names, &globals, defaults);
        self.globals = globals;
        result
    }

    fn stage_in(
        &mut self,
        stage: &Stage,
        names: &HashMap<&str, usize>,
        globals: &Scope,
        defaults: &Scope,
    ) -> Result<PlannedStage, Error> {
        let word = &stage.from.base;
        let by_default = self.expand(defaults, word).ok().map(|(value, _)| value);
        let declared =
            |name: &str| names.contains_key(name) || self.options.contexts.contains(name) || name == "scratch";
        if by_default.is_some_and(|name| !declared(&name) && Reference::parse(&name).is_err()) {
            let detail = format!("Default value for ARG {} results in empty or invalid base image name", word.text);
            check::warn(&mut self.warnings, Rule::InvalidDefaultArgInFrom, stage.lines, word.span, detail);
        }
        let base_name = self.expand_from(globals, word, stage)?.0;
        if base_name.is_empty() {
            return Err(Error::of(Problem::BlankBase(word.text.clone())).at(word.span));
        }
        let platform = match &stage.from.platform {
            Some(word) if !word.text.is_empty() => Some(self.platform(globals, word, stage)?),
            _ => None,
        };
        let base = if self.options.contexts.contains(&base_name) {
            BaseImage::Context(base_name.clone())
        } else if let Some(index) = names.get(base_name.as_str()) {
            BaseImage::Stage(*index)
        } else if base_name == "scratch" {
            BaseImage::Scratch
        } else {
            let fail = |why| Error::of(Problem::BaseName { name: base_name.clone(), why }).at(word.span);
            BaseImage::Image(Reference::parse(&base_name).map_err(fail)?)
        };
        Ok(PlannedStage {
            base,
            base_name,
            platform,
            origins: Vec::new(),
            needed: false,
            known: None,
            triggers: Vec::new(),
            edges: Vec::new(),
        })
    }

    /// Expands a word of a FROM and warns of what is not declared.
    fn expand_from(&mut self, globals: &Scope, word: &Word, stage: &Stage) -> Result<(String, Suggestion), Error> {
        let mut expander = Expander::new(globals, self.file.directives.escape, &mut self.fuel);
        let value = expander.word(&word.text);
        let undefined = expander.undefined;
        let mut last = Suggestion::default();
        for name in undefined {
            if self.warnings.len() >= limits::WARNINGS {
                break;
            }
            last = suggestion(&name, globals.names().take(limits::SUGGESTIONS));
            let detail = format!("FROM argument '{name}' is not declared{last}");
            check::warn(&mut self.warnings, Rule::UndefinedArgInFrom, stage.lines, word.span, detail);
        }
        let why = |why| Error::of(Problem::Expansion { word: word.text.clone(), why }).at(word.span);
        Ok((value.map_err(why)?, last))
    }

    fn platform(&mut self, globals: &Scope, word: &Word, stage: &Stage) -> Result<Platform, Error> {
        let (value, suggestion) = self.expand_from(globals, word, stage)?;
        if value.is_empty() {
            return Err(Error::of(Problem::EmptyPlatform { word: word.text.clone(), suggestion }).at(word.span));
        }
        if ["$TARGETPLATFORM", "${TARGETPLATFORM}"].contains(&word.text.as_str()) {
            let text = &word.text;
            let detail =
                format!("Setting platform to predefined {text} in FROM is redundant as this is the default behavior");
            check::warn(&mut self.warnings, Rule::RedundantTargetPlatform, stage.lines, word.span, detail);
        }
        let fail = |why| Error::of(Problem::Platform { word: word.text.clone(), why }).at(word.span);
        if let Some(why) = platform_fault(&value) {
            return Err(fail(why));
        }
        let platform: Platform =
            value.parse().map_err(|_| fail(format!("\"{value}\": cannot parse platform specifier")))?;
        let mut found = |rule, detail| check::warn(&mut self.warnings, rule, stage.lines, word.span, detail);
        // A stage that says its platform in its name means it.
        let named = |part: &str| {
            let name = stage.name.as_deref().unwrap_or_default();
            name.split(['-', '_', '.']).any(|word| word == part)
        };
        let meant = named(&platform.os) || named(&platform.arch);
        if !word.text.contains('$') && !meant {
            let detail = format!("FROM --platform flag should not use constant value \"{}\"", word.text);
            found(Rule::FromPlatformFlagConstDisallowed, detail);
        }
        Ok(platform)
    }

    /// Resolves what the instructions of a stage take files from; with `own`, its own, otherwise its triggers' alone.
    fn origins(&mut self, index: usize, own: bool) -> Result<(), Error> {
        let file = self.file;
        let stage = &file.stages[index];
        let triggers = self.stages[index].triggers.clone();
        let own = if own { stage.statements.as_slice() } else { &[] };
        let (mut origins, mut edges) = (Vec::new(), Vec::new());
        for statement in triggers.iter().chain(own) {
            let mut add = |origin| {
                if let Origin::Stage(from) = &origin {
                    edges.push((*from, statement.lines, statement.span));
                }
                origins.push(origin);
            };
            match &statement.instruction {
                Instruction::Copy(copy) => {
                    if let Some(word) = &copy.from {
                        let located = |error: Error| error.at_lines(statement.lines).at(word.span);
                        add(self.origin(index, &word.text, true).map_err(located)?);
                    }
                }
                Instruction::Run(run) => {
                    for spec in &run.mounts {
                        let located = |error: Error| error.at_lines(statement.lines).at(spec.word.span);
                        if let Some(from) = &spec.from {
                            add(self.origin(index, from, false).map_err(located)?);
                        }
                    }
                }
                _ => {}
            }
        }
        let planned = &mut self.stages[index];
        planned.origins.extend(origins);
        planned.edges.extend(edges);
        Ok(())
    }

    /// The file whose stages these are.
    #[must_use]
    pub fn file(&self) -> &'a Dockerfile {
        self.file
    }

    /// What the build was told.
    #[must_use]
    pub fn options(&self) -> &'a Options {
        self.options
    }

    /// What a `from` of a stage's instruction names; with `numbers`, stages also by their number, as COPY has it.
    ///
    /// # Errors
    /// A number that no stage has, or a name that no image can have.
    pub fn origin(&self, current: usize, text: &str, numbers: bool) -> Result<Origin, Error> {
        if self.options.contexts.contains(text) {
            return Ok(Origin::Context(text.to_owned()));
        }
        if numbers && let Ok(number) = text.parse::<i64>() {
            let index = usize::try_from(number).ok().filter(|index| *index < self.file.stages.len());
            return index.map(Origin::Stage).ok_or(Error::of(Problem::StageIndex(number)));
        }
        let lower = text.to_lowercase();
        let named = |stage: &Stage| stage.name.as_deref() == Some(lower.as_str());
        let before = self.file.stages.iter().take(current).rposition(named);
        if let Some(index) = before.or_else(|| self.file.stages.iter().position(named)) {
            return Ok(Origin::Stage(index));
        }
        if numbers && text.contains('$') {
            return Err(Error::of(Problem::CopyFromVariable));
        }
        let reference = Reference::parse(text);
        reference.map(Origin::Image).map_err(|why| Error::of(Problem::BaseName { name: text.to_owned(), why }))
    }

    fn name(&self, index: usize) -> String {
        self.file.stages[index].name.clone().unwrap_or_else(|| format!("stage-{index}"))
    }

    /// Finds stages that need each other. Every edge is gone along once.
    fn cycles(&self) -> Result<(), Error> {
        #[derive(Clone, Copy, PartialEq)]
        enum Seen {
            Not,
            OnPath,
            Done,
        }
        let mut seen = vec![Seen::Not; self.stages.len()];
        for start in 0..self.stages.len() {
            // The path from the start: a stage and how many of its edges have been gone along.
            let mut path = Vec::new();
            if seen[start] == Seen::Not {
                seen[start] = Seen::OnPath;
                path.push((start, 0usize));
            }
            while let Some((stage, taken)) = path.last_mut() {
                // What a stage begins with is always before it, and so no part of a cycle that no later stage is in.
                let next = self.stages[*stage].edges.get(*taken).map(|(from, ..)| *from);
                let Some(next) = next else {
                    seen[*stage] = Seen::Done;
                    path.pop();
                    continue;
                };
                *taken += 1;
                match seen[next] {
                    Seen::Done => {}
                    Seen::Not => {
                        seen[next] = Seen::OnPath;
                        path.push((next, 0));
                    }
                    Seen::OnPath => {
                        let edge = path
                            .iter()
                            .find(|(stage, _)| *stage == next)
                            .and_then(|(stage, taken)| self.stages[*stage].edges.get(taken.saturating_sub(1)));
                        let error = Error::of(Problem::Circular(self.name(next)));
                        return Err(match edge {
                            Some((_, lines, span)) => error.at_lines(*lines).at(*span),
                            None => error.at_lines(self.file.stages[next].lines),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn order(&self) -> Result<(), Error> {
        for (index, stage) in self.stages.iter().enumerate() {
            if let Some((from, lines, span)) = stage.edges.iter().find(|(from, ..)| *from >= index) {
                let problem = Problem::LaterStage { from: self.name(*from), current: self.name(index) };
                return Err(Error::of(problem).at_lines(*lines).at(*span));
            }
        }
        Ok(())
    }

    fn mark(&mut self) {
        let mut wanted: Vec<usize> = if self.options.all_stages && self.options.target.is_none() {
            (0..self.stages.len()).collect()
        } else {
            vec![self.target]
        };
        for stage in &mut self.stages {
            stage.needed = false;
        }
        while let Some(index) = wanted.pop() {
            let stage = &mut self.stages[index];
            if std::mem::replace(&mut stage.needed, true) {
                continue;
            }
            wanted.extend(stage.edges.iter().map(|(from, ..)| *from));
            if let BaseImage::Stage(base) = stage.base {
                wanted.push(base);
            }
        }
    }

    /// Stages that are needed and begin with an image or context of which nothing is known yet.
    pub fn needed(&self) -> impl Iterator<Item = (usize, &PlannedStage)> {
        let asks = |stage: &PlannedStage| matches!(stage.base, BaseImage::Image(_) | BaseImage::Context(_));
        self.stages.iter().enumerate().filter(move |(_, stage)| stage.needed && stage.known.is_none() && asks(stage))
    }

    /// Takes what is known of the image that a stage begins with. Ask [`Plan::needed`] again when all are.
    ///
    /// # Errors
    /// A trigger that cannot be read, or that takes files from where it may not.
    pub fn know(&mut self, stage: usize, base: Base) -> Result<(), Failure> {
        let Some(planned) = self.stages.get(stage).filter(|planned| planned.known.is_none()) else { return Ok(()) };
        if let (Some(found), None) = (&base.platform, &planned.platform)
            && !self.options.target_platform.matches(found)
        {
            let from = &self.file.stages[stage];
            let detail = format!(
                "Base image {} was pulled with platform \"{found}\", expected \"{}\" for current build",
                planned.base_name, self.options.target_platform
            );
            check::warn(&mut self.warnings, Rule::InvalidBaseImagePlatform, from.lines, from.from.base.span, detail);
        }
        let result = triggers(&base.on_build, &self.file.stages[stage]).and_then(|statements| {
            let any = !statements.is_empty();
            self.stages[stage].triggers = statements;
            self.stages[stage].known = Some(base);
            if any {
                self.origins(stage, false)?;
                self.cycles()?;
                self.order()?;
                self.mark();
            }
            Ok(())
        });
        result.map_err(|error| Failure { error, warnings: self.warnings.clone() })
    }

    /// What an argument that a stage declares without a value is, unless the build is told.
    pub(crate) fn global(&self, name: &str) -> Option<&str> {
        self.globals.value(name)
    }
}

fn target(file: &Dockerfile, target: Option<&str>) -> Result<usize, Error> {
    let Some(target) = target.filter(|target| !target.is_empty()) else {
        return Ok(file.stages.len().saturating_sub(1));
    };
    let lower = target.to_lowercase();
    let found = file.stages.iter().rposition(|stage| stage.name.as_deref() == Some(lower.as_str()));
    found.ok_or_else(|| {
        let names = file.stages.iter().filter_map(|stage| stage.name.as_deref());
        Error::of(Problem::NoTarget { target: target.to_owned(), suggestion: suggestion(&lower, names) })
    })
}

/// Reads the instructions that a base image wants, as if they stood behind the FROM.
fn triggers(texts: &[String], stage: &Stage) -> Result<Vec<Statement>, Error> {
    let located = |error: Error| {
        let error = error.plain();
        Error { lines: Some(stage.lines), span: Some(stage.span), ..error }
    };
    if texts.len() > limits::TRIGGERS {
        return Err(located(Error::of(Problem::TooMany {
            what: "triggers of the base image",
            limit: limits::TRIGGERS,
        })));
    }
    let mut found = Vec::new();
    for text in texts {
        let source = Source::new("ONBUILD", text.as_bytes()).map_err(located)?;
        let directives = crate::directive::Directives::default();
        for logical in lex::instructions(&source, &directives).map_err(located)? {
            instruction::precheck(&logical, directives.escape).map_err(located)?;
            let mut statement = instruction::parse(&logical, directives.escape).map_err(located)?;
            let problem = match &statement.instruction {
                Instruction::OnBuild(_) => Problem::OnbuildChain,
                Instruction::From(_) | Instruction::Maintainer(_) => {
                    Problem::OnbuildTrigger(statement.instruction.name().to_owned())
                }
                _ => {
                    statement.relocate(stage.lines, stage.span);
                    found.push(statement);
                    continue;
                }
            };
            return Err(located(Error::of(problem)));
        }
    }
    Ok(found)
}

/// What the builder says of a platform that is none.
fn platform_fault(text: &str) -> Option<String> {
    const SYSTEMS: [&str; 17] = [
        "linux",
        "windows",
        "darwin",
        "macos",
        "freebsd",
        "netbsd",
        "openbsd",
        "dragonfly",
        "solaris",
        "illumos",
        "aix",
        "android",
        "ios",
        "js",
        "plan9",
        "wasip1",
        "hurd",
    ];
    const ARCHITECTURES: [&str; 30] = [
        "386", "i386", "i686", "x86", "amd64", "x86_64", "x86-64", "arm", "armbe", "armhf", "armel", "arm64",
        "arm64be", "aarch64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc", "ppc64", "ppc64le", "riscv",
        "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm", "amd64p32",
    ];
    let parts: Vec<&str> = text.split('/').collect();
    let shown = crate::error::Quoted(text);
    let word =
        |part: &&&str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c));
    if parts.len() > 3 {
        return Some(format!("{shown}: cannot parse platform specifier"));
    }
    if let Some(bad) = parts.iter().find(|part| !word(part)) {
        let bad = crate::error::Quoted(bad);
        return Some(format!(
            "{bad} is an invalid component of {shown}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\""
        ));
    }
    let lower = text.to_ascii_lowercase();
    let known = SYSTEMS.contains(&lower.as_str()) || ARCHITECTURES.contains(&lower.as_str());
    (parts.len() == 1 && !known).then(|| format!("{shown}: unknown operating system or architecture"))
}
