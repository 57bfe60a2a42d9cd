//! Errors with the text around them: as Docker's clients print it, and with a caret under the word for our own.

use std::fmt::Write as _;

use crate::error::Error;
use crate::source::{Lines, Source};

/// Lines that are shown before and behind one line, and before and behind several.
const AROUND: [u32; 2] = [2, 1];
/// Characters of one line that are shown.
const WIDTH: usize = 400;
const RULE: &str = "--------------------";

/// The lines around a place with `>>>` before those that are meant, as the clients show it below an error or a warning.
#[must_use]
pub fn excerpt(source: &Source, lines: Lines) -> String {
    let (first, last) = (lines.first.max(1), lines.last.max(lines.first).min(source.lines()));
    let mut text = format!("{}:{first}\n{RULE}\n", source.name());
    let around = AROUND[usize::from(last > first)];
    for number in first.saturating_sub(around).max(1)..=last.saturating_add(around).min(source.lines()) {
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let _ = writeln!(text, "{number:4} | {mark} {}", shown(source.line(number)));
    }
    text.push_str(RULE);
    text.push('\n');
    text
}

fn shown(line: &str) -> String {
    line.chars().take(WIDTH).map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

impl Error {
    /// Message and excerpt, as `docker build` ends when a build fails.
    #[must_use]
    pub fn docker(&self, source: &Source) -> String {
        match self.lines {
            Some(lines) => format!("{self}\n{}", excerpt(source, lines)),
            None => format!("{self}\n"),
        }
    }

    /// For terminals: the message, file, line and column, the line with carets under the word, and what was expected.
    #[must_use]
    pub fn caret(&self, source: &Source) -> String {
        let mut text = format!("error: {}\n", self.problem);
        let span = self.span.filter(|span| (span.start as usize) < source.text().len());
        match (span, self.lines) {
            (Some(span), _) => {
                let at = source.position(span.start);
                let width = at.line.to_string().len();
                let line = shown(source.line(at.line));
                let line_end = source.line_span(at.line).end;
                let marked = source.text().get(span.start as usize..(span.end as usize).min(line_end));
                let marked = marked.unwrap_or_default().trim_end().chars().count();
                let before = at.column as usize - 1;
                let marked = marked.clamp(1, (line.chars().count() + 1).saturating_sub(before).max(1));
                let _ = writeln!(text, "{:width$}--> {}:{}:{}", "", source.name(), at.line, at.column);
                let _ = writeln!(text, "{:width$} |\n{} | {line}", "", at.line);
                if before <= WIDTH {
                    // Tabs are kept, so that the caret stands under its word however wide they are shown.
                    let blank: String = line.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                    let _ = writeln!(text, "{:width$} | {blank}{}", "", "^".repeat(marked));
                }
            }
            (None, Some(lines)) => {
                let _ = writeln!(text, "--> {}:{}", source.name(), lines.first);
            }
            (None, None) => {
                let _ = writeln!(text, "--> {}", source.name());
            }
        }
        if let Some(hint) = self.hint() {
            let _ = writeln!(text, "  = help: {hint}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use crate::{Dockerfile, Source};

    #[test]
    fn clients_are_shown_the_lines_around() {
        let text = b"FROM busybox AS base\nARG foo=1\nRUN echo $undefd\nrunn foo\n";
        let source = Source::new("Dockerfile", text).unwrap();
        let failure = Dockerfile::parse(&source).unwrap_err();
        assert_eq!(
            failure.error.docker(&source),
            "dockerfile parse error on line 4: unknown instruction: runn (did you mean run?)\nDockerfile:4\n\
             --------------------\n   2 |     ARG foo=1\n   3 |     RUN echo $undefd\n   4 | >>> runn foo\n   5 |     \n\
             --------------------\n"
        );
    }

    #[test]
    fn several_lines_have_one_around_them() {
        let source = Source::new("Dockerfile", b"FROM a\n\nENV \\\n a\n\nRUN x\n").unwrap();
        let failure = Dockerfile::parse(&source).unwrap_err();
        assert!(failure.error.docker(&source).contains(
            "Dockerfile:3\n--------------------\n   2 |     \n   3 | >>> ENV \\\n   4 | >>>  a\n   5 |     \n-----"
        ));
    }

    #[test]
    fn our_client_points_at_the_word() {
        let source = Source::new("Dockerfile", b"FROM scratch\n\tCOPY --frm=a b c\n").unwrap();
        let failure = Dockerfile::parse(&source).unwrap_err();
        assert_eq!(
            failure.error.caret(&source),
            "error: unknown flag: --frm (did you mean from?)\n --> Dockerfile:2:7\n  |\n2 | \tCOPY --frm=a b c\n  | \
             \t     ^^^^^^^\n"
        );
    }
}
