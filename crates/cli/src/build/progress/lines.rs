//! The story as lines: each begins with the number of its step, so that steps side by side can be told apart.

use std::fmt::Write;

use types::human_size;

use super::story::{Event, Step, Story, printable};

/// What was shown so far.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Numbers of steps, in the order in which they were first shown.
    numbers: std::collections::HashMap<usize, Shown>,
    last: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    number: usize,
    ended: bool,
}

impl Lines {
    pub(super) fn take(&mut self, events: &[Event], story: &mut Story, text: &mut String) {
        for event in events {
            match event {
                Event::Changed(at) => self.changed(*at, story, text),
                Event::Part(at, part) => {
                    let Some((step, part)) = story.steps.get(*at).and_then(|step| Some((step, step.parts.get(*part)?)))
                    else {
                        continue;
                    };
                    // The moving parts are for those who can see them move.
                    let ended = self.numbers.get(at).is_some_and(|shown| shown.ended);
                    if part.completed.is_some() && !ended {
                        let line = self::part(part, true);
                        self.line(*at, step, &line, text);
                    }
                }
                Event::Line(at, time, line) => {
                    if let Some(step) = story.steps.get(*at) {
                        self.line(*at, step, &format!("{time:.3} {line}"), text);
                    }
                }
            }
        }
    }

    fn changed(&mut self, at: usize, story: &mut Story, text: &mut String) {
        if self.numbers.get(&at).is_some_and(|shown| shown.ended) {
            return;
        }
        let Some(completed) = story.steps.get(at).map(|step| step.vertex.completed.is_some()) else { return };
        if let Some(Event::Line(_, time, line)) = story.rest(at).filter(|_| completed)
            && let Some(step) = story.steps.get(at)
        {
            self.line(at, step, &format!("{time:.3} {line}"), text);
        }
        let Some(step) = story.steps.get(at) else { return };
        let number = self.begin(at, step, text);
        if !completed {
            return;
        }
        let end = match step {
            step if step.is_cancelled() => "CANCELED".to_owned(),
            step if step.is_failed() => format!("ERROR: {}", printable(&step.vertex.error)),
            step if step.vertex.cached => "CACHED".to_owned(),
            step => format!("DONE {:.1}s", step.seconds()),
        };
        let _ = writeln!(text, "#{number} {end}");
        if let Some(shown) = self.numbers.get_mut(&at) {
            shown.ended = true;
        }
        text.push('\n');
        self.last = None;
    }

    /// The step's number, with its name the first time.
    fn begin(&mut self, at: usize, step: &Step, text: &mut String) -> usize {
        let next = self.numbers.len() + 1;
        let new = !self.numbers.contains_key(&at);
        let number = self.numbers.entry(at).or_insert(Shown { number: next, ended: false }).number;
        if self.last.is_some_and(|last| last != at) {
            text.push('\n');
        }
        if new || self.last != Some(at) {
            let _ = writeln!(text, "#{number} {}", printable(&step.vertex.name));
        }
        self.last = Some(at);
        number
    }

    fn line(&mut self, at: usize, step: &Step, line: &str, text: &mut String) {
        let number = self.begin(at, step, text);
        let _ = writeln!(text, "#{number} {line}");
    }

    /// What was left open.
    pub(super) fn end(&mut self, story: &mut Story, text: &mut String) {
        for at in 0..story.steps.len() {
            if let Some(Event::Line(_, time, line)) = story.rest(at)
                && let Some(step) = story.steps.get(at)
            {
                self.line(at, step, &format!("{time:.3} {line}"), text);
            }
        }
    }
}

/// A part of a step, such as a transfer and how far it is.
pub(super) fn part(part: &buildkit::wire::control::VertexStatus, timed: bool) -> String {
    let mut text = printable(if part.id.is_empty() { &part.name } else { &part.id });
    #[allow(clippy::cast_precision_loss, reason = "to be shown in three digits")]
    let size = |bytes: i64| human_size(bytes as f64);
    match (part.current, part.total) {
        (0, 0) => {}
        (current, 0) => drop(write!(text, " {}", size(current))),
        (current, total) => drop(write!(text, " {} / {}", size(current), size(total))),
    }
    if timed {
        let seconds = super::story::seconds(part.started.as_ref(), part.completed.as_ref());
        let _ = write!(text, " {:.1}s done", seconds.unwrap_or(0.0));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::{log, vertex};
    use super::*;

    #[test]
    fn steps_side_by_side_are_told_apart() {
        let (mut lines, mut story, mut text) = (Lines::default(), Story::default(), String::new());
        let mut cached = vertex("c", "[1/2] FROM busybox", (Some(1), Some(1)));
        cached.vertexes[0].cached = true;
        for told in [
            vertex("a", "RUN a", (None, None)),
            vertex("b", "RUN b", (None, None)),
            cached,
            vertex("a", "RUN a", (Some(1), None)),
            vertex("b", "RUN b", (Some(1), None)),
            log("a", 1, "one\n"),
            log("b", 2, "two\nthree"),
            vertex("b", "RUN b", (Some(1), Some(3))),
            vertex("a", "RUN a", (Some(1), Some(4))),
        ] {
            let events = story.take(told);
            lines.take(&events, &mut story, &mut text);
        }
        let wanted = "#1 [1/2] FROM busybox\n#1 CACHED\n\n#2 RUN a\n\n#3 RUN b\n\n#2 RUN a\n#2 0.500 one\n\n#3 RUN b\n#3 1.500 two\n\
                      #3 2.000 three\n#3 DONE 2.0s\n\n#2 RUN a\n#2 DONE 3.0s\n\n";
        assert_eq!(text, wanted);
    }
}
