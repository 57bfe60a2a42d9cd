//! What a command left: exit code and both streams.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// The end of a command.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// None when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Output {
    pub(crate) fn new(command: String, status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { command, code: status.code(), signal: status.signal(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Whether it ended with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// The output of a command that must succeed.
    ///
    /// # Panics
    /// With everything it said when it did not.
    #[must_use]
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.success(), "{self}");
        self
    }

    /// The complaint of a command that must fail by itself: not by a signal, not by a panic, and with a sentence.
    ///
    /// # Panics
    /// When it succeeded, was killed, or said nothing.
    #[must_use]
    #[track_caller]
    pub fn refused(self) -> Self {
        assert!(self.code.is_some_and(|code| code != 0), "not refused: {self}");
        assert!(!self.stderr.contains("panicked at") && !self.stderr.contains("goroutine "), "not refused: {self}");
        assert!(!self.stderr.trim().is_empty(), "refused without a word: {self}");
        self
    }

    /// The lines of the output that begin with `name` and what follows it.
    #[must_use]
    pub fn after(&self, name: &str) -> Option<&str> {
        self.stdout.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "`{}` ended with {code}", self.command)?,
            (None, signal) => write!(f, "`{}` was ended by signal {}", self.command, signal.unwrap_or(0))?,
        }
        write!(f, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout.trim_end(), self.stderr.trim_end())
    }
}
