//! The error of the command line and the exit code it stands for.
//!
//! Exit codes: 125 for a wrong command line and for a container that could not be made, 126 and 127 for a command that
//! could not be executed or found, 1 for everything else. A reader that went away is no error at all.

use std::{fmt, io};

use crate::flags;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Error {
    /// What a program prints, with the exit code.
    Message { text: String, code: u8, hint: Option<String> },
    /// The message was printed already.
    Silent(u8),
    /// The daemon or the way to it.
    Client(client::Error),
    /// Whoever read our output is gone.
    BrokenPipe,
}

/// Result of every step of a command.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure with exit code 1.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self::Message { text: text.into(), code: 1, hint: None }
    }

    /// A failure with another exit code.
    pub(crate) fn with_code(text: impl Into<String>, code: u8) -> Self {
        Self::Message { text: text.into(), code, hint: None }
    }

    /// Adds a line that says what to do next.
    #[must_use]
    pub(crate) fn hint(self, line: impl Into<String>) -> Self {
        match self {
            Self::Message { text, code, .. } => Self::Message { text, code, hint: Some(line.into()) },
            other => other,
        }
    }

    /// A flag that cannot be understood.
    pub(crate) fn usage(message: impl fmt::Display, called: &str, synopsis: &str) -> Self {
        Self::Message {
            text: format!("{message}\n\nUsage:  {}\n", flags_usage(called, synopsis)),
            code: 125,
            hint: Some(format!("Run 'dhow {called} --help' for more information")),
        }
    }

    /// A wrong number of arguments.
    pub(crate) fn arity(message: impl fmt::Display, called: &str, synopsis: &str) -> Self {
        Self::Message {
            text: format!("dhow: {message}\n\nUsage:  {}\n", flags_usage(called, synopsis)),
            code: 1,
            hint: Some(format!("Run 'dhow {called} --help' for more information")),
        }
    }

    /// A value that cannot be understood although its flag could be parsed: `run` and `create` exit with 125.
    pub(crate) fn invalid(message: impl fmt::Display) -> Self {
        Self::with_code(message.to_string(), 125)
    }

    /// Names the file an I/O error is about.
    pub(crate) fn file(action: &str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let place = format!("{action} {}", path.display());
        move |source| Self::new(format!("{place}: {}", os_text(&source)))
    }

    /// Exit code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Message { code, .. } | Self::Silent(code) => *code,
            Self::Client(_) => 1,
            Self::BrokenPipe => 0,
        }
    }
}

fn flags_usage(called: &str, synopsis: &str) -> String {
    flags::usage_line(called, synopsis)
}

/// The system's words without Rust's number in brackets: `no such file or directory`.
pub(crate) fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or_default();
    let mut letters = plain.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { text, hint: None, .. } => f.write_str(text),
            Self::Message { text, hint: Some(hint), .. } => write!(f, "{text}\n{hint}"),
            Self::Client(error) => error.fmt(f),
            Self::Silent(_) | Self::BrokenPipe => Ok(()),
        }
    }
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::new(os_text(&error)),
        }
    }
}
