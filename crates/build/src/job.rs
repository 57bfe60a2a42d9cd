//! A build as its client sees it: what it is told, what front ends have solved so far, and what comes of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use buildkit::wire::{gateway, llb};
use tokio::sync::{Semaphore, watch};
use types::Kind;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::progress::Progress;
use crate::solve::Build;
use crate::tree::Tree;

/// One build.
#[derive(Debug)]
pub struct Job {
    /// Its steps.
    pub build: Arc<Build>,
    /// What it tells.
    pub progress: Arc<Progress>,
    /// Its name.
    pub id: String,
    /// When it began.
    pub started: jiff::Timestamp,
    /// How the front end was asked.
    invocation: Mutex<Invocation>,
    /// What the client's own front end returned.
    returned: watch::Sender<Option<Result<Solved>>>,
    references: Mutex<HashMap<String, Reference>>,
    /// Turns of front ends in containers.
    pub front_ends: Arc<Semaphore>,
}

/// Front ends in containers that one build may have at a time, one having asked for the other.
pub const MAX_FRONT_ENDS: usize = 16;

/// How a front end was asked for a build.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// The front end's name; empty when the client was its own.
    pub frontend: String,
    /// Its options.
    pub attrs: BTreeMap<String, String>,
}

/// Something to be solved when it is needed.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    /// Its definition.
    pub definition: llb::Definition,
    /// The same, read.
    pub graph: Arc<Graph>,
}

/// What a front end made of a build.
#[derive(Clone, Debug, Default)]
pub struct Solved {
    /// The one result, or none.
    pub reference: Option<Reference>,
    /// Results by the names of their platforms.
    pub by_platform: Vec<(String, Reference)>,
    /// What is said of them, such as the image's configuration.
    pub metadata: HashMap<String, Vec<u8>>,
}

impl Reference {
    /// Reads a definition.
    ///
    /// # Errors
    /// As [`Graph::read`].
    pub fn read(definition: llb::Definition) -> Result<Self> {
        let graph = Arc::new(Graph::read(&definition)?);
        Ok(Self { definition, graph })
    }
}

impl Job {
    /// A build that nothing is known of.
    #[must_use]
    pub fn new(id: &str, build: Arc<Build>, progress: Arc<Progress>) -> Self {
        Self {
            build,
            progress,
            id: id.to_owned(),
            started: jiff::Timestamp::now(),
            invocation: Mutex::default(),
            returned: watch::Sender::new(None),
            references: Mutex::default(),
            front_ends: Arc::new(Semaphore::new(MAX_FRONT_ENDS)),
        }
    }

    /// Notes how the front end was asked.
    pub fn asked(&self, frontend: &str, attrs: &HashMap<String, String>) {
        let attrs = attrs.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let invocation = Invocation { frontend: frontend.to_owned(), attrs };
        *self.invocation.lock().unwrap_or_else(PoisonError::into_inner) = invocation;
    }

    /// How the front end was asked.
    #[must_use]
    pub fn invocation(&self) -> Invocation {
        self.invocation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers something solved; gives what messages say of it.
    pub fn refer(&self, reference: &Reference) -> Result<gateway::Ref> {
        let id = crate::random::name()?;
        let mut references = self.references.lock().unwrap_or_else(PoisonError::into_inner);
        if references.len() >= 10_000 {
            return Err(Error::new(Kind::Exhausted, "more than 10000 results in one build"));
        }
        references.insert(id.clone(), reference.clone());
        Ok(gateway::Ref { id, def: Some(reference.definition.clone()) })
    }

    /// Something solved, by its name.
    ///
    /// # Errors
    /// Not found.
    pub fn reference(&self, id: &str) -> Result<Reference> {
        let references = self.references.lock().unwrap_or_else(PoisonError::into_inner);
        references.get(id).cloned().ok_or_else(|| Error::new(Kind::NotFound, format!("no such ref: {id}")))
    }

    /// The tree of something solved.
    ///
    /// # Errors
    /// The first step that failed.
    pub async fn tree(&self, reference: &Reference) -> Result<Tree> {
        self.build.solve(&reference.graph).await
    }

    /// Takes what the client's front end made.
    pub fn give(&self, solved: Result<Solved>) {
        self.returned.send_if_modified(|returned| {
            let first = returned.is_none();
            if first {
                *returned = Some(solved);
            }
            first
        });
    }

    /// Waits for it.
    ///
    /// # Errors
    /// That of the front end, or that the build was given up.
    pub async fn given(&self) -> Result<Solved> {
        let mut returned = self.returned.subscribe();
        let cancelled = self.build.cancel.clone();
        tokio::select! {
            given = returned.wait_for(Option::is_some) => match given {
                Ok(given) => given.clone().unwrap_or_else(|| Err(Error::cancelled())),
                Err(_) => Err(Error::cancelled()),
            },
            () = cancelled.cancelled() => Err(Error::cancelled()),
        }
    }
}
