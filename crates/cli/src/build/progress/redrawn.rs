//! The story on a terminal: a frame of the steps with their times and the last lines of those that run, drawn over the one
//! before.

use std::fmt::Write;

use super::lines::part;
use super::story::{Step, Story, printable};
use crate::term::raw::window_size;

/// Last lines that are shown of a step that runs.
const OUTPUT: usize = 6;

/// What was drawn.
#[derive(Debug, Default)]
pub(super) struct Redrawn {
    rows: usize,
}

impl Redrawn {
    /// The next frame, as text for the terminal. The last one stays, with all steps.
    pub(super) fn frame(&mut self, story: &Story, last: bool) -> String {
        let (height, width) =
            window_size().map_or((24, 80), |(height, width)| (usize::from(height), usize::from(width)));
        let rows = rows(story, width.max(20), if last { usize::MAX } else { height.saturating_sub(2).max(4) }, last);
        let mut text = String::new();
        if self.rows > 0 {
            let _ = write!(text, "\x1b[{}A", self.rows);
        }
        // Each row clears what was there; what is below the last one is cleared as a whole.
        for row in &rows {
            let _ = writeln!(text, "\x1b[2K{row}");
        }
        text.push_str("\x1b[J");
        self.rows = rows.len();
        text
    }
}

fn rows(story: &Story, width: usize, height: usize, last: bool) -> Vec<String> {
    let shown: Vec<&Step> = story.steps.iter().filter(|step| step.vertex.started.is_some()).collect();
    let done = story.steps.iter().filter(|step| step.vertex.completed.is_some()).count();
    let state = if last { " FINISHED" } else { "" };
    let head = format!("[+] Building {:.1}s ({done}/{}){state}", story.seconds(), story.steps.len());
    let mut blocks: Vec<(bool, Vec<String>)> =
        shown.iter().map(|step| (step.vertex.completed.is_some(), block(step, width, last))).collect();
    // What is done gives way to what runs, the oldest first.
    let mut total: usize = 1 + blocks.iter().map(|(_, rows)| rows.len()).sum::<usize>();
    while total > height {
        let place = blocks.iter().position(|(done, _)| *done).unwrap_or(0);
        if blocks.is_empty() {
            break;
        }
        total -= blocks.remove(place).1.len();
    }
    let mut rows = vec![cut(&head, width)];
    rows.extend(blocks.into_iter().flat_map(|(_, rows)| rows));
    rows
}

fn block(step: &Step, width: usize, last: bool) -> Vec<String> {
    let name = printable(&step.vertex.name);
    let (mark, name) = match step {
        step if step.is_cancelled() => ("", format!("CANCELED {name}")),
        step if step.is_failed() => ("\x1b[31m", format!("ERROR {name}")),
        step if step.vertex.cached => ("\x1b[34m", format!("CACHED {name}")),
        step if step.vertex.completed.is_some() => ("\x1b[34m", name),
        _ => ("", name),
    };
    let row = |text: &str, seconds: f64| {
        let time = format!("{seconds:.1}s");
        let room = width.saturating_sub(time.len() + 2);
        format!("{:<room$} {time}", cut(text, room))
    };
    let end = if mark.is_empty() { "" } else { "\x1b[0m" };
    let mut rows = vec![format!("{mark}{}{end}", row(&format!(" => {name}"), step.seconds()))];
    let running = step.vertex.completed.is_none();
    for each in step.parts.iter().filter(|part| running || part.current > 0) {
        let seconds = super::story::seconds(each.started.as_ref(), each.completed.as_ref().or(each.timestamp.as_ref()));
        rows.push(row(&format!(" => => {}", part(each, false)), seconds.unwrap_or(0.0)));
    }
    if running && !last {
        let from = step.tail.len().saturating_sub(OUTPUT);
        rows.extend(
            step.tail
                .iter()
                .skip(from)
                .map(|(_, line)| format!("\x1b[2m{}\x1b[0m", cut(&format!(" => => # {line}"), width - 1))),
        );
    }
    rows
}

fn cut(text: &str, width: usize) -> String {
    text.chars().map(|c| if c == '\t' { ' ' } else { c }).take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::{log, vertex};
    use super::*;

    #[test]
    fn frames_fit_the_window() {
        let mut story = Story::default();
        for number in 0..20 {
            story.take(vertex(&number.to_string(), &format!("step {number}"), (Some(1), Some(2))));
        }
        story.take(vertex("run", "RUN make", (Some(1), None)));
        for line in 0..10 {
            story.take(log("run", 2, &format!("line {line} {}\n", "x".repeat(200))));
        }
        let found = rows(&story, 40, 12, false);
        assert_eq!(found.len(), 12);
        assert!(found[0].contains("(20/21)"));
        assert!(found.iter().any(|row| row.contains("RUN make")));
        assert!(found.iter().any(|row| row.contains("line 9")) && !found.iter().any(|row| row.contains("line 3 ")));
        assert!(found.iter().all(|row| printable(row).chars().count() <= 40), "{found:#?}");
        // The last frame has everything but the output.
        assert_eq!(rows(&story, 40, usize::MAX, true).len(), 22);
    }
}
