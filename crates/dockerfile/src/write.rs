//! A Dockerfile as text again: one line for each instruction, without comments. Reading it gives the same instructions.

use std::fmt::Write as _;

use crate::file::{Dockerfile, Stage};
use crate::heredoc::Heredoc;
use crate::instruction::{Command, FileSource, Files, HealthCheck, Instruction, Network, Security, Statement};
use crate::word::Word;

impl Dockerfile {
    /// The text of its instructions, with the `escape` and `check` directives it needs.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let escape = self.directives.escape;
        if escape != '\\' {
            let _ = writeln!(text, "# escape={escape}");
        }
        if let Some(check) = &self.directives.check {
            let _ = writeln!(text, "# check={}", check.value);
        }
        for statement in &self.globals {
            text.push_str(&Writer { escape }.statement(statement));
        }
        for stage in &self.stages {
            text.push_str(&Writer { escape }.from(stage));
            for statement in &stage.statements {
                text.push_str(&Writer { escape }.statement(statement));
            }
        }
        text
    }
}

struct Writer {
    escape: char,
}

impl Writer {
    fn from(&self, stage: &Stage) -> String {
        let mut text = "FROM".to_owned();
        self.flag(&mut text, "platform", stage.from.platform.as_ref());
        text.push_str(&behind_flags(&stage.from.base.text));
        if let Some(name) = &stage.from.name {
            let _ = write!(text, " AS {}", name.text);
        }
        text.push('\n');
        text
    }

    fn statement(&self, statement: &Statement) -> String {
        let mut text = statement.instruction.name().to_owned();
        let mut heredocs: &[Heredoc] = &[];
        let mut collected = Vec::new();
        match &statement.instruction {
            Instruction::From(_) => {}
            Instruction::Run(run) => {
                for mount in &run.mounts {
                    self.flag(&mut text, "mount", Some(&mount.word));
                }
                match run.network {
                    Network::Default => {}
                    Network::None => text.push_str(" --network=none"),
                    Network::Host => text.push_str(" --network=host"),
                }
                if run.security == Security::Insecure {
                    text.push_str(" --security=insecure");
                }
                for device in &run.devices {
                    let required = if device.required { ",required" } else { "" };
                    let value = Word::new(
                        format!("\"name={}\"{required}", device.name.text.replace('"', "\"\"")),
                        device.name.span,
                    );
                    self.flag(&mut text, "device", Some(&value));
                }
                text.push_str(&command(&run.command));
                heredocs = &run.heredocs;
            }
            Instruction::Copy(copy) => {
                self.flag(&mut text, "from", copy.from.as_ref());
                self.file_flags(&mut text, &copy.files);
                text.push_str(if copy.parents { " --parents" } else { "" });
                text.push_str(&self.files(&copy.files, &mut collected));
            }
            Instruction::Add(add) => {
                self.file_flags(&mut text, &add.files);
                self.flag(&mut text, "checksum", add.checksum.as_ref());
                text.push_str(if add.keep_git_dir { " --keep-git-dir" } else { "" });
                if let Some(unpack) = add.unpack {
                    let _ = write!(text, " --unpack={unpack}");
                }
                text.push_str(&self.files(&add.files, &mut collected));
            }
            Instruction::Env(pairs) | Instruction::Label(pairs) => {
                let separator = if pairs.legacy { ' ' } else { '=' };
                let words = pairs.pairs.iter().map(|pair| format!("{}{separator}{}", pair.name.text, pair.value.text));
                text.push_str(&behind_flags(&words.collect::<Vec<_>>().join(" ")));
            }
            Instruction::Arg(args) => {
                let words = args.iter().map(|arg| match &arg.default {
                    Some(default) => format!("{}={}", arg.name.text, default.text),
                    None => arg.name.text.clone(),
                });
                text.push_str(&behind_flags(&words.collect::<Vec<_>>().join(" ")));
            }
            Instruction::Cmd(found) | Instruction::Entrypoint(found) => text.push_str(&command(found)),
            Instruction::Shell(words) | Instruction::Volume(words) => {
                text.push(' ');
                text.push_str(&list(words.iter()));
            }
            Instruction::Expose(words) => {
                let words: Vec<_> = words.iter().map(|word| word.text.as_str()).collect();
                text.push_str(&behind_flags(&words.join(" ")));
            }
            Instruction::User(word)
            | Instruction::Workdir(word)
            | Instruction::StopSignal(word)
            | Instruction::OnBuild(word)
            | Instruction::Maintainer(word) => text.push_str(&behind_flags(&word.text)),
            Instruction::HealthCheck(HealthCheck::None) => text.push_str(" NONE"),
            Instruction::HealthCheck(HealthCheck::Command {
                command: found,
                interval,
                timeout,
                start_period,
                start_interval,
                retries,
            }) => {
                let times = [
                    ("interval", interval),
                    ("timeout", timeout),
                    ("start-period", start_period),
                    ("start-interval", start_interval),
                ];
                for (name, time) in times.into_iter().filter(|(_, time)| time.nanos() != 0) {
                    let _ = write!(text, " --{name}={time}");
                }
                if *retries != 0 {
                    let _ = write!(text, " --retries={retries}");
                }
                text.push_str(" CMD");
                text.push_str(&match found {
                    // Flags stand before CMD, so nothing behind it is one.
                    Command::Shell(line) => format!(" {}", line.text),
                    found => command(found),
                });
            }
        }
        // A last escape character is only left where the file ends behind a continuation, which is written again.
        if text.strip_suffix(self.escape).is_some_and(|before| !before.ends_with(self.escape)) {
            text.push(' ');
            text.push(self.escape);
        }
        text.push('\n');
        for heredoc in heredocs.iter().chain(&collected) {
            text.push_str(&heredoc.raw);
            text.push_str(&heredoc.name);
            text.push('\n');
        }
        text
    }

    fn flag(&self, text: &mut String, name: &str, value: Option<&Word>) {
        let Some(value) = value else { return };
        let _ = write!(text, " --{name}=");
        // Quotes keep blanks also at the end of the line, which an escape does not.
        let quote = if value.text.contains(|c: char| c.is_whitespace() || c == '"' || c == '\'') { "\"" } else { "" };
        text.push_str(quote);
        for c in value.text.chars() {
            if c == '"' || c == self.escape {
                text.push(self.escape);
            }
            text.push(c);
        }
        text.push_str(quote);
    }

    fn file_flags(&self, text: &mut String, files: &Files) {
        self.flag(text, "chown", files.chown.as_ref());
        self.flag(text, "chmod", files.chmod.as_ref());
        text.push_str(if files.link { " --link" } else { "" });
        for pattern in &files.exclude {
            self.flag(text, "exclude", Some(pattern));
        }
    }

    fn files(&self, files: &Files, heredocs: &mut Vec<Heredoc>) -> String {
        let mut words = Vec::new();
        for source in &files.sources {
            match source {
                FileSource::Path(word) => words.push(word.text.clone()),
                FileSource::Heredoc(heredoc) => {
                    words.push(self.opening(heredoc));
                    heredocs.push(heredoc.clone());
                }
            }
        }
        words.push(files.destination.text.clone());
        if heredocs.is_empty() {
            // A list keeps every word as it is.
            return format!(" {}", list_of(words.iter().map(String::as_str)));
        }
        behind_flags(&words.join(" "))
    }

    fn opening(&self, heredoc: &Heredoc) -> String {
        let mut text = if heredoc.descriptor == 0 { String::new() } else { heredoc.descriptor.to_string() };
        text.push_str(if heredoc.strip_tabs { "<<-" } else { "<<" });
        let quote = if heredoc.expand { "" } else { "\"" };
        text.push_str(quote);
        for (at, c) in heredoc.name.chars().enumerate() {
            if c == '"' || c == '\'' || c == self.escape || (at == 0 && c == '-') {
                text.push(self.escape);
            }
            text.push(c);
        }
        text.push_str(quote);
        text
    }
}

/// Text behind an instruction's flags; two hyphens say that there are none, where it looks like one.
fn behind_flags(text: &str) -> String {
    match text {
        "" => String::new(),
        text if text.starts_with("--") => format!(" -- {text}"),
        text => format!(" {text}"),
    }
}

fn command(command: &Command) -> String {
    match command {
        Command::Exec(words) => format!(" {}", list(words.iter())),
        Command::Shell(line) => behind_flags(&line.text),
    }
}

fn list<'a>(words: impl Iterator<Item = &'a Word>) -> String {
    list_of(words.map(|word| word.text.as_str()))
}

fn list_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut text = "[".to_owned();
    for (at, word) in words.enumerate() {
        text.push_str(if at == 0 { "\"" } else { ", \"" });
        for c in word.chars() {
            match c {
                '"' | '\\' => {
                    text.push('\\');
                    text.push(c);
                }
                c if u32::from(c) < 0x20 => {
                    let _ = write!(text, "\\u{:04x}", u32::from(c));
                }
                c => text.push(c),
            }
        }
        text.push('"');
    }
    text.push(']');
    text
}
