//! The story of a build as its user sees it: as lines, redrawn on a terminal, as JSON, or not at all.

mod json;
mod lines;
mod redrawn;
mod story;

use std::time::Duration;

use buildkit::wire::control::StatusResponse;

pub(super) use story::{Story, printable};

use crate::{Error, Result, flags::Parsed, session::non_empty, term::output};

/// How the story is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As lines.
    Lines,
    /// Redrawn on a terminal.
    Redrawn,
    /// As JSON.
    Json,
    /// Not at all.
    Quiet,
}

impl Mode {
    /// What the flags and the environment say.
    pub(super) fn read(parsed: &Parsed) -> Result<Self> {
        let variable = non_empty("BUILDKIT_PROGRESS");
        let text = parsed.opt("progress").or(variable.as_deref()).unwrap_or("auto");
        let mode = match text {
            "auto" | "" if output::stderr_is_terminal() => Self::Redrawn,
            "auto" | "" | "plain" => Self::Lines,
            "tty" if output::stderr_is_terminal() => Self::Redrawn,
            "tty" => {
                return Err(Error::new(
                    "failed to get console: standard error is no terminal, which --progress=tty needs",
                ));
            }
            "rawjson" => Self::Json,
            "quiet" | "none" => Self::Quiet,
            other => {
                return Err(Error::invalid(format!(
                    "invalid progress mode {other}: auto, none, plain, quiet, rawjson or tty"
                )));
            }
        };
        if !parsed.on("quiet") {
            return Ok(mode);
        }
        match parsed.opt("progress") {
            None | Some("auto" | "quiet" | "none") => Ok(Self::Quiet),
            Some(_) => Err(Error::new(format!("progress={text} and quiet cannot be used together"))),
        }
    }
}

/// What is shown of a story.
pub(super) struct Display {
    pub(super) story: Story,
    mode: Mode,
    lines: lines::Lines,
    redrawn: redrawn::Redrawn,
}

impl Display {
    pub(super) fn new(mode: Mode) -> Self {
        Self { story: Story::default(), mode, lines: lines::Lines::default(), redrawn: redrawn::Redrawn::default() }
    }

    /// How often the display moves on its own.
    pub(super) fn every(&self) -> Option<Duration> {
        (self.mode == Mode::Redrawn).then_some(Duration::from_millis(100))
    }

    /// Something was told.
    pub(super) fn take(&mut self, told: StatusResponse) {
        match self.mode {
            Mode::Json => write(&json::line(&told)),
            Mode::Lines => {
                let mut text = String::new();
                self.lines.take(&self.story.take(told), &mut self.story, &mut text);
                write(&text);
            }
            Mode::Redrawn | Mode::Quiet => drop(self.story.take(told)),
        }
    }

    /// Time has passed.
    pub(super) fn draw(&mut self) {
        if self.mode == Mode::Redrawn {
            write(&self.redrawn.frame(&self.story, false));
        }
    }

    /// Nothing follows.
    pub(super) fn end(&mut self) {
        match self.mode {
            Mode::Redrawn => write(&self.redrawn.frame(&self.story, true)),
            Mode::Lines => {
                let mut text = String::new();
                self.lines.end(&mut self.story, &mut text);
                write(&text);
            }
            Mode::Json | Mode::Quiet => {}
        }
        if self.mode != Mode::Json {
            write(&self.story.explanations());
        }
        if matches!(self.mode, Mode::Redrawn | Mode::Lines) {
            write(&self.story.warnings());
        }
    }
}

/// Nobody is told when it cannot be shown; the build goes on.
fn write(text: &str) {
    let _ = output::write_all(rustix::stdio::stderr(), text.as_bytes());
}
