//! Stages in the order of the file: what each begins with, its instructions one after the other, and what it leaves to those
//! that begin with it or take files from it.

use std::collections::BTreeMap;

use dockerfile::{BaseImage, EvaluatedStage, Instruction, MountKind, Step};
use store::model::{History, Image, ImageConfig, RootFs};
use types::Platform;

use super::error::{ConvertError, Problem};
use super::graph::{About, Graph, Output};
use super::image::{Env, weight};
use super::name::{Counter, capitals, expanded};
use super::source::{Used, used};
use super::{Converted, Input, KnownBase};

/// The search path of an image that has none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What commands are run by unless a stage says otherwise.
pub(super) fn shell() -> [String; 2] {
    ["/bin/sh".to_owned(), "-c".to_owned()]
}

/// Whether an image has no layer.
pub(super) fn is_empty(image: &Image) -> bool {
    image.rootfs.diff_ids.is_empty() && image.history.iter().all(|entry| entry.empty_layer)
}

/// A stage while it is gone through, and afterwards.
#[derive(Clone)]
pub(super) struct Stage {
    pub(super) index: usize,
    /// Its files so far.
    pub(super) output: Option<Output>,
    pub(super) platform: Platform,
    pub(super) config: ImageConfig,
    pub(super) author: Option<String>,
    /// What its base is for; nothing when that is not known.
    made_for: Option<Platform>,
    /// The last entry of its history.
    pub(super) history: Option<usize>,
    /// The environment of the image.
    pub(super) env: Env,
    /// The same with arguments, as commands get it.
    pub(super) seen: Env,
    /// Arguments that were declared, with what they were then.
    pub(super) args: Env,
    pub(super) cmd_set: bool,
    pub(super) ignore_cache: bool,
    pub(super) counter: Counter,
    /// The instruction is one that the base wants.
    pub(super) trigger: bool,
}

impl Stage {
    /// Where relative paths begin.
    pub(super) fn directory(&self) -> &str {
        if self.config.working_dir.is_empty() { "/" } else { &self.config.working_dir }
    }

    /// The name of the next step.
    pub(super) fn step_name(&mut self, text: &str) -> String {
        let target = match self.seen.get("TARGETPLATFORM").and_then(|text| text.parse().ok()) {
            Some(platform) => Some(platform),
            None => {
                let get = |name| self.seen.get(name);
                let (os, arch) = (get("TARGETOS"), get("TARGETARCH"));
                (os.is_some() || arch.is_some()).then(|| {
                    let os = os.filter(|os| !os.is_empty()).unwrap_or(&self.platform.os);
                    let arch = arch.filter(|arch| !arch.is_empty()).unwrap_or(&self.platform.arch);
                    Platform::new(os, arch, get("TARGETVARIANT").unwrap_or_default())
                })
            }
        };
        self.counter.next(text, self.trigger, target.as_ref())
    }
}

/// A conversion.
pub(super) struct Converter<'a> {
    pub(super) input: &'a Input<'a>,
    pub(super) graph: Graph,
    /// Entries of all histories, each with the one before it.
    pub(super) histories: Vec<(Option<usize>, History)>,
    pub(super) stages: BTreeMap<usize, Stage>,
    /// Contexts that are in the graph.
    pub(super) contexts: BTreeMap<Option<String>, Option<Output>>,
    pub(super) used: Used,
    /// The time of everything.
    pub(super) created: Option<String>,
    /// Steps say which stage they are of.
    named: bool,
}

impl<'a> Converter<'a> {
    pub(super) fn new(input: &'a Input<'a>) -> Result<Self, ConvertError> {
        let created = match input.options.source_date_epoch {
            None => None,
            Some(seconds) => {
                let time = jiff::Timestamp::from_second(seconds).map_err(|_| Problem::Epoch(seconds))?;
                Some(time.to_string())
            }
        };
        Ok(Self {
            input,
            graph: Graph::default(),
            histories: Vec::new(),
            stages: BTreeMap::new(),
            contexts: BTreeMap::new(),
            used: used(input),
            created,
            named: named(input),
        })
    }

    pub(super) fn run(mut self) -> Result<Converted, ConvertError> {
        let input = self.input;
        for evaluated in &input.evaluation.stages {
            let stage = self.stage(evaluated)?;
            self.stages.insert(evaluated.index, stage);
        }
        let target = input.plan.target;
        let stage = self.stages.get(&target).cloned().ok_or(Problem::NotEvaluated(target))?;
        let ignore_cache = self.stages.values().any(|stage| stage.ignore_cache);
        let image = self.result(&stage);
        let definition = self.graph.finish(stage.output, input.source);
        Ok(Converted { definition, image, ignore_cache })
    }

    fn result(&self, stage: &Stage) -> Image {
        let options = self.input.options;
        let target = self.input.plan.options().target_platform.normalised();
        let mut config = stage.config.clone();
        config.env = Some(stage.env.items());
        if !options.labels.is_empty() {
            config.labels.get_or_insert_default().extend(options.labels.clone());
        }
        let platform = match &stage.made_for {
            Some(platform) if !options.platform_requested => platform.normalised(),
            _ => target,
        };
        Image {
            created: self.created.clone(),
            author: stage.author.clone().unwrap_or_default(),
            architecture: platform.arch,
            variant: platform.variant,
            os: platform.os,
            config,
            rootfs: RootFs::default(),
            history: self.histories(stage),
            ..Image::default()
        }
    }

    /// What a stage is called where people see it.
    pub(super) fn stage_name(&self, index: usize) -> String {
        let stage = self.input.plan.file().stages.get(index);
        stage.and_then(|stage| stage.name.clone()).unwrap_or_else(|| format!("stage-{index}"))
    }

    fn stage(&mut self, evaluated: &EvaluatedStage) -> Result<Stage, ConvertError> {
        let index = evaluated.index;
        let file = self.input.plan.file();
        let (Some(planned), Some(from)) = (self.input.plan.stages.get(index), file.stages.get(index)) else {
            return Err(Problem::NotEvaluated(index).into());
        };
        let mut stage = self.begin(evaluated).map_err(|error| error.at(from.lines, from.span))?;
        let triggers = planned.triggers.len();
        for (at, step) in evaluated.steps.iter().enumerate() {
            stage.trigger = at < triggers;
            self.step(&mut stage, step).map_err(|error| error.at(step.statement.lines, step.statement.span))?;
        }
        Ok(stage)
    }

    fn begin(&mut self, evaluated: &EvaluatedStage) -> Result<Stage, ConvertError> {
        let index = evaluated.index;
        let input = self.input;
        let planned = &input.plan.stages[index];
        let name = input.plan.file().stages[index].name.clone().unwrap_or_default();
        let ignore_cache = input.options.no_cache.covers(&name);
        let platform = planned.platform.clone().unwrap_or_else(|| input.plan.options().target_platform.clone());
        let mut counter = Counter {
            stage: if self.named { self.stage_name(index) } else { String::new() },
            total: total(evaluated, planned.triggers.len(), &planned.base),
            index: 0,
            platform: None,
        };
        let counted = |counter: &mut Counter, platform: &Platform| {
            counter.platform = input.options.multi_platform.then(|| platform.clone());
        };
        if let BaseImage::Stage(base) = planned.base {
            let base = self.stages.get(&base).ok_or(Problem::NotEvaluated(base))?;
            let bytes = base.env.size + base.seen.size + base.args.size + weight(&base.config);
            self.graph.charge(bytes * 2)?;
            let mut stage = base.clone();
            counted(&mut counter, &stage.platform);
            stage.config.on_build = None;
            return Ok(Stage { index, cmd_set: false, ignore_cache, counter, trigger: false, ..stage });
        }
        counted(&mut counter, &platform);
        let known = input.bases.get(&index);
        let output = match &planned.base {
            BaseImage::Context(name) => self.named_context(name)?,
            BaseImage::Image(reference) if known.is_none_or(|known| !is_empty(&known.image)) => {
                let full = match known {
                    Some(known) => known.reference.clone(),
                    None => reference.clone().with_default_tag().to_string(),
                };
                let from = &input.plan.file().stages[index];
                let about = About {
                    name: counter.next(&format!("FROM {full}"), false, None),
                    command: Some(input.source.slice(from.span).to_owned()),
                    lines: Some(from.lines),
                    ..About::default()
                };
                Some(self.image(&full, &platform, about)?)
            }
            _ => None,
        };
        let mut stage = Stage {
            index,
            output,
            platform,
            config: ImageConfig::default(),
            author: None,
            made_for: None,
            history: None,
            env: Env::default(),
            seen: Env::default(),
            args: Env::default(),
            cmd_set: false,
            ignore_cache,
            counter,
            trigger: false,
        };
        match known {
            Some(known) => self.take_over(&mut stage, known)?,
            // An image of nothing begins at its root.
            None => stage.config.working_dir = "/".to_owned(),
        }
        if stage.env.get("PATH").is_none() && stage.platform.os != "windows" {
            stage.set_env("PATH", PATH);
        }
        Ok(stage)
    }

    /// What a stage has from its image.
    fn take_over(&mut self, stage: &mut Stage, known: &KnownBase) -> Result<(), ConvertError> {
        let image = &known.image;
        let history: usize = image.history.iter().map(|entry| entry.created_by.len() + 128).sum();
        self.graph.charge(weight(&image.config) * 3 + history)?;
        stage.config = image.config.clone();
        stage.config.on_build = None;
        stage.env = Env::of(image.config.env.as_deref().unwrap_or_default());
        stage.seen = stage.env.clone();
        if !image.config.working_dir.is_empty() {
            stage.config.working_dir = super::path::resolve("/", &image.config.working_dir);
        }
        if !image.author.is_empty() {
            stage.author = Some(image.author.clone());
        }
        let made = !image.os.is_empty() && !image.architecture.is_empty();
        stage.made_for = made.then(|| image.platform());
        for entry in &image.history {
            self.told(stage, entry.clone());
        }
        Ok(())
    }

    fn step(&mut self, stage: &mut Stage, step: &Step) -> Result<(), ConvertError> {
        match &step.statement.instruction {
            Instruction::Run(run) => self.command(stage, step, run),
            Instruction::Copy(copy) => self.copy(stage, step, copy),
            Instruction::Add(add) => self.add(stage, step, add),
            Instruction::Workdir(word) => self.workdir(stage, step, &word.text),
            _ => self.configure(stage, step),
        }
    }

    /// The name of a step whose words were expanded.
    pub(super) fn title(&self, stage: &Stage, step: &Step) -> String {
        let text = written(step);
        capitals(&expanded(text, false, |name| stage.seen.get(name)))
    }
}

/// An instruction as it stands in the file, without its documents.
pub(super) fn written(step: &Step) -> &str {
    step.statement.text.split('\n').next().unwrap_or_default()
}

/// How many numbers the steps of a stage need.
fn total(evaluated: &EvaluatedStage, triggers: usize, base: &BaseImage) -> usize {
    let layers = evaluated.steps.iter().skip(triggers).filter(|step| {
        matches!(
            step.statement.instruction,
            Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Workdir(_)
        )
    });
    let from = usize::from(matches!(base, BaseImage::Image(_) | BaseImage::Context(_)));
    from + triggers + layers.count()
}

/// Whether there is more than one stage, images that files are taken from and new caches counting as such.
fn named(input: &Input<'_>) -> bool {
    let [planned] = input.plan.stages.as_slice() else { return true };
    let [evaluated] = input.evaluation.stages.as_slice() else { return false };
    evaluated.steps.iter().skip(planned.triggers.len()).any(|step| match &step.statement.instruction {
        Instruction::Copy(copy) => copy.from.as_ref().is_some_and(|from| from.text.parse::<i64>().is_err()),
        Instruction::Run(_) => step.mounts.iter().any(|mount| match &mount.kind {
            MountKind::Cache { .. } => true,
            MountKind::Bind { from, .. } => from.is_some(),
            _ => false,
        }),
        _ => false,
    })
}
