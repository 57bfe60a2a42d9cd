//! The configuration that a stage leaves: its environment, and what each instruction without files changes. Histories have
//! Docker's words, since people compare them.

use std::collections::HashMap;

use dockerfile::{Command, HealthCheck, Instruction, Step};
use store::model::{Empty, Healthcheck, History, ImageConfig};

use super::error::ConvertError;
use super::name::{character, quoted};
use super::stage::{Converter, Stage};
use super::{path, stage};

/// Variables in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Env {
    pairs: Vec<(String, String)>,
    places: HashMap<String, usize>,
    pub(super) size: usize,
}

impl Env {
    /// From `NAME=value`.
    pub(super) fn of(items: &[String]) -> Self {
        let mut env = Self::default();
        for item in items {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            env.set(name, value);
        }
        env
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.size += name.len() + value.len() + 1;
        match self.places.get(name).and_then(|at| self.pairs.get_mut(*at)) {
            Some((_, old)) => {
                self.size -= name.len() + old.len() + 1;
                value.clone_into(old);
            }
            None => {
                self.places.insert(name.to_owned(), self.pairs.len());
                self.pairs.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).and_then(|at| self.pairs.get(*at)).map(|(_, value)| value.as_str())
    }

    /// Names and values.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// As `NAME=value`.
    pub(super) fn items(&self) -> Vec<String> {
        self.pairs.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// Bytes that a copy of a configuration takes, about.
pub(super) fn weight(config: &ImageConfig) -> usize {
    let lists = [&config.env, &config.entrypoint, &config.cmd, &config.on_build, &config.shell];
    let words = lists.into_iter().flatten().flatten();
    let labels = config.labels.iter().flatten().map(|(name, value)| name.len() + value.len() + 64);
    let sets = [&config.exposed_ports, &config.volumes].into_iter().flatten().flatten();
    words.map(|word| word.len() + 24).sum::<usize>()
        + labels.sum::<usize>()
        + sets.map(|(key, _)| key.len() + 32).sum::<usize>()
}

impl Stage {
    /// Sets a variable of the image.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        self.env.set(name, value);
        self.seen.set(name, value);
    }

    fn command(&self, command: &Command) -> Vec<String> {
        command.arguments(self.config.shell.as_deref().filter(|shell| !shell.is_empty()).unwrap_or(&stage::shell()))
    }
}

impl Converter<'_> {
    /// An instruction that makes no operation.
    pub(super) fn configure(&mut self, stage: &mut Stage, step: &Step) -> Result<(), ConvertError> {
        let created_by = match &step.statement.instruction {
            Instruction::Env(pairs) => {
                let mut text = "ENV".to_owned();
                for pair in &pairs.pairs {
                    stage.set_env(&pair.name.text, &pair.value.text);
                    text.extend([" ", &pair.name.text, "=", &pair.value.text]);
                }
                text
            }
            Instruction::Label(pairs) => {
                let labels = stage.config.labels.get_or_insert_default();
                let mut text = "LABEL".to_owned();
                for pair in &pairs.pairs {
                    labels.insert(pair.name.text.clone(), pair.value.text.clone());
                    text.extend([" ", &pair.name.text, "=", &pair.value.text]);
                }
                text
            }
            Instruction::Arg(args) => {
                let mut text = "ARG".to_owned();
                for arg in args {
                    let (name, value) = (arg.name.text.as_str(), arg.default.as_ref().map(|word| word.text.as_str()));
                    text.extend([" ", name]);
                    if let Some(value) = value {
                        text.extend(["=", value]);
                        // These only say what is scanned afterwards.
                        if !["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"].contains(&name) {
                            stage.seen.set(name, value);
                        }
                    }
                    stage.args.set(name, value.unwrap_or_default());
                }
                text
            }
            Instruction::Cmd(command) => {
                let words = stage.command(command);
                let text = format!("CMD {}", quoted(&words));
                stage.config.cmd = Some(words);
                stage.config.args_escaped = true;
                stage.cmd_set = true;
                text
            }
            Instruction::Entrypoint(command) => {
                let words = stage.command(command);
                let text = format!("ENTRYPOINT {}", quoted(&words));
                stage.config.entrypoint = Some(words);
                if !stage.cmd_set {
                    stage.config.cmd = None;
                }
                text
            }
            Instruction::Shell(words) => {
                let words: Vec<_> = words.iter().map(|word| word.text.clone()).collect();
                let text = format!("SHELL [{}]", words.join(" "));
                stage.config.shell = Some(words);
                text
            }
            Instruction::User(word) => {
                stage.config.user.clone_from(&word.text);
                format!("USER {}", word.text)
            }
            Instruction::Volume(words) => {
                let words: Vec<_> = words.iter().map(|word| word.text.clone()).collect();
                let text = format!("VOLUME [{}]", words.join(" "));
                stage.config.volumes.get_or_insert_default().extend(words.into_iter().map(|path| (path, Empty {})));
                text
            }
            Instruction::Expose(_) => {
                let mut ports: Vec<_> = step.ports.iter().map(ToString::to_string).collect();
                // As words, not by number.
                ports.sort_unstable();
                let text = format!("EXPOSE [{}]", ports.join(" "));
                self.graph.charge(text.len())?;
                stage
                    .config
                    .exposed_ports
                    .get_or_insert_default()
                    .extend(ports.into_iter().map(|port| (port, Empty {})));
                text
            }
            Instruction::StopSignal(word) => {
                stage.config.stop_signal.clone_from(&word.text);
                format!("STOPSIGNAL {}", word.text)
            }
            Instruction::HealthCheck(check) => {
                let (found, text) = health(check);
                stage.config.healthcheck = Some(found);
                text
            }
            Instruction::Maintainer(word) => {
                stage.author = Some(word.text.clone());
                format!("MAINTAINER {}", word.text)
            }
            Instruction::OnBuild(word) => {
                stage.config.on_build.get_or_insert_default().push(word.text.clone());
                return Ok(());
            }
            Instruction::From(_)
            | Instruction::Run(_)
            | Instruction::Copy(_)
            | Instruction::Add(_)
            | Instruction::Workdir(_) => return Ok(()),
        };
        self.history(stage, created_by, false)
    }

    /// Notes what a step did.
    pub(super) fn history(&mut self, stage: &mut Stage, created_by: String, layer: bool) -> Result<(), ConvertError> {
        self.graph.charge(created_by.len() + 128)?;
        let entry = History {
            created: self.created.clone(),
            created_by,
            author: String::new(),
            comment: "buildkit.dockerfile.v0".to_owned(),
            empty_layer: !layer,
        };
        self.told(stage, entry);
        Ok(())
    }

    /// Puts an entry behind those of a stage.
    pub(super) fn told(&mut self, stage: &mut Stage, entry: History) {
        self.histories.push((stage.history, entry));
        stage.history = Some(self.histories.len() - 1);
    }

    /// The entries of a stage in their order.
    pub(super) fn histories(&self, stage: &Stage) -> Vec<History> {
        let mut entries = Vec::new();
        let mut next = stage.history;
        while let Some((before, entry)) = next.and_then(|at| self.histories.get(at)) {
            entries.push(entry.clone());
            next = *before;
        }
        entries.reverse();
        entries
    }

    /// WORKDIR: the directory for what follows, which its step makes.
    pub(super) fn workdir(&mut self, stage: &mut Stage, step: &Step, written: &str) -> Result<(), ConvertError> {
        let directory = path::resolve(stage.directory(), written);
        stage.config.working_dir.clone_from(&directory);
        if directory == "/" {
            return self.history(stage, "WORKDIR /".to_owned(), false);
        }
        self.make_directory(stage, step, &directory)?;
        self.history(stage, format!("WORKDIR {directory}"), true)
    }
}

fn health(check: &HealthCheck) -> (Healthcheck, String) {
    let found = match check {
        HealthCheck::None => Healthcheck { test: Some(vec!["NONE".to_owned()]), ..Healthcheck::default() },
        HealthCheck::Command { command, interval, timeout, start_period, start_interval, retries } => {
            let kind = match command {
                Command::Exec(_) => "CMD",
                Command::Shell(_) => "CMD-SHELL",
            };
            let words = command.arguments(&[]);
            Healthcheck {
                test: Some(std::iter::once(kind.to_owned()).chain(words).collect()),
                interval: interval.nanos(),
                timeout: timeout.nanos(),
                start_period: start_period.nanos(),
                start_interval: start_interval.nanos(),
                retries: i64::from(*retries),
            }
        }
    };
    let time = types::GoDuration;
    // What Go's `%q` makes of the structure, numbers as characters included.
    let text = format!(
        "HEALTHCHECK &{{{} \"{}\" \"{}\" \"{}\" \"{}\" {}}}",
        quoted(found.test.as_deref().unwrap_or_default()),
        time(found.interval),
        time(found.timeout),
        time(found.start_period),
        time(found.start_interval),
        character(found.retries)
    );
    (found, text)
}
