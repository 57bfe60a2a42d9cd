//! What an evaluation comes to: the configurations that BuildKit gave images are made here of the steps of their last stage.

use std::collections::BTreeMap;

use dockerfile::{
    Command, Dockerfile, EvaluatedStage, Evaluation, HealthCheck, Instruction, Options, Plan, Source, Step,
};
use serde_json::{Map, Value, json};
use types::Platform;

#[derive(Default)]
struct Image {
    config: Map<String, Value>,
    labels: BTreeMap<String, String>,
    exposed: BTreeMap<String, Value>,
    volumes: BTreeMap<String, Value>,
    triggers: Vec<String>,
    shell: Vec<String>,
    directory: Vec<String>,
    cmd_set: bool,
}

impl Image {
    fn shell(&self) -> Vec<String> {
        if self.shell.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { self.shell.clone() }
    }

    fn command(&self, command: &Command) -> Value {
        json!(command.arguments(&self.shell()))
    }

    fn apply(&mut self, step: &Step) {
        let text = |word: &dockerfile::Word| word.text.clone();
        match &step.statement.instruction {
            Instruction::Label(pairs) => {
                self.labels.extend(pairs.pairs.iter().map(|pair| (text(&pair.name), text(&pair.value))));
            }
            Instruction::Expose(_) => {
                self.exposed.extend(step.ports.iter().map(|port| (port.to_string(), json!({}))));
            }
            Instruction::Volume(words) => self.volumes.extend(words.iter().map(|word| (text(word), json!({})))),
            Instruction::Workdir(word) => {
                if word.text.starts_with('/') {
                    self.directory.clear();
                }
                for part in word.text.split('/') {
                    match part {
                        "" | "." => {}
                        ".." => drop(self.directory.pop()),
                        part => self.directory.push(part.to_owned()),
                    }
                }
            }
            Instruction::User(word) => drop(self.config.insert("User".to_owned(), json!(word.text))),
            Instruction::StopSignal(word) => drop(self.config.insert("StopSignal".to_owned(), json!(word.text))),
            Instruction::Shell(words) => self.shell = words.iter().map(text).collect(),
            Instruction::Cmd(command) => {
                self.cmd_set = true;
                let command = self.command(command);
                self.config.insert("Cmd".to_owned(), command);
            }
            Instruction::Entrypoint(command) => {
                let command = self.command(command);
                self.config.insert("Entrypoint".to_owned(), command);
                // A command of the base image was for its own entrypoint.
                if !self.cmd_set {
                    self.config.remove("Cmd");
                }
            }
            Instruction::OnBuild(word) => self.triggers.push(word.text.clone()),
            Instruction::HealthCheck(check) => {
                let mut health = Map::new();
                match check {
                    HealthCheck::None => drop(health.insert("Test".to_owned(), json!(["NONE"]))),
                    HealthCheck::Command { command, interval, timeout, start_period, start_interval, retries } => {
                        let kind = if matches!(command, Command::Shell(_)) { "CMD-SHELL" } else { "CMD" };
                        let test: Vec<_> = std::iter::once(kind.to_owned()).chain(command.arguments(&[])).collect();
                        health.insert("Test".to_owned(), json!(test));
                        for (name, value) in [
                            ("Interval", interval.nanos()),
                            ("Timeout", timeout.nanos()),
                            ("StartPeriod", start_period.nanos()),
                            ("StartInterval", start_interval.nanos()),
                            ("Retries", i64::from(*retries)),
                        ] {
                            if value != 0 {
                                health.insert(name.to_owned(), json!(value));
                            }
                        }
                    }
                }
                self.config.insert("Healthcheck".to_owned(), Value::Object(health));
            }
            _ => {}
        }
    }
}

fn configuration(file: &Dockerfile, evaluation: &Evaluation) -> Value {
    let mut image = Image::default();
    // The stages of these files begin with each other.
    for stage in &evaluation.stages {
        image.triggers.clear();
        image.cmd_set = false;
        stage.steps.iter().for_each(|step| image.apply(step));
    }
    let last: &EvaluatedStage = evaluation.stage(file.stages.len() - 1).unwrap();
    let mut config = image.config;
    config.retain(|_, value| *value != json!("") && *value != json!([]));
    let env: Vec<_> = last.env().map(|(name, value)| format!("{name}={value}")).collect();
    config.insert("Env".to_owned(), json!(env));
    config.insert("WorkingDir".to_owned(), json!(format!("/{}", image.directory.join("/"))));
    for (name, value) in [
        ("Labels", json!(image.labels)),
        ("ExposedPorts", json!(image.exposed)),
        ("Volumes", json!(image.volumes)),
        ("OnBuild", json!(image.triggers)),
        ("Shell", json!(image.shell)),
    ] {
        if value != json!({}) && value != json!([]) {
            config.insert(name.to_owned(), value);
        }
    }
    Value::Object(config)
}

#[test]
fn images_are_configured_as_the_builder_does() {
    let amd64 = Platform::new("linux", "amd64", "");
    let options = Options { target_platform: amd64.clone(), build_platform: amd64, ..Options::default() };
    let mut count = 0;
    for case in include_str!("cases/config.txt").split("====\n").skip(1) {
        let (text, expected) = case.split_once("----\n").unwrap();
        let source = Source::new("Dockerfile", text.as_bytes()).unwrap();
        let file = Dockerfile::parse(&source).unwrap_or_else(|failure| panic!("{failure}\n{text}"));
        let plan = Plan::new(&file, &options).unwrap_or_else(|failure| panic!("{failure}\n{text}"));
        let evaluation = Evaluation::new(&plan, None).unwrap_or_else(|failure| panic!("{failure}\n{text}"));
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(configuration(&file, &evaluation), expected, "{text}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}
