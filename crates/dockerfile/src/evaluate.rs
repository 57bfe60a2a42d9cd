//! What the instructions of each stage say once every variable has its value.
//!
//! Stages are gone through in the order of the file, since each only uses those before it. RUN's commands are left to
//! their shell; everything else that a builder acts on comes out expanded and checked.

use std::sync::Arc;

use types::{ExposedPort, Platform, PortError, Protocol, Signal, parse_port_spec};

use crate::check::{self, Checks, Warning};
use crate::error::{Error, Problem};
use crate::expand::Expander;
use crate::file::{Dockerfile, Failure};
use crate::ignore::Ignore;
use crate::instruction::{self, AddSource, Arg, FileSource, Files, Instruction, Mode, Mount, Pairs, Statement};
use crate::limits;
use crate::plan::{BaseImage, Plan};
use crate::scope::{PATH, Scope};
use crate::source::{Lines, Span};
use crate::word::Word;

/// What is known of an image that a stage begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// Its environment, in its order.
    pub env: Vec<(String, String)>,
    /// Its `Shell`, if it has one.
    pub shell: Vec<String>,
    /// Its `OnBuild` triggers.
    pub on_build: Vec<String>,
    /// What it was made for.
    pub platform: Option<Platform>,
}

/// An instruction that is ready to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its words are expanded. An ARG without a value has no default here; one that got its value has it as its default.
    pub statement: Statement,
    /// The mounts of a RUN.
    pub mounts: Vec<Mount>,
    /// The ports of an EXPOSE, sorted and each once.
    pub ports: Vec<ExposedPort>,
    /// The `--chmod` of a COPY or ADD.
    pub mode: Option<Mode>,
}

/// A stage that the target needs.
#[derive(Clone, Debug)]
pub struct EvaluatedStage {
    /// Its number.
    pub index: usize,
    /// Triggers of its base, then its own instructions.
    pub steps: Vec<Step>,
    state: Arc<State>,
}

impl EvaluatedStage {
    /// The environment of the image it makes.
    pub fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        self.state.env.pairs()
    }

    /// The arguments that have values at its end.
    pub fn args(&self) -> impl Iterator<Item = (&str, &str)> {
        self.state.args.pairs()
    }
}

/// Every stage that the target needs.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// In the order of the file.
    pub stages: Vec<EvaluatedStage>,
    /// Findings, those of the plan and the file included; only those that count.
    pub warnings: Vec<Warning>,
    /// Which findings count.
    pub checks: Checks,
}

/// What one stage leaves to those that begin with it.
#[derive(Clone, Debug, Default)]
struct State {
    env: Scope,
    args: Scope,
    /// Both, as words see them.
    seen: Scope,
    workdir: bool,
    shell: bool,
}

impl Evaluation {
    /// Evaluates what a plan needs. Images of which nothing is known are taken to be empty.
    ///
    /// # Errors
    /// A word that cannot be expanded, or that is not what its instruction takes.
    pub fn new(plan: &Plan<'_>, ignore: Option<&Ignore>) -> Result<Self, Failure> {
        let checks = match plan.options.build_args.get("BUILDKIT_DOCKERFILE_CHECK") {
            Some(text) => Checks::from_options(text)?,
            None => plan.file.checks.clone(),
        };
        let mut warnings = plan.warnings.clone();
        let mut run = Run { plan, ignore, fuel: plan.fuel, warnings: &mut warnings, stages: Vec::new() };
        let result = run.stages();
        let stages = std::mem::take(&mut run.stages);
        let warnings = checks.filter(warnings);
        match result.and_then(|()| checks.verdict(&warnings)) {
            Ok(()) => Ok(Self { stages, warnings, checks }),
            Err(error) => Err(Failure { error, warnings }),
        }
    }

    /// A stage by its number, if the target needs it.
    #[must_use]
    pub fn stage(&self, index: usize) -> Option<&EvaluatedStage> {
        self.stages.iter().find(|stage| stage.index == index)
    }
}

struct Run<'a> {
    plan: &'a Plan<'a>,
    ignore: Option<&'a Ignore>,
    fuel: u64,
    warnings: &'a mut Vec<Warning>,
    stages: Vec<EvaluatedStage>,
}

/// The instructions of a stage of which the last one counts.
#[derive(Default)]
struct Last {
    cmd: Option<(Lines, Span)>,
    entrypoint: Option<(Lines, Span)>,
    health: Option<(Lines, Span)>,
}

impl Run<'_> {
    fn stages(&mut self) -> Result<(), Error> {
        let file: &Dockerfile = self.plan.file;
        for (index, planned) in self.plan.stages.iter().enumerate().filter(|(_, planned)| planned.needed) {
            let located = |error: Error| error.at_lines(file.stages[index].lines).at(file.stages[index].span);
            let mut state = self.begin(index).map_err(located)?;
            let mut last = Last::default();
            let statements = planned.triggers.iter().chain(&file.stages[index].statements);
            let steps = statements.map(|statement| {
                self.step(statement, &mut state, &mut last)
                    .map_err(|error| error.at_lines(statement.lines).at(statement.span))
            });
            let steps = steps.collect::<Result<_, Error>>()?;
            self.stages.push(EvaluatedStage { index, steps, state: Arc::new(state) });
        }
        Ok(())
    }

    fn begin(&mut self, index: usize) -> Result<State, Error> {
        let planned = &self.plan.stages[index];
        let mut state = State::default();
        match &planned.base {
            BaseImage::Stage(base) => {
                let Some(base) = self.stages.iter().find(|stage| stage.index == *base) else { return Ok(state) };
                // A thousand stages may begin with one that has a big environment.
                let size = base.state.env.size() + base.state.args.size() + base.state.seen.size();
                self.fuel = self.fuel.checked_sub(size as u64).ok_or(Error::of(Problem::Environment))?;
                return Ok((*base.state).clone());
            }
            BaseImage::Scratch => {
                state.env.set("PATH", PATH)?;
                state.seen.set("PATH", PATH)?;
            }
            BaseImage::Image(_) | BaseImage::Context(_) => match &planned.known {
                Some(base) => {
                    for (name, value) in &base.env {
                        state.env.set(name, value)?;
                        state.seen.set(name, value)?;
                    }
                    state.shell = !base.shell.is_empty();
                }
                None => {
                    state.env.set("PATH", PATH)?;
                    state.seen.set("PATH", PATH)?;
                }
            },
        }
        Ok(state)
    }

    fn step(&mut self, statement: &Statement, state: &mut State, last: &mut Last) -> Result<Step, Error> {
        let mut step = Step { statement: statement.clone(), mounts: Vec::new(), ports: Vec::new(), mode: None };
        let place = (statement.lines, statement.span);
        let mut statement = std::mem::replace(&mut step.statement.instruction, Instruction::Shell(Vec::new()));
        match &mut statement {
            Instruction::Env(pairs) => {
                self.pairs(pairs, state, place)?;
                check::pairs(self.warnings, &with(&step.statement, &statement), pairs_of(&statement));
                for pair in &pairs_of(&statement).pairs {
                    state.env.set(&pair.name.text, &pair.value.text)?;
                    state.seen.set(&pair.name.text, &pair.value.text)?;
                }
            }
            Instruction::Label(pairs) => {
                self.pairs(pairs, state, place)?;
                check::pairs(self.warnings, &with(&step.statement, &statement), pairs_of(&statement));
            }
            Instruction::Arg(args) => {
                for arg in args.iter_mut() {
                    self.arg(arg, state, place)?;
                }
                let shown = with(&step.statement, &statement);
                if let Instruction::Arg(args) = &shown.instruction {
                    for arg in args {
                        check::secret(self.warnings, &shown, &arg.name);
                    }
                }
            }
            Instruction::Copy(copy) => {
                step.mode = self.files(&mut copy.files, state, place)?;
                let remote = copy.from.is_some();
                for source in paths(&copy.files).filter(|_| !remote) {
                    match AddSource::of(&source.text) {
                        AddSource::Local => {}
                        AddSource::Http => return Err(Error::of(Problem::CopyUrl).at(source.span)),
                        AddSource::Git => return Err(Error::of(Problem::CopyGit).at(source.span)),
                    }
                }
                let files = copy.files.clone();
                if !remote {
                    self.ignored(&with(&step.statement, &statement), &files);
                }
            }
            Instruction::Add(add) => {
                if let Some(word) = &mut add.checksum {
                    self.expand(word, state, place)?;
                }
                step.mode = self.files(&mut add.files, state, place)?;
                if let Some(word) = &add.checksum {
                    let sources: Vec<&str> = paths(&add.files).map(|word| word.text.as_str()).collect();
                    if !word.text.is_empty() {
                        instruction::checksum(&word.text, &sources)
                            .map_err(|problem| Error::of(problem).at(word.span))?;
                    }
                }
                let files = add.files.clone();
                self.ignored(&with(&step.statement, &statement), &files);
            }
            Instruction::Run(run) => {
                let (mut mounts, mut late) = (Vec::new(), None);
                for spec in &run.mounts {
                    let span = spec.word.span;
                    let expand = &mut |text: &str| self.text(text, span, state, place);
                    let (mount, fault) = spec.resolve(expand)?;
                    mounts.push(mount);
                    late = late.or(fault);
                }
                if let Some(error) = late {
                    return Err(error);
                }
                step.mounts = mounts;
            }
            Instruction::User(word) => self.expand(word, state, place)?,
            Instruction::Workdir(word) => {
                self.expand(word, state, place)?;
                let path = word.text.clone();
                if !path.starts_with('/') && !state.workdir {
                    check::workdir(self.warnings, &with(&step.statement, &statement), &path);
                }
                state.workdir = true;
            }
            Instruction::Volume(words) => {
                for word in words {
                    self.expand(word, state, place)?;
                    if word.text.is_empty() {
                        return Err(Error::of(Problem::EmptyVolume).at(word.span));
                    }
                }
            }
            Instruction::StopSignal(word) => {
                self.expand(word, state, place)?;
                let number = word.text.parse::<i64>().ok();
                // Numbers are the kernel's matter, but 0 stops nothing.
                if number.is_none_or(|number| number == 0) && word.text.parse::<Signal>().is_err() {
                    return Err(Error::of(Problem::Signal(word.text.clone())).at(word.span));
                }
            }
            Instruction::Expose(words) => {
                step.ports = self.ports(&step.statement, words, state)?;
            }
            Instruction::Cmd(command) | Instruction::Entrypoint(command) => {
                let command = command.clone();
                let shown = with(&step.statement, &statement);
                if !state.shell {
                    check::shell_form(self.warnings, &shown, &command);
                }
                let name = shown.instruction.name();
                let slot = if name == "CMD" { &mut last.cmd } else { &mut last.entrypoint };
                if let Some(earlier) = slot.replace(place) {
                    check::repeated(self.warnings, earlier, name);
                }
            }
            Instruction::HealthCheck(_) => {
                if let Some(earlier) = last.health.replace(place) {
                    check::repeated(self.warnings, earlier, "HEALTHCHECK");
                }
            }
            Instruction::Shell(_) => state.shell = true,
            Instruction::From(_) | Instruction::OnBuild(_) | Instruction::Maintainer(_) => {}
        }
        step.statement.instruction = statement;
        Ok(step)
    }

    fn text(&mut self, text: &str, span: Span, state: &State, place: (Lines, Span)) -> Result<String, Error> {
        let (value, undefined) = {
            let mut expander = Expander::new(&state.seen, self.plan.file.directives.escape, &mut self.fuel);
            (expander.word(text), expander.undefined)
        };
        check::undefined(self.warnings, place, undefined, state.seen.names());
        value.map_err(|why| Error::of(Problem::Expansion { word: text.to_owned(), why }).at(span))
    }

    fn expand(&mut self, word: &mut Word, state: &State, place: (Lines, Span)) -> Result<(), Error> {
        word.text = self.text(&word.text, word.span, state, place)?;
        Ok(())
    }

    /// All values are those from before the instruction.
    fn pairs(&mut self, pairs: &mut Pairs, state: &State, place: (Lines, Span)) -> Result<(), Error> {
        for pair in &mut pairs.pairs {
            self.expand(&mut pair.name, state, place)?;
            self.expand(&mut pair.value, state, place)?;
        }
        Ok(())
    }

    fn arg(&mut self, arg: &mut Arg, state: &mut State, place: (Lines, Span)) -> Result<(), Error> {
        let name = arg.name.text.clone();
        let mut value = None;
        if let Some(default) = &mut arg.default {
            self.expand(default, state, place)?;
            value = Some(default.text.clone());
        }
        if let Some(told) = self.plan.options.build_args.get(&name) {
            value = Some(told.clone());
        } else if value.is_none() {
            value = self.plan.global(&name).map(str::to_owned);
        }
        match &value {
            Some(value) => {
                state.args.set(&name, value)?;
                state.seen.set(&name, value)?;
            }
            None => {
                state.args.declare(&name)?;
                state.seen.declare(&name)?;
            }
        }
        let span = arg.default.as_ref().map_or(arg.name.span, |word| word.span);
        arg.default = value.map(|value| Word::new(value, span));
        Ok(())
    }

    fn files(&mut self, files: &mut Files, state: &State, place: (Lines, Span)) -> Result<Option<Mode>, Error> {
        // The builder expands flags first.
        if let Some(word) = &mut files.chown {
            self.expand(word, state, place)?;
        }
        if let Some(word) = &mut files.chmod {
            self.expand(word, state, place)?;
        }
        for source in &mut files.sources {
            match source {
                FileSource::Path(word) => self.expand(word, state, place)?,
                FileSource::Heredoc(heredoc) if heredoc.expand => {
                    let (value, undefined) = {
                        let mut expander = Expander::new(&state.seen, self.plan.file.directives.escape, &mut self.fuel);
                        (expander.document(&heredoc.content), expander.undefined)
                    };
                    check::undefined(self.warnings, place, undefined, state.seen.names());
                    let word = std::mem::take(&mut heredoc.content);
                    heredoc.content =
                        value.map_err(|why| Error::of(Problem::Expansion { word, why }).at(heredoc.span))?;
                }
                FileSource::Heredoc(_) => {}
            }
        }
        self.expand(&mut files.destination, state, place)?;
        // Patterns keep their backslashes, and nobody is told of names in them.
        for word in &mut files.exclude {
            let mut expander = Expander::new(&state.seen, self.plan.file.directives.escape, &mut self.fuel);
            let value = expander.word(&word.text);
            word.text =
                value.map_err(|why| Error::of(Problem::Expansion { word: word.text.clone(), why }).at(word.span))?;
        }
        let chmod = files.chmod.as_ref().filter(|word| !word.text.is_empty());
        let mode = |word: &Word| instruction::chmod(&word.text).map_err(|problem| Error::of(problem).at(word.span));
        chmod.map(mode).transpose()
    }

    fn ports(&mut self, shown: &Statement, words: &mut Vec<Word>, state: &State) -> Result<Vec<ExposedPort>, Error> {
        // The builder looks at them in this order, and at the form of all before the first that it cannot read.
        words.sort_by(|a, b| a.text.cmp(&b.text));
        let mut expanded = Vec::new();
        for word in words.iter() {
            let mut expander = Expander::new(&state.seen, self.plan.file.directives.escape, &mut self.fuel);
            let found = expander.words(&word.text);
            let found =
                found.map_err(|why| Error::of(Problem::Expansion { word: word.text.clone(), why }).at(word.span))?;
            expanded.extend(found.into_iter().map(|text| Word::new(text, word.span)));
            if expanded.len() > limits::WORDS {
                let problem = Problem::TooMany { what: "words in one instruction", limit: limits::WORDS };
                return Err(Error::of(problem).at(word.span));
            }
        }
        let mut shown = shown.clone();
        shown.instruction = Instruction::Expose(Vec::new());
        let mut ports = Vec::new();
        for word in &expanded {
            let protocol = word.text.split_once('/').filter(|(port, _)| !port.is_empty()).map_or("", |(_, name)| name);
            let known = protocol.is_empty() || protocol.parse::<Protocol>().is_ok();
            let found = if known { parse_port_spec(&word.text) } else { Err(PortError::Protocol(protocol.to_owned())) };
            if !matches!(found, Err(PortError::Empty(_) | PortError::Protocol(_))) {
                check::expose(self.warnings, &shown, &word.text, word.span);
            }
            let problem = |why: PortError| match why {
                PortError::Empty(text) => Problem::Port { text, why: "no port specified".to_owned() },
                PortError::Protocol(name) => {
                    Problem::Port { text: word.text.clone(), why: format!("invalid proto: {name}") }
                }
                why => Problem::PortNumber(why),
            };
            let found = found.map_err(|why| Error::of(problem(why)).at(word.span))?;
            ports.extend(found.into_iter().map(|mapping| mapping.container));
            // A range has 65,536 ports at most, so duplicates are what would grow.
            if ports.len() > 1 << 17 {
                ports.sort_unstable();
                ports.dedup();
            }
        }
        ports.sort_unstable();
        ports.dedup();
        *words = expanded;
        Ok(ports)
    }

    fn ignored(&mut self, statement: &Statement, files: &Files) {
        let Some(ignore) = self.ignore else { return };
        for word in paths(files) {
            let clean = !word.text.is_empty() && !word.text.split('/').any(|part| matches!(part, "" | "." | ".."));
            if clean && AddSource::of(&word.text) == AddSource::Local && ignore.skips(&word.text) {
                check::ignored(self.warnings, statement, word);
            }
        }
    }
}

fn paths(files: &Files) -> impl Iterator<Item = &Word> {
    files.sources.iter().filter_map(|source| match source {
        FileSource::Path(word) => Some(word),
        FileSource::Heredoc(_) => None,
    })
}

/// The statement that a finding is about, with its words expanded.
fn with(statement: &Statement, instruction: &Instruction) -> Statement {
    Statement { instruction: instruction.clone(), ..statement.clone() }
}

fn pairs_of(instruction: &Instruction) -> &Pairs {
    static NONE: Pairs = Pairs { pairs: Vec::new(), legacy: false };
    match instruction {
        Instruction::Env(pairs) | Instruction::Label(pairs) => pairs,
        _ => &NONE,
    }
}
