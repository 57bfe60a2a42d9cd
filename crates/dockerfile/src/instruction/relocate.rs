//! Another place for everything in a statement: triggers are found at the FROM that wakes them.

use super::{Command, FileSource, Files, HealthCheck, Instruction, Statement};
use crate::source::{Lines, Span};
use crate::word::Word;

impl Statement {
    pub(crate) fn relocate(&mut self, lines: Lines, span: Span) {
        self.lines = lines;
        self.span = span;
        self.keyword.span = span;
        self.instruction.each_word(&mut |word| word.span = span);
        if let Instruction::Run(run) = &mut self.instruction {
            run.heredocs.iter_mut().for_each(|heredoc| heredoc.span = span);
        }
    }
}

impl Instruction {
    /// Hands out every word.
    fn each_word(&mut self, visit: &mut dyn FnMut(&mut Word)) {
        match self {
            Instruction::From(from) => {
                visit(&mut from.base);
                for word in [&mut from.name, &mut from.keyword_as, &mut from.platform] {
                    word.iter_mut().for_each(&mut *visit);
                }
            }
            Instruction::Run(run) => {
                command(&mut run.command, visit);
                run.mounts.iter_mut().for_each(|mount| visit(&mut mount.word));
                run.devices.iter_mut().for_each(|device| visit(&mut device.name));
            }
            Instruction::Copy(copy) => {
                files(&mut copy.files, visit);
                copy.from.iter_mut().for_each(visit);
            }
            Instruction::Add(add) => {
                files(&mut add.files, visit);
                add.checksum.iter_mut().for_each(visit);
            }
            Instruction::Env(pairs) | Instruction::Label(pairs) => {
                for pair in &mut pairs.pairs {
                    visit(&mut pair.name);
                    visit(&mut pair.value);
                }
            }
            Instruction::Arg(args) => {
                for arg in args {
                    visit(&mut arg.name);
                    arg.default.iter_mut().for_each(&mut *visit);
                }
            }
            Instruction::Cmd(found) | Instruction::Entrypoint(found) => command(found, visit),
            Instruction::HealthCheck(HealthCheck::Command { command: found, .. }) => command(found, visit),
            Instruction::HealthCheck(HealthCheck::None) => {}
            Instruction::Shell(words) | Instruction::Volume(words) | Instruction::Expose(words) => {
                words.iter_mut().for_each(visit);
            }
            Instruction::User(word)
            | Instruction::Workdir(word)
            | Instruction::StopSignal(word)
            | Instruction::OnBuild(word)
            | Instruction::Maintainer(word) => visit(word),
        }
    }
}

fn command(command: &mut Command, visit: &mut dyn FnMut(&mut Word)) {
    match command {
        Command::Exec(words) => words.iter_mut().for_each(visit),
        Command::Shell(line) => visit(line),
    }
}

fn files(files: &mut Files, visit: &mut dyn FnMut(&mut Word)) {
    let mut place = files.destination.clone();
    visit(&mut place);
    for source in &mut files.sources {
        match source {
            FileSource::Path(word) => visit(word),
            FileSource::Heredoc(heredoc) => heredoc.span = place.span,
        }
    }
    files.destination = place;
    for word in [&mut files.chown, &mut files.chmod] {
        word.iter_mut().for_each(&mut *visit);
    }
    files.exclude.iter_mut().for_each(visit);
}
