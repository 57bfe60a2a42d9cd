//! The story of a build as the builder before BuildKit told it: one step after the other, each with what it printed. Steps
//! that run side by side are told in the order of the definition.

use std::collections::HashMap;

use buildkit::wire::control::{StatusResponse, Vertex};

/// Most bytes that wait for an earlier step's end.
const WAITING: usize = 64 << 20;

/// Tells it.
#[derive(Debug, Default)]
pub(super) struct Narrator {
    steps: Vec<Step>,
    places: HashMap<String, usize>,
    /// The step that is told now.
    current: usize,
    waiting: usize,
    warnings: Vec<String>,
}

#[derive(Debug, Default)]
struct Step {
    text: String,
    started: bool,
    completed: bool,
    cached: bool,
    told: bool,
    printed: Vec<String>,
}

/// What an instruction's step is called without its counter: `[build 2/3] RUN x` is `RUN x`. None for steps that are no
/// instruction's.
fn instruction(name: &str) -> Option<&str> {
    let (counter, text) = name.strip_prefix('[')?.split_once("] ")?;
    let (index, total) = counter.rsplit(' ').next()?.split_once('/')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(index) && number(total)).then_some(text)
}

impl Narrator {
    /// Takes what happened; gives what is to be said now.
    pub(super) fn take(&mut self, message: StatusResponse) -> Vec<String> {
        for vertex in message.vertexes {
            self.vertex(vertex);
        }
        for log in message.logs {
            let Some(step) = self.places.get(&log.vertex).and_then(|place| self.steps.get_mut(*place)) else {
                continue;
            };
            if self.waiting < WAITING {
                self.waiting += log.msg.len();
                step.printed.push(String::from_utf8_lossy(&log.msg).into_owned());
            }
        }
        self.warnings
            .extend(message.warnings.iter().map(|warning| String::from_utf8_lossy(&warning.short).into_owned()));
        self.say()
    }

    fn vertex(&mut self, vertex: Vertex) {
        let Some(text) = instruction(&vertex.name) else { return };
        let next = self.steps.len();
        let place = *self.places.entry(vertex.digest).or_insert(next);
        if place == next {
            self.steps.push(Step { text: text.to_owned(), ..Step::default() });
        }
        let Some(step) = self.steps.get_mut(place) else { return };
        step.started |= vertex.started.is_some();
        step.completed |= vertex.completed.is_some();
        step.cached |= vertex.cached;
    }

    fn say(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        let total = self.steps.len();
        while let Some(step) = self.steps.get_mut(self.current) {
            if !step.started {
                break;
            }
            if !step.told {
                step.told = true;
                said.push(format!("Step {}/{total} : {}", self.current + 1, step.text));
                said.push("\n".to_owned());
            }
            for text in step.printed.drain(..) {
                self.waiting = self.waiting.saturating_sub(text.len());
                said.push(text);
            }
            if !step.completed {
                break;
            }
            if step.cached && !step.text.starts_with("FROM ") {
                said.push(" ---> Using cache\n".to_owned());
            }
            self.current += 1;
        }
        said
    }

    /// Nothing follows: what is left, also of steps that were given up, and warnings.
    pub(super) fn end(mut self) -> Vec<String> {
        let mut said = self.say();
        let total = self.steps.len();
        for (index, step) in self.steps.into_iter().enumerate().skip(self.current) {
            if step.started && !step.told {
                said.extend([format!("Step {}/{total} : {}", index + 1, step.text), "\n".to_owned()]);
            }
            said.extend(step.printed);
        }
        said.extend(self.warnings.into_iter().map(|text| format!("[Warning] {text}\n")));
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buildkit::wire::control::VertexLog;

    fn vertex(digest: &str, name: &str, started: bool, completed: bool, cached: bool) -> Vertex {
        Vertex {
            digest: digest.to_owned(),
            name: name.to_owned(),
            started: started.then(crate::progress::now),
            completed: completed.then(crate::progress::now),
            cached,
            ..Vertex::default()
        }
    }

    fn log(digest: &str, text: &str) -> VertexLog {
        VertexLog { vertex: digest.to_owned(), msg: text.as_bytes().to_vec(), ..VertexLog::default() }
    }

    #[test]
    fn steps_are_told_one_after_the_other() {
        let mut narrator = Narrator::default();
        let first = StatusResponse {
            vertexes: vec![
                vertex("i", "[internal] load build definition from Dockerfile", true, true, false),
                vertex("a", "[1/3] FROM docker.io/library/busybox:latest", false, false, false),
                vertex("b", "[x 2/3] RUN one", false, false, false),
                vertex("c", "[3/3] RUN two", false, false, false),
            ],
            ..StatusResponse::default()
        };
        assert!(narrator.take(first).is_empty());
        let second = StatusResponse {
            vertexes: vec![
                vertex("c", "[3/3] RUN two", true, true, false),
                vertex("a", "[1/3] FROM x", true, true, true),
            ],
            logs: vec![log("c", "2\n")],
            ..StatusResponse::default()
        };
        let said = narrator.take(second).concat();
        assert_eq!(said, "Step 1/3 : FROM docker.io/library/busybox:latest\n");
        let third = StatusResponse {
            vertexes: vec![vertex("b", "[x 2/3] RUN one", true, true, true)],
            ..StatusResponse::default()
        };
        let said = narrator.take(third).concat();
        assert_eq!(said, "Step 2/3 : RUN one\n ---> Using cache\nStep 3/3 : RUN two\n2\n");
        assert!(narrator.end().is_empty());
    }

    #[test]
    fn instructions_by_their_counters() {
        assert_eq!(instruction("[linux/amd64 build  2/13] RUN a] b"), Some("RUN a] b"));
        for name in ["exporting to image", "[internal] load metadata for a/b", "[a/b] x", "[context 1/] x"] {
            assert_eq!(instruction(name), None, "{name}");
        }
    }
}
