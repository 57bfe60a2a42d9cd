//! Where a command says what went wrong: the file an engine names with `--log`, as text or one JSON object a line
//! (engines read the last object of level `error`), and standard error for people.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use jiff::Timestamp;

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

/// The destination of a command's words.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) file: Option<PathBuf>,
    pub(crate) format: Format,
    pub(crate) debug: bool,
}

impl Log {
    /// Something odd in a document that changes nothing: for logs, and for terminals only when asked for.
    pub(crate) fn hint(&self, text: &str) {
        if self.file.is_some() || self.debug {
            self.write("warning", text);
        }
    }

    /// Something the user should know and can live with.
    pub(crate) fn warn(&self, text: &str) {
        self.write("warning", text);
    }

    /// Why the command fails. Standard error gets it too when the log goes elsewhere.
    pub(crate) fn error(&self, text: &str) {
        self.write("error", text);
        if self.file.is_some() {
            let _ = writeln!(std::io::stderr(), "{}", printable(text));
        }
    }

    fn write(&self, level: &str, text: &str) {
        let time = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let line = match self.format {
            Format::Json => serde_json::json!({ "level": level, "msg": text, "time": time.to_string() }).to_string(),
            Format::Text if self.file.is_none() => format!("dhow-oci: {}", printable(text)),
            Format::Text => format!("time=\"{time}\" level={level} msg={text:?}"),
        };
        let line = format!("{line}\n");
        // A log that cannot be written to must not keep the command from its work.
        let _ = match &self.file {
            Some(path) => File::options()
                .append(true)
                .create(true)
                .open(path)
                .and_then(|mut file| file.write_all(line.as_bytes())),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

/// Without what a terminal would act on: texts quote documents, and what programs of the image have printed.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && !matches!(letter, '\n' | '\t') {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_told_nothing_but_text() {
        assert_eq!(printable("a\x1b]0;b\x07\nc\t\u{9b}ä"), "a\\u{1b}]0;b\\u{7}\nc\t\\u{9b}ä");
    }
}
