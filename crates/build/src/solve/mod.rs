//! The solver: carries out what of a graph is not known yet, each step in a task of its own as soon as its inputs are there.
//!
//! A step is known by its key: what it does, and the keys of what it works on, or the content of the files that it takes
//! (`key`). What was made is kept under the key when the build ends, whichever way (`records`).

mod caches;
mod exec;
mod explain;
mod failed;
mod file_op;
mod front_end;
mod key;
mod records;
mod source;
mod ssh;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use buildkit::wire::control;
use buildkit::wire::llb::OpOp;
use store::Ingest;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::Platform;

pub use caches::Caches;
pub use explain::Memory;
pub use failed::KEEP_FAILED;
pub(crate) use front_end::Talk;
pub(crate) use records::Shareable;
pub use records::{Record, Records};
pub use source::FetchedTrees;
pub(crate) use source::{parse_layout, platform};

use self::explain::Went;
use crate::error::{Error, Result};
use crate::exchange::Imports;
use crate::graph::{Edge, Graph, Vertex};
use crate::host::Host;
use crate::progress::{self, Progress};
use crate::session::{Pool, Sessions};
use crate::tree::{Files, Tree, Work};

/// What all builds share.
pub struct Shared {
    /// The engine.
    pub host: Arc<dyn Host>,
    /// Clients that answer.
    pub sessions: Sessions,
    /// Directories of files that clients sent.
    pub pool: Arc<Pool>,
    /// What earlier builds made.
    pub records: Records,
    /// What they made it of.
    pub memory: Memory,
    /// Directories that steps keep between builds.
    pub caches: Arc<Caches>,
    /// Trees that came from addresses and repositories.
    pub fetched: FetchedTrees,
    /// Where repositories are kept for the next fetch.
    pub repositories: std::path::PathBuf,
    /// Layers that were compressed for an output.
    pub(crate) compressed: Arc<crate::export::Compressed>,
    /// Where builds work.
    pub work: std::path::PathBuf,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("work", &self.work).finish_non_exhaustive()
    }
}

/// What a build has of its own, beside what its client's session answers.
#[derive(Default)]
pub struct Given {
    /// Directories that came with the request, by their names.
    pub locals: HashMap<String, Arc<dyn Files>>,
    /// User and password by registry.
    pub credentials: BTreeMap<String, (String, String)>,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("locals", &self.locals).finish_non_exhaustive()
    }
}

/// What a step gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it is known by.
    pub key: String,
    /// Whether the key stands for the content. That of a client's files does not: they are different every time.
    pub stable: bool,
    /// Its outputs; none where nothing was asked for.
    pub outputs: Vec<Option<Tree>>,
    /// It was known.
    pub cached: bool,
}

impl Outcome {
    /// One of the outputs.
    ///
    /// # Errors
    /// There is none of that number.
    pub fn output(&self, output: usize) -> Result<&Tree> {
        let tree = self.outputs.get(output).and_then(Option::as_ref);
        tree.ok_or_else(|| Error::new(types::Kind::Invalid, format!("a step has no output {output}")))
    }

    /// The key of one of the outputs.
    #[must_use]
    pub fn key_of(&self, output: usize) -> String {
        format!("{}/{output}", self.key)
    }
}

type Step = watch::Receiver<Option<Result<Arc<Outcome>>>>;

/// One build: its steps so far, and what they made.
pub struct Build {
    /// What all builds share.
    pub shared: Arc<Shared>,
    /// What it tells.
    pub progress: Arc<Progress>,
    /// The client that sends files.
    pub session: Option<String>,
    /// Ends it.
    pub cancel: CancellationToken,
    /// What clients allow: `network.host`, `security.insecure`.
    pub entitlements: Vec<String>,
    given: OnceLock<Given>,
    /// What failed steps leave is kept.
    keep_failed: AtomicBool,
    /// What the build is of.
    pub project: OnceLock<Project>,
    work: Arc<Work>,
    ingest: Arc<Ingest>,
    steps: Mutex<HashMap<String, Step>>,
    made: Mutex<Vec<Made>>,
    /// Results of earlier builds that this one has: nobody removes them meanwhile.
    held: Mutex<Vec<String>>,
    /// Results of this build, made or known, by their keys.
    trail: Mutex<Vec<String>>,
    /// Results of other builders; none as long as nobody has said which.
    imports: watch::Sender<Option<Arc<Imports>>>,
    /// Digests of images that steps began with, by name and platform.
    materials: Mutex<HashMap<(String, Option<Platform>), String>>,
}

impl std::fmt::Debug for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Build").field("session", &self.session).finish_non_exhaustive()
    }
}

/// What a build is of, by which it is compared with the one before.
#[derive(Clone, Debug)]
pub struct Project {
    /// The same for builds of the same directory and target.
    pub name: String,
    /// Whether the client wants to know why results were known or not.
    pub explain: bool,
}

/// Something to keep.
struct Made {
    keys: Vec<String>,
    outcome: Arc<Outcome>,
    name: String,
    kind: &'static str,
}

impl Build {
    /// A build without steps.
    ///
    /// # Errors
    /// Its directory cannot be made.
    pub fn new(
        shared: Arc<Shared>,
        progress: Arc<Progress>,
        session: Option<String>,
        entitlements: Vec<String>,
    ) -> Result<Arc<Self>> {
        let work = Work::new(&shared.work)?;
        let ingest = Arc::new(shared.host.store().ingest());
        Ok(Arc::new(Self {
            shared,
            progress,
            session,
            cancel: CancellationToken::new(),
            entitlements,
            given: OnceLock::new(),
            keep_failed: AtomicBool::new(false),
            project: OnceLock::new(),
            work,
            ingest,
            steps: Mutex::default(),
            made: Mutex::default(),
            held: Mutex::default(),
            trail: Mutex::default(),
            imports: watch::Sender::new(None),
            materials: Mutex::default(),
        }))
    }

    /// Gives the build something of its own, once, before its first step.
    pub fn give(&self, given: Given) {
        // Nobody gives twice.
        drop(self.given.set(given));
    }

    /// Keeps what steps that fail from here on leave.
    pub fn keep_failed(&self) {
        self.keep_failed.store(true, Ordering::Relaxed);
    }

    fn keeps_failed(&self) -> bool {
        self.keep_failed.load(Ordering::Relaxed)
    }

    fn given(&self) -> Option<&Given> {
        self.given.get()
    }

    /// Content on its way into the store.
    #[must_use]
    pub fn ingest(&self) -> &Arc<Ingest> {
        &self.ingest
    }

    /// The digest of an image that a step began with.
    #[must_use]
    pub fn material(&self, name: &str, platform: Option<&Platform>) -> Option<String> {
        let materials = self.materials.lock().unwrap_or_else(PoisonError::into_inner);
        materials.get(&(name.to_owned(), platform.cloned())).cloned()
    }

    /// Carries out what a graph asks for.
    ///
    /// # Errors
    /// That of the first step that failed.
    pub async fn solve(self: &Arc<Self>, graph: &Arc<Graph>) -> Result<Tree> {
        let Some(root) = graph.root else { return Ok(Tree::default()) };
        Ok(self.outcome(graph, root).await?.output(root.output)?.clone())
    }

    /// The same, with what it is known by.
    ///
    /// # Errors
    /// As [`Build::solve`].
    pub async fn outcome(self: &Arc<Self>, graph: &Arc<Graph>, edge: Edge) -> Result<Arc<Outcome>> {
        for vertex in &graph.vertices {
            // What has begun was told, and is not untold by asking for it again.
            let begun = self.steps.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&vertex.digest);
            if !begun {
                self.tell(graph, vertex, |_| {});
            }
        }
        tokio::select! {
            outcome = wait(self.step(graph, edge.vertex)) => outcome,
            () = self.cancel.cancelled() => Err(Error::cancelled()),
        }
    }

    /// A step, begun unless it has been.
    fn step(self: &Arc<Self>, graph: &Arc<Graph>, index: usize) -> Step {
        let digest = &graph.vertices[index].digest;
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(step) = steps.get(digest) {
            return step.clone();
        }
        let (done, step) = watch::channel(None);
        steps.insert(digest.clone(), step.clone());
        let (build, graph) = (Arc::clone(self), Arc::clone(graph));
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = build.compute(&graph, index) => outcome,
                () = build.cancel.cancelled() => Err(Error::cancelled()),
            };
            done.send_replace(Some(outcome.map(Arc::new)));
        });
        step
    }

    async fn compute(self: &Arc<Self>, graph: &Arc<Graph>, index: usize) -> Result<Outcome> {
        let vertex = &graph.vertices[index];
        // All begin before the first is waited for.
        let steps: Vec<Step> = vertex.inputs.iter().map(|edge| self.step(graph, edge.vertex)).collect();
        let mut inputs = Vec::with_capacity(steps.len());
        for (step, edge) in steps.into_iter().zip(&vertex.inputs) {
            let outcome = wait(step).await?;
            outcome.output(edge.output)?;
            inputs.push((outcome, edge.output));
        }
        let started = progress::now();
        self.tell(graph, vertex, |told| told.started = Some(started));
        let outcome = self.carry_out(graph, vertex, &inputs).await;
        self.tell(graph, vertex, |told| {
            told.started = Some(started);
            told.completed = Some(progress::now());
            match &outcome {
                Ok(outcome) => told.cached = outcome.cached,
                Err(error) => told.error = error.to_string(),
            }
        });
        outcome.map_err(|error| error.of_vertex(&vertex.digest).at(vertex.lines.clone()))
    }

    async fn carry_out(self: &Arc<Self>, graph: &Graph, vertex: &Vertex, inputs: &[Input]) -> Result<Outcome> {
        if let Some(OpOp::Source(source)) = &vertex.op.op {
            return self.load(vertex, source).await;
        }
        let keys = self.keys(vertex, inputs).await?;
        let known = keys.all().find_map(|key| self.shared.records.find(key, &self.ingest));
        let known = known.map(|(key, outputs)| {
            self.held.lock().unwrap_or_else(PoisonError::into_inner).push(key);
            outputs
        });
        self.trail.lock().unwrap_or_else(PoisonError::into_inner).push(keys.canonical.clone());
        let went = match (&known, vertex.ignore_cache) {
            (_, true) => Went::Ignored,
            (Some(_), false) => Went::Known,
            (None, false) => Went::Done,
        };
        self.explain(graph, vertex, inputs, &keys, &went);
        if let Some(outputs) = known.filter(|_| !vertex.ignore_cache) {
            return Ok(Outcome { key: keys.canonical, stable: true, outputs, cached: true });
        }
        if !vertex.ignore_cache
            && let Some(outputs) = self.imported(&keys).await
        {
            let outcome = Outcome { key: keys.canonical.clone(), stable: true, outputs, cached: true };
            self.remember(&keys, &outcome, vertex);
            return Ok(outcome);
        }
        let outputs = match &vertex.op.op {
            Some(OpOp::Exec(exec)) => self.execute(vertex, exec, inputs).await?,
            Some(OpOp::File(file)) => self.files(&vertex.digest, file, inputs).await?,
            Some(OpOp::Merge(merge)) => {
                let mut tree = Tree::default();
                for each in &merge.inputs {
                    tree = tree.over(input(inputs, each.input)?)?;
                }
                vec![Some(tree)]
            }
            Some(OpOp::Diff(diff)) => {
                let side = |number: Option<i64>| match number {
                    Some(number) if number >= 0 => input(inputs, number).cloned(),
                    _ => Ok(Tree::default()),
                };
                let lower = side(diff.lower.as_ref().map(|lower| lower.input))?;
                let upper = side(diff.upper.as_ref().map(|upper| upper.input))?;
                vec![Some(match upper.above(&lower) {
                    Some(above) => above,
                    None => {
                        let (work, shared) = (Arc::clone(&self.work), Arc::clone(&self.shared));
                        exec::blocking(move || upper.difference(&lower, &work, shared.host.store())).await?
                    }
                })]
            }
            _ => return Err(Error::new(types::Kind::Invalid, "an operation that is not known here")),
        };
        let outcome = Outcome { key: keys.canonical.clone(), stable: true, outputs, cached: false };
        self.remember(&keys, &outcome, vertex);
        self.store_beside(&outcome);
        Ok(outcome)
    }

    fn remember(&self, keys: &key::Keys, outcome: &Outcome, vertex: &Vertex) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(Made {
            keys: keys.all().cloned().collect(),
            outcome: Arc::new(outcome.clone()),
            name: vertex.name.clone(),
            kind: "regular",
        });
    }

    /// Says which results of other builders there are. Steps that are not known here wait for that.
    pub(crate) fn import(&self, imports: Imports) {
        self.imports.send_replace(Some(Arc::new(imports)));
    }

    async fn imports(&self) -> Option<Arc<Imports>> {
        let mut imports = self.imports.subscribe();
        let found = imports.wait_for(Option::is_some).await.ok()?;
        found.clone()
    }

    async fn imported(&self, keys: &key::Keys) -> Option<Vec<Option<Tree>>> {
        let imports = self.imports().await?;
        for key in keys.all() {
            if let Some(outputs) = imports.find(key, &self.ingest).await {
                return Some(outputs);
            }
        }
        None
    }

    /// Results of this build for other builders.
    pub(crate) fn results(&self) -> Vec<Shareable> {
        let mut seen = std::collections::HashSet::new();
        let trail = self.trail.lock().unwrap_or_else(PoisonError::into_inner).clone();
        trail.iter().filter(|key| seen.insert(*key)).filter_map(|key| self.shared.records.shared(key)).collect()
    }

    /// Makes layers of what is new while the build goes on.
    fn store_beside(&self, outcome: &Outcome) {
        for tree in outcome.outputs.iter().flatten() {
            let (tree, ingest) = (tree.clone(), Arc::clone(&self.ingest));
            tokio::task::spawn_blocking(move || {
                if let Err(error) = tree.store(&ingest) {
                    // Whoever needs the layer tries again, and says it.
                    tracing::debug!(%error, "a layer could not be made beside the build");
                }
            });
        }
    }

    /// Keeps what was made for other builds. What cannot be kept is made again then.
    pub async fn keep(&self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        if made.is_empty() {
            return;
        }
        let ingest = Arc::clone(&self.ingest);
        let kept = tokio::task::spawn_blocking(move || {
            let records =
                made.into_iter().map(|made| records::record(&made.keys, &made.outcome, &made.name, made.kind, &ingest));
            let records = records.collect::<Result<Vec<_>>>()?;
            ingest.commit()?;
            Ok::<_, Error>(records)
        });
        let kept = match kept.await {
            Ok(Ok(records)) => {
                let keys = records.iter().map(|(key, _)| key.clone());
                self.held.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
                self.shared.records.put(&*self.shared.host, records).await
            }
            Ok(Err(error)) => Err(error),
            Err(error) => Err(Error::io("keeping results was interrupted", error)),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "results of a build are not kept");
        }
    }

    /// Lets go of all results, and with them of the client's files.
    pub fn clear(&self) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.records.release(&held);
    }

    fn tell(&self, graph: &Graph, vertex: &Vertex, change: impl FnOnce(&mut control::Vertex)) {
        let mut told = control::Vertex {
            digest: vertex.digest.clone(),
            inputs: vertex.inputs.iter().map(|edge| graph.vertices[edge.vertex].digest.clone()).collect(),
            name: vertex.name.clone(),
            progress_group: vertex.group.clone(),
            ..control::Vertex::default()
        };
        change(&mut told);
        self.progress.vertex(told);
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        // A step that was still on its way when the others were let go of.
        self.clear();
    }
}

/// An input: the step, and which of its outputs.
type Input = (Arc<Outcome>, usize);

fn input(inputs: &[Input], number: i64) -> Result<&Tree> {
    let found = usize::try_from(number).ok().and_then(|number| inputs.get(number));
    let (outcome, output) =
        found.ok_or_else(|| Error::new(types::Kind::Invalid, format!("a step has no input {number}")))?;
    outcome.output(*output)
}

async fn wait(mut step: Step) -> Result<Arc<Outcome>> {
    match step.wait_for(Option::is_some).await {
        Ok(done) => done.as_ref().cloned().unwrap_or_else(|| Err(Error::cancelled())),
        Err(_) => Err(Error::io("a step of the build", "it was interrupted")),
    }
}
