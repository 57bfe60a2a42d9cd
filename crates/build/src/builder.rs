//! The builder of an engine: builds under way by their names, and what they share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buildkit::server::Methods;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use types::{DiffId, Digest, Kind};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::job::Job;
use crate::progress::Progress;
use crate::service;
use crate::session::{Greeting, Pool, Sessions};
use crate::solve::{Build, Caches, Records, Shared, Usage};

/// How long questions about a build wait for it to begin, and for how long its story is told after its end.
const AROUND: Duration = Duration::from_secs(5);

/// The builder.
#[derive(Debug)]
pub struct Builder {
    shared: Arc<Shared>,
    jobs: Mutex<HashMap<String, Arc<Job>>>,
    /// What builds tell, also for a while after their ends.
    stories: Mutex<HashMap<String, Arc<Progress>>>,
    begun: watch::Sender<u64>,
}

impl Builder {
    /// Opens the builder. Work that an earlier engine left is removed. `documents` are what [`Host::keep`] was given.
    ///
    /// # Errors
    /// That of the file system.
    pub fn open(host: Arc<dyn Host>, documents: &BTreeMap<String, String>) -> Result<Arc<Self>> {
        let top = host.work().to_owned();
        let work = top.join("work");
        prepare(&top)?;
        if work.exists() {
            crate::tree::remove(&work).map_err(|e| Error::io("cannot remove what an earlier build left", e))?;
        }
        prepare(&work)?;
        prepare(host.secrets())?;
        let shared = Shared {
            sessions: Sessions::default(),
            pool: Pool::new(&work)?,
            records: Records::read(documents),
            caches: Caches::open(&top.join("cache"))?,
            compressed: Arc::default(),
            work,
            host,
        };
        Ok(Arc::new(Self {
            shared: Arc::new(shared),
            jobs: Mutex::default(),
            stories: Mutex::default(),
            begun: watch::Sender::new(0),
        }))
    }

    /// What builds share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Answers a client of BuildKit's protocol until it leaves.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn serve<I>(self: &Arc<Self>, io: I) -> Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let methods: Arc<Methods> = Arc::new(service::methods(self));
        buildkit::server::serve(io, methods).await.map_err(|e| Error::io("the client's connection broke", e))
    }

    /// Keeps a client's session until it leaves.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn serve_session<I>(&self, io: I, greeting: Greeting) -> Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.shared.sessions.serve(io, greeting).await
    }

    /// Begins a build.
    ///
    /// # Errors
    /// There is one of this name; its directory cannot be made.
    pub fn begin(&self, name: &str, session: Option<String>, entitlements: Vec<String>) -> Result<Arc<Job>> {
        let progress = Arc::new(Progress::default());
        let build = Build::new(Arc::clone(&self.shared), Arc::clone(&progress), session, entitlements)?;
        let job = Arc::new(Job::new(name, build, progress));
        {
            let mut stories = self.stories.lock().unwrap_or_else(PoisonError::into_inner);
            if name.is_empty() || stories.contains_key(name) {
                return Err(Error::new(Kind::Conflict, format!("there is a build {name:?} already")));
            }
            stories.insert(name.to_owned(), Arc::clone(&job.progress));
            self.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::clone(&job));
        }
        self.begun.send_modify(|count| *count += 1);
        Ok(job)
    }

    /// Ends a build; its story is told for a while.
    pub fn end(self: &Arc<Self>, name: &str) {
        // With the job goes what it protects from collection, and its directory.
        let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let Some(job) = job else { return };
        job.build.cancel.cancel();
        job.build.clear();
        job.progress.end();
        let (builder, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(AROUND).await;
            builder.stories.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        });
    }

    /// Gives all builds up: nothing of them goes on without the engine.
    pub fn close(self: &Arc<Self>) {
        let names: Vec<String> = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        names.iter().for_each(|name| self.end(name));
    }

    /// A build by its name; it may be about to begin.
    ///
    /// # Errors
    /// Not found when it does not, or has ended.
    pub async fn job(&self, name: &str) -> Result<Arc<Job>> {
        // One that has ended does not begin again: nobody is to wait for that.
        let over = || {
            let stories = self.stories.lock().unwrap_or_else(PoisonError::into_inner);
            stories.contains_key(name) && !self.jobs.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
        };
        self.wait(name, &self.jobs, over).await
    }

    /// What a build tells; it may be about to begin, and may just have ended.
    ///
    /// # Errors
    /// Not found when it does not begin, or has ended a while ago.
    pub async fn story(&self, name: &str) -> Result<Arc<Progress>> {
        self.wait(name, &self.stories, || false).await
    }

    async fn wait<T>(
        &self,
        name: &str,
        map: &Mutex<HashMap<String, Arc<T>>>,
        over: impl Fn() -> bool,
    ) -> Result<Arc<T>> {
        let mut begun = self.begun.subscribe();
        let wait = async {
            loop {
                begun.borrow_and_update();
                let found = map.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
                if found.is_some() || over() {
                    return found;
                }
                if begun.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let found = tokio::time::timeout(AROUND, wait).await.ok().flatten();
        found.ok_or_else(|| Error::new(Kind::NotFound, format!("no such job {name}")))
    }

    /// User and password that a client has for a registry.
    ///
    /// # Errors
    /// The client has left.
    pub async fn credentials(&self, session: &str, registry: &str) -> Result<Option<(String, String)>> {
        // What clients keep the credentials of Docker's registry under.
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        self.shared.sessions.get(session).await?.credentials(host).await
    }

    /// Blobs and layers that results need: the collector leaves them.
    #[must_use]
    pub fn referenced(&self) -> (HashSet<Digest>, HashSet<DiffId>) {
        self.shared.records.referenced()
    }

    /// What results take up beside images.
    ///
    /// # Errors
    /// Reading it was interrupted.
    pub async fn usage(&self) -> Result<Vec<Usage>> {
        let shared = Arc::clone(&self.shared);
        let read = move || shared.records.usage(shared.host.store(), &shared.host.layers_of_images());
        tokio::task::spawn_blocking(read).await.map_err(|e| Error::io("reading what results take up", e))
    }

    /// Forgets results that were not used in the last `keep_ns` nanoseconds and that `chosen` says, and removes what only
    /// they needed. Gives what is gone.
    ///
    /// # Errors
    /// That of the database or the disk.
    pub async fn prune(&self, keep_ns: u64, chosen: impl Fn(&Usage) -> bool) -> Result<Vec<Usage>> {
        let before = crate::tree::now_ns().saturating_sub(i64::try_from(keep_ns).unwrap_or(i64::MAX));
        let mut gone = self.usage().await?;
        gone.retain(|usage| usage.record.used_ns <= before && chosen(usage));
        self.shared.records.forget(&*self.shared.host, gone.iter().map(|usage| usage.id.clone()).collect()).await?;
        if keep_ns == 0 {
            self.shared.pool.clear();
        }
        self.shared.host.collect().await?;
        Ok(gone)
    }
}

fn prepare(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Error::io(format_args!("cannot make {}", path.display()), e))
}
