//! Why a step's result was known or not: what it was made of is compared with what it was made of the last time.
//!
//! A client asks for it with the attribute `dhow.explain` of the front end and is told on stream 3 of the steps' output, on
//! which nothing else comes. What is compared is kept in memory, whoever builds, and not over restarts.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buildkit::wire::llb::{ExecOp, OpOp};
use prost::Message;

use super::key::{Keys, canonical_exec};
use super::{Build, Input};
use crate::graph::{Graph, Vertex};

/// The stream of explanations.
pub const STREAM: u8 = 3;
/// Most steps that are remembered.
const MAX_STEPS: usize = 4000;
/// Most files that are remembered, of all steps together.
const MAX_FILES: usize = 1_000_000;
/// Most bytes of their paths.
const MAX_PATHS: usize = 128 << 20;

/// What is remembered of earlier builds.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By the project and what the step does, and by the project and its place.
    steps: HashMap<(String, String), Arc<Made>>,
    /// The same, the oldest first.
    order: VecDeque<(String, String)>,
    /// Files by the digest of all of them, the oldest first.
    lists: VecDeque<([u8; 32], Arc<Listed>)>,
    files: usize,
    paths: usize,
}

/// Files that a step took, each with what tells whether it is another one.
pub(super) type Listed = Vec<(Box<[u8]>, u64)>;

/// What a step was made of.
#[derive(Clone, Debug, Default, PartialEq)]
struct Made {
    /// What it does, as it is shown.
    text: String,
    /// All of what it does but the variables.
    operation: u64,
    /// Its variables.
    variables: Vec<(String, u64)>,
    /// What it works on: names and keys.
    inputs: Vec<(String, String)>,
    /// Digests of the files that it took.
    contents: Vec<[u8; 32]>,
}

/// How a step went.
pub(super) enum Went {
    /// Its result was known.
    Known,
    /// Earlier results were not to count.
    Ignored,
    /// It was carried out.
    Done,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers which files have a digest.
    pub(super) fn list(&self, digest: [u8; 32], files: Listed) {
        let mut known = self.lock();
        let size = paths(&files);
        if files.len() > MAX_FILES || size > MAX_PATHS || known.lists.iter().any(|(known, _)| *known == digest) {
            return;
        }
        known.files += files.len();
        known.paths += size;
        known.lists.push_back((digest, Arc::new(files)));
        while known.files > MAX_FILES || known.paths > MAX_PATHS || known.lists.len() > MAX_STEPS {
            let Some((_, gone)) = known.lists.pop_front() else { break };
            known.files -= gone.len();
            known.paths -= paths(&gone);
        }
    }
}

/// Bytes of the paths of files.
fn paths(files: &Listed) -> usize {
    files.iter().map(|(path, _)| path.len()).sum()
}

impl Known {
    fn files(&self, digest: &[u8; 32]) -> Option<&Arc<Listed>> {
        self.lists.iter().rev().find(|(known, _)| known == digest).map(|(_, files)| files)
    }

    fn remember(&mut self, key: (String, String), made: Arc<Made>) {
        if self.steps.insert(key.clone(), made).is_none() {
            self.order.push_back(key);
        }
        while self.steps.len() > MAX_STEPS {
            let Some(oldest) = self.order.pop_front() else { break };
            self.steps.remove(&oldest);
        }
    }
}

impl Build {
    /// Remembers what a step was made of, and says what that has to do with how it went, if anybody wants to know.
    pub(super) fn explain(&self, graph: &Graph, vertex: &Vertex, inputs: &[Input], keys: &Keys, went: &Went) {
        let Some(project) = self.project.get() else { return };
        let (place, text) = place(&vertex.name);
        let made = Arc::new(made(text, graph, vertex, inputs, keys));
        let (by_text, by_place) = ((project.name.clone(), text.to_owned()), (project.name.clone(), place));
        let said = {
            let mut known = self.shared.memory.lock();
            let said = project.explain.then(|| match went {
                Went::Known => "known: nothing that it is made of has changed".to_owned(),
                Went::Ignored => "done again: earlier results were not to be used (--no-cache)".to_owned(),
                Went::Done => match (known.steps.get(&by_text), known.steps.get(&by_place)) {
                    (Some(last), _) => difference(&known, last, &made),
                    (None, Some(last)) => format!("done: the instruction changed; it was: {}", last.text),
                    // Results outlive the daemon, what they were made of does not.
                    (None, None) if self.shared.records.has(&vertex.name) => {
                        "done: what it is made of changed since the daemon began".to_owned()
                    }
                    (None, None) => "done: not seen before".to_owned(),
                },
            });
            known.remember(by_text, Arc::clone(&made));
            known.remember(by_place, made);
            said
        };
        if let Some(said) = said {
            self.progress.log(&vertex.digest, STREAM, format!("{said}\n").as_bytes());
        }
    }
}

/// The place of a step and what it does: `[stage 2/5] RUN make` is the second of a stage. How many follow is no part of it.
fn place(name: &str) -> (String, &str) {
    let (Some(rest), Some((place, text))) = (name.strip_prefix('['), name.split_once("] ")) else {
        return (name.to_owned(), name);
    };
    let place = place.get(1..).filter(|place| rest.starts_with(*place)).unwrap_or_default();
    (format!("[{}]", place.split('/').next().unwrap_or(place)), text)
}

fn made(text: &str, graph: &Graph, vertex: &Vertex, inputs: &[Input], keys: &Keys) -> Made {
    let (operation, variables) = match &vertex.op.op {
        Some(OpOp::Exec(exec)) => {
            let mut exec: ExecOp = canonical_exec(exec);
            let env = exec.meta.as_mut().map(|meta| std::mem::take(&mut meta.env)).unwrap_or_default();
            let pair = |text: &String| {
                let (name, value) = text.split_once('=').unwrap_or((text, ""));
                (name.to_owned(), hash(&value))
            };
            (hash(&exec.encode_to_vec()), env.iter().map(pair).collect())
        }
        Some(OpOp::File(file)) => (hash(&file.encode_to_vec()), Vec::new()),
        Some(OpOp::Merge(merge)) => (hash(&merge.encode_to_vec()), Vec::new()),
        Some(OpOp::Diff(diff)) => (hash(&diff.encode_to_vec()), Vec::new()),
        _ => (0, Vec::new()),
    };
    let name = |number: usize| {
        let edge = vertex.inputs.get(number);
        edge.and_then(|edge| graph.vertices.get(edge.vertex)).map(|vertex| vertex.name.clone()).unwrap_or_default()
    };
    let key = |number: usize| {
        inputs.get(number).map(|(outcome, output)| (name(number), outcome.key_of(*output))).unwrap_or_default()
    };
    Made {
        text: text.to_owned(),
        operation,
        variables,
        inputs: keys.by_key.iter().map(|number| key(*number)).collect(),
        contents: keys.contents.clone(),
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What is different from the last time: the first thing found, the closest first.
fn difference(known: &Known, last: &Made, now: &Made) -> String {
    if last.operation != now.operation {
        return "done: what it does changed, though it is written the same (options, ARG, USER, WORKDIR or a here-document)"
            .to_owned();
    }
    let variable = now.variables.iter().find(|pair| !last.variables.contains(pair));
    let variable = variable.or_else(|| last.variables.iter().find(|pair| !now.variables.contains(pair)));
    if let Some((name, _)) = variable {
        return format!("done: the variable {name} changed");
    }
    for (number, now) in now.contents.iter().enumerate() {
        match last.contents.get(number) {
            Some(last) if last != now => return format!("done: {}", files(known, last, now)),
            _ => {}
        }
    }
    if let Some((name, _)) = now.inputs.iter().find(|pair| !last.inputs.contains(pair)) {
        let name = if name.is_empty() { "a step before it" } else { name };
        return format!("done: it is made from what changed: {name}");
    }
    if last.contents.len() != now.contents.len() || last.inputs.len() != now.inputs.len() {
        return "done: it is made of something else than the last time".to_owned();
    }
    "done: nothing changed, but the result is gone (it was pruned, or the build before this one failed)".to_owned()
}

/// The first file that is another one.
fn files(known: &Known, last: &[u8; 32], now: &[u8; 32]) -> String {
    let (Some(last), Some(now)) = (known.files(last), known.files(now)) else {
        return "files that it takes changed".to_owned();
    };
    let by_name: HashMap<&[u8], u64> = last.iter().map(|(name, hash)| (&**name, *hash)).collect();
    let show = |name: &[u8]| String::from_utf8_lossy(name).trim_start_matches('/').to_owned();
    let mut changed: Vec<String> = Vec::new();
    for (name, hash) in now.iter() {
        match by_name.get(&**name) {
            None => changed.push(format!("{} is new", show(name))),
            Some(before) if before != hash => changed.push(format!("{} changed", show(name))),
            Some(_) => {}
        }
    }
    let there: std::collections::HashSet<&[u8]> = now.iter().map(|(name, _)| &**name).collect();
    changed.extend(
        last.iter().filter(|(name, _)| !there.contains(&**name)).map(|(name, _)| format!("{} is gone", show(name))),
    );
    match changed.as_slice() {
        [] => "files that it takes changed".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first}, and {} more", rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert_eq!(place("[build 2/5] RUN make"), ("[build 2]".to_owned(), "RUN make"));
        assert_eq!(place("[3/4] COPY . /x"), ("[3]".to_owned(), "COPY . /x"));
        assert_eq!(place("merge"), ("merge".to_owned(), "merge"));
    }

    #[test]
    fn what_changed_is_named() {
        let memory = Memory::default();
        let list = |names: &[(&str, u64)]| names.iter().map(|(name, hash)| (name.as_bytes().into(), *hash)).collect();
        memory.list([1; 32], list(&[("/a", 1), ("/b", 1), ("/c", 1)]));
        memory.list([2; 32], list(&[("/a", 1), ("/b", 2), ("/d", 1)]));
        memory.list([3; 32], list(&[("/a", 1), ("/b", 1)]));
        let known = memory.lock();
        let base = Made {
            variables: vec![("V".to_owned(), 1)],
            inputs: vec![("FROM x".to_owned(), "k".to_owned())],
            contents: vec![[1; 32]],
            ..Made::default()
        };
        let told = |change: &dyn Fn(&mut Made)| {
            let mut made = base.clone();
            change(&mut made);
            difference(&known, &base, &made)
        };
        assert!(told(&|_| {}).contains("the result is gone"));
        assert!(told(&|made| made.operation = 7).contains("written the same"));
        assert_eq!(told(&|made| made.variables[0].1 = 2), "done: the variable V changed");
        assert_eq!(told(&|made| made.variables.clear()), "done: the variable V changed");
        assert_eq!(told(&|made| made.contents = vec![[2; 32]]), "done: b changed, and 2 more");
        assert_eq!(told(&|made| made.contents = vec![[3; 32]]), "done: c is gone");
        assert_eq!(told(&|made| made.contents = vec![[9; 32]]), "done: files that it takes changed");
        assert_eq!(told(&|made| made.inputs[0].1 = "l".to_owned()), "done: it is made from what changed: FROM x");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let memory = Memory::default();
        for number in 0..10u8 {
            memory.list([number; 32], vec![(Box::default(), 0); MAX_FILES / 4]);
        }
        assert!(memory.lock().files <= MAX_FILES);
        let mut known = memory.lock();
        for number in 0..MAX_STEPS + 10 {
            known.remember((String::new(), number.to_string()), Arc::new(Made::default()));
        }
        assert_eq!((known.steps.len(), known.order.len()), (MAX_STEPS, MAX_STEPS));
    }
}
