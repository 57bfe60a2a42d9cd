//! The progress of pull, push and load: one line per layer that is rewritten on a terminal, plain lines elsewhere.
//!
//! Messages are JSON lines of the daemon; a line is bounded, control characters of foreign names are not shown.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read},
};

use types::human_size;

use super::{output, raw::window_size};
use crate::{Error, Result, format::Value};

/// Longest line of a progress stream, in bytes.
const MAX_LINE: u64 = 4 * 1024 * 1024;

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// On standard output.
    Stdout,
    /// On standard error, where standard output belongs to a container.
    Stderr,
    /// Not at all; only the errors count.
    Nothing,
}

/// Shows a stream of progress messages to its end; `aux` gets what is in their `aux` fields.
pub(crate) fn show(stream: impl Read, show: Show, mut aux: impl FnMut(&Value)) -> Result<()> {
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let terminal = match show {
        Show::Stdout => output::stdout_is_terminal(),
        Show::Stderr => output::stderr_is_terminal(),
        Show::Nothing => false,
    };
    let mut screen = Screen { show, terminal, rows: HashMap::new(), count: 0 };
    let mut line = Vec::new();
    loop {
        line.clear();
        let taken = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if taken == 0 {
            return Ok(());
        }
        if taken as u64 == MAX_LINE {
            return Err(Error::new("the daemon's progress message is too long"));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let message: Value = serde_json::from_slice(&line).map_err(client::Error::from)?;
        if !message.get("aux").is_null() {
            aux(message.get("aux"));
        }
        let failure = message.at(&["errorDetail", "message"]).as_str();
        let failure = if failure.is_empty() { message.str("error") } else { failure };
        if !failure.is_empty() {
            return Err(Error::new(failure));
        }
        screen.message(&message)?;
    }
}

struct Screen {
    show: Show,
    terminal: bool,
    /// Line of each id, counted from the first.
    rows: HashMap<String, usize>,
    count: usize,
}

impl Screen {
    fn message(&mut self, message: &Value) -> Result<()> {
        if self.show == Show::Nothing {
            return Ok(());
        }
        let stream = message.str("stream");
        if !stream.is_empty() {
            return self.write(&printable(stream));
        }
        let (id, status) = (message.str("id"), message.str("status"));
        if status.is_empty() && id.is_empty() {
            return Ok(());
        }
        let progress = bar(message.get("progressDetail"));
        if !self.terminal {
            // Only the milestones: a file has no use for a moving bar.
            if progress.is_some() {
                return Ok(());
            }
            let text = if id.is_empty() {
                format!("{}\n", printable(status))
            } else {
                format!("{}: {}\n", printable(id), printable(status))
            };
            return self.write(&text);
        }
        if id.is_empty() {
            return self.write(&format!("{}\n", printable(status)));
        }
        let bar = progress.unwrap_or_default();
        let text = format!("{}: {} {bar}", printable(id), printable(status));
        let width = window_size().map_or(80, |(_, width)| usize::from(width));
        let text: String = text.trim_end().chars().take(width.saturating_sub(1)).collect();
        match self.rows.get(id) {
            // A message without progress about something new that is no layer, such as the tag being pulled.
            None => {
                self.rows.insert(id.to_owned(), self.count);
                self.count += 1;
                self.write(&format!("\x1b[2K{text}\n"))
            }
            Some(row) => {
                let up = self.count - row;
                self.write(&format!("\x1b[{up}A\x1b[2K{text}\r\x1b[{up}B"))
            }
        }
    }

    fn write(&self, text: &str) -> Result<()> {
        match self.show {
            Show::Stdout => output::print(text),
            _ => Ok(output::write_all(rustix::stdio::stderr(), text.as_bytes())?),
        }
    }
}

/// `[====>     ]  12.3MB/45.6MB`; `None` when there is nothing to measure.
fn bar(detail: &Value) -> Option<String> {
    const CELLS: i64 = 50;
    let (current, total) = (detail.int("current"), detail.int("total"));
    if current <= 0 && total <= 0 {
        return None;
    }
    let shown = human_size(current.max(0) as f64);
    if total <= 0 {
        return Some(format!("{shown:>8}"));
    }
    let filled = (i128::from(current.clamp(0, total)) * i128::from(CELLS) / i128::from(total)) as usize;
    let head = if filled < CELLS as usize { ">" } else { "" };
    let line = format!("{}{head}", "=".repeat(filled));
    Some(format!("[{line:<50}]  {shown:>7}/{}", human_size(total as f64)))
}

/// Text without control characters but line ends and tabs.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t' | '\r')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_in_the_stream_are_errors() {
        let stream = b"{\"status\":\"Pulling\",\"id\":\"x\"}\r\n\n{\"errorDetail\":{\"message\":\"manifest unknown\"},\"error\":\"manifest unknown\"}\n";
        let error = show(&stream[..], Show::Nothing, |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "manifest unknown");
    }

    #[test]
    fn bars_and_foreign_text() {
        let detail = |text: &str| bar(&serde_json::from_str(text).unwrap());
        assert_eq!(
            detail(r#"{"current":50,"total":100}"#).unwrap(),
            format!("[{:<50}]      50B/100B", "=".repeat(25) + ">")
        );
        assert_eq!(detail("{}"), None);
        assert_eq!(detail(r#"{"current":200,"total":100}"#).unwrap().matches('=').count(), 50);
        assert_eq!(printable("a\x1b[31mb"), "a[31mb");
    }
}
