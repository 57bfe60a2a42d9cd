//! What is known of the steps of a build.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;

use buildkit::wire::control::{StatusResponse, Vertex, VertexStatus, VertexWarning};
use prost_types::Timestamp;

/// Lines of a step's output that are kept, for the display and for the word about its failure.
const KEPT: usize = 20;
/// The stream on which the daemon says why results were known or not.
const EXPLANATIONS: i64 = 3;
/// Longest line that is waited for, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// The steps, in the order in which they were told of.
#[derive(Debug, Default)]
pub(in crate::build) struct Story {
    pub(super) steps: Vec<Step>,
    by_digest: HashMap<String, usize>,
    warnings: Vec<VertexWarning>,
    started: Option<std::time::Instant>,
}

/// A step.
#[derive(Debug, Default)]
pub(in crate::build) struct Step {
    pub(super) vertex: Vertex,
    /// Its last lines, each with the time since its beginning.
    pub(super) tail: VecDeque<(f64, String)>,
    /// A line whose end has not come.
    partial: Vec<u8>,
    /// Parts of it, such as transfers.
    pub(super) parts: Vec<VertexStatus>,
    /// Why its result was known or not.
    why: String,
}

/// Something that happened to a step, by its number.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// It began, and may have ended.
    Changed(usize),
    /// A part of it did.
    Part(usize, usize),
    /// It printed a line, at a time since its beginning.
    Line(usize, f64, String),
}

impl Story {
    /// Takes what was told; what is new of it.
    pub(super) fn take(&mut self, told: StatusResponse) -> Vec<Event> {
        self.started.get_or_insert_with(std::time::Instant::now);
        let (mut events, mut ends) = (Vec::new(), Vec::new());
        for vertex in told.vertexes {
            let at = self.step(&vertex.digest);
            let Some(step) = self.steps.get_mut(at) else { continue };
            // Told of again without a beginning: another who needs it says that it is there.
            let started = vertex.started.is_some();
            if !started && !step.vertex.name.is_empty() {
                continue;
            }
            step.vertex = vertex;
            match (started, step.vertex.completed.is_some()) {
                // What a step printed comes before its end, also when both were told at once.
                (true, true) => ends.push(Event::Changed(at)),
                (true, false) => events.push(Event::Changed(at)),
                (false, _) => {}
            }
        }
        for status in told.statuses {
            let at = self.step(&status.vertex);
            let Some(step) = self.steps.get_mut(at) else { continue };
            let part = match step.parts.iter().position(|part| part.id == status.id) {
                Some(part) => {
                    if let Some(known) = step.parts.get_mut(part) {
                        if known.completed.is_some() {
                            continue;
                        }
                        *known = status;
                    }
                    part
                }
                None => {
                    step.parts.push(status);
                    step.parts.len() - 1
                }
            };
            events.push(Event::Part(at, part));
        }
        for log in told.logs {
            let at = self.step(&log.vertex);
            let Some(step) = self.steps.get_mut(at) else { continue };
            if log.stream == EXPLANATIONS {
                step.why = printable(String::from_utf8_lossy(&log.msg).trim_end());
                continue;
            }
            let time = seconds(step.vertex.started.as_ref(), log.timestamp.as_ref()).unwrap_or(0.0);
            step.partial.extend_from_slice(&log.msg);
            while let Some(end) = step.partial.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = step.partial.drain(..=end).collect();
                events.push(step.line(at, time, &line));
            }
            if step.partial.len() > MAX_LINE {
                events.extend(step.rest(at, time));
            }
        }
        self.warnings.extend(told.warnings);
        events.extend(ends);
        events
    }

    fn step(&mut self, digest: &str) -> usize {
        if let Some(at) = self.by_digest.get(digest) {
            return *at;
        }
        let at = self.steps.len();
        self.steps.push(Step { vertex: Vertex { digest: digest.to_owned(), ..Vertex::default() }, ..Step::default() });
        self.by_digest.insert(digest.to_owned(), at);
        at
    }

    /// A line that no end came of.
    pub(super) fn rest(&mut self, at: usize) -> Option<Event> {
        let step = self.steps.get_mut(at)?;
        let time = step.seconds();
        step.rest(at, time)
    }

    /// Seconds since the first word.
    pub(super) fn seconds(&self) -> f64 {
        self.started.map_or(0.0, |started| started.elapsed().as_secs_f64())
    }

    /// The step that failed first, and its last lines.
    pub(in crate::build) fn failed(&self, digest: Option<&str>) -> Option<(&str, Vec<String>)> {
        let named = |step: &&Step| digest.is_some_and(|digest| digest == step.vertex.digest);
        let step = self.steps.iter().find(named).or_else(|| self.steps.iter().find(|step| step.is_failed()))?;
        let mut lines: Vec<String> = step.tail.iter().map(|(time, line)| format!("{time:.3} {line}")).collect();
        if !step.partial.is_empty() {
            lines.push(format!("{:.3} {}", step.seconds(), printable(&String::from_utf8_lossy(&step.partial))));
        }
        Some((&step.vertex.name, lines))
    }

    /// Why the results of steps were known or not, as far as the daemon says it.
    pub(super) fn explanations(&self) -> String {
        let mut text = String::new();
        for step in self.steps.iter().filter(|step| !step.why.is_empty()) {
            let _ = writeln!(text, " {}\n    {}", printable(&step.vertex.name), step.why);
        }
        if text.is_empty() { text } else { format!("\nWhy steps were done, or were not:\n{text}") }
    }

    /// The warnings, as one text.
    pub(super) fn warnings(&self) -> String {
        let mut text = String::new();
        match self.warnings.len() {
            0 => return text,
            1 => text.push_str("\n 1 warning:\n"),
            count => drop(writeln!(text, "\n {count} warnings:")),
        }
        for warning in &self.warnings {
            let short = printable(&String::from_utf8_lossy(&warning.short));
            let line = warning.ranges.first().and_then(|range| range.start.as_ref()).map(|start| start.line);
            let line = line.map_or(String::new(), |line| format!(" (line {line})"));
            let _ = writeln!(text, " - {}{line}", short.trim_end());
            for detail in &warning.detail {
                let _ = writeln!(text, "   {}", printable(&String::from_utf8_lossy(detail)).trim_end());
            }
            if !warning.url.is_empty() {
                let _ = writeln!(text, "   More info: {}", printable(&warning.url));
            }
        }
        text
    }
}

impl Step {
    fn line(&mut self, at: usize, time: f64, bytes: &[u8]) -> Event {
        let text = String::from_utf8_lossy(bytes);
        // What a carriage return overwrites is not seen on a terminal either.
        let text = text.trim_end_matches(['\r', '\n']);
        let text = printable(text.rsplit('\r').next().unwrap_or(text));
        if self.tail.len() == KEPT {
            self.tail.pop_front();
        }
        self.tail.push_back((time, text.clone()));
        Event::Line(at, time, text)
    }

    fn rest(&mut self, at: usize, time: f64) -> Option<Event> {
        let rest = std::mem::take(&mut self.partial);
        (!rest.is_empty()).then(|| self.line(at, time, &rest))
    }

    /// Seconds that it took, or takes so far.
    pub(super) fn seconds(&self) -> f64 {
        let now = Timestamp::from(std::time::SystemTime::now());
        let end = self.vertex.completed.as_ref().unwrap_or(&now);
        seconds(self.vertex.started.as_ref(), Some(end)).unwrap_or(0.0).max(0.0)
    }

    pub(super) fn is_failed(&self) -> bool {
        !self.vertex.error.is_empty() && !self.is_cancelled()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.vertex.error.ends_with("context canceled")
    }
}

/// Seconds from one time to another.
pub(super) fn seconds(from: Option<&Timestamp>, to: Option<&Timestamp>) -> Option<f64> {
    let (from, to) = (from?, to?);
    #[allow(clippy::cast_precision_loss, reason = "spans of builds are small")]
    let whole = (to.seconds - from.seconds) as f64;
    Some(whole + f64::from(to.nanos - from.nanos) / 1e9)
}

/// Text without control characters but tabs: it comes from steps and files, and goes to a terminal.
pub(in crate::build) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        // Colours and the like go as a whole.
        if c == '\x1b' && chars.next_if_eq(&'[').is_some() {
            while chars.next_if(|c| !('\x40'..='\x7e').contains(c)).is_some() {}
            chars.next();
        } else if !c.is_control() || c == '\t' {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use buildkit::wire::control::VertexLog;

    pub(crate) fn vertex(digest: &str, name: &str, times: (Option<i64>, Option<i64>)) -> StatusResponse {
        let at = |seconds: Option<i64>| seconds.map(|seconds| Timestamp { seconds, nanos: 0 });
        let vertex = Vertex {
            digest: digest.to_owned(),
            name: name.to_owned(),
            started: at(times.0),
            completed: at(times.1),
            ..Vertex::default()
        };
        StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() }
    }

    pub(crate) fn log(digest: &str, seconds: i64, text: &str) -> StatusResponse {
        let timestamp = Some(Timestamp { seconds, nanos: 500_000_000 });
        let log = VertexLog { vertex: digest.to_owned(), timestamp, stream: 1, msg: text.into() };
        StatusResponse { logs: vec![log], ..StatusResponse::default() }
    }

    #[test]
    fn lines_come_when_they_are_whole() {
        let mut story = Story::default();
        story.take(vertex("a", "RUN x", (Some(10), None)));
        assert_eq!(story.take(log("a", 11, "one\ntw")), [Event::Line(0, 1.5, "one".to_owned())]);
        assert_eq!(story.take(log("a", 12, "o\r\n10%\r20%\n")).len(), 2);
        assert_eq!(story.steps[0].tail[2].1, "20%");
        story.take(log("a", 12, "rest"));
        assert!(matches!(story.rest(0), Some(Event::Line(0, _, text)) if text == "rest"));
        let (name, lines) = story.failed(Some("a")).unwrap();
        assert_eq!((name, lines[0].as_str()), ("RUN x", "1.500 one"));
        assert!(story.failed(None).is_none());
        let mut why = log("a", 12, "known: x\n");
        why.logs[0].stream = EXPLANATIONS;
        assert!(story.take(why).is_empty());
        assert!(story.explanations().ends_with(" RUN x\n    known: x\n"));
        assert_eq!(printable("a\x1b[31;1mb\x1b[0m\x07c"), "abc");
    }
}
